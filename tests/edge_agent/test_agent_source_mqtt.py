"""Inputs from a broker on the board: what comes out, what is acknowledged, and what a broker that goes and comes back costs."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.ports import Input
from edge_agent.sources.backlog import Rules
from edge_agent.sources.factory import open_source
from edge_agent.sources.mqtt import Subscription, Topic
from fleet_contract import mqtt
from fleet_contract.backoff import Backoff
from fleet_contract.inputs import ImageInput, VectorInput
from tests.fakes import local_broker
from tests.fakes.local_broker import LocalBroker

pytestmark = local_broker.needed

ROWS = VectorInput(tensor="input", columns=["t", "p"], low=[-9.0, -9.0], high=[9.0, 9.0])
GREY = ImageInput(tensor="input", height=8, width=8, channels=1)
PICTURE = cv2.imencode(".png", np.full((8, 8), 7, np.uint8))[1].tobytes()
AT_ONCE = Backoff(0.01, 0.02)
MAX_LOOKS = 200


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with local_broker.running(tmp_path) as running:
        yield running


def subscription(broker: LocalBroker, rules: Rules = Rules("drop-oldest"), topic: str = "sensors/+") -> Subscription:
    return Subscription(Topic(broker.url, topic), "agent", SystemClock(), rules, AT_ONCE)


def listening(broker: LocalBroker, source: Subscription, spec: VectorInput | ImageInput = ROWS) -> Iterator[Input | None]:
    """The stream, once the broker knows of it."""
    stream = source.read(spec, None)
    assert next(stream) is None
    broker.wait_subscribed()
    return stream


def taken_from(stream: Iterator[Input | None], count: int) -> list[Input]:
    """Raises when they do not come in 50 s."""
    found = list(islice((taken for taken in islice(stream, MAX_LOOKS + count) if taken is not None), count))
    assert len(found) == count
    return found


def test_rows_of_every_topic_of_the_filter(broker: LocalBroker) -> None:
    with closing(subscription(broker)) as source:
        stream = listening(broker, source)
        broker.publish("sensors/1", b'{"t": 1, "p": 2}', b"[[3, 4], [5, 6]]")
        broker.publish("elsewhere/1", b"[7, 8]")
        broker.publish("sensors/2", b"[0, 9]")
        found = taken_from(stream, 4)
    assert [taken.values.tolist() for taken in found] == [[1, 2], [3, 4], [5, 6], [0, 9]]
    assert len({taken.id for taken in found}) == 4


def test_a_message_that_is_no_input_comes_out_refused(broker: LocalBroker) -> None:
    with closing(subscription(broker)) as source:
        stream = listening(broker, source)
        broker.publish("sensors/1", b"warm", b"[1, 2]")
        bad, good = taken_from(stream, 2)
    assert (bad.refusal, bad.values, good.refusal) == ("bad-row", None, None)


def test_pictures(broker: LocalBroker) -> None:
    with closing(subscription(broker)) as source:
        stream = listening(broker, source, GREY)
        broker.publish("sensors/1", PICTURE, PICTURE[:-8])
        good, bad = taken_from(stream, 2)
    assert (good.values.max(), good.data, bad.refusal) == (7, PICTURE, "corrupt-image")


def test_a_full_queue_that_blocks_leaves_the_rest_to_the_broker(broker: LocalBroker) -> None:
    with closing(subscription(broker, Rules("block", 2))) as source:
        stream = listening(broker, source)
        broker.publish("sensors/1", *(f"[[{number}, 0], [{number}, 1], [{number}, 2]]".encode() for number in range(30)))
        found = taken_from(stream, 90)
        assert source.losses() == {}
    assert [taken.values.tolist() for taken in found] == [[number, part] for number in range(30) for part in range(3)]


def test_what_a_broker_sends_beyond_what_can_be_held_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not know MQTT 5 sends as many at once as it likes."""
    sessions: list[ScriptedSession] = []
    monkeypatch.setattr(mqtt, "Session", lambda *_, on_message, **__: sessions.append(ScriptedSession(on_message)) or sessions[-1])
    with closing(Subscription(Topic("mqtt://nowhere", "t"), "agent", SystemClock(), Rules("block", 2), AT_ONCE)) as source:
        stream = source.read(ROWS, None)
        assert next(stream) is None
        (session,) = sessions
        for number in range(6):
            session.send(number, f"[{number}, 0]".encode())
        assert session.acknowledged == [0, 1, 4, 5]
        assert source.losses() == {"queue-full": 2}
        assert [(taken.values[0], taken.follows) for taken in taken_from(stream, 4)] == [(0, True), (1, True), (2, False), (3, True)]
        assert session.acknowledged == [0, 1, 4, 5, 2, 3]


class ScriptedSession:
    """Stands for fleet_contract.mqtt.Session."""

    def __init__(self, on_message: mqtt.OnMessage) -> None:
        self._on_message = on_message
        self.acknowledged: list[int] = []

    def send(self, number: int, payload: bytes) -> None:
        self._on_message("t", payload, lambda: self.acknowledged.append(number))

    def start(self) -> None: ...

    def close(self) -> None: ...


def test_a_broker_that_goes_and_comes_back_is_counted(broker: LocalBroker) -> None:
    with closing(subscription(broker)) as source:
        stream = listening(broker, source)
        broker.publish("sensors/1", b"[1, 0]")
        first = taken_from(stream, 1)
        broker.stop()
        broker.start()
        broker.wait_subscribed()
        broker.publish("sensors/1", b"[2, 0]", b"[3, 0]")
        rest = taken_from(stream, 2)
        assert source.losses() == {"source-lost": 1}
    assert [taken.follows for taken in (*first, *rest)] == [True, False, True]


def test_another_model_listens_anew(broker: LocalBroker) -> None:
    with closing(subscription(broker)) as source:
        listening(broker, source)
        stream = listening(broker, source, GREY)
        broker.publish("sensors/1", PICTURE)
        assert taken_from(stream, 1)[0].values.shape == (1, 8, 8)


@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="mosquitto_passwd is not installed")
def test_a_user_with_a_password_from_a_file(tmp_path: Path) -> None:
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "camera", "secret"], check=True)
    (tmp_path / "users").chmod(0o644)
    (tmp_path / "password").write_text("secret\n")
    with local_broker.running(tmp_path, "allow_anonymous false", f"password_file {tmp_path}/users") as broker:
        broker_host = broker.url.removeprefix("mqtt:")
        source = open_source(f"mqtt:{broker_host}/a?user=camera&password-file={tmp_path}/password", SystemClock())
        with closing(source):
            stream = source.read(ROWS, None)
            next(stream)
            broker.wait_subscribed()
            broker.publish("a", b"[1, 2]", user="camera", password="secret")
            (found,) = taken_from(stream, 1)
    assert found.values.tolist() == [1, 2]

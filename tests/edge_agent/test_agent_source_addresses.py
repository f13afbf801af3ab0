"""What the text of `--source` may say, and which source it opens."""

import hashlib
from pathlib import Path

import pytest

from edge_agent.errors import Fatal
from edge_agent.sources import address
from edge_agent.sources.address import SourceAddress
from edge_agent.sources.backlog import Rules
from edge_agent.sources.factory import open_source
from edge_agent.sources.intake import Intake
from edge_agent.sources.windowed import Windowed
from fleet_contract import limits
from fleet_contract.errors import ContractError
from tests.fakes.agent_run_world import FakeClock


@pytest.mark.parametrize(
    ("text", "kind", "place", "options"),
    [
        pytest.param("camera:/dev/video0", "camera", "/dev/video0", {}, id="device"),
        pytest.param("camera:rtsp://u:p@cam/1?a=b&speed=2", "camera", "rtsp://u:p@cam/1?a=b&speed=2", {}, id="a stream's own query"),
        pytest.param("folder:/a?b", "folder", "/a?b", {}, id="folder with a question mark"),
        pytest.param("csv:a.csv", "csv", "a.csv", {}, id="CSV"),
        pytest.param("csv:a.csv?speed=1&time=when", "csv", "a.csv", {"speed": "1", "time": "when"}, id="replay"),
        pytest.param("jsonl:a?time=t%20s", "jsonl", "a", {"time": "t s"}, id="escaped option"),
        pytest.param("mqtt://h/a/+/#?user=u&password-file=f", "mqtt", "//h/a/+/#", {"user": "u", "password-file": "f"}, id="topic filter"),
        pytest.param("push://127.0.0.1:0?token-file=t", "push", "//127.0.0.1:0", {"token-file": "t"}, id="push"),
        pytest.param("python:a.b:c:x?y:z", "python", "a.b:c:x?y:z", {}, id="entry point"),
    ],
)
def test_an_address_has_a_kind_a_place_and_options(text: str, kind: str, place: str, options: dict) -> None:
    assert address.parse(text) == SourceAddress(kind, place, options)


@pytest.mark.parametrize(
    ("text", "url", "topic"),
    [
        pytest.param("mqtt://h/t", "mqtt://h", "t", id="short"),
        pytest.param("mqtts://[::1]:8884/a/+/b/#", "mqtts://[::1]:8884", "a/+/b/#", id="wildcards"),
        pytest.param("mqtt://h:1//slash", "mqtt://h:1", "/slash", id="topic with a leading slash"),
        pytest.param("mqtt://h/a%3Fb", "mqtt://h", "a?b", id="escaped question mark"),
    ],
)
def test_a_broker_and_its_topic(text: str, url: str, topic: str) -> None:
    assert address.split_broker(address.parse(text)) == (url, topic)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("radio:FM", "unknown source", id="unknown kind"),
        pytest.param("camera", "unknown source", id="no address"),
        pytest.param("csv:", "unknown source", id="empty address"),
        pytest.param("", "unknown source", id="nothing"),
        pytest.param("csv:?time=t", "does not say where", id="options only"),
        pytest.param("csv:/nowhere/s.csv", "no file /nowhere/s.csv", id="absent file"),
        pytest.param("camera:/nowhere/frames", "no folder, device or video", id="absent camera"),
        pytest.param("folder:/nowhere/frames", "no folder /nowhere", id="absent folder"),
        pytest.param("csv:/etc/hostname?pace=1", "time, speed.*not pace=1", id="unknown option"),
        pytest.param("csv:/etc/hostname?speed", "options NAME=VALUE", id="option without a value"),
        pytest.param("csv:/etc/hostname?speed=", "each with a value", id="empty option"),
        pytest.param("csv:/etc/hostname?time=a&time=b", "an option twice", id="option twice"),
        pytest.param("csv:/etc/hostname?speed=1", "needs time=COLUMN", id="speed without times"),
        pytest.param("csv:/etc/hostname?time=t&speed=fast", "must be a number", id="speed in words"),
        pytest.param("csv:/etc/hostname?time=t&speed=0", "more than 0", id="speed zero"),
        pytest.param("csv:/etc/hostname?time=t&speed=nan", "more than 0", id="speed NaN"),
        pytest.param("mqtt://host", "is no mqtt://HOST", id="no topic"),
        pytest.param("mqtt:host/topic", "is no mqtt://HOST", id="no slashes"),
        pytest.param("mqtt://h/a/#/b", "is no mqtt://HOST", id="# within"),
        pytest.param("mqtt://h/a+", "is no mqtt://HOST", id="+ in a level"),
        pytest.param("mqtt://u:secret@h/t", r"user=NAME&password-file=FILE, not in //\*\*\*@h/t", id="password in the URL"),
        pytest.param("mqtt://h:x/t", "broker URL", id="a port that is none"),
        pytest.param("mqtt://h/t?user=u", "belong together", id="user without password"),
        pytest.param("mqtt://h/t?user=u&password-file=/nowhere/p", "password file /nowhere/p", id="absent password file"),
        pytest.param("mqtts://h/t", "needs ca=FILE", id="TLS without a CA"),
        pytest.param("mqtts://h/t?ca=/etc/hostname&cert=/c", "together or not at all", id="certificate without key"),
        pytest.param("mqtts://h/t?ca=/nowhere/ca.pem", "CA certificate /nowhere/ca.pem", id="absent CA"),
        pytest.param("push://nowhere", "is no address", id="push without a port"),
        pytest.param("push://0.0.0.0:0", "a token file is needed", id="push from elsewhere without tokens"),
        pytest.param("python:os", "MODULE:ATTRIBUTE", id="module only"),
        pytest.param("python:no_such_module:x", "no source no_such_module:x", id="absent module"),
        pytest.param("python:os:no_such", "no source os:no_such", id="absent attribute"),
        pytest.param("python:os:sep", "cannot be called", id="not callable"),
    ],
)
def test_a_source_that_cannot_be_is_told_at_once(text: str, says: str) -> None:
    with pytest.raises((Fatal, ContractError), match=says):
        open_source(text, FakeClock())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("camera:rtsp://u:p@cam/1", "camera:rtsp://***@cam/1", id="password"),
        pytest.param("mqtt://h/a@b", "mqtt://h/a@b", id="none"),
        pytest.param("csv:/a@b.csv", "csv:/a@b.csv", id="a file"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert address.redact(text) == shown


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("camera:{0}", Intake, id="camera:DIR is a folder"),
        pytest.param("folder:{0}", Intake, id="folder"),
        pytest.param("csv:{0}/s.csv", Intake, id="CSV"),
        pytest.param("csv:{0}/s.csv?time=t&speed=2", Intake, id="CSV at a speed"),
        pytest.param("jsonl:{0}/s.csv", Intake, id="JSON lines"),
        pytest.param("camera:{0}/v.avi", Intake, id="video"),
        pytest.param("camera:0", Intake, id="camera by number"),
        pytest.param("camera:http://127.0.0.1:1/", Intake, id="stream"),
        pytest.param("mqtt://127.0.0.1:1/t", Windowed, id="MQTT"),
        pytest.param("push://127.0.0.1:0", Windowed, id="push"),
        pytest.param("push:{0}/in.sock", Windowed, id="push to a Unix socket"),
        pytest.param("push://0.0.0.0:0?token-file={0}/tokens", Windowed, id="push from elsewhere"),
    ],
)
def test_the_address_tells_the_kind(tmp_path: Path, text: str, kind: type) -> None:
    (tmp_path / "s.csv").touch()
    (tmp_path / "v.avi").touch()
    (tmp_path / "tokens").write_text(hashlib.sha256(b"secret").hexdigest())
    (tmp_path / "tokens").chmod(0o600)
    source = open_source(text.format(tmp_path), FakeClock())
    source.close()
    assert type(source) is kind


@pytest.mark.parametrize(
    ("policy", "max_items", "says"),
    [
        pytest.param("newest-first", 1, "must be one of drop-oldest, drop-newest, block", id="unknown policy"),
        pytest.param("block", 0, "must be 1 to", id="no room"),
        pytest.param("block", limits.MAX_QUEUED_INPUTS_COUNT + 1, f"1 to {limits.MAX_QUEUED_INPUTS_COUNT}", id="too much room"),
    ],
)
def test_rules_that_cannot_be(policy: str, max_items: int, says: str) -> None:
    with pytest.raises(Fatal, match=says):
        Rules(policy, max_items)

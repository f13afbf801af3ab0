"""How much a sender may hand over before the broker has taken it."""

import pytest

from fleet_contract.mqtt import Offline
from fleet_server.mqtt.window import Window


class Message:
    """`state`: open, taken or lost."""

    def __init__(self, state: str = "open") -> None:
        self.state, self.waited_s = state, 0.0

    def taken(self, timeout_s: float = 0.0) -> bool:
        self.waited_s += timeout_s
        if self.state == "lost":
            raise Offline("gone")
        return self.state == "taken"


def window(*states: str) -> tuple[Window, list[Message]]:
    made, sent = Window(2), [Message(state) for state in states]
    for message in sent:
        made.add(message)
    return made, sent


@pytest.mark.parametrize(
    ("states", "room"),
    [
        pytest.param((), True, id="nothing-open"),
        pytest.param(("open",), True, id="one-open"),
        pytest.param(("open", "open"), False, id="full"),
        pytest.param(("taken", "open"), True, id="the-first-taken"),
        pytest.param(("open", "taken"), False, id="the-first-still-open"),
    ],
)
def test_there_is_room_below_the_bound(states: tuple[str, ...], room: bool) -> None:
    assert window(*states)[0].has_room(0.0) is room


def test_only_a_full_window_waits_and_for_its_oldest_message() -> None:
    full, sent = window("open", "open")
    assert not full.has_room(0.5)
    assert [message.waited_s for message in sent] == [0.5, 0.0]
    half, sent = window("open")
    assert half.has_room(0.5)
    assert sent[0].waited_s == 0.0


def test_a_lost_connection_is_told_once_and_leaves_an_empty_window() -> None:
    broken, _ = window("lost", "open")
    with pytest.raises(Offline):
        broken.has_room(0.0)
    assert (broken.lost, broken.has_room(0.0)) == (True, True)
    broken.add(Message())
    assert not broken.lost

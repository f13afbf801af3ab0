"""Who asks first is served first; who would wait too long, or behind too many, hears so."""

import threading
from collections.abc import Callable

import pytest

from edge_agent.errors import Retry
from edge_agent.inference.admission import Admission, Shut


class Asking:
    """A thread that wants a slot, and notes when it has one."""

    def __init__(self, admission: Admission[str], name: str, served: list[str], timeout_s: float | None = None) -> None:
        self.error: Exception | None = None
        before = admission.waiting
        self._thread = threading.Thread(target=self._ask, args=(admission, name, served, timeout_s))
        self._thread.start()
        while admission.waiting == before and self._thread.is_alive():  # until it stands in the queue
            pass

    def join(self) -> None:
        self._thread.join(30)

    def _ask(self, admission: Admission[str], name: str, served: list[str], timeout_s: float | None) -> None:
        try:
            slot = admission.acquire(timeout_s)
        except (Retry, Shut) as error:
            self.error = error
            return
        served.append(name)
        admission.release(slot)


def test_who_asks_first_is_served_first() -> None:
    admission, served = Admission(["only"], max_waiting=8), []
    slot = admission.acquire()
    asking = [Asking(admission, name, served) for name in "abcdef"]
    admission.release(slot)
    for one in asking:
        one.join()
    assert served == [*"abcdef"]


def test_each_slot_is_one_requests_at_a_time() -> None:
    admission = Admission(["a", "b"], max_waiting=0)
    assert {admission.acquire(), admission.acquire()} == {"a", "b"}
    with pytest.raises(Retry) as refused:
        admission.acquire()
    assert refused.value.code == "overloaded"


@pytest.mark.parametrize(
    ("last", "slot"), [pytest.param(False, "a", id="a warm one comes next"), pytest.param(True, "b", id="a cold one comes last")]
)
def test_which_of_the_free_slots_is_used(last: bool, slot: str) -> None:
    admission = Admission(["a", "b"], max_waiting=0)
    admission.release(admission.acquire(), last=last)
    assert admission.acquire() == slot


def test_who_would_wait_behind_too_many_is_turned_away_and_the_others_are_not() -> None:
    admission, served = Admission(["only"], max_waiting=2), []
    slot = admission.acquire()
    asking = [Asking(admission, name, served) for name in "abc"]
    asking[2].join()
    assert asking[2].error.code == "overloaded"
    admission.release(slot)
    for one in asking:
        one.join()
    assert served == ["a", "b"]


@pytest.mark.parametrize("timeout_s", [0.0, 0.001, -1.0])
def test_who_waits_too_long_hears_so_and_keeps_nobody_waiting(timeout_s: float) -> None:
    admission, served = Admission(["only"], max_waiting=2), []
    slot = admission.acquire()
    with pytest.raises(Retry) as late:
        admission.acquire(timeout_s)
    assert late.value.code == "deadline"
    next_one = Asking(admission, "next", served)
    admission.release(slot)
    next_one.join()
    assert served == ["next"]


def test_shutting_waits_for_those_who_were_let_in_and_lets_in_nobody_else() -> None:
    admission, served = Admission(["only"], max_waiting=2), []
    slot = admission.acquire()
    waiting = Asking(admission, "waiting", served)
    shutting = threading.Thread(target=admission.shut)
    shutting.start()
    _until(lambda: not admission.is_open)
    with pytest.raises(Shut):
        admission.acquire()
    assert shutting.is_alive()
    admission.release(slot)
    shutting.join(30)
    waiting.join()
    assert served == ["waiting"]
    admission.open()
    assert admission.acquire() == "only"


def test_many_threads_share_few_slots() -> None:
    """Never more at once than there are slots, and everybody has a turn."""
    admission, done = Admission([1, 2, 3], max_waiting=64), []
    held = {slot: threading.Lock() for slot in (1, 2, 3)}

    def ask() -> None:
        for _ in range(200):
            slot = admission.acquire()
            alone = held[slot].acquire(blocking=False)
            done.append(alone)
            held[slot].release()
            admission.release(slot)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert done == [True] * 1_600


def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        pass

"""The queue between a source and the model: what waits, what is lost, and what happens to a source that fails."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import pytest

from edge_agent.errors import Fatal
from edge_agent.ports import Input
from edge_agent.sources.backlog import Backlog, Policy, Rules
from edge_agent.sources.intake import Intake
from edge_agent.sources.losses import Losses
from fleet_contract.inputs import InputSpec, VectorInput
from tests.fakes.agent_run_world import FakeSource, vector_input

SPEC = VectorInput(tensor="input", columns=["t", "p"], low=[-9.0, -9.0], high=[9.0, 9.0])
OTHER = VectorInput(tensor="input", columns=["p", "t"], low=[-9.0, -9.0], high=[9.0, 9.0])
PATIENCE_S = 30.0


def numbered(count: int, *, cursor: bool = True) -> list[Input]:
    made = [vector_input(number) for number in range(1, count + 1)]
    return made if cursor else [replace(taken, cursor=None) for taken in made]


def taken_from(stream: Iterator[Input | None], count: int) -> list[Input]:
    return list(islice((taken for taken in stream if taken is not None), count))


class TestBacklog:
    @pytest.mark.parametrize(
        ("policy", "left", "lost", "follow"),
        [
            pytest.param("drop-oldest", ["3", "4", "5"], {"queue-full": 2}, [False, True, True], id="drop oldest"),
            pytest.param("drop-newest", ["1", "2", "3"], {"queue-full": 2}, [True, True, True], id="drop newest"),
            pytest.param("block", ["1", "2", "3"], {}, [True, True, True], id="block"),
        ],
    )
    def test_five_where_three_fit(self, policy: Policy, left: list[str], lost: dict[str, int], follow: list[bool]) -> None:
        losses = Losses()
        backlog = Backlog(Rules(policy, 3), losses)
        offered = [backlog.offer(taken) for taken in numbered(5)]
        found = [backlog.take() for _ in range(3)]
        assert [taken.id for taken in found] == left
        assert [taken.follows for taken in found] == follow
        assert offered == ([True] * 5 if policy == "drop-oldest" else [True, True, True, False, False])
        assert losses.take() == lost
        assert backlog.take() is None

    def test_what_comes_behind_a_dropped_newest_does_not_follow(self) -> None:
        backlog = Backlog(Rules("drop-newest", 1), Losses())
        first, second, third = numbered(3)
        backlog.offer(first)
        backlog.offer(second)
        backlog.take()
        backlog.offer(third)
        assert backlog.take() == replace(third, follows=False)

    @pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
    def test_bytes_are_bounded_too(self, policy: Policy) -> None:
        one = vector_input(1)
        size_bytes = len(one.data) + one.values.nbytes
        losses = Losses()
        backlog = Backlog(Rules(policy, 99, max_bytes=2 * size_bytes), losses)
        for _ in range(5):
            backlog.offer(one)
        assert losses.take() == {"queue-full": 3}

    def test_one_that_is_larger_than_all_bytes_waits_alone(self) -> None:
        backlog = Backlog(Rules("drop-newest", 9, max_bytes=1), Losses())
        assert [backlog.offer(taken) for taken in numbered(2)] == [True, False]

    def test_who_was_sent_away_is_told_when_half_is_empty(self) -> None:
        told: list[str] = []
        backlog = Backlog(Rules("block", 4), Losses(), on_room=lambda: told.append("room"))
        for taken in numbered(5):
            backlog.offer(taken)
        backlog.take()
        assert told == []
        backlog.take()
        backlog.take()
        assert told == ["room"]

    def test_what_waits_comes_before_the_end(self) -> None:
        backlog = Backlog(Rules("block"), Losses())
        for taken in numbered(2):
            backlog.offer(taken)
        backlog.finish(Fatal("no more", code="source"))
        stream = backlog.read()
        assert [taken.id for taken in islice(stream, 2)] == ["1", "2"]
        with pytest.raises(Fatal, match="no more"):
            next(stream)

    def test_a_reader_wakes_when_one_comes(self) -> None:
        backlog = Backlog(Rules("block"), Losses())
        stream = backlog.read()
        assert next(stream) is None
        feeder = threading.Thread(target=backlog.offer, args=(vector_input(1),))
        feeder.start()
        assert taken_from(stream, 1)[0].id == "1"
        feeder.join()


class TestIntake:
    def test_everything_comes_in_order_and_the_end_is_told(self) -> None:
        intake = Intake(FakeSource(numbered(300), ends=True), Rules("block", 4))
        assert [taken.id for taken in intake.read(SPEC, None) if taken] == [str(number) for number in range(1, 301)]
        assert intake.losses() == {}
        intake.close()

    def test_reading_goes_on_while_nothing_is_taken(self) -> None:
        source = FakeSource(numbered(50), ends=True)
        intake = Intake(source, Rules("drop-oldest", 8))
        stream = intake.read(SPEC, None)
        first = next(stream)
        assert source.drained.wait(PATIENCE_S)
        kept = [taken.id for taken in (first, *stream) if taken]
        assert kept[-7:] == [str(number) for number in range(44, 51)]
        assert len(kept) + intake.losses()["queue-full"] == 50
        intake.close()
        assert source.closed

    def test_a_source_that_can_never_fit_is_fatal_to_the_reader(self) -> None:
        class Unfit(FakeSource):
            def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
                raise Fatal("it never fits", code="source")
                yield

        intake = Intake(Unfit([]), Rules("block"))
        with pytest.raises(Fatal, match="never fits"):
            list(islice(intake.read(SPEC, None), 1_000))
        intake.close()

    def test_a_source_that_breaks_is_counted_and_read_again_where_it_was(self) -> None:
        intake = Intake(BreakingSource(numbered(6), breaks_behind=[3, 3]), Rules("block"), retry_s=0.001)
        found = taken_from(intake.read(SPEC, None), 6)
        assert [taken.id for taken in found] == ["1", "2", "3", "4", "5", "6"]
        assert [taken.follows for taken in found] == [True, True, True, False, True, True]
        assert intake.losses() == {"source-failed": 2}
        intake.close()

    def test_another_model_reads_again_what_the_source_can_give_again(self) -> None:
        source = FakeSource(numbered(9))
        intake = Intake(source, Rules("block", 4))
        taken_from(intake.read(SPEC, None), 2)
        assert [taken.id for taken in taken_from(intake.read(OTHER, "2"), 7)] == ["3", "4", "5", "6", "7", "8", "9"]
        assert source.reads == [(SPEC, None), (OTHER, "2")]
        assert intake.losses() == {}
        intake.close()

    def test_what_cannot_be_read_again_is_counted(self) -> None:
        source = FakeSource(numbered(5, cursor=False))
        intake = Intake(source, Rules("block", 8))
        taken_from(intake.read(SPEC, None), 2)
        assert source.drained.wait(PATIENCE_S)
        next(intake.read(OTHER, None))
        assert intake.losses() == {"model-changed": 3}
        intake.close()

    def test_losses_of_the_source_are_told_too(self) -> None:
        class Losing(FakeSource):
            def losses(self) -> dict[str, int]:
                return {"queue-full": 2, "source-lost": 1}

        intake = Intake(Losing(numbered(1)), Rules("block"))
        assert intake.losses() == {"queue-full": 2, "source-lost": 1}
        intake.close()


class BreakingSource(FakeSource):
    """Raises behind the given ids, once each."""

    def __init__(self, inputs: Sequence[Input], breaks_behind: Sequence[int]) -> None:
        super().__init__(inputs)
        self._breaks = list(breaks_behind)

    def read(self, spec: InputSpec, after: str | None) -> Iterator[Input | None]:
        if self._breaks and after == str(self._breaks[0]):
            self._fail()
        for taken in super().read(spec, after):
            yield taken
            if self._breaks and taken is not None and taken.id == str(self._breaks[0]):
                self._fail()

    def _fail(self) -> None:
        raise RuntimeError(f"the driver broke behind {self._breaks.pop(0)}")


def test_losses_from_many_threads_add_up() -> None:
    losses = Losses()

    def each(work: Callable[[], None]) -> None:
        threads = [threading.Thread(target=lambda: [work() for _ in range(1_000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    each(lambda: losses.add("a"))
    assert losses.take() == {"a": 4_000}
    assert losses.take() == {}

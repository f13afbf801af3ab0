"""Timing that a shared machine cannot bend much: the contenders take turns, and a median stands for each."""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Contender:
    """`run` does one turn on `values` values."""

    run: Callable[[], None]
    values: int


@dataclass(frozen=True)
class Aim:
    """A figure that has to be at least `aim`, or at most it. `value` is None when it could not be measured here."""

    name: str
    value: float | None
    aim: float
    at_most: bool = False

    @property
    def holds(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.aim if self.at_most else self.value >= self.aim


@dataclass(frozen=True)
class Report:
    """`skipped` says why the benchmark cannot run here; then there is nothing else."""

    bench: str
    table: list[tuple[str, ...]]
    aims: list[Aim]
    skipped: str | None = None

    @property
    def holds(self) -> bool:
        """Every aim that could be measured holds."""
        return all(aim.holds is not False for aim in self.aims)

    def as_json(self) -> dict:
        told = {} if self.skipped is None else {"skipped": self.skipped}
        return {"bench": self.bench, "holds": self.holds, **told, "aims": [{**asdict(aim), "holds": aim.holds} for aim in self.aims]}


def at_least(least: int) -> Callable[[str], int]:
    """Type of an option: a whole number, with a clear error for a smaller one."""

    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} must be {least} or more")
        return value

    parse.__name__ = "whole number"  # argparse names it where the text is none
    return parse


def skip(bench: str, reason: str) -> Report:
    return Report(bench, [], [], reason)


def interleave(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Nanoseconds of CPU time a value of each contender in each round; every round runs all of them, in alternating order, after one unmeasured round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        order = list(contenders.items())
        for name, contender in order if turn % 2 else reversed(order):
            begun = time.process_time()
            contender.run()
            spent_s = time.process_time() - begun
            if turn:
                times[name].append(spent_s * 1e9 / contender.values)
    return times


def ratio(times: Mapping[str, list[float]], slower: str, faster: str) -> float | None:
    """Median over the rounds of how many times `slower` costs what `faster` costs; None when one was not run."""
    if slower not in times or faster not in times:
        return None
    return statistics.median(a / b for a, b in zip(times[slower], times[faster], strict=True))

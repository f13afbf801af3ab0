"""Bad models against the whole update machinery with real workers: each is rejected or rolled back, and the old model answers every input.

The table of docs/bad-models.md is these cases.
"""

import platform
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.inference.answering import Answerer
from edge_agent.inference.child import Deadlines
from edge_agent.inference.host import InferenceHost
from edge_agent.ports import Host
from edge_agent.storage.journal import Journal
from edge_agent.update.loop import UpdateLoop
from edge_agent.update.phases import Phase
from edge_agent.update.probation import Terms
from edge_agent.update.state import State
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Event
from tests.architecture.sources import ROOT
from tests.fakes import agent_run_models as models
from tests.fakes import bad_models
from tests.fakes.agent_device import Device
from tests.fakes.agent_repository import PROFILE

DOCUMENT = ROOT / "docs/bad-models.md"
PLAIN = np.array([[1, 2]], np.float32)
POISONED = np.array([[bad_models.POISON, 1]], np.float32)


@dataclass(frozen=True)
class Case:
    """A model that goes wrong, and what is to come of it. `poisoned` is whether the device sees what sets it off."""

    what: str
    model: bytes
    phase: Phase
    code: str
    poisoned: bool = False

    @property
    def row(self) -> str:
        return f"| {self.what} | {self.phase} | `{self.code}` | {'rolled back' if self.phase is Phase.PROBATION else 'never switched to'} |"


def at_once(what: str, effect: str, code: str) -> Case:
    return Case(what, bad_models.model(effect, "always"), Phase.PROVING, code)


def on_real_inputs(what: str, effect: str, code: str) -> Case:
    return Case(f"{what}, on some real inputs only", bad_models.model(effect, "on-poison"), Phase.PROBATION, code, poisoned=True)


def later(what: str, effect: str, code: str) -> Case:
    return Case(f"{what}, after a while only", bad_models.model(effect, "later"), Phase.PROBATION, code)


def unopened(what: str, model: bytes) -> Case:
    return Case(what, model, Phase.PROVING, "bad-model")


CASES = [
    unopened("no protobuf", b"\xff" * 100),
    unopened("cut short", models.linear()[:-5]),
    unopened("operator of an unknown domain", models.foreign_operator()),
    unopened("weights in a file beside it", models.external_data("weights.bin")),
    unopened("weights in a file outside (`../`)", models.external_data("../weights.bin")),
    unopened("weights in an absolute path", models.external_data("/etc/hostname")),
    unopened("weights in /proc", models.external_data("/proc/self/environ")),
    unopened("graphs nested too deep", bad_models.nested(30)),
    unopened("a weight that claims more values than it has bytes", bad_models.huge_dims()),
    at_once("crashes", "crash", "child-crash"),
    at_once("hangs", "hang", "child-timeout"),
    at_once("exhausts memory", "memory", "memory"),
    Case("exhausts memory, with a file of a hundred bytes", bad_models.tiny_memory_bomb(), Phase.PROVING, "memory"),
    at_once("answers NaN", "nan", "non-finite"),
    at_once("answers wrongly", "wrong", "wrong-answer"),
    at_once("ten times too slow", "slow", "too-slow"),
    on_real_inputs("crashes", "crash", "probation-crash"),
    on_real_inputs("hangs", "hang", "probation-hang"),
    on_real_inputs("exhausts memory", "memory", "probation-memory"),
    on_real_inputs("answers NaN", "nan", "probation-non-finite"),
    on_real_inputs("ten times too slow", "slow", "probation-slow"),
    later("crashes", "crash", "probation-crash"),
    later("hangs", "hang", "probation-hang"),
    later("exhausts memory (what a leak comes to)", "memory", "probation-memory"),
    later("answers NaN", "nan", "probation-non-finite"),
    later("answers wrongly", "wrong", "wrong-answer"),
]


class ToldJournal(Journal[State]):
    """Wakes whoever waits for what it holds."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, State)
        self._written = threading.Condition()

    def write(self, value: State) -> None:
        super().write(value)
        with self._written:
            self._written.notify_all()

    def wait_until(self, holds: Callable[[State], bool]) -> None:
        with self._written:
            if not self._written.wait_for(lambda: holds(self.read() or State()), 60):
                raise TimeoutError(f"the device never came to that: {self.read()}")


class Trial(Device):
    """A device with real workers, which answers one input after the other in a thread, whatever is being installed."""

    terms = Terms(inputs=bad_models.calls_until_late() - 1, time_s=300.0)
    """So long that a model is asked its known answers again just when it goes wrong: after the warm-up and these inputs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.journal = ToldJournal(folder / "journal.json")
        self.restart()
        self.updates = UpdateLoop(self.executor)
        self.inputs = PLAIN
        self.answered: dict[str, int] = {}
        self.dropped = 0
        self.candidate: str | None = None
        self._stop = threading.Event()
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self.good = models.bundle(limits=bad_models.LIMITS)

    def make_host(self) -> Host:
        return InferenceHost(catalog.load(PROFILE), SystemClock(), Deadlines(infer_s=1.5))

    def start(self) -> None:
        """With the good model active, past its probation."""
        self.updates.start()
        self._serving.start()
        self.publish(self.good, 1)
        self.journal.wait_until(lambda state: state.phase is Phase.IDLE and state.active is not None)

    def publish(self, archive: bytes, counter: int) -> None:
        self.candidate = Bundle(archive).sha256
        self.repository.publish(archive)
        self.order(archive, counter)
        self.updates.wake()

    def outcome(self, sha256: str, kind: str) -> Event | None:
        return next((e for e in self.store.of(Event) if e.kind == kind and e.detail.get("sha256") == sha256), None)

    def close(self) -> None:
        self._stop.set()
        self.updates.close()
        self._serving.join(30)
        self.host.close()

    def _serve(self) -> None:
        answerer = Answerer(self.host, lambda _: self._stop.wait(0.005), lambda _: None, self.updates.appeal)
        while not self._stop.is_set():
            if self._is_due():
                for answered in answerer.answer("input", self.inputs):
                    self.dropped += answered.inference is None
                    if answered.inference is not None:
                        sha256 = answered.inference.sha256
                        self.answered[sha256] = self.answered.get(sha256, 0) + 1
            self._stop.wait(0.002)

    def _is_due(self) -> bool:
        """A model on probation gets just as many inputs as it takes, so that the calls before its examination can be counted."""
        model = self.host.active()
        on_probation = model is not None and model.sha256 == self.candidate and self.executor.on_trial
        enough = on_probation and self.host.conduct(model.sha256).answered >= self.terms.inputs
        if enough:
            self.updates.wake()
        return not enough


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """One device and one good model for the whole table."""
    trial = Trial(tmp_path_factory.mktemp("trial"))
    trial.start()
    yield trial
    trial.close()


@pytest.mark.e2e
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_bad_model_is_caught_and_the_old_one_answers_everything(trial: Trial, case: Case) -> None:
    if case.code in ("child-crash", "probation-crash") and platform.machine() != "x86_64":
        pytest.skip("the integer division that traps on x86-64 gives an answer here")
    good, counter = Bundle(trial.good).sha256, trial.state.counter + 1
    bad = models.bundle({"fp32": case.model}, version=f"2.{counter}.0", limits=bad_models.LIMITS)
    digest, answered = Bundle(bad).sha256, trial.answered[good]
    trial.inputs = POISONED if case.poisoned else PLAIN
    trial.publish(bad, counter)
    trial.journal.wait_until(lambda state: state.phase is Phase.IDLE and digest in state.quarantined)
    rejection = trial.outcome(digest, "update.rejected").detail
    assert (rejection["phase"], rejection["code"]) == (case.phase, case.code)
    assert trial.outcome(digest, "update.active") is None
    assert trial.host.active().sha256 == good
    assert (trial.outcome(digest, "update.rolled-back") is not None) is (case.phase is Phase.PROBATION)
    trial.inputs = PLAIN
    assert trial.dropped == 0
    assert trial.answered[good] > answered


def test_the_document_is_this_table() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ") and "`" in line]
    assert rows == [case.row for case in CASES]

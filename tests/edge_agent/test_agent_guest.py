"""The shadow that the fleet orders, in a real worker beside the model that serves."""

import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import Reject
from edge_agent.inference.child import Deadlines
from edge_agent.inference.guest import ShadowGuest
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.shadow import COMPARED, ShadowedHost
from edge_agent.ports import ActiveModel, Choice, Inference, Tensors
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Event
from tests.fakes import agent_run_models as models
from tests.fakes import bad_models

PROFILE = catalog.load("generic-x86-64")
ONE, TWO = Bundle(models.bundle()), Bundle(models.bundle(version="2.0.0"))
INPUTS = {"input": models.KNOWN_INPUTS}
DEADLINE_S = 30


class Board:
    """A model that serves, and its guest; `left_bytes` is the memory that may still be taken."""

    def __init__(self) -> None:
        self.left_bytes: int | None = None
        self.events: list[Event] = []
        self.serving = InferenceHost(PROFILE, SystemClock(), Deadlines(infer_s=5.0))
        self.beside = InferenceHost(PROFILE, SystemClock(), Deadlines(infer_s=5.0), available_bytes=lambda: self.left_bytes, meek=True)
        self.told = threading.Event()
        self.guest = ShadowGuest("toy", self.beside, self.record, SystemClock())
        self.host = ShadowedHost(self.serving, self.guest)
        self.serving.activate(ONE)

    def record(self, event: Event) -> None:
        self.events.append(event)
        self.told.set()

    def close(self) -> None:
        self.guest.end()
        self.beside.close()
        self.serving.close()


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board()
    yield board
    board.close()


def test_it_sees_what_the_model_is_asked_and_is_compared_and_gone(board: Board) -> None:
    proof = board.guest.prove(TWO)
    board.guest.start(TWO, Choice(proof.chosen.variant, proof.chosen.backend))
    (worker,) = board.beside.worker_pids
    assert (board.guest.running(), os.getpriority(os.PRIO_PROCESS, worker)) == (TWO.sha256, 19)
    assert [board.host.infer(INPUTS).sha256 for _ in range(3)] == [ONE.sha256] * 3
    board.guest.end()
    board.host.infer(INPUTS)
    assert (board.guest.running(), board.beside.worker_pids) == (None, [])
    (told,) = board.events
    assert (told.kind, told.detail["bundle"], told.detail["candidate"]) == (COMPARED, ONE.sha256, TWO.sha256)
    rows = 3 * len(models.KNOWN_INPUTS)
    assert told.detail["inputs"] + told.detail.get("missed.not-in-time", 0) == rows
    assert told.detail["agreed"] == told.detail["inputs"]


def test_the_server_hears_of_it_when_its_gate_is_reached(board: Board) -> None:
    board.guest.start(TWO)
    while not board.told.is_set():
        board.host.infer(INPUTS)
    seen = sum(count for name, count in board.events[0].detail.items() if name == "inputs" or name.startswith("missed."))
    assert seen >= TWO.manifest.policy.rollout.gate_inputs


def test_without_room_it_is_refused_and_the_model_serves_on(board: Board) -> None:
    board.left_bytes = 0
    before = board.serving.worker_pids
    for refused in (board.guest.prove, board.guest.start):
        with pytest.raises(Reject) as error:
            refused(TWO)
        assert error.value.code == "no-room"
    assert (board.guest.running(), board.serving.worker_pids) == (None, before)
    assert board.host.infer(INPUTS).sha256 == ONE.sha256


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the division that crashes there gives an answer elsewhere")
def test_one_that_crashes_is_only_counted(board: Board) -> None:
    board.guest.start(Bundle(models.bundle({"fp32": bad_models.model("crash", "on-poison")}, answers=models.KNOWN_LOGITS)))
    poisoned = models.KNOWN_INPUTS.copy()
    poisoned[0, 0] = bad_models.POISON
    for _ in range(3):
        assert board.host.infer({"input": poisoned}).sha256 == ONE.sha256
    board.guest.end()
    assert sum(count for name, count in board.events[-1].detail.items() if name.startswith("missed.")) == 9
    assert board.serving.counts().crashed == 0


class Stuck:
    """The part of a host that a guest uses: it does not answer before `open` is set."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.asked = 0

    def activate(self, bundle: Bundle, chosen: Choice | None = None) -> None:
        self.model = ActiveModel(bundle.sha256, bundle.manifest, models.reference())

    def deactivate(self) -> None: ...

    def active(self) -> ActiveModel:
        return self.model

    def infer(self, inputs: Tensors, *, timeout_s: float | None = None) -> Inference:
        self.asked += 1
        self.entered.set()
        if not self.open.wait(DEADLINE_S):
            raise TimeoutError
        return Inference(self.model.sha256, self.model.manifest, {"logits": models.KNOWN_LOGITS.astype(np.float32)}, 5, models.reference())


def test_the_end_waits_for_the_one_question_at_hand(board: Board) -> None:
    stuck, events = Stuck(), []
    guest = ShadowGuest("toy", stuck, events.append, SystemClock())  # type: ignore[arg-type]
    guest.start(TWO)
    given = board.serving.infer(INPUTS)
    for _ in range(4):
        guest.offer(INPUTS, given)
    assert stuck.entered.wait(DEADLINE_S)
    ending = threading.Thread(target=guest.end)
    ending.start()
    while guest.running() is not None:
        pass
    stuck.open.set()
    ending.join(DEADLINE_S)
    assert (stuck.asked, events[0].detail["inputs"], events[0].detail["missed.not-in-time"]) == (1, 3, 9)

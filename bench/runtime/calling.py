"""(a) A perceptron of some 10 us: one call at a time from the host to the sandboxed worker and back, next to `InferenceSession.run` in this process,
and to what two processes need to pass one byte to and fro. Turns are taken in blocks of calls, and a block's median stands for it."""

import os
import socket
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime

from bench.measure import Aim
from bench.runtime.models import COLUMNS, perceptron, perceptron_bundle
from edge_agent.clock import SystemClock
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle

AIM_US = 60.0
BLOCKS = 40
CALLS = 250
_PROFILE = "generic-x86-64"


def measure() -> tuple[list[tuple[str, ...]], list[Aim]]:
    model, row = perceptron(), np.random.default_rng(1).normal(size=(1, COLUMNS)).astype(np.float32)
    session, host = _session(model), InferenceHost(catalog.load(_PROFILE), SystemClock())
    byte = _Echo()
    try:
        host.activate(Bundle(perceptron_bundle(model)))
        times = _interleave(
            {
                "bare run": lambda: session.run(None, {"input": row}),
                "host and worker": lambda: host.infer({"input": row}),
                "one byte to and fro": byte.call,
            }
        )
    finally:
        byte.close()
        host.close()
    above_us = statistics.median(a - b for a, b in zip(times["host and worker"], times["bare run"], strict=True))
    rows = [("", "p50 us", "best block", "worst block")]
    rows += [(name, *(f"{value:.1f}" for value in (statistics.median(t), min(t), max(t)))) for name, t in times.items()]
    return rows, [Aim("us above a bare run", round(above_us, 1), AIM_US, at_most=True)]


def _interleave(calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """The median of each block of calls, in microseconds, after one block that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for block in range(BLOCKS + 1):
        for name, call in calls.items():
            spent_us = _median_us(call)
            if block:
                times[name].append(spent_us)
    return times


def _median_us(call: Callable[[], object]) -> float:
    spent = []
    for _ in range(CALLS):
        begun_s = time.perf_counter()
        call()
        spent.append(1e6 * (time.perf_counter() - begun_s))
    return statistics.median(spent)


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class _Echo:
    """A process that sends back what it gets: the least that a model in a process of its own can cost without spinning."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if not self._pid:
            self._ours.close()
            while theirs.send(theirs.recv(1) or os._exit(0)):
                pass
        theirs.close()

    def call(self) -> None:
        self._ours.send(b"x")
        self._ours.recv(1)

    def close(self) -> None:
        self._ours.close()
        os.waitpid(self._pid, 0)

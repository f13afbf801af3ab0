"""How long until ten thousand devices have acknowledged their orders, against a bare publisher of as many messages.

A real server (`fleet-server up` with Mosquitto, its ingest worker and compactor), from the call that approves a rollout on: the rule, signing, the
database and its audit log, the broker, the devices (light ones in one process, which verify an order's signature and answer with a status), and back,
until the server has stored every device's word. The peer is paho publishing as many retained messages, those very orders, through the same broker to
the same devices, which only acknowledge them, until all have theirs.
"""

import argparse
import os
import resource
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bench import postgres
from bench.fleet.processor import OTHERS, used
from bench.measure import Aim, Report, at_least, skip
from bench.order_fanout import stage as stages
from bench.order_fanout.heard import BARE, CONNECTED, ORDERED, PATIENCE_S, Heard, first
from bench.order_fanout.stage import Stage
from fleet_contract import topics
from fleet_contract.topics import Down
from fleet_server.mqtt import mosquitto
from fleet_server.services import orders

_AIM = 10.0
_LOOK_S = 0.05
_IN_FLIGHT = 1_000
_OTHER_FILES = 200
_PARTS = ("server", "broker", "devices", "ingest", "compactor", "other", OTHERS)
"""`other` is this process, and so paho."""


@dataclass(frozen=True)
class Turn:
    """Seconds since the approval at the end of each stage, in order; `bare_s` is the peer's. `ours` and `theirs` are CPU seconds by part."""

    stages: dict[str, float]
    bare_s: float
    ours: Counter[str]
    theirs: Counter[str]

    @property
    def acknowledged_s(self) -> float:
        return [*self.stages.values()][-1]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m bench order-fanout --devices 10000 --store postgresql"
    parser.add_argument("--devices", type=at_least(1), default=2_000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=at_least(1), default=3, help="the median counts (default: %(default)s)")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite", help="(default: %(default)s)")


def run(devices: int, rounds: int, store: str) -> Report:
    if mosquitto.find(os.environ.get("PATH", os.defpath)) is None:
        return skip("order-fanout", "Mosquitto is not installed")
    if obstacle := _raise_limit(devices + _OTHER_FILES) or (postgres.obstacle() if store == "postgresql" else None):
        return skip("order-fanout", obstacle)
    if store == "sqlite":
        return _run(devices, rounds, None)
    with postgres.running() as cluster:
        return _run(devices, rounds, cluster.url)


def _raise_limit(files: int) -> str | None:
    """Let this process and its children have so many files open; returns why that cannot be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        return f"a process may have {hard} files open; {files} are needed, most of them connections"
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return None


def _run(devices: int, rounds: int, url: str | None) -> Report:
    with (
        tempfile.TemporaryDirectory(prefix="order-fanout-") as folder,
        stages.running(Path(folder), url, devices) as stage,
        stages.swarm(stage) as process,
    ):
        heard = Heard(process.stdout)
        heard.wait(CONNECTED, 1)
        return _report(devices, [_turn(stage, heard, number) for number in range(1, rounds + 1)])


def _turn(stage: Stage, heard: Heard, number: int) -> Turn:
    made = stage.propose()
    before = used([os.getpid()])
    reached = _approve(stage, heard, number, made)
    ours = used([os.getpid()]) - before
    _wait(lambda: stage.is_done(made), "the rollout's end")
    before = used([os.getpid()])
    bare_s = _publish(stage, heard, number)
    return Turn(reached, bare_s, ours, used([os.getpid()]) - before)


def _approve(stage: Stage, heard: Heard, number: int, made: int) -> dict[str, float]:
    begun = time.perf_counter()
    stage.approve(made)
    approved = time.perf_counter()
    told = heard.wait(first(ORDERED), number), heard.wait(ORDERED, number)
    _wait(lambda: stage.behind() == 0, "every device's status")
    names = ("the approval is answered", "the first device has its order", "every device has its order", "the server has every word for it")
    return {name: at - begun for name, at in zip(names, (approved, *told, time.perf_counter()), strict=True)}


def _publish(stage: Stage, heard: Heard, number: int) -> float:
    """Seconds that paho needs."""
    envelopes = orders.current(stage.server.engine)
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.tls_set_context(stage.peer().context())
    client.max_inflight_messages_set(_IN_FLIGHT)
    client.connect(*stage.address)
    client.loop_start()
    try:
        if not connected.wait(PATIENCE_S):
            raise RuntimeError("the peer never connected")
        begun = time.perf_counter()
        for device, envelope in envelopes.items():
            client.publish(topics.down(device, Down.ACK), envelope, qos=1, retain=True)
        return heard.wait(BARE, number) - begun
    finally:
        client.disconnect()
        client.loop_stop()


def _wait(holds: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end_s:
            raise RuntimeError(f"waited {PATIENCE_S:.0f} s for {what}")
        time.sleep(_LOOK_S)


def _report(devices: int, turns: Sequence[Turn]) -> Report:
    bare_s = statistics.median(turn.bare_s for turn in turns)
    table = [("", "seconds", "devices a second"), ("paho alone", f"{bare_s:.2f}", f"{devices / bare_s:,.0f}")]
    for name in turns[0].stages:
        at = statistics.median(turn.stages[name] for turn in turns)
        table.append((name, f"{at:.2f}", f"{devices / at:,.0f}" if name.startswith(("every", "the server")) else ""))
    table += [("CPU seconds", "paho's round", "ours")]
    for part in _PARTS:
        theirs, ours = (
            statistics.median(spent[part] for spent in spents) for spents in ([t.theirs for t in turns], [t.ours for t in turns])
        )
        table.append((part, f"{theirs:.2f}", f"{ours:.2f}"))
    ratio = statistics.median(turn.acknowledged_s / turn.bare_s for turn in turns)
    return Report("order-fanout", table, [Aim("times what a bare publisher needs", round(ratio, 2), _AIM, at_most=True)])

"""How long until ten thousand devices have acknowledged their orders, against a bare publisher of as many messages.

From the approval of a rollout on: the rule, signing, the database and its audit log, the broker (Mosquitto, mTLS), the devices (light ones in one
process, which take an order and answer with a status), and back, until the server has stored every device's word for it. The peer is paho
publishing as many retained messages of an order's size through the same broker to the same devices, until all have theirs.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bench import postgres
from bench.measure import Aim, Report, at_least, skip
from bench.order_fanout import stage as stages
from bench.order_fanout.heard import BARE, CONNECTED, ORDERED, PATIENCE_S, Heard
from bench.order_fanout.stage import BUNDLE, Stage
from fleet_contract import topics
from fleet_contract.topics import Down
from fleet_server.mqtt import mosquitto
from fleet_server.services import orders, rollouts
from fleet_server.services.rollouts import Plan

_AIM = 10.0
_LOOK_S = 0.02


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m bench order-fanout --devices 10000 --store postgresql"
    parser.add_argument("--devices", type=at_least(1), default=2_000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=at_least(1), default=3, help="the median counts (default: %(default)s)")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite", help="(default: %(default)s)")


def run(devices: int, rounds: int, store: str) -> Report:
    if mosquitto.find(os.environ.get("PATH", os.defpath)) is None:
        return skip("order-fanout", "Mosquitto is not installed")
    if store == "sqlite":
        return _run(devices, rounds, None)
    obstacle = postgres.obstacle()
    if obstacle is not None:
        return skip("order-fanout", obstacle)
    with postgres.running() as cluster:
        return _run(devices, rounds, cluster.url)


def _run(devices: int, rounds: int, url: str | None) -> Report:
    with (
        tempfile.TemporaryDirectory(prefix="order-fanout-") as folder,
        stages.running(Path(folder), url, devices) as stage,
        stages.swarm(stage) as process,
    ):
        heard = Heard(process.stdout)
        heard.wait(CONNECTED, 1)
        times = [(_approve(stage, heard, turn), _publish(stage, heard, turn)) for turn in range(1, rounds + 1)]
    return _report(devices, times)


def _approve(stage: Stage, heard: Heard, turn: int) -> tuple[float, float]:
    """Seconds until every device has its order, and until the server has every device's word."""
    stage.forget()
    plan = Plan(BUNDLE, devices=tuple(stage.devices), approved=False)
    made = rollouts.create(stage.engine, plan, by="bench", now=stages.now()).id
    begun = time.perf_counter()
    rollouts.approve(stage.engine, made, by="bench", now=stages.now())
    stage.loop.wake()
    heard.wait(ORDERED, turn)
    delivered_s = time.perf_counter() - begun
    _wait(lambda: stage.behind() == 0, "every device's status")
    acknowledged_s = time.perf_counter() - begun
    _wait(lambda: rollouts.get(stage.engine, made).state == "done", "the rollout's end")
    return delivered_s, acknowledged_s


def _publish(stage: Stage, heard: Heard, turn: int) -> float:
    """Seconds that paho needs."""
    size = len(next(iter(orders.current(stage.engine).values())))
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.tls_set_context(stage.peer.context())
    client.max_inflight_messages_set(1_000)
    client.connect("localhost", stage.port)
    client.loop_start()
    try:
        if not connected.wait(PATIENCE_S):
            raise RuntimeError("the peer never connected")
        begun = time.perf_counter()
        for device in stage.devices:
            client.publish(topics.down(device, Down.ACK), bytes(size), qos=1, retain=True)
        heard.wait(BARE, turn)
        return time.perf_counter() - begun
    finally:
        client.disconnect()
        client.loop_stop()


def _wait(holds: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end_s:
            raise RuntimeError(f"waited {PATIENCE_S:.0f} s for {what}")
        time.sleep(_LOOK_S)


def _report(devices: int, times: list[tuple[tuple[float, float], float]]) -> Report:
    delivered, acknowledged, bare = ([*each] for each in zip(*((first, second, peer) for (first, second), peer in times), strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in zip(acknowledged, bare, strict=True))
    table = [("", "seconds", "devices a second")]
    for name, seconds in (
        ("paho alone", bare),
        ("every device has its order", delivered),
        ("the server has every word for it", acknowledged),
    ):
        middle = statistics.median(seconds)
        table.append((name, f"{middle:.2f}", f"{devices / middle:,.0f}"))
    return Report("order-fanout", table, [Aim("times what a bare publisher needs", round(ratio, 2), _AIM, at_most=True)])

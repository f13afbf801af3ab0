"""One process of a virtual fleet: `python -m hil.virtual_fleet.worker`, with a crew.Plan as the first line of its standard input."""

import os
import random
import resource
import secrets
import signal
import sys
import threading
import time
from pathlib import Path

from fleet_contract import garbage
from fleet_contract.backoff import Backoff
from fleet_contract.order import keyid
from hil.virtual_fleet import crew
from hil.virtual_fleet.device import Habits, VirtualDevice
from hil.virtual_fleet.duty import Duty
from hil.virtual_fleet.gate import Gate
from hil.virtual_fleet.library import Library
from hil.virtual_fleet.member import Manner, Member
from hil.virtual_fleet.reactor import Reactor
from hil.virtual_fleet.recording import Recorder
from hil.virtual_fleet.script import Script
from hil.virtual_fleet.tally import DeviceCounts, LaneCounts


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to everybody: the parent closes the pipe
    plan = crew.decode_plan(sys.stdin.buffer.readline())
    _raise_file_limit(len(plan.devices))
    parent = _Parent()
    members = _members(plan)
    garbage.look_rarely()
    reactor = Reactor(
        members,
        Script(plan.scenario),
        duration_s=plan.scenario.duration_s,
        settle_s=plan.scenario.settle_s,
        clock=time.monotonic,
        wall_us=lambda: time.time_ns() // 1_000,
        on_second=lambda second: _say(crew.Heard(second)),
    )
    reactor.run(lambda: parent.begin_s, parent.gone.is_set)
    counts = [_counts(member.device) for member in members]
    _say(crew.Done(reactor.tallies, counts, reactor.last_landed_s, time.process_time(), parent.connecting_cpu_s))
    return 0


def _members(plan: crew.Plan) -> list[Member]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    opened = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(text)) for text in plan.orders_keys]
    keys = {keyid(key): key for key in opened}
    gate = Gate(plan.broker_url, Path(plan.ca), Path(plan.identities))
    script, library = Script(plan.scenario), Library()
    now_s = time.monotonic()
    return [_member(plan, device_id, keys, gate, script, library, now_s) for device_id in plan.devices]


def _member(plan: crew.Plan, device_id: str, keys: dict, gate: Gate, script: Script, library: Library, now_s: float) -> Member:
    load, link = plan.scenario.load, plan.scenario.link
    uniform = random.Random(f"{plan.scenario.seed}/{device_id}")
    recorder = Recorder(epoch=secrets.token_hex(8), boot=secrets.token_hex(16), seed=uniform.getrandbits(32))
    duty = Duty(device_id, plan.profile, keys, library, fetches=script.fetches(device_id), patience_s=link.patience_s)
    device = VirtualDevice(device_id, recorder, duty, library, Habits(load, link, uniform))
    manner = Manner(Backoff(link.reconnect_first_s, link.reconnect_longest_s), uniform)
    return Member(device, gate, manner, now_s + uniform.random() * link.connect_over_s)


def _counts(device: VirtualDevice) -> DeviceCounts:
    lanes = {lane.value: LaneCounts(book.produced, book.acknowledged, book.queued, book.dropped) for lane, book in device.books.items()}
    return DeviceCounts(device.id, device.epoch, lanes, device.duty.bundle, device.duty.counter)


def _say(said: crew.Said) -> None:
    sys.stdout.buffer.write(crew.encode(said) + b"\n")
    sys.stdout.buffer.flush()


class _Parent:
    """Who says when to begin, and is gone when the other end of the standard input is."""

    def __init__(self) -> None:
        self.begin_s: float | None = None
        self.connecting_cpu_s = 0.0
        self.gone = threading.Event()
        threading.Thread(target=self._listen, name="parent", daemon=True).start()

    def _listen(self) -> None:
        said = b""
        while heard := os.read(sys.stdin.fileno(), 1_024):
            said += heard
            if self.begin_s is None and b"\n" in said:
                self.connecting_cpu_s = time.process_time()
                self.begin_s = crew.decode_start(said.partition(b"\n")[0]).begin_s
        self.gone.set()


def _raise_file_limit(devices: int) -> None:
    """A socket each. Where that is not allowed, connecting says so."""
    wanted, (soft, hard) = devices + 256, resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


if __name__ == "__main__":
    sys.exit(main())

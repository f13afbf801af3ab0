"""What the agent takes of a small device: memory, threads, wake-ups and disk; and whether it takes more the longer it runs.

A real agent process, enrolled, on a Mosquitto with the server's own link and file service; its records are acknowledged. First it has no order, then
one for a model of two inputs, which it fetches, proves and runs. Memory without a model is what is resident (RSS, shared libraries whole); with
its worker it is the sum of both shares (PSS). The soak swaps between two bundles and answers in between, in a process of its own.
"""

import argparse
import importlib.metadata
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.footprint.figures import MB, Figures, look, wakeups_per_s
from bench.footprint.fleet import Fleet, running, wait_until
from bench.footprint.install import installed_bytes
from bench.footprint.soak import Soaked
from bench.measure import Aim, Report, at_least, skip
from fleet_server.mqtt import mosquitto
from tests.fakes.agent_run_models import bundle

_IDLE_MB = 45.0
_WORKING_MB = 110.0
_WAKEUPS = 10.0
_GROWTH = 0.02
_SETTLE_S = 5.0
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class _Rest:
    """A process that has nothing to do: its figures, and how often it wakes in a second."""

    figures: Figures
    wakeups_per_s: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m bench footprint --inferences 10000 --swaps 20"
    parser.add_argument("--inferences", type=at_least(100), default=100_000, help="of the soak, at least 100 (default: %(default)s)")
    parser.add_argument("--swaps", type=at_least(10), default=100, help="of the soak, at least 10 (default: %(default)s)")
    parser.add_argument("--seconds", type=at_least(1), default=20, help="that wake-ups are counted for (default: %(default)s)")


def run(inferences: int, swaps: int, seconds: int) -> Report:
    if mosquitto.find(os.environ.get("PATH", os.defpath)) is None:
        return skip("footprint", "Mosquitto is not installed")
    without, working = _rests(seconds)
    soaked = _soak(inferences, swaps)
    table = [
        ("", "RSS MB", "PSS MB with worker", "threads with worker", "wake-ups/s"),
        _line("no model", without),
        _line("an ONNX Runtime model", working),
        (
            f"soak, swap {_early(swaps).stop}",
            f"{_at(soaked.supervisor_bytes, _early(swaps)):.1f}",
            f"{_at(soaked.sum_bytes, _early(swaps)):.1f}",
            "",
            "",
        ),
        (f"soak, swap {swaps}", f"{_at(soaked.supervisor_bytes, _late(swaps)):.1f}", f"{_at(soaked.sum_bytes, _late(swaps)):.1f}", "", ""),
        ("installed, [agent], MB on disk", _installed(), "", "", ""),
    ]
    aims = [
        Aim("MB resident without a model", round(without.figures.rss_bytes / MB, 1), _IDLE_MB, at_most=True),
        Aim("MB with an ONNX Runtime worker, in sum", round(working.figures.pss_bytes / MB, 1), _WORKING_MB, at_most=True),
        Aim("wake-ups a second without a model", round(without.wakeups_per_s, 1), _WAKEUPS, at_most=True),
        Aim("growth over the soak, in sum", growth(soaked.sum_bytes), _GROWTH, at_most=True),
        Aim("growth over the soak, supervisor", growth(soaked.supervisor_bytes), _GROWTH, at_most=True),
    ]
    return Report("footprint", table, aims)


def _rests(seconds: int) -> tuple[_Rest, _Rest]:
    """Without a model, then with one."""
    with ExitStack() as closing, tempfile.TemporaryDirectory(prefix="footprint-") as place:
        fleet = Fleet(Path(place), closing)
        rows = Path(place) / "rows.csv"
        rows.write_text("a,b\n")
        with running(fleet.state, rows) as pid:
            wait_until(fleet.state, lambda shown: bool(shown["link"] and shown["link"]["connected"]))
            without = _rest(pid, seconds)
            fleet.order(bundle(), counter=1)
            wait_until(fleet.state, lambda shown: bool(shown["active"]))
            return without, _rest(pid, seconds)


def _rest(pid: int, seconds: int) -> _Rest:
    time.sleep(_SETTLE_S)
    return _Rest(look(pid), sum(wakeups_per_s(pid, seconds).values()))


def _soak(inferences: int, swaps: int) -> Soaked:
    command = [sys.executable, "-m", "bench.footprint.soak", str(inferences), str(swaps)]
    done = subprocess.run(command, capture_output=True, check=True, cwd=_ROOT)
    return msgspec.json.decode(done.stdout, type=Soaked)


def _installed() -> str:
    try:
        return f"{sum(installed_bytes('agent', _ROOT).values()) / MB:.0f}"
    except importlib.metadata.PackageNotFoundError as error:
        return f"? ({error.name} is missing)"


def _line(name: str, rest: _Rest) -> tuple[str, ...]:
    figures = rest.figures
    return (name, f"{figures.rss_bytes / MB:.1f}", f"{figures.pss_bytes / MB:.1f}", str(figures.threads), f"{rest.wakeups_per_s:.1f}")


def _early(swaps: int) -> slice:
    """The second tenth: by then both bundles have been proven and have served."""
    return slice(swaps // 10, swaps // 5)


def _late(swaps: int) -> slice:
    return slice(swaps - swaps // 10, swaps)


def _at(looks: Sequence[float], part: slice) -> float:
    """Megabytes, the median of a part: an odd and an even swap have another bundle."""
    return statistics.median(looks[part]) / MB


def growth(looks: Sequence[float]) -> float:
    """As a share, from the second tenth to the last."""
    return round(_at(looks, _late(len(looks))) / _at(looks, _early(len(looks))) - 1, 4)

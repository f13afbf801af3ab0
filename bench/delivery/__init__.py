"""What it costs a server to bring one file to 1, 10 and 50 devices at once: shared passes over MQTT, and plain HTTP beside them.

Every part is a process of its own: the server's link and file service (the product's), Mosquitto, the devices (the agent's own delivery, each
with its connection, checking every block and the whole), and as a peer a web server that gives the whole file to each, without TLS and without
ranges. CPU seconds are what the kernel counted for a process while the devices fetched. The broker does the fanning out: its CPU is shown beside,
and is not the server's.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.delivery.stage import Figures, build, fetch_by_http, fetch_by_mqtt
from bench.measure import Aim, Report, skip
from fleet_server.mqtt import mosquitto

_MEGABYTES = 50.0
_COUNTS = (1, 10, 50)
_LAST_TO_FIRST = 0.1
_MEMORY_FOLDER = Path("/dev/shm")
"""The devices' disks are not what is measured."""
_PATIENCE_S = 600.0

Measured = dict[tuple[str, int], Figures]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m bench delivery --megabytes 10 --devices 1 10"
    parser.add_argument("--megabytes", type=_positive, default=_MEGABYTES, help="size of the file (default: %(default)s)")
    parser.add_argument("--devices", type=_count, nargs="+", default=_COUNTS, help="how many at once, ascending (default: 1 10 50)")
    parser.add_argument(
        "--folder", type=Path, help="where the devices' files go (default: memory if there is room, else the temporary folder)"
    )


def run(megabytes: float, devices: Sequence[int], folder: Path | None) -> Report:
    if mosquitto.find(os.environ.get("PATH", os.defpath)) is None:
        return skip("delivery", "Mosquitto is not installed")
    counts = sorted(set(devices))
    length = int(megabytes * 1e6)
    measured: Measured = {}
    with ExitStack() as closing, tempfile.TemporaryDirectory(prefix="delivery-", dir=folder or _roomy(length * (counts[-1] + 2))) as place:
        stage = build(Path(place), length, counts[-1], closing)
        for count in counts:
            measured["MQTT", count] = fetch_by_mqtt(stage, count, _PATIENCE_S)
            measured["HTTP", count] = fetch_by_http(stage, count, _PATIENCE_S)
    return Report("delivery", [_HEAD, *_lines(measured)], _aims(measured, counts))


_HEAD = (
    "way, devices",
    "last verified s",
    "median s",
    "server CPU s",
    "server MB out",
    "MB in",
    "server peak MB",
    "broker CPU s",
    "devices CPU s",
)


def _lines(measured: Measured) -> Iterator[tuple[str, ...]]:
    for (way, count), one in measured.items():
        times = sorted(one.verified_s)
        broker = "-" if one.broker_cpu_s is None else f"{one.broker_cpu_s:.2f}"
        sent = (f"{one.bytes_out / 1e6:.1f}", f"{one.bytes_in / 1e6:.2f}", f"{one.peak_bytes / 1e6:.0f}")
        yield (
            f"{way}, {count}",
            f"{times[-1]:.1f}",
            f"{statistics.median(times):.1f}",
            f"{one.cpu_s:.2f}",
            *sent,
            broker,
            f"{one.devices_cpu_s:.1f}",
        )


def _aims(measured: Measured, counts: list[int]) -> list[Aim]:
    """Between the two largest counts, a device more costs as much as the last one of them."""
    if len(counts) < 2:
        return []
    first, before, last = counts[0], counts[-2], counts[-1]

    def last_to_first(figure: str) -> float | None:
        cost = {count: getattr(measured["MQTT", count], figure) for count in counts}
        return round((cost[last] - cost[before]) / (last - before) / (cost[first] / first), 3) if cost[first] else None

    figures = {"cpu_s": "server CPU", "bytes_out": "server bytes out"}
    held = [
        Aim(f"{name} of the last of {last} devices to the first", last_to_first(figure), _LAST_TO_FIRST, at_most=True)
        for figure, name in figures.items()
    ]
    peer = measured["HTTP", last].bytes_out / measured["MQTT", last].bytes_out
    return [*held, Aim(f"times fewer bytes out than HTTP for {last} devices", round(peer, 1), last / 2)]


def _roomy(needed_bytes: int) -> Path | None:
    try:
        disk = os.statvfs(_MEMORY_FOLDER)
    except OSError:
        return None
    return _MEMORY_FOLDER if disk.f_bavail * disk.f_frsize > 2 * needed_bytes else None


def _positive(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 2_000:
        raise argparse.ArgumentTypeError(f"{text} must be 0.1 to 2000")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 200:
        raise argparse.ArgumentTypeError(f"{text} must be 1 to 200")
    return value

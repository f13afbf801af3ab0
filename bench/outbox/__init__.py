"""Durable records a second of the device's outbox, next to what else could keep them; what it writes for them; and what a kill or a power cut loses.

Records are results of 500 bytes. All contenders write to the same folder and take turns; what the peers keep was encoded before. Of the outbox a
turn ends when the last record is committed. Kills and power cuts hit it while one thread appends and another hands out.
"""

import argparse
import random
import tempfile
from pathlib import Path

from bench.disk import NotHere, disks, enter_private_namespace
from bench.measure import Aim, Report, at_least
from bench.outbox import endings, speed

NAME = "outbox"
TIMES_INSERT = 20
SHARE_OF_RAW = 0.5
MAX_WRITTEN = 2.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m bench outbox --rounds 3 --kills 20 --power-cuts 0"
    parser.add_argument("--rounds", type=at_least(1), default=7, metavar="N", help="turns of each contender (default: 7)")
    parser.add_argument("--kills", type=at_least(0), default=200, metavar="N", help="SIGKILLs, 500 records each (default: 200)")
    parser.add_argument("--power-cuts", type=at_least(0), default=50, metavar="N", help="on a loop device, as root (default: 50)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the moments (default: 1)")
    parser.add_argument(
        "--folder", type=Path, default=None, metavar="DIR", help="on the disk that is measured (default: the temporary one)"
    )


def run(rounds: int, kills: int, power_cuts: int, seed: int, folder: Path | None) -> Report:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="outbox-", dir=folder) as made:
        figures = speed.measure(Path(made), rounds)
        killed = endings.kill(Path(made), kills, chance) if kills else None
    cut, control, why = _cut(power_cuts, chance)
    table = [*figures.table, *_told("SIGKILLs", killed), *_told("power cuts", cut), *_told("control: power cuts, no fsync", control)]
    if why:
        table.append((f"power cuts skipped: {why}", *("",) * (len(table[0]) - 1)))
    return Report(NAME, table, [*_speeds(figures), *_losses(killed, cut, control)])


def _speeds(figures: speed.Figures) -> list[Aim]:
    return [
        Aim("times one INSERT a transaction", figures.times_insert, TIMES_INSERT),
        Aim("share of a raw append with fdatasync per 100", figures.share_of_raw, SHARE_OF_RAW),
        Aim("bytes written a record byte, 100 a call", figures.written, MAX_WRITTEN, at_most=True),
    ]


def _losses(killed: endings.Ending | None, cut: endings.Ending | None, control: endings.Ending | None) -> list[Aim]:
    return [
        Aim("acknowledged records lost to SIGKILLs", float(killed.lost) if killed else None, 0.0, at_most=True),
        Aim("acknowledged records lost to power cuts", float(cut.lost) if cut else None, 0.0, at_most=True),
        Aim("records that the control loses", float(control.lost) if control else None, 1.0),
    ]


def _cut(power_cuts: int, chance: random.Random) -> tuple[endings.Ending | None, endings.Ending | None, str]:
    """With and without fsync; or why not."""
    if not power_cuts:
        return None, None, "none wanted"
    try:
        enter_private_namespace()
        with tempfile.TemporaryDirectory(prefix="outbox-cuts-") as folder, disks(Path(folder)) as made:
            real = endings.cut(Path(folder), made, power_cuts, chance)
            return real, endings.cut(Path(folder), made, max(1, power_cuts // 10), chance, synced=False), ""
    except NotHere as reason:
        return None, None, str(reason)


def _told(name: str, ending: endings.Ending | None) -> list[tuple[str, ...]]:
    return [(f"{name}: {ending.runs}", f"{ending.acknowledged} acknowledged", f"{ending.lost} lost", "")] if ending else []

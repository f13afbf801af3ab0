"""What a model update weighs as a delta, beside bsdiff and the whole file, and what applying it costs a device's memory.

Retrains: a CNN of 327,000 weights on handwritten digits, its head alone, a light fine-tune and a training from other weights, each as the int8 and
the fp32 file that a bundle holds. Releases: successive versions of published models. "whole" is the file by zstd 19, "blocks" what a device lacks of it, in the
packets in which it is sent, "sent" the delta where the publisher would make one, else the blocks. A delta names both files by SHA-256, which is
most of what it has more than detools' smallest. Peak memory is that of a process of its own while it applies, over what it had before.
"""

import argparse
import importlib.util
import itertools
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.delta import applying, peers
from bench.measure import Aim, Report, skip

_RELEASES = Path(__file__).parents[3] / "shared" / "data" / "model_versions"
_LARGE_BYTES = 4 * 2**20
_HEAD = ("update", "file kB", "whole", "blocks", "zstd patch", "bsdiff4", "detools", "delta", "sent", "of whole")


@dataclass(frozen=True)
class Update:
    name: str
    base: bytes
    target: bytes


@dataclass(frozen=True)
class Sizes:
    """Bytes; None where the peer is not installed."""

    update: Update
    whole: int
    blocks: int
    zstd_patch: int
    bsdiff4: int
    detools: int | None
    delta: int
    sent: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m bench delta --releases ../shared/data/model_versions"
    parser.add_argument("--releases", type=_folder, default=_RELEASES, help="folder of NAME__VERSION.SUFFIX models (default: %(default)s)")


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)


def run(releases: Path = _RELEASES) -> Report:
    lacking = [name for name in ("torch", "onnx", "bsdiff4") if importlib.util.find_spec(name) is None]
    if lacking:
        return skip("delta", f"{lacking[0]} is not installed")
    from bench.delta import retrains

    trained = [measured(Update(*update)) for update in retrains.updates()]
    released = [measured(update) for update in successive(releases)]
    peaks = _peaks()
    return Report("delta", [_HEAD, *_lines(trained, released, releases), *_memory(peaks)], _aims(trained, released, peaks))


def successive(folder: Path) -> Iterator[Update]:
    """Each version of each model against the one before it; none when there is no such folder."""
    found = sorted(path for path in folder.glob("*__*.*") if path.is_file())
    for name, versions in itertools.groupby(found, lambda path: path.name.partition("__")[0]):
        for old, new in itertools.pairwise(versions):
            yield Update(f"{name} {_version(old)} to {_version(new)}", old.read_bytes(), new.read_bytes())


def measured(update: Update) -> Sizes:
    from model_tools.delta.making import WORTHWHILE_SHARE, between_files, fetched_bytes

    delta, blocks = len(between_files(update.base, update.target)), fetched_bytes(update.base, update.target)
    return Sizes(
        update,
        peers.zstd_whole(update.target),
        blocks,
        peers.zstd_patch(update.base, update.target),
        peers.bsdiff4(update.base, update.target),
        peers.detools(update.base, update.target),
        delta,
        delta if delta <= WORTHWHILE_SHARE * blocks else blocks,
    )


def _version(path: Path) -> str:
    return path.stem.partition("__")[2]


def _peaks() -> dict[str, int]:
    """Bytes by contender, applying an update of int8 weights of which one in twenty changed by one step."""
    source = random.Random(20)
    base = source.randbytes(_LARGE_BYTES)
    target = bytearray(base)
    for at in source.sample(range(len(base)), len(base) // 20):
        target[at] = (target[at] + source.choice((1, 255))) % 256
    with tempfile.TemporaryDirectory(prefix="delta-") as folder:
        return applying.peaks(Path(folder), base, bytes(target))


def _lines(trained: Sequence[Sizes], released: Sequence[Sizes], folder: Path) -> Iterator[tuple[str, ...]]:
    for sizes in (*trained, *released):
        figures = (sizes.whole, sizes.blocks, sizes.zstd_patch, sizes.bsdiff4, sizes.detools, sizes.delta, sizes.sent)
        yield sizes.update.name, _kb(len(sizes.update.target)), *map(_kb, figures), f"{sizes.sent / sizes.whole:.0%}"
    if not released:
        yield f"successive releases: skipped, there is no {folder}", *[""] * (len(_HEAD) - 1)


def _memory(peaks: dict[str, int]) -> Iterator[tuple[str, ...]]:
    for name, peak in peaks.items():
        yield f"applying {_LARGE_BYTES >> 20} MiB by {name}: peak {peak / 2**20:.1f} MiB", *[""] * (len(_HEAD) - 1)


def _aims(trained: Sequence[Sizes], released: Sequence[Sizes], peaks: dict[str, int]) -> list[Aim]:
    by_name = {sizes.update.name: sizes for sizes in trained}
    head, light = by_name["int8, head only"], by_name["int8, light fine-tune"]
    every = [*trained, *released]
    detools = [sizes.delta / sizes.detools for sizes in every if sizes.detools]
    return [
        Aim("head only: sent of whole, int8", round(head.sent / head.whole, 3), 0.1, at_most=True),
        Aim("light fine-tune: sent of whole, int8", round(light.sent / light.whole, 3), 0.3, at_most=True),
        Aim("largest delta of bsdiff4's", round(max(sizes.delta / sizes.bsdiff4 for sizes in every), 3), 1.0, at_most=True),
        Aim("largest delta of detools'", round(max(detools), 3) if detools else None, 1.05, at_most=True),
        Aim(
            "most sent of blocks, any update",
            round(max(sizes.sent / sizes.blocks for sizes in every if sizes.blocks), 3),
            1.0,
            at_most=True,
        ),
        Aim("releases measured", float(len(released)) if released else None, 1),
        Aim("peak memory of applying, of bsdiff4's", round(peaks["delta"] / peaks["bsdiff4"], 3), 0.25, at_most=True),
        Aim("peak memory of applying, MiB", round(peaks["delta"] / 2**20, 1), 8.0, at_most=True),
    ]


def _kb(size: int | None) -> str:
    return "-" if size is None else f"{size / 1000:.1f}"

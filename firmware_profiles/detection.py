"""Which profile fits the board below a folder that looks like `/`, and why: device tree, DMI, /proc/cpuinfo, driver files. Nothing is run."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware_profiles.availability import missing
from firmware_profiles.catalog import Architecture, Backend, Profile

_ARCHITECTURES: dict[str, Architecture] = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_NARROW: dict[str, Architecture] = {"aarch64": "armv7l", "arm64": "armv7l", "armv8l": "armv7l", "armv7l": "armv7l"}
_COMPATIBLE = ("proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible")
_DMI = ("sys/class/dmi/id/product_name", "sys/class/dmi/id/board_name")
_ENOUGH = 0.85
"""Of the memory that a profile counts on: firmware, GPU and kernel keep the rest to themselves."""
_EXACT, _WORD, _FILE = 100, 50, 1


@dataclass(frozen=True)
class Board:
    """What a system says of itself; 0 and "" where it does not say. `compatible` goes from the board to its chip."""

    compatible: tuple[str, ...] = ()
    dmi: str = ""
    cpuinfo: str = ""
    memory_mb: int = 0
    cores: int = 0


@dataclass(frozen=True)
class Finding:
    """`absent` is what the backend needs and the board lacks; `reason` why the profile does not use it at all."""

    backend: Backend
    absent: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        return self.backend.supported and not self.absent


@dataclass(frozen=True)
class Detection:
    """The proposed profile, `reasons` for it, `warnings` about what it counts on and the board does not have, and its backends in order."""

    profile: Profile
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    backends: tuple[Finding, ...]


def architecture_of(machine: str, bits: int) -> Architecture | None:
    """Of a Python whose platform.machine() is `machine`, the kernel's, and whose pointers have `bits`: on a 64-bit kernel it may be a 32-bit one.
    None: no profile is for it."""
    table = _ARCHITECTURES if bits == 64 else _NARROW
    return table.get(machine.lower())


def detect(root: Path, architecture: Architecture, profiles: Sequence[Profile]) -> Detection:
    """The profile with the best signs; a generic one where none has any. Raises LookupError where there is none of this architecture."""
    board = look(root)
    fitting = [profile for profile in profiles if profile.architecture == architecture]
    if not fitting:
        raise LookupError(f"no hardware profile is for {architecture}")
    ranked = sorted(
        ((*_signs(profile, board, root), profile) for profile in fitting), key=lambda one: (-one[0], not one[2].generic, one[2].name)
    )
    score, reasons, best = ranked[0]
    if not score:
        reasons = [f"no board of the catalogue is known by these signs; {best.name} is for any {architecture}"]
    return Detection(
        profile=best,
        reasons=tuple(reasons),
        warnings=(*_foreign(board, profiles, architecture), *_shortages(best, board)),
        backends=tuple(Finding(backend, tuple(missing(backend, root))) for backend in best.backends),
    )


def look(root: Path) -> Board:
    cpuinfo = _text(root / "proc" / "cpuinfo")
    return Board(
        compatible=_strings(next((text for text in (_text(root / path) for path in _COMPATIBLE) if text), "")),
        dmi=" ".join(word for word in (_text(root / path).strip() for path in _DMI) if word),
        cpuinfo=cpuinfo,
        memory_mb=_memory_mb(_text(root / "proc" / "meminfo")),
        cores=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)),
    )


def _signs(profile: Profile, board: Board, root: Path) -> tuple[int, list[str]]:
    """How well the signs fit, 0 for not at all, and which do. A board's own name stands before its chip's in the device tree, and counts more."""
    signs = profile.signs
    found = [(_EXACT - at, f"the device tree says {name}") for at, name in enumerate(board.compatible) if name in signs.compatible][:1]
    found += [(_WORD, f"DMI says {word}") for word in signs.dmi if word in board.dmi][:1]
    found += [(_WORD, f"/proc/cpuinfo says {word}") for word in signs.cpuinfo if word in board.cpuinfo][:1]
    files = [file for file in signs.files if (root / file.lstrip("/")).exists()]
    named = signs.compatible or signs.dmi or signs.cpuinfo
    if not found and (named or not files or len(files) < len(signs.files)):
        return 0, []
    found += [(_FILE, f"there is {file}") for file in files]
    return sum(weight for weight, _ in found), [reason for _, reason in found]


def _foreign(board: Board, profiles: Sequence[Profile], architecture: Architecture) -> Iterator[str]:
    for profile in profiles:
        if profile.architecture != architecture and not profile.generic and {*profile.signs.compatible} & {*board.compatible}:
            yield f"the board looks like {profile.name}, but this Python is {architecture}: a system for {profile.architecture} would serve better"


def _shortages(profile: Profile, board: Board) -> Iterator[str]:
    if 0 < board.memory_mb < _ENOUGH * profile.memory_mb:
        yield f"{board.memory_mb} MB of memory, the profile counts on {profile.memory_mb}"
    if 0 < board.cores < profile.cores:
        yield f"{board.cores} cores, the profile counts on {profile.cores}"


def _memory_mb(meminfo: str) -> int:
    found = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


def _strings(text: str) -> tuple[str, ...]:
    """Of a device-tree property: each ends with NUL."""
    return tuple(word for word in text.split("\0") if word)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""

"""Peak memory of applying an update, each contender in a process of its own: `python -m bench.delta.applying CONTENDER BASE UPDATE OUT`."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def peaks(folder: Path, base: bytes, target: bytes) -> dict[str, int]:
    """Bytes over what the process held before, by contender. Raises ValueError when one does not make `target`."""
    (folder / "base").write_bytes(base)
    found = {}
    for name, make in _MAKERS.items():
        if importlib.util.find_spec(name) is None and name != "delta":
            continue
        (folder / name).write_bytes(make(base, target))
        command = [sys.executable, "-m", "bench.delta.applying", name, "base", name, "out"]
        done = subprocess.run([*command[:4], *(str(folder / file) for file in command[4:])], capture_output=True, text=True, check=True)
        if (folder / "out").read_bytes() != target:
            raise ValueError(f"{name} does not make the file")
        found[name] = int(done.stdout)
    return found


def _make_delta(base: bytes, target: bytes) -> bytes:
    from model_tools.delta.making import between_files

    return between_files(base, target)


def _make_bsdiff4(base: bytes, target: bytes) -> bytes:
    import bsdiff4

    return bsdiff4.diff(base, target)


def _make_detools(base: bytes, target: bytes) -> bytes:
    import io

    import detools

    out = io.BytesIO()
    detools.create_patch(io.BytesIO(base), io.BytesIO(target), out, compression="lzma")
    return out.getvalue()


_MAKERS: dict[str, Callable[[bytes, bytes], bytes]] = {"delta": _make_delta, "bsdiff4": _make_bsdiff4, "detools": _make_detools}


def _delta() -> Callable[[Path, Path, Path], object]:
    from fleet_contract import delta, limits

    def apply(base: Path, update: Path, out: Path) -> None:
        with out.open("wb") as file:
            delta.apply(base, update, file, limits.MAX_BUNDLE_BYTES)

    return apply


def _bsdiff4() -> Callable[[Path, Path, Path], object]:
    import bsdiff4

    return lambda base, update, out: bsdiff4.file_patch(str(base), str(out), str(update))


def _detools() -> Callable[[Path, Path, Path], object]:
    import detools

    return lambda base, update, out: detools.apply_patch_filenames(str(base), str(update), str(out))


_APPLIERS = {"delta": _delta, "bsdiff4": _bsdiff4, "detools": _detools}


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    contender, *files = sys.argv[1:]
    apply = _APPLIERS[contender]()
    before = _status_bytes("VmRSS")
    apply(*map(Path, files))
    print(max(0, _status_bytes("VmHWM") - before))

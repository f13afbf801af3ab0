"""Folders made up to look like the `/` of a board."""

from pathlib import Path


def put(root: Path, path: str, text: str = "") -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def board(root: Path, *compatible: str, cpuinfo: str = "", memory_mb: int = 16_000, files: tuple[str, ...] = ()) -> Path:
    if compatible:
        put(root, "proc/device-tree/compatible", "".join(f"{name}\0" for name in compatible))
    put(root, "proc/cpuinfo", cpuinfo)
    put(root, "proc/meminfo", f"MemTotal:       {1024 * memory_mb} kB\nMemFree: 1 kB\n")
    for file in files:
        put(root, file)
    return root

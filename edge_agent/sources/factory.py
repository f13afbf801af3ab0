"""From the text that names a source to the source."""

from pathlib import Path

from edge_agent.errors import Fatal
from edge_agent.ports import Clock, Source

_KINDS = "camera:FOLDER, camera:/dev/videoN, camera:VIDEO, camera:URL or csv:FILE"


def open_source(text: str, clock: Clock) -> Source:
    """Raises Fatal (code source) when the text names no source that exists here. Streams are opened at the first read."""
    kind, colon, address = text.partition(":")
    if not (colon and address) or kind not in ("camera", "csv"):
        raise Fatal(f"unknown source {text!r}: give {_KINDS}", code="source")
    return _open_csv(address, clock) if kind == "csv" else _open_camera(address, clock)


def _open_csv(address: str, clock: Clock) -> Source:
    from edge_agent.sources.rows import CsvRows

    if not Path(address).is_file():
        raise Fatal(f"there is no file {address}", code="source")
    return CsvRows(Path(address), clock)


def _open_camera(address: str, clock: Clock) -> Source:
    from edge_agent.sources.camera import CaptureCamera, FolderCamera  # OpenCV costs 30 MB that a sensor does not have

    if Path(address).is_dir():
        return FolderCamera(Path(address), clock)
    if address.isdecimal():
        return CaptureCamera(int(address), clock)
    if "://" in address or Path(address).exists():
        return CaptureCamera(address, clock)
    raise Fatal(f"there is no folder, device or video {address}", code="source")

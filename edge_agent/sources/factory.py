"""From the text that names a source to the source."""

import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import Fatal
from edge_agent.ports import Clock, Source
from edge_agent.sources import address
from edge_agent.sources.address import GRAMMAR, SourceAddress
from edge_agent.sources.backlog import Rules
from edge_agent.sources.intake import Intake
from edge_agent.sources.windowed import Windowed
from fleet_contract import limits

if TYPE_CHECKING:
    from fleet_contract.broker import Tls

LIVE = Rules("drop-oldest")
RECORDED = Rules("block")
"""What does not run away is never dropped."""


def open_source(text: str, clock: Clock, rules: Rules | None = None) -> Source:
    """A source that is read ahead, and feeds models of windows too. `rules` None: LIVE or RECORDED, as its kind is. Raises Fatal (code source)
    when the text names no source that exists here. Streams are opened at the first read."""
    found = address.parse(text)
    match found.kind:
        case "csv" | "jsonl":
            return _open_rows(found, clock, rules)
        case "camera":
            return _open_camera(found.place, clock, rules)
        case "folder":
            return _open_folder(found.place, clock, rules)
        case "mqtt" | "mqtts":
            return Windowed(_open_mqtt(found, clock, rules or LIVE))
        case "push":
            return Windowed(_open_push(found, clock, rules or LIVE))
        case "python":
            return _open_python(found.place, clock, rules)
    raise Fatal(f"unknown source {text!r}: give {GRAMMAR}", code="source")


def origin_of(text: str) -> str:
    """A digest of what a cursor belongs to: the kind and the place, not how it is read. Of a folder or a file it is where links lead to.
    Raises Fatal."""
    found = address.parse(text)
    if found.kind in ("csv", "jsonl"):
        name = f"{found.kind}:{Path(found.place).resolve()}"
    elif found.kind == "folder" or (found.kind == "camera" and Path(found.place).is_dir()):
        name = f"folder:{Path(found.place).resolve()}"
    else:
        name = f"{found.kind}:{found.place}"
    return hashlib.sha256(name.encode()).hexdigest()


def _open_rows(found: SourceAddress, clock: Clock, rules: Rules | None) -> Source:
    from edge_agent.sources.csv_rows import CsvFormat
    from edge_agent.sources.json_rows import JsonFormat
    from edge_agent.sources.replay import Replay
    from edge_agent.sources.row_files import RowFile

    path, time = Path(found.place), found.options.get("time")
    if not path.is_file():
        raise Fatal(f"there is no file {path}", code="source")
    rows = RowFile(path, clock, CsvFormat if found.kind == "csv" else JsonFormat, time)
    if "speed" not in found.options:
        return Intake(Windowed(rows), rules or RECORDED)
    if time is None:
        raise Fatal("a replay at a speed needs time=COLUMN", code="source")
    return Intake(Windowed(Replay(rows, clock, _number(found.options["speed"], "speed"))), rules or RECORDED, longest_idle_s=0)


def _open_camera(place: str, clock: Clock, rules: Rules | None) -> Source:
    from edge_agent.sources.camera import Camera  # OpenCV costs 30 MB that a sensor does not have

    if Path(place).is_dir():
        return _open_folder(place, clock, rules)
    if place.isdecimal():
        return Intake(Camera(int(place), clock), rules or LIVE)
    if Path(place).is_file():
        return Intake(Camera(place, clock), rules or RECORDED)
    if "://" in place or place.startswith("/dev/"):
        return Intake(Camera(place, clock), rules or LIVE)
    raise Fatal(f"there is no folder, device or video {place}", code="source")


def _open_folder(place: str, clock: Clock, rules: Rules | None) -> Source:
    from edge_agent.sources.folder import PictureFolder

    if not Path(place).is_dir():
        raise Fatal(f"there is no folder {place}", code="source")
    return Intake(PictureFolder(Path(place), clock), rules or RECORDED)


def _open_mqtt(found: SourceAddress, clock: Clock, rules: Rules) -> Source:
    from edge_agent.sources.mqtt import Subscription, Topic
    from fleet_contract.broker import Access, parse_url

    url, name = address.split_broker(found)
    parse_url(url, found.kind)
    options = found.options
    if ("user" in options) != ("password-file" in options):
        raise Fatal("user and password-file belong together", code="source")
    access = Access(options["user"], _secret(Path(options["password-file"]))) if "user" in options else Access()
    topic = Topic(url, name, _tls(found), access, options.get("time"))
    return Subscription(topic, f"edgefleet-{secrets.token_hex(8)}", clock, rules)


def _tls(found: SourceAddress) -> "Tls | None":
    from fleet_contract.broker import Tls

    options = found.options
    if found.kind == "mqtt":
        return None
    if "ca" not in options or ("cert" in options) != ("key" in options):
        raise Fatal("mqtts needs ca=FILE, and cert=FILE and key=FILE together or not at all", code="source")
    own = [Path(options[name]) if name in options else None for name in ("cert", "key")]
    tls = Tls(Path(options["ca"]), *own)
    tls.context()
    return tls


def _open_push(found: SourceAddress, clock: Clock, rules: Rules) -> Source:
    from edge_agent.serving.address import parse_address
    from edge_agent.serving.guard import guard_of
    from edge_agent.sources.push import Push

    where = found.place.removeprefix("//").rstrip("/") if found.place.startswith("//") else f"unix:{found.place}"
    listens = parse_address(where)
    token_file = found.options.get("token-file")
    guard = guard_of(listens, Path(token_file) if token_file else None)
    return Push(listens, guard, clock, rules, found.options.get("time"))


def _open_python(place: str, clock: Clock, rules: Rules | None) -> Source:
    from edge_agent.sources.entry_point import EntryPoint, load

    make, argument = load(place)
    return Intake(Windowed(EntryPoint(make, clock, argument)), rules or LIVE)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise Fatal(f"{name} is {text!r}, it must be a number", code="source") from error


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(limits.MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise Fatal(f"cannot read the password file {path}: {error.strerror}", code="source") from error
    if len(data) > limits.MAX_KEY_FILE_BYTES:
        raise Fatal(f"{path} has more than {limits.MAX_KEY_FILE_BYTES} bytes", code="source")
    return data.decode("utf-8", "replace").strip()

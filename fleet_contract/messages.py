"""What goes over MQTT: msgpack `[version, body]`, the body a tagged msgspec Struct. Frozen bytes are in tests/golden/v1."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from fleet_contract import limits
from fleet_contract.answers.detail import Detail
from fleet_contract.errors import MalformedMessage, TooLarge, UnknownVersion
from fleet_contract.sketch import Sketch

VERSION = 1

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""Aware; a naive time on the wire is an error."""
Count = Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_COUNT)]


class Lane(StrEnum):
    """In order of priority: when the outbox is full the last lane gives way first."""

    EVENTS = "events"
    SKETCHES = "sketches"
    TELEMETRY = "telemetry"
    SAMPLES = "samples"


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frozen and strict: an unknown field is an error."""


class Event(Struct, tag="event"):
    """Something happened once: an update step, a refused input, a crash. `kind` is a dotted word, `detail` flat."""

    at: datetime
    kind: str
    detail: dict[str, str | int | float | bool] = {}


class SketchWindow(Struct, tag="sketch"):
    """The statistics of one window of inputs seen by one bundle (`sha256` of the archive), on the edges of its reference."""

    start: datetime
    end: datetime
    bundle: str
    first_input: int
    inputs: int
    sketch: Sketch


class Result(Struct, tag="result"):
    """One inference. `input_id` is the source's name for the input (a file name, a row number), `label` and `value` are those of
    fleet_contract.answers.Answers, `latency_us` from request to answer of the worker. `abstained` is only there where it is true,
    `detail` only where label and value do not say all; of boxes it tells at most limits.MAX_TOLD_BOXES_COUNT."""

    at: datetime
    bundle: str
    input_id: str
    label: str | None
    value: float
    latency_us: int
    abstained: bool | msgspec.UnsetType = msgspec.UNSET
    detail: Detail | msgspec.UnsetType = msgspec.UNSET


class Sample(Struct, tag="sample"):
    """One chosen input for a person to label. `data` is the input as acquired (JPEG bytes; or JSON list of numbers)."""

    at: datetime
    bundle: str
    campaign: str
    input_id: str
    media_type: str
    data: bytes
    label: str | None
    value: float


Record = Event | SketchWindow | Result | Sample

LANE_OF: dict[type, Lane] = {Event: Lane.EVENTS, SketchWindow: Lane.SKETCHES, Result: Lane.TELEMETRY, Sample: Lane.SAMPLES}


class Batch(Struct, tag="batch"):
    """Records `first` .. `first + len(records) - 1` of one lane. Each element is one `encode_record`, so a bad one spoils only itself.

    Unique key of a record: (device, epoch, lane, sequence). The epoch is new when a device's outbox is made anew.
    """

    epoch: str
    lane: Lane
    first: int
    records: list[bytes]


class LaneLedger(Struct):
    """Counts since the epoch began: produced = acknowledged + queued + sum(dropped)."""

    produced: int
    acknowledged: int
    queued: int
    dropped: dict[str, int] = {}


class Status(Struct, tag="status"):
    """What a device observed; retained, republished at each change and as a heartbeat. The last will has `online=False`."""

    at: Moment
    online: bool
    epoch: str
    agent_version: str = ""
    profile: str = ""
    bundle: str | None = None
    bundle_version: str | None = None
    phase: str = "idle"
    order_counter: int = 0
    inputs: int = 0
    refused: dict[str, int] = {}
    ledger: dict[Lane, LaneLedger] = {}
    error: str | None = None
    instance: str | msgspec.UnsetType = msgspec.UNSET
    """Random, new with each start of the agent: two that take turns are two holders of one key."""
    shadow: str | msgspec.UnsetType = msgspec.UNSET
    """The bundle that runs beside `bundle` and is never answered with; only there while one does."""


class Want(Struct, tag="want"):
    """Ask for a repository file. `block_bytes` sets the grid; `need` is a bitmap of wanted block numbers (see blocks.to_bitmap).

    Answered one to one with Packets of the wanted blocks that exist (at most MAX_BLOCKS_PER_REQUEST may be asked), or with one Refusal.
    With `shared` the device listens on topics.shared(path, block_bytes), and `need` may name every block: each is published there once for all
    who want it. Leftovers are asked for one to one.
    """

    request: str
    path: str
    block_bytes: int
    need: bytes
    shared: bool | msgspec.UnsetType = msgspec.UNSET


class Progress(Struct, tag="progress"):
    """Credit for a shared pass: this device has taken the packets up to number `sequence` of the pass `request`.
    Sent once for each full CREDIT_PACKETS, later while records of this device wait too long; the server runs at most MAX_AHEAD_PACKETS
    before the slowest that keeps up."""

    request: str
    sequence: Count


class WantUrl(Struct, tag="want-url"):
    """Ask for a short-lived HTTPS address of a repository file. Answered with one Url or one Refusal."""

    request: str
    path: str


class Ack(Struct, tag="ack"):
    """The server has committed these inclusive ranges of one lane: the device may forget them."""

    epoch: str
    lane: Lane
    ranges: list[tuple[Count, Count]]

    def __post_init__(self) -> None:
        if any(first > last for first, last in self.ranges):
            raise MalformedMessage("a range ends before it begins", field="ranges")


class Packet(Struct, tag="packet"):
    """Some blocks of a file, compressed together; made and opened by fleet_contract.packets alone. `length` is that of the whole file.
    `request` is that of the Want, or names the shared pass; `sequence` counts the packets of one answer or pass from 0."""

    request: str
    sequence: Count
    length: Count
    block_bytes: int
    numbers: list[Count]
    codec: Literal["none", "zstd"]
    data: bytes


class Url(Struct, tag="url"):
    """Where the file of a WantUrl may be had by HTTPS GET, ranges included, until `expires_at`. The address is the permission: it is a secret."""

    request: str
    url: str
    expires_at: Moment


class Refusal(Struct, tag="refusal"):
    """Why a request was not answered: `code` is not-found, bad-request, too-large, quarantined, no-http, or pass-left: the device is too slow for
    the shared pass and goes on one to one."""

    request: str
    code: str
    reason: str


FromDevice = Status | Batch | Want | Progress | WantUrl
ToDevice = Ack | Packet | Url | Refusal
Message = FromDevice | ToDevice

_encoder = msgspec.msgpack.Encoder()
_from_device = msgspec.msgpack.Decoder(FromDevice)
_to_device = msgspec.msgpack.Decoder(ToDevice)
_record = msgspec.msgpack.Decoder(Record)
_envelope = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])


def encode(message: Message) -> bytes:
    """Raises TooLarge when the message exceeds limits.MAX_MESSAGE_BYTES."""
    wire = _encoder.encode((VERSION, _sparse(message)))
    if len(wire) > limits.MAX_MESSAGE_BYTES:
        raise TooLarge(
            f"message of {len(wire)} bytes, at most {limits.MAX_MESSAGE_BYTES}",
            field=type(message).__name__,
            limit=limits.MAX_MESSAGE_BYTES,
        )
    return wire


def decode_from_device(wire: bytes) -> FromDevice:
    """Raises TooLarge, MalformedMessage or UnknownVersion."""
    message = _decode(wire, _from_device)
    if isinstance(message, Batch) and not 1 <= len(message.records) <= limits.MAX_BATCH_RECORDS:
        raise TooLarge(f"batch of {len(message.records)} records", field="records", limit=limits.MAX_BATCH_RECORDS)
    if isinstance(message, Batch) and not 0 <= message.first <= limits.MAX_COUNT:
        raise MalformedMessage(f"sequence number {message.first} is out of range", field="first", limit=limits.MAX_COUNT)
    return message


def decode_to_device(wire: bytes) -> ToDevice:
    """Raises TooLarge, MalformedMessage or UnknownVersion."""
    return _decode(wire, _to_device)


def encode_record(record: Record) -> bytes:
    """Raises TooLarge when the record exceeds limits.MAX_RECORD_BYTES."""
    wire = _encoder.encode(record)
    if len(wire) > limits.MAX_RECORD_BYTES:
        raise TooLarge(f"record of {len(wire)} bytes", field=type(record).__name__, limit=limits.MAX_RECORD_BYTES)
    return wire


def decode_record(wire: bytes) -> Record:
    """Raises TooLarge or MalformedMessage."""
    if len(wire) > limits.MAX_RECORD_BYTES:
        raise TooLarge(f"record of {len(wire)} bytes", field="record", limit=limits.MAX_RECORD_BYTES)
    try:
        return _record.decode(wire)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"malformed record: {error}", field="record") from error


def _sparse(message: Message) -> object:
    """A Struct that might have 16 fields is written with the header of a long map, whatever is unset: only a map itself keeps a short Status as it was."""
    return msgspec.to_builtins(message, builtin_types=(datetime,)) if isinstance(message, Status) else message


def _decode(wire: bytes, decoder: msgspec.msgpack.Decoder):
    if len(wire) > limits.MAX_MESSAGE_BYTES:
        raise TooLarge(f"message of {len(wire)} bytes", field="message", limit=limits.MAX_MESSAGE_BYTES)
    try:
        version, body = _envelope.decode(wire)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not a [version, body] message: {error}", field="message") from error
    if version != VERSION:
        raise UnknownVersion(f"message version {version} is not {VERSION}: upgrade the older side", field="version", limit=VERSION)
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"malformed message: {error}", field="body") from error

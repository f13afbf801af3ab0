"""What goes over MQTT: msgpack `[version, body]`, the body a tagged msgspec Struct. Frozen bytes are in tests/golden/v1."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from fleet_contract import limits
from fleet_contract.answers.detail import Detail
from fleet_contract.errors import MalformedMessage, TooLarge, UnknownVersion
from fleet_contract.file_messages import Packet, Progress, Refusal, Url, Want, WantUrl
from fleet_contract.lanes import Lane
from fleet_contract.sketch import Sketch
from fleet_contract.wire import Count, Moment, Struct

VERSION = 1


class Event(Struct, tag="event"):
    """Something happened once: an update step, a refused input, a crash. `kind` is a dotted word, `detail` flat."""

    at: datetime
    kind: str
    detail: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)


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


ClockState = Literal["trusted", "untrusted", "corrected"]
"""Of the device's wall clock when a record was made: untrusted ones were dated by a clock that nothing had set; corrected ones were dated again
once it was, by the monotonic time beside them."""


class Trace(Struct):
    """One record that somebody follows (W3C Trace Context): `id` and `parent` in hex, `sequence` its number in the batch that carries it, and when
    the device recorded, committed and sent it, by its own clock. `latency_us` is that of the inference."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    parent: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    sequence: Count
    recorded_at: Moment
    committed_at: Moment
    sent_at: Moment
    latency_us: Count = 0


class Batch(Struct, tag="batch"):
    """`count` records of one lane, numbered `first`, `first + stride`, ... A batch is sealed: whenever it is sent again, it is the same.
    `data` is made and opened by fleet_contract.batches alone; `length` is how long it is decompressed. `boot` names the run of the device's
    monotonic clock that the records' monotonic times are of.

    Unique key of a record: (device, epoch, lane, sequence). The epoch is new when a device's outbox is made anew.
    """

    epoch: str
    lane: Lane
    first: Count
    count: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_BATCH_RECORDS)]
    codec: Literal["none", "zstd"]
    length: Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_BATCH_DATA_BYTES)]
    data: bytes
    boot: Annotated[str, msgspec.Meta(max_length=limits.MAX_NAME_CHARS)]
    clock: ClockState = "trusted"
    stride: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_STRIDE_COUNT)] = 1
    trace: Trace | msgspec.UnsetType = msgspec.UNSET

    @property
    def sequences(self) -> range:
        return range(self.first, self.first + self.count * self.stride, self.stride)

    @property
    def last(self) -> int:
        return self.first + (self.count - 1) * self.stride

    def __post_init__(self) -> None:
        if self.last > limits.MAX_COUNT:
            raise MalformedMessage(f"sequence number {self.last} is out of range", field="first", limit=limits.MAX_COUNT)


DAMAGED = "damaged"
"""Why a record was dropped that the server may have all the same: it was damaged on the device, and nobody knows whether it had arrived."""

OUTBOX_RESET = "outbox.reset"
"""The kind of the event with which an epoch begins after damage: `carried` records of the one before are numbered anew, `lost` are dropped."""

DROP_REASONS = frozenset({"thinned", "quota", "too-large", "malformed", "disk-slow", "disk-full", DAMAGED})
"""Why a device gives a record up (docs/records.md)."""


class LaneLedger(Struct):
    """Counts since the epoch began: produced = acknowledged + queued + sum(dropped). `oldest` is the lowest number that is queued still, `produced`
    where none is: what the server lacks below it was dropped, or is lost."""

    produced: int
    acknowledged: int
    queued: int
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    oldest: int | msgspec.UnsetType = msgspec.UNSET


class DiskUse(Struct):
    """Of the outbox: bytes that wait, its quota, and since the epoch began the bytes of records and those written to the disk for them."""

    queued_bytes: Count
    quota_bytes: Count
    record_bytes: Count
    written_bytes: Count


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
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    ledger: dict[Lane, LaneLedger] = msgspec.field(default_factory=dict)
    error: str | None = None
    instance: str | msgspec.UnsetType = msgspec.UNSET
    """Random, new with each start of the agent: two that take turns are two holders of one key."""
    shadow: str | msgspec.UnsetType = msgspec.UNSET
    """The bundle that runs beside `bundle` and is never answered with; only there while one does."""
    clock: ClockState | msgspec.UnsetType = msgspec.UNSET
    disk: DiskUse | msgspec.UnsetType = msgspec.UNSET
    heartbeat_s: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_UPLINK_WAIT_S)] | msgspec.UnsetType = msgspec.UNSET
    """While all is well the next one comes within this time; only there where it is more than a minute."""


class Ack(Struct, tag="ack"):
    """The server has committed these inclusive ranges of one lane: the device may forget them."""

    epoch: str
    lane: Lane
    ranges: list[tuple[Count, Count]]

    def __post_init__(self) -> None:
        if any(first > last for first, last in self.ranges):
            raise MalformedMessage("a range ends before it begins", field="ranges")


class Follow(Struct, tag="follow"):
    """Follow the next inference that the device records: its batch carries a Trace of this id and parent."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    parent: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


FromDevice = Status | Batch | Want | Progress | WantUrl
ToDevice = Ack | Packet | Url | Refusal | Follow
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
    return _decode(wire, _from_device)


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

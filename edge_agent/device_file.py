"""The device's own configuration, a TOML file beside the orders of the fleet: what it serves, and whereto results go. docs/configuration.md."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge_agent.errors import Fatal
from edge_agent.link.settings import ClockSettings, UplinkSettings
from edge_agent.outbox.settings import OutboxSettings
from edge_agent.sinks.settings import SinkSpec
from fleet_contract import limits

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Serving(_Struct):
    """Addresses are HOST:PORT or unix:PATH. Beyond this board a token file is needed. `record`: what the fleet's model is asked is recorded like a
    source's inputs."""

    http: list[str] = []
    grpc: list[str] = []
    token_file: str | None = None
    record: bool = True


class LocalModel(_Struct):
    """A bundle of this device's own, which no fleet orders: the digest says which bytes are meant."""

    name: _Name
    bundle: str
    sha256: str


class Member(_Struct):
    model: _Name
    weight: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 1.0


class Ensemble(_Struct):
    """Models that answer together: the weighted mean of what they say, or a weighted vote on the class."""

    name: _Name
    rule: Literal["average", "vote"]
    members: Annotated[list[Member], msgspec.Meta(min_length=2, max_length=16)]


class Shadow(_Struct):
    """A candidate that sees what `model` sees (the fleet's, if none is named) and is compared with it; nobody gets its answers."""

    bundle: str
    sha256: str
    model: _Name | None = None
    every_inputs: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_COUNT)] = 1_000


class Queue(_Struct):
    """What may wait between a source and the model, and what happens when it is more."""

    policy: Literal["drop-oldest", "drop-newest", "block"]
    max_inputs: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_QUEUED_INPUTS_COUNT)] = 64


class DeviceFile(_Struct):
    """`source` as on the command line; its inputs go to the fleet's model, or to the ensemble `ask`, whose first member that is."""

    source: str | None = None
    ask: _Name | None = None
    sinks: list[SinkSpec] = []
    serving: Serving = Serving()
    models: list[LocalModel] = []
    ensembles: list[Ensemble] = []
    shadows: list[Shadow] = []
    queue: Queue | None = None
    outbox: OutboxSettings = OutboxSettings()
    uplink: UplinkSettings = UplinkSettings()
    clock: ClockSettings = ClockSettings()


def read(path: Path) -> DeviceFile:
    """Raises Fatal naming the field."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.MAX_DEVICE_FILE_BYTES + 1)
    except OSError as error:
        raise Fatal(f"cannot read the configuration {path}: {error.strerror}", code="config") from error
    if len(data) > limits.MAX_DEVICE_FILE_BYTES:
        raise Fatal(f"the configuration {path} has more than {limits.MAX_DEVICE_FILE_BYTES} bytes", code="config")
    return parse(data, str(path))


def parse(data: bytes, name: str) -> DeviceFile:
    """Raises Fatal naming the field."""
    try:
        return msgspec.convert(tomllib.loads(data.decode()), DeviceFile, strict=True)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Fatal(f"{name}: {error}", code="config") from error

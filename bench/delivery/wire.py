"""What the benchmark's processes tell each other: the plan in a file, words on stdin, one JSON object a line on stdout."""

import sys
from pathlib import Path

import msgspec

from fleet_contract.blocks import BlockIndex
from fleet_contract.mqtt import Tls


class Identity(msgspec.Struct, frozen=True):
    ca: str
    certificate: str
    key: str

    @property
    def tls(self) -> Tls:
        return Tls(Path(self.ca), Path(self.certificate), Path(self.key))


class Plan(msgspec.Struct, frozen=True):
    """`served` is the repository's folder with the file at `path`; `index` and `sha256` are what a signed target would say of it."""

    served: str
    path: str
    sha256: str
    index: BlockIndex
    broker_url: str
    server: Identity
    devices: dict[str, Identity]
    parts: str
    website: str = ""


class Counted(msgspec.Struct, frozen=True):
    """What a server has received and sent since it began, without the frames of MQTT, HTTP, TLS and TCP."""

    bytes_in: int
    bytes_out: int


class Verified(msgspec.Struct, frozen=True):
    """Seconds from the start to the verified whole, by device."""

    seconds: dict[str, float]


def plan() -> Plan:
    return msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)


def say(message: object) -> None:
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()

"""What one process of a virtual fleet is told, and what it says: JSON lines on its standard input and output."""

import msgspec

from hil.virtual_fleet.scenario import Scenario
from hil.virtual_fleet.tally import DeviceCounts, PhaseTally, Second


class Plan(msgspec.Struct, frozen=True):
    """The first line: who is to connect. `orders_keys` are raw Ed25519 keys in hex. The end of the standard input ends the process."""

    devices: list[str]
    profile: str
    broker_url: str
    ca: str
    identities: str
    orders_keys: list[str]
    scenario: Scenario


class Start(msgspec.Struct, frozen=True):
    """The second line, once all are connected. `begin_s` is of the machine's monotonic clock, which all processes share."""

    begin_s: float


class Heard(msgspec.Struct, frozen=True, tag="second"):
    """Second 0 comes again and again until the start."""

    second: Second


class Done(msgspec.Struct, frozen=True, tag="done"):
    """`tallies` in the order of the script's phases; `settled_s` from the start to the last acknowledgement; `cpu_s` of this process, and
    `connecting_cpu_s` of it before the start."""

    tallies: list[PhaseTally]
    devices: list[DeviceCounts]
    settled_s: float | None
    cpu_s: float
    connecting_cpu_s: float


Said = Heard | Done
encode = msgspec.json.Encoder().encode
decode_plan = msgspec.json.Decoder(Plan).decode
decode_start = msgspec.json.Decoder(Start).decode
decode_said = msgspec.json.Decoder(Said).decode

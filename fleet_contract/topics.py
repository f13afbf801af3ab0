"""The only place where an MQTT topic is spelt. A device may publish below `up/` and read below `down/` of its own id alone."""

import hashlib
from enum import StrEnum

from fleet_contract import names
from fleet_contract.errors import BadName, BadTopic

ROOT = "edgefleet/v1"
SHARED = "_shared"
"""Stands where a device id stands; no device id has an underscore."""
_SHARED_CHARS = 32
_SHARED_BLOCKS = f"{ROOT}/{SHARED}/blocks/"


class Up(StrEnum):
    """What a device publishes. `status` is retained and is also the last will."""

    STATUS = "status"
    RECORDS = "records"
    WANT = "want"


class Down(StrEnum):
    """What the server publishes to one device. `order` is retained."""

    ORDER = "order"
    ACK = "ack"
    TRACE = "trace"
    BLOCKS = "blocks"


def up(device: str, kind: Up) -> str:
    return f"{ROOT}/{names.device_id(device)}/up/{kind.value}"


def down(device: str, kind: Down) -> str:
    return f"{ROOT}/{names.device_id(device)}/down/{kind.value}"


def shared(path: str, block_bytes: int) -> str:
    """Where the blocks of one repository file go for every device that wants them. Devices may read here, the server alone writes."""
    grid = f"{path}|{block_bytes}".encode()
    return f"{_SHARED_BLOCKS}{hashlib.sha256(grid).hexdigest()[:_SHARED_CHARS]}"


def all_up(kind: Up | None = None) -> str:
    """The server's subscription to one kind (or every kind) from every device."""
    return f"{ROOT}/+/up/{kind.value if kind else '+'}"


def all_down_of(kind: Down) -> str:
    """What goes to every device, for an ACL."""
    return f"{ROOT}/+/down/{kind.value}"


def shared_subscription(group: str, filter: str) -> str:
    """Of what matches the filter, each message goes to one of the group's subscribers (MQTT 5, 4.8.2)."""
    return f"$share/{names.name(group, 'group')}/{filter}"


def all_down(device: str) -> str:
    """A device's one subscription."""
    return f"{ROOT}/{names.device_id(device)}/down/+"


def parse_up(topic: str) -> tuple[str, Up]:
    """Return (device id, kind). Raises BadTopic."""
    device, kind = _parse(topic, "up")
    try:
        return device, Up(kind)
    except ValueError:
        raise BadTopic(f"unknown kind {kind!r} in topic {topic!r}", field="topic") from None


def parse_down(topic: str) -> tuple[str, Down]:
    """Return (device id, kind). Raises BadTopic."""
    device, kind = _parse(topic, "down")
    try:
        return device, Down(kind)
    except ValueError:
        raise BadTopic(f"unknown kind {kind!r} in topic {topic!r}", field="topic") from None


def device_may(device: str, topic: str, *, write: bool) -> bool:
    """The ACL: may the identity `device` publish to (write) or subscribe to / receive from `topic`?"""
    mine = f"{ROOT}/{device}/"
    if is_shared(topic):
        return not write
    if write:
        return topic.startswith(mine + "up/") and topic.removeprefix(mine + "up/") in set(Up)
    return topic == mine + "down/+" or (topic.startswith(mine + "down/") and topic.removeprefix(mine + "down/") in set(Down))


def worker_may(topic: str, *, write: bool) -> bool:
    """The ACL of those who take in records: may they publish to (write) or subscribe to / receive from `topic`?"""
    try:
        return parse_down(topic)[1] is Down.ACK if write else topic == all_up(Up.RECORDS) or parse_up(topic)[1] is Up.RECORDS
    except BadTopic:
        return False


def is_shared(topic: str) -> bool:
    """Whether this is one topic of `shared`; a filter with a wildcard is not."""
    rest = topic.removeprefix(_SHARED_BLOCKS)
    return topic.startswith(_SHARED_BLOCKS) and len(rest) == _SHARED_CHARS and all(c in "0123456789abcdef" for c in rest)


def mosquitto_patterns() -> tuple[str, ...]:
    """The same ACL in Mosquitto's acl_file syntax; %u is the certificate's CN."""
    return (f"pattern write {ROOT}/%u/up/+", f"pattern read {ROOT}/%u/down/+", f"pattern read {_SHARED_BLOCKS}+")


def _parse(topic: str, direction: str) -> tuple[str, str]:
    parts = topic.removeprefix(ROOT + "/").split("/")
    if not topic.startswith(ROOT + "/") or len(parts) != 3 or parts[1] != direction:
        raise BadTopic(f"{topic!r} is not {ROOT}/<device>/{direction}/<kind>", field="topic")
    try:
        return names.device_id(parts[0]), parts[2]
    except BadName as error:
        raise BadTopic(str(error), field="topic") from error

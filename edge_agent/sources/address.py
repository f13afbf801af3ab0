"""The text that names a source. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from edge_agent.errors import Fatal

GRAMMAR = (
    "camera:/dev/videoN, camera:URL, camera:VIDEO, folder:DIR, csv:FILE, jsonl:FILE, mqtt://HOST[:PORT]/TOPIC, "
    "push://HOST:PORT, push:SOCKET or python:MODULE:ATTRIBUTE[:ARGUMENT]"
)
_BROKER = ("time", "user", "password-file")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "csv": ("time", "speed"),
    "jsonl": ("time", "speed"),
    "mqtt": _BROKER,
    "mqtts": (*_BROKER, "ca", "cert", "key"),
    "push": ("time", "token-file"),
}
_VERBATIM = ("camera", "folder", "python")
_TEXT = re.compile(r"([a-z]+):(.+)", re.DOTALL)
_CREDENTIALS = re.compile(r"//[^/?#\s]*@")
_BROKER_PLACE = re.compile(r"//([^/?]+)/(.+)")


@dataclass(frozen=True)
class SourceAddress:
    """`place` is all between the kind and the options."""

    kind: str
    place: str
    options: Mapping[str, str]


def parse(text: str) -> SourceAddress:
    """Raises Fatal (code source) for a kind or an option that is not known. Only kinds with options give a question mark a meaning."""
    found = _TEXT.fullmatch(text)
    if found is None or found[1] not in (*_OPTIONS, *_VERBATIM):
        raise Fatal(f"unknown source {redact(text)!r}: give {GRAMMAR}", code="source")
    kind, rest = found.groups()
    if kind in _VERBATIM:
        return SourceAddress(kind, rest, {})
    place, _, query = rest.partition("?")
    if not place:
        raise Fatal(f"{redact(text)!r} does not say where: give {GRAMMAR}", code="source")
    return SourceAddress(kind, place, _options(kind, query))


def redact(text: str) -> str:
    """The same without the user and the password that a URL in it holds, for whoever it is shown to."""
    return _CREDENTIALS.sub("//***@", text)


def split_broker(address: SourceAddress) -> tuple[str, str]:
    """URL and topic. A question mark in a topic is written as %3F. Raises Fatal."""
    if _CREDENTIALS.match(address.place):
        raise Fatal(f"give the broker's user as ?user=NAME&password-file=FILE, not in {redact(address.place)}", code="source")
    found = _BROKER_PLACE.fullmatch(address.place)
    topic = unquote(found[2]) if found else ""
    if found is None or not _is_filter(topic):
        raise Fatal(f"{address.kind}:{address.place} is no {address.kind}://HOST[:PORT]/TOPIC", code="source")
    return f"{address.kind}://{found[1]}", topic


def _is_filter(topic: str) -> bool:
    """MQTT 5, 4.7: wildcards are whole levels, and # is the last."""
    levels = topic.split("/")
    return all("\0" not in level and (level in ("+", "#") or not {*"+#"} & {*level}) for level in levels) and "#" not in levels[:-1]


def _options(kind: str, query: str) -> dict[str, str]:
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise Fatal(f"{query!r} holds no options NAME=VALUE&...: {error}", code="source") from error
    known = _OPTIONS[kind]
    for name, value in given:
        if name not in known or not value:
            raise Fatal(f"a {kind} source has the options {', '.join(known)}, each with a value; not {name}={value}", code="source")
    if len({name for name, _ in given}) < len(given):
        raise Fatal(f"{query!r} holds an option twice", code="source")
    return dict(given)

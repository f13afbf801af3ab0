"""The head of a request (RFC 9112), read strictly: what two readers could understand differently is refused. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge_agent.serving.refusals import Refused
from fleet_contract import limits

_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (\S+) HTTP/(\d)\.(\d)")
_FIELD = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n]*)")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_ONCE = frozenset({"host", "content-length", "transfer-encoding", "content-encoding", "authorization", "inference-header-content-length"})
_LENGTH = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Head:
    """`path` begins with a slash and is as it was sent; `fields` by their names in lower case. `length` is the body's, None when it is chunked."""

    method: str
    path: str
    fields: Mapping[str, str]
    length: int | None
    keep_alive: bool
    expects: bool

    def field(self, name: str) -> str | None:
        return self.fields.get(name)


def parse(block: bytes) -> Head:
    """What stands before the empty line. Raises Refused with codes bad-request, unknown-version, unknown-transfer, unknown-expectation or
    head-too-large."""
    first, *lines = block.decode("latin-1").split("\r\n")
    found = _LINE.fullmatch(first)
    if found is None or _FORBIDDEN.search(first):
        raise Refused("the first line is no request line of HTTP")
    method, target, major, minor = found.groups()
    if major != "1":
        raise Refused(f"HTTP {major}.{minor} is not spoken here, only 1.1", code="unknown-version")
    fields = _fields(lines)
    if minor != "0" and "host" not in fields:
        raise Refused("there is no Host field")
    return Head(
        method,
        _path(target),
        MappingProxyType(fields),
        _length(fields),
        keep_alive=minor != "0" and "close" not in fields.get("connection", "").lower(),
        expects=_expects(fields),
    )


def parse_length(text: str, name: str) -> int:
    """Raises Refused."""
    if _LENGTH.fullmatch(text) is None:
        raise Refused(f"{name} is no length")
    return int(text)


def _fields(lines: list[str]) -> dict[str, str]:
    if len(lines) > limits.MAX_HTTP_FIELDS_COUNT:
        raise Refused(f"{len(lines)} header fields, at most {limits.MAX_HTTP_FIELDS_COUNT}", code="head-too-large")
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None or _FORBIDDEN.search(line):
            raise Refused("a header field is malformed")
        name, value = found[1].lower(), found[2].rstrip(" \t")
        if name not in fields:
            fields[name] = value
        elif name in _ONCE:
            raise Refused(f"{name} is given twice")
        else:
            fields[name] += f", {value}"
    return fields


def _path(target: str) -> str:
    path = _ABSOLUTE.sub("", target, count=1).partition("?")[0]
    if not path.startswith("/"):
        raise Refused("the request's target is no path")
    return path


def _length(fields: Mapping[str, str]) -> int | None:
    coding = fields.get("transfer-encoding")
    if coding is None:
        return parse_length(fields.get("content-length", "0"), "Content-Length")
    if "content-length" in fields:
        raise Refused("both Content-Length and Transfer-Encoding are given")
    if coding.lower() != "chunked":
        raise Refused("of transfer codings only chunked is known", code="unknown-transfer")
    return None


def _expects(fields: Mapping[str, str]) -> bool:
    wanted = fields.get("expect")
    if wanted is not None and wanted.lower() != "100-continue":
        raise Refused("only 100-continue may be expected", code="unknown-expectation")
    return wanted is not None

"""The body of a request: framed by length or chunks (RFC 9112), plain or compressed, never more than its bound."""

import re
import zlib

from edge_agent.serving.http.bounds import Share
from edge_agent.serving.http.head import Head
from edge_agent.serving.http.stream import Stream
from edge_agent.serving.refusals import Refused
from fleet_contract import limits

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def check_length(head: Head, max_bytes: int) -> None:
    """Raises Refused (too-large) for one that says beforehand that it is."""
    if head.length is not None and head.length > max_bytes:
        raise Refused(f"the body has {head.length} bytes, at most {max_bytes}", code="too-large")


def read(stream: Stream, head: Head, share: Share, max_bytes: int) -> bytes | memoryview:
    """The whole body. `share` pays for it. Raises Refused (too-large, overloaded, too-slow, bad-request, unknown-encoding)."""
    data = _chunks(stream, share, max_bytes) if head.length is None else stream.take(head.length, share.add)
    coding = (head.field("content-encoding") or "identity").lower()
    return data if coding == "identity" else _inflated(data, coding, share, max_bytes)


def _chunks(stream: Stream, share: Share, max_bytes: int) -> bytes:
    whole = bytearray()
    while size := _size(stream.line(limits.MAX_HTTP_LINE_BYTES)):
        if len(whole) + size > max_bytes:
            raise Refused(f"the body has more than {max_bytes} bytes", code="too-large")
        whole += stream.take(size, share.add)
        if stream.line(limits.MAX_HTTP_LINE_BYTES):
            raise Refused("a chunk is longer than it says")
    for _ in range(limits.MAX_HTTP_FIELDS_COUNT):
        if not stream.line(limits.MAX_HTTP_LINE_BYTES):
            return bytes(whole)
    raise Refused(f"more than {limits.MAX_HTTP_FIELDS_COUNT} fields behind the body")


def _size(line: bytes) -> int:
    found = _CHUNK.fullmatch(line)
    if found is None:
        raise Refused("a chunk does not say its size")
    return int(found[1], 16)


def _inflated(data: bytes | memoryview, coding: str, share: Share, max_bytes: int) -> bytes:
    if coding not in _WINDOW_BITS:
        raise Refused(f"of content codings only gzip and deflate are known, not {coding[:40]!r}", code="unknown-encoding")
    decoder = zlib.decompressobj(_WINDOW_BITS[coding])
    try:
        plain = decoder.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise Refused(f"the body is not {coding}: {error}") from error
    if len(plain) > max_bytes:
        raise Refused(f"the body has more than {max_bytes} bytes once it is inflated", code="too-large")
    if not decoder.eof or decoder.unused_data:
        raise Refused(f"the body is not one whole {coding} stream")
    share.add(len(plain))
    return plain

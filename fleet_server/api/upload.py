"""Receiving a multipart upload straight into files of a folder: a bundle may be larger than memory and than /tmp."""

import contextlib
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from fleet_server.errors import BadRequest, TooLarge


@contextlib.contextmanager
def folder_for(parent: Path) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".upload-", dir=parent) as made:
        yield Path(made)


async def receive(request: Request, folder: Path, max_bytes: dict[str, int], optional: Collection[str] = ()) -> dict[str, Path]:
    """Write each part to `folder`/<name>; part names and their bounds are the keys and values of `max_bytes`. Those named in `optional` may lack.

    Raises BadRequest (not multipart, malformed, a part unknown, repeated or missing) or TooLarge naming the part.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise BadRequest("the body must be multipart/form-data", field="content-type")
    parts = _Parts(folder, max_bytes)
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except MultipartParseError as error:
        raise BadRequest(f"the multipart body is malformed: {error}", field="body") from error
    finally:
        parts.close()
    missing = [name for name in max_bytes if name not in parts.done and name not in optional]
    if missing:
        raise BadRequest(f"the upload lacks the part {missing[0]!r}", field=missing[0])
    return {name: folder / name for name in max_bytes if name in parts.done}


@dataclass
class _Parts:
    """The parser's callbacks: headers in, then data to the part's file."""

    folder: Path
    max_bytes: dict[str, int]
    done: set[str] = field(default_factory=set)
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _name: str = ""
    _written: int = 0
    _file: BinaryIO | None = None

    def callbacks(self) -> dict:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._write,
            "on_part_end": self._end,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._disposition = b""

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _open(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name", b"").decode("utf-8", "replace")
        if name not in self.max_bytes or name in self.done:
            raise BadRequest(f"the upload has an unknown or repeated part {name!r}; it takes {', '.join(self.max_bytes)}", field="body")
        self._name, self._written = name, 0
        self._file = (self.folder / name).open("xb")

    def _write(self, data: bytes, start: int, end: int) -> None:
        self._written += end - start
        limit = self.max_bytes[self._name]
        if self._written > limit:
            raise TooLarge(f"part {self._name!r} has more than {limit} bytes", field=self._name, limit=limit)
        if self._file is not None:
            self._file.write(data[start:end])

    def _end(self) -> None:
        self.close()
        self.done.add(self._name)

"""A TOML file as a strict struct: whatever is wrong is told by its key, with what is allowed there."""

import hashlib
import math
import re
import tomllib
import types
import typing
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from fleet_contract import limits
from fleet_contract.errors import ContractError
from model_tools.errors import BadTask

T = TypeVar("T", bound=msgspec.Struct)


def read_toml(path: Path, kind: type[T]) -> tuple[T, str]:
    """The file as this struct, and the SHA-256 of its bytes. Raises BadTask naming the key (as `section.key`) and what is allowed."""
    data = _read(path)
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadTask(f"{path.name} is not TOML: {error}", field=path.name) from error
    _check_keys(table, kind, "")
    try:
        return msgspec.convert(table, kind), hashlib.sha256(data).hexdigest()
    except msgspec.ValidationError as error:
        raise _as_bad_task(str(error), path.name) from error
    except ContractError as error:
        raise BadTask(str(error), field=error.field, limit=error.limit) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.MAX_TASK_FILE_BYTES + 1)
    except OSError as error:
        raise BadTask(f"cannot read {path}: {error.strerror}", field=path.name) from error
    if len(data) > limits.MAX_TASK_FILE_BYTES:
        raise BadTask(f"{path.name} is too large", field=path.name, limit=limits.MAX_TASK_FILE_BYTES)
    return data


def _check_keys(table: object, kind: object, where: str) -> None:
    """What msgspec's messages leave out: which keys and words are allowed. And its bounds let NaN pass."""
    struct = _struct_of(table, kind, where)
    if struct is None or not isinstance(table, dict):
        return
    fields = {f.encode_name: f.type for f in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field if struct.__struct_config__.tag is not None else None
    allowed = [*([tag] if tag else []), *fields]
    for key, value in table.items():
        field = where + key
        if key not in allowed:
            raise BadTask(f"unknown key {field!r}; allowed here: {', '.join(allowed)}", field=field, limit=", ".join(allowed))
        if any(isinstance(number, float) and not math.isfinite(number) for number in (value if isinstance(value, list) else [value])):
            raise BadTask(f"{field} must be finite", field=field)
        if key != tag:
            _check_word(value, fields[key], field)
            _check_keys(value, fields[key], f"{field}.")


def _check_word(value: object, kind: object, field: str) -> None:
    options = [word for part in _options(kind) if typing.get_origin(part) is Literal for word in typing.get_args(part)]
    if options and value not in options:
        known = ", ".join(map(str, options))
        raise BadTask(f"{field} is {value!r}; allowed: {known}", field=field, limit=known)


def _struct_of(table: object, kind: object, where: str) -> type[msgspec.Struct] | None:
    """The struct that a table of this declared type is to become; of a tagged union the one that its tag names."""
    structs = [option for option in _options(kind) if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    if len(structs) < 2 or not isinstance(table, dict):
        return structs[0] if structs else None
    field = structs[0].__struct_config__.tag_field
    by_tag = {s.__struct_config__.tag: s for s in structs}
    if field in table and table[field] not in by_tag:
        known = ", ".join(by_tag)
        raise BadTask(f"{where}{field} is {table[field]!r}; allowed: {known}", field=where + field, limit=known)
    return by_tag.get(table.get(field))


def _options(kind: object) -> tuple[object, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else (kind,)


_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(\w+)`")
_BOUND = re.compile(r"(?:>=|<=|>|<) (-?[\d.e+]+)")


def _as_bad_task(message: str, name: str) -> BadTask:
    found = _AT.match(message)
    what, where = found["what"], found["where"] or ""
    if missing := _MISSING.search(what):
        where = f"{where}.{missing[1]}".lstrip(".")
        return BadTask(f"{name} lacks {where!r}", field=where)
    bound = _BOUND.search(what)
    return BadTask(f"{where or name}: {what}", field=where or None, limit=float(bound[1]) if bound else None)

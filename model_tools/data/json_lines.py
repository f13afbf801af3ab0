"""Tables of one flat JSON object a line."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from fleet_contract import limits
from model_tools.data.rows import bounded, check_header
from model_tools.data.table import BLOCK_ROWS, Block, Table
from model_tools.errors import BadData

_NOTHING = ""


def open_json_lines(path: Path) -> Table:
    """Its columns are the keys of all objects, in the order in which they first appear. Raises BadData: no file, a line that is no object, a value that
    is an object or a list."""
    keys: dict[str, None] = {}
    for _, row in _objects(path):
        keys.update(dict.fromkeys(row))
        if len(keys) > limits.MAX_CSV_COLUMNS:
            break
    header = check_header(list(keys), path.name)
    return Table(path.name, header, lambda: _blocks(path, header))


def _blocks(path: Path, header: tuple[str, ...]) -> Iterator[Block]:
    objects = _objects(path)
    while rows := list(islice(objects, BLOCK_ROWS)):
        yield Block(rows[0][0], [[_word(row.get(key), key, at) for at, row in rows] for key in header])


def _objects(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    try:
        file = path.open(encoding="utf-8-sig")
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}", field=path.name) from error
    decoder = msgspec.json.Decoder(dict[str, object])
    with file:
        for row, line in enumerate((line for line in bounded(file, path) if line.strip()), start=1):
            try:
                yield row, {key.strip(): value for key, value in decoder.decode(line).items()}
            except (msgspec.MsgspecError, RecursionError) as error:
                raise BadData(f"row {row} of {path.name} is no JSON object: {error}", field=f"row {row}") from error


def _word(value: object, key: str, row: int) -> str:
    match value:
        case None:
            return _NOTHING
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return repr(value)
    raise BadData(f"row {row}, key {key!r}: an object or a list is no cell", field=key, limit=f"row {row}")

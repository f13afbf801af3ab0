"""Many small files of one day and task as one large one: a question opens each file that it needs."""

from datetime import datetime
from itertools import groupby

import pyarrow as pa
from sqlalchemy import Row

from fleet_contract import limits
from fleet_server.lake import catalogue, parquet
from fleet_server.lake.turn import Lake
from fleet_server.tables.database import reading, writing

_FEWEST_FILES = 16
_MOST_FILES = 256
_LARGE_BYTES = 32 * limits.MIB
"""A file of this size is left alone."""
_MERGED_BYTES = 64 * limits.MIB
_SMALLEST_BYTES = 64 * limits.KIB
_TIER_BITS = 3
"""Files of a tier differ by less than a factor of eight."""


def merge_once(lake: Lake, now: datetime) -> int:
    """Merge the day and task that has the most small files, where they are many, or at least two of a day that is over. Returns how many files
    went. Raises OSError or SQLAlchemyError."""
    with reading(lake.engine) as connection:
        files = catalogue.listed(connection)
    chosen = _choose(files, now.date().isoformat())
    if not chosen:
        return 0
    content = pa.concat_tables([parquet.read(lake.root, row.path) for row in chosen]).unify_dictionaries()
    first, last = min(row.first for row in chosen), max(row.last for row in chosen)
    made = parquet.save(lake.root, _free(lake, chosen[0].day, chosen[0].task, first, last), content)
    with writing(lake.engine) as connection:
        catalogue.add(connection, [made], now)
        catalogue.drop(connection, [row.id for row in chosen], now)
    return len(chosen)


def _choose(files: list[Row], today: str) -> list[Row]:
    """Of today those of about one size: else what was merged a moment ago would be written again with every few newcomers."""

    def group(row: Row) -> tuple[str, str, int]:
        return row.day, row.task, _tier(row.bytes) if row.day >= today else 0

    small = sorted((row for row in files if row.bytes < _LARGE_BYTES), key=lambda row: (*group(row), row.first, row.id))
    groups = [list(rows) for _, rows in groupby(small, key=group)]
    ripe = [rows for rows in groups if len(rows) >= (_FEWEST_FILES if rows[0].day >= today else 2)]
    return _fitting(max(ripe, key=len)) if ripe else []


def _tier(size: int) -> int:
    return max(0, size // _SMALLEST_BYTES).bit_length() // _TIER_BITS


def _fitting(rows: list[Row]) -> list[Row]:
    """The oldest of them, as many as make one file that need not be merged again."""
    size, chosen = 0, []
    for row in rows[:_MOST_FILES]:
        if len(chosen) > 1 and size + row.bytes > _MERGED_BYTES:
            break
        chosen.append(row)
        size += row.bytes
    return chosen


def _free(lake: Lake, day: str, task: str, first: int, last: int) -> str:
    """A path that no file has: an earlier merge may have covered the same ids."""
    part = 0
    while (lake.root / parquet.place(day, task, first, last, part)).exists():
        part += 1
    return parquet.place(day, task, first, last, part)

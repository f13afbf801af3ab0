"""Taking one device out of the files of the lake: each that holds something of it is written anew without."""

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Connection, Row, delete, select, update

from fleet_server.lake import parquet
from fleet_server.lake.turn import Lake
from fleet_server.tables.database import reading, writing
from fleet_server.tables.lake import LakeFile


def forget_device(lake: Lake, device: str) -> int:
    """How many inferences that removed from files that count; those that count no more are rewritten too, while they lie there. Safe to repeat.
    For the one process that writes the lake. Raises OSError or SQLAlchemyError."""
    with reading(lake.engine) as connection:
        files = list(connection.execute(select(LakeFile).order_by(LakeFile.id)))
    return sum(_forget(lake, row, device) for row in files)


def _forget(lake: Lake, row: Row, device: str) -> int:
    path = lake.root / row.path
    if not path.exists():
        return 0
    left = _without(path, lake.root, row.path, device)
    with writing(lake.engine) as connection:
        if left is not None:
            _correct(connection, row, left)
    if left is not None and left.rows == 0:
        path.unlink(missing_ok=True)
    return row.rows - left.rows if left is not None and row.gone_at is None else 0


def _without(path: Path, root: Path, name: str, device: str) -> parquet.Made | None:
    """What the file is now; None where it held nothing of the device. With no row left it stays for the caller to remove."""
    known = pc.unique(pq.read_table(path, columns=["device"], partitioning=None)["device"]).to_pylist()
    if device not in known:
        return None
    day, task, first, last = parquet.parse(name)
    if known == [device]:
        return parquet.Made(name, day, task, first, last, 0, 0, 0, 0)
    whole = parquet.read(root, name)
    return parquet.save(root, name, whole.filter(pc.not_equal(whole["device"].cast("string"), device)))


def _correct(connection: Connection, row: Row, made: parquet.Made) -> None:
    mine = LakeFile.id == row.id
    if made.rows == 0:
        connection.execute(delete(LakeFile).where(mine))
        return
    values = {"rows": made.rows, "bytes": made.bytes, "at_min_us": made.at_min_us, "at_max_us": made.at_max_us}
    connection.execute(update(LakeFile).where(mine).values(**values))

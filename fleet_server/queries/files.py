"""Which files of the lake a question needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import Engine, select

from fleet_contract.instants import microseconds
from fleet_server.queries.question import Cursor, Question
from fleet_server.tables.database import reading
from fleet_server.tables.lake import LakeFile


@dataclass(frozen=True)
class Listed:
    """A file whose rows lie between these times, in microseconds since 1970."""

    path: str
    at_min_us: int
    at_max_us: int


def needed(engine: Engine, question: Question, after: Cursor | None = None) -> list[Listed]:
    """Those that may hold an answer, by day and then as they were written."""
    wanted = select(LakeFile.path, LakeFile.at_min_us, LakeFile.at_max_us).where(LakeFile.gone_at.is_(None))
    least = [microseconds(question.since)] if question.since else []
    if after and not question.group_by:
        least.append(after.values[0])
    if least:
        wanted = wanted.where(LakeFile.at_max_us >= max(least))
    if question.until:
        wanted = wanted.where(LakeFile.at_min_us < microseconds(question.until))
    if question.task is not None:
        wanted = wanted.where(LakeFile.task == question.task)
    with reading(engine) as connection:
        rows = connection.execute(wanted.order_by(LakeFile.day, LakeFile.first, LakeFile.path))
        return [Listed(*row) for row in rows]


def spells(files: Sequence[Listed]) -> Iterator[list[Listed]]:
    """Files whose times overlap stay together; spell after spell in the order of time, each answer as much as twice the one before: who wants a
    first page reads the first files, and who finds nothing there is soon through with all."""
    apart = iter(_apart(files))
    number = 1
    while some := list(islice(apart, number)):
        yield [file for spell in some for file in spell]
        number *= 2


def _apart(files: Sequence[Listed]) -> Iterator[list[Listed]]:
    spell: list[Listed] = []
    end = 0
    for file in sorted(files, key=lambda file: (file.at_min_us, file.path)):
        if spell and file.at_min_us > end:
            yield spell
            spell = []
        end = max(end, file.at_max_us) if spell else file.at_max_us
        spell.append(file)
    if spell:
        yield spell

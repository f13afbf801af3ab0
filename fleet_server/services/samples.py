"""Samples that devices sent, and the labels that people give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, Row, Select, insert, select, update

from fleet_contract import limits
from fleet_contract.outputs import labels_of
from fleet_server.errors import BadRequest, NotFound
from fleet_server.fleet import Fleet
from fleet_server.services import audit, bundles
from fleet_server.services.orders import campaign_id
from fleet_server.tables.bundle import Bundle
from fleet_server.tables.database import reading, writing
from fleet_server.tables.sample import Label, Sample


@dataclass(frozen=True)
class Filter:
    """None: any."""

    device: str | None = None
    labelled: bool | None = None
    finding: int | None = None


def page(engine: Engine, wanted: Filter, *, after: int, limit: int) -> list[Row]:
    """Samples with `truth`, None where nobody has labelled them."""
    query = _with_truth().where(Sample.id > after).order_by(Sample.id).limit(limit)
    if wanted.device is not None:
        query = query.where(Sample.device == wanted.device)
    if wanted.labelled is not None:
        query = query.where(Label.label.is_not(None) if wanted.labelled else Label.label.is_(None))
    if wanted.finding is not None:
        query = query.where(Sample.campaign == campaign_id(wanted.finding))
    with reading(engine) as connection:
        return list(connection.execute(query))


def content(fleet: Fleet, sample: int) -> tuple[Path, str]:
    """The file and media type of a sample. Raises NotFound."""
    with reading(fleet.engine) as connection:
        row = connection.execute(select(Sample.sha256, Sample.media_type).where(Sample.id == sample)).one_or_none()
    if row is None or not (fleet.samples / row.sha256).is_file():
        raise NotFound(f"there is no sample {sample}", field="sample")
    return fleet.samples / row.sha256, row.media_type


def label(fleet: Fleet, given: Sequence[tuple[int, str]], *, by: str, now: datetime) -> int:
    """Write labels down, all or none; a second label corrects the first, the same again changes nothing. Returns how many samples are meant.

    Raises BadRequest naming the label that is no class of its sample's bundle, NotFound naming the sample that is none.
    """
    if not 1 <= len(given) <= limits.MAX_LABELS_PER_REQUEST:
        raise BadRequest(f"1 to {limits.MAX_LABELS_PER_REQUEST} labels at once", field="labels", limit=limits.MAX_LABELS_PER_REQUEST)
    with writing(fleet.engine) as connection:
        known = _known(connection, {sample for sample, _ in given})
        classes = _classes(connection, {row.bundle for row in known.values()})
        for at, (sample, word) in enumerate(given):
            _check(at, sample, word, known, classes)
        changed = {sample: word for sample, word in dict(given).items() if known[sample].truth != word}
        for sample, word in changed.items():
            _write(connection, sample, word, known[sample].truth is not None, by, now)
        if changed:
            detail = {"labels": {str(sample): [known[sample].truth, word] for sample, word in changed.items()}}
            audit.append(connection, by, "label.store", "labels", detail, now)
    fleet.wake()
    return len({sample for sample, _ in given})


def labelled_for(connection: Connection, task: str) -> list[Row]:
    """Every labelled sample of a task, whatever bundle it was taken under, oldest first."""
    mine = select(Bundle.sha256).where(Bundle.task == task)
    query = _with_truth().where(Label.label.is_not(None), Sample.bundle.in_(mine)).order_by(Sample.id)
    return list(connection.execute(query))


def _with_truth() -> Select:
    return select(*Sample.__table__.columns, Label.label.label("truth")).outerjoin(Label, Label.sample == Sample.id)


def _known(connection: Connection, ids: set[int]) -> dict[int, Row]:
    return {row.id: row for row in connection.execute(_with_truth().where(Sample.id.in_(sorted(ids))))}


def _classes(connection: Connection, wanted: set[str]) -> dict[str, list[str]]:
    found = connection.execute(select(Bundle.sha256, Bundle.manifest).where(Bundle.sha256.in_(sorted(wanted))))
    return {row.sha256: labels_of(bundles.manifest_of(row).output) for row in found}


def _check(at: int, sample: int, word: str, known: Mapping[int, Row], classes: Mapping[str, list[str]]) -> None:
    if sample not in known:
        raise NotFound(f"there is no sample {sample}", field=f"labels[{at}].sample")
    allowed = classes.get(known[sample].bundle, [])
    if not allowed:
        raise BadRequest(f"the model of sample {sample} does not answer with words: it cannot be labelled", field=f"labels[{at}].sample")
    if word not in allowed:
        shown = ", ".join(allowed[:20]) + (", ..." if len(allowed) > 20 else "")
        raise BadRequest(f"{word!r} is no class of sample {sample}; its classes are {shown}", field=f"labels[{at}].label")


def _write(connection: Connection, sample: int, word: str, again: bool, by: str, now: datetime) -> None:
    values = {"label": word, "labelled_by": by, "labelled_at": now}
    if again:
        connection.execute(update(Label).where(Label.sample == sample).values(**values))
    else:
        connection.execute(insert(Label).values(sample=sample, **values))

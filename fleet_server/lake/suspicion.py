"""Which messages of a segment no turn can store: found by trying them, so that what nobody foresaw holds up nobody else."""

import logging
from datetime import datetime

from pyarrow import ArrowException
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, OperationalError, ProgrammingError, SQLAlchemyError

from fleet_server.domain.twins import Memory
from fleet_server.inbox.port import Segment
from fleet_server.inbox.segment import Arrival
from fleet_server.lake import opening, turn
from fleet_server.lake.turn import Lake

log = logging.getLogger(__name__)

_UNFORESEEN = (SQLAlchemyError, ArrowException, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError)
_OF_THE_VALUES = (DataError, IntegrityError, NotSupportedError, ProgrammingError)
_SQLITE_TOOBIG = 18
_LIMIT_EXCEEDED = "54"
"""PostgreSQL's class of errors for what is too long, which the driver files with a database that is away."""


def culprits(lake: Lake, segment: Segment, after: int, now: datetime) -> frozenset[bytes]:
    """The data of those batches that cannot be stored, alone or beside those before them. Nothing is stored. Raises OSError, Conflict or
    SQLAlchemyError where it is nobody's fault: a database that is away or full would accuse everybody."""
    found: set[bytes] = set()
    good: list[Arrival] = []
    waiting = [segment.arrivals]
    while waiting:
        some = waiting.pop()
        error = _fault(lake, Segment(segment.id, [*good, *some]), after, now)
        if error is None:
            good += some
        elif len(some) > 1:
            waiting += [some[len(some) // 2 :], some[: len(some) // 2]]
        else:
            log.error("a message of %s cannot be stored, and counts as malformed: %s", some[0].device, type(error).__name__)
            found |= {piece.batch.data for piece in opening.pieces(some)[0]}
    return frozenset(found)


def _fault(lake: Lake, segment: Segment, after: int, now: datetime) -> Exception | None:
    try:
        turn.take(lake, [segment], after, now, twins=Memory(), rehearsal=True)
    except OSError:
        raise
    except _UNFORESEEN as error:
        if not _is_of_the_values(error):
            raise
        return error
    return None


def _is_of_the_values(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return True
    if isinstance(error, OperationalError):
        state, code = getattr(error.orig, "sqlstate", None), getattr(error.orig, "sqlite_errorcode", None)
        return code == _SQLITE_TOOBIG or str(state).startswith(_LIMIT_EXCEEDED)
    return isinstance(error, _OF_THE_VALUES)

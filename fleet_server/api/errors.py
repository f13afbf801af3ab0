"""The one table from domain errors to HTTP statuses, and the one shape of an error."""

from collections import Counter
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException as StarletteHTTPException

from fleet_contract.errors import ContractError
from fleet_contract.errors import TooLarge as ContractTooLarge
from fleet_server import errors
from fleet_server.api.schema import Failure

STATUS_OF: dict[type[Exception], int] = {
    errors.BadRequest: 400,
    errors.Unauthorised: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.TooLarge: 413,
    errors.Unavailable: 503,
    errors.ServerError: 500,
    ContractTooLarge: 413,
    ContractError: 400,
}
INVALID = 422
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Failure, "description": "What was wrong: a stable code, a sentence, the field and the limit it broke."}
}
_HTTP_CODES = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}


class BodyTooLarge(HTTPException):
    """An HTTPException: FastAPI would turn any other error met while it reads a body into a 400."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the request body has more than {limit} bytes")
        self.limit = limit


def refuse(request: Request, status: int, code: str, message: str, field: str | None = None, limit: Any = None) -> JSONResponse:
    """A `failure` that is counted."""
    request.app.state.refusals[code] += 1
    return failure(status, code, message, field, limit)


def failure(status: int, code: str, message: str, field: str | None = None, limit: str | int | float | None = None) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    body = {"error": {"code": code, "message": message, "field": field, "limit": limit}}
    return JSONResponse(body, status, headers=headers)


def install(app: FastAPI) -> None:
    """Give every error of the API the one shape, and count it by its code in `app.state.refusals`."""
    app.state.refusals = Counter()
    app.add_exception_handler(errors.ServerError, _domain)
    app.add_exception_handler(ContractError, _domain)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(Exception, _unforeseen)


def status_of(error: Exception) -> int:
    """The status of the nearest class in the table."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


async def _domain(request: Request, error: Any) -> JSONResponse:
    return refuse(request, status_of(error), error.code, str(error), error.field, error.limit)


async def _validation(request: Request, error: Any) -> JSONResponse:
    """The first thing that is wrong; the value itself is never repeated, for it may be a secret."""
    first = error.errors()[0]
    where = [part for part in first["loc"] if part not in ("body", "query", "path")]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".") or "body"
    return refuse(request, INVALID, "invalid", f"{field}: {first['msg']}", field, _limit_of(first.get("ctx") or {}))


async def _http(request: Request, error: Any) -> JSONResponse:
    too_large = isinstance(error, BodyTooLarge)
    field, limit = ("body", error.limit) if too_large else (None, None)
    return refuse(request, error.status_code, _HTTP_CODES.get(error.status_code, "http-error"), str(error.detail), field, limit)


async def _database(request: Request, _error: Any) -> JSONResponse:
    """Its text may hold the statement's values."""
    return refuse(request, 503, "unavailable", "the database is busy or away: try again")


async def _unforeseen(request: Request, _error: Any) -> JSONResponse:
    """The server raises it again after this answer, and so logs it."""
    return refuse(request, 500, "internal", "the server made a mistake; its log says more")


def _limit_of(context: dict[str, Any]) -> str | int | float | None:
    known = ("le", "ge", "lt", "gt", "max_length", "min_length", "pattern", "expected")
    return next((context[name] for name in known if isinstance(context.get(name), (str, int, float))), None)

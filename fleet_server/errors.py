"""The server's domain errors; api/errors.py holds the one table from these to HTTP statuses."""

_MAX_BRIEF_CHARS = 300


def brief(error: Exception) -> str:
    """One line. Of a database's error without the statement and its parameters, which may hold what devices recorded."""
    told = str(getattr(error, "orig", None) or error).splitlines()
    return f"{type(error).__name__}: {told[0][:_MAX_BRIEF_CHARS] if told else ''}"


class ServerError(Exception):
    """`field` and `limit` name what was wrong, where there is something to name."""

    code = "server-error"

    def __init__(self, message: str, *, field: str | None = None, limit: str | int | float | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.limit = limit
        self.code = code or type(self).code


class BadRequest(ServerError):
    code = "bad-request"


class Unauthorised(ServerError):
    code = "unauthorised"


class Forbidden(ServerError):
    code = "forbidden"


class NotFound(ServerError):
    code = "not-found"


class Conflict(ServerError):
    """The thing was already done, used or is in another state."""

    code = "conflict"


class Gone(ServerError):
    """It was once valid and is expired."""

    code = "gone"


class TooLarge(ServerError):
    code = "too-large"


class Unavailable(ServerError):
    """A part of the server is not up just now: try again."""

    code = "unavailable"

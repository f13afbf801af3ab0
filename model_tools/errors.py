"""The workbench's errors, cut by exit code: what the caller gave was wrong (2), a gate refused the model (3), something else failed (1)."""

_MOST_CHARS = 300


def first_line(error: Exception) -> str:
    """In short what a library explains at length, with stack traces; its kind where it says nothing."""
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return told[:_MOST_CHARS]


class ToolError(Exception):
    """`field` names what was wrong and `limit` the bound it broke, where there is something to name."""

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, *, field: str | None = None, limit: str | int | float | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.limit = limit
        self.code = code or type(self).code


class Failed(ToolError):
    """The world was not ready: a server that refuses or does not answer, a disk that is full."""


class BadInput(ToolError):
    """A file, an option or a key that the person has to change."""

    code = "bad-input"
    exit_code = 2


class BadTask(BadInput):
    """The task file: an unknown key, a value out of range."""

    code = "bad-task"


class BadData(BadInput):
    """The data that the task names: a missing column, NaN labels, one class only."""

    code = "bad-data"


class GateFailed(ToolError):
    """The model works and is not good enough. Nothing was released."""

    code = "gate-failed"
    exit_code = 3

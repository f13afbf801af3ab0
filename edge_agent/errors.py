"""The agent's errors, cut by what the caller does next."""


class AgentError(Exception):
    """`code` is a stable word that is counted and reported."""

    code = "agent"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code


class Retry(AgentError):
    """The world was not ready (network, disk, broker): the same step may work later, unchanged."""

    code = "retry"


class Reject(AgentError):
    """This input, order or bundle is wrong and stays wrong: count it, report it, go on with what works."""

    code = "reject"


class Missing(Reject):
    """The server has no such file."""

    code = "not-found"


class Unproven(Reject):
    """No variant of a bundle is right on any backend of this board; `measurements` (ports.Measurement) are what each showed."""

    def __init__(self, message: str, *, code: str, measurements: tuple = ()) -> None:
        super().__init__(message, code=code)
        self.measurements = measurements


class Fatal(AgentError):
    """The agent cannot do its work until a person acts (no identity, broken configuration)."""

    code = "fatal"

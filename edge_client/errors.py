"""What a call may end with, cut by what the caller does next."""


class ClientError(Exception):
    """Of every call."""


class Unreachable(ClientError):
    """Nobody answers at that address, or not in time."""


class _Told(ClientError):
    """`status` is HTTP's, `code` the agent's stable word."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Refused(_Told):
    """The request is wrong as it stands: an unknown model, a tensor that does not fit, no token ..."""


class Busy(_Told):
    """The same request may work later: no model yet, too much to do, a deadline that passed, a worker that was lost."""


class Faulty(_Told):
    """The agent, or its model, failed."""

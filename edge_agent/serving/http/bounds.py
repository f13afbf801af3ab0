"""How much, and how long, the server bears."""

import threading
from dataclasses import dataclass

from edge_agent.serving.refusals import Refused
from fleet_contract import limits


@dataclass(frozen=True)
class Bounds:
    """A connection may be silent for `idle_s` between two requests; then the whole of a request must come within `request_s`, and its answer be
    taken within `write_s`. What a refused caller still sends is discarded for `linger_s`, so that it reads the refusal. Bodies of all
    connections, and their answers, hold at most `bodies_bytes`; requests that are under way at the end have `closing_s`."""

    connections: int = 64
    body_bytes: int = limits.MAX_HTTP_BODY_BYTES
    bodies_bytes: int = 2 * limits.MAX_HTTP_BODY_BYTES
    idle_s: float = 75.0
    request_s: float = 30.0
    write_s: float = 30.0
    linger_s: float = 2.0
    closing_s: float = 10.0


class Budget:
    """Bytes that the bodies and the answers of all connections may hold together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._held_bytes = 0

    def share(self) -> "Share":
        return Share(self)

    def add(self, count: int) -> None:
        """Raises Refused (overloaded)."""
        with self._lock:
            if count > 0 and self._held_bytes + count > self._max_bytes:
                raise Refused(f"requests hold {self._held_bytes} bytes already, together at most {self._max_bytes}", code="overloaded")
            self._held_bytes += count


class Share:
    """Of one request, until its end."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held_bytes = 0

    def __enter__(self) -> "Share":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.add(-self._held_bytes)

    def add(self, count: int) -> None:
        """Raises Refused (overloaded)."""
        self._budget.add(count)
        self._held_bytes += count

"""How each bundle has behaved in this process, counted where its answers arrive."""

import threading
from collections import Counter

from edge_agent.ports import Conduct

_KEPT = 2
_COUNTED_AS = {
    "child-crash": "crashes",
    "child-timeout": "hangs",
    "non-finite": "non_finite",
    "memory": "over_memory",
}
"""Any other refusal is a wrong answer."""


class ConductBook:
    """Of the bundle that serves and the one before it. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: dict[str, Counter[str]] = {}
        self._failures: Counter[str] = Counter()

    def open(self, sha256: str) -> None:
        """This bundle serves from now on, with a clean page; older ones but the last are forgotten."""
        with self._lock:
            self._pages.pop(sha256, None)
            self._pages[sha256] = Counter()
            for old in list(self._pages)[:-_KEPT]:
                del self._pages[old]

    def read(self, sha256: str) -> Conduct:
        with self._lock:
            return Conduct(**self._pages.get(sha256, {}))

    def answered(self, sha256: str, rows: int, latency_us: int, granted_us: float) -> None:
        with self._lock:
            page = self._pages.get(sha256)
            if page is not None:
                page["answered"] += rows
                page["requests"] += 1
                page["busy_us"] += latency_us
                page["slow"] += latency_us > granted_us

    def failed(self, sha256: str | None, code: str) -> None:
        """`sha256` None: nobody's fault but the caller's."""
        with self._lock:
            self._failures[code] += 1
            page = None if sha256 is None else self._pages.get(sha256)
            if page is not None:
                page[_COUNTED_AS.get(code, "wrong")] += 1

    def failures(self, code: str) -> int:
        """Of all bundles, ever."""
        return self._failures[code]

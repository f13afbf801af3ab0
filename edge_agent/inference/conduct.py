"""How each bundle has behaved in this process, counted where its answers arrive."""

import threading
from dataclasses import fields, replace

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
        self._pages: dict[str, Conduct] = {}

    def open(self, sha256: str) -> None:
        """This bundle serves from now on, with a clean page; older ones but the last are forgotten."""
        with self._lock:
            self._pages.pop(sha256, None)
            self._pages[sha256] = Conduct()
            for old in list(self._pages)[:-_KEPT]:
                del self._pages[old]

    def read(self, sha256: str) -> Conduct:
        with self._lock:
            return self._pages.get(sha256, Conduct())

    def answered(self, sha256: str, rows: int, latency_us: int, granted_us: float) -> None:
        self._add(sha256, answered=rows, requests=1, busy_us=latency_us, slow=int(latency_us > granted_us))

    def failed(self, sha256: str, code: str) -> None:
        self._add(sha256, **{_COUNTED_AS.get(code, "wrong"): 1})

    def _add(self, sha256: str, **counts: int) -> None:
        with self._lock:
            page = self._pages.get(sha256)
            if page is not None:
                self._pages[sha256] = replace(page, **{f.name: getattr(page, f.name) + counts.get(f.name, 0) for f in fields(page)})

"""How much one query may cost."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Of one query. `max_spill_bytes` is what it may lay down in a folder that is gone after it."""

    max_s: float = 30.0
    max_memory_bytes: int = 512 * 1024 * 1024
    max_spill_bytes: int = 2 * 1024 * 1024 * 1024
    threads: int = 2

"""What a training is called: by what it is made of, so that the same training has the same name everywhere."""

import hashlib

_CHARS = 32


def run_id(task_sha256: str, data_sha256: str, seed: int, code: str, parent: str | None = None) -> str:
    """32 hex digits; `parent` is the run whose weights it started from. Not random: it stands in the bundle's lineage, whose bytes have to be the
    same for the same task, data and seed."""
    told = "\n".join((task_sha256, data_sha256, str(seed), code, parent or ""))
    return hashlib.sha256(told.encode()).hexdigest()[:_CHARS]

"""A whole server on Mosquitto that has one file to deliver."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.delivery.ports import Target
from fleet_contract import blocks
from tests.fakes.server_process import Running, serving


def target_of(content: bytes) -> Target:
    return Target("bundles/toy-1.bundle", hashlib.sha256(content).hexdigest(), len(content), blocks.index_of(content))


@contextmanager
def serving_file(folder: Path, target: Target, content: bytes) -> Iterator[Running]:
    with serving(folder, "mosquitto") as running:
        file = running.home / "tuf" / target.fetch_path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        yield running

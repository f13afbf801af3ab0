"""What the services and the API stand on: one value, made once by the composition root."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine

from fleet_server.inbox.port import Backlog
from fleet_server.ports import Broker, DeviceAuthority, FilePermits, JobRunner, OrderLink, OrderSigner, Repository
from fleet_server.queries.bounds import Bounds


def _nothing() -> None: ...


def _everybody(_device: str) -> bool:
    return True


def _no_counts() -> Mapping[str, int]:
    return {}


def _no_backlog() -> Backlog:
    return Backlog(0, 0, 0, None)


@dataclass(frozen=True)
class Fleet:
    """`tasks` maps a task's name to its file; without `releases_key` a challenger cannot be signed and no job starts.
    `permits` are the addresses of files by HTTPS, `may_receive` says whether a device may have any, `transport` is what new orders prefer.
    `wake` asks the control loop to look now; `ingest_counts` are the MQTT side's counters by name, `backlog` what waits in the inbox, and
    `query_bounds` hold each question to the lake."""

    name: str
    home: Path
    engine: Engine
    authority: DeviceAuthority
    repository: Repository
    signer: OrderSigner
    link: OrderLink
    broker: Broker
    runner: JobRunner
    tasks: Mapping[str, Path]
    releases_key: Path | None
    now: Callable[[], datetime]
    version: str
    permits: FilePermits
    may_receive: Callable[[str], bool] = _everybody
    transport: Literal["mqtt", "http"] | None = None
    new_secret: Callable[[int], str] = secrets.token_urlsafe
    wake: Callable[[], None] = _nothing
    ingest_counts: Callable[[], Mapping[str, int]] = _no_counts
    backlog: Callable[[], Backlog] = _no_backlog
    query_bounds: Bounds = field(default_factory=Bounds)

    @property
    def samples(self) -> Path:
        return self.home / "samples"

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    @property
    def jobs(self) -> Path:
        return self.home / "jobs"

"""A child: some devices, each with its own connection. Says "ready", waits for a line on stdin, fetches with all at once, says when each was done."""

import hashlib
import http.client
import secrets
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from bench.delivery.wire import Identity, Plan, Verified, plan, say
from edge_agent.clock import SystemClock
from edge_agent.delivery.downloads import Downloads, Ways
from edge_agent.delivery.exchange import Exchange
from edge_agent.delivery.http import Http
from edge_agent.delivery.one_to_one import OneToOne
from edge_agent.delivery.pace import Manners
from edge_agent.delivery.ports import Target, Wish
from edge_agent.delivery.shared_pass import SharedPass
from edge_agent.errors import Reject
from edge_agent.link.mqtt import Handlers, MqttLink

_CONNECT_S = 60.0
_PIECE_BYTES = 1 << 18


class Device:
    """The agent's link and delivery, and no more of it."""

    def __init__(self, name: str, identity: Identity, told: Plan) -> None:
        clock = SystemClock()
        self._link = MqttLink(told.broker_url, name, identity.tls, epoch="bench", at=datetime.now(UTC))
        exchange = Exchange(self._link, clock, new_id=lambda: secrets.token_hex(8))
        ways = Ways(SharedPass(exchange), OneToOne(exchange), Http(exchange, clock, identity.tls.context))
        self._downloads = Downloads(ways, _no_target, Manners(), clock)
        self._part = Path(told.parts) / name
        path = told.path.removeprefix("targets/").replace(f"{told.sha256}.", "")
        self._target = Target(path, told.sha256, told.index.length, told.index)
        connected = threading.Event()
        nothing: Callable[[object], None] = lambda _: None  # noqa: E731
        self._link.start(Handlers(nothing, nothing, exchange.receive, exchange.receive_shared, connected.set))
        if not connected.wait(_CONNECT_S):
            sys.exit(f"{name} got no connection")

    def fetch(self) -> None:
        self._downloads.bring(self._target, self._part, (), Wish())

    def close(self) -> None:
        self._link.close()
        self._part.unlink(missing_ok=True)


class Reader:
    """Reads the whole file by plain HTTP, and checks its digest."""

    def __init__(self, name: str, told: Plan) -> None:
        self._told, self._part = told, Path(told.parts) / name

    def fetch(self) -> None:
        address = urlsplit(self._told.website)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_CONNECT_S)
        digest = hashlib.sha256()
        connection.request("GET", address.path)
        with connection.getresponse() as answer, self._part.open("wb") as file:
            while piece := answer.read(_PIECE_BYTES):
                digest.update(piece)
                file.write(piece)
        connection.close()
        if digest.hexdigest() != self._told.sha256:
            sys.exit("the file that came is not the file that was served")

    def close(self) -> None:
        self._part.unlink(missing_ok=True)


def main() -> None:
    told = plan()
    names = sys.argv[2].split(",")
    made = [Reader(name, told) if told.website else Device(name, told.devices[name], told) for name in names]
    say("ready")
    sys.stdin.readline()
    begun_s = time.monotonic()

    def timed(one: Device | Reader) -> float:
        one.fetch()
        return time.monotonic() - begun_s

    with ThreadPoolExecutor(len(made)) as pool:
        seconds = dict(zip(names, pool.map(timed, made), strict=True))
    say(Verified(seconds))
    sys.stdin.readline()
    for one in made:
        one.close()


def _no_target(path: str) -> Target:
    raise Reject(f"there is no target {path!r} here", code="not-found")


if __name__ == "__main__":
    main()

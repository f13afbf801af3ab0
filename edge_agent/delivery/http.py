"""Blocks by HTTPS: ranges of runs of lacking blocks, from a short-lived address that the file service gives out."""

import logging
import random
import ssl
from collections.abc import Callable, Iterator, Set
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from edge_agent.delivery.exchange import Exchange, refused
from edge_agent.delivery.pace import LEAST_BYTES_PER_S
from edge_agent.delivery.transport import Errand, Patience
from edge_agent.errors import Reject, Retry
from edge_agent.link.https import Bounds, Site
from edge_agent.ports import Clock
from fleet_contract import limits
from fleet_contract.backoff import Backoff
from fleet_contract.errors import ContractError
from fleet_contract.messages import Refusal, Url, WantUrl

log = logging.getLogger(__name__)

_RUN_BYTES = 4 * limits.MIB
"""Of one request: records get a turn between two."""
_BRIDGE_BYTES = 16 * limits.KIB
"""Blocks that are here already are fetched again rather than that they cost another handshake."""
_BOUNDS = Bounds(deadline_s=3_600.0, min_bytes_per_s=LEAST_BYTES_PER_S, grace_s=15.0, stall_s=10.0)


class Http:
    """A transport. `context` makes the TLS context that trusts the fleet's CA alone."""

    way: Literal["http"] = "http"

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        context: Callable[[], ssl.SSLContext | None],
        *,
        patience: Patience = Patience(),
        bounds: Bounds = _BOUNDS,
        backoff: Backoff = Backoff(),
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._exchange, self._clock, self._context = exchange, clock, context
        self._patience, self._bounds, self._backoff, self._uniform = patience, bounds, backoff, uniform

    def carry(self, errand: Errand) -> Iterator[tuple[int, bytes] | None]:
        failures = 0
        url = ""
        while errand.need:
            before = len(errand.need)
            try:
                url = url or self._address(errand.path)
                yield from self._runs(errand, url)
            except (Retry, Reject) as error:
                errand.pacer.check()
                if error.code == "no-http" or failures + 1 >= self._patience.failures:
                    raise Retry(f"HTTPS: {error}", code=error.code) from error
                log.info("HTTPS: %s", error)
                url = ""  # it may have expired
            failures = 0 if len(errand.need) < before else failures + 1
            if failures >= self._patience.failures:
                raise Retry(f"{errand.path}: {failures} requests in a row brought no right block", code="deadline")
            if failures:
                errand.pacer.rest(self._backoff.wait_s(failures, self._uniform))

    def _address(self, path: str) -> str:
        with self._exchange.open() as mailbox:
            self._exchange.send(WantUrl(mailbox.request, path))
            asked_s = self._exchange.monotonic_s()
            while self._exchange.monotonic_s() - asked_s <= self._patience.silence_s:
                letter = self._exchange.next(mailbox)
                if isinstance(letter, Refusal):
                    raise refused(path, letter)
                if isinstance(letter, Url) and len(letter.url) <= limits.MAX_URL_CHARS:
                    return letter.url
        raise Retry("the server gives no address", code="deadline")

    def _runs(self, errand: Errand, url: str) -> Iterator[tuple[int, bytes] | None]:
        parts = _split(url)
        site = self._site(f"{parts.scheme}://{parts.netloc}")
        most = errand.pacer.manners.blocks_at_once(errand.block_bytes, _RUN_BYTES // errand.block_bytes)
        for first, last in runs(errand.need, most, _BRIDGE_BYTES // errand.block_bytes):
            errand.pacer.before_request()
            start, end = first * errand.block_bytes, min((last + 1) * errand.block_bytes, errand.length)
            with site.get(parts.path.lstrip("/"), first=start, last=end - 1, query=parts.query) as answer:
                if answer.length != errand.length:
                    raise Retry(f"{errand.path} has {answer.length} bytes there, not {errand.length}", code="changed")
                yield from _cut(answer.chunks, answer.first, start, end, errand.block_bytes)

    def _site(self, base_url: str) -> Site:
        try:
            return Site(base_url, self._clock, self._context(), self._bounds)
        except ContractError as error:
            raise Retry(str(error), code=error.code) from error


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise Reject(f"the server gave an address that is none: {error}", code="bad-url") from error


def runs(need: Set[int], most: int, bridge: int) -> list[tuple[int, int]]:
    """First and last numbers of runs of at most `most` blocks that cover what is needed, over gaps of at most `bridge` blocks."""
    found: list[tuple[int, int]] = []
    for number in sorted(need):
        if found and number - found[-1][1] <= bridge + 1 and number - found[-1][0] < most:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _cut(chunks: Iterator[bytes], at: int, start: int, end: int, block_bytes: int) -> Iterator[tuple[int, bytes] | None]:
    """Whole blocks out of a body that begins at byte `at`; what comes beyond `end` is not read."""
    pending = bytearray()
    for chunk in chunks:
        pending += chunk[max(0, start - at) : max(0, end - at)]
        at += len(chunk)
        while pending and (len(pending) >= block_bytes or start + len(pending) >= end):
            yield start // block_bytes, bytes(pending[:block_bytes])
            start += min(block_bytes, len(pending))
            del pending[:block_bytes]
        if start >= end:
            return
        yield None

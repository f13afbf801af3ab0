"""Ranges over HTTP against servers that lie, drip, cut and redirect. Nothing wrong is kept, and no server holds a download for ever."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.delivery.http import runs
from edge_agent.errors import Retry
from fleet_contract import limits
from fleet_contract.messages import FromDevice, Url, WantUrl
from tests.fakes.agent_downloads import Device, device, target_of
from tests.fakes.agent_file_service import Website, by_range

BLOCK_BYTES = limits.MIN_BLOCK_BYTES
FILE = random.Random(2).randbytes(40 * BLOCK_BYTES + 5)
TARGET = target_of(FILE)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Device]:
    with device("http", {TARGET.fetch_path: FILE}, tmp_path) as made:
        yield made


def answer(status: int = 206, body: bytes | None = None, **headers: str) -> Callable[[Website, bytes, int, int], None]:
    """One answer to every request; `{first}` and `{last}` in a header are those that were asked for."""

    def website(request: Website, data: bytes, first: int, last: int) -> None:
        content = data[first : last + 1] if body is None else body
        named = {name.replace("_", "-"): value.format(first=first, last=last) for name, value in headers.items()}
        request.give(status, {"Content-Length": str(len(content)), **named}, content)

    return website


RIGHT_RANGE = {"Content_Range": f"bytes {{first}}-{{last}}/{len(FILE)}"}


@pytest.mark.parametrize(
    "website",
    [
        pytest.param(answer(302, b"", Location="https://elsewhere.example/"), id="a redirect"),
        pytest.param(answer(206, None, Content_Range=f"bytes 4096-9000/{len(FILE)}"), id="another range"),
        pytest.param(answer(206, None, Content_Range="bytes {first}-{last}/17"), id="another length"),
        pytest.param(answer(206, None, Content_Range="nonsense"), id="no range"),
        pytest.param(answer(206, None, Content_Range="bytes {first}-{last}/" + "9" * 500), id="a number without an end"),
        pytest.param(answer(206), id="a range without saying which"),
        pytest.param(answer(206, b"\0" * 50_000, **RIGHT_RANGE), id="wrong bytes"),
        pytest.param(answer(206, None, **RIGHT_RANGE, Content_Encoding="gzip"), id="compressed"),
        pytest.param(answer(206, b"", **RIGHT_RANGE), id="nothing"),
        pytest.param(answer(200, b""), id="an empty file"),
        pytest.param(answer(403, b"{}"), id="forbidden"),
        pytest.param(answer(404, b"{}"), id="not there"),
        pytest.param(answer(416, b"{}"), id="out of range"),
        pytest.param(answer(500, b"{}"), id="broken"),
        pytest.param(lambda request, *_: request.wfile.write(b"\xff" * 100_000), id="no HTTP"),
        pytest.param(lambda request, *_: request.wfile.write(b"HTTP/1.1 206 OK\r\n" + b"A: b\r\n" * 10_000), id="headers without an end"),
        pytest.param(lambda request, *_: request.connection.close(), id="hangs up"),
    ],
)
def test_a_server_that_gives_nothing_right_ends_in_a_retry(dev: Device, website: Callable) -> None:
    dev.service.website = website
    with pytest.raises(Retry):
        dev.bring(TARGET)
    assert dev.present(TARGET) == set()
    assert len(dev.service.ranges) <= 3


def cut_after(count: int) -> Callable[[Website, bytes, int, int], None]:
    def website(request: Website, data: bytes, first: int, last: int) -> None:
        body = data[first : last + 1]
        request.give(206, {"Content-Range": f"bytes {first}-{last}/{len(data)}", "Content-Length": str(len(body))}, body[:count])
        request.connection.close()

    return website


class TestHalf:
    def test_a_body_that_is_cut_again_and_again_still_comes_and_no_block_twice(self, dev: Device) -> None:
        dev.service.website = cut_after(11 * BLOCK_BYTES + 100)
        dev.bring(TARGET)
        assert dev.part.read_bytes() == FILE
        assert [first // BLOCK_BYTES for first, _ in dev.service.ranges] == [0, 11, 22, 33]

    def test_a_server_that_knows_no_ranges_serves_too(self, dev: Device) -> None:
        dev.part.write_bytes(FILE[: 10 * BLOCK_BYTES])
        dev.service.website = lambda request, data, first, last: request.give(200, {"Content-Length": str(len(data))}, data)
        dev.bring(TARGET)
        assert dev.part.read_bytes() == FILE

    def test_more_than_was_asked_for_is_not_read(self, dev: Device) -> None:
        dev.part.write_bytes(bytes(BLOCK_BYTES) + FILE[BLOCK_BYTES:])

        def website(request: Website, data: bytes, first: int, last: int) -> None:
            request.give(206, {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, data[first : last + 1])
            while True:
                request.wfile.write(bytes(1 << 20))

        dev.service.website = website
        dev.bring(TARGET)
        assert dev.part.read_bytes() == FILE

    def test_a_drip_is_too_slow(self, dev: Device) -> None:
        """A byte in half a second, by the device's clock."""

        def website(request: Website, data: bytes, first: int, last: int) -> None:
            request.give(206, {"Content-Range": f"bytes {first}-{last}/{len(data)}", "Content-Length": str(len(data))}, b"")
            for at in range(first, last):
                request.wfile.write(data[at : at + 1])

        dev.service.website = website
        dev.clock.step_s = 0.5
        with pytest.raises(Retry):
            dev.bring(TARGET)
        assert len(dev.service.ranges) <= 3


class TestAddress:
    def test_an_address_that_has_expired_is_replaced(self, dev: Device) -> None:
        def website(request: Website, data: bytes, first: int, last: int) -> None:
            if len(dev.service.ranges) == 1:
                request.give(403, {"Content-Length": "0"}, b"")
            else:
                by_range(request, data, first, last)

        dev.service.website = website
        dev.bring(TARGET)
        assert sum(isinstance(message, WantUrl) for message in dev.service.requests) == 2

    @pytest.mark.parametrize(
        "url",
        [
            "", "https://fleet.example/x", "file:///etc/passwd", "http://[::1/x", "http://127.0.0.1:99999/x", "http://127.0.0.1:1/x",
            "http://127.0.0.1:1/a b\r\nX: y", "http://" + "a" * 1_900, "http://127.0.0.1:1/" + "a" * 3_000,
        ],
        ids=["nothing", "another scheme", "a file", "no address", "no port", "nobody listens", "a header inside", "no name", "too long"],
    )  # fmt: skip
    def test_an_address_that_leads_nowhere_only_delays(self, dev: Device, url: str) -> None:
        def misdirect(message: FromDevice) -> bool:
            dev.service.receive(Url(message.request, url, datetime(2030, 1, 1, tzinfo=UTC)))
            return True

        dev.service.answer = misdirect
        with pytest.raises(Retry):
            dev.bring(TARGET)

    def test_a_server_without_https_is_not_asked_twice(self, dev: Device) -> None:
        dev.service.url = None
        with pytest.raises(Retry):
            dev.bring(TARGET)
        assert len(dev.service.requests) == 1


@pytest.mark.parametrize(
    ("need", "most", "bridge", "found"),
    [
        pytest.param(set(), 10, 0, [], id="nothing"),
        pytest.param({0, 1, 2, 3}, 10, 0, [(0, 3)], id="one run"),
        pytest.param({0, 1, 2, 3}, 2, 0, [(0, 1), (2, 3)], id="no longer than may be"),
        pytest.param({0, 2, 9}, 10, 0, [(0, 0), (2, 2), (9, 9)], id="apart"),
        pytest.param({0, 2, 9}, 10, 1, [(0, 2), (9, 9)], id="a narrow gap is bridged"),
    ],
)
def test_runs_cover_what_is_needed(need: set[int], most: int, bridge: int, found: list[tuple[int, int]]) -> None:
    assert runs(need, most, bridge) == found

"""Repository files by HTTPS: who has a permit, what it is for, and ranges."""

from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest

from tests.fakes.server_api import Api

BUNDLE = bytes(range(256)) * 300


def read(api: Api, address: str, **options: object) -> httpx.Response:
    return api.request("GET", address, "", **options)


@pytest.fixture
def address(api: Api) -> str:
    """The path and query that `cam-1` was given for a target."""
    path = "targets/bundles/one.bundle"
    kept = api.world.fleet.home / "one.bundle"
    kept.write_bytes(BUNDLE)
    api.world.repository.add_file(path, kept)
    url, _ = api.world.fleet.permits.url("cam-1", path)
    return url.removeprefix("https://fleet.example:8443")


def changed(address: str, **query: str) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{urlencode({**dict(parse_qsl(parts.query)), **query})}"


def test_a_permit_needs_no_token(api: Api, address: str) -> None:
    answer = read(api, address)
    assert (answer.status_code, answer.content) == (200, BUNDLE)


@pytest.mark.parametrize(
    ("ranges", "content"),
    [
        pytest.param("bytes=0-4095", BUNDLE[:4096], id="first-block"),
        pytest.param("bytes=4096-12287", BUNDLE[4096:12288], id="a-run"),
        pytest.param(f"bytes={len(BUNDLE) - 10}-", BUNDLE[-10:], id="the-rest"),
    ],
)
def test_a_range_is_answered_with_it_alone(api: Api, address: str, ranges: str, content: bytes) -> None:
    answer = read(api, address, headers={"Range": ranges})
    assert (answer.status_code, answer.content) == (206, content)


def test_a_range_beyond_the_end_is_refused(api: Api, address: str) -> None:
    assert read(api, address, headers={"Range": f"bytes={len(BUNDLE)}-"}).status_code == 416


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"device": "cam-2"}, id="another-device"),
        pytest.param({"expires": "1900000000"}, id="a-later-end"),
        pytest.param({"permit": "0" * 64}, id="another-permit"),
        pytest.param({"permit": "ä"}, id="no-permit"),
    ],
)
def test_a_permit_holds_for_nothing_else(api: Api, address: str, other: dict) -> None:
    answer = read(api, changed(address, **other))
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["field"]) == (403, "forbidden", "permit")


def test_a_permit_is_of_one_path(api: Api, address: str) -> None:
    assert read(api, address.replace("one.bundle", "two.bundle")).status_code == 403


def test_a_permit_expires(api: Api, address: str) -> None:
    api.world.clock.forward(minutes=10)
    answer = read(api, address)
    assert (answer.status_code, answer.json()["error"]["field"]) == (403, "expires")


def test_a_permit_without_its_parts_is_refused(api: Api, address: str) -> None:
    assert read(api, urlsplit(address).path).status_code == 422


@pytest.mark.parametrize("path", ["metadata/../../keys/snapshot.pem", "targets/none", "keys/orders.pem"])
def test_a_permit_for_what_is_no_repository_file_opens_nothing(api: Api, path: str) -> None:
    url, _ = api.world.fleet.permits.url("cam-1", path)
    assert read(api, url.removeprefix("https://fleet.example:8443").replace("..", "%2e%2e")).status_code == 404


def test_a_quarantined_device_gets_nothing(api: Api, address: str) -> None:
    api.world.excluded.add("cam-1")
    answer = read(api, address)
    assert (answer.status_code, answer.json()["error"]["field"]) == (403, "device")

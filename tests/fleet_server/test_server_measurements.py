"""What devices measured of a bundle: kept once a device, variant and backend, shown by profile."""

from types import SimpleNamespace

import pytest

from fleet_contract.messages import Event
from fleet_server.domain import measurements
from tests.fakes.server_api import Api

BUNDLE = "a" * 64
SHOWN = {
    "bundle": BUNDLE,
    "variant": "int8",
    "backend": "litert:cpu",
    "verdict": "right",
    "message": "",
    "p50_us": 100.0,
    "p99_us": 200.0,
    "memory_bytes": 50_000_000,
    "load_ms": 8.0,
    "max_difference": 0.01,
    "chosen": True,
}
CRASHED = SHOWN | {
    "backend": "litert:edgetpu",
    "verdict": "child-crash",
    "message": "it ended (exit status -11)",
    "p50_us": 0,
    "p99_us": 0,
    "memory_bytes": 0,
    "load_ms": 0,
    "max_difference": 0,
    "chosen": False,
}


def told(api: Api, device: str, *details: dict) -> None:
    api.world.send(device, *(Event(at=api.world.clock(), kind="model.measured", detail=detail) for detail in details))


@pytest.fixture
def two(api: Api) -> str:
    """A published bundle and two devices of one profile."""
    api.world.enrol("cam-1")
    api.world.enrol("cam-2")
    return api.publish()


def test_medians_and_verdicts_over_the_devices_of_a_profile(api: Api, two: str) -> None:
    told(api, "cam-1", SHOWN | {"bundle": two}, CRASHED | {"bundle": two})
    told(api, "cam-2", SHOWN | {"bundle": two, "p50_us": 300.0, "max_difference": 0.03, "chosen": False})
    items = api.get(f"/v1/bundles/{two}/measurements").json()["items"]
    assert items == [
        {
            "profile": "generic-x86-64",
            "bundle": two,
            "variant": "int8",
            "backend": "litert:cpu",
            "devices": 2,
            "chosen": 1,
            "verdicts": {"right": 2},
            "message": "",
            "p50_us": 200.0,
            "p99_us": 200.0,
            "memory_bytes": 50_000_000,
            "load_ms": 8.0,
            "max_difference": 0.03,
        },
        {
            "profile": "generic-x86-64",
            "bundle": two,
            "variant": "int8",
            "backend": "litert:edgetpu",
            "devices": 1,
            "chosen": 0,
            "verdicts": {"child-crash": 1},
            "message": "it ended (exit status -11)",
            "p50_us": None,
            "p99_us": None,
            "memory_bytes": None,
            "load_ms": None,
            "max_difference": None,
        },
    ]
    assert api.get("/v1/profiles/generic-x86-64/measurements").json()["items"] == items
    assert api.get("/v1/profiles/generic-arm64/measurements").json()["items"] == []


def test_the_newest_word_of_a_device_counts(api: Api, two: str) -> None:
    told(api, "cam-1", SHOWN | {"bundle": two})
    told(api, "cam-1", SHOWN | {"bundle": two}, SHOWN | {"bundle": two, "p50_us": 50.0})
    (only,) = api.get(f"/v1/bundles/{two}/measurements").json()["items"]
    assert (only["devices"], only["p50_us"]) == (1, 50.0)


def test_a_profile_is_paged_by_bundles(api: Api, two: str) -> None:
    told(api, "cam-1", *(SHOWN | {"bundle": digit * 64} for digit in "abc"))
    first = api.get("/v1/profiles/generic-x86-64/measurements", params={"limit": 2}).json()
    assert [item["bundle"][0] for item in first["items"]] == ["a", "b"]
    rest = api.get("/v1/profiles/generic-x86-64/measurements", params={"limit": 2, "after": first["next"]}).json()
    assert ([item["bundle"][0] for item in rest["items"]], rest["next"]) == (["c"], None)


@pytest.mark.parametrize("path", ["/v1/bundles/none/measurements", "/v1/profiles/toaster/measurements"])
def test_what_is_not_there_is_not_found(api: Api, path: str) -> None:
    assert api.get(path).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"bundle": "../etc"}, id="no digest"),
        pytest.param({"p50_us": -1.0}, id="a time below zero"),
        pytest.param({"variant": ""}, id="no variant"),
        pytest.param({"backend": "x" * 201}, id="a long backend"),
        pytest.param({"chosen": "yes"}, id="a word for a truth"),
        pytest.param({"load_ms": None}, id="no load time"),
    ],
)
def test_an_event_that_is_no_measurement_is_only_an_event(api: Api, two: str, change: dict) -> None:
    detail = {name: value for name, value in (SHOWN | {"bundle": two} | change).items() if value is not None}
    told(api, "cam-1", detail)
    assert api.get("/v1/events", params={"kind": "model.measured"}).json()["items"][0]["detail"] == detail
    assert api.get(f"/v1/bundles/{two}/measurements").json()["items"] == []


def test_profiles_are_told_apart() -> None:
    rows = [SimpleNamespace(profile=name, **SHOWN) for name in ("pi", "jetson", "pi")]
    assert [(one.profile, one.devices) for one in measurements.summarise(rows)] == [("jetson", 1), ("pi", 2)]
    assert measurements.summarise([]) == []

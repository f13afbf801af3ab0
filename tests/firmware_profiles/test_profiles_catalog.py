"""Every profile that is shipped is usable, and a wrong one says what is wrong with it."""

from pathlib import Path

import pytest

from firmware_profiles import catalog
from firmware_profiles.catalog import ProfileError


@pytest.mark.parametrize("name", catalog.names())
def test_a_shipped_profile_makes_sense(name: str) -> None:
    profile = catalog.load(name)
    assert profile.name == name and profile.title
    assert 0 < profile.worker.memory_mb <= profile.memory_mb
    assert 1 <= profile.worker.threads <= profile.cores
    assert len({backend.id for backend in profile.backends}) == len(profile.backends) > 0
    assert {*profile.tolerance} == {"fp32", "fp16", "int8"}


def test_there_are_profiles_for_both_architectures() -> None:
    assert {"x86_64", "aarch64"} <= {catalog.load(name).architecture for name in catalog.names()}


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="generic-arm64"):
        catalog.load("toaster")
    with pytest.raises(ProfileError):
        catalog.load("../catalog")


GOOD = """name = "x"
title = "X"
architecture = "x86_64"
memory_mb = 1
cores = 1
backends = []
tolerance = {}
worker = { memory_mb = 1 }
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("name = ", "x", id="no TOML"),
        pytest.param('name = "x"', "title", id="fields missing"),
        pytest.param("colour = 1\n" + GOOD, "colour", id="an unknown key"),
        pytest.param(GOOD.replace("cores = 1", 'cores = "one"'), "cores", id="a number that is text"),
        pytest.param(GOOD.replace('name = "x"', 'name = "y"'), "calls itself", id="another name inside"),
    ],
)
def test_a_wrong_profile_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    monkeypatch.setattr(catalog, "_folder", lambda: tmp_path)
    with pytest.raises(ProfileError, match=said):
        catalog.load("x")

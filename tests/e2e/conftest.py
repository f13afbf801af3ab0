"""Brokers for end-to-end tests. Everything below runs real processes."""

import shutil

import pytest


def _mosquitto_is_here() -> bool:
    return shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin") is not None


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request) -> str:
    if request.param == "mosquitto" and not _mosquitto_is_here():
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    return request.param

"""Settings: what overrides what, and what is refused."""

from pathlib import Path

import pytest

from fleet_server import settings
from fleet_server.errors import BadRequest, NotFound
from fleet_server.settings import Settings


def test_saved_settings_are_read_again(tmp_path: Path) -> None:
    chosen = Settings(fleet="north", host="fleet.example", mqtt_port=0, tasks=("a.toml",))
    settings.save(tmp_path, chosen)
    assert settings.load(tmp_path) == chosen


def test_command_line_wins_over_environment_over_file() -> None:
    environment = {"EDGEFLEET_HTTPS_PORT": "1001", "EDGEFLEET_MQTT_PORT": "1002", "EDGEFLEET_BROKER": ""}
    chosen = settings.override(Settings(https_port=1, mqtt_port=2, broker="embedded"), environment, {"https_port": 2001, "mqtt_port": None})
    assert (chosen.https_port, chosen.mqtt_port, chosen.broker) == (2001, 1002, "embedded")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param({"broker": "rabbitmq"}, "broker", id="unknown-broker"),
        pytest.param({"broker": "mqtt://plain:1883"}, "broker", id="broker-without-tls"),
        pytest.param({"https_port": 70_000}, "https_port", id="no-such-port"),
        pytest.param({"mqtt_port": -1}, "mqtt_port", id="negative-port"),
        pytest.param({"mqtt_port": "many"}, "settings", id="port-in-words"),
        pytest.param({"fleet": "My Fleet"}, "fleet", id="fleet-outside-the-charset"),
        pytest.param({"host": "a b"}, "host", id="host-with-a-space"),
        pytest.param({"host": ""}, "host", id="no-host"),
        pytest.param({"delivery_transport": "pigeon"}, "settings", id="unknown-transport"),
        pytest.param({"pass_patience_s": 0}, "pass_patience_s", id="no-patience"),
        pytest.param({"pass_gather_s": "nan"}, "pass_gather_s", id="not-a-time"),
        pytest.param({"pass_max_bytes_per_s": 10}, "pass_max_bytes_per_s", id="less-than-one-packet-a-second"),
        pytest.param({"otlp_endpoint": "collector:4318"}, "settings", id="a-collector-without-a-scheme"),
    ],
)
def test_bad_setting_is_refused_by_name(given: dict, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        settings.override(Settings(), {}, given)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("chosen", "address", "hosts"),
    [
        pytest.param(Settings(), "127.0.0.1", ("localhost", "127.0.0.1"), id="this-machine-alone"),
        pytest.param(Settings(host="fleet.example"), "0.0.0.0", ("localhost", "127.0.0.1", "fleet.example"), id="for-devices-elsewhere"),
        pytest.param(
            Settings(host="fleet.example", address="10.0.0.1"),
            "10.0.0.1",
            ("localhost", "127.0.0.1", "fleet.example", "10.0.0.1"),
            id="one-address",
        ),
    ],
)
def test_local_server_listens_on_loopback_alone(chosen: Settings, address: str, hosts: tuple[str, ...]) -> None:
    assert (chosen.bind_address, chosen.own_hosts) == (address, hosts)


def test_home_without_a_server_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="fleet-server init --home"):
        settings.load(tmp_path)


def test_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / settings.FILE).write_text('{"https_prot": 8443}')
    with pytest.raises(BadRequest, match="https_prot"):
        settings.load(tmp_path)

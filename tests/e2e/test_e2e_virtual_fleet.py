"""Virtual devices and a real server: a storm and lossy links lose nothing, and the ledgers agree to the record."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hil.cli import app
from hil.errors import BadScenario

SCENARIO = """
name = "rough"
duration_s = 4
settle_s = 30
[load]
rate_per_s = 4
records_per_message = 3
event_every_s = 1
[link]
connect_over_s = 0.5
reconnect_first_s = 0.2
reconnect_longest_s = 0.5
patience_s = 2
[[disturbances]]
kind = "lossy-link"
at_s = 1
for_s = 2
loss = 0.2
[[disturbances]]
kind = "reconnect-storm"
at_s = 2
"""


@pytest.mark.e2e
def test_nothing_is_lost_and_nothing_counted_twice(tmp_path: Path) -> None:
    (tmp_path / "rough.toml").write_text(SCENARIO)
    options = ["--devices", "20", "--home", str(tmp_path / "home"), "--scenario", str(tmp_path / "rough.toml"), "--json"]
    done = CliRunner().invoke(app, ["fleet", *options, "--html", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    ledger = report["ledger"]
    assert ledger["settled"], ledger
    assert ledger["produced"] == ledger["stored"] >= 20 * 4 * 3 * 3
    assert report["total"]["connected"] >= 40
    assert report["total"]["lost_on_the_link"] > 0
    assert report["total"]["again"] > 0
    assert "balances" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param([], "--home", id="no server"),
        pytest.param(["--home", "x", "--server", "https://y"], "--server", id="two servers"),
        pytest.param(["--server", "https://y"], "--ca", id="a server without its CA"),
        pytest.param(["--home", "x", "--rate", "0"], "rate_per_s", id="no rate"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: list[str], told: str) -> None:
    refused = CliRunner().invoke(app, ["fleet", *options])
    assert isinstance(refused.exception, BadScenario)
    assert told in str(refused.exception)

"""What /metrics tells of ingest, compactor, lake and ledger; and that the dashboard and the alert rules ask for nothing else."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet_contract.instants import microseconds
from fleet_contract.messages import Event, Lane, LaneLedger, Result
from fleet_server.inbox.port import Backlog
from fleet_server.metrics import ledger
from fleet_server.services import figures, streams
from fleet_server.services.figures import CompactorFigures, IngestFigures
from fleet_server.tables.database import reading, writing
from tests.fakes.server_api import Api
from tests.fakes.server_world import World

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana"
_NAME = re.compile(r"\bedgefleet_\w+")
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def expressions() -> list[str]:
    board = json.loads((GRAFANA / "edgefleet.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return asked + re.findall(r"expr: (.*)", (GRAFANA / "rules.yml").read_text())


def families(api: Api) -> dict:
    return {family.name: family for family in text_string_to_metric_families(api.get("/metrics").text)}


def samples(api: Api, name: str) -> dict[tuple[str, ...], float]:
    """By the values of their labels, in the order of the names."""
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in families(api)[name].samples}


@pytest.fixture
def working(api: Api) -> Api:
    world = api.world
    world.enrol("cam-1")
    now = world.clock()
    world.send("cam-1", *(Result(now, "a" * 64, str(number), "yes", 0.5, 10) for number in range(3)), Event(now, "agent.started", {}))
    said = LaneLedger(produced=9, acknowledged=3, queued=2, dropped={"quota": 1, "thinned": 2})
    world.say("cam-1", ledger={Lane.TELEMETRY: said})
    worker = IngestFigures(messages=4, rows=400, commits=2, refused={"unknown-device": 1})
    worker.acknowledged.note(0.02, times=4)
    figures.publish(world.engine, "ingest_1", worker, world.clock())
    figures.publish(world.engine, "compactor", CompactorFigures(segments=2, rows=400, lag_s=1.5), world.clock())
    return api


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("edgefleet_records_stored", {("events",): 1, ("sketches",): 0, ("telemetry",): 3, ("samples",): 0}, id="stored"),
        pytest.param("edgefleet_ledger_dropped_records", {("telemetry", "quota"): 1, ("telemetry", "thinned"): 2}, id="dropped"),
        pytest.param("edgefleet_ledger_lost_records", {(): 1}, id="lost: 9 made, 3 stored, 2 queued, 3 dropped"),
        pytest.param("edgefleet_ingest_rows", {("ingest_1",): 400}, id="rows of a worker"),
        pytest.param("edgefleet_ingest_refused", {("unknown-device", "ingest_1"): 1}, id="refused"),
        pytest.param("edgefleet_compactor_lag_seconds", {(): 1.5}, id="lag"),
        pytest.param("edgefleet_compactor_up", {(): 1}, id="the compactor runs"),
        pytest.param("edgefleet_lake_rows", {("toy",): 3}, id="rows in the lake"),
        pytest.param("edgefleet_devices_throttled", {(): 0}, id="throttled"),
    ],
)
def test_numbers(working: Api, name: str, found: dict) -> None:
    assert samples(working, name) == found


def test_latencies_are_a_histogram(working: Api) -> None:
    buckets = {
        sample.labels["le"]: sample.value
        for sample in families(working)["edgefleet_ingest_acknowledge_seconds"].samples
        if sample.name.endswith("_bucket")
    }
    assert (buckets["0.01"], buckets["0.025"], buckets["+Inf"]) == (0, 4, 4)


def test_every_kind_of_alert_is_there_before_it_is_open(api: Api) -> None:
    assert set(samples(api, "edgefleet_alerts_open").values()) == {0}


def test_a_process_that_fell_silent_is_not_running(working: Api) -> None:
    working.world.clock.forward(seconds=figures.SILENT_S + 1)
    assert samples(working, "edgefleet_ingest_workers") == {(): 0}
    assert samples(working, "edgefleet_compactor_up") == {(): 0}


def test_figures_are_written_over_and_in_the_end_forgotten(world: World) -> None:
    for rows in (1, 2):
        figures.publish(world.engine, "ingest_1", IngestFigures(rows=rows), world.clock())
    with world.engine.connect() as connection:
        assert figures.running(connection, world.clock()) == {"ingest_1": IngestFigures(rows=2)}
    figures.publish(world.engine, "ingest_2", IngestFigures(), world.clock.forward(seconds=figures.FORGOTTEN_S + 1))
    with world.engine.connect() as connection:
        assert set(figures.running(connection, world.clock.forward(seconds=-figures.FORGOTTEN_S))) == {"ingest_2"}


def test_what_waits_in_the_inbox(sqlite_world: World) -> None:
    oldest = microseconds(sqlite_world.clock()) - 2_500_000
    sqlite_world.fleet = replace(sqlite_world.fleet, backlog=lambda: Backlog(1, 7, 900, oldest))
    api = Api(sqlite_world)
    assert [samples(api, f"edgefleet_inbox_{name}") for name in ("messages", "bytes", "oldest_seconds")] == [{(): 7}, {(): 900}, {(): 2.5}]


def test_dashboard_and_rules_ask_for_metrics_that_are_there(working: Api) -> None:
    there = {family.name + suffix for family in families(working).values() for suffix in _SUFFIXES[family.type]}
    asked = {name for expression in expressions() for name in _NAME.findall(expression)}
    assert asked <= there
    assert len(asked) > 30


def test_prometheus_understands_dashboard_and_rules(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt install prometheus)")
    recorded = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions())]
    panels = tmp_path / "panels.yml"
    panels.write_text(json.dumps({"groups": [{"name": "panels", "rules": recorded}]}))
    for file in (GRAFANA / "rules.yml", panels):
        done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_database_adds_up_as_the_ledger_does(world: World) -> None:
    world.enrol("cam-1")
    world.send("cam-1", *(Result(world.clock(), "a" * 64, str(number), "yes", 0.5, 10) for number in range(3)))
    said = {
        Lane.EVENTS: LaneLedger(produced=5, acknowledged=4, queued=1),
        Lane.SKETCHES: LaneLedger(produced=0, acknowledged=7, queued=0),
        Lane.TELEMETRY: LaneLedger(produced=3, acknowledged=3, queued=2, dropped={"quota": 1}),
        Lane.SAMPLES: LaneLedger(produced=9, acknowledged=0, queued=2, dropped={"quota": 4}),
    }
    world.say("cam-1", ledger=said)
    with world.engine.connect() as connection:
        told = {family.name: family for family in ledger.families(connection)}
    (lost,) = told["edgefleet_ledger_lost_records"].samples
    assert lost.value == sum(line.lost for line in streams.lines(world.engine)) == 14


def test_counts_beyond_all_measure_stop_no_metrics(world: World) -> None:
    world.enrol("cam-1")
    most = LaneLedger(2**53, 2**53, 0)
    with writing(world.engine) as connection:
        said = [("cam-1", f"e{number}", {Lane.EVENTS: most}, world.clock()) for number in range(1_025)]
        streams.report(connection, said)
    with reading(world.engine) as connection:
        produced = next(each for each in ledger.families(connection) if each.name == "edgefleet_ledger_produced_records")
    assert {sample.labels["lane"]: sample.value for sample in produced.samples}["events"] == 1_025 * 2.0**53

"""SQL of people: everything of the views can be asked, and nothing else of this machine read or changed."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet_contract import limits
from fleet_contract.messages import Event, Lane, LaneLedger, Result
from fleet_server import cli
from fleet_server.errors import BadRequest, TooLarge
from fleet_server.queries import formats, printing
from fleet_server.queries.bounds import Bounds
from fleet_server.queries.console import Console
from fleet_server.queries.views import NAMES
from fleet_server.settings import Settings, save
from fleet_server.tables import database
from tests.fakes.server_api import Api
from tests.fakes.server_world import World

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SHA = "a" * 64


@pytest.fixture
def told(world: World) -> World:
    return filled(world)


def filled(world: World) -> World:
    world.enrol("cam-1")
    world.send("cam-1", *(Result(NOON, SHA, str(number), "yes", 0.5, 10) for number in range(3)), Event(NOON, "agent.started", {"n": 1}))
    world.say("cam-1", ledger={Lane.TELEMETRY: LaneLedger(produced=4, acknowledged=3, queued=0, dropped={"quota": 1})})
    return world


def console(world: World, tell: Callable[[str], None] = print, **bounds: float) -> Console:
    return Console(world.engine, world.fleet.lake, world.fleet.home, Bounds(**bounds), tell)


def rows(world: World, sql: str, **bounds: float) -> list[dict]:
    with console(world, **bounds).answered(sql) as reader:
        return reader.read_all().to_pylist()


ASKED = {
    "the lake": ("SELECT device, count(*) AS n FROM results GROUP BY device", [{"device": "cam-1", "n": 3}]),
    "a table with JSON": ("SELECT kind, detail->>'n' AS n FROM events", [{"kind": "agent.started", "n": "1"}]),
    "the minutes": ("SELECT inputs, to_timestamp(minute * 60) AS t FROM minutes", [{"inputs": 3, "t": NOON}]),
    "the ledger": (
        "FROM ledger SELECT produced, stored, dropped, balanced WHERE lane = 'telemetry'",
        [{"produced": 4, "stored": 3, "dropped": '{"quota": 1}', "balanced": True}],
    ),
    "both joined": ("SELECT d.profile FROM results r JOIN devices d ON d.id = r.device LIMIT 1", [{"profile": "generic-x86-64"}]),
    "a time": ("SELECT max(recorded_at) AS t FROM results", [{"t": NOON}]),
}


def test_what_can_be_asked(told: World) -> None:
    assert {name: rows(told, sql) for name, (sql, _) in ASKED.items()} == {name: found for name, (_, found) in ASKED.items()}


def test_every_view_is_there(sqlite_world: World) -> None:
    assert {row["name"] for row in rows(sqlite_world, "SHOW TABLES")} == set(NAMES)
    assert rows(sqlite_world, " UNION ALL ".join(f"SELECT '{name}' AS name FROM {name}" for name in NAMES)) == []


def test_no_view_shows_a_secret(sqlite_world: World) -> None:
    shown = rows(sqlite_world, "SELECT column_name FROM duckdb_columns()")
    assert not [row for row in shown if any(word in row["column_name"] for word in ("token", "secret", "password", "digest", "pem"))]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        pytest.param("SELECT * FROM read_text('/etc/passwd')", "disabled", id="a file of this machine"),
        pytest.param("SELECT * FROM '/etc/passwd'", "does not exist", id="a file for a table"),
        pytest.param("SELECT * FROM glob('/*')", "disabled", id="a folder"),
        pytest.param("SELECT * FROM read_csv('https://example.org/x.csv')", "disabled|httpfs", id="the network"),
        pytest.param("SELECT * FROM query('COPY (SELECT 1) TO ''x''')", "SELECT", id="a function that runs SQL"),
        pytest.param("COPY results TO '/tmp/x.csv'", "one SELECT", id="writing a file"),
        pytest.param("ATTACH '/tmp/x.db'", "one SELECT", id="another database"),
        pytest.param("INSTALL httpfs", "one SELECT", id="an extension"),
        pytest.param("SET threads = 64", "one SELECT", id="a setting"),
        pytest.param("EXPLAIN ANALYZE COPY results TO '/tmp/x.csv'", "one SELECT", id="a file, in disguise"),
        pytest.param("SELECT 1; SELECT 2", "one SELECT", id="two"),
        pytest.param("", "one SELECT", id="nothing"),
        pytest.param("SELECT FROM WHERE", "syntax", id="no SQL"),
        pytest.param("SELECT * FROM api_tokens", "does not exist", id="a table that is no view"),
        pytest.param("SELECT tell FROM results", "tell", id="a variable of this program"),
        pytest.param("SELECT" + " 1" * limits.MAX_QUERY_CHARS, "characters", id="too long"),
    ],
)
def test_what_cannot(sqlite_world: World, sql: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        rows(sqlite_world, sql)


def test_a_file_of_the_lake_cannot_be_written_over(sqlite_world: World) -> None:
    sqlite_world.enrol("cam-1")
    sqlite_world.send("cam-1", Result(NOON, SHA, "1", "yes", 0.5, 10))
    (file,) = sqlite_world.fleet.lake.rglob("*.parquet")
    with pytest.raises(BadRequest, match="one SELECT"):
        rows(sqlite_world, f"COPY (SELECT 1) TO '{file}'")
    assert len(rows(sqlite_world, "SELECT * FROM results")) == 1


def test_what_takes_too_long_is_given_up(sqlite_world: World) -> None:
    with pytest.raises(BadRequest) as refused:
        rows(sqlite_world, "SELECT max(a.range * b.range) FROM range(10000000) a, range(10000000) b", max_s=0.2)
    assert (refused.value.code, refused.value.limit) == ("too-slow", 0.2)


def test_what_needs_too_much_memory_is_given_up(sqlite_world: World) -> None:
    with pytest.raises(TooLarge):
        rows(sqlite_world, "SELECT list(range) FROM range(100000000)", max_memory_bytes=64 * limits.MIB, max_spill_bytes=limits.MIB)


def test_a_table_that_is_not_seen_whole_is_told_of(told: World) -> None:
    heard: list[str] = []
    told.send("cam-1", Event(NOON, "agent.stopped", {}))
    short = Console(told.engine, told.fleet.lake, told.fleet.home, Bounds(), heard.append, max_table_rows=1)
    with short.answered("SELECT kind FROM events") as reader:
        assert reader.read_all().to_pylist() == [{"kind": "agent.stopped"}]
    assert heard == ["events: only its newest 1 rows are seen; --table-rows asks for more"]


class TestPrinting:
    def test_a_table_says_when_there_is_more(self, sqlite_world: World) -> None:
        with console(sqlite_world).answered(
            "SELECT range AS n, CASE range WHEN 0 THEN 'a' || chr(27) || 'b' END AS t FROM range(9)"
        ) as reader:
            assert list(printing.table(reader, 2)) == [
                "n  t",
                "-  ---",
                "0  a?b",
                "1  -",
                "(2 rows are shown of more; --rows asks for them, --csv and --json give all)",
            ]

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_json_is_one_object(self, sqlite_world: World, count: int) -> None:
        with console(sqlite_world).answered(f"SELECT range AS n, TIMESTAMPTZ '{NOON}' AS t FROM range({count})") as reader:
            told = json.loads("\n".join(printing.json_object(reader)))
        assert told == {"columns": ["n", "t"], "rows": [{"n": at, "t": "2026-01-02T12:00:00Z"} for at in range(count)]}

    def test_a_sum_of_whole_numbers_is_a_number_in_json(self, sqlite_world: World) -> None:
        with console(sqlite_world).answered("SELECT sum(range) AS n, 1.5::DECIMAL(4, 2) AS d FROM range(4)") as reader:
            (row,) = json.loads("\n".join(printing.json_object(reader)))["rows"]
        assert row == {"n": 6, "d": "1.50"}

    @pytest.mark.parametrize(
        "value",
        [
            "INTERVAL 90 MINUTE",
            "[1, 2]",
            "{'a': 1}",
            "MAP {'k': 1}",
            "'\\xFF'::BLOB",
            "1.5::DECIMAL(4, 2)",
            "TIME '10:00'",
            "'x'::ENUM ('x')",
            "NULL",
        ],
    )
    def test_a_value_of_any_type_has_its_place_in_csv(self, sqlite_world: World, value: str) -> None:
        with console(sqlite_world).answered(f"SELECT {value} AS x, 7 AS y") as reader:
            head, line = b"".join(formats.csv(formats.begun(reader))).decode().splitlines()
        assert (head, line.endswith(",7")) == ('"x","y"', True)

    def test_csv_has_a_head_though_there_is_no_row(self, sqlite_world: World) -> None:
        with console(sqlite_world).answered("SELECT device, seq FROM results") as reader:
            assert b"".join(formats.csv(formats.begun(reader))) == b'"device","seq"\n'


class TestCommand:
    @pytest.fixture
    def run(self, tmp_path: Path, sqlite_world: World) -> Callable:
        home = sqlite_world.fleet.home
        save(home, Settings(database_url=database.sqlite_url(tmp_path / "fleet.db")))
        return lambda *words, given=None: CliRunner().invoke(cli.app, ["sql", "--home", str(home), *words], input=given)

    @pytest.mark.parametrize(
        ("words", "shown"),
        [
            pytest.param(["SELECT 42 AS x;"], "x\n--\n42\n", id="a table"),
            pytest.param(["--json", "SELECT 42 AS x"], '{"columns": ["x"], "rows": [\n{"x": 42}\n]}\n', id="JSON"),
            pytest.param(["--csv", "SELECT 42 AS x"], '"x"\n42\n', id="CSV"),
            pytest.param(["-"], "y\n-\n1\n", id="from stdin"),
        ],
    )
    def test_forms(self, run: Callable, words: list[str], shown: str) -> None:
        assert run(*words, given="SELECT 1 AS y").stdout == shown

    def test_explain_shows_the_plan(self, run: Callable) -> None:
        assert "Aggregate" in run("--explain", "SELECT count(*) FROM results").stdout

    def test_two_forms_are_one_too_many(self, run: Callable) -> None:
        refused = run("--csv", "--json", "SELECT 1").exception
        assert isinstance(refused, BadRequest) and refused.field == "json"


class TestManual:
    """The examples of docs/telemetry.md."""

    MANUAL = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()

    @pytest.mark.parametrize("sql", re.findall(r"```sql\n(.*?)```", MANUAL, re.DOTALL))
    def test_sql(self, sqlite_world: World, sql: str) -> None:
        rows(filled(sqlite_world), sql)

    def test_requests(self, api: Api) -> None:
        api.publish("1")
        asked = re.findall(r"^GET (/v1/telemetry\S*)$", self.MANUAL, re.MULTILINE)
        assert {path: api.get(path).status_code for path in asked} == dict.fromkeys(asked, 200)
        assert len(asked) > 5

    def test_every_view_is_described(self) -> None:
        described = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", self.MANUAL, re.MULTILINE))))
        assert set(NAMES) <= described

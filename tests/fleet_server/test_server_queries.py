"""Questions about inferences: what is counted, in which order, page by page and whole, within bounds, and nothing but what was asked."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import text

from fleet_contract import limits
from fleet_contract.messages import Result
from fleet_server.errors import BadRequest, TooLarge, Unavailable
from fleet_server.queries import files, question, statement
from fleet_server.queries.bounds import Bounds
from fleet_server.queries.files import Listed
from fleet_server.queries.patience import bounded_reading
from fleet_server.queries.question import Cursor, Key, Question, Source
from fleet_server.queries.reader import Reader
from fleet_server.tables import database
from tests.fakes.server_api import Api
from tests.fakes.server_world import World

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ONE, OTHER = "a" * 64, "b" * 64


def a_result(number: int, bundle: str = ONE, **changed: object) -> Result:
    """One every ten seconds from noon, every third abstained, labels yes and no in turn."""
    given = {"input_id": f"in-{number}", "label": "no" if number % 2 else "yes", "abstained": number % 3 == 0, **changed}
    return Result(NOON + timedelta(seconds=10 * number), bundle, value=float(number), latency_us=100 + number, **given)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[World]:
    """Made once: to be read, not changed."""
    home = tmp_path_factory.mktemp("told")
    shutil.copyfile(sqlite_template, home / "fleet.db")
    engine = database.connect(database.sqlite_url(home / "fleet.db"))
    yield filled(World(home, engine))
    engine.dispose()


@pytest.fixture(scope="module")
def asking(told: World) -> Api:
    return Api(told)


@pytest.fixture
def told_twice(world: World) -> World:
    """Once on each database: where that one counts."""
    return filled(world)


def filled(world: World) -> World:
    """Two devices, a day apart, in several files."""
    for device in ("cam-1", "cam-2"):
        world.enrol(device)
    world.send("cam-1", *(a_result(number) for number in range(8)))
    world.send("cam-2", *(a_result(number, OTHER) for number in range(4)))
    world.send("cam-1", *(a_result(number) for number in range(8_640, 8_642)))
    return world


def reader(world: World, **bounds: float) -> Reader:
    return Reader(world.engine, world.fleet.lake, Bounds(**bounds))


def asked(world: World, **wanted: object) -> list[dict]:
    return reader(world).page(Question(**wanted), None, 1_000).items


@pytest.mark.parametrize(
    ("wanted", "inputs"),
    [
        pytest.param({}, [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8_640, 8_641], id="everything, by time"),
        pytest.param({"device": "cam-2"}, [0, 1, 2, 3], id="of a device"),
        pytest.param({"bundles": (OTHER,)}, [0, 1, 2, 3], id="of a bundle"),
        pytest.param({"bundles": ()}, [], id="of a version that nobody published"),
        pytest.param({"label": "no", "device": "cam-1"}, [1, 3, 5, 7, 8_641], id="with a label"),
        pytest.param({"abstained": True, "device": "cam-1"}, [0, 3, 6, 8_640], id="abstained"),
        pytest.param({"since": NOON + timedelta(seconds=50)}, [5, 6, 7, 8_640, 8_641], id="since, inclusive"),
        pytest.param({"until": NOON + timedelta(seconds=10)}, [0, 0], id="until, exclusive"),
        pytest.param({"task": "no-such"}, [], id="of a task without any"),
        pytest.param({"device": "x' OR '1'='1"}, [], id="a text that is no SQL"),
    ],
)
def test_rows(told: World, wanted: dict, inputs: list[int]) -> None:
    assert [item["input_id"] for item in asked(told, **wanted)] == [f"in-{number}" for number in inputs]


@pytest.mark.parametrize("limit", [3, 14])
@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(Question(), id="rows"),
        pytest.param(Question(group_by=(Key.MINUTE, Key.DEVICE)), id="groups of minutes"),
        pytest.param(Question(group_by=(Key.LABEL, Key.HOUR, Key.DEVICE)), id="groups of rows"),
    ],
)
def test_pages_join_to_the_whole(told_twice: World, wanted: Question, limit: int) -> None:
    asking, found, after = reader(told_twice), [], None
    while True:
        page = asking.page(wanted, after, limit)
        found += page.items
        if page.next is None:
            break
        after = question.cursor(page.next, wanted)
    assert found == asking.page(wanted, None, 1_000).items
    assert len(found) > 2


def test_what_comes_late_is_neither_met_twice_nor_moves_a_page(sqlite_world: World) -> None:
    told = filled(sqlite_world)
    first = reader(told).page(Question(device="cam-1"), None, 5)
    told.send("cam-1", a_result(2, input_id="late"))
    second = reader(told).page(Question(device="cam-1"), question.cursor(first.next, Question()), 5)
    assert [item["input_id"] for item in second.items] == ["in-5", "in-6", "in-7", "in-8640", "in-8641"]


def test_the_minutes_and_the_rows_count_the_same(told_twice: World) -> None:
    """A question that only rows can answer, and one that minutes answer, differ in nothing but what was asked."""
    quick = Question(group_by=(Key.MINUTE, Key.DEVICE, Key.BUNDLE, Key.TASK))
    exact = Question(group_by=quick.group_by, quantiles=(0.5,))
    assert (quick.source(), exact.source()) == (Source.MINUTES, Source.ROWS)
    by_rows = asked(told_twice, group_by=exact.group_by, quantiles=exact.quantiles)
    assert asked(told_twice, group_by=quick.group_by) == [
        {name: value for name, value in group.items() if not name.endswith("_quantiles")} for group in by_rows
    ]


@pytest.mark.parametrize("key", [Key.HOUR, Key.DAY])
def test_times_are_named_by_their_beginning(told: World, key: Key) -> None:
    starts = [NOON, NOON + timedelta(days=1)] if key is Key.HOUR else [datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3)]
    for quantiles in ((), (0.5,)):
        groups = asked(told, group_by=(key,), quantiles=quantiles)
        assert [(group[key], group["inputs"]) for group in groups] == [(starts[0], 12), (starts[1], 2)]


def test_figures_of_a_group(told: World) -> None:
    (group,) = asked(told, group_by=(Key.DEVICE,), quantiles=(0.0, 0.5), device="cam-2")
    assert group == {
        "device": "cam-2",
        "inputs": 4,
        "abstained": 2,
        "value_mean": 1.5,
        "value_min": 0.0,
        "value_max": 3.0,
        "latency_us_mean": 101.5,
        "latency_us_max": 103,
        "value_quantiles": [0.0, 1.5],
        "latency_us_quantiles": [100.0, 101.5],
    }


def test_an_inference_without_a_label_is_in_the_group_of_no_label(sqlite_world: World) -> None:
    told = filled(sqlite_world)
    told.send("cam-2", a_result(9, label=None))
    assert [(group["label"], group["inputs"]) for group in asked(told, group_by=(Key.LABEL,))] == [("", 1), ("no", 7), ("yes", 7)]


def test_a_file_that_is_off_the_list_is_not_read(sqlite_world: World) -> None:
    told = filled(sqlite_world)
    (told.fleet.lake / "results" / "day=2026-01-02" / "task=toy" / "999-999.parquet").write_bytes(b"half a file")
    assert len(asked(told)) == 14


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        pytest.param({"since": datetime(2026, 1, 1)}, "since", id="no time zone"),  # noqa: DTZ001
        pytest.param({"since": NOON, "until": NOON}, "until", id="no time between"),
        pytest.param({"group_by": (Key.HOUR, Key.DAY)}, "group_by", id="time cut twice"),
        pytest.param({"group_by": (Key.DEVICE, Key.DEVICE)}, "group_by", id="a key twice"),
        pytest.param({"quantiles": (0.5,)}, "quantiles", id="quantiles of rows"),
        pytest.param({"group_by": (Key.DEVICE,), "quantiles": (1.5,)}, "quantiles", id="no share"),
        pytest.param({"group_by": (Key.DEVICE,), "quantiles": (0.5,) * 21}, "quantiles", id="too many"),
    ],
)
def test_questions_that_cannot_be(wanted: dict, field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        question.check(Question(**wanted))
    assert refused.value.field == field


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("!", id="not base64"),
        pytest.param("AAAA", id="not msgpack of a list"),
        pytest.param(Cursor((1, "cam-1")).text(), id="of another question"),
        pytest.param(Cursor((2**63, "cam-1", "e", 0)).text(), id="a number that no database takes"),
        pytest.param(Cursor((True, "cam-1", "e", 0)).text(), id="another type"),
    ],
)
def test_cursors_that_nobody_gave(text: str) -> None:
    with pytest.raises(BadRequest, match="not given"):
        question.cursor(text, Question())


def test_every_word_that_somebody_chose_is_a_parameter() -> None:
    words = {"device": "D'", "label": "L'", "task": "T'", "bundles": ("B'",)}
    made = statement.page(Question(**words, group_by=(Key.LABEL,)), Cursor(("C'",)), 5)
    assert "'" not in made.sql.replace("''", "")
    assert set(made.parameters) == {"D'", "L'", "T'", "B'", "C'", 5}


@pytest.mark.parametrize(
    ("spans", "spells"),
    [
        pytest.param([], [], id="none"),
        pytest.param([(0, 9), (5, 12), (12, 13)], [[0, 1, 2]], id="one time"),
        pytest.param([(20, 29), (0, 9), (30, 39), (40, 49)], [[1], [0, 2], [3]], id="one, then two, then what is left"),
        pytest.param([(0, 100), (10, 20), (50, 60), (101, 102)], [[0, 1, 2], [3]], id="one that covers others"),
    ],
)
def test_the_first_page_reads_the_first_files(spans: list[tuple[int, int]], spells: list[list[int]]) -> None:
    listed = [Listed(str(at), *span) for at, span in enumerate(spans)]
    assert [sorted(int(file.path) for file in spell) for spell in files.spells(listed)] == spells


class TestBounds:
    """Of DuckDB; which database holds the rest makes no difference."""

    def test_who_finds_no_slot_is_told_to_try_again(self, sqlite_world: World) -> None:
        sqlite_world.enrol("cam-1")
        sqlite_world.send("cam-1", a_result(1))
        busy = Reader(sqlite_world.engine, sqlite_world.fleet.lake, Bounds(), slots=1, patience_s=0.0)
        held = busy.batches(Question())
        next(held)
        with pytest.raises(Unavailable):
            busy.page(Question(), None, 1)
        held.close()
        assert len(busy.page(Question(), None, 1).items) == 1

    def test_the_minutes_are_given_up_too(self, world: World) -> None:
        """A question so large that it cannot be answered in a few milliseconds."""
        endless = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT max(i) FROM n")
        with pytest.raises(BadRequest) as refused, bounded_reading(world.engine, 0.05) as connection:
            connection.execute(endless)
        assert refused.value.code == "too-slow"
        with bounded_reading(world.engine, 60.0) as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1

    def test_an_export_has_a_bound_in_rows(self, sqlite_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        sqlite_world.enrol("cam-1")
        sqlite_world.send("cam-1", *(a_result(number) for number in range(8)))
        monkeypatch.setattr(limits, "MAX_EXPORT_ROWS", 7)
        with pytest.raises(TooLarge) as refused:
            next(reader(sqlite_world).batches(Question()))
        assert refused.value.limit == 7


class TestApi:
    def test_groups_have_the_keys_that_were_asked_for(self, asking: Api) -> None:
        answer = asking.get("/v1/telemetry?group_by=hour,label&quantiles=0.5&device=cam-2").json()
        assert [(group["hour"], group["label"], group["inputs"], group["value_quantiles"]) for group in answer["items"]] == [
            ("2026-01-02T12:00:00Z", "no", 2, [2.0]),
            ("2026-01-02T12:00:00Z", "yes", 2, [1.0]),
        ]
        assert "device" not in answer["items"][0]
        assert answer["next"] is None

    def test_a_version_is_one_of_a_task(self, api: Api) -> None:
        bundle = api.publish("1")
        api.world.enrol("cam-1")
        api.world.send("cam-1", a_result(5, bundle), a_result(6))
        items = api.get("/v1/telemetry?task=toy&version=1").json()["items"]
        assert [item["bundle"] for item in items] == [bundle]
        assert api.get("/v1/telemetry?version=1").json()["error"]["field"] == "version"

    @pytest.mark.parametrize(
        ("query", "headers"),
        [
            pytest.param("&format=arrow", {}, id="by a parameter"),
            pytest.param("", {"Accept": "application/vnd.apache.arrow.stream"}, id="by a header"),
        ],
    )
    def test_arrow(self, asking: Api, query: str, headers: dict) -> None:
        answer = asking.get(f"/v1/telemetry?device=cam-2{query}", headers=headers)
        table = pa.ipc.open_stream(io.BytesIO(answer.content)).read_all()
        assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
        assert table.column("input_id").to_pylist() == ["in-0", "in-1", "in-2", "in-3"]
        assert table.schema.field("at").type == pa.timestamp("us", "UTC")

    @pytest.mark.parametrize(
        ("query", "lines"),
        [
            pytest.param(
                "group_by=label&quantiles=0.25&device=cam-2",
                ['"no",2,1,2,1,3,102,103,1.5,101.5', '"yes",2,1,1,0,2,101,102,0.5,100.5'],
                id="groups of rows, a column a quantile",
            ),
            pytest.param("group_by=device&device=cam-2", ['"cam-2",4,2,1.5,0,3,101.5,103'], id="groups of minutes"),
            pytest.param("device=ghost", [], id="nothing but a head"),
        ],
    )
    def test_csv(self, asking: Api, query: str, lines: list[str]) -> None:
        answer = asking.get(f"/v1/telemetry?format=csv&{query}")
        assert answer.text.splitlines()[1:] == lines
        assert answer.text.splitlines()[0].startswith('"')

    def test_no_cell_of_csv_is_a_formula(self, api: Api) -> None:
        api.world.enrol("cam-1")
        labels = ["=1+1", "@x", "-5", "-5x", "plain", None]
        api.world.send("cam-1", *(a_result(number, label=label) for number, label in enumerate(labels)))
        lines = csv.DictReader(io.StringIO(api.get("/v1/telemetry?format=csv").text))
        assert [line["label"] for line in lines] == ["'=1+1", "'@x", "-5", "'-5x", "plain", ""]

    @pytest.mark.parametrize(
        ("query", "status", "field"),
        [
            pytest.param("group_by=colour", 400, "group_by", id="no such key"),
            pytest.param("group_by=hour&quantiles=half", 400, "quantiles", id="no number"),
            pytest.param("format=xml", 422, "format", id="no such format"),
            pytest.param("since=yesterday", 422, "since", id="no time"),
            pytest.param("format=csv&quantiles=0.5", 400, "quantiles", id="an export is refused before it begins"),
            pytest.param("devices=cam-1&format=csv", 400, "devices", id="a misspelt filter is no export of everything"),
            pytest.param("device=cam-1&device=cam-2", 400, "device", id="twice"),
        ],
    )
    def test_what_is_refused(self, asking: Api, query: str, status: int, field: str) -> None:
        answer = asking.get(f"/v1/telemetry?{query}")
        assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)

    def test_details_are_told_as_they_are(self, asking: Api) -> None:
        assert json.loads(asking.get("/v1/telemetry?limit=1").text)["items"][0]["detail"] is None

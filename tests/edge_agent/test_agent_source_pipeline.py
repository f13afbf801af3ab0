"""From sources that bring their own threads through the pipeline to the store: answered, and what was lost told."""

import http.client
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.monitor.books import ORIGIN_MARK
from edge_agent.pipeline import Pipeline
from edge_agent.ports import Source
from edge_agent.serving.address import TcpAddress
from edge_agent.serving.guard import guard_of
from edge_agent.sources.backlog import Rules
from edge_agent.sources.factory import open_source, origin_of
from edge_agent.sources.push import Push
from fleet_contract.messages import Result
from tests.fakes import agent_run_models as models
from tests.fakes.agent_run_world import FakeHost, FakeSource, FakeStore, vector_input
from tests.fakes.running_pipeline import running

HERE = TcpAddress("127.0.0.1", 0)
ROWS = 100


def pipeline_of(source: Source, store: FakeStore) -> Pipeline:
    return Pipeline(source, FakeHost(models.bundle()), store, SystemClock())


def post(port: int, rows: list) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/", json.dumps(rows))
        return connection.getresponse().status


def test_what_is_posted_is_answered_and_what_is_no_input_is_counted() -> None:
    store = FakeStore()
    source = Push(HERE, guard_of(HERE, None), SystemClock(), Rules("block", 1_000))
    pipeline = pipeline_of(source, store)
    with closing(source), running(pipeline):
        while post(source.address.port, [1, 0]) == 503:
            pass
        assert post(source.address.port, [[row % 3, 0] for row in range(ROWS)]) == 202
        assert post(source.address.port, ["warm"]) == 400
        store.wait_until(lambda: len(store.of(Result)) == ROWS + 1)
        assert post(source.address.port, [1, 0]) == 202
        store.wait_until(lambda: len(store.of(Result)) == ROWS + 2)
    assert pipeline.observe().refused == {"bad-row": 1}


def test_a_file_is_answered_once_each_in_order(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("a,b\n" + "".join(f"{row % 3},1\n" for row in range(ROWS)))
    store = FakeStore()
    with closing(open_source(f"csv:{tmp_path}/s.csv", SystemClock(), Rules("block", 2))) as source, running(pipeline_of(source, store)):
        store.wait_until(lambda: store.position == str(ROWS))
    assert [result.input_id for result in store.of(Result)] == [str(row) for row in range(1, ROWS + 1)]


def read_file(path: Path, rows: int, store: FakeStore) -> list[str]:
    """The results of a run that ends behind the last row."""
    first, text = len(store.of(Result)), f"csv:{path}"
    with closing(open_source(text, SystemClock())) as source:
        pipeline = Pipeline(source, FakeHost(models.bundle()), store, SystemClock(), origin=origin_of(text))
        with running(pipeline):
            store.wait_until(lambda: store.marks.get(ORIGIN_MARK) == origin_of(text) and store.position == str(rows))
    return [result.input_id for result in store.of(Result)[first:]]


def written(path: Path, rows: int) -> Path:
    path.write_text("a,b\n" + "1,1\n" * rows)
    return path


def test_another_file_on_the_same_state_is_read_from_its_beginning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    assert len(read_file(written(tmp_path / "rows.csv", 30), 30, store)) == 30
    assert not caplog.records
    assert read_file(written(tmp_path / "other.csv", 20), 20, store) == [str(row) for row in range(1, 21)]
    assert "another source" in caplog.text


def test_the_same_file_goes_on_and_so_does_a_state_that_names_no_source(tmp_path: Path) -> None:
    path, store = written(tmp_path / "rows.csv", 30), FakeStore()
    read_file(path, 30, store)
    assert read_file(written(path, 32), 32, store) == ["31", "32"]
    store.marks.pop(ORIGIN_MARK)
    assert read_file(written(path, 33), 33, store) == ["33"]
    assert store.marks[ORIGIN_MARK] == origin_of(f"csv:{path}")


def test_a_source_that_cannot_go_on_leaves_the_place_of_the_one_before(tmp_path: Path) -> None:
    path, store = written(tmp_path / "rows.csv", 30), FakeStore()
    read_file(path, 30, store)
    live = FakeSource([replace(vector_input(number), cursor=None) for number in range(3)])
    with running(Pipeline(live, FakeHost(models.bundle()), store, SystemClock(), origin="live")):
        store.wait_until(lambda: len(store.of(Result)) == 33)
    assert read_file(written(path, 31), 31, store) == ["31"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("csv:/a.csv", "csv:/a.csv?time=when&speed=2", True, id="options"),
        pytest.param("csv:/a.csv", "csv:/x/../a.csv", True, id="same-place"),
        pytest.param("csv:/a.csv", "csv:/b.csv", False, id="other-place"),
        pytest.param("csv:/a.csv", "jsonl:/a.csv", False, id="other-kind"),
        pytest.param("camera:/", "folder:/", True, id="folder"),
    ],
)
def test_a_source_is_told_by_its_kind_and_place(one: str, other: str, same: bool) -> None:
    assert (origin_of(one) == origin_of(other)) is same


def test_the_name_of_a_source_holds_no_password() -> None:
    assert "word" not in origin_of("camera:rtsp://user:word@10.0.0.9/live")

"""From sources that bring their own threads through the pipeline to the store: answered, and what was lost told."""

import http.client
import json
from contextlib import closing
from pathlib import Path

from edge_agent.clock import SystemClock
from edge_agent.pipeline import Pipeline
from edge_agent.ports import Source
from edge_agent.serving.address import TcpAddress
from edge_agent.serving.guard import guard_of
from edge_agent.sources.backlog import Rules
from edge_agent.sources.factory import open_source
from edge_agent.sources.push import Push
from fleet_contract.messages import Result
from tests.fakes import agent_run_models as models
from tests.fakes.agent_run_world import FakeHost, FakeStore
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

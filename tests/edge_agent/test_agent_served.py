"""Local applications and a real agent process: served without a fleet, and beside one's own models, shadows and ensembles."""

import json
import signal
import socket
import threading
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from edge_agent import cli, standalone
from edge_agent.config import StateFolder
from edge_agent.inference.residents import Resident
from edge_agent.inspection import status
from edge_client import Client, ClientError
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Event
from tests.fakes import agent_run_models as models
from tests.fakes.agent_installed import AgentProcess, agent, installed
from tests.fakes.agent_outbox import records_of

pytestmark = pytest.mark.e2e

ROW = np.array([[1, 2]], np.float32)
OTHER_WEIGHT = np.array([[-1.0, 1.0], [0.5, 0.5]], np.float32)


def other_bundle() -> bytes:
    return models.bundle({"fp32": models.linear(OTHER_WEIGHT)}, answers=models.KNOWN_INPUTS @ OTHER_WEIGHT, version="2.0.0")


def put(path: Path, archive: bytes) -> str:
    path.write_bytes(archive)
    return Bundle(archive).sha256


def addresses(process: AgentProcess, count: int) -> list[str]:
    """Where it says that it listens."""

    def listening() -> list[str]:
        return [line.removeprefix("listening on ") for line in process.log.read_text().splitlines() if line.startswith("listening on ")]

    process.until(lambda: len(listening()) == count)
    return listening()


def test_a_bundle_is_served_over_http_and_grpc_and_ends_on_sigterm(tmp_path: Path) -> None:
    digest = put(tmp_path / "toy.bundle", models.bundle())
    command = ["serve", "--bundle", f"{tmp_path}/toy.bundle@{digest}", "--http", "127.0.0.1:0", "--grpc", f"unix:{tmp_path}/grpc"]
    with agent(command, tmp_path / "log") as process:
        http, grpc = addresses(process, 2)
        with Client(f"http://{http}") as client:
            np.testing.assert_allclose(client.infer("toy", {"input": ROW}).outputs["logits"], [[2, 3]])
        with closing(triton.InferenceServerClient(grpc)) as foreign:
            given = triton.InferInput("input", [1, 2], "FP32")
            given.set_data_from_numpy(ROW)
            np.testing.assert_allclose(foreign.infer("toy", [given]).as_numpy("logits"), [[2, 3]])
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(60) == 0


CONFIGURATION = """
[serving]
http = ["unix:{folder}/http"]

[[models]]
name = "other"
bundle = "{folder}/other.bundle"
sha256 = "{digest}"

[[models]]
name = "broken"
bundle = "{folder}/other.bundle"
sha256 = "{nobody}"

[[ensembles]]
name = "both"
rule = "average"
members = [{{ model = "toy" }}, {{ model = "other" }}]

[[shadows]]
bundle = "{folder}/other.bundle"
sha256 = "{digest}"
every_inputs = 3
"""


def test_a_device_serves_the_fleets_model_and_its_own_without_a_source(tmp_path: Path) -> None:
    state = installed(tmp_path, models.bundle())
    digest = put(tmp_path / "other.bundle", other_bundle())
    (tmp_path / "agent.toml").write_text(CONFIGURATION.format(folder=tmp_path, digest=digest, nobody="0" * 64))
    with agent(["run", "--state", str(state.root), "--config", f"{tmp_path}/agent.toml"], tmp_path / "log") as process:
        process.until(lambda: (tmp_path / "http").exists())
        process.until(lambda: "model shadow of toy: version 2.0.0 answers" in process.log.read_text())
        with Client(f"unix:{tmp_path}/http") as client:
            process.until(lambda: client.is_ready("both"))
            for _ in range(3):
                np.testing.assert_allclose(client.infer("toy", {"input": ROW}).outputs["logits"], [[2, 3]])
            np.testing.assert_allclose(client.infer("other", {"input": ROW}).outputs["logits"], ROW @ OTHER_WEIGHT)
            np.testing.assert_allclose(shares(client.infer("both", {"input": ROW}).outputs["logits"]), mean_shares(), atol=1e-5)
            with pytest.raises(ClientError, match="broken"):
                client.infer("broken", {"input": ROW})
        process.until(lambda: status(state)["link"].get("serving") == [f"unix:{tmp_path}/http"])
        assert process.end() == 0
    told = events(state)
    assert [detail["model"] for detail in told["local.serving"]] == ["other", "shadow of toy"]
    assert [(detail["model"], detail["code"]) for detail in told["local.refused"]] == [("broken", "bundle")]
    compared = told["shadow.compared"][0]
    assert (compared["model"], compared["candidate"], compared["inputs"], compared["agreed"]) == ("toy", digest, 3, 3)


WITH_A_SOURCE = """
source = "csv:{folder}/rows.csv"
ask = "both"

[[models]]
name = "opposite"
bundle = "{folder}/opposite.bundle"
sha256 = "{digest}"

[[ensembles]]
name = "both"
rule = "vote"
members = [{{ model = "toy" }}, {{ model = "opposite", weight = 3 }}]

[serving]
http = ["unix:{folder}/http"]

[queue]
policy = "block"
max_inputs = 4

[[sinks]]
kind = "jsonl"
path = "{folder}/results.jsonl"
"""


def test_source_ensemble_queue_and_sink_come_from_the_configuration_and_are_counted(tmp_path: Path) -> None:
    state = installed(tmp_path, models.bundle())
    digest = put(tmp_path / "opposite.bundle", models.bundle({"fp32": models.linear(-models.WEIGHT)}, answers=-models.KNOWN_LOGITS))
    (tmp_path / "rows.csv").write_text("a,b\n" + "1,2\n" * 30)
    (tmp_path / "agent.toml").write_text(WITH_A_SOURCE.format(folder=tmp_path, digest=digest))
    results = tmp_path / "results.jsonl"
    with agent(["run", "--state", str(state.root), "--config", f"{tmp_path}/agent.toml"], tmp_path / "log") as process:
        process.until(lambda: results.exists() and len(results.read_text().splitlines()) == 30)
        told = metrics(tmp_path / "http")
        assert process.end() == 0
    said = {(found["label"], round(found["value"], 3)) for found in map(json.loads, results.read_text().splitlines())}
    assert said == {("no", 0.75)}, "the model alone says yes"
    assert "edge_agent_inputs_total 30" in told
    assert 'edge_agent_records_total{lane="telemetry"} 30' in told
    assert 'edge_agent_results_dropped_total{sink="0"} 0' in told
    assert 'edge_agent_workers_total{model="toy",event="started"} 2' in told
    assert "edge_agent_connected 0" in told


def metrics(path: Path) -> list[str]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode().splitlines()


def events(state: StateFolder) -> dict[str, list[dict]]:
    """Their details, by kind, as they wait for the server."""
    found: dict[str, list[dict]] = defaultdict(list)
    for event in records_of(state.outbox):
        if isinstance(event, Event):
            found[event.kind].append(event.detail)
    return found


def shares(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits)
    return raised / raised.sum(axis=1, keepdims=True)


def mean_shares() -> np.ndarray:
    return (shares(ROW @ models.WEIGHT) + shares(ROW @ OTHER_WEIGHT)) / 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param([], "--bundle", id="nothing-to-serve"),
        pytest.param(["--bundle", "{folder}/none.bundle"], "none.bundle", id="no-such-file"),
        pytest.param(["--bundle", "{folder}/toy.bundle@" + "0" * 64], "has the digest", id="another-bundle"),
        pytest.param(["--bundle", "{folder}/toy.bundle", "--http", "8080"], "'8080' is no address", id="address"),
        pytest.param(["--bundle", "{folder}/toy.bundle", "--http", "0.0.0.0:0"], "token file", id="beyond-this-board"),
        pytest.param(["--bundle", "{folder}/toy.bundle", "--profile", "toaster"], "toaster", id="profile"),
        pytest.param(["--bundle", "{folder}/toy.bundle"] * 2, "'toy'", id="one-name-twice"),
        pytest.param(["--config", "{folder}/none.toml"], "none.toml", id="no-configuration"),
    ],
)
def test_what_cannot_be_served_is_named(arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "toy.bundle", models.bundle())
    assert cli.main(["serve", *(argument.format(folder=tmp_path) for argument in arguments)]) == 2
    assert told in capsys.readouterr().err


def test_an_address_that_cannot_be_had_is_told_before_any_model_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "toy.bundle", models.bundle())
    monkeypatch.setattr(Resident, "open", lambda self: pytest.fail("a model was tried"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--bundle", f"{tmp_path}/toy.bundle", "--http", f"127.0.0.1:{port}"]) == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_a_stop_while_models_come_up_leaves_the_rest_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "toy.bundle", models.bundle())
    put(tmp_path / "other.bundle", other_bundle())
    config = tmp_path / "agent.toml"
    config.write_text(f'models = [{{ name = "other", bundle = "{tmp_path}/other.bundle", sha256 = "{Bundle(other_bundle()).sha256}" }}]')
    stop, opened = threading.Event(), []
    monkeypatch.setattr(Resident, "open", lambda self: (opened.append(self.name), stop.set()))
    standalone.serve(standalone.Wish([f"{tmp_path}/toy.bundle"], config, ["127.0.0.1:0"], [], None, None), stop, pytest.fail)
    assert opened == ["toy"]

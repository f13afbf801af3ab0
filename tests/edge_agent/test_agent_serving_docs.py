"""What docs/serving.md shows is what happens."""

import contextlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.models import HostedModel, Models
from edge_agent.serving import refusals
from edge_agent.serving.address import UnixAddress
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from tests.fakes import agent_run_models as models
from tests.fakes.agent_grpc import grpc_server
from tests.fakes.agent_serving import rest_server

PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text()
CURLS = re.findall(r"```sh\n(.*?)```\n```json\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What stands on the page, and where it is here."""
    folder = tmp_path_factory.mktemp("serving")
    archive, socket = folder / "readings.bundle", folder / "http.sock"
    archive.write_bytes(models.bundle())
    host = InferenceHost(catalog.load("generic-x86-64"), SystemClock())
    try:
        host.activate(Bundle(archive))
        known = Models([HostedModel("readings", host)])
        with rest_server(known) as tcp, rest_server(known, UnixAddress(socket)), grpc_server(known) as grpc:
            yield {"127.0.0.1:8080": str(tcp.address), "/run/edge-agent/http.sock": str(socket), "127.0.0.1:8081": str(grpc.address)}
    finally:
        host.close()


def _here(text: str, places: dict[str, str]) -> str:
    for shown, real in places.items():
        text = text.replace(shown, real)
    return text


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(("command", "shown"), CURLS, ids=["metadata", "infer", "answers", "refused", "unix"])
def test_curl_shows_what_the_page_says(places: dict[str, str], command: str, shown: str) -> None:
    ended = subprocess.run(["sh", "-c", _here(command, places)], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(ended.stdout) == json.loads(shown)


@pytest.mark.parametrize(
    ("program", "shown"),
    [*zip(PROGRAMS, ["[[2. 3.]] yes\nnot-finite\n", "[[2. 3.]]\n", "[[2. 3.]]\n"], strict=True)],
    ids=["edge_client", "http", "grpc"],
)
def test_the_programs_run(places: dict[str, str], program: str, shown: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(_here(program, places), {})
    assert said.getvalue() == shown


def test_every_code_is_told_with_its_statuses() -> None:
    lines = [line.split("|")[1:4] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {code: (http.strip(), grpc) for codes, http, grpc in lines for code in re.findall(r"`([a-z-]+)`", codes)}
    for code, (http, grpc) in refusals._STATUSES.items():
        assert told[code][0] == str(http.value)
        assert grpc in told[code][1]

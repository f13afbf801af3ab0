"""A real agent process whose newest order is for a shadow: what answers, and what is told."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config import StateFolder
from edge_agent.storage.journal import Journal
from edge_agent.update.slots import Slots
from edge_agent.update.state import Installed, State
from edge_client import Client
from fleet_contract.bundle import Bundle
from fleet_contract.messages import Event
from fleet_contract.order import Order
from tests.fakes import agent_run_models as models
from tests.fakes.agent_enrol_server import DEVICE
from tests.fakes.agent_installed import agent, installed
from tests.fakes.agent_outbox import records_of

ROWS = 4
OPPOSITE = models.bundle({"fp32": models.linear(-models.WEIGHT)}, answers=-models.KNOWN_LOGITS, version="2.0.0")


@pytest.mark.e2e
def test_local_applications_hear_the_model_that_serves_and_the_server_hears_of_both(tmp_path: Path) -> None:
    state = installed(tmp_path, models.bundle())
    shadow = accompany(state, OPPOSITE)
    (tmp_path / "agent.toml").write_text(f'[serving]\nhttp = ["unix:{tmp_path}/http"]\n')
    with agent(["run", "--state", str(state.root), "--config", f"{tmp_path}/agent.toml"], tmp_path / "log") as process:
        process.until(lambda: "runs as a shadow of toy" in process.log.read_text())
        with Client(f"unix:{tmp_path}/http") as client:
            rows = np.tile(models.KNOWN_INPUTS[:1], (ROWS, 1))
            for _ in range(5):
                found = client.infer("toy", {"input": rows}).outputs["logits"]
                np.testing.assert_allclose(found, rows @ models.WEIGHT)
        assert process.end() == 0
    (compared,) = events(state)["shadow.compared"]
    missed = compared.get("missed.not-in-time", 0)
    assert (compared["candidate"], compared["inputs"] + missed, compared["agreed"]) == (shadow, 5 * ROWS, 0)


def accompany(state: StateFolder, archive: bytes) -> str:
    """As an update leaves it that was ordered with `shadow`; returns the digest."""
    bundle, journal = Bundle(archive), Journal(state.journal, State)
    shadow = Installed(slot="b", sha256=bundle.sha256, length=len(archive), version=bundle.manifest.version)
    staging = Slots(state.slots).staging(State(candidate=shadow))
    staging.part().write_bytes(archive)
    staging.seal()
    now = datetime.now(UTC)
    order = Order(
        device=DEVICE,
        profile="generic-x86-64",
        counter=2,
        issued_at=now,
        not_after=now + timedelta(days=1),
        target_path="bundles/toy-2.0.0.bundle",
        sha256=bundle.sha256,
        length=len(archive),
        shadow=True,
    )
    journal.write(State(active=journal.read().active, shadow=shadow, order=order))
    return bundle.sha256


def events(state: StateFolder) -> dict[str, list[dict]]:
    """Their details, by kind, as they wait for the server."""
    found: dict[str, list[dict]] = defaultdict(list)
    for event in records_of(state.outbox):
        if isinstance(event, Event):
            found[event.kind].append(event.detail)
    return found

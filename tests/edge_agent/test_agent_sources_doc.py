"""What docs/sources.md shows works."""

import re
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sources import address, backlog
from edge_agent.sources.factory import open_source
from fleet_contract import limits
from fleet_contract.inputs import VectorInput
from tests.fakes.agent_run_world import FakeClock

TEXT = (Path(__file__).parents[2] / "docs/sources.md").read_text()
SHOWN = sorted({*re.findall(r"`((?:camera|folder|csv|jsonl|mqtts?|push|python):[^`\s]+)`", TEXT)})


@pytest.mark.parametrize("text", SHOWN)
def test_every_source_that_is_shown_has_a_legal_name(text: str) -> None:
    address.parse(text)


def test_every_kind_is_shown() -> None:
    assert {address.parse(text).kind for text in SHOWN} == {"camera", "folder", "csv", "jsonl", "mqtt", "mqtts", "push", "python"}


@pytest.mark.parametrize("word", [*backlog.POLICIES, backlog.QUEUE_FULL, backlog.MODEL_CHANGED])
def test_every_policy_and_its_losses_are_told(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_the_bounds_are_those_of_the_code() -> None:
    rules = backlog.Rules("block")
    assert f"{rules.max_items} inputs and {rules.max_bytes // limits.MIB} MiB" in TEXT
    assert f"{limits.MAX_PUSHED_ROWS:,} at most" in TEXT
    assert f"{limits.MAX_IMAGE_BYTES // limits.MIB} MiB at most" in TEXT


def test_the_example_feeds_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "my_sensor.py").write_text(example)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = open_source("python:my_sensor:read:/dev/ttyS0", FakeClock())
    spec = VectorInput(tensor="input", columns=["t", "p"], low=[0.0, 0.0], high=[99.0, 2000.0])
    found = list(islice((taken for taken in source.read(spec, None) if taken), 3))
    source.close()
    sys.modules.pop("my_sensor")
    np.testing.assert_array_equal([taken.values for taken in found], [[20, 1013], [21, 1013], [22, 1013]])

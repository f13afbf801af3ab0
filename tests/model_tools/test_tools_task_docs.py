"""The reference of task files names what the code takes, no more and no less."""

import re
from pathlib import Path

import msgspec
import pytest

from fleet_contract.manifest import DriftPolicy, Limits, RetrainPolicy, RolloutPolicy, SamplingPolicy
from model_tools import sections
from model_tools.task import load_task

DOCUMENT = (Path(__file__).parents[2] / "docs" / "task-files.md").read_text()
STRUCTS = {
    "`[task]`": sections.Head,
    '`[input]` with `kind = "vector"`': sections.VectorShape,
    '`[input]` with `kind = "image"`': sections.ImageShape,
    '`[input]` with `kind = "window"`': sections.WindowShape,
    "`[output]`": sections.Answer,
    '`[data]` with `reader = "csv"`': sections.CsvFile,
    '`[data]` with `reader = "parquet"`': sections.ParquetFile,
    '`[data]` with `reader = "jsonl"`': sections.JsonLinesFile,
    '`[data]` with `reader = "numpy"`': sections.NumpyFile,
    '`[data]` with `reader = "wav"`': sections.WavFolder,
    '`[data]` with `reader = "images"`': sections.ImageFolder,
    "`[split]`": sections.Split,
    "`[check]`": sections.Check,
    "`[train]`": sections.Training,
    "`[search]`": sections.Search,
    "`[retrain]`": sections.Retraining,
    "`[quantize]`": sections.Quantization,
    "`[gates]`": sections.Gates,
    "`[policy.drift]`": DriftPolicy,
    "`[policy.sampling]`": SamplingPolicy,
    "`[policy.retrain]`": RetrainPolicy,
    "`[policy.rollout]`": RolloutPolicy,
    "`[limits]`": Limits,
}
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)


def documented() -> dict[str, dict[str, str]]:
    """The default of every key, as written, by heading."""
    parts = [part.partition("\n") for part in DOCUMENT.split("\n### ")[1:]]
    return {heading: dict(re.findall(r"^\| `(\w+)` \|.*?\| ([^|]*?) \| [^|]*\|$", body, re.MULTILINE)) for heading, _, body in parts}


def default_of(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return "none" if value is None else f"`{msgspec.json.encode(value).decode()}`"


def test_every_section_is_described() -> None:
    assert [*documented()] == [*STRUCTS]


@pytest.mark.parametrize("heading", STRUCTS)
def test_every_key_is_described_with_its_default(heading: str) -> None:
    assert documented()[heading] == {field.name: default_of(field) for field in msgspec.structs.fields(STRUCTS[heading])}


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_a_task_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "task.toml").write_text(text)
    assert load_task(tmp_path / "task.toml").name

"""Accelerators that fail: external delegates of our own making, each in its way, through the selection by measurement with real workers."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import Unproven
from edge_agent.inference.child import Deadlines
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.sandbox import DEVICES, FILES
from edge_agent.ports import Measurement, Proof
from firmware_profiles import catalog
from firmware_profiles.catalog import Backend, Profile
from fleet_contract.bundle import Bundle
from fleet_contract.manifest import Limits
from tests.fakes import agent_run_models as models
from tests.fakes import tflite_models

SOURCE = Path(__file__).parent.parent / "fakes/delegate.c"
CPU = Backend(name="cpu", runtime="litert", provider="interpreter")
IDLE_CPU = Backend(name="cpu", runtime="litert", provider="interpreter", precisions=("int8",))
"""Not for the bundle of these tests."""
LIMITS = Limits(memory_mb=256, latency_ms=100)
COMPILER = shutil.which("cc")

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(COMPILER is None, reason="there is no C compiler (cc) here")]


@dataclass(frozen=True)
class Case:
    """A delegate of this kind gets this verdict, and these words in its message."""

    kind: str
    verdict: str
    words: str = ""


CASES = [
    Case("works", "right"),
    Case("nothing", "unavailable", "takes none of the graph's operators"),
    Case("refuses", "unavailable", "there is no accelerator on this board"),
    Case("refuses-graph", "bundle"),
    Case("crashes-at-once", "child-crash"),
    Case("crashes-on-graph", "child-crash"),
    Case("crashes-late", "child-crash"),
    Case("hangs", "child-timeout"),
    Case("wrong", "wrong-answer", "off by 0.25"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("delegate") / "libdelegate.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", str(built), str(SOURCE)], check=True, timeout=60)
    return built


@pytest.fixture
def delegate(library: Path) -> Callable[..., Backend]:
    def made(kind: str, **more) -> Backend:
        given = {"kind": "npu", "library": str(library), "options": {"kind": kind}}
        return Backend(name=kind, runtime="litert", provider="interpreter", **given | more)

    return made


@pytest.fixture
def host() -> Iterator[Callable[[list[Backend]], InferenceHost]]:
    opened: list[InferenceHost] = []

    def made(backends: list[Backend]) -> InferenceHost:
        opened.append(InferenceHost(profile_of(backends), SystemClock(), Deadlines(load_s=5.0, infer_s=0.5)))
        return opened[-1]

    yield made
    for host in opened:
        host.close()


def profile_of(backends: list[Backend]) -> Profile:
    usual = catalog.load("generic-x86-64")
    return Profile(
        **{name: getattr(usual, name) for name in usual.__struct_fields__}
        | {"backends": [*backends, IDLE_CPU] if CPU not in backends else backends}
    )


def bundle() -> Bundle:
    return Bundle(models.bundle({"fp32": tflite_models.linear(models.WEIGHT)}, runtime="litert", limits=LIMITS))


def measured(proof: Proof) -> dict[str, Measurement]:
    return {one.backend: one for one in proof.measurements}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_a_delegate_gets_its_verdict_and_costs_the_bundle_nothing(host: Callable, delegate: Callable, case: Case) -> None:
    proof = host([delegate(case.kind), CPU]).prove(bundle())
    found = measured(proof)
    told = found[f"litert:{case.kind}"]
    assert (told.verdict, case.words in told.message) == (case.verdict, True)
    assert found["litert:cpu"].is_right
    assert proof.chosen.is_right
    if case.verdict != "right":
        assert proof.chosen.backend == "litert:cpu"


def test_what_was_chosen_serves_beside_those_that_failed(host: Callable, delegate: Callable) -> None:
    """All of them on one board."""
    chosen = host([*(delegate(case.kind) for case in CASES if case.kind not in ("hangs", "works")), CPU])
    chosen.activate(bundle())
    np.testing.assert_allclose(chosen.infer({"input": models.KNOWN_INPUTS}).outputs["logits"], models.KNOWN_LOGITS)


def test_a_delegate_that_works_runs_the_graph_alone(host: Callable, delegate: Callable) -> None:
    """In batches of any size, one after the other."""
    serving = host([delegate("works")])
    proof = serving.prove(bundle())
    assert (proof.chosen.backend, proof.chosen.max_difference) == ("litert:works", 0.0)
    serving.activate(bundle())
    for rows in (1, 3, 2, 3):
        answer = serving.infer({"input": models.KNOWN_INPUTS[:rows]}).outputs["logits"]
        np.testing.assert_allclose(answer, models.KNOWN_LOGITS[:rows])


def test_where_nothing_is_right_the_bundle_is_refused_with_all_that_was_measured(host: Callable, delegate: Callable) -> None:
    with pytest.raises(Unproven) as refused:
        host([delegate("wrong"), delegate("refuses")]).prove(bundle())
    assert refused.value.code == "wrong-answer"
    assert [one.verdict for one in refused.value.measurements] == ["wrong-answer", "unavailable"]


def test_a_delegate_opens_its_device_behind_the_walls_if_its_profile_says_so(host: Callable, delegate: Callable) -> None:
    granted = host([delegate("needs-device", devices=["/dev/null"])]).prove(bundle())
    assert granted.chosen.is_right
    assert FILES not in granted.walls
    refused = measured(host([delegate("needs-device"), CPU]).prove(bundle()))
    assert refused["litert:needs-device"].verdict == "bundle"
    other = host([delegate("needs-device", devices=["/dev/full"]), CPU]).prove(bundle())
    if DEVICES not in granted.walls:
        pytest.skip("this kernel has no Landlock: a worker with a device may open any")
    assert measured(other)["litert:needs-device"].verdict == "bundle"

"""Providers of ONNX Runtime that are no use here: plugins of our own making, and one of the engine's, through the selection by measurement."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import pytest

from edge_agent.clock import SystemClock
from edge_agent.inference.child import Deadlines
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from firmware_profiles.catalog import Backend, Profile
from fleet_contract.bundle import Bundle
from tests.fakes import agent_run_models as models

CPU = Backend(name="cpu", runtime="onnxruntime", provider="CPUExecutionProvider")
COMPILER = shutil.which("cc")
PLUGIN = """
#include <stdlib.h>
void *CreateEpFactories(const char *name, const void *api, const void *logger, void **factories, size_t most, size_t *count) {
  ACT;
  *count = 0;
  return NULL;
}
void *ReleaseEpFactory(void *factory) { return NULL; }
"""

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(COMPILER is None, reason="there is no C compiler (cc) here")]


@dataclass(frozen=True)
class Case:
    """A library that does this when it is registered, asked for this provider."""

    what: str
    act: str
    provider: str
    verdict: str
    words: str = ""


CASES = [
    Case("without a device", "", "MadeUpExecutionProvider", "unavailable", "finds no device here"),
    Case("crashes", "abort()", "MadeUpExecutionProvider", "child-crash"),
    Case("hangs", "for (;;)", "MadeUpExecutionProvider", "child-timeout"),
    Case("with a device", "", "CPUExecutionProvider", "right"),
]


def profile_of(*backends: Backend) -> Profile:
    usual = catalog.load("generic-x86-64")
    return Profile(**{name: getattr(usual, name) for name in usual.__struct_fields__} | {"backends": list(backends)})


def verdict_of(backend: Backend) -> tuple[str, str]:
    """Beside a CPU that must be right whatever comes of it."""
    host = InferenceHost(profile_of(backend, CPU), SystemClock(), Deadlines(start_s=2.0))
    try:
        measured = {one.backend: one for one in host.prove(Bundle(models.bundle())).measurements}
    finally:
        host.close()
    assert measured[CPU.id].is_right
    return measured[backend.id].verdict, measured[backend.id].message


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_plugin_gets_its_verdict_and_the_cpu_serves(case: Case, tmp_path: Path) -> None:
    source, library = tmp_path / "plugin.c", tmp_path / "libplugin.so"
    source.write_text(PLUGIN.replace("ACT", case.act))
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
    verdict, message = verdict_of(Backend(name="plugin", runtime="onnxruntime", provider=case.provider, library=str(library)))
    assert (verdict, case.words in message) == (case.verdict, True)


def test_a_provider_that_takes_nothing_is_not_measured_as_what_it_is_not() -> None:
    """The engine would go on with the CPU and say nothing."""
    name = "AzureExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        pytest.skip(f"this build of onnxruntime has no {name}")
    verdict, message = verdict_of(Backend(name="azure", runtime="onnxruntime", provider=name))
    assert verdict == "unavailable"
    assert "takes none of the graph's operators" in message

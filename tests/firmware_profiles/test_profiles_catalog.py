"""Every profile that is shipped is usable, a wrong one says what is wrong with it, and the page of documentation is the catalogue's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_profiles import catalog, page
from firmware_profiles.catalog import PRECISIONS, ProfileError

PAGE = Path(__file__).parents[2] / "docs" / "hardware-profiles.md"
BOARDS = [profile for profile in catalog.load_all() if not profile.generic]
GENERIC = {"generic-x86-64": "x86_64", "generic-arm64": "aarch64", "armv7-512mb": "armv7l"}


@pytest.mark.parametrize("name", catalog.names())
def test_a_shipped_profile_makes_sense(name: str) -> None:
    profile = catalog.load(name)
    assert profile.name == name and profile.title
    assert {profile.tolerance_of(backend, precision) > 0 for backend in profile.backends for precision in backend.precisions} == {True}
    assert {backend.runtime for backend in profile.backends if backend.kind == "cpu"} == {"onnxruntime", "litert"}
    for backend in profile.backends:
        assert backend.kind == "cpu" or backend.sources, f"{backend.id} needs a source"
        assert backend.kind == "cpu" or not backend.supported or backend.files or backend.provider == "CoreMLExecutionProvider"


def test_there_are_a_dozen_real_boards_and_a_generic_profile_for_each_architecture() -> None:
    assert len(BOARDS) >= 12
    assert {profile.name: profile.architecture for profile in catalog.load_all() if profile.generic} == GENERIC


def test_every_kind_of_accelerator_is_told_of() -> None:
    backends = [backend for profile in catalog.load_all() for backend in profile.backends]
    providers = {backend.provider.removesuffix("ExecutionProvider") for backend in backends if backend.runtime == "onnxruntime"}
    assert {"CPU", "QNN", "Tensorrt", "CUDA", "OpenVINO", "CoreML", "ACL", "Xnnpack", "VitisAI", "Nnapi"} <= providers
    delegates = {backend.name for backend in backends if backend.runtime == "litert"}
    assert {"edgetpu", "vx", "ethosu", "hexagon", "armnn", "compiled"} <= delegates
    assert [backend.reason for backend in catalog.load("raspberry-pi-5").backends if backend.name == "hailo" and not backend.supported]


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="generic-arm64"):
        catalog.load("toaster")
    with pytest.raises(ProfileError):
        catalog.load("../catalog")


GOOD = """name = "x"
title = "X"
architecture = "x86_64"
memory_mb = 100
cores = 4
sources = ["https://example.org/x"]
tolerance = { fp32 = 1e-4, fp16 = 1e-2, int8 = 0.02 }
worker = { memory_mb = 100, threads = 2 }
signs = { dmi = ["X"] }
thermal = { zone = "cpu", throttle_c = 80, limit_c = 85 }

[[backends]]
name = "cpu"
runtime = "onnxruntime"
provider = "CPUExecutionProvider"
"""
NPU = """
[[backends]]
name = "npu"
runtime = "litert"
provider = "interpreter"
kind = "npu"
"""


def test_a_good_profile_is_read() -> None:
    assert catalog.parse(GOOD + NPU, "x").backends[1].id == "litert:npu"
    assert catalog.parse(GOOD, "x").tolerance_of(catalog.parse(GOOD, "x").backends[0], "int8") == 0.02


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("name = ", "x", id="no TOML"),
        pytest.param('name = "x"', "title", id="fields missing"),
        pytest.param("colour = 1\n" + GOOD, "colour", id="an unknown key"),
        pytest.param(GOOD.replace("cores = 4", 'cores = "four"'), "cores", id="a number that is text"),
        pytest.param(GOOD.replace('name = "x"', 'name = "X!"'), "name", id="a name that is none"),
        pytest.param(GOOD.replace("{ memory_mb = 100,", "{ memory_mb = 101,"), "worker.memory_mb", id="a worker larger than its board"),
        pytest.param(GOOD.replace("threads = 2", "threads = 5"), "worker.threads", id="more threads than cores"),
        pytest.param(GOOD.replace("threads = 2", "threads = 2, count = 3"), "worker.threads", id="more threads of all workers than cores"),
        pytest.param(GOOD.replace("threads = 2", "affinity = [4]"), "worker.affinity", id="a core that is not there"),
        pytest.param(GOOD.replace("threads = 2", "affinity = [1, 1]"), "worker.affinity", id="a core twice"),
        pytest.param(GOOD.replace("threads = 2", "threads = 2, affinity = [1]"), "worker.affinity", id="fewer cores than threads"),
        pytest.param(GOOD.replace("threads = 2", "nice = -5"), "nice", id="nicer than a worker may be"),
        pytest.param(GOOD.replace("int8 = 0.02", "int8 = 2"), "tolerance", id="a share above 1"),
        pytest.param(GOOD.replace(", int8 = 0.02", ""), "tolerance", id="a precision without tolerance"),
        pytest.param(GOOD.replace("throttle_c = 80", "throttle_c = 90"), "throttle_c", id="slowing down above the limit"),
        pytest.param(GOOD.replace("https:", "http:"), "sources", id="a source that is no https link"),
        pytest.param(GOOD.replace('["https://example.org/x"]', "[]"), "sources", id="a board without a source"),
        pytest.param(GOOD.replace('{ dmi = ["X"] }', "{}"), "signs", id="a board without a sign"),
        pytest.param(GOOD.replace("[[backends]]", "[[backends]]\nkind = 'gpu'"), "CPU", id="nothing to fall back on"),
        pytest.param(GOOD + NPU + NPU, "litert:npu", id="a backend twice"),
        pytest.param(GOOD + NPU + "supported = false", "reason", id="unsupported without a reason"),
        pytest.param(GOOD + NPU + "reason = 'x'", "reason", id="supported with a reason why not"),
        pytest.param(GOOD + NPU.replace("interpreter", "magic"), "magic", id="a provider that LiteRT has not"),
        pytest.param(GOOD.replace("CPUExecutionProvider", "CPU"), "ExecutionProvider", id="no name of a provider"),
        pytest.param(GOOD + NPU + "precisions = []", "precisions", id="good for no precision"),
        pytest.param(GOOD + NPU + "precisions = ['int4']", "precisions", id="a precision that is none"),
        pytest.param(GOOD + NPU + "files = ['dev/x']", "files", id="a file by no whole path"),
    ],
)
def test_a_wrong_profile_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(said)) as wrong:
        catalog.parse(text, "x")
    assert str(wrong.value).startswith("profile 'x': ")


def test_a_profile_is_called_as_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "y.toml").write_text(GOOD)
    monkeypatch.setattr(catalog, "_folder", lambda: tmp_path)
    with pytest.raises(ProfileError, match="calls itself"):
        catalog.load("y")


def test_the_page_is_the_catalogues() -> None:
    """`python -m firmware_profiles > docs/hardware-profiles.md` makes it."""
    assert PAGE.read_text() == page.render(catalog.load_all())


def test_the_command_prints_the_page() -> None:
    done = subprocess.run([sys.executable, "-m", "firmware_profiles"], capture_output=True, text=True, check=True)
    assert done.stdout == PAGE.read_text()


@pytest.mark.parametrize("profile", catalog.load_all(), ids=lambda profile: profile.name)
def test_the_page_tells_every_backend_and_source(profile: catalog.Profile) -> None:
    section = "\n".join(page.section(profile))
    for backend in profile.backends:
        assert backend.id in section and backend.reason in section
        assert all(link in section for link in backend.sources)
    assert all(link in section for link in profile.sources)
    assert all(f"{precision} {profile.tolerance[precision]:g}" in section for precision in PRECISIONS)

"""Programs stand on the contract, never on each other; the agent stays light, the server never trains."""

import json
import subprocess
import sys

import pytest
from importlinter.application.use_cases import lint_imports
from importlinter.configuration import configure

FORBIDDEN = {
    "edge_agent": {
        *("torch", "onnx", "fastapi", "starlette", "sqlalchemy", "sqlmodel", "pydantic", "sklearn", "typer", "rich", "httpx"),
        *("fleet_server", "model_tools", "hil"),
    },
    "edge_client": {"msgspec", "onnxruntime", "fleet_contract", "firmware_profiles", "edge_agent"},
    "fleet_server": {"torch", "onnx", "onnxruntime", "sklearn", "edge_agent", "model_tools", "hil"},
    "fleet_contract": {"onnxruntime", "tuf", "edge_agent", "fleet_server", "model_tools", "hil", "firmware_profiles"},
    "firmware_profiles": {"numpy", "edge_agent", "fleet_server", "model_tools", "hil", "fleet_contract"},
    "hil": {"torch", "onnx", "onnxruntime", "edge_agent", "fleet_server", "model_tools"},
}

IMPORT_ALL = """
import importlib, json, pkgutil, sys, threading
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(json.dumps({"loaded": sorted({name.partition(".")[0] for name in sys.modules}), "threads": threading.active_count()}))
"""


def import_all(package: str) -> dict:
    """Import every module of a package in a fresh process; what is loaded then."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, package], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_contracts_hold() -> None:
    configure()
    assert lint_imports(config_filename="pyproject.toml", cache_dir=None)


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_importing_a_whole_program_loads_nothing_foreign_and_starts_nothing(package: str) -> None:
    found = import_all(package)
    assert not FORBIDDEN[package].intersection(found["loaded"])
    assert found["threads"] == 1


def test_a_program_says_what_it_is_without_its_heavy_parts() -> None:
    code = "import sys, model_tools.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

"""On boards that ai-edge-litert is not made for."""

import subprocess
import sys

TRY = """
import sys, types
from ai_edge_litert import interpreter
sys.modules |= {"tflite_runtime": types.ModuleType("tflite_runtime"), "tflite_runtime.interpreter": interpreter}
sys.modules["tflite_runtime"].interpreter = interpreter
del sys.modules["ai_edge_litert.interpreter"]
sys.modules["ai_edge_litert"] = None  # an import of it fails from here on
from edge_agent.inference.runtimes.port import open_runtime
from firmware_profiles.catalog import Backend
for provider in ("interpreter", "compiled"):
    try:
        sys.stdout.write(type(open_runtime(Backend(name="cpu", runtime="litert", provider=provider))).__name__ + "\\n")
    except Exception as error:
        sys.stdout.write(f"{error.code}\\n")
"""


def test_tflite_runtime_takes_litert_s_place() -> None:
    done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["LiteRtRuntime", "no-variant"]

"""What a small device pays for before it has a model."""

import subprocess
import sys

RUN = "import sys, edge_agent.cli; from edge_agent.deferral import defer; defer('numpy'); import edge_agent.app; "
LOOK = RUN + "print(*sys.modules)"
LATER = {"cv2", "cryptography", "tuf", "securesystemslib", "onnxruntime", "ai_edge_litert", "grpc", "google", "asyncio", "numpy._core"}

USE = """
import threading
import numpy
found = []
threads = [threading.Thread(target=lambda: found.append(numpy.arange(3).sum())) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
from numpy.linalg import norm
import numpy as again
print(found == [3] * 8, again.ndarray is type(numpy.zeros(1)), float(norm(numpy.ones(4))))
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_running_agent_loads_what_is_large_only_when_it_is_needed() -> None:
    loaded = {*run(LOOK).split()}
    assert not LATER & (loaded | {name.partition(".")[0] for name in loaded})


def test_what_was_deferred_is_there_for_all_threads_at_the_first_look() -> None:
    assert run(RUN + USE).split() == ["True", "True", "2.0"]


def test_what_is_loaded_already_is_not_deferred() -> None:
    assert run("import numpy; from edge_agent.deferral import defer; defer('numpy'); print(type(numpy).__name__)").strip() == "module"

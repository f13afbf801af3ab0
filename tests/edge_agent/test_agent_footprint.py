"""What a small device pays for before it has a model."""

import subprocess
import sys

LOOK = "import sys, edge_agent.app; print(*{name.partition('.')[0] for name in sys.modules})"
LATER = {"cv2", "cryptography", "tuf", "securesystemslib", "onnxruntime", "ai_edge_litert", "grpc", "google", "asyncio"}


def test_a_running_agent_loads_what_is_large_only_when_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not LATER.intersection(done.stdout.split())

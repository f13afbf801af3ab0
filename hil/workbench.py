"""model-tools as a person at a shell uses it."""

from collections.abc import Callable
from pathlib import Path

from hil.program import installed, run


def build(task: Path, bundle: Path, version: str, *, on_line: Callable[[str], None] = lambda line: None) -> None:
    """Train, export, quantize, evaluate and pack. Raises ProgramFailed."""
    command = [installed("model-tools"), "build", str(task), "--out", str(bundle), "--version", version]
    run("model-tools build", command, on_line=on_line)


def publish(bundle: Path, *, server_url: str, ca: Path, token_file: Path, key: Path, rollout: bool = True) -> None:
    """Sign with the releases key, upload, and start its rollout if wanted. Raises ProgramFailed."""
    where = ["--server", server_url, "--ca", str(ca), "--token-file", str(token_file)]
    then = ["--rollout"] if rollout else []
    run("model-tools publish", [installed("model-tools"), "publish", str(bundle), *where, "--key", str(key), *then])

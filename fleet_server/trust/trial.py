"""The ceremony of the key holders, held here and now with unencrypted keys: how a fleet for trying out begins with one command.

It is the workbench's own command, in a process of its own: the shape of root and targets is said once, there.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

from fleet_server.errors import Conflict, ServerError

_PATIENCE_S = 120.0
_MADE = ("*.pem", "*.pub", "trusted-root.json")


def hold(online_json: Path, keys: Path, out: Path) -> dict[str, bytes]:
    """Make the offline keys in `keys` and the first metadata in `out`; returns it by name. Raises Conflict when there are keys, ServerError."""
    taken = sorted(path.name for pattern in _MADE for path in keys.glob(pattern))
    if taken:
        raise Conflict(f"{keys} already holds keys ({taken[0]}); choose another folder", field="keys")
    if importlib.util.find_spec("model_tools") is None:
        raise ServerError("the offline keys are made by model_tools, which is not installed here: leave --keys out", field="keys")
    command = [sys.executable, "-m", "model_tools", "keys", "ceremony", "--plain", "--json"]
    command += ["--online", str(online_json), "--keys", str(keys), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    if done.returncode:
        undo(keys)
        raise ServerError(f"model-tools keys ceremony failed: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}", field="keys")
    return {path.name: path.read_bytes() for path in out.glob("*.json")}


def undo(keys: Path) -> None:
    """Remove what `hold` has made in a folder that held no keys before."""
    for pattern in _MADE:
        for path in keys.glob(pattern):
            path.unlink()

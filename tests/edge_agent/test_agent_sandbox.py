"""What a worker can still do once it has seen to its own walls, and that a model's reference to a file leads nowhere."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import Reject
from edge_agent.inference.child import Child, ChildLost, Deadlines, Wanted
from edge_agent.inference.plan import Bound, Plan
from edge_agent.inference.sandbox import CALLS, DEVICES, FILES, NETWORK, WRITING
from firmware_profiles.catalog import Backend
from fleet_contract import graph
from tests.fakes import agent_run_models as models
from tests.fakes import bad_models

BACKEND = Backend(name="cpu", runtime="onnxruntime", provider="CPUExecutionProvider")
PLAN = Plan([Bound("input", "input", "float32")], [Bound("logits", "logits", "float32")], BACKEND.provider, {}, "fp32", threads=1)
WANTED = Wanted(BACKEND, PLAN, memory_mb=256)
START = """
import json, mmap, os, socket, sys, threading, resource, signal, tempfile
from edge_agent.inference import sandbox

def outcome(act):
    try:
        act()
    except BaseException as error:
        return type(error).__name__
    return "done"
"""
DEVICE_TRIES = """
devices = ["/dev/null", "/dev/absent", sys.argv[1]]
walls = sandbox.isolate(os.getppid(), devices) + sandbox.limit(512, devices)
inside = {
    "use its device": outcome(lambda: open("/dev/null", "r+b", buffering=0).close()),
    "use another's": outcome(lambda: open("/dev/full", "r+b", buffering=0)),
    "read what it needs": outcome(lambda: open(sys.argv[1]).close()),
    "write that": outcome(lambda: open(sys.argv[1], "w")),
    "read beside that": outcome(lambda: open("/etc/hostname")),
    "take more memory": outcome(lambda: bytearray(2**30)),
    "reserve addresses": outcome(lambda: mmap.mmap(-1, 2**33, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)),
}
sys.stdout.write(json.dumps([walls, inside]))
"""
TRIES = """
parent, inside = os.getppid(), {}
walls = sandbox.isolate(parent)
inside["read before the model"] = outcome(lambda: open("/etc/hostname").close())
inside["write before the model"] = outcome(lambda: open(tempfile.gettempdir() + "/written", "w"))
walls += sandbox.limit(512)
inside |= {
    "read": outcome(lambda: open("/etc/hostname")),
    "list": outcome(lambda: os.listdir("/")),
    "remove": outcome(lambda: os.unlink(sys.argv[1])),
    "rename": outcome(lambda: os.rename(sys.argv[1], sys.argv[1] + "x")),
    "socket": outcome(lambda: socket.socket()),
    "fork": outcome(lambda: os.fork() or os._exit(0)),
    "run": outcome(lambda: os.execv("/bin/true", ["true"])),
    "signal": outcome(lambda: os.kill(parent, 0)),
    "more memory": outcome(lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))),
    "another's limits": outcome(lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE)),
    "a thread": outcome(lambda: threading.Thread(target=int).start()),
}
sys.stdout.write(json.dumps([walls, inside]))
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """The walls that this kernel grants, and how each try ended."""
    file = tmp_path_factory.mktemp("walls") / "file"
    file.touch()
    return try_all(TRIES, file)


def try_all(tries: str, file: Path) -> tuple[list[str], dict[str, str]]:
    done = subprocess.run([sys.executable, "-c", START + tries, str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert file.exists()
    return tuple(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("act", "wall"),
    [
        pytest.param("write before the model", WRITING, id="write a file while it starts"),
        pytest.param("read", None, id="read a file"),
        pytest.param("list", None, id="list a folder"),
        pytest.param("remove", WRITING, id="remove a file"),
        pytest.param("rename", WRITING, id="rename a file"),
        pytest.param("socket", None, id="open a socket"),
        pytest.param("fork", CALLS, id="start a process"),
        pytest.param("run", CALLS, id="become another program"),
        pytest.param("signal", CALLS, id="signal its supervisor"),
        pytest.param("more memory", NETWORK, id="raise its own limits"),
        pytest.param("another's limits", CALLS, id="look at another's limits"),
    ],
)
def test_what_a_worker_cannot_do(tried: tuple[list[str], dict[str, str]], act: str, wall: str | None) -> None:
    """`wall` None: refused on every kernel, by the limits alone."""
    walls, inside = tried
    if wall is not None and wall not in walls:
        pytest.skip(f"this kernel does not grant the wall {wall!r}")
    assert inside[act] != "done"


def test_what_it_needs_it_can_do(tried: tuple[list[str], dict[str, str]]) -> None:
    _, inside = tried
    assert {act for act, how in inside.items() if how == "done"} == {"read before the model", "a thread"}


def test_a_backend_with_devices_may_open_those_and_is_said_to_have_a_weaker_wall(tmp_path: Path) -> None:
    needed = tmp_path / "firmware"
    needed.touch()
    walls, inside = try_all(DEVICE_TRIES, needed)
    assert FILES not in walls
    if DEVICES not in walls:
        pytest.skip(f"this kernel does not grant the wall {DEVICES!r}")
    assert {act for act, how in inside.items() if how == "done"} == {"use its device", "read what it needs", "reserve addresses"}


@pytest.fixture
def child() -> Iterator[Child]:
    with ThreadPoolExecutor(1) as starter:
        child = Child(WANTED, SystemClock(), starter, Deadlines(load_s=5.0, infer_s=1.0))
        yield child
        child.close()


def test_a_worker_says_which_walls_stand(child: Child) -> None:
    assert {*child.walls} <= {NETWORK, WRITING, FILES, CALLS}


@pytest.mark.parametrize("kind", ["beside", "outside", "absolute", "symlink", "hardlink", "proc"])
def test_weights_in_another_file_are_never_read(child: Child, tmp_path: Path, kind: str) -> None:
    """Past the walk of the file, straight to the worker: the right bytes lie there, and a worker that could reach them would answer."""
    real = tmp_path / "weights.bin"
    real.write_bytes(models.WEIGHT.tobytes())
    link = tmp_path / "link.bin"
    if kind == "symlink":
        link.symlink_to(real)
    elif kind == "hardlink":
        os.link(real, link)
    where = {
        "beside": os.path.relpath(real),
        "outside": os.path.relpath(real, Path.cwd() / "edge_agent"),
        "absolute": str(real),
        "symlink": str(link),
        "hardlink": str(link),
        "proc": f"/proc/{os.getpid()}/root{real}",
    }[kind]
    with pytest.raises(Reject) as refused:
        child.load(lambda: models.external_data(where))
    assert refused.value.code == "bundle"


@pytest.mark.parametrize(
    ("model", "codes"),
    [
        pytest.param(bad_models.tiny_memory_bomb(), {"memory", "bundle"}, id="memory bomb of a hundred bytes"),
        pytest.param(models.memory_bomb(), {"memory"}, id="memory bomb that goes off when it runs"),
        pytest.param(bad_models.model("hang", "always"), {"child-timeout"}, id="endless loop"),
        pytest.param(bad_models.model("crash", "always"), {"child-crash"}, id="a trap of the processor"),
        pytest.param(models.foreign_operator(), {"bundle"}, id="unknown operator domain"),
        pytest.param(models.linear()[:-5], {"bundle"}, id="cut short"),
        pytest.param(b"\xff" * 100, {"bundle"}, id="malformed protobuf"),
        pytest.param(bad_models.huge_dims(), {"bundle", "memory"}, id="a weight that claims 2**60 values"),
    ],
)
def test_a_hostile_model_ends_in_a_code_within_its_limits(child: Child, model: bytes, codes: set[str]) -> None:
    """Straight to the worker, whatever the walk of the file would say."""
    with pytest.raises((Reject, ChildLost)) as refused:
        child.load(lambda: model)
        child.infer({"input": models.KNOWN_INPUTS}, 0.1, models.KNOWN_LOGITS.nbytes)
    assert refused.value.code in codes


def test_graphs_of_any_depth_leave_worker_or_walk_standing(child: Child) -> None:
    """The deepest that a protobuf reader takes."""
    model = bad_models.nested(30)
    with pytest.raises(graph.BadModel):
        graph.check(model)
    child.load(lambda: model)
    answers = child.infer({"input": models.KNOWN_INPUTS}, 1.0, models.KNOWN_LOGITS.nbytes)
    np.testing.assert_allclose(answers["logits"], models.KNOWN_LOGITS)


def test_a_worker_cannot_use_more_memory_than_its_limit(child: Child) -> None:
    soft, hard = resource.prlimit(child.pid, resource.RLIMIT_AS)
    assert soft == hard < 2**30 + WANTED.memory_mb * 2**20

"""Whatever bytes come, a reader gives an answer or one of its documented errors: by mutation of specimens, and guided by coverage."""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.decoders import decoders

SCRATCH = tempfile.TemporaryDirectory()
DECODERS = decoders(Path(SCRATCH.name))
RUNS = 5_000
DEPTH = 100_000

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
structures = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=12
)
foreign = st.one_of(
    st.binary(max_size=300),
    structures.map(lambda value: msgspec.msgpack.encode(value)),
    structures.map(lambda value: msgspec.json.encode(value)),
)
edits = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "cut", "double", "insert"]), st.binary(min_size=1, max_size=4)), max_size=4
)


def spoil(data: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for where, kind, piece in changes:
        at = int(where * len(data))
        rest = {
            "set": piece + data[at + len(piece) :],
            "cut": data[at + len(piece) :],
            "double": data[at:] * 2,
            "insert": piece + data[at:],
        }[kind]
        data = data[:at] + rest
    return data


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_specimens_are_read(name: str) -> None:
    """Or the mutations would start from nothing. Names and versions in made-up seeds may be refused."""
    decoder = DECODERS[name]
    for seed in decoder.seeds:
        try:
            decoder.decode(seed)
        except decoder.errors:
            assert name in ("message-from-device", "message-to-device", "next-root", "bundle", "signed-metadata")


@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_spoilt_and_foreign_bytes_end_in_documented_errors(name: str, data: st.DataObject) -> None:
    decoder = DECODERS[name]
    spoilt = st.builds(spoil, st.sampled_from(decoder.seeds), edits)
    try:
        decoder.decode(data.draw(spoilt | foreign))
    except decoder.errors:
        return


@pytest.mark.parametrize("name", sorted(DECODERS))
@pytest.mark.parametrize(
    "deep",
    [
        pytest.param(b"[" * DEPTH, id="json arrays"),
        pytest.param(b'{"a":' * DEPTH, id="json objects"),
        pytest.param(b"\x91" * DEPTH, id="msgpack arrays"),
        pytest.param(b"\x81\xa1a" * DEPTH, id="msgpack maps"),
        pytest.param(b"\x92\x01" + b"\x91" * 60_000, id="a message of nested arrays"),
        pytest.param(b'{"x":' * 5_000 + b"1" + b"}" * 5_000, id="whole json, deep"),
    ],
)
def test_deep_nesting_ends_in_documented_errors(name: str, deep: bytes) -> None:
    decoder = DECODERS[name]
    try:
        decoder.decode(deep)
    except decoder.errors:
        return


@pytest.mark.e2e
def test_coverage_guided_fuzzing_finds_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has no wheel for this Python and platform")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.fuzz", "all", "--runs", str(RUNS), "--seed", "1"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(root), "PATH": ""}, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-4_000:]
    assert f"stat::number_of_executed_units: {RUNS}" in done.stderr

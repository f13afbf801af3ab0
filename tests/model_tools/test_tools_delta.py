"""Deltas between bundles: what is like what, that they make the newer bundle, and when there is none."""

import hashlib

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fleet_contract import bundle, delta
from fleet_contract.bundle import Bundle
from fleet_contract.errors import BadBundle
from fleet_contract.inputs import VectorInput
from fleet_contract.manifest import Lineage, Manifest, Variant
from fleet_contract.outputs import Classification
from fleet_contract.tensors import Tensor
from model_tools.delta.alignment import Stretch, alignments, tensors
from model_tools.delta.making import apply, between_files, difference, fetched_bytes, make

RANDOM = np.random.default_rng(7)
FIRST = {"stem": RANDOM.integers(-90, 90, 40_000).astype(np.int8), "head": RANDOM.normal(size=3_000).astype(np.float32)}


def quiet(_share: float, _message: str) -> None:
    """Nobody is told."""


def model(weights: dict[str, np.ndarray], note: str = "n") -> bytes:
    """An ONNX file with these tensors; `note` is some bytes before them."""
    node = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(weights["stem"][:300], "c"))
    parts = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph([node], note, [], [helper.make_tensor_value_info("c", onnx.TensorProto.INT8, [300])], parts)
    return helper.make_model(graph).SerializeToString(deterministic=True)


def nudged(name: str) -> dict[str, np.ndarray]:
    """FIRST with one tensor fine-tuned."""
    if name == "stem":
        return FIRST | {name: FIRST[name] + RANDOM.choice(np.array([-1, 0, 0, 0, 0, 1], np.int8), len(FIRST[name]))}
    return FIRST | {name: FIRST[name] * (1 + RANDOM.normal(scale=1e-3, size=len(FIRST[name]))).astype(np.float32)}


def other() -> dict[str, np.ndarray]:
    return {"stem": RANDOM.integers(-90, 90, 40_000).astype(np.int8), "head": RANDOM.normal(size=3_000).astype(np.float32)}


def packed(weights: dict[str, np.ndarray], version: str = "1", entry: str = "fp32.onnx", note: str = "n", card: bytes = b"# Toy") -> bytes:
    one = Tensor(dtype="float32", shape=[1, 1], data=bytes(4))
    manifest = Manifest(
        task="toy",
        version=version,
        input=VectorInput(tensor="x", columns=["a"], low=[0.0], high=[1.0]),
        output=Classification(tensor="y", classes=["no", "yes"]),
        variants=[Variant(name="fp32", entry=entry, runtime="onnxruntime", precision="fp32", tolerance=1e-3)],
        known_answers="known-answers.msgpack",
        reference="reference.msgpack",
        card="card.md",
        profiles=["any"],
        lineage=Lineage(task_sha256="0" * 64, data_sha256="0" * 64, seed=0, code="test"),
        entries={},
    )
    answers = msgspec.msgpack.encode(bundle.KnownAnswers(inputs={"x": one}, outputs={"fp32": {"y": one}}))
    files = {entry: model(weights, note), "known-answers.msgpack": answers, "reference.msgpack": b"reference", "card.md": card}
    return bundle.pack(manifest, files)


BASE = packed(FIRST)


@pytest.mark.parametrize(
    ("target", "most"),
    [
        pytest.param(lambda: packed(FIRST, "2"), 0.8, id="another version of the same model"),
        pytest.param(lambda: packed(nudged("head"), "2"), 0.65, id="the float32 head nudged"),
        pytest.param(lambda: packed(nudged("stem"), "2"), 0.35, id="int8 weights nudged"),
        pytest.param(lambda: packed(nudged("stem"), "2", note="a longer note"), 0.35, id="everything moved"),
        pytest.param(lambda: packed(nudged("stem"), "2", entry="model.onnx"), 0.35, id="the variant's file renamed"),
        pytest.param(lambda: packed(FIRST, "2", card=b""), 0.8, id="an entry emptied"),
        pytest.param(lambda: packed(FIRST | {"more": np.arange(900, dtype=np.int8)}, "2"), 0.2, id="a tensor more"),
    ],
)
def test_a_delta_makes_the_newer_bundle_in_less_than_its_blocks(target, most) -> None:
    newer = target()
    made = make(BASE, newer, quiet)
    assert apply(BASE, made) == newer
    assert len(made) < most * fetched_bytes(BASE, newer)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(lambda: packed(other(), "2"), id="retrained from nothing"),
        pytest.param(lambda: BASE, id="the same bundle: nothing would be fetched"),
    ],
)
def test_where_a_delta_saves_too_little_there_is_none(target) -> None:
    assert make(BASE, target(), quiet) is None


def test_a_large_model_whose_every_weight_changed_is_given_up_before_the_work_begins() -> None:
    told: list[float] = []
    one, two = ({"stem": RANDOM.integers(-90, 90, 17 << 20).astype(np.int8)} for _ in range(2))
    assert make(packed(one), packed(two, "2"), lambda share, _: told.append(share)) is None
    assert told == []


def test_the_same_bundles_give_the_same_delta() -> None:
    newer = packed(nudged("head"), "2")
    assert make(BASE, newer, quiet) == make(BASE, newer, quiet)


def test_a_delta_names_both_bundles() -> None:
    newer = packed(nudged("head"), "2")
    assert delta.read_header(make(BASE, newer, quiet)) == delta.Header(Bundle(BASE).sha256, Bundle(newer).sha256, len(newer))


def test_the_parts_say_where_the_bytes_go() -> None:
    newer = packed(nudged("head"), "2")
    told: list[float] = []
    found = difference(BASE, newer, lambda share, _message: told.append(share))
    assert {part.entry: part.way for part in found.parts} == {
        "manifest.json": "place",
        "card.md": "unchanged",
        "fp32.onnx": "tensors",
        "known-answers.msgpack": "unchanged",
        "reference.msgpack": "unchanged",
        "directory": "new",
    }
    assert sum(part.length for part in found.parts) == len(newer)
    assert len(found.delta) - sum(part.delta_bytes for part in found.parts) == len(bytes(delta.read_header(found.delta)))
    assert (sorted(told), told[-1]) == (told, 1.0)


@pytest.mark.parametrize(
    ("base", "target"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"", b"something", id="from nothing"),
        pytest.param(b"something", b"", id="to nothing"),
        pytest.param(b"TFL3" * 500, b"head" + b"TFL3" * 499 + b"end", id="moved"),
        pytest.param(model(FIRST), model(nudged("stem")), id="models"),
    ],
)
def test_there_is_a_delta_between_any_two_files(base: bytes, target: bytes) -> None:
    assert apply(base, between_files(base, target)) == target


def test_what_is_no_bundle_gets_no_delta() -> None:
    with pytest.raises(BadBundle):
        make(BASE, b"PK no bundle", quiet)


def test_tensors_are_found_by_name_where_they_lie() -> None:
    file = model(FIRST)
    found = tensors(file)
    assert {name: hashlib.sha256(file[start : start + size]).digest() for name, (start, size) in found.items()} == {
        "/c/value": hashlib.sha256(FIRST["stem"][:300].tobytes()).digest(),
        "/stem": hashlib.sha256(FIRST["stem"].tobytes()).digest(),
        "/head": hashlib.sha256(FIRST["head"].tobytes()).digest(),
    }


@pytest.mark.parametrize("data", [pytest.param(b"", id="nothing"), pytest.param(b"TFL3" * 99, id="another format")])
def test_no_tensors_are_found_elsewhere(data: bytes) -> None:
    assert tensors(data) == {}


SHIFTED = bytes(RANDOM.integers(0, 256, 5_000, dtype=np.uint8))


@pytest.mark.parametrize(
    ("base", "target", "expected"),
    [
        pytest.param(b"a" * 9, b"b" * 9, {"place", "sorting"}, id="of one length"),
        pytest.param(SHIFTED, b"more" + SHIFTED, {"sorting"}, id="moved"),
        pytest.param(b"", b"new", set(), id="nothing to be like"),
        pytest.param(model(FIRST), model(nudged("head")), {"tensors"}, id="models"),
        pytest.param(
            model(FIRST), model({"stem": FIRST["stem"], "else": np.zeros(90_000, np.int8)}), {"sorting"}, id="mostly other tensors"
        ),
    ],
)
def test_every_alignment_covers_the_newer_file(base: bytes, target: bytes, expected: set[str]) -> None:
    found = list(alignments(base, target))
    assert {alignment.way for alignment in found} == expected
    assert all(sum(stretch.length for stretch in alignment.stretches) == len(target) for alignment in found)
    assert all(s.like is None or 0 <= s.like <= len(base) - s.length for alignment in found for s in alignment.stretches)


def test_sorting_finds_what_was_moved() -> None:
    (found,) = alignments(SHIFTED, b"more" + SHIFTED)
    assert Stretch(len(SHIFTED), 0) in found.stretches

"""One of each thing that crosses a wire or outlives a program, with fixed contents: what tests/golden/v1 holds the frozen bytes of."""

import base64
from datetime import UTC, datetime

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet_contract import batches, blocks, bundle, columns, enrolment, job, messages, order, sketch
from fleet_contract.inputs import VectorInput
from fleet_contract.manifest import Lineage, Manifest, Variant
from fleet_contract.outputs import Classification
from fleet_contract.tensors import Tensor

AT = datetime(2026, 11, 20, 12, 30, 15, 250_000, tzinfo=UTC)
LATER = datetime(2026, 11, 21, 12, 30, 15, tzinfo=UTC)
SHA = "ab" * 32
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
GRID = sketch.Grid([sketch.Feature("speed", "input", 0.0, 8.0), sketch.Feature("output.confidence", "output", 0.0, 1.0)], bins=4)


def a_sketch() -> sketch.Sketch:
    sketcher = sketch.Sketcher(GRID)
    sketcher.add(np.array([[0, 0.5], [-1, 1], [8, np.nan], [3.5, 0.25]], np.float32))
    return sketcher.sketch()


def a_reference() -> sketch.Reference:
    return sketch.Reference(GRID, [sketch.Condition("training", ["speed", "output.confidence"], a_sketch())])


def an_order() -> order.Order:
    return order.Order(
        device="camera-3",
        profile="generic-arm64",
        counter=7,
        issued_at=AT,
        not_after=LATER,
        target_path="bundles/reading-1.0.0.bundle",
        sha256=SHA,
        length=123_456,
        rollout="r-1",
        sampling=order.SamplingCampaign(id="drift-1", max_items=100, max_bytes=1_000_000),
    )


def a_shadow_order() -> order.Order:
    return msgspec.structs.replace(an_order(), sampling=None, shadow=True)


def a_manifest() -> Manifest:
    return Manifest(
        task="pump",
        version="1.0.0",
        input=VectorInput(tensor="input", columns=["speed", "heat"], low=[0.0, -40.0], high=[8.0, 120.0]),
        output=Classification(tensor="logits", classes=["ok", "worn"]),
        variants=[
            Variant(name="int8", entry="models/int8.onnx", runtime="onnxruntime", precision="int8", tolerance=0.25),
            Variant(name="fp32", entry="models/fp32.onnx", runtime="onnxruntime", precision="fp32", tolerance=0.001),
        ],
        known_answers="known-answers.msgpack",
        reference="reference.msgpack",
        card="card.md",
        profiles=["any"],
        lineage=Lineage(task_sha256="0" * 64, data_sha256="1" * 64, seed=20, code="0.1.0", metrics={"accuracy": 0.98}),
        entries={},
    )


def bundle_files() -> dict[str, bytes]:
    inputs = Tensor(dtype="float32", shape=[1, 2], data=np.array([1.5, 20], "<f4").tobytes())
    logits = Tensor(dtype="float32", shape=[1, 2], data=np.array([2, -1], "<f4").tobytes())
    known = bundle.KnownAnswers({"input": inputs}, {name: {"logits": logits} for name in ("int8", "fp32")})
    return {
        "models/int8.onnx": b"an int8 model" * 40,
        "models/fp32.onnx": b"an fp32 model" * 400,
        "known-answers.msgpack": msgspec.msgpack.encode(known),
        "reference.msgpack": sketch.encode_reference(a_reference()),
        "card.md": b"# Pump\nTells a worn pump from its speed and heat.\n",
    }


def records() -> dict[str, messages.Record]:
    return {
        "event": messages.Event(at=AT, kind="update.active", detail={"sha256": SHA, "latency_p50_us": 180, "share": 0.5, "first": True}),
        "sketch": messages.SketchWindow(start=AT, end=LATER, bundle=SHA, first_input=100, inputs=4, sketch=a_sketch()),
        "result": messages.Result(at=AT, bundle=SHA, input_id="frame-00017.jpg", label="7", value=0.875, latency_us=240),
        "sample": messages.Sample(
            at=AT, bundle=SHA, campaign="drift-1", input_id="12", media_type="application/json", data=b"[1.5,20]", label=None, value=0.5
        ),
    }


def columns_data() -> bytes:
    return msgspec.msgpack.encode(columns.from_results([records()["result"]], [12_000_000]))


def rows_data() -> bytes:
    return msgspec.msgpack.encode(batches.Rows([messages.encode_record(records()["event"])] * 2, [12_000_000, 12_250_000]))


def from_device() -> dict[str, messages.FromDevice]:
    return {
        **statuses(),
        **sealed_batches(),
        "want": messages.Want(request="w1", path="metadata/timestamp.json", block_bytes=32_768, need=blocks.to_bitmap([0, 9], 10)),
        "want-shared": messages.Want(request="w2", path=f"targets/bundles/{SHA}.a-1.bundle", block_bytes=4_096, need=b"\xff", shared=True),
        "progress": messages.Progress(request="p1", sequence=31),
        "want-url": messages.WantUrl(request="w3", path=f"targets/bundles/{SHA}.a-1.bundle"),
    }


def statuses() -> dict[str, messages.Status]:
    ledger = {messages.Lane.EVENTS: messages.LaneLedger(produced=9, acknowledged=5, queued=3, dropped={"quota": 1})}
    return {
        "status": messages.Status(
            at=AT,
            online=True,
            epoch="0190a1",
            agent_version="0.1.0",
            profile="generic-arm64",
            bundle=SHA,
            bundle_version="1.0.0",
            phase="idle",
            order_counter=7,
            inputs=41,
            refused={"corrupt-image": 1},
            ledger=ledger,
        ),
        "will": messages.Status(at=AT, online=False, epoch="0190a1"),
        "status-disk": messages.Status(
            at=AT,
            online=True,
            epoch="0190a1",
            clock="untrusted",
            disk=messages.DiskUse(1, 2, 3, 4),
            ledger={messages.Lane.TELEMETRY: messages.LaneLedger(produced=9, acknowledged=9, queued=0, oldest=9)},
        ),
        "status-instance": messages.Status(at=AT, online=True, epoch="0190a1", instance="5f1e"),
        "status-shadow": messages.Status(at=AT, online=True, epoch="0190a1", instance="5f1e", shadow=SHA),
        "status-heartbeat": messages.Status(at=AT, online=True, epoch="0190a1", heartbeat_s=3_600),
    }


def sealed_batches() -> dict[str, messages.Batch]:
    return {
        "batch": messages.Batch(
            epoch="0190a1",
            lane=messages.Lane.TELEMETRY,
            first=40,
            count=1,
            codec="none",
            length=len(columns_data()),
            data=columns_data(),
            boot="7c1f",
        ),
        "batch-thinned": messages.Batch(
            epoch="0190a1",
            lane=messages.Lane.EVENTS,
            first=40,
            count=2,
            codec="none",
            length=len(rows_data()),
            data=rows_data(),
            boot="7c1f",
            clock="corrected",
            stride=4,
            trace=messages.Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 44, AT, AT, AT, 120),
        ),
    }


def to_device() -> dict[str, messages.ToDevice]:
    return {
        "follow": messages.Follow("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),
        "ack": messages.Ack(epoch="0190a1", lane=messages.Lane.TELEMETRY, ranges=[(0, 39), (41, 41)]),
        "packet": messages.Packet("w1", 1, 5_000, 4_096, [1], "none", b"\x01" * 904),
        "url": messages.Url(request="w3", url="https://fleet:8443/v1/files/x?permit=y", expires_at=LATER),
        "refusal": messages.Refusal(request="w1", code="not-found", reason="no such file"),
    }


def delta_base() -> bytes:
    return bytes(range(256)) * 2


def delta_result() -> bytes:
    return b"a head of its own" + bytes((value + value % 3) % 256 for value in range(250)) + delta_base()[100:300]


def a_delta() -> bytes:
    """As one liblzma wrote it: another may compress otherwise, all must read it."""
    return base64.b64decode(
        "RURMVAEAAAARAAnc7iFiCxZvOr/ste/3qHO+cp0cLVOCLnrMXzTrmx8614gvffYD/xZyWcrYxSlHKBd0fmiisboIi+fPzjau0wEAAAAAAAAEAAAQAP//////"
        "////AAEAO1+E0/jyKCGilhdrfutrDA1jnonaFmoYtzNl9z/8wKQAbAAAEAD//////////wAAgDIeb5QLeRw6yKKuQHE8RZ4lb//+ssgA"
    )


def specimens() -> dict[str, bytes]:
    """File name below tests/golden/v1 -> its bytes."""
    found = {f"record-{name}.bin": messages.encode_record(record) for name, record in records().items()}
    found |= {f"message-{name}.bin": messages.encode(message) for name, message in (from_device() | to_device()).items()}
    result = job.JobResult(accepted=True, reason="every gate passed", gates=[job.Gate("accuracy", 0.98, 0.9, True, "at least")])
    spec = job.JobSpec(
        job="j1",
        task_file="/tasks/pump.toml",
        champion="/bundles/champion.bundle",
        bundle_version="1.0.0-r1",
        samples=[job.LabelledSample("12", "pump-1", "samples/12.json", "application/json", "worn")],
        condition=None,
        releases="/tuf/releases.json",
        releases_key="/keys/releases.pem",
    )
    enrol = enrolment.EnrolRequest(token_id="abcdefgh", secret="s" * 43, csr_pem="-----BEGIN CERTIFICATE REQUEST-----\n")
    custom = msgspec.to_builtins(blocks.to_custom(blocks.index_of(bytes(range(256)) * 40)))
    return found | {
        "order.json": order.sign(an_order(), KEY),
        "order-shadow.json": order.sign(a_shadow_order(), KEY),
        "reference.bin": sketch.encode_reference(a_reference()),
        "bundle.bin": bundle.pack(a_manifest(), bundle_files()),
        "delta.bin": a_delta(),
        "blocks.json": msgspec.json.encode(custom),
        "job-spec.json": msgspec.json.encode(spec),
        "job-result.json": msgspec.json.encode(result),
        "enrol-request.json": msgspec.json.encode(enrol),
    }

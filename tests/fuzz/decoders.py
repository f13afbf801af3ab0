"""Every reader of bytes that somebody else wrote: what it may raise, and specimens to begin from."""

import base64
import hashlib
import io
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from tuf.api.metadata import Metadata, MetaFile

from edge_agent import enrol, identity
from edge_agent.clock import BUILT_AT, SystemClock
from edge_agent.errors import Fatal, Reject, Retry
from edge_agent.inference import layout, protocol
from edge_agent.inference.arena import Arena
from edge_agent.inference.channel import INLINE, Channel
from edge_agent.inference.frame import ChannelClosed
from edge_agent.monitor import tally
from edge_agent.storage.journal import Journal
from edge_agent.trust import rules, search
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from edge_agent.update.state import State
from fleet_contract import (
    archive,
    blocks,
    bundle,
    delta,
    enrolment,
    graph,
    images,
    job,
    messages,
    online_keys,
    order,
    packets,
    release,
    sketch,
)
from fleet_contract import errors as contract
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import ImageInput
from tests.fakes import agent_run_models as models
from tests.fakes import bad_models
from tests.fakes.agent_repository import MemoryRepository
from tests.fakes.agent_world import MemoryFiles
from tests.fakes.small_bundle import small_bundle
from tests.fuzz import callers
from tests.golden import specimens

GOLDEN = Path(__file__).parents[1] / "golden/v1"
ORDERS_KEYS = {order.keyid(specimens.KEY.public_key()): specimens.KEY.public_key()}
PICTURE = ImageInput(tensor="input", height=8, width=8, channels=1)


@dataclass(frozen=True)
class Decoder:
    """`decode` returns or raises one of `errors`, whatever the bytes."""

    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def decoders(scratch: Path) -> Mapping[str, Decoder]:
    """`scratch` is a folder for those that read files."""
    return {**_wire(), **_archives(scratch), **_signed(), **_metadata(scratch), **_local(scratch)}


def _wire() -> dict[str, Decoder]:
    malformed = (contract.MalformedMessage, contract.TooLarge, contract.UnknownVersion)
    return {
        "message-from-device": Decoder(messages.decode_from_device, malformed, _golden("message-*.bin")),
        "message-to-device": Decoder(messages.decode_to_device, malformed, _golden("message-*.bin")),
        "record": Decoder(_read_record, (*malformed, contract.BadSketch), _golden("record-*.bin")),
        "packet": Decoder(_unpack, (*malformed, contract.BadBlocks), _golden("message-packet.bin")),
        "enrolment-token": Decoder(
            lambda data: enrolment.parse(data.decode("utf-8", "replace")),
            (enrolment.BadToken,),
            (f"ef1.abcdefgh.{'s' * 43}.{'0' * 64}.{'1' * 64}".encode(),),
        ),
        "enrolment-answer": Decoder(enrol.read_answer, (Reject,), (_enrol_answer(),)),
        "online-keys": Decoder(online_keys.decode, (contract.BadOnlineKeys,), (_online_keys(),)),
        "picture": Decoder(lambda data: images.decode(data, PICTURE), (images.Unreadable,), _pictures()),
        "http-connection": Decoder(callers.converse, (), callers.connections()),
        "inference-request": Decoder(callers.ask, (), callers.bodies()),
        "worker-reply": Decoder(_read_reply, (ChannelClosed,), _replies()),
    }


def _archives(scratch: Path) -> dict[str, Decoder]:
    wrong = (contract.BadBundle, contract.UnknownVersion)
    files = specimens.bundle_files()
    return {
        "bundle": Decoder(lambda data: _open_all(Bundle(data)), (*wrong, contract.BadSketch), _golden("bundle.bin")),
        "manifest": Decoder(_read_manifest, wrong, (Bundle(_golden("bundle.bin")[0])._slice(bundle.MANIFEST, 10**6),)),
        "known-answers": Decoder(
            lambda data: Bundle(bundle.pack(specimens.a_manifest(), {**files, "known-answers.msgpack": data})).known_answers(),
            wrong,
            (files["known-answers.msgpack"],),
        ),
        "reference": Decoder(sketch.decode_reference, (contract.BadSketch,), _golden("reference.bin")),
        "model": Decoder(graph.check, (contract.BadModel,), (models.linear(), models.endless(), bad_models.nested(4))),
        "delta": Decoder(lambda data: _apply(scratch, data), (contract.BadDelta, contract.UnknownVersion), (specimens.a_delta(),)),
    }


def _signed() -> dict[str, Decoder]:
    wrong = (contract.BadOrder, contract.TooLarge, contract.UnknownVersion)
    envelope = _golden("order.json")[0]
    payload = base64.b64decode(json.loads(envelope)["payload"])
    return {
        "order": Decoder(lambda data: order.open_by(data, ORDERS_KEYS)[1], wrong, (envelope,)),
        "order-payload": Decoder(lambda data: order.open_by(_envelope(data), ORDERS_KEYS)[1], wrong, (payload,)),
        "block-index": Decoder(lambda data: _from_json(blocks.from_custom, data), (contract.BadBlocks,), _golden("blocks.json")),
        "release": Decoder(lambda data: _from_json(release.release_of, data), (contract.BadBlocks,), (_release(),)),
    }


def _metadata(scratch: Path) -> dict[str, Decoder]:
    repository = MemoryRepository()
    repository.publish(small_bundle())
    files = repository.files
    root = rules.anchor(repository.root_v1)
    timestamp = files["metadata/timestamp.json"]
    snapshot = MetaFile(2)
    return {
        "root": Decoder(rules.anchor, (Retry,), (repository.root_v1,)),
        "next-root": Decoder(lambda data: rules.next_root(root, data), (Retry,), (repository.root_v1,)),
        "timestamp": Decoder(lambda data: rules.timestamp(root, data), (Retry,), (timestamp,)),
        "trust": Decoder(lambda data: _refresh(scratch / "served", repository, served=data), (Retry,), (timestamp,)),
        "trust-stored": Decoder(lambda data: _refresh(scratch / "stored", repository, stored=data), (), (timestamp,)),
        "snapshot": Decoder(lambda data: rules.named_snapshot(root, data, snapshot), (Retry,), (files["metadata/2.snapshot.json"],)),
        "targets": Decoder(lambda data: rules.targets(root, "targets", data, MetaFile(1)), (Retry,), (files["metadata/1.targets.json"],)),
        "signed-metadata": Decoder(lambda data: _sign_and_read(repository, data), (Retry,), tuple(_signed_parts(files).values())),
    }


def _local(scratch: Path) -> dict[str, Decoder]:
    device = dict.fromkeys(identity.Device.__struct_fields__, "x")
    return {
        "journal": Decoder(lambda data: _read_file(scratch / "journal.json", data), (Reject,), (msgspec.json.encode(State()),)),
        "identity": Decoder(lambda data: _load_identity(scratch / "identity", data), (Fatal,), (json.dumps(device).encode(),)),
        "tally": Decoder(lambda data: tally.from_mark(data.decode("utf-8", "replace")), (Fatal,), (tally.to_mark(tally.Tally()).encode(),)),
        "job-spec": Decoder(lambda data: _read_job(scratch, data), (job.BadJob, contract.UnknownVersion), _golden("job-spec.json")),
    }


def _golden(pattern: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(GOLDEN.glob(pattern)))


def _read_record(data: bytes) -> None:
    record = messages.decode_record(data)
    if isinstance(record, messages.SketchWindow):
        sketch.merge([record.sketch, record.sketch], specimens.GRID)


def _unpack(data: bytes) -> None:
    message = messages.decode_to_device(data)
    if isinstance(message, messages.Packet):
        packets.unpack(message, message.block_bytes)


def _enrol_answer() -> bytes:
    return json.dumps(dict.fromkeys(enrolment.EnrolAnswer.__struct_fields__, "x")).encode()


def _online_keys() -> bytes:
    return online_keys.encode(online_keys.OnlineKeys(fleet="demo", snapshot="1" * 64, timestamp="2" * 64, orders="3" * 64))


def _pictures() -> tuple[bytes, ...]:
    specs = [ImageInput(tensor="input", height=8, width=8, channels=channels) for channels in (1, 3)]
    return tuple(images.encode(np.zeros((spec.channels, 8, 8), np.float32), spec)[1] for spec in specs)


def _read_reply(data: bytes) -> None:
    """What a worker that a model has taken over may send."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data[: 64 * 1024])
        theirs.shutdown(socket.SHUT_WR)
        channel = Channel(ours, Arena.create(4_096), protocol.replies)
        try:
            frame = channel.receive(4_096, 5.0, lambda: 5.0)
            if isinstance(frame.message, protocol.Answer):
                frame.copy()
        finally:
            channel.close()


def _replies() -> tuple[bytes, ...]:
    def framed(reply: protocol.Reply, payload: bytes, at: int = INLINE) -> bytes:
        header = msgspec.msgpack.encode(reply)
        whole = b"".join(number.to_bytes(8, "little") for number in (len(header), len(payload), at)) + header
        return whole + bytes(-len(whole) % layout.ALIGNED_BYTES) + (payload if at == INLINE else b"")

    answer = protocol.Answer([layout.Head("x", "float32", [2, 2], 16)])
    return framed(answer, bytes(16)), framed(answer, bytes(16), at=64), framed(protocol.Failed(code="bundle", message="x"), b"")


def _open_all(opened: Bundle) -> None:
    opened.known_answers()
    sketch.decode_reference(opened.read(opened.manifest.reference))


def _read_manifest(data: bytes) -> None:
    body = {bundle.MANIFEST: data, **specimens.bundle_files()}
    Bundle(archive.write(body, blocks.block_bytes_for(sum(map(len, body.values())))))


def _apply(scratch: Path, data: bytes) -> None:
    base, path = scratch / "base", scratch / "delta"
    base.write_bytes(specimens.delta_base())
    path.write_bytes(data)
    delta.apply(base, path, io.BytesIO(), 10**6)


def _envelope(payload: bytes) -> bytes:
    """Signed by the right key: what a thief of it may write."""
    kind = order.PAYLOAD_TYPE.encode()
    signature = specimens.KEY.sign(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
    signed = {"keyid": next(iter(ORDERS_KEYS)), "sig": base64.b64encode(signature).decode()}
    body = {"payloadType": order.PAYLOAD_TYPE, "payload": base64.b64encode(payload).decode(), "signatures": [signed]}
    return json.dumps(body).encode()


def _from_json(read: Callable[[object], object], data: bytes) -> None:
    try:
        custom = json.loads(data)
    except (ValueError, RecursionError):
        return
    read(custom)


def _release() -> bytes:
    base = hashlib.sha256(b"base").hexdigest()
    made = release.Release(task="pump", version="1", deltas=[release.Delta(base=base, path="bundles/x.delta")])
    return json.dumps({"edgefleet": msgspec.to_builtins(made)}).encode()


def _signed_parts(files: Mapping[str, bytes]) -> dict[str, bytes]:
    paths = {"timestamp": "timestamp.json", "snapshot": "2.snapshot.json", "targets": "1.targets.json", "releases": "2.releases.json"}
    return {role: json.dumps(json.loads(files[f"metadata/{path}"])["signed"]).encode() for role, path in paths.items()}


def _sign_and_read(repository: MemoryRepository, data: bytes) -> None:
    """Metadata of any content under valid signatures: what a thief of an online key may write."""
    try:
        signed = json.loads(data)
        kind = signed["_type"]
        wire = json.dumps({"signatures": [], "signed": signed}).encode()
        metadata = Metadata.from_bytes(wire)
    except Exception:
        return  # nothing that the library would sign
    role = "targets" if kind == "targets" else kind
    if role not in ("timestamp", "snapshot", "targets"):
        return
    metadata.sign(repository._keys[role])
    root, wire = rules.anchor(repository.root_v1), metadata.to_bytes()
    if role == "timestamp":
        rules.check_fresh(role, rules.timestamp(root, wire), datetime.now(UTC))
    elif role == "snapshot":
        rules.snapshot(root, wire)
    else:
        top = rules.targets(root, "targets", wire, MetaFile(metadata.signed.version))
        search.find("bundles/toy-1.0.0.bundle", top, _unreachable)


def _unreachable(delegator: object, names: object) -> None:
    raise Retry("no such role here")


def _refresh(folder: Path, repository: MemoryRepository, *, served: bytes | None = None, stored: bytes | None = None) -> None:
    """The whole client: `served` comes in the place of the timestamp, `stored` lies where the last one was kept, which must not matter."""
    files = MemoryFiles(repository.files | ({} if served is None else {"metadata/timestamp.json": served}))
    folder.mkdir(exist_ok=True)
    if stored is not None:
        (folder / "timestamp.json").write_bytes(stored)
    trust = Trust(folder, repository.root_v1, files, TrustedTime(folder / "time", SystemClock(), BUILT_AT))
    trust.refresh()
    trust.target("bundles/toy-1.0.0.bundle")


def _read_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    Journal(path, State).read()


def _load_identity(folder: Path, data: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / identity.DEVICE).write_bytes(data)
    (folder / identity.ROOT).write_bytes(b"{}")
    identity.load(folder)


def _read_job(folder: Path, data: bytes) -> None:
    (folder / job.SPEC).write_bytes(data)
    job.read_spec(folder)

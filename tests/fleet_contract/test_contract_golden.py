"""Bytes that devices in the field send and read: no release may write them differently or fail to read them."""

from pathlib import Path

import msgspec
import pytest

from fleet_contract import blocks, bundle, enrolment, job, messages, order, sketch
from tests.golden import specimens
from tests.golden.freeze import FOLDER, freeze


@pytest.mark.parametrize("name", sorted(specimens.specimens()))
def test_what_is_written_is_frozen(name: str) -> None:
    assert specimens.specimens()[name] == (FOLDER / name).read_bytes()


def test_nothing_frozen_is_forgotten() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*specimens.specimens()}


@pytest.mark.parametrize("name", sorted(specimens.records()))
def test_frozen_records_are_read(name: str) -> None:
    assert messages.decode_record((FOLDER / f"record-{name}.bin").read_bytes()) == specimens.records()[name]


@pytest.mark.parametrize("name", sorted(specimens.from_device()))
def test_frozen_messages_from_devices_are_read(name: str) -> None:
    assert messages.decode_from_device((FOLDER / f"message-{name}.bin").read_bytes()) == specimens.from_device()[name]


@pytest.mark.parametrize("name", sorted(specimens.to_device()))
def test_frozen_messages_to_devices_are_read(name: str) -> None:
    assert messages.decode_to_device((FOLDER / f"message-{name}.bin").read_bytes()) == specimens.to_device()[name]


@pytest.mark.parametrize(("name", "meant"), [("order.json", specimens.an_order()), ("order-shadow.json", specimens.a_shadow_order())])
def test_frozen_orders_are_opened(name: str, meant: order.Order) -> None:
    key = specimens.KEY.public_key()
    assert order.open_by((FOLDER / name).read_bytes(), {order.keyid(key): key})[1] == meant


def test_the_frozen_bundle_is_read() -> None:
    archive = bundle.Bundle(FOLDER / "bundle.bin")
    assert archive.manifest.task == "pump"
    assert {name: archive.read(name) for name in archive.manifest.entries} == specimens.bundle_files()


def test_the_frozen_reference_is_read() -> None:
    assert sketch.decode_reference((FOLDER / "reference.bin").read_bytes()) == specimens.a_reference()


def test_the_frozen_block_index_is_read() -> None:
    custom = msgspec.json.decode((FOLDER / "blocks.json").read_bytes())
    assert blocks.from_custom(custom) == blocks.index_of(bytes(range(256)) * 40)


def test_the_frozen_enrolment_request_is_read() -> None:
    request = msgspec.json.decode((FOLDER / "enrol-request.json").read_bytes(), type=enrolment.EnrolRequest)
    assert request.token_id == "abcdefgh"


def test_frozen_job_files_are_read(tmp_path: Path) -> None:
    (tmp_path / job.SPEC).write_bytes((FOLDER / "job-spec.json").read_bytes())
    (tmp_path / job.RESULT).write_bytes((FOLDER / "job-result.json").read_bytes())
    assert job.read_spec(tmp_path).samples[0].label == "worn"
    assert job.read_result(tmp_path).accepted


def test_freezing_keeps_what_is_frozen_unless_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "order.json").write_bytes(b"older")
    assert "order.json" not in freeze(tmp_path, set())
    assert (tmp_path / "order.json").read_bytes() == b"older"
    assert freeze(tmp_path, {"order.json"}) == ["order.json"]

"""A token says whom to trust and is not told to a log; job files are read strictly."""

from pathlib import Path

import msgspec
import pytest

from fleet_contract import enrolment, job, limits
from fleet_contract.enrolment import BadToken, EnrolmentToken, EnrolRequest
from fleet_contract.errors import UnknownVersion
from fleet_contract.job import BadJob
from tests.golden.specimens import specimens

TOKEN = EnrolmentToken(id="abcd2345", secret="S" * 43, ca_sha256="a" * 64, root_sha256="b" * 64)


@pytest.mark.parametrize("text", [TOKEN.text(), f"  {TOKEN.text()}\n"], ids=["bare", "with space around"])
def test_a_token_is_read_back(text: str) -> None:
    assert enrolment.parse(text) == TOKEN


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(TOKEN.text()[:-1], id="cut short"),
        pytest.param(TOKEN.text() + "0", id="too long"),
        pytest.param(TOKEN.text().replace("ef1", "ef2"), id="another version"),
        pytest.param(TOKEN.text().upper(), id="in capitals"),
        pytest.param(TOKEN.text().replace(".", "-"), id="without dots"),
        pytest.param("x" * (limits.MAX_TOKEN_CHARS + 1), id="far too long"),
    ],
)
def test_no_token(text: str) -> None:
    with pytest.raises(BadToken) as caught:
        enrolment.parse(text)
    assert caught.value.field == "token"
    assert "S" * 10 not in str(caught.value)


@pytest.mark.parametrize("thing", [TOKEN, EnrolRequest(token_id="abcd2345", secret=TOKEN.secret, csr_pem="x")])
def test_a_secret_is_not_shown(thing: object) -> None:
    assert TOKEN.secret not in repr(thing) and TOKEN.secret not in f"{[thing]}"


SPEC = specimens()["job-spec.json"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="absent"),
        pytest.param(b"", id="empty"),
        pytest.param(b"[" * 50_000, id="nested without end"),
        pytest.param(SPEC[:-1], id="cut short"),
        pytest.param(SPEC.replace(b'"job"', b'"jab"'), id="an unknown field"),
        pytest.param(b" " * (limits.MAX_MANIFEST_BYTES + 1), id="too large"),
    ],
)
def test_a_job_that_cannot_be_read(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / job.SPEC).write_bytes(data)
    with pytest.raises(BadJob) as caught:
        job.read_spec(tmp_path)
    assert caught.value.field == job.SPEC


def test_a_job_of_the_future_says_so(tmp_path: Path) -> None:
    (tmp_path / job.SPEC).write_bytes(SPEC.replace(b'"version":1', b'"version":2'))
    with pytest.raises(UnknownVersion):
        job.read_spec(tmp_path)


def test_progress_is_one_line_of_json() -> None:
    line = msgspec.json.encode(job.Progress("train", 0.5, "epoch 3\nof 6"))
    assert b"\n" not in line and msgspec.json.decode(line, type=job.Progress).share == 0.5

"""What the server hands to a training process, and what it gets back: two JSON files in the job's folder, progress as JSON lines on stdout."""

from pathlib import Path

import msgspec

from fleet_contract import limits
from fleet_contract.errors import ContractError, UnknownVersion

VERSION = 1
SPEC = "spec.json"
RESULT = "result.json"


class BadJob(ContractError):
    code = "bad-job"


class LabelledSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`file` is relative to the job's folder: the input as acquired, of `media_type` image/jpeg, image/png or application/json."""

    input_id: str
    device: str
    file: str
    media_type: str
    label: str


class JobSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Paths are absolute but for those of samples. `condition` is a file with the msgpack sketch.Condition of the drifted
    stream on the champion's grid (input features), or None. `releases` is the current signed releases.json, `releases_key` the key to sign the next."""

    version: int = VERSION
    job: str
    task_file: str
    champion: str
    bundle_version: str
    samples: list[LabelledSample]
    condition: str | None
    releases: str
    releases_key: str


class Gate(msgspec.Struct, frozen=True):
    """`value` compared with `limit`; `rule` says how in words a person understands."""

    name: str
    value: float
    limit: float
    passed: bool
    rule: str


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """`accepted` is whether every gate passed; then `bundle`, `releases` (signed, next version) and the `deltas` that it
    lists are files in the job's folder."""

    accepted: bool
    reason: str
    gates: list[Gate]
    metrics: dict[str, float] = {}
    bundle: str | None = None
    releases: str | None = None
    deltas: list[str] | msgspec.UnsetType = msgspec.UNSET


class Progress(msgspec.Struct, frozen=True):
    """One JSON line of a job's stdout. `share` of the whole job, 0..1."""

    stage: str
    share: float
    message: str = ""


def read_spec(folder: Path) -> JobSpec:
    """Raises BadJob or UnknownVersion."""
    spec = _read(folder / SPEC, JobSpec)
    if spec.version != VERSION:
        raise UnknownVersion(f"job version {spec.version} is not {VERSION}: upgrade the older side", field="version", limit=VERSION)
    return spec


def read_result(folder: Path) -> JobResult:
    """Raises BadJob."""
    return _read(folder / RESULT, JobResult)


def _read(path: Path, kind: type):
    try:
        if path.stat().st_size > limits.MAX_MANIFEST_BYTES:
            raise BadJob(f"{path.name} is too large", field=path.name, limit=limits.MAX_MANIFEST_BYTES)
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except BadJob:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BadJob(f"{path.name}: {error}", field=path.name) from error

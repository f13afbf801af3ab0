"""Where results may go beside the store, as the device's own configuration says it ([[sinks]] with a `kind`)."""

from typing import Annotated

import msgspec

from fleet_contract import limits

_Files = Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_ROTATED_FILES_COUNT)]
_Waiting = Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_QUEUED_RESULTS_COUNT)]


class _Sink(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """`waiting` results at most are kept for a sink that is slow; then the oldest are dropped, and counted."""

    waiting: _Waiting = 1_000


class JsonLines(_Sink, tag="jsonl"):
    """One result a line, appended to `path`. A file that would outgrow `max_bytes` becomes `path.1`, that one `path.2`, and so on; there are
    at most `files` of them, the open one included."""

    path: str
    max_bytes: Annotated[int, msgspec.Meta(ge=limits.MIN_ROTATED_FILE_BYTES)] = 64 * limits.MIB
    files: _Files = 4


class MqttTopic(_Sink, tag="mqtt"):
    """One message a result, QoS 1, to a broker of this site: `mqtt://host[:port]`, or `mqtts://` with the CA file, and certificate and key where the
    broker wants them."""

    url: str
    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_PATH_CHARS, pattern=r"^[^#+\x00]+\Z")]
    client: str = "edge-agent-results"
    user: str | None = None
    password_file: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class Callback(_Sink, tag="http"):
    """POST of a JSON list of results to `url` (http or https); any 2xx is a yes. `token_file` holds what goes into `Authorization: Bearer`."""

    url: str
    token_file: str | None = None
    ca: str | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0


SinkSpec = JsonLines | MqttTopic | Callback

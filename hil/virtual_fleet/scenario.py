"""What a virtual fleet does and what befalls it: a TOML file, strictly read."""

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from fleet_contract import limits
from hil.errors import BadScenario

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
"""Of the devices; which ones is drawn by the scenario's seed."""
Seconds = Annotated[float, msgspec.Meta(ge=0, le=limits.MAX_SCENARIO_S)]
Duration = Annotated[float, msgspec.Meta(gt=0, le=limits.MAX_SCENARIO_S)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Load(_Strict):
    """Of one device: telemetry messages a second, results in each, and the seconds between two status reports, two sketches, two events
    (0: none of these)."""

    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=1_000)] = 1.0
    records_per_message: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_BATCH_RECORDS)] = 1
    status_every_s: Duration = 30.0
    sketch_every_s: Seconds = 60.0
    event_every_s: Seconds = 60.0


class Link(_Strict):
    """How a device behaves on its connection: first tries to connect within `connect_over_s`, then with full jitter between attempts; at most `window`
    unacknowledged messages; what is unacknowledged for `patience_s` is sent again, each time with twice the patience, and what was overtaken after a
    quarter of it. At most `max_waiting` messages wait in it, the oldest that was never sent gives way and is counted."""

    connect_over_s: Seconds = 5.0
    reconnect_first_s: Duration = 1.0
    reconnect_longest_s: Duration = 15.0
    window: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 16
    patience_s: Duration = 15.0
    max_waiting: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000


class Outage(_Strict, kw_only=True, tag_field="kind", tag="outage"):
    """No network: the connection is gone without a goodbye, and none is made."""

    at_s: Seconds
    for_s: Duration
    share: Share = 1.0


class ReconnectStorm(_Strict, kw_only=True, tag_field="kind", tag="reconnect-storm"):
    """Every connection breaks at once, as when a broker restarts."""

    at_s: Seconds
    share: Share = 1.0


class LossyLink(_Strict, kw_only=True, tag_field="kind", tag="lossy-link"):
    """Each message vanishes with probability `loss`, up or down, above TCP."""

    at_s: Seconds
    for_s: Duration
    share: Share = 1.0
    loss: Annotated[float, msgspec.Meta(gt=0, lt=1)]


class SlowLink(_Strict, kw_only=True, tag_field="kind", tag="slow-link"):
    """A device sends at most so many bytes a second."""

    at_s: Seconds
    for_s: Duration
    share: Share = 1.0
    bytes_per_s: Annotated[float, msgspec.Meta(ge=100, le=1e9)]


class Flood(_Strict, kw_only=True, tag_field="kind", tag="flood"):
    """A device sends so many times as often as it should."""

    at_s: Seconds
    for_s: Duration
    share: Share = 1.0
    factor: Annotated[float, msgspec.Meta(gt=1, le=1_000)]


class ClockJump(_Strict, kw_only=True, tag_field="kind", tag="clock-jump"):
    """The wall clock is off by `offset_s`; the monotonic one goes on."""

    at_s: Seconds
    for_s: Duration
    share: Share = 1.0
    offset_s: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


class Drift(_Strict, kw_only=True, tag_field="kind", tag="drift"):
    """What is measured moves by `shift` of the width of the reference's grid."""

    at_s: Seconds
    for_s: Duration
    share: Share = 1.0
    shift: Annotated[float, msgspec.Meta(ge=-10, le=10)]


Disturbance = Outage | ReconnectStorm | LossyLink | SlowLink | Flood | ClockJump | Drift


class Scenario(_Strict):
    """`duration_s` of load, then at most `settle_s` until the last record is acknowledged. `fetch_share` of the devices fetch the bundle that they are
    ordered and check its digest; all check the order's signature."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9-]{0,63}$")] = "steady"
    seed: int = 1
    duration_s: Duration = 60.0
    settle_s: Duration = 60.0
    fetch_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    load: Load = Load()
    link: Link = Link()
    disturbances: Annotated[tuple[Disturbance, ...], msgspec.Meta(max_length=limits.MAX_DISTURBANCES_COUNT)] = ()


def load(path: Path) -> Scenario:
    """Raises BadScenario naming the file and the field."""
    try:
        if path.stat().st_size > limits.MAX_SCENARIO_FILE_BYTES:
            raise BadScenario(f"{path}: a scenario has at most {limits.MAX_SCENARIO_FILE_BYTES} bytes")
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadScenario(f"{path}: {error}") from error
    return parse(content, str(path))


def parse(content: dict, called: str) -> Scenario:
    """Raises BadScenario; `called` is how it names the scenario."""
    try:
        scenario = msgspec.convert(content, Scenario)
    except msgspec.ValidationError as error:
        raise BadScenario(f"{called}: {str(error).replace('`$.', '`')}") from error
    for at, each in enumerate(scenario.disturbances):
        if each.at_s >= scenario.duration_s:
            raise BadScenario(f"{called}: disturbances[{at}].at_s {each.at_s:g} is not before duration_s {scenario.duration_s:g}")
    return scenario

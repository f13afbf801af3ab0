"""What a scenario asks the server while it waits; `tell` hears the key figures meanwhile."""

from collections.abc import Callable, Iterator

from hil.client import Client

Tell = Callable[[str], None]


def running(api: Client, tell: Tell, bundle: str, devices: tuple[str, ...]) -> bool:
    """Every named device answers with this bundle."""
    states = {item["id"]: item for item in _devices(api, devices)}
    tell(", ".join(f"{name}: {state['phase']}" for name, state in states.items()))
    return all(state["bundle"] == bundle for state in states.values())


def committed(api: Client, tell: Tell, bundle: str, devices: tuple[str, ...]) -> bool:
    """Every named device has ended its probation on this bundle."""
    active = {
        event["device"] for event in api.items("/events") if event["kind"] == "update.active" and event["detail"].get("sha256") == bundle
    }
    tell(f"in use for good on {', '.join(sorted(active)) or 'no device yet'}")
    return {*devices} <= active


def fetched(api: Client, bundle: str) -> dict[str, tuple[int, str]]:
    """By device: bytes that came over the network for this bundle, and the way that they came."""
    told = [(event["device"], event["detail"]) for event in api.items("/events") if event["kind"] == "update.verifying"]
    return {device: (detail["bytes"], detail["way"]) for device, detail in told if detail.get("sha256") == bundle and "way" in detail}


def answered(api: Client, tell: Tell, written: dict[str, int]) -> bool:
    """The server holds a result of every frame written so far."""
    stored = {item["id"]: item["ledger"].get("telemetry", {}).get("stored", 0) for item in _devices(api, tuple(written))}
    tell(", ".join(f"{name}: {stored.get(name, 0)} of {count} frames" for name, count in written.items()))
    return all(stored.get(name, 0) >= count for name, count in written.items())


def finding_state(api: Client, tell: Tell, finding: object) -> str:
    state = next(item["state"] for item in api.items("/drift") if item["id"] == finding)
    tell(f"finding {finding}: {state}")
    return state


def chosen_samples(api: Client, tell: Tell, finding: object) -> list[dict] | None:
    """All samples of a finding, once the server holds the last one and waits for labels."""
    samples = list(api.items("/samples", finding=finding))
    tell(f"{len(samples)} samples so far")
    return samples if finding_state(api, _mute, finding) == "labelling" else None


def finished_job(api: Client, tell: Tell, finding: object) -> dict | None:
    job = next((item for item in api.items("/jobs") if str(item["finding"]) == str(finding)), None)
    if job is None:
        tell("no job yet")
        return None
    tell(f"{job['state']}, {job['stage']}, {100 * (job['share'] or 0):.0f} %")
    return job if job["state"] in {"accepted", "refused", "failed"} else None


def rolled_out(api: Client, tell: Tell, bundle: str) -> bool:
    """The rollout of this bundle is done, and no finding is open any more."""
    rollout = next((item for item in api.items("/rollouts") if item["bundle"] == bundle), {"state": "not begun"})
    findings = [item["state"] for item in api.items("/drift")]
    tell(f"rollout {rollout['state']}, finding {', '.join(findings)}")
    return rollout["state"] == "done" and {*findings} == {"closed"}


def settled_ledger(api: Client, tell: Tell) -> list[dict] | None:
    """The ledger's rows, once each balances and nothing waits on a device."""
    rows = list(api.items("/ledger"))
    waiting = sum(row["queued"] for row in rows)
    tell(f"{waiting} records still wait on devices")
    if waiting or not rows or not all(row["balanced"] for row in rows):
        return None
    return rows


def _devices(api: Client, wanted: tuple[str, ...]) -> Iterator[dict]:
    return (item for item in api.items("/devices") if item["id"] in wanted)


def _mute(_text: str) -> None:
    return None

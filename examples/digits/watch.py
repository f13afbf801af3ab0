"""What the scenario asks the server while it waits, and the key figures it shows meanwhile."""

from collections.abc import Iterator

from examples.digits.verdict import Count
from hil.client import Client
from hil.screen import Step


def running(api: Client, step: Step, bundle: str, devices: tuple[str, ...]) -> bool:
    """Every named device answers with this bundle."""
    states = {item["id"]: item for item in _devices(api, devices)}
    step.update(", ".join(f"{name}: {state['phase']}" for name, state in states.items()))
    return all(state["bundle"] == bundle for state in states.values())


def committed(api: Client, step: Step, bundle: str, devices: tuple[str, ...]) -> bool:
    """Every named device has ended its probation on this bundle."""
    active = {
        event["device"] for event in api.items("/events") if event["kind"] == "update.active" and event["detail"].get("sha256") == bundle
    }
    step.update(f"in use for good on {', '.join(sorted(active)) or 'no device yet'}")
    return {*devices} <= active


def answered(api: Client, step: Step, written: dict[str, int]) -> bool:
    """The server holds a result of every frame written so far."""
    stored = {item["id"]: item["ledger"].get("telemetry", {}).get("stored", 0) for item in _devices(api, tuple(written))}
    step.update(", ".join(f"{name}: {stored.get(name, 0)} of {count} frames" for name, count in written.items()))
    return all(stored.get(name, 0) >= count for name, count in written.items())


def chosen_samples(api: Client, step: Step, finding: str, device: str) -> list[dict] | None:
    """All samples of a finding, once the device has said that it sent its last one."""
    campaign = f"drift-{finding}"
    samples = list(api.items("/samples", device=device))
    step.update(f"{len(samples)} frames so far")
    ends = [
        e["detail"] for e in api.items("/events", device=device) if e["kind"] == "sampling.done" and e["detail"]["campaign"] == campaign
    ]
    return samples if ends and len(samples) >= ends[0]["items"] else None


def finished_job(api: Client, step: Step, finding: str) -> dict | None:
    job = next((item for item in api.items("/jobs") if str(item["finding"]) == str(finding)), None)
    if job is None:
        step.update("no job yet")
        return None
    step.update(f"{job['state']}, {job['stage']}, {100 * (job['share'] or 0):.0f} %")
    return job if job["state"] in {"accepted", "refused", "failed"} else None


def rolled_out(api: Client, step: Step, bundle: str) -> bool:
    """The rollout of this bundle is done, and no finding is open any more."""
    rollout = next((item for item in api.items("/rollouts") if item["bundle"] == bundle), {"state": "not begun"})
    findings = [item["state"] for item in api.items("/drift")]
    step.update(f"rollout {rollout['state']}, finding {', '.join(findings)}")
    return rollout["state"] == "done" and {*findings} == {"closed"}


def settled_counts(api: Client, step: Step) -> list[Count] | None:
    """The ledger's rows, once each balances and nothing waits on a device."""
    rows = list(api.items("/ledger"))
    waiting = sum(row["queued"] for row in rows)
    step.update(f"{waiting} records still wait on devices")
    if waiting or not rows or not all(row["balanced"] for row in rows):
        return None
    return [Count(r["device"], r["lane"], r["produced"], r["stored"], r["queued"], sum(r["dropped"].values())) for r in rows]


def _devices(api: Client, wanted: tuple[str, ...]) -> Iterator[dict]:
    return (item for item in api.items("/devices") if item["id"] in wanted)

"""The run itself, step by step: from nothing to a repaired fleet, with real processes."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.digits import scans
from examples.digits.footage import CAMERAS, FAULTY, HEALTHY, Part, Studio, plan
from examples.digits.verdict import Answer, Count, Seen
from hil import watch, workbench
from hil.errors import RigError
from hil.fleet import FleetRig
from hil.screen import Screen, Step

TASK = "digits"
VERSION = "1.0.0"
_SEED = 20
_TASK_FILE = Path(__file__).with_name("task.toml")
_KILLED = "camera-2"
_KILL_AT, _REVIVE_AT = 20, 60
_BREAK_AT = 40
"""Rounds of frames: an agent dies and comes back; later, while the chosen frames are on their way, the broker dies."""
_SHORT_S, _LONG_S = 60.0, 180.0


@dataclass
class Run:
    """What the steps hand on to each other."""

    fleet: FleetRig
    screen: Screen
    studio: Studio
    task_file: Path
    champion: str = ""
    challenger: str = ""
    finding: int = 0
    labels: int = 0
    sample_bytes: int = 0


def prepare(fleet: FleetRig, screen: Screen) -> Run:
    """Deal the scans, and lay out the task with its training frames."""
    rng = np.random.default_rng(_SEED)
    dealt = plan(rng)
    folder = fleet.home / "task"
    folder.mkdir()
    task_file = Path(shutil.copy(_TASK_FILE, folder))
    with screen.step("render the scans as camera frames") as step:
        scans.write_training_frames(dealt.training, folder / "frames", rng)
        step.say(f"{len(dealt.training)} training frames; no camera will show any of these scans")
    return Run(fleet, screen, Studio.at(fleet.home / "cameras", dealt, rng), task_file)


def start_server(run: Run, broker: str) -> None:
    with run.screen.step("start the fleet server: CA, TUF repository, database, broker") as step:
        run.fleet.start_server(broker=broker, tasks=[run.task_file])
        health = run.fleet.api.get("/health")
        step.say(f"{run.fleet.server.state().https_url}, {health['broker']['kind']} broker, MQTT {health['broker']['protocol']}")


def release(run: Run) -> None:
    bundle = run.fleet.home / f"{TASK}-{VERSION}.bundle"
    with run.screen.step("train, export, quantize, evaluate and pack the champion") as step:
        workbench.build(run.task_file, bundle, VERSION, on_line=step.update)
        step.say(f"{bundle.stat().st_size:,} bytes")
    with run.screen.step("sign and publish it") as step:
        run.fleet.publish(bundle)
        run.champion = next(run.fleet.api.items("/bundles"))["sha256"]
        step.say(f"sha256 {run.champion[:16]}...")


def enrol(run: Run) -> None:
    with run.screen.step("enrol three cameras") as step:
        for camera in CAMERAS:
            run.fleet.add_device(camera, f"camera:{run.studio.cameras[camera].folder}", profile="generic-x86-64", task=TASK)
        _await_running(run, step, run.champion, CAMERAS)


def film_clean(run: Run) -> None:
    with run.screen.step("classify clean frames") as step:
        run.studio.film(Part.BEFORE)
        _await_results(run, step)
        _await_committed(run, step, run.champion, CAMERAS)


def film_fault(run: Run) -> None:
    """Camera 3's lens fouls; meanwhile one agent is killed and started again."""
    with run.screen.step("camera 3 fouls; an agent is killed") as step:
        killed = run.fleet.devices[_KILLED]
        incidents: dict[int, Callable[[], None]] = {
            _KILL_AT: lambda: (killed.kill(), step.say(f"SIGKILL: the agent of {_KILLED}")),
            _REVIVE_AT: lambda: (killed.start(), step.say(f"started again: the agent of {_KILLED}")),
        }
        run.studio.film(Part.FAULT, incidents=incidents)
        _await_results(run, step)


def await_drift(run: Run) -> None:
    with run.screen.step("find the drift") as step:
        found = run.fleet.wait(lambda: list(run.fleet.api.items("/drift")), "a drift finding", _SHORT_S)
        finding = next((item for item in found if item["device"] == FAULTY), None)
        if finding is None:
            raise RigError(f"drift was found on {', '.join(item['device'] for item in found)}, not on {FAULTY}")
        run.finding = finding["id"]
        step.say(f"{FAULTY}: {finding['feature']} moved by {finding['effect']:.2f} (p < {finding['p_value']:.1e})")
        step.say(f"after {drift_delay(run, finding)} fouled frames")
        run.fleet.wait(lambda: watch.finding_state(run.fleet.api, step.update, run.finding) != "open", "the order to sample", _SHORT_S)


def film_choice(run: Run) -> None:
    """Fouled frames for camera 3 to choose from; the broker is killed while it does."""
    with run.screen.step("camera 3 chooses frames; the broker is killed") as step:
        broker = run.fleet.server.state().broker_pid
        incidents = {_BREAK_AT: lambda: step.say(f"SIGKILL: the broker, process {run.fleet.server.kill_broker()}")}
        run.studio.film(Part.CHOICE, incidents=incidents)
        now = run.fleet.wait(lambda: _other_broker(run, broker), "the broker's return", _SHORT_S)
        step.say(f"the broker is back as process {now}")
        _await_results(run, step)


def label(run: Run) -> None:
    """Play the person: label what camera 3 chose to send, from the data set's truth."""
    with run.screen.step("label the frames that camera 3 chose") as step:
        samples = run.fleet.wait(lambda: watch.chosen_samples(run.fleet.api, step.update, run.finding), "the chosen frames", _LONG_S)
        run.sample_bytes = sum(len(run.fleet.api.content(f"/samples/{sample['id']}/content")) for sample in samples)
        truths = [{"sample": sample["id"], "label": run.studio.truth[sample["device"], sample["input_id"]].digit} for sample in samples]
        run.labels = run.fleet.api.post("/labels", {"labels": truths})["stored"]
        wrong = sum(sample["label"] != given["label"] for sample, given in zip(samples, truths, strict=True))
        step.say(f"{run.labels} labels for {run.sample_bytes:,} bytes of frames; the champion had {wrong} of them wrong")


def await_retraining(run: Run) -> None:
    with run.screen.step("retrain: champion against challenger") as step:
        job = run.fleet.wait(lambda: watch.finished_job(run.fleet.api, step.update, run.finding), "the retraining job", _LONG_S)
        for gate in job["gates"] or []:
            step.say(f"{'passed' if gate['passed'] else 'FAILED'}: {gate['rule']}")
        if job["state"] != "accepted":
            raise RigError(f"the retraining job was {job['state']}: {job['reason']}")
        run.challenger = job["bundle"]


def roll_out(run: Run) -> None:
    with run.screen.step("roll out: camera 3 as canary") as step:
        _await_running(run, step, run.challenger, (FAULTY,))
        early = [item["id"] for item in run.fleet.api.items("/devices") if item["bundle"] == run.challenger and item["id"] != FAULTY]
        if early:
            raise RigError(f"{', '.join(early)} got the challenger before its canary had passed the gate")
        run.studio.film(Part.TEST, (FAULTY,))
    with run.screen.step("roll out: the others, after the canary's gate") as step:
        _await_running(run, step, run.challenger, HEALTHY)
        run.studio.film(Part.TEST, HEALTHY)
        _await_results(run, step)
        _await_committed(run, step, run.challenger, CAMERAS)
        run.fleet.wait(lambda: watch.rolled_out(run.fleet.api, step.update, run.challenger), "the rollout's end", _SHORT_S)


def look(run: Run) -> Seen:
    """Everything the verdict rests on, once the ledgers are at rest."""
    with run.screen.step("count every record") as step:
        rows = run.fleet.wait(lambda: watch.settled_ledger(run.fleet.api, step.update), "the ledgers to settle", _SHORT_S)
    api = run.fleet.api
    results = [Answer(r["device"], r["input_id"], r["bundle"], r["label"]) for r in api.items("/telemetry")]
    alarms = [item["device"] for item in api.items("/drift")]
    policy = api.get(f"/bundles/{run.champion}")["manifest"]["policy"]
    return Seen(
        champion=run.champion,
        challenger=run.challenger,
        truth=run.studio.truth,
        answers=results,
        counts=[_count(row) for row in rows],
        alarms=alarms,
        labels=run.labels,
        sample_bytes=run.sample_bytes,
        sample_bytes_allowed=policy["sampling"]["max_bytes"],
        seconds=run.screen.elapsed_s,
    )


def figures(run: Run) -> list[list[str]]:
    """The summary's other rows: what it cost."""
    broker = run.fleet.api.get("/health")["broker"]
    finding = next(item for item in run.fleet.api.items("/drift") if item["id"] == run.finding)
    sizes = {item["sha256"]: item["length"] for item in run.fleet.api.items("/bundles")}
    return [
        ["drift delay, frames", str(drift_delay(run, finding))],
        ["labels used", str(run.labels)],
        ["bytes of chosen frames", f"{run.sample_bytes:,}"],
        ["MQTT bytes from devices", f"{broker['bytes_in']:,}"],
        ["MQTT bytes to devices", f"{broker['bytes_out']:,}"],
        ["champion bundle, bytes", f"{sizes[run.champion]:,}"],
        ["challenger bundle, bytes", f"{sizes[run.challenger]:,}"],
        *(
            [f"fetched of it by {camera}", f"{count:,} ({way})"]
            for camera, (count, way) in sorted(watch.fetched(run.fleet.api, run.challenger).items())
        ),
    ]


def drift_delay(run: Run, finding: dict) -> int:
    """Frames from the first fouled one to the alarm."""
    clean = sum(truth.part is Part.BEFORE for (camera, _), truth in run.studio.truth.items() if camera == FAULTY)
    return finding["inputs_at_detection"] - clean


def _await_running(run: Run, step: Step, bundle: str, devices: tuple[str, ...]) -> None:
    run.fleet.wait(
        lambda: watch.running(run.fleet.api, step.update, bundle, devices), f"bundle {bundle[:16]} on {', '.join(devices)}", _LONG_S
    )


def _await_committed(run: Run, step: Step, bundle: str, devices: tuple[str, ...]) -> None:
    run.fleet.wait(
        lambda: watch.committed(run.fleet.api, step.update, bundle, devices), f"the end of probation on {', '.join(devices)}", _SHORT_S
    )


def _await_results(run: Run, step: Step) -> None:
    written = run.studio.written()
    run.fleet.wait(lambda: watch.answered(run.fleet.api, step.update, written), "a stored result of every frame", _LONG_S)


def _other_broker(run: Run, old: int | None) -> int | None:
    now = run.fleet.server.state().broker_pid
    return now if now != old and run.fleet.api.get("/health")["broker"]["connected"] else None


def _count(row: dict) -> Count:
    return Count(row["device"], row["lane"], row["produced"], row["stored"], row["queued"], sum(row["dropped"].values()))

"""The loop, played end to end: drift, samples, labels, a job, its rollout, and what goes wrong on the way."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlalchemy import Engine

from fleet_contract.manifest import Policy, RetrainPolicy
from fleet_contract.messages import Event, Result, Sample, SketchWindow
from fleet_server.services import audit, findings, jobs, rollout_steps, rollouts, samples
from tests.fakes.server_bundles import POLICY, make_bundle, rows, sketch_of
from tests.fakes.server_world import World

DEVICES = ("cam-1", "cam-2", "cam-3")


class Play:
    """A fleet of three devices on bundle 1, all of them healthy."""

    def __init__(self, world: World, policy: Policy = POLICY) -> None:
        self.world, self.policy = world, policy
        self.rng = np.random.default_rng(3)
        for device in DEVICES:
            world.enrol(device)
        self.champion = world.publish(make_bundle(policy=policy))
        self.first = rollouts.create(world.engine, rollouts.Plan(self.champion), by="test", now=world.clock()).id
        world.settle()
        for device in DEVICES:
            world.run_order(device)
        world.settle()

    def windows(self, device: str, centre: float, count: int = 1) -> None:
        bundle = self.world.order(device).sha256
        for _ in range(count):
            now = self.world.clock()
            sketch = sketch_of(rows(self.rng, 50, centre))
            window = SketchWindow(start=now, end=now, bundle=bundle, first_input=0, inputs=50, sketch=sketch)
            self.world.send(device, window)
        self.world.settle()

    def drift(self, device: str = "cam-3") -> None:
        self.windows(device, 0.9, 2)

    def sample(self, device: str = "cam-3", count: int = 4) -> None:
        order = self.world.order(device)
        sent = [
            Sample(
                at=self.world.clock(),
                bundle=order.sha256,
                campaign=order.sampling.id,
                input_id=f"frame-{at}",
                media_type="application/json",
                data=f"[0.9, 0.{at}]".encode(),
                label="no",
                value=0.6,
            )
            for at in range(count)
        ]
        done = Event(at=self.world.clock(), kind="sampling.done", detail={"campaign": order.sampling.id, "items": count, "bytes": 100})
        self.world.send(device, done, *sent)
        self.world.settle()

    def label(self, count: int = 4) -> None:
        found = samples.page(self.world.engine, samples.Filter(), after=0, limit=100)
        samples.label(self.world.fleet, [(row.id, "yes") for row in found[:count]], by="person", now=self.world.clock())
        self.world.settle()

    def challenge(self, version: str = "1-r1") -> None:
        archive = make_bundle(version, policy=self.policy, centres=(0.4, 0.9))
        self.world.runner.accept(archive, self.world.repository.following(archive))
        self.world.settle()

    def results(self, device: str, count: int) -> None:
        bundle = self.world.order(device).sha256
        now = self.world.clock()
        made = [Result(at=now, bundle=bundle, input_id=str(at), label="yes", value=0.9, latency_us=10) for at in range(count)]
        self.world.send(device, *made)
        self.world.settle()

    def finding(self):
        return findings.page(self.world.engine, device=None, state=None, after=0, limit=10)[-1]

    def rollout(self):
        return rollouts.page(self.world.engine, after=0, limit=10)[-1]

    def job(self):
        return jobs.page(self.world.fleet, after=0, limit=10)[-1]


@pytest.fixture
def play(world: World) -> Play:
    return Play(world)


def test_the_first_rollout_of_a_task_goes_to_all_at_once(play: Play) -> None:
    first = rollouts.get(play.world.engine, play.first)
    assert first.state == "done"
    assert set(first.devices.values()) == {"active"}
    assert all(play.world.order(device).sha256 == play.champion for device in DEVICES)


def test_a_new_device_gets_the_newest_finished_rollout(play: Play) -> None:
    play.world.enrol("cam-4")
    play.world.settle()
    assert play.world.order("cam-4").sha256 == play.champion


def test_a_device_that_enrols_before_any_bundle_gets_the_first_one(world: World) -> None:
    world.enrol("early")
    world.settle()
    assert "early" not in world.link.retained
    bundle = world.publish(make_bundle())
    rollouts.create(world.engine, rollouts.Plan(bundle), by="test", now=world.clock())
    world.settle()
    assert world.order("early").sha256 == bundle


def test_a_rollout_to_nobody_is_done_and_serves_who_comes_later(world: World) -> None:
    bundle = world.publish(make_bundle())
    made = rollouts.create(world.engine, rollouts.Plan(bundle), by="test", now=world.clock())
    world.settle()
    assert rollouts.get(world.engine, made.id).state == "done"
    world.enrol("late")
    world.settle()
    assert world.order("late").sha256 == bundle


@pytest.mark.parametrize(("transport", "carried"), [(None, msgspec.UNSET), ("http", "http"), ("mqtt", "mqtt")])
def test_an_order_says_which_way_the_server_prefers(tmp_path: Path, sqlite_engine: Engine, transport: str | None, carried: object) -> None:
    world = World(tmp_path, sqlite_engine, transport=transport)
    world.enrol("cam-1")
    rollouts.create(world.engine, rollouts.Plan(world.publish(make_bundle())), by="test", now=world.clock())
    world.settle()
    assert world.order("cam-1").transport == carried


def test_the_whole_loop_closes(play: Play) -> None:
    steps = []
    play.windows("cam-1", 0.4, 3)
    assert findings.page(play.world.engine, device=None, state=None, after=0, limit=10) == []
    play.drift()
    steps.append(play.finding().state)
    assert play.world.order("cam-3").sampling.id == f"drift-{play.finding().id}"
    assert play.world.order("cam-1").sampling is None
    play.sample()
    steps.append(play.finding().state)
    play.label()
    steps.append(play.finding().state)
    assert play.job().state == "running"
    play.challenge()
    assert (play.job().state, play.rollout().state, play.rollout().canaries) == ("accepted", "canary", ["cam-3"])
    challenger = play.rollout().bundle
    assert [play.world.order(device).sha256 == challenger for device in DEVICES] == [False, False, True]
    play.world.run_order("cam-3")
    play.results("cam-3", 9)
    assert play.rollout().state == "canary"
    play.results("cam-3", 1)
    assert play.rollout().state == "wave"
    play.world.run_order("cam-1")
    play.world.run_order("cam-2")
    play.world.settle()
    steps.append(play.finding().state)
    assert steps == ["sampling", "labelling", "retraining", "closed"]
    assert play.rollout().state == "done"
    assert play.world.order("cam-3").sampling is None
    assert audit.verify(play.world.engine).intact


def test_nothing_to_do_issues_no_order(play: Play) -> None:
    before = len(play.world.link.published)
    for _ in range(3):
        assert play.world.tick().quiet
    assert len(play.world.link.published) == before


def test_an_order_is_renewed_before_it_expires(play: Play) -> None:
    counter, expiry = play.world.order("cam-1").counter, play.world.order("cam-1").not_after
    play.world.clock.forward(days=21)
    play.world.settle()
    renewed = play.world.order("cam-1")
    assert (renewed.counter, renewed.sha256) == (counter + 1, play.champion)
    assert renewed.not_after > expiry


def test_all_orders_are_signed_anew_with_a_new_orders_key(play: Play) -> None:
    before = {device: play.world.order(device).counter for device in play.world.link.retained}
    play.world.signer.rotate()
    play.world.settle()
    assert {device: play.world.order(device).counter for device in before} == {device: counter + 1 for device, counter in before.items()}
    assert play.world.tick().quiet


def test_a_counter_overtakes_what_the_device_has_seen(play: Play) -> None:
    """The database was restored from an older copy."""
    play.world.say("cam-1", bundle=play.champion, order_counter=40)
    play.world.settle()
    assert play.world.order("cam-1").counter == 41


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param("reject", "update.rejected wrong-answer: differs", id="the canary refuses the bundle"),
        pytest.param("drift", "drift on device cam-3", id="the canary drifts on the new bundle"),
        pytest.param("refuse", "refused 5 of 10", id="the canary refuses too many inputs"),
        pytest.param("person", "stopped by person", id="a person stops it"),
    ],
)
def test_a_failing_gate_sends_the_canary_back(play: Play, spoil: str, reason: str) -> None:
    play.drift()
    play.sample()
    play.label()
    play.challenge()
    challenger = play.world.run_order("cam-3")
    play.world.settle()
    if spoil == "reject":
        detail = {"code": "wrong-answer", "message": "differs", "sha256": challenger}
        play.world.send("cam-3", Event(at=play.world.clock(), kind="update.rejected", detail=detail))
    elif spoil == "drift":
        play.windows("cam-3", 0.1, 2)
    elif spoil == "refuse":
        play.world.send("cam-3", Event(at=play.world.clock(), kind="input.refused", detail={"not-finite": 5}))
        play.results("cam-3", 5)
    else:
        rollout_steps.stop(play.world.engine, play.rollout().id, by="person", now=play.world.clock())
    play.world.settle()
    stopped = play.rollout()
    assert stopped.state == "stopped"
    assert reason in stopped.reason
    assert play.world.order("cam-3").sha256 == play.champion
    assert play.world.order("cam-1").sha256 == play.champion
    first = findings.page(play.world.engine, device=None, state=None, after=0, limit=10)[0]
    assert first.state == "labelling"


def test_a_window_that_looks_drifted_holds_the_gate_until_the_next_one(play: Play) -> None:
    play.drift()
    play.sample()
    play.label()
    play.challenge()
    play.world.run_order("cam-3")
    play.windows("cam-3", 0.1)
    play.results("cam-3", 20)
    assert (play.rollout().state, "must clear it" in play.rollout().reason) == ("canary", True)
    play.windows("cam-3", 0.9)
    assert play.rollout().state == "wave"


def test_who_runs_nothing_needs_no_canaries_whatever_others_run(play: Play) -> None:
    play.world.enrol("cam-9")
    made = rollouts.create(
        play.world.engine, rollouts.Plan(play.champion, devices=("cam-9",), approved=False), by="test", now=play.world.clock()
    ).id
    assert rollouts.approve(play.world.engine, made, by="ann", now=play.world.clock()).state == "wave"


def test_a_proposal_waits_for_approval_where_the_policy_says_so(world: World) -> None:
    retrain = RetrainPolicy(automatic=True, min_labels=4, approval=True)
    play = Play(world, Policy(drift=POLICY.drift, sampling=POLICY.sampling, retrain=retrain, rollout=POLICY.rollout))
    play.drift()
    play.sample()
    play.label()
    play.challenge()
    assert play.rollout().state == "proposed"
    rollouts.approve(world.engine, play.rollout().id, by="person", now=world.clock())
    play.world.settle()
    assert play.rollout().state == "canary"


def test_fewer_samples_than_labels_wanted_are_enough_when_no_more_will_come(play: Play) -> None:
    play.drift()
    play.sample(count=2)
    assert play.finding().state == "labelling"
    play.label(1)
    assert play.finding().state == "labelling"
    play.label(2)
    assert play.finding().state == "retraining"


def test_a_refused_challenger_waits_for_new_labels(play: Play) -> None:
    play.drift()
    play.sample(count=3)
    play.label(3)
    play.world.runner.refuse("no better")
    play.world.settle()
    assert (play.job().state, play.finding().state) == ("refused", "labelling")
    assert "no better" in play.finding().reason
    assert len(play.world.runner.started) == 1


def test_a_job_whose_process_died_is_tried_once_more(play: Play) -> None:
    play.drift()
    play.sample()
    play.label()
    play.world.runner.fail("killed")
    play.world.tick()
    assert (play.job().state, play.job().attempts) == ("queued", 1)
    play.world.tick()
    assert (play.job().state, play.job().attempts) == ("running", 2)
    play.world.runner.fail("killed again")
    play.world.settle()
    assert (play.job().state, play.job().reason) == ("failed", "killed again")


def test_a_job_that_was_overtaken_by_another_release_is_run_again(play: Play) -> None:
    play.drift()
    play.sample()
    play.label()
    archive = make_bundle("1-r1", centres=(0.4, 0.9))
    stale = play.world.repository.following(archive)
    play.world.publish(make_bundle("2"))
    play.world.runner.accept(archive, stale)
    play.world.tick()
    assert (play.job().state, play.job().attempts) == ("queued", 1)


def test_a_job_that_was_published_before_a_crash_is_not_published_twice(play: Play) -> None:
    play.drift()
    play.sample()
    play.label()
    archive = make_bundle("1-r1", centres=(0.4, 0.9))
    releases = play.world.repository.following(archive)
    play.world.runner.accept(archive, releases)
    play.world.repository.publish(play.world.runner.started[-1] / "new.bundle", releases)
    play.world.settle()
    assert (play.job().state, play.rollout().state) == ("accepted", "canary")


def test_a_device_that_was_long_away_does_not_hold_a_wave(play: Play) -> None:
    play.world.clock.forward(minutes=30)
    for device in ("cam-1", "cam-2"):
        play.world.run_order(device)
    bundle = play.world.publish(make_bundle("2"))
    rollouts.create(play.world.engine, rollouts.Plan(bundle), by="test", now=play.world.clock())
    play.world.settle()
    play.world.run_order("cam-1")
    play.results("cam-1", 10)
    play.world.run_order("cam-2")
    play.world.settle()
    assert (play.rollout().state, play.rollout().devices["cam-3"]) == ("done", "ordered")
    play.world.run_order("cam-3")
    play.world.settle()
    assert play.rollout().devices["cam-3"] == "active"

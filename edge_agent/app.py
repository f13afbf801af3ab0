"""The composition root: the only file that names concrete classes."""

import dataclasses
import logging
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import firmware_profiles.catalog as profiles
from edge_agent import __version__, identity, local
from edge_agent.agent import Agent
from edge_agent.board import architecture_here, proposed
from edge_agent.clock import BUILT_AT, SystemClock, boot_id, is_synchronised, uptime_us
from edge_agent.config import Settings, StateFolder
from edge_agent.delivery.downloads import Downloads, Ways
from edge_agent.delivery.exchange import Exchange
from edge_agent.delivery.http import Http
from edge_agent.delivery.one_to_one import OneToOne
from edge_agent.delivery.shared_pass import SharedPass
from edge_agent.errors import Fatal, Reject, Retry
from edge_agent.identity import Identity
from edge_agent.idle import Idle
from edge_agent.inference import memory
from edge_agent.inference.guest import ShadowGuest
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.residents import Residents
from edge_agent.inference.shadow import Shadow
from edge_agent.link.ignored import Ignored
from edge_agent.link.mqtt import MqttLink
from edge_agent.link.pace import pace_of
from edge_agent.link.uplink import Uplink
from edge_agent.local import Board, Server
from edge_agent.monitor.thermal import Thermometer
from edge_agent.monitor.tray import Tray
from edge_agent.observation import Observer, Report, StatusFile, downloading
from edge_agent.outbox.store import Outbox
from edge_agent.pipeline import Pace, Pipeline
from edge_agent.ports import Inferring, Sink, Source
from edge_agent.serving import figures
from edge_agent.serving.metrics import Metrics
from edge_agent.sinks.factory import open_sink
from edge_agent.sources.address import redact
from edge_agent.sources.backlog import Rules
from edge_agent.sources.factory import open_source, origin_of
from edge_agent.storage.journal import Journal
from edge_agent.timekeeper import Timekeeper
from edge_agent.trust.client import Trust
from edge_agent.trust.time import TrustedTime
from edge_agent.update.executor import Executor
from edge_agent.update.inbox import Addressee, Inbox
from edge_agent.update.loop import UpdateLoop
from edge_agent.update.parts import Parts
from edge_agent.update.probation import Terms
from edge_agent.update.requests import Requests
from edge_agent.update.slots import Slots
from edge_agent.update.state import State
from fleet_contract.messages import Event
from fleet_contract.mqtt import Tls

log = logging.getLogger(__name__)

_ID_BYTES = 8
_MAX_MESSAGE_CHARS = 300


def run(state: StateFolder, source: str | None, settings: Settings, stop: threading.Event) -> None:
    """Work until `stop` is set. Without a source only local applications ask the models. Raises Fatal (not enrolled, another agent on the same
    state, no such source) or Retry (disk)."""
    if source is None and not (settings.device.serving.http or settings.device.serving.grpc):
        raise Fatal("there is nothing to do: give --source, or an address to serve at in --config", code="usage")
    with state.lock() as alone, ExitStack() as closing:
        if not alone:
            raise Fatal(f"another agent (process {state.owner()}) works on {state.root}", code="locked")
        me = identity.load(state.identity)
        if me is None:
            raise Fatal(f"{state.root} holds no identity; run `edge-agent enrol` first", code="not-enrolled")
        time = TrustedTime(state.time, SystemClock(), BUILT_AT)
        agent = build(me, state, source, settings, time, closing)
        agent.serve(stop)


@dataclass(frozen=True)
class _Ground:
    """What is opened first: the board, the source, where requests wait to be recorded, the records, the models' host, and the way to the server."""

    profile: profiles.Profile
    inputs: Source | None
    origin: str
    sinks: list[Sink]
    tray: Tray | None
    keeper: Timekeeper
    store: Outbox
    host: InferenceHost
    guest: ShadowGuest
    ignored: Ignored
    link: MqttLink
    tls: Tls
    exchange: Exchange


def build(me: Identity, state: StateFolder, source: str | None, settings: Settings, clock: TrustedTime, closing: ExitStack) -> Agent:
    """Everything but the threads. `closing` ends what was opened. Raises Fatal or Retry."""
    ground = _open(me, state, source, settings, clock, closing)
    files = OneToOne(ground.exchange)
    trust = Trust(state.tuf, me.root, files, clock)
    ways = Ways(SharedPass(ground.exchange), files, Http(ground.exchange, clock, ground.tls.context))
    downloads = Downloads(ways, trust.target, settings.manners, clock, busy=lambda: uplink.is_behind())
    inbox = Inbox(Addressee(me.device.device_id, ground.profile.name), trust, ground.store, clock)
    parts = _parts(ground, state, settings, clock, trust, inbox, downloads)
    executor = Executor(parts, _first_state(parts))
    updates = UpdateLoop(executor)
    board = Board(ground.profile, clock, lambda event: ground.store.append([event]))
    found = local.assemble(
        settings.device, board, (me.device.task, ground.host), closing, has_source=ground.inputs is not None, beside=ground.guest
    )
    pipeline = _pipeline(ground, found.asked or ground.host, settings, clock, updates.appeal)
    observer = _observer(ground, clock, executor, pipeline, updates, settings.device.uplink.heartbeat_s)
    pace = pace_of(settings.device.uplink, settings.device.clock)
    uplink = Uplink(ground.store, ground.link, clock, observer.observe, pace, trust=ground.keeper.state)
    ground.store.listen(uplink.on_append)
    recorded = {} if ground.tray is None else {me.device.task: ground.tray}
    servers = local.open_servers(settings.device.serving, found, clock, _figures(ground, pipeline), closing, recorded)
    residents = Residents(found.residents, board.record, clock)
    closing.callback(residents.close)
    return Agent(
        link=ground.link,
        exchange=ground.exchange,
        downloads=downloads,
        uplink=uplink,
        updates=updates,
        pipeline=pipeline,
        inbox=inbox,
        ignored=ground.ignored,
        follow=ground.store.follow,
        thermometer=Thermometer(ground.profile.thermal, Path("/"), ground.store, clock),
        campaign=lambda: executor.state.order.sampling if executor.state.order else None,
        start_local=lambda: _start([*servers, *found.shadows, residents]),
        report=_reporter(
            StatusFile(state.status), ground.link, downloads, updates, me.device.broker_url, redact(source or "none"), servers
        ),
        record_end=lambda error: _record_end(parts, error),
    )


def _observer(
    ground: _Ground, clock: TrustedTime, executor: Executor, pipeline: Pipeline | Idle, updates: UpdateLoop, heartbeat_s: float
) -> Observer:
    return Observer(
        ground.profile.name,
        ground.store,
        clock,
        instance=secrets.token_hex(_ID_BYTES),
        state=lambda: executor.state,
        work=pipeline.observe,
        trouble=lambda: updates.trouble,
        shadow=ground.guest.running,
        trust=ground.keeper.state,
        heartbeat_s=heartbeat_s,
    )


def _timekeeper(settings: Settings, clock: TrustedTime) -> Timekeeper:
    boot = boot_id(Path("/")) or secrets.token_hex(_ID_BYTES)
    return Timekeeper(clock, boot, uptime_us, is_synchronised if settings.device.clock.trust == "kernel" else lambda: True)


def _open(me: Identity, state: StateFolder, source: str | None, settings: Settings, clock: TrustedTime, closing: ExitStack) -> _Ground:
    tls = dataclasses.replace(me.tls, floor=clock.floor)
    profile = _profile(me)
    queue = settings.device.queue
    inputs = None if source is None else open_source(source, clock, queue and Rules(queue.policy, queue.max_inputs))
    if inputs is not None:
        closing.callback(inputs.close)
    sinks: list[Sink] = []
    for spec in settings.device.sinks:
        sinks.append(open_sink(spec))
        closing.callback(sinks[-1].close)
    serving = settings.device.serving
    tray = Tray() if serving.record and (serving.http or serving.grpc) else None
    keeper = _timekeeper(settings, clock)
    store = Outbox(state.outbox, new_epoch=lambda: secrets.token_hex(_ID_BYTES), read=keeper.reading, settings=settings.device.outbox)
    closing.callback(store.close)
    host = InferenceHost(profile, clock, available_bytes=lambda: memory.available_bytes(Path("/")))
    closing.callback(host.close)
    beside = InferenceHost(profile, clock, available_bytes=lambda: memory.available_bytes(Path("/")), meek=True)
    closing.callback(beside.close)
    guest = ShadowGuest(me.device.task, beside, lambda event: store.append([event]), clock)
    closing.callback(guest.end)
    ignored = Ignored(store, clock)
    link = MqttLink(
        me.device.broker_url,
        me.device.device_id,
        tls,
        epoch=store.epoch,
        at=clock.now(),
        on_ignored=ignored.note,
        settings=settings.device.uplink,
    )
    exchange = Exchange(link, clock, new_id=lambda: secrets.token_hex(_ID_BYTES))
    return _Ground(
        profile, inputs, "" if source is None else origin_of(source), sinks, tray, keeper, store, host, guest, ignored, link, tls, exchange
    )


def _pipeline(ground: _Ground, host: Inferring, settings: Settings, clock: TrustedTime, appeal: Callable[[], None]) -> Pipeline | Idle:
    pace = Pace(micro_batch=settings.micro_batch)
    if ground.inputs is None:
        return Idle(ground.store, clock, pace, ground.sinks, ground.tray)
    return Pipeline(ground.inputs, host, ground.store, clock, pace, appeal, ground.sinks, ground.tray, ground.origin)


def _figures(ground: _Ground, pipeline: Pipeline | Idle) -> list[Metrics]:
    link = ground.link
    return [figures.of_store(ground.store), figures.of_inputs(pipeline.observe, lambda: link.connected), figures.of_sinks(ground.sinks)]


def _parts(
    ground: _Ground, state: StateFolder, settings: Settings, clock: TrustedTime, trust: Trust, inbox: Inbox, downloads: Downloads
) -> Parts:
    return Parts(
        profile=ground.profile.name,
        journal=Journal(state.journal, State),
        slots=Slots(state.slots),
        inbox=inbox,
        trust=trust,
        delivery=downloads,
        host=ground.host,
        guest=ground.guest,
        store=ground.store,
        clock=clock,
        requests=Requests(state.root),
        terms=Terms(inputs=settings.probation_inputs, time_s=settings.probation_s),
        recheck_s=settings.recheck_s,
    )


def _profile(me: Identity) -> profiles.Profile:
    try:
        return profiles.load(me.device.profile)
    except profiles.ProfileError as error:
        raise Fatal(str(error), code="profile") from error


def _first_state(parts: Parts) -> State:
    """What the journal says; a damaged one is set aside, and the device waits for its order anew."""
    board = proposed(Path("/"), architecture_here())
    started = [_event(parts, "agent.started", version=__version__, profile=parts.profile, board=board)]
    try:
        state = parts.journal.read() or State()
    except Reject as error:
        log.error("%s", error)
        parts.journal.set_aside()
        started.append(_event(parts, "journal.reset", message=str(error)))
        state = State()
    parts.store.append(started)
    return state


def _record_end(parts: Parts, error: Fatal) -> None:
    try:
        parts.store.append([_event(parts, "agent.failed", code=error.code, message=str(error)[:_MAX_MESSAGE_CHARS])])
    except Retry as failure:
        log.warning("the server will not hear why the agent ends: %s", failure)


def _event(parts: Parts, kind: str, **detail: str) -> Event:
    return Event(at=parts.clock.now(), kind=kind, detail=dict(detail))


def _start(works: Sequence[Server | Shadow | Residents]) -> None:
    for work in works:
        work.start()


def _reporter(
    file: StatusFile, link: MqttLink, downloads: Downloads, updates: UpdateLoop, broker_url: str, source: str, servers: Sequence[Server]
) -> Callable[[], None]:
    serving = tuple(str(server.address) for server in servers)

    def show() -> None:
        download = downloading(downloads.download)
        file.show(Report(os.getpid(), link.connected, broker_url, link.protocol, source, updates.trouble, download, serving))

    return show

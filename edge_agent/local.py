"""What local applications call, put together from the device's configuration: beside a fleet's agent, or alone. Names concrete classes, like app.py."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from edge_agent.catalogue import Predictor
from edge_agent.device_file import DeviceFile, Serving
from edge_agent.device_file import Shadow as ShadowWish
from edge_agent.errors import Fatal
from edge_agent.inference import memory
from edge_agent.inference.bystander import Bystander
from edge_agent.inference.ensemble import Ensemble, EnsembleHost, Member
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.models import HostedModel, Models
from edge_agent.inference.pinned import Pinned
from edge_agent.inference.residents import Resident
from edge_agent.inference.shadow import Offered, Shadow, ShadowedHost
from edge_agent.inference.voting import RULES
from edge_agent.monitor.tray import Tray
from edge_agent.ports import Clock, Inferring
from edge_agent.serving import figures
from edge_agent.serving.address import Address, parse_address
from edge_agent.serving.guard import guard_of
from edge_agent.serving.http.server import HttpServer
from edge_agent.serving.metrics import Metrics
from edge_agent.serving.rest.application import RestApplication
from edge_agent.serving.service import Service
from edge_agent.serving.tally import Tally
from firmware_profiles.catalog import Profile
from fleet_contract.messages import Event

log = logging.getLogger(__name__)


class Server(Protocol):
    address: Address

    def start(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Board:
    """What models stand on, and where events go."""

    profile: Profile
    clock: Clock
    record: Callable[[Event], None]


@dataclass(frozen=True)
class Local:
    """`hosts` by the names of their models. `asked` is what a source's inputs go to: the fleet's model with its shadows, or an ensemble around it."""

    models: Models
    residents: list[Resident]
    shadows: list[Shadow]
    hosts: dict[str, InferenceHost]
    asked: Inferring | None


def assemble(
    file: DeviceFile,
    board: Board,
    fleet: tuple[str, InferenceHost] | None,
    closing: ExitStack,
    *,
    has_source: bool = False,
    beside: Offered | None = None,
) -> Local:
    """`fleet` is the model that the fleet orders; where a source judges its bundles, local applications do not. `beside` is offered what that model
    answers. Nothing is opened yet; `closing` ends what runs by then. Raises Fatal."""
    residents = [Resident(wish.name, Pinned(Path(wish.bundle), wish.sha256), _host(board, closing)) for wish in file.models]
    hosts = dict([fleet] if fleet else [])
    for resident in residents:
        if resident.name in hosts:
            raise Fatal(f"two models are called {resident.name!r}; give one of them another name", code="config")
        hosts[resident.name] = resident.host
    guests, shadows = [], []
    seen: dict[str, Inferring] = {**hosts}
    called = {**seen, fleet[0]: Bystander(fleet[1])} if fleet and has_source else {**seen}
    for ways in (seen, called) if fleet and beside else ():
        ways[fleet[0]] = ShadowedHost(ways[fleet[0]], beside)
    for wish in file.shadows:
        name = wish.model or next(iter(hosts), "")
        if name not in hosts:
            raise Fatal(f"shadows: there is no model {name!r}; there is {', '.join(hosts) or 'none'}", code="config")
        guest = Resident(f"shadow of {name}", Pinned(Path(wish.bundle), wish.sha256), _host(board, closing, meek=True))
        guests.append(guest)
        shadows.append(_shadow(name, wish, guest, board, closing))
        for ways in (seen, called):
            ways[name] = ShadowedHost(ways[name], shadows[-1])
    models = [HostedModel(name, host) for name, host in called.items()]
    ensembles = _ensembles(file, models, closing)
    asked = _asked(file, fleet[0], seen, ensembles) if fleet else None
    return Local(Models([*models, *ensembles]), [*residents, *guests], shadows, hosts, asked)


def open_servers(
    wish: Serving, local: Local, clock: Clock, metrics: Sequence[Metrics], closing: ExitStack, recorded: Mapping[str, Tray] = {}
) -> list[Server]:
    """They listen, and answer once started. `recorded`: see Service. Raises Fatal."""
    token_file = None if wish.token_file is None else Path(wish.token_file)
    tally = Tally()
    service = Service(local.models, clock, tally, recorded)
    told = [tally.metrics, figures.of_hosts(local.hosts), *metrics]
    servers: list[Server] = []
    for address in map(parse_address, wish.http):
        everything = [lambda: chain.from_iterable(source() for source in told)]  # of the servers that come later, too
        server = HttpServer(address, RestApplication(service, guard_of(address, token_file), everything), clock)
        closing.callback(server.close)
        told.append(server.metrics)
        servers.append(server)
    for address in map(parse_address, wish.grpc):
        servers.append(_grpc_server(address, service, token_file))
        closing.callback(servers[-1].close)
    return servers


def _grpc_server(address: Address, service: Service, token_file: Path | None) -> Server:
    try:
        from edge_agent.serving.grpc_server import GrpcServer  # a library of its own extra, and 12 MB
    except ImportError as error:
        raise Fatal(f"gRPC needs the extra `grpc` (pip install 'edgefleet[grpc]'): {error}", code="config") from error
    return GrpcServer(address, service, guard_of(address, token_file))


def _host(board: Board, closing: ExitStack, *, meek: bool = False) -> InferenceHost:
    host = InferenceHost(board.profile, board.clock, available_bytes=lambda: memory.available_bytes(Path("/")), meek=meek)
    closing.callback(host.close)
    return host


def _shadow(name: str, wish: ShadowWish, guest: Resident, board: Board, closing: ExitStack) -> Shadow:
    shadow = Shadow(name, guest.host, board.record, board.clock, every_inputs=wish.every_inputs)
    closing.callback(shadow.close)
    return shadow


def _asked(file: DeviceFile, fleet: str, seen: Mapping[str, Inferring], ensembles: Sequence[Ensemble]) -> Inferring:
    if file.ask in (None, fleet):
        return seen[fleet]
    for wish, ensemble in zip(file.ensembles, ensembles, strict=True):
        if wish.name == file.ask and wish.members[0].model == fleet:
            return EnsembleHost(seen[fleet], ensemble)
    raise Fatal(f"ask: {file.ask!r} must be an ensemble whose first member is the fleet's model, {fleet!r}", code="config")


def _ensembles(file: DeviceFile, hosted: Sequence[Predictor], closing: ExitStack) -> list[Ensemble]:
    known = {model.name: model for model in hosted}
    found = []
    for wish in file.ensembles:
        for member in wish.members:
            if member.model not in known:
                raise Fatal(f"ensemble {wish.name!r}: there is no model {member.model!r}; there is {', '.join(known)}", code="config")
        ensemble = Ensemble(wish.name, [Member(known[member.model], member.weight) for member in wish.members], RULES[wish.rule])
        closing.callback(ensemble.close)
        found.append(ensemble)
    return found

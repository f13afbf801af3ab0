"""What local applications call, put together from the device's configuration: beside a fleet's agent, or alone. Names concrete classes, like app.py."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from edge_agent.catalogue import Predictor
from edge_agent.device_file import DeviceFile, Serving
from edge_agent.device_file import Shadow as ShadowWish
from edge_agent.errors import Fatal
from edge_agent.inference import memory
from edge_agent.inference.ensemble import Ensemble, Member
from edge_agent.inference.host import InferenceHost
from edge_agent.inference.models import HostedModel, Models
from edge_agent.inference.pinned import Pinned, open_pinned
from edge_agent.inference.shadow import Shadow, ShadowedHost
from edge_agent.inference.voting import RULES
from edge_agent.ports import Clock, Inferring
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

_LOWEST_PRIORITY = 19


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
class Resident:
    """A bundle of this device's own and the host that shall run it."""

    name: str
    pinned: Pinned
    host: InferenceHost

    def open(self) -> None:
        """Returns once its worker answers. Raises Fatal for another bundle than is meant, or what InferenceHost.activate raises."""
        self.host.activate(open_pinned(self.pinned))


@dataclass(frozen=True)
class Local:
    """`seen` is each host by its model's name, as its shadows see it: what a pipeline shall ask."""

    models: Models
    residents: list[Resident]
    shadows: list[Shadow]
    seen: dict[str, Inferring] = field(default_factory=dict)


def assemble(file: DeviceFile, board: Board, fleet: tuple[str, InferenceHost] | None, closing: ExitStack) -> Local:
    """`fleet` is the model that the fleet orders. Nothing is opened yet; `closing` ends what runs by then. Raises Fatal."""
    residents = [Resident(wish.name, Pinned(Path(wish.bundle), wish.sha256), _host(board, closing, board.profile)) for wish in file.models]
    hosts: dict[str, Inferring] = {} if fleet is None else {fleet[0]: fleet[1]}
    hosts |= {resident.name: resident.host for resident in residents}
    if len(hosts) < len(residents) + (fleet is not None):
        raise Fatal("two models have one name; give one of them another", code="config")
    shadows: list[Shadow] = []
    for number, wish in enumerate(file.shadows):
        name = wish.model or next(iter(hosts), "")
        if name not in hosts:
            raise Fatal(f"shadows: there is no model {name!r}; there is {', '.join(hosts) or 'none'}", code="config")
        guest = Resident(f"shadow-{number}", Pinned(Path(wish.bundle), wish.sha256), _host(board, closing, _meek(board.profile)))
        shadow = _shadow(name, wish, guest, board, closing)
        residents.append(guest)
        shadows.append(shadow)
        hosts[name] = ShadowedHost(hosts[name], [shadow])
    hosted: list[Predictor] = [HostedModel(name, host) for name, host in hosts.items()]
    return Local(Models([*hosted, *_ensembles(file, hosted, closing)]), residents, shadows, hosts)


def open_servers(wish: Serving, models: Models, clock: Clock, metrics: Sequence[Metrics], closing: ExitStack) -> list[Server]:
    """They listen, and answer once started. Raises Fatal."""
    token_file = None if wish.token_file is None else Path(wish.token_file)
    tally = Tally()
    service = Service(models, clock, tally)
    told = [tally.metrics, *metrics]
    servers: list[Server] = []
    for text in wish.http:
        address = parse_address(text)
        server = HttpServer(address, RestApplication(service, guard_of(address, token_file), told), clock)
        told.append(server.metrics)
        servers.append(_closed_by(closing, server))
    for text in wish.grpc:
        address = parse_address(text)
        servers.append(_closed_by(closing, _grpc_server(address, service, token_file)))
    return servers


def _grpc_server(address: Address, service: Service, token_file: Path | None) -> Server:
    try:
        from edge_agent.serving.grpc_server import GrpcServer  # a library of its own extra, and 15 MB
    except ImportError as error:
        raise Fatal(f"gRPC needs the extra `grpc` (pip install 'edgefleet[grpc]'): {error}", code="config") from error
    return GrpcServer(address, service, guard_of(address, token_file))


def _closed_by(closing: ExitStack, server: Server) -> Server:
    closing.callback(server.close)
    return server


def _host(board: Board, closing: ExitStack, profile: Profile) -> InferenceHost:
    host = InferenceHost(profile, board.clock, available_bytes=lambda: memory.available_bytes(Path("/")))
    closing.callback(host.close)
    return host


def _meek(profile: Profile) -> Profile:
    """One worker that takes what the others leave."""
    return msgspec.structs.replace(profile, worker=msgspec.structs.replace(profile.worker, count=1, nice=_LOWEST_PRIORITY))


def _shadow(name: str, wish: ShadowWish, guest: Resident, board: Board, closing: ExitStack) -> Shadow:
    shadow = Shadow(name, guest.host, board.record, board.clock, every_inputs=wish.every_inputs)
    closing.callback(shadow.close)
    return shadow


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

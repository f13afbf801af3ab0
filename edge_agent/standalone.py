"""Models for local applications without a fleet: for trying out, for rigs, and for measuring."""

import logging
import platform
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_agent import device_file, local
from edge_agent.clock import SystemClock
from edge_agent.device_file import DeviceFile, LocalModel, Serving
from edge_agent.errors import Fatal
from edge_agent.inference.pinned import open_pinned, parse
from edge_agent.local import Board
from firmware_profiles import catalog
from firmware_profiles.catalog import Profile
from firmware_profiles.detection import architecture_of, detect
from fleet_contract.messages import Event

log = logging.getLogger(__name__)

_DEFAULT_HTTP = "127.0.0.1:8080"


@dataclass(frozen=True)
class Wish:
    """`bundles` are FILE or FILE@SHA256; what is given here comes beside what the configuration says."""

    bundles: Sequence[str]
    config: Path | None
    http: Sequence[str]
    grpc: Sequence[str]
    token_file: Path | None
    profile: str | None


def serve(wish: Wish, stop: threading.Event, on_ready: Callable[[list[str]], None]) -> None:
    """Until `stop` is set. `on_ready` hears where it listens, once every model answers. Raises Fatal, before any bundle is tried where an address or
    a token file is wrong; or what a bundle is refused with."""
    file = _file(wish)
    clock = SystemClock()
    with ExitStack() as closing:
        found = local.assemble(file, Board(_profile(wish.profile), clock, _log), None, closing)
        servers = local.open_servers(file.serving, found, clock, [], closing)
        for resident in found.residents:
            if stop.is_set():
                return
            resident.open()
        for work in (*found.shadows, *servers):
            work.start()
        on_ready([*(f"model {name}" for name in found.models.names()), *(f"listening on {server.address}" for server in servers)])
        stop.wait()


def _file(wish: Wish) -> DeviceFile:
    file = DeviceFile() if wish.config is None else device_file.read(wish.config)
    models = [_model(text) for text in wish.bundles]
    if not models and not file.models:
        raise Fatal("there is no model to serve: give --bundle, or models in --config", code="usage")
    token_file = str(wish.token_file) if wish.token_file else file.serving.token_file
    http, grpc = [*file.serving.http, *wish.http], [*file.serving.grpc, *wish.grpc]
    serving = Serving(http=http if http or grpc else [_DEFAULT_HTTP], grpc=grpc, token_file=token_file)
    return msgspec.structs.replace(file, serving=serving, models=[*models, *file.models])


def _model(text: str) -> LocalModel:
    bundle = open_pinned(parse(text))
    return LocalModel(name=bundle.manifest.task, bundle=str(parse(text).path), sha256=bundle.sha256)


def _profile(name: str | None) -> Profile:
    """The one named, or the one that fits this board. Raises Fatal."""
    try:
        if name is not None:
            return catalog.load(name)
        architecture = architecture_of(platform.machine(), 8 * struct.calcsize("P"))
        if architecture is None:
            raise Fatal(f"no profile is for a {platform.machine()}: give --profile", code="profile")
        return detect(Path("/"), architecture, catalog.load_all()).profile
    except catalog.ProfileError as error:
        raise Fatal(str(error), code="profile") from error


def _log(event: Event) -> None:
    log.info("%s: %s", event.kind, " ".join(f"{name}={value}" for name, value in event.detail.items()))

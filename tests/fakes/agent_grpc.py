"""The gRPC server over any catalogue."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.catalogue import Catalogue
from edge_agent.clock import SystemClock
from edge_agent.serving.address import Address
from edge_agent.serving.grpc_server import Bounds, GrpcServer
from edge_agent.serving.guard import guard_of
from edge_agent.serving.service import Service
from edge_agent.serving.tally import Tally
from tests.fakes.agent_serving import LOOPBACK


@contextmanager
def grpc_server(
    catalogue: Catalogue, address: Address = LOOPBACK, *, token_file: Path | None = None, bounds: Bounds = Bounds()
) -> Iterator[GrpcServer]:
    server = GrpcServer(address, Service(catalogue, SystemClock(), Tally()), guard_of(address, token_file), bounds)
    server.start()
    try:
        yield server
    finally:
        server.close()

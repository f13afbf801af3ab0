"""A client for the models of an edge-agent on the same board: Python's own library and numpy, nothing else."""

from edge_client.client import Answer, Client
from edge_client.errors import Busy, ClientError, Faulty, Refused, Unreachable

__all__ = ["Answer", "Busy", "Client", "ClientError", "Faulty", "Refused", "Unreachable"]

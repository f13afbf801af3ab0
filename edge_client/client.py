"""The calls that a local application makes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from edge_client.connection import Connection, Reply
from edge_client.errors import Busy, Faulty, Refused, Unreachable
from edge_client.tensors import decode, encode

_OK, _BUSY = 200, (503, 504)
_HEADER_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Answer:
    """`outputs` by name, rows first. `answers` say what they mean, row by row, when it was asked for: label, value, abstained, detail."""

    model: str
    version: str
    outputs: dict[str, np.ndarray]
    answers: list[dict[str, Any]] | None = None


class Client:
    """Calls the models of one agent, for one thread at a time.

    >>> with Client("http://127.0.0.1:8080") as client:
    ...     answer = client.infer("digits", {"input": picture})

    Every call raises Unreachable when nobody answers within `timeout_s`, Refused for a wrong request, Busy when it may work later, Faulty else.
    """

    def __init__(self, address: str, *, token: str | None = None, timeout_s: float = 30.0) -> None:
        """`address` is http://HOST:PORT or unix:PATH. Raises ValueError."""
        self._connection = Connection(address, timeout_s)
        self._fields = {} if token is None else {"Authorization": f"Bearer {token}"}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def is_ready(self, model: str | None = None) -> bool:
        """Whether this model has a bundle to answer with; without a name, whether every model has."""
        reply = self._ask("GET", "/v2/health/ready" if model is None else f"{_path(model, None)}/ready")
        if reply.status not in (_OK, *_BUSY):
            raise _error(reply)
        return reply.status == _OK

    def models(self) -> list[dict[str, Any]]:
        """Of each model its name, version and state."""
        return json.loads(self._done("POST", "/v2/repository/index").body)

    def metadata(self, model: str) -> dict[str, Any]:
        """The protocol's description of the model: platform, inputs, outputs."""
        return json.loads(self._done("GET", _path(model, None)).body)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        *,
        outputs: Sequence[str] = (),
        version: str | None = None,
        answers: bool = False,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Answer:
        """The outputs of these names, or all. `timeout_s` is how long the agent may take; `request_id` what the request is called in the fleet's
        records. Raises ValueError for an array that cannot be sent."""
        parameters = {"binary_data_output": True, "answers": answers}
        if timeout_s is not None:
            parameters["timeout"] = max(1, round(1e6 * timeout_s))
        encoded = {name: (np.shape(values), *encode(np.asarray(values))) for name, values in inputs.items()}
        told = [
            {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
            for name, (shape, datatype, data) in encoded.items()
        ]
        request = {"id": request_id, "inputs": told, "parameters": parameters, "outputs": [{"name": name} for name in outputs]}
        head = json.dumps(request).encode()
        body = b"".join([head, *(data for _, _, data in encoded.values())])
        return _answer(self._done("POST", f"{_path(model, version)}/infer", body, {"Inference-Header-Content-Length": str(len(head))}))

    def _done(self, method: str, path: str, body: bytes = b"", fields: Mapping[str, str] | None = None) -> Reply:
        reply = self._ask(method, path, body, fields)
        if reply.status != _OK:
            raise _error(reply)
        return reply

    def _ask(self, method: str, path: str, body: bytes = b"", fields: Mapping[str, str] | None = None) -> Reply:
        return self._connection.ask(method, path, body, {**self._fields, **(fields or {})})


def _path(model: str, version: str | None) -> str:
    return f"/v2/models/{quote(model, safe='')}" + ("" if version is None else f"/versions/{quote(version, safe='')}")


def _answer(reply: Reply) -> Answer:
    try:
        return _read(reply)
    except (ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"what answers does not speak the protocol: {error!r}") from error


def _read(reply: Reply) -> Answer:
    length = int(reply.fields.get(_HEADER_LENGTH, len(reply.body)))
    told, at = json.loads(reply.body[:length]), length
    outputs: dict[str, np.ndarray] = {}
    for tensor in told["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        outputs[tensor["name"]] = decode(tensor["datatype"], tensor["shape"], reply.body[at : at + size])
        at += size
    return Answer(told["model_name"], told["model_version"], outputs, told.get("parameters", {}).get("answers"))


def _error(reply: Reply) -> Exception:
    try:
        told = json.loads(reply.body)
        message, code = str(told["error"]), str(told.get("code", ""))
    except (ValueError, KeyError, TypeError):
        return Unreachable(f"what answers is no model server: HTTP {reply.status}")
    if reply.status in _BUSY:
        return Busy(message, reply.status, code)
    return (Refused if reply.status < 500 else Faulty)(message, reply.status, code)

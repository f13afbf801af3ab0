"""From the configuration of a sink to the sink."""

import ssl
from pathlib import Path

from edge_agent.errors import Fatal
from edge_agent.sinks.outlet import Outlet, Writer
from edge_agent.sinks.settings import Callback, JsonLines, MqttTopic, SinkSpec
from fleet_contract import limits
from fleet_contract.errors import ContractError


def open_sink(spec: SinkSpec) -> Outlet:
    """Nothing is sent yet, and the place need not be there. Raises Fatal (sink) naming the field."""
    match spec:
        case JsonLines():
            return Outlet(spec.path, _lines(spec), spec.waiting)
        case MqttTopic():
            return Outlet(spec.url, _topic(spec), spec.waiting)
        case Callback():
            return Outlet(spec.url, _callback(spec), spec.waiting)


def _lines(spec: JsonLines) -> Writer:
    from edge_agent.sinks.lines import RotatedLines

    path = Path(spec.path)
    if not path.parent.is_dir() or path.is_dir():
        raise Fatal(f"sink path {path}: there is no folder {path.parent} for such a file", code="sink")
    return RotatedLines(path, spec.max_bytes, spec.files)


def _topic(spec: MqttTopic) -> Writer:
    from edge_agent.sinks.topic import TopicWriter
    from fleet_contract.broker import Access, Tls

    tls = None
    if spec.url.startswith("mqtts:"):
        if spec.ca is None:
            raise Fatal("sink ca: mqtts needs the CA file of the broker", code="sink")
        tls = Tls(Path(spec.ca), *(None if name is None else Path(name) for name in (spec.certificate, spec.key)))
    password = None if spec.password_file is None else _secret(spec.password_file, "password_file")
    try:
        return TopicWriter(spec.url, spec.topic, spec.client, Access(spec.user, password), tls)
    except ContractError as error:
        raise Fatal(f"sink {error.field}: {error}", code="sink") from error


def _callback(spec: Callback) -> Writer:
    from edge_agent.sinks.callback import CallbackWriter

    token = None if spec.token_file is None else _secret(spec.token_file, "token_file")
    try:
        context = None if spec.ca is None else ssl.create_default_context(cafile=spec.ca)
    except OSError as error:
        raise Fatal(f"sink ca {spec.ca}: {error.strerror or error}", code="sink") from error
    return CallbackWriter(spec.url, token, context, spec.timeout_s)


def _secret(name: str, field: str) -> str:
    """The first line of the file."""
    try:
        with Path(name).open("rb") as file:
            secret = file.read(limits.MAX_TOKEN_CHARS + 1).decode().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"sink {field} {name} cannot be read: {error}", code="sink") from error
    if not 0 < len(secret) <= limits.MAX_TOKEN_CHARS:
        raise Fatal(f"sink {field} {name} must hold 1 to {limits.MAX_TOKEN_CHARS} characters", code="sink")
    return secret

"""Logs as every program of the fleet writes them: a line of text, or a line of JSON, each record."""

import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Form = Literal["text", "json"]
FORMS: tuple[Form, ...] = ("text", "json")

_TEXT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FIRST = ("time", "level", "logger", "message", "error")
_SECRET_WORDS = ("token", "secret", "password", "passphrase", "authorization", "private_key")
HIDDEN = "(hidden)"


class JsonLines(logging.Formatter):
    """`time` (UTC, RFC 3339), `level`, `logger`, `message`, `error` (the traceback, where there is one), then what was given as `extra`: `device`,
    `lane` and the like. An extra named like a secret is not shown, one named like the first five is left out."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line | _extras(vars(record)), ensure_ascii=False, default=str)


def configure(stream: TextIO, level: str, form: Form, quiet: Mapping[str, str] | None = None) -> None:
    """Everything that is logged from now on goes to `stream`; `quiet` names loggers and the least level that is shown of them."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else _text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, least in (quiet or {}).items():
        logging.getLogger(name).setLevel(least.upper())


def _text() -> logging.Formatter:
    formatter = logging.Formatter(_TEXT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter


def _extras(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: HIDDEN if _is_secret(name) else value for name, value in fields.items() if name not in _OWN and name not in _FIRST}


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)

"""One line a record, whatever is in it; no secret by the name of an extra."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from fleet_contract import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level


def written(form: logs.Form, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(stream, level, form, {"chatty": "warning"})
    return stream


def test_json_is_one_line_a_record() -> None:
    stream = written("json")
    logging.getLogger("fleet_server.x").info("lost\n%d", 3, extra={"device": "cam-1", "lane": "events"})
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {"level": "info", "logger": "fleet_server.x", "message": "lost\n3", "device": "cam-1", "lane": "events"}


@pytest.mark.parametrize("name", ["api_token", "Password", "authorization"])
def test_an_extra_named_like_a_secret_is_hidden(name: str) -> None:
    stream = written("json")
    logging.getLogger("x").warning("w", extra={name: "eft_1_abc"})
    assert json.loads(stream.getvalue())[name] == logs.HIDDEN


def test_a_traceback_stays_in_its_line() -> None:
    stream = written("json")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("x").exception("it failed", extra={"level": "nobody"})
    found = json.loads(stream.getvalue())
    assert found["level"] == "error" and "ValueError: why" in found["error"]


def test_text_is_in_utc_with_the_logger() -> None:
    stream = written("text")
    logging.getLogger("x").info("hello")
    assert stream.getvalue().rstrip().endswith("Z INFO    x: hello")


def test_what_is_below_its_level_is_not_shown() -> None:
    stream = written("json", "warning")
    logging.getLogger("x").info("no")
    logging.getLogger("chatty").info("no")
    assert stream.getvalue() == ""

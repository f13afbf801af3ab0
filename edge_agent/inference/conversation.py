"""The worker's side of the channel: one model is loaded, then every request answered, until the supervisor hangs up."""

import gc
from collections.abc import Callable
from typing import TypeVar

from edge_agent.errors import Reject
from edge_agent.inference.channel import Channel
from edge_agent.inference.frame import ChannelClosed
from edge_agent.inference.protocol import Answer, Failed, Loaded, Ready
from edge_agent.inference.runtimes.port import Runtime

T = TypeVar("T")
_MAX_PAYLOAD_BYTES = 2 * 1024**3
_MAX_REASON_CHARS = 500
_STARVED = ("bad_alloc", "bad allocation", "failed to allocate")


def hold(channel: Channel, runtime: Runtime, walls: list[str]) -> None:
    """Returns once the channel is closed."""
    try:
        channel.send(Ready(walls=walls))
        _load(channel, runtime)
        gc.collect()
        gc.freeze()  # what has been imported stays
        while True:
            _answer(channel, runtime)
    except OSError:
        runtime.unload()


def _load(channel: Channel, runtime: Runtime) -> None:
    request, model = channel.receive_model()
    channel.send(_attempt(lambda: Loaded(runtime.load(model, request.plan))))


def _answer(channel: Channel, runtime: Runtime) -> None:
    def answer() -> None:
        frame = channel.await_frame(_MAX_PAYLOAD_BYTES)
        _send(channel, runtime.infer(frame.tensors()), frame.shared_until)

    failed = _attempt(answer)
    if failed is not None:
        channel.send(failed)


def _attempt(work: Callable[[], T]) -> T | Failed:
    try:
        return work()
    except ChannelClosed:
        raise
    except Exception as error:  # noqa: BLE001 - engines raise types of their own; the supervisor judges
        return _failure(error)


def _send(channel: Channel, answers, behind: int) -> None:
    try:
        channel.send_tensors(Answer, answers, beside=(0, behind))
    except ValueError as error:
        raise Reject(f"the answer cannot be sent: {error}", code="wrong-answer") from error


def _failure(error: Exception) -> Failed:
    text = f"{type(error).__name__}: {error}"[:_MAX_REASON_CHARS]
    if isinstance(error, Reject):
        return Failed(code=error.code, message=text)
    starved = isinstance(error, MemoryError) or any(sign in text.lower() for sign in _STARVED)
    return Failed(code="memory" if starved else "bundle", message=text)

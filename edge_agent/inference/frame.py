"""What has come over a channel: a message, and the tensors that lie behind it."""

from __future__ import annotations

import numpy as np

from edge_agent.inference.layout import Layout
from edge_agent.inference.protocol import Reply, Request


class ChannelClosed(ConnectionError):
    """The other side is gone, or what it says is not this protocol."""


class Frame:
    """`layout` is that of the tensors, if the message has any. The payload is there until the next frame is read; what lies before `shared_until`
    in the arena the other side may even change meanwhile."""

    __slots__ = ("_views", "layout", "message", "payload", "shared_until")

    def __init__(self, message: Request | Reply, layout: Layout | None, payload: memoryview, shared_until: int = 0) -> None:
        self.message = message
        self.layout = layout
        self.payload = payload
        self.shared_until = shared_until
        self._views: dict[str, np.ndarray] | None = None

    def tensors(self) -> dict[str, np.ndarray]:
        """In place. Raises ChannelClosed for malformed ones."""
        if self._views is not None:
            return self._views
        found = self._read(self.payload)
        if self.layout.is_plain:  # a frame like this one will lie in the same place
            self._views = found
        return found

    def copy(self) -> dict[str, np.ndarray]:
        """Read-only, for ever. Raises ChannelClosed for malformed ones."""
        return self._read(bytes(self.payload))

    def _read(self, payload: bytes | memoryview) -> dict[str, np.ndarray]:
        if self.layout is None:
            raise ChannelClosed(f"{type(self.message).__name__} holds no tensors")
        try:
            return self.layout.read(payload)
        except ValueError as error:
            raise ChannelClosed(f"malformed tensors: {error}") from error

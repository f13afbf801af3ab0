"""Bounds on request bodies, held while they arrive: a body is refused before it is read, or when it grows past its bound."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_contract import limits
from fleet_server.api.errors import failure

UPLOAD_PATH = "/v1/bundles"
MAX_UPLOAD_BYTES = limits.MAX_BUNDLE_BYTES + limits.MAX_METADATA_BYTES + limits.MAX_JSON_BODY_BYTES
"""The two parts of an upload, and the multipart frame around them."""


class _BodyTooLarge(Exception):
    pass


class BodyLimit:
    """ASGI middleware; answers 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = MAX_UPLOAD_BYTES if scope["path"] == UPLOAD_PATH else limits.MAX_JSON_BODY_BYTES
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            await _refuse(limit)(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._app(scope, _counted(receive, limit), answer)
        except _BodyTooLarge:
            if not answer.begun:
                await _refuse(limit)(scope, receive, send)


class _Answer:
    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


def _counted(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _BodyTooLarge
        return message

    return counted


def _refuse(limit: int):
    return failure(413, "too-large", f"the request body has more than {limit} bytes", "body", limit)

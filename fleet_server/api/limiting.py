"""Bounds on request bodies, held while they arrive: a body is refused before it is read, or when it grows past its bound."""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_contract import limits
from fleet_server.api.errors import BodyTooLarge, refuse

UPLOAD_PATH = "/v1/bundles"
TRUST_PATH = "/v1/tuf"
MAX_UPLOAD_BYTES = limits.MAX_BUNDLE_BYTES + limits.MAX_METADATA_BYTES + limits.MAX_JSON_BODY_BYTES
"""The two parts of an upload, and the multipart frame around them."""
_LIMITS = {UPLOAD_PATH: MAX_UPLOAD_BYTES, TRUST_PATH: limits.MAX_TRUST_UPLOAD_BYTES}
_MAX_DIGITS = 18


class BodyLimit:
    """ASGI middleware; answers 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _LIMITS.get(scope["path"], limits.MAX_JSON_BODY_BYTES)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and (len(declared) > _MAX_DIGITS or int(declared) > limit):
            refusal = BodyTooLarge(limit)
            await refuse(Request(scope), 413, "too-large", refusal.detail, "body", limit)(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit), send)


def _counted(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise BodyTooLarge(limit)
        return message

    return counted

"""The least that an ASGI application can do: read the body, answer the same bytes always. Run by uvicorn."""

_BODY = b'{"model_name":"toy","model_version":"1","outputs":[{"name":"logits","datatype":"FP32","shape":[1,2],"data":[1.0,2.0]}]}'
_FIELDS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


async def application(scope, receive, send) -> None:
    if scope["type"] != "http":
        raise RuntimeError(f"this serves no {scope['type']}")
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _FIELDS})
    await send({"type": "http.response.body", "body": _BODY})

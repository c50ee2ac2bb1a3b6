"""The ceiling: an ASGI callable that does nothing but send one constant response, shaped exactly like ours."""

from typing import Any

ID = b"6f1d1b1e-0a53-4cf0-9d5c-6d1f3b1f0a11"
BODY = b'{"message_id":"%b"}' % ID
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(BODY)),
        (b"x-request-id", ID),
        (b"x-correlation-id", ID),
    ],
}
REST = {"type": "http.response.body", "body": BODY}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve one ASGI scope."""
    if scope["type"] == "http":
        await send(START)
        await send(REST)
        return
    while scope["type"] == "lifespan":
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return

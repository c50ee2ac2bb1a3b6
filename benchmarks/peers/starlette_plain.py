"""The same `/msg` in Starlette, without middleware."""

import uuid

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.peers.behaviour import Messages

messages = Messages()


async def msg(request: Request) -> JSONResponse:
    """Answer `{"message_id": <uuid4>}`."""
    try:
        delay_ms = int(request.query_params.get("delay", "0"))
    except ValueError:
        delay_ms = -1
    if not 0 <= delay_ms <= 30_000:
        return JSONResponse({"detail": "delay: a whole number from 0 to 30000"}, status_code=422)
    key = request.headers.get("x-request-id")
    message_id = await messages.answer(key, delay_ms)
    headers = {"x-request-id": key or str(uuid.uuid4()), "x-correlation-id": str(uuid.uuid4())}
    if message_id is None:
        return JSONResponse({"detail": "Induced server failure"}, status_code=500, headers=headers)
    return JSONResponse({"message_id": message_id}, headers=headers)


app = Starlette(routes=[Route("/msg", msg)])

"""A Starlette application with the fault rules in front of it, when `ASGI_FAULT_ENABLED=1` says so.

    pip install asgi-fault starlette
    ASGI_FAULT_ENABLED=1 uvicorn examples.behind_faults:app

    # the next two orders fail, the third is taken
    curl localhost:8000/__fault__/faults -H 'Content-Type: application/json' -d '{
        "match": {"method": "POST", "path": "/orders"}, "script": [{"status": 503, "retry_after": 1}, {"status": 503}]}'
    curl -i -X POST localhost:8000/orders
    curl localhost:8000/__fault__/journal

Rules below HTTP (a cut, a reset) need the connection: `uvicorn --http asgi_fault.faults.wire:HttpTools` has them too.
"""

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_fault.middleware import FaultMiddleware


async def take_order(request: Request) -> Response:
    """Take an order."""
    body = await request.body()
    return JSONResponse({"taken": len(body)}, status_code=201)


async def count(request: Request) -> Response:
    """Count to three, a line at a time."""

    async def lines() -> AsyncIterator[bytes]:
        for number in (1, 2, 3):
            yield b"%d\n" % number

    return StreamingResponse(lines(), media_type="text/plain")


app = Starlette(
    routes=[Route("/orders", take_order, methods=["POST"]), Route("/count", count)],
    middleware=[Middleware(FaultMiddleware)],
)

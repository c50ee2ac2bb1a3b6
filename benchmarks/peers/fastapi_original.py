"""`/msg` as the original server has it: FastAPI, four `BaseHTTPMiddleware`, structlog over the standard logging.

Written anew from its behaviour. From the outside in: semaphore, time limit, log, errors. Its log lines of a request are
at DEBUG and the level is INFO, as it ships, so structlog drops every one of them; it is still asked seven times.
Metrics are left out: they would only make it slower.
"""

import asyncio
import logging
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware.base import BaseHTTPMiddleware

from benchmarks.peers.behaviour import Messages

MAX_CONCURRENCY = 50
REQUEST_TIMEOUT = 30.0

CallNext = Callable[[Request], Awaitable[Response]]

logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.INFO)
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
log = structlog.get_logger()


class SlotMiddleware(BaseHTTPMiddleware):
    """At most `MAX_CONCURRENCY` requests inside at once."""

    semaphore = asyncio.Semaphore(MAX_CONCURRENCY)

    async def dispatch(self, request: Request, call_next: CallNext) -> Response:
        """Wait for a slot, then go on."""
        if request.url.path == "/health":
            return await call_next(request)
        log.debug("queue.wait", path=request.url.path, method=request.method)
        async with self.semaphore:
            log.debug("queue.acquire", path=request.url.path, method=request.method)
            try:
                return await call_next(request)
            finally:
                log.debug("queue.release", path=request.url.path, method=request.method)


class TimeLimitMiddleware(BaseHTTPMiddleware):
    """408 after `REQUEST_TIMEOUT`."""

    async def dispatch(self, request: Request, call_next: CallNext) -> Response:
        """Go on under a time limit."""
        if request.url.path == "/health":
            return await call_next(request)
        try:
            return await asyncio.wait_for(call_next(request), REQUEST_TIMEOUT)
        except TimeoutError:
            log.warning("request.timeout", path=request.url.path, method=request.method)
            return JSONResponse({"detail": "Request timeout"}, status_code=408)


class LogMiddleware(BaseHTTPMiddleware):
    """A line when a request comes and one when it goes; the correlation id."""

    async def dispatch(self, request: Request, call_next: CallNext) -> Response:
        """Log, go on, log."""
        correlation_id = str(uuid.uuid4())
        request_id = request.headers.get("x-request-id")
        begun_at = time.time()
        log.debug(
            "request.begin",
            correlation_id=correlation_id,
            method=request.method,
            path=request.url.path,
            query=str(request.query_params),
            request_id=request_id,
            user_agent=request.headers.get("user-agent", ""),
            client=request.client.host if request.client else None,
        )
        response = await call_next(request)
        log.debug(
            "request.complete",
            correlation_id=correlation_id,
            method=request.method,
            path=request.url.path,
            status_code=response.status_code,
            duration_ms=round((time.time() - begun_at) * 1000, 2),
            request_id=request_id,
        )
        response.headers["x-correlation-id"] = correlation_id
        return response


class ErrorMiddleware(BaseHTTPMiddleware):
    """Whatever went wrong is a 500."""

    async def dispatch(self, request: Request, call_next: CallNext) -> Response:
        """Go on, and answer what was raised."""
        try:
            return await call_next(request)
        except Exception as error:
            log.exception("request.failed", path=request.url.path, error=str(error))
            return JSONResponse({"detail": "Internal server error"}, status_code=500)


app = FastAPI()
app.state.messages = Messages()
for middleware in (ErrorMiddleware, LogMiddleware, TimeLimitMiddleware, SlotMiddleware):  # the last added is outermost
    app.add_middleware(middleware)


def messages_of(request: Request) -> Messages:
    """The state of the application, as a dependency."""
    messages: Messages = request.app.state.messages
    return messages


@app.get("/msg", response_model=None)  # None, as without a return type: nothing is validated on the way out
async def msg(
    messages: Annotated[Messages, Depends(messages_of)],
    delay: Annotated[int, Query(ge=0, le=30_000)] = 0,
    x_request_id: Annotated[str | None, Header()] = None,
) -> dict[str, str]:
    """Answer `{"message_id": <uuid4>}`."""
    message_id = await messages.answer(x_request_id, delay)
    if message_id is None:
        log.debug("fault.induced", request_id=x_request_id)
        raise HTTPException(500, "Induced server failure")
    log.debug("message.made", message_id=message_id, request_id=x_request_id, delay=delay)
    return {"message_id": message_id}

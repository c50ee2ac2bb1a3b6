"""httpx and httpx2: transports that make any client of theirs resilient, and `ResilientClient`.

    client = httpx.AsyncClient(transport=AsyncResilientTransport())
    client = httpx2.Client(transport=ResilientTransport(httpx2.HTTPTransport(retries=0), Policy(max_attempts=4)))

In a transport an attempt ends with the head of the response. httpx reads the body later, so a body that breaks off or
stalls is the application's to see, and the slot of the bulkhead is free by then; `ResilientClient` reads it in the
attempt. Where a retry may follow, a short body is read by the transport too, so that its connection is free during the
back-off; it is handed on whole if no retry follows after all, and closed before the next attempt otherwise.

A request goes out again only if its method or an `Idempotency-Key` makes that safe, or it was provably never processed;
and only if its body can be sent again, byte by byte (`httpx_requests.is_replayable`). Else the application gets the
original response or exception. `Retry-After` is a floor for the wait, or the end of the call when it asks for too much.
`request.extensions["resilience"]` may hold `Options` for one request.
"""

import random as chance
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from sansio_client.events import Event
from sansio_client.policy import Policy

from . import threads
from .calling import AttemptView, Finished, Nested
from .httpx_client import ResilientClient
from .httpx_config import (
    BulkheadConfig,
    CircuitBreakerConfig,
    ClientConfig,
    LoggingConfig,
    RetryConfig,
    TimeoutConfig,
)
from .httpx_errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BudgetExhaustedError,
    CircuitOpenError,
    DeadlineExceededError,
    InvalidRequestError,
    MyAPIError,
    NotFoundError,
    PoolTimeoutError,
    ServerError,
    ServerTimeoutError,
    ServiceUnavailableError,
)
from .httpx_held import hold, hold_sync
from .httpx_requests import (
    Classifier,
    HttpJudge,
    Options,
    Tracer,
    Worlds,
    copy_of,
    give_key,
    is_repeatable,
    is_replayable,
    key_of,
    library,
    limit_steps,
    options_of,
    response_of,
)

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncResilientTransport",
    "AuthenticationError",
    "BudgetExhaustedError",
    "BulkheadConfig",
    "CircuitBreakerConfig",
    "CircuitOpenError",
    "ClientConfig",
    "DeadlineExceededError",
    "InvalidRequestError",
    "LoggingConfig",
    "MyAPIError",
    "NotFoundError",
    "Options",
    "PoolTimeoutError",
    "ResilientClient",
    "ResilientTransport",
    "RetryConfig",
    "ServerError",
    "ServerTimeoutError",
    "ServiceUnavailableError",
    "TimeoutConfig",
]

if TYPE_CHECKING:
    # To a type checker a transport of either library: both want their own base class, and there are two libraries.
    from typing import Any as Transport
else:
    Transport = object


class _Sending:
    """What both transports have: how a request becomes attempts, and how an attempt is judged."""

    def __init__(
        self,
        module: ModuleType,
        classify: Classifier | None,
        idempotency_key: bool,  # noqa: FBT001 - private
        attempt_header: str | None,
        tracing: Tracer | None,
    ) -> None:
        self.module = module
        self.judge = HttpJudge(module, classify)
        self.tracing = tracing
        self._idempotency_key = idempotency_key
        self._attempt_header = attempt_header

    def terms(self, request: Any) -> dict[str, Any]:
        """How the call for `request` is made: the arguments of `Resilient.run`."""
        if not isinstance(request, self.module.Request):
            found, mine = type(request).__module__.partition(".")[0], self.module.__name__
            raise TypeError(f"this transport is for {mine} and got a request of {found}: make it with module={found}")
        options = options_of(request)
        if self._idempotency_key:
            give_key(request)
        return {
            "key": key_of(request.url),
            "may_repeat": options.get("may_repeat", is_repeatable(request)),
            "replayable": options.get("replayable", is_replayable(self.module, request.stream)),
            "timeout": options.get("timeout"),
            "policy": options.get("policy"),
            "judge": self.judge,
        }

    def attempt_of(self, request: Any, attempt: AttemptView) -> Any:
        """The request as this attempt sends it: its headers and limits are its own, its body is the same stream."""
        sent = copy_of(self.module, request)
        if self._attempt_header is not None:
            sent.headers[self._attempt_header] = str(attempt.number - 1)
        return sent

    def span(self, sent: Any, attempt: AttemptView) -> Any:
        """Around the sending of an attempt."""
        if self.tracing is None:
            return nullcontext()
        return self.tracing.attempt(sent.method, str(sent.url), attempt.number, sent.headers)

    def finish(self, request: Any, finished: Finished[Any], span: Any) -> Any:
        """The response the call ended with, or its exception."""
        if span is not None:
            span.finished(finished.attempts, finished.reason)
        return response_of(self.module, request, finished)


class AsyncResilientTransport(Transport):  # type: ignore[misc] # any base there, none here
    """A transport for `AsyncClient`, under asyncio or trio, whichever runs.

    An attempt ends with the head of the response; see the module's docstring.

    Args:
        transport: what sends; `module.AsyncHTTPTransport()` unless given. Its own `retries` should be 0. A client with
            a transport leaves `verify`, `http2`, `proxy` and `limits` to it.
        policy: of all requests; one breaker, bulkhead and budget for each scheme, host and port.
        module: `httpx` or `httpx2`; found by the class of `transport` unless given.
        classify: retry conditions of your own, asked first.
        idempotency_key: give requests that need one an `Idempotency-Key`. Only for servers that heed it.
        attempt_header: the field that numbers attempts on the wire, 0 for the first; None: attempts look alike.
        tracing: an `otel.Tracing`.
        on_event: hears what is decided; see `observe`.
        clock: monotonic seconds, instead of the event loop adapter's own.
        random: numbers from 0 to below 1.
        nested: see `asyncio.Resilient`.

    """

    def __init__(
        self,
        transport: Any = None,
        policy: Policy | None = None,
        *,
        module: ModuleType | None = None,
        classify: Classifier | None = None,
        idempotency_key: bool = False,
        attempt_header: str | None = "Retry-Attempt",
        tracing: Tracer | None = None,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] | None = None,
        random: Callable[[], float] = chance.random,
        nested: Nested = "once",
    ) -> None:
        module = library(module, transport)
        self._inner = transport if transport is not None else module.AsyncHTTPTransport()
        self._sending = _Sending(module, classify, idempotency_key, attempt_header, tracing)
        self._worlds = Worlds(policy, clock=clock, random=random, on_event=on_event, nested=nested)

    async def handle_async_request(self, request: Any) -> Any:
        """Send `request`, as often as it takes and the policy allows.

        Raises:
            TransportError: of the library: the last attempt's own, or a `CallRejected` that is one too.
            TypeError: the request is another library's, or its `extensions["resilience"]` has what is no option.

        """
        tracing = self._sending.tracing
        if tracing is None:
            return self._sending.finish(request, await self._run(request), None)
        with tracing.call(f"resilient {request.method}") as span:
            return self._sending.finish(request, await self._run(request), span)

    async def _run(self, request: Any) -> Finished[Any]:
        sending = self._sending
        terms = sending.terms(request)
        holds = terms["may_repeat"] and terms["replayable"]

        async def send(attempt: AttemptView) -> Any:
            sent = sending.attempt_of(request, attempt)
            with sending.span(sent, attempt) as span:
                response = await self._inner.handle_async_request(sent)
                if span is not None:
                    span.answered(response.status_code)
            if holds and response.status_code >= 400:
                await hold(sending.module, response)
            return response

        finished: Finished[Any] = await self._worlds.here().run(send, discard=_aclose, **terms)
        return finished

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)


class ResilientTransport(Transport):  # type: ignore[misc] # any base there, none here
    """A transport for the synchronous `Client`, which any number of threads may share.

    Threads cannot be cancelled: each step of an attempt, from connecting to each read, may take what the attempt has
    left at most. An attempt ends with the head of the response; see the module's docstring.

    Args are those of `AsyncResilientTransport`.

    Raises:
        SettingError: the policy hedges, which takes a world where attempts can be cancelled.

    """

    def __init__(
        self,
        transport: Any = None,
        policy: Policy | None = None,
        *,
        module: ModuleType | None = None,
        classify: Classifier | None = None,
        idempotency_key: bool = False,
        attempt_header: str | None = "Retry-Attempt",
        tracing: Tracer | None = None,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] | None = None,
        random: Callable[[], float] = chance.random,
        nested: Nested = "once",
    ) -> None:
        module = library(module, transport)
        self._inner = transport if transport is not None else module.HTTPTransport()
        self._sending = _Sending(module, classify, idempotency_key, attempt_header, tracing)
        options: dict[str, Any] = {} if clock is None else {"clock": clock}
        self._resilient = threads.Resilient(policy, random=random, on_event=on_event, nested=nested, **options)

    def handle_request(self, request: Any) -> Any:
        """Send `request`, as often as it takes and the policy allows.

        Raises:
            TransportError: of the library: the last attempt's own, or a `CallRejected` that is one too.
            TypeError: the request is another library's, or its `extensions["resilience"]` has what is no option.

        """
        tracing = self._sending.tracing
        if tracing is None:
            return self._sending.finish(request, self._run(request), None)
        with tracing.call(f"resilient {request.method}") as span:
            return self._sending.finish(request, self._run(request), span)

    def _run(self, request: Any) -> Finished[Any]:
        sending = self._sending
        terms = sending.terms(request)
        holds = terms["may_repeat"] and terms["replayable"]

        def send(attempt: AttemptView) -> Any:
            sent = sending.attempt_of(request, attempt)
            limit_steps(sent, attempt)
            with sending.span(sent, attempt) as span:
                response = self._inner.handle_request(sent)
                if span is not None:
                    span.answered(response.status_code)
            if holds and response.status_code >= 400:
                hold_sync(sending.module, response)
            return response

        finished: Finished[Any] = self._resilient.run(send, discard=_close, **terms)
        return finished

    def close(self) -> None:
        """Close the transport inside."""
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._inner.__exit__(exc_type, exc_value, traceback)


async def _aclose(response: Any) -> None:
    await response.aclose()


def _close(response: Any) -> None:
    response.close()

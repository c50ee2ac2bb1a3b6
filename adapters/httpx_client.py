"""`ResilientClient`: the client that users type, under asyncio or trio, with httpx or httpx2 below it.

    async with ResilientClient(ClientConfig(base_url="http://localhost:8000")) as client:
        answer = await client.get("/msg")

An attempt is sending the request and reading the whole body, so a body that breaks off or stalls is a failure of the
attempt like any other. Answers from 400 on are raised, as `httpx_errors` says. A POST or a PATCH is repeated only with
`idempotency_key=True` or an explicit `request_id=`, both the same on all attempts, or if it was provably never
processed: the `X-Request-ID` that every call gets by itself is a name for traces, and makes nothing repeatable.
"""

import logging
import random as chance
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType, TracebackType
from typing import Any, NoReturn, Self

from sansio_client.errors import ERRORS
from sansio_client.events import Event
from sansio_client.idempotency import new_key
from sansio_client.outcome import BREAKER_FAIL, BREAKER_IGNORE, BREAKER_OK, BREAKER_SOFT, OK, Outcome, Rejected

from .calling import AttemptView, Finished
from .httpx_config import CircuitBreakerConfig, ClientConfig
from .httpx_errors import (
    REFUSALS,
    APITimeoutError,
    CircuitOpenError,
    MyAPIError,
    error_of_exception,
    error_of_status,
)
from .httpx_requests import (
    HttpJudge,
    Tracer,
    Worlds,
    cause_of,
    copy_of,
    give_key,
    is_repeatable,
    is_replayable,
    key_of,
    library,
    options_of,
    unpredictable,
)
from .observe import CallLog, Subject, about, bare_url, fan_out

FEWEST_CONNECTIONS = 100  # of the pool, httpx's default; more when the bulkhead lets more through
_SEND_OPTIONS = ("auth", "follow_redirects")


class ResilientClient:
    """An HTTP client that retries what may be retried, and stops where that would do harm.

    Args:
        config: all settings.
        transport: what sends; the library's own unless given.
        module: `httpx` or `httpx2`; found by the class of `transport` unless given.
        tracing: an `otel.Tracing`.
        on_event: hears what is decided, beside the log; see `observe`.
        clock: monotonic seconds, instead of the event loop adapter's own.
        random: numbers from 0 to below 1, for jitter.
        options: of the library's `AsyncClient`: `verify`, `http2`, `proxy`, `auth`, `follow_redirects`, ...

    """

    def __init__(
        self,
        config: ClientConfig | None = None,
        *,
        transport: Any = None,
        module: ModuleType | None = None,
        tracing: Tracer | None = None,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] | None = None,
        random: Callable[[], float] = chance.random,
        **options: Any,
    ) -> None:
        config = config if config is not None else ClientConfig()
        self.config = config
        self._module = module = library(module, transport)
        self._policy = policy = config.to_policy()
        self._tracing = tracing
        self._log = config.logging.logger() if config.logging is not None else None
        listeners = [listener for listener in (CallLog(self._log) if self._log else None, on_event) if listener]
        self._worlds = Worlds(policy, clock=clock, random=random, on_event=fan_out(*listeners) if listeners else None)
        self._judge = _ClientJudge(module, config)
        if transport is None:
            connections = max(FEWEST_CONNECTIONS, policy.bulkhead.limit if policy.bulkhead is not None else 0)
            options.setdefault("limits", module.Limits(max_connections=connections, max_keepalive_connections=20))
        self._client = module.AsyncClient(
            base_url=config.base_url,
            headers=config.headers,
            timeout=module.Timeout(**config.timeout.steps()),
            transport=transport,
            **options,
        )

    async def get(self, url: str, **options: Any) -> Any:
        """`request` with GET."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> Any:
        """`request` with POST."""
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> Any:
        """`request` with PUT."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Any) -> Any:
        """`request` with PATCH."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Any) -> Any:
        """`request` with DELETE."""
        return await self.request("DELETE", url, **options)

    async def request(
        self,
        method: str,
        url: str,
        *,
        request_id: str | None = None,
        idempotency_key: bool | str | None = None,
        may_repeat: bool | None = None,
        total_timeout: float | None = None,
        **options: Any,
    ) -> Any:
        """Make one call; returns the response, its body read.

        Args:
            method: of the request.
            url: absolute, or relative to the base URL.
            request_id: the `X-Request-ID`. Giving one says that the server knows a repetition by it, so even a POST is
                repeated.
            idempotency_key: True: send a new `Idempotency-Key` where the method needs one; a text: send that one.
            may_repeat: whether sending it twice does no harm, if you know better than method and key tell.
            total_timeout: seconds for all attempts and waits, on top of the configured limit.
            options: of the library's `build_request` (`params`, `headers`, `json`, `content`, `data`, `files`,
                `cookies`, `timeout` of the steps, `extensions`, where "resilience" may hold `httpx_requests.Options`),
                and `auth` and `follow_redirects`.

        Raises:
            MyAPIError: the class says what happened, see `httpx_errors`; the library's own exception is its cause.

        """
        send_options = {name: options.pop(name) for name in _SEND_OPTIONS if name in options}
        request = self._client.build_request(method, url, **options)
        if request_id or "x-request-id" not in request.headers:
            request.headers["X-Request-ID"] = request_id or new_key(unpredictable)
        if idempotency_key is None:
            idempotency_key = self.config.idempotency_key
        if idempotency_key:
            give_key(request, idempotency_key if isinstance(idempotency_key, str) else None)
        own = options_of(request)
        if may_repeat is None:
            may_repeat = own.get("may_repeat", bool(request_id) or is_repeatable(request))
        policy = own.get("policy", self._policy)
        story = _Story(f"{request.method} {bare_url(str(request.url))}", policy.max_attempts)
        with self._span(request.method) as span, about(story):
            finished: Finished[Any] = await self._worlds.here().run(
                lambda attempt: self._send(request, attempt, story, send_options),
                key=key_of(request.url),
                may_repeat=may_repeat,
                replayable=own.get("replayable", is_replayable(self._module, request.stream)),
                judge=self._judge,
                timeout=total_timeout if total_timeout is not None else own.get("timeout"),
                policy=own.get("policy"),
            )
            if span is not None:
                span.finished(finished.attempts, finished.reason)
            outcome = finished.outcome
            if isinstance(outcome, Rejected) or outcome.verdict != OK:
                self._raise(finished, request.headers.get("x-request-id"), story)
            response: Any = finished.value
            if self._log is not None and self._log.isEnabledFor(logging.DEBUG):
                self._log.debug("%s: %d", story.name, response.status_code)
            return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._client.__aexit__(exc_type, exc_value, traceback)

    def _span(self, method: str) -> Any:
        return nullcontext() if self._tracing is None else self._tracing.call(f"resilient {method}")

    async def _send(self, request: Any, attempt: AttemptView, story: "_Story", options: dict[str, Any]) -> Any:
        sent = copy_of(self._module, request)
        if self.config.attempt_header is not None:
            sent.headers[self.config.attempt_header] = str(attempt.number - 1)
        story.cause = ""
        try:
            if self._tracing is None:
                response = await self._client.send(sent, **options)
            else:
                with self._tracing.attempt(sent.method, str(sent.url), attempt.number, sent.headers) as span:
                    response = await self._client.send(sent, **options)
                    span.answered(response.status_code)
        except Exception as error:
            story.cause = cause_of(None, error)
            story.response, story.error = None, error
            raise
        story.cause = cause_of(response, None)
        story.response, story.error = response, None
        return response

    def _raise(self, finished: Finished[Any], request_id: str | None, story: "_Story") -> NoReturn:
        """What the peer said last if it said anything, else what this side decided."""
        outcome = finished.outcome
        refused = isinstance(outcome, Rejected)
        # A refusal may come while an attempt is under way; what the attempts before it said is in the story only.
        response, error = (story.response, story.error) if refused else (finished.value, finished.error)
        retry_after = finished.retry_after
        facts: dict[str, Any] = {
            "response": response,
            "attempts": finished.attempts,
            "request_id": request_id,
            "retry_after": retry_after if retry_after is not None and retry_after >= 0 else None,
            "reason": finished.reason,
        }
        count = f"{finished.attempts} attempt{'' if finished.attempts == 1 else 's'}"
        if response is not None:
            kind = error_of_status(response.status_code)
        elif error is not None:
            found = error_of_exception(self._module, error)
            if found is None:
                raise error
            kind = found
        elif isinstance(outcome, Rejected):
            text = f"{story.name}: {ERRORS[outcome.why][1]} ({count})"
            kind = REFUSALS[outcome.why]
            if issubclass(kind, CircuitOpenError):
                raise kind(text, retry_at=outcome.retry_at, **facts)
            raise kind(text, **facts)
        else:
            raise APITimeoutError(f"{story.name}: no answer in the time of an attempt ({count})", **facts)
        cause = cause_of(response, error)
        raise kind(f"{story.name}: {cause} ({count}; no more: {finished.reason})", **facts) from error


class _Story(Subject):
    """What a call is about, and what the peer said last."""

    __slots__ = ("error", "response")

    def __init__(self, name: str, max_attempts: int) -> None:
        super().__init__(name, max_attempts)
        self.response: Any = None
        self.error: Exception | None = None


class _ClientJudge(HttpJudge):
    """As everywhere, but that `expected_exception` narrows what the breaker counts."""

    def __init__(self, module: ModuleType, config: ClientConfig) -> None:
        super().__init__(module, config.retry.classify if config.retry is not None else None)
        self._module = module
        breaker = config.circuit_breaker if config.circuit_breaker is not None else CircuitBreakerConfig()
        expected = breaker.expected_exception
        self._expected = expected if isinstance(expected, tuple) or expected is None else (expected,)

    def __call__(self, response: Any, error: Exception | None) -> Outcome:
        outcome = super().__call__(response, error)
        if self._expected is None or outcome.effect not in (BREAKER_FAIL, BREAKER_SOFT):
            return outcome
        if error is None:
            kind: type[MyAPIError] | None = error_of_status(response.status_code)
        else:
            kind = error_of_exception(self._module, error)
        if (kind is not None and issubclass(kind, self._expected)) or isinstance(error, self._expected):
            return outcome
        return Outcome(
            outcome.verdict,
            BREAKER_OK if error is None else BREAKER_IGNORE,
            retry_after=outcome.retry_after,
            unsent=outcome.unsent,
            status=outcome.status,
        )

"""A call as the original client makes it: request id, bulkhead, breaker, and tenacity's retries inside of that.

Written anew from its behaviour, without its log lines, its metrics and its mapping of errors, which come only when
something goes wrong: X-Request-ID (a uuid unless given, the same on all attempts), 50 slots with a wait of 30 s, a
breaker with 5 failures and 30 s on the wall clock for which the retries together are one call, and 3 attempts, 1 to
60 s apart.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

T = TypeVar("T")

RETRIED = (ConnectionError, TimeoutError)


class PoolTimeoutError(Exception):
    """No slot became free in time."""


class CircuitOpenError(Exception):
    """The breaker is open."""


class State(Enum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Bulkhead:
    """At most `limit` calls at once."""

    def __init__(self, limit: int = 50, wait: float = 30.0) -> None:
        self._semaphore = asyncio.Semaphore(limit)
        self._wait = wait

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot."""
        try:
            await asyncio.wait_for(self._semaphore.acquire(), timeout=self._wait)
        except TimeoutError:
            raise PoolTimeoutError from None
        try:
            yield
        finally:
            self._semaphore.release()


class CircuitBreaker:
    """Consecutive or not, a number of failures opens it."""

    def __init__(self, failures: int = 5, open_seconds: float = 30.0) -> None:
        self._failures = failures
        self._open_seconds = open_seconds
        self._lock = asyncio.Lock()
        self._state = State.CLOSED
        self._failed = 0
        self._failed_at = 0.0

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Call `function` unless it is open."""
        async with self._lock:
            if self._state is State.OPEN:
                if time.time() - self._failed_at < self._open_seconds:
                    raise CircuitOpenError
                self._state = State.HALF_OPEN
        try:
            result = await function()
        except RETRIED:
            await self._on_failure()
            raise
        await self._on_success()
        return result

    async def _on_success(self) -> None:
        async with self._lock:
            if self._state is State.HALF_OPEN:
                self._state = State.CLOSED
                self._failed = 0

    async def _on_failure(self) -> None:
        async with self._lock:
            self._failed += 1
            self._failed_at = time.time()
            if self._state is State.HALF_OPEN or self._failed >= self._failures:
                self._state = State.OPEN


class Client:
    """The pipeline without HTTP: `send(request_id)` is one attempt."""

    def __init__(self) -> None:
        self._bulkhead = Bulkhead()
        self._breaker = CircuitBreaker()

    async def request(self, send: Callable[[str], Awaitable[T]], request_id: str | None = None) -> T:
        """Make one call."""
        known_id = request_id or str(uuid.uuid4())
        async with self._bulkhead.slot():
            return await self._breaker.call(lambda: self._with_retries(send, known_id))

    async def _with_retries(self, send: Callable[[str], Awaitable[T]], request_id: str) -> T:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(3),
            wait=wait_random_exponential(multiplier=2, min=1, max=60),
            retry=retry_if_exception_type(RETRIED),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await send(request_id)
        raise AssertionError("tenacity raises the last error itself")

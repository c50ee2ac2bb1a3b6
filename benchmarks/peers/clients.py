"""The libraries a call is made resilient with, each as its manual has it, with three attempts where it has attempts.

Every function here imports its library itself, so that one which is missing or broken is that peer's trouble alone, and
returns `function` decorated.
"""

from typing import Any

RETRIED = (ConnectionError, TimeoutError)


def hyx(function: Any) -> Any:
    """Retries around a breaker around a bulkhead: the three policies of ours that it has."""
    from hyx.bulkhead import bulkhead
    from hyx.circuitbreaker import consecutive_breaker
    from hyx.retry import retry

    limited = bulkhead(max_concurrency=10, max_capacity=1000)(function)
    guarded = consecutive_breaker(exceptions=RETRIED, failure_threshold=5, recovery_time_secs=1)(limited)
    return retry(on=RETRIED, attempts=3)(guarded)


def tenacity(function: Any) -> Any:
    """Retries with full jitter."""
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    return retry(
        stop=stop_after_attempt(3),
        wait=wait_random_exponential(max=20),
        retry=retry_if_exception_type(RETRIED),
        reraise=True,
    )(function)


def stamina(function: Any) -> Any:
    """Retries with jitter, over tenacity."""
    from stamina import retry

    return retry(on=RETRIED, attempts=3)(function)


def backoff(function: Any) -> Any:
    """Retries with full jitter."""
    from backoff import expo, full_jitter, on_exception

    return on_exception(expo, RETRIED, max_tries=3, jitter=full_jitter)(function)


def purgatory(function: Any) -> Any:
    """A breaker."""
    from purgatory import AsyncCircuitBreakerFactory

    return AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=1)("api.example")(function)


def aiobreaker(function: Any) -> Any:
    """A breaker."""
    from datetime import timedelta

    from aiobreaker import CircuitBreaker

    return CircuitBreaker(fail_max=5, timeout_duration=timedelta(seconds=1))(function)


def pybreaker(function: Any) -> Any:
    """A breaker, for plain functions: with coroutines it needs tornado."""
    from pybreaker import CircuitBreaker

    return CircuitBreaker(fail_max=5, reset_timeout=1)(function)


def tenacity_plain(function: Any) -> Any:
    """Retries with full jitter, for plain functions."""
    return tenacity(function)


def original(function: Any) -> Any:
    """The original client's pipeline."""
    from benchmarks.peers.client_original import Client

    request = Client().request

    async def call() -> Any:
        return await request(lambda _: function())

    return call

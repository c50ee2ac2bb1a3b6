"""The chapters of `asgi-fault demo client`: a pattern each, its fault, the code that a user would type, and its claims.

The code that is shown is the code that runs: the body of the function, read from this file. So these functions are
written for the reader of the terminal, and take what they use from the names of this module.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

from adapters.asyncio import Resilient
from adapters.httpx import (
    APIError,
    BulkheadConfig,
    CircuitBreakerConfig,
    ClientConfig,
    ResilientClient,
    RetryConfig,
    TimeoutConfig,
)
from asgi_fault.demo import claims
from asgi_fault.demo.evidence import Evidence, Played
from sansio_client import AwsQuota, FullJitter, Hedge, Policy, RateLimit

Code = Callable[[str], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Chapter:
    """One pattern.

    Attributes:
        name: what it is chosen by, and the partition it is played in.
        title: the pattern in a few words.
        purpose: what it is for, and what goes wrong without it.
        rules: the fault, as it is posted to `/faults`.
        code: the client's part; is given the base URL.
        judge: what the journal shows.
        see: what to look at.
    """

    name: str
    title: str
    purpose: str
    rules: tuple[Mapping[str, Any], ...]
    code: Code
    judge: Callable[[Played], Evidence]
    see: str


def shown_code(code: Code) -> list[str]:
    """The body of a function of this file: what follows its first line."""
    _, _, body = inspect.getsource(code).partition("\n")
    return dedent(body).splitlines()


async def at_once(times: int, call: Callable[[str], Awaitable[Any]], path: str, *, abreast: int = 1000) -> None:
    """Make so many calls side by side, `abreast` at a time; what they raise is left to the journal."""
    turn = asyncio.Semaphore(abreast)

    async def one() -> None:
        async with turn:
            with suppress(APIError):
                await call(path)

    async with asyncio.TaskGroup() as group:
        for _ in range(times):
            group.create_task(one())


async def one_by_one(times: int, call: Callable[[str], Awaitable[Any]], path: str) -> None:
    """Make so many calls in a row; what they raise is left to the journal."""
    await at_once(times, call, path, abreast=1)


# What a user would type. No docstrings: all that is below the first line is shown.


async def _retry(url: str) -> None:
    policy = Policy(max_attempts=3, backoff=FullJitter(base_seconds=0.5), breaker=None)
    async with ResilientClient(ClientConfig(url, policy=policy)) as client:
        await at_once(20, client.get, "/msg")


async def _retry_after(url: str) -> None:
    config = ClientConfig(url, retry=RetryConfig(min_wait_seconds=0.1))
    async with ResilientClient(config) as client:
        await client.get("/soon")
        with suppress(APIError):  # its retry_after says 3600
            await client.get("/later")


async def _post(url: str) -> None:
    config = ClientConfig(url, retry=RetryConfig(min_wait_seconds=0.1))
    async with ResilientClient(config) as client:
        with suppress(APIError):  # was the order taken? Nobody can tell
            await client.post("/orders", json={"cups": 2})
        await client.post("/orders", json={"cups": 2}, idempotency_key=True)


async def _connection_lost(url: str) -> None:
    config = ClientConfig(url, retry=RetryConfig(min_wait_seconds=0.1))
    async with ResilientClient(config) as client:
        await client.get("/msg")


async def _truncated(url: str) -> None:
    config = ClientConfig(url, retry=RetryConfig(min_wait_seconds=0.1))
    async with ResilientClient(config) as client:
        answer = await client.get("/file")
    if len(answer.content) != 1000:
        raise ValueError(f"took {len(answer.content)} bytes for the whole file")


async def _deadline(url: str) -> None:
    retry = RetryConfig(max_attempts=3, min_wait_seconds=0.1)
    config = ClientConfig(url, TimeoutConfig(read=30, total=0.5), retry=retry)
    async with ResilientClient(config) as client:
        with suppress(APIError):
            await client.get("/msg")


async def _breaker(url: str) -> None:
    breaker = CircuitBreakerConfig(failure_threshold=5, recovery_timeout=0.5)
    config = ClientConfig(url, retry=None, circuit_breaker=breaker)
    async with ResilientClient(config) as client:
        await one_by_one(20, client.get, "/outage")
        await asyncio.sleep(0.6)
        await at_once(50, client.get, "/probe")
        await at_once(10, client.get, "/after")


async def _bulkhead(url: str) -> None:
    config = ClientConfig(url, bulkhead=BulkheadConfig(max_concurrency=2))
    async with ResilientClient(config) as client:
        await at_once(10, client.get, "/msg")


async def _budget(url: str) -> None:
    retry = RetryConfig(max_attempts=3, min_wait_seconds=0.01, max_wait_seconds=0.05)
    for path, budget in ("/without", None), ("/with", AwsQuota(capacity=50, retry_cost=5)):
        config = ClientConfig(url, retry=retry, circuit_breaker=None, budget=budget)
        async with ResilientClient(config) as client:
            await at_once(100, client.get, path)


async def _hedging(url: str) -> None:
    for path, hedge in ("/plain", None), ("/hedged", Hedge(after=0.05)):
        async with ResilientClient(ClientConfig(url, policy=Policy(hedge=hedge))) as client:
            await at_once(100, client.get, path, abreast=10)


async def _rate_limit(url: str) -> None:
    policy = Policy(rate_limit=RateLimit(20, burst=1))
    async with ResilientClient(ClientConfig(url, policy=policy)) as client:
        await at_once(10, client.get, "/msg")


async def _nested(url: str) -> None:
    three = Policy(max_attempts=3, backoff=FullJitter(base_seconds=0.02), breaker=None)
    stranger, outer = Resilient(three, nested="retry"), Resilient(three)
    async with ResilientClient(ClientConfig(url, policy=three)) as client:
        for path, around in ("/nine", stranger), ("/three", outer):
            fetch = around.resilient(may_repeat=True, on=APIError)(client.get)
            with suppress(APIError):
                await fetch(path)


REST = {"then": {"status": 200}}  # everything else

CHAPTERS = (
    Chapter(
        "retry",
        "a failure that passes",
        "A failure that passes by itself should cost a wait, and not an error. Without jitter, all who failed together "
        "come back together, and push over the server that has just got up.",
        ({"match": {"attempt": [1, 2]}, "then": {"status": 503}},),
        _retry,
        claims.judge_retry,
        "the first attempts come in one instant; full jitter spreads the second and the third ones.",
    ),
    Chapter(
        "retry-after",
        "the server says when",
        "Only the server knows when it will be back, and a client that comes earlier makes it later. Many do come "
        "earlier: they ignore Retry-After, cut it to their own maximum, or shorten it by their jitter.",
        (
            {"match": {"path": "/soon"}, "script": [{"status": 429, "retry_after": 1}]},
            {"match": {"path": "/later"}, "then": {"status": 503, "retry_after": 3600}},
            REST,
        ),
        _retry_after,
        claims.judge_retry_after,
        "the wait is longer than Retry-After asked, by the jitter, and never shorter; an hour is the caller's to plan.",
    ),
    Chapter(
        "post",
        "nothing is ordered twice",
        "When the answer to a POST is lost, the order may have been taken. Who repeats it may order twice; an "
        "Idempotency-Key lets the server know the repetition, so that it is safe.",
        (
            {"match": {"attempt": 1}, "then": {"end": {"how": "close", "at": "before-head"}}},
            {"then": {"status": 201}},
        ),
        _post,
        claims.judge_post,
        "one attempt without a key, although the connection broke; two with it, and the key is the same on the wire.",
    ),
    Chapter(
        "connection-lost",
        "a reset in place of an answer",
        "Servers restart, and load balancers drop connections: there is no status to look at. A retry loop that asks "
        "for the status code never sees these failures.",
        ({"script": [{"end": {"how": "reset", "at": "before-head"}}]},),
        _connection_lost,
        claims.judge_connection_lost,
        "the reset is no answer, and counts as a failed attempt all the same.",
    ),
    Chapter(
        "truncated",
        "half a file with status 200",
        "A body can break off after a perfect head. A client whose attempt ends with the head hands the failure to its "
        "caller, or half of the file.",
        (
            {"script": [{"status": 200, "body": {"bytes": 1000}, "truncate": {"share": 0.5}}]},
            {"then": {"status": 200, "body": {"bytes": 1000}}},
        ),
        _truncated,
        claims.judge_truncated,
        "the first attempt failed although its status was 200.",
    ),
    Chapter(
        "deadline",
        "one limit for everything",
        "A caller waits for the call, and not for its attempts. A read timeout of 30 s and three attempts make 90 s "
        "and more, long after the caller has gone.",
        ({"script": [{"status": 503}], "then": {"stall": {"at": "before-head"}}},),
        _deadline,
        claims.judge_deadline,
        "the second attempt hangs; it is given up when the time of the whole call is over, and no third one follows.",
    ),
    Chapter(
        "breaker",
        "leave it alone while it is down",
        "A server that is down is not helped by calls, and callers are not helped by waiting for it. A circuit breaker "
        "refuses at once, and lets one call find out whether the server is back; some let all of them.",
        (
            {"match": {"path": "/outage"}, "then": {"status": 500}},
            {"match": {"path": "/probe"}, "then": {"status": 200, "delay_s": 0.2}},
            REST,
        ),
        _breaker,
        claims.judge_breaker,
        "calls that never became arrivals: 15 of the outage, and 49 of those that came with the probe.",
    ),
    Chapter(
        "bulkhead",
        "so many and no more",
        "A slow server fills its clients with waiting requests, until nothing else works there either. A bulkhead "
        "bounds how many are under way, and the others wait their turn.",
        ({"then": {"delay_s": 0.1}},),
        _bulkhead,
        claims.judge_bulkhead,
        "ten requests in five pairs: a slot that becomes free goes to the caller who has waited longest.",
    ),
    Chapter(
        "budget",
        "an outage is no reason for three times the load",
        "Retries help against single failures; in an outage every call is repeated, and the load is multiplied when "
        "there is least to carry it. A budget pays for retries out of successes, so in an outage it runs dry.",
        ({"then": {"status": 503}},),
        _budget,
        claims.judge_budget,
        "the same 100 calls, the same outage: 3.00 times the load without a budget, 1.10 with one of 10 retries.",
    ),
    Chapter(
        "hedging",
        "do not wait for the slow one",
        "When one answer in ten is slow, a page of ten calls is slow most of the time. A second request, sent when the "
        "first takes unusually long, costs a little load and cuts the tail off.",
        ({"match": {"attempt": 1, "every": 10}, "then": {"status": 200, "delay_s": 0.3}}, REST),
        _hedging,
        claims.judge_hedging,
        "the p99 falls to little more than the 50 ms after which the hedge goes out; the slow attempt is left alone.",
    ),
    Chapter(
        "rate-limit",
        "a pace of one's own",
        "Who knows his quota should not find it out from 429s, which cost the server work and the caller time. A rate "
        "limiter sends at the agreed pace, however many calls come at once.",
        ({"rate_limit": {"algorithm": "token-bucket", "limit": 5, "window_s": 0.2}},),
        _rate_limit,
        claims.judge_rate_limit,
        "ten calls made in one instant arrive 50 ms apart, and the server's own limit has nobody to refuse.",
    ),
    Chapter(
        "nested",
        "three times three is nine",
        "An SDK retries, the application around it retries, and a gateway may, too: three layers of three are 27 "
        "requests. An attempt that will be repeated from outside should not be repeated inside.",
        ({"then": {"status": 503}},),
        _nested,
        claims.judge_nested,
        "the same two layers, first as strangers, three calls of three attempts; then as they are by default.",
    ),
)

BY_NAME = {chapter.name: chapter for chapter in CHAPTERS}

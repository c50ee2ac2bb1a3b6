"""A resilient call to which nothing happens: what it costs over the bare call, beside the libraries of the field.

The call goes to a coroutine function (or a plain one) that returns at once. All run in one thread of one process, under
one policy as it ships, or with the time limits left to the transport (`total_timeout=inf`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from time import thread_time_ns
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.paired import Beside, Timed, try_to_make
from benchmarks.paired import measure as measure_paired
from benchmarks.peers import clients as peers
from sansio_client.policy import Policy

ANSWER = "an answer"
KEY = "api.example"
BARE = "a bare await"
BARE_PLAIN = "a bare call of a plain function"
OURS = "asyncio.Resilient, time limits left to the transport"
VALUE = "the same by `call`, which returns the value"
DEADLINE = "asyncio.Resilient as it ships, with a total deadline"
HYX = "hyx: retry, breaker and bulkhead"
TENACITY = "tenacity"
ORIGINAL = "the original client's pipeline"

NO_DEADLINE = Policy(total_timeout=inf)

Repeat = Callable[[int], Awaitable[int]]


async def nothing(_: object = None) -> str:
    """The attempt that is measured around."""
    return ANSWER


def nothing_plain(_: object = None) -> str:
    """The same as a plain function."""
    return ANSWER


async def one_wrapper() -> str:
    """The least a wrapper can cost."""
    return await nothing()


def measure(*, rounds: int, slice_ns: int, seed: int) -> Beside:
    """Nanoseconds per call, by way of making it resilient."""
    with asyncio.Runner() as runner:
        makers: dict[str, Callable[[], Timed]] = {
            name: partial(on_asyncio, runner, make) for name, make in _ASYNCIO.items()
        }
        makers |= _ELSEWHERE
        made, missing = try_to_make(makers.items())
        samples = measure_paired(made, rounds=rounds, slice_ns=slice_ns, seed=seed)
    plain = (BARE_PLAIN, *_PLAIN)
    bases = {name: BARE_PLAIN if name in plain else BARE for name in makers if name not in (BARE, BARE_PLAIN)}
    return Beside(samples, bases, missing)


def on_asyncio(runner: asyncio.Runner, make: Callable[[], Repeat]) -> Timed:
    repeat = make()

    async def main(calls: int) -> int:
        return await repeat(calls)

    return lambda calls: runner.run(main(calls))


def awaited(call: Callable[[], Awaitable[Any]]) -> Repeat:
    async def repeat(calls: int) -> int:
        _check(await call())
        begun_at = thread_time_ns()
        for _ in range(calls):
            await call()
        return thread_time_ns() - begun_at

    return repeat


def _called(call: Callable[[], Any]) -> Timed:
    def repeat(calls: int) -> int:
        _check(call())
        begun_at = thread_time_ns()
        for _ in range(calls):
            call()
        return thread_time_ns() - begun_at

    return repeat


def _check(answer: object) -> None:
    if answer != ANSWER:
        raise BenchmarkError(f"a call that was to return {ANSWER!r} returned {answer!r}")


# Ours: the call is written out, since a partial or a lambda around it would be measured with it.


def _ours(kind: Any, policy: Policy, *, may_repeat: bool = False) -> Repeat:
    run = kind(policy).run

    async def repeat(calls: int) -> int:
        _check((await run(nothing, key=KEY, may_repeat=may_repeat)).unwrap())
        begun_at = thread_time_ns()
        for _ in range(calls):
            await run(nothing, key=KEY, may_repeat=may_repeat)
        return thread_time_ns() - begun_at

    return repeat


def _ours_value(kind: Any, policy: Policy) -> Repeat:
    call = kind(policy).call

    async def repeat(calls: int) -> int:
        _check(await call(nothing, KEY))
        begun_at = thread_time_ns()
        for _ in range(calls):
            await call(nothing, KEY)
        return thread_time_ns() - begun_at

    return repeat


def asyncio_run(policy: Policy, *, may_repeat: bool = False) -> Repeat:
    from adapters.asyncio import Resilient

    return _ours(Resilient, policy, may_repeat=may_repeat)


def _asyncio_value() -> Repeat:
    from adapters.asyncio import Resilient

    return _ours_value(Resilient, NO_DEADLINE)


def _asyncio_decorated() -> Repeat:
    from adapters.asyncio import Resilient

    return awaited(Resilient(NO_DEADLINE).resilient(key=KEY, may_repeat=False)(nothing))


def _trio(policy: Policy) -> Timed:
    import trio

    from adapters.trio import Resilient

    repeat = _ours(Resilient, policy)
    return lambda calls: trio.run(repeat, calls)


def _threads(policy: Policy) -> Timed:
    from adapters.threads import Resilient

    run = Resilient(policy).run

    def repeat(calls: int) -> int:
        _check(run(nothing_plain, key=KEY).unwrap())
        begun_at = thread_time_ns()
        for _ in range(calls):
            run(nothing_plain, key=KEY)
        return thread_time_ns() - begun_at

    return repeat


_ASYNCIO: dict[str, Callable[[], Repeat]] = {
    BARE: lambda: awaited(nothing),
    "one coroutine around it": lambda: awaited(one_wrapper),
    OURS: lambda: asyncio_run(NO_DEADLINE),
    VALUE: _asyncio_value,
    "the same as a decorator": _asyncio_decorated,
    DEADLINE: lambda: asyncio_run(Policy()),
    "the same with `may_repeat=True`": lambda: asyncio_run(Policy(), may_repeat=True),
    "aiobreaker": lambda: awaited(peers.aiobreaker(nothing)),
    "purgatory": lambda: awaited(peers.purgatory(nothing)),
    "backoff": lambda: awaited(peers.backoff(nothing)),
    HYX: lambda: awaited(peers.hyx(nothing)),
    "stamina": lambda: awaited(peers.stamina(nothing)),
    TENACITY: lambda: awaited(peers.tenacity(nothing)),
    ORIGINAL: lambda: awaited(peers.original(nothing)),
}

_PLAIN: dict[str, Callable[[], Timed]] = {
    "threads.Resilient, time limits left to the transport": lambda: _threads(NO_DEADLINE),
    "threads.Resilient as it ships": lambda: _threads(Policy()),
    "pybreaker": lambda: _called(peers.pybreaker(nothing_plain)),
    "tenacity, for plain functions": lambda: _called(peers.tenacity_plain(nothing_plain)),
}

_ELSEWHERE: dict[str, Callable[[], Timed]] = {
    "trio.Resilient, time limits left to the transport": lambda: _trio(NO_DEADLINE),
    "trio.Resilient as it ships": lambda: _trio(Policy()),
    BARE_PLAIN: lambda: _called(nothing_plain),
    **_PLAIN,
}

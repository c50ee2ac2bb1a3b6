"""The same calls through every adapter: each stack makes them its own way, and all must come to the same."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from adapters import asyncio as on_asyncio
from adapters import threads as on_threads
from adapters import trio as on_trio
from adapters.httpx import AsyncResilientTransport, ClientConfig, ResilientClient, ResilientTransport
from adapters.httpx_requests import HttpJudge, is_repeatable
from sansio_client.policy import Policy
from tests.adapters.libraries import find

PLAIN: dict[str, Any] = {"verify": False, "trust_env": False, "timeout": 10.0}


@dataclass(frozen=True)
class Job:
    """One call."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True)
class Result:
    """What the caller got.

    Attributes:
        status: of the response; 0 without one.
        error: names of the exception's class and of its bases and causes; empty for a response that was returned.
    """

    status: int
    body: bytes = b""
    error: tuple[str, ...] = ()


Phase = float | Sequence[Job]
"""Seconds to wait, or calls to make at once."""


@dataclass(frozen=True)
class Stack:
    """A way to make calls.

    Attributes:
        name: for the report.
        run: makes the calls of some phases, all through one core, and returns the results phase by phase.
        reads_body: whether an attempt reads the body.
        numbers: whether it numbers attempts on the wire.
    """

    name: str
    run: Callable[[Policy, Sequence[Phase]], list[list[Result]]]
    reads_body: bool
    numbers: bool = False

    def one(self, policy: Policy, job: Job) -> Result:
        """A single call."""
        return self.run(policy, [[job]])[0][0]


def got(response: Any) -> Result:
    return Result(response.status_code, response.content)


def failed(error: BaseException) -> Result:
    response = getattr(error, "response", None)
    names = [kind.__name__ for kind in type(error).__mro__]
    if error.__cause__ is not None:
        names += [kind.__name__ for kind in type(error.__cause__).__mro__]
    return Result(response.status_code if response is not None else 0, error=tuple(names))


Caller = Callable[[Job], Any]


def _run_async(
    world: str, opened: Callable[[Policy], Any], policy: Policy, phases: Sequence[Phase]
) -> list[list[Result]]:
    async def settled(caller: Callable[[Job], Awaitable[Any]], job: Job) -> Result:
        try:
            return got(await caller(job))
        except Exception as error:  # noqa: BLE001 - a result like any other
            return failed(error)

    async def phase_on_trio(caller: Caller, jobs: Sequence[Job]) -> list[Result]:
        results: list[Any] = [None] * len(jobs)

        async def one(index: int, job: Job) -> None:
            results[index] = await settled(caller, job)

        async with trio.open_nursery() as nursery:
            for index, job in enumerate(jobs):
                nursery.start_soon(one, index, job)
        return results

    async def main() -> list[list[Result]]:
        results = []
        async with opened(policy) as caller:
            for phase in phases:
                if isinstance(phase, float):
                    await (trio.sleep(phase) if world == "trio" else asyncio.sleep(phase))  # noqa: ASYNC105 - it is
                elif world == "trio":
                    results.append(await phase_on_trio(caller, phase))
                else:
                    results.append(list(await asyncio.gather(*(settled(caller, job) for job in phase))))
        return results

    return trio.run(main) if world == "trio" else asyncio.run(main())


def _run_threads(opened: Callable[[Policy], Any], policy: Policy, phases: Sequence[Phase]) -> list[list[Result]]:
    def settled(caller: Caller, job: Job, results: list[Any], index: int) -> None:
        try:
            results[index] = got(caller(job))
        except Exception as error:  # noqa: BLE001 - a result like any other
            results[index] = failed(error)

    everything = []
    with opened(policy) as caller:
        for phase in phases:
            if isinstance(phase, float):
                threading.Event().wait(phase)
                continue
            results: list[Any] = [None] * len(phase)
            threads = [
                threading.Thread(target=settled, args=(caller, job, results, index)) for index, job in enumerate(phase)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            everything.append(results)
    return everything


class _Opened:
    """A caller that closes its client in the end."""

    def __init__(self, client: Any, caller: Caller) -> None:
        self._client = client
        self._caller = caller

    async def __aenter__(self) -> Caller:
        await self._client.__aenter__()
        return self._caller

    async def __aexit__(self, *problem: object) -> None:
        await self._client.__aexit__(*problem)

    def __enter__(self) -> Caller:
        self._client.__enter__()
        return self._caller

    def __exit__(self, *problem: object) -> None:
        self._client.__exit__(*problem)


def _terms(module: Any, job: Job) -> dict[str, Any]:
    request = module.Request(job.method, job.url, headers=job.headers)
    return {"key": "peer", "may_repeat": is_repeatable(request), "judge": HttpJudge(module)}


def _by_hand(world: str) -> Stack:
    """`Resilient.run` around an ordinary client: what a user of any other library would write."""
    module = find("httpx")
    resilient_of: Any = on_trio.Resilient if world == "trio" else on_asyncio.Resilient

    def opened(policy: Policy) -> _Opened:
        client = module.AsyncClient(**PLAIN)
        resilient = resilient_of(policy)

        async def caller(job: Job) -> Any:
            finished = await resilient.run(
                lambda _: client.request(job.method, job.url, headers=job.headers, content=job.body),
                **_terms(module, job),
            )
            return finished.unwrap()

        return _Opened(client, caller)

    return Stack(world, lambda policy, phases: _run_async(world, opened, policy, phases), reads_body=True)


def _by_hand_in_threads() -> Stack:
    module = find("httpx")

    def opened(policy: Policy) -> _Opened:
        client = module.Client(**PLAIN)
        resilient = on_threads.Resilient(policy)

        def caller(job: Job) -> Any:
            return resilient.run(
                lambda attempt: client.request(
                    job.method, job.url, headers=job.headers, content=job.body, timeout=attempt.seconds_left()
                ),
                **_terms(module, job),
            ).unwrap()

        return _Opened(client, caller)

    return Stack("threads", lambda policy, phases: _run_threads(opened, policy, phases), reads_body=True)


def _transport(name: str, world: str) -> Stack:
    module = find(name)

    def opened(policy: Policy) -> _Opened:
        transport = AsyncResilientTransport(module.AsyncHTTPTransport(verify=False), policy)
        client = module.AsyncClient(transport=transport, timeout=10.0)
        return _Opened(client, lambda job: client.request(job.method, job.url, headers=job.headers, content=job.body))

    def run(policy: Policy, phases: Sequence[Phase]) -> list[list[Result]]:
        return _run_async(world, opened, policy, phases)

    return Stack(f"{name}-transport-{world}", run, reads_body=False, numbers=True)


def _transport_in_threads(name: str) -> Stack:
    module = find(name)

    def opened(policy: Policy) -> _Opened:
        client = module.Client(transport=ResilientTransport(module.HTTPTransport(verify=False), policy), timeout=10.0)
        return _Opened(client, lambda job: client.request(job.method, job.url, headers=job.headers, content=job.body))

    def run(policy: Policy, phases: Sequence[Phase]) -> list[list[Result]]:
        return _run_threads(opened, policy, phases)

    return Stack(f"{name}-transport-threads", run, reads_body=False, numbers=True)


def _client(name: str, world: str) -> Stack:
    module = find(name)

    def opened(policy: Policy) -> _Opened:
        client = ResilientClient(
            ClientConfig(policy=policy, logging=None), module=module, verify=False, trust_env=False
        )
        return _Opened(client, lambda job: client.request(job.method, job.url, headers=job.headers, content=job.body))

    def run(policy: Policy, phases: Sequence[Phase]) -> list[list[Result]]:
        return _run_async(world, opened, policy, phases)

    return Stack(f"{name}-client-{world}", run, reads_body=True, numbers=True)


STACKS: dict[str, Callable[[], Stack]] = {
    "asyncio": lambda: _by_hand("asyncio"),
    "trio": lambda: _by_hand("trio"),
    "threads": _by_hand_in_threads,
    "httpx-transport-asyncio": lambda: _transport("httpx", "asyncio"),
    "httpx2-transport-trio": lambda: _transport("httpx2", "trio"),
    "httpx-transport-threads": lambda: _transport_in_threads("httpx"),
    "httpx2-transport-threads": lambda: _transport_in_threads("httpx2"),
    "httpx-client-trio": lambda: _client("httpx", "trio"),
    "httpx2-client-asyncio": lambda: _client("httpx2", "asyncio"),
}
"""By name; made when asked for, as a library may be missing."""

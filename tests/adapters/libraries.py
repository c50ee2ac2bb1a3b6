"""What the tests of the httpx adapters share: both libraries, both event loops in virtual time, and a scripted peer."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, Self

import pytest
import trio
import trio.testing

from tests.missing import missing
from tests.virtual_time import run_virtual

NAMES = ("httpx", "httpx2")


def find(name: str) -> ModuleType:
    """The library; where it is missing the test is skipped, but not in CI, which has to test both."""
    try:
        return import_module(name)
    except ImportError:
        missing(f"{name} is not installed")


def now() -> float:
    """The time of the event loop that runs."""
    return trio.current_time() if trio.lowlevel.in_trio_task() else asyncio.get_running_loop().time()


class World:
    """An event loop whose clock jumps."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        """Run `main()` to its end."""
        if self.name == "trio":
            return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

        async def entered() -> Any:
            return await main()

        return run_virtual(entered())

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await (trio.sleep(seconds) if self.name == "trio" else asyncio.sleep(seconds))  # noqa: ASYNC105 - it is

    async def within(self, seconds: float, job: Callable[[], Awaitable[Any]]) -> Any:
        """The result of `job`, or None: it is cancelled after `seconds`."""
        if self.name == "trio":
            with trio.move_on_after(seconds):
                return await job()
            return None
        try:
            async with asyncio.timeout(seconds):
                return await job()
        except TimeoutError:
            return None

    async def together(self, *jobs: Callable[[], Awaitable[Any]]) -> list[Any]:
        """The results of all `jobs`, run at once; an exception is a result."""
        results: list[Any] = [None] * len(jobs)

        async def one(index: int, job: Callable[[], Awaitable[Any]]) -> None:
            try:
                results[index] = await job()
            except Exception as error:  # noqa: BLE001 - a result like any other
                results[index] = error

        if self.name == "trio":
            async with trio.open_nursery() as nursery:
                for index, job in enumerate(jobs):
                    nursery.start_soon(one, index, job)
        else:
            await asyncio.gather(*(one(index, job) for index, job in enumerate(jobs)))
        return results


def stream_of(module: ModuleType, chunks: list[Any], events: list[str], name: str) -> Any:
    """A body that yields `chunks`, raising those that are exceptions, and writes down when it ends or is closed."""

    class Body(module.AsyncByteStream, module.SyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for chunk in self:
                yield chunk

        def __iter__(self) -> Iterator[bytes]:
            for chunk in chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
            events.append(f"{name} read")

        async def aclose(self) -> None:
            self.close()

        def close(self) -> None:
            events.append(f"{name} closed")

    return Body()


class Peer:
    """A transport that answers by a script: a status, a response, an exception, or a function of the request.

    The last step is repeated. Request bodies are read chunk by chunk as a connection would, and written down.

    Attributes:
        requests: the requests, as they were sent.
        bodies: their bodies.
        times: when they came.
        events: "1 sent", "1 read", "1 closed", ... in order.
    """

    def __init__(self, module: ModuleType, *script: Any) -> None:
        self.module = module
        self.script = script
        self.requests: list[Any] = []
        self.bodies: list[bytes] = []
        self.times: list[float] = []
        self.events: list[str] = []

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    def sent(self, header: str) -> list[str | None]:
        """The values of a header, attempt by attempt."""
        return [request.headers.get(header) for request in self.requests]

    def _answer(self, request: Any, body: bytes) -> Any:
        number = len(self.requests) + 1
        self.requests.append(request)
        self.bodies.append(body)
        self.events.append(f"{number} sent")
        step = self.script[min(number, len(self.script)) - 1]
        if callable(step) and not isinstance(step, type):
            return step(request)
        return step

    def _finish(self, step: Any) -> Any:
        if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
            raise step("scripted") if isinstance(step, type) else step
        if isinstance(step, self.module.Response):
            return step
        status, headers, chunks = (step, {}, [b"body"]) if isinstance(step, int) else step
        body = stream_of(self.module, chunks, self.events, str(len(self.requests)))
        return self.module.Response(status, headers=headers, stream=body)

    async def handle_async_request(self, request: Any) -> Any:
        self.times.append(now())
        step = self._answer(request, b"".join([chunk async for chunk in request.stream]))
        return self._finish(await step if isinstance(step, Awaitable) else step)

    def handle_request(self, request: Any) -> Any:
        return self._finish(self._answer(request, b"".join(request.stream)))

    async def aclose(self) -> None:
        self.events.append("closed")

    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.events.append("closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.events.append("closed")


def forget(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have importing `names` fail, as where they are not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)

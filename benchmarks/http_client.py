"""What our httpx transport costs over the transport inside, beside httpx-retries; and what part of a request that is.

The transport inside answers at once with a new `httpx.Response`. The whole request beside it is `AsyncClient.get` over
a kept connection to a server in another process, of which only this side's CPU time counts: the share is of what the
client has to do, and of all that the user waits for it is far less.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import thread_time_ns
from typing import Any

from benchmarks import client
from benchmarks.cases import Server
from benchmarks.errors import BenchmarkError
from benchmarks.paired import Beside, Timed, try_to_make
from benchmarks.paired import measure as measure_paired
from benchmarks.servers import HOST, RunningServer

BARE = "a transport that answers at once"
RETRIES = "httpx-retries"
OURS = "AsyncResilientTransport"
GET = "AsyncClient.get over a socket"

BODY = b'{"message_id":"6f1d1b1e-0a53-4cf0-9d5c-6d1f3b1f0a11"}'
HEADERS = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY)), (b"server", b"none"))
URL = "http://api.example/msg"
# The connection has to last from one round to the next.
SERVER = Server("http-client", "benchmarks.peers.bare:app", ("--no-access-log", "--timeout-keep-alive", "60"))


def measure(*, rounds: int, slice_ns: int, seed: int, core: int | None) -> Beside:
    """Nanoseconds per request, by transport. `core` is where the server goes."""
    with asyncio.Runner() as runner, _server(core) as port:
        on_loop = partial(client.on_asyncio, runner)
        gets = _Gets(port)
        makers: dict[str, Callable[[], Timed]] = {
            client.BARE: lambda: on_loop(lambda: client.awaited(client.nothing)),
            client.OURS: lambda: on_loop(lambda: client.asyncio_run(client.NO_DEADLINE)),
            BARE: lambda: on_loop(lambda: _sent_by(_transport())),
            RETRIES: lambda: on_loop(lambda: _sent_by(_retries())),
            OURS: lambda: on_loop(lambda: _sent_by(_ours())),
            GET: lambda: on_loop(gets.make),
        }
        made, missing = try_to_make(makers.items())
        try:
            samples = measure_paired(made, rounds=rounds, slice_ns=slice_ns, seed=seed)
        finally:
            runner.run(gets.close())
    return Beside(samples, {client.OURS: client.BARE, RETRIES: BARE, OURS: BARE}, missing)


@contextmanager
def _server(core: int | None) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="asgi-fault-bench-") as folder:
        server = RunningServer(SERVER, core, folder)
        try:
            server.wait_until_ready()
            yield server.port
        finally:
            server.ask_to_stop()
            server.stop()


def _transport() -> Any:
    import httpx

    class AtOnce(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, headers=HEADERS, stream=httpx.ByteStream(BODY))

    return AtOnce()


def _retries() -> Any:
    from httpx_retries import Retry, RetryTransport

    return RetryTransport(transport=_transport(), retry=Retry(total=2))


def _ours() -> Any:
    from adapters.httpx import AsyncResilientTransport

    return AsyncResilientTransport(_transport())


def _sent_by(transport: Any) -> client.Repeat:
    import httpx

    request = httpx.Request("GET", URL)
    send = transport.handle_async_request

    async def repeat(calls: int) -> int:
        _check((await send(request)).status_code)
        begun_at = thread_time_ns()
        for _ in range(calls):
            await send(request)
        return thread_time_ns() - begun_at

    return repeat


class _Gets:
    """Whole requests of one `AsyncClient`, which has to be closed on its loop."""

    def __init__(self, port: int) -> None:
        self._url = f"http://{HOST}:{port}/msg"
        self._client: Any = None

    def make(self) -> client.Repeat:
        import httpx

        self._client = httpx.AsyncClient(trust_env=False)
        get, url = self._client.get, self._url

        async def repeat(calls: int) -> int:
            _check((await get(url)).status_code)
            begun_at = thread_time_ns()
            for _ in range(calls):
                await get(url)
            return thread_time_ns() - begun_at

        return repeat

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def _check(status: int) -> None:
    if status != 200:
        raise BenchmarkError(f"a request that was to get 200 got {status}")

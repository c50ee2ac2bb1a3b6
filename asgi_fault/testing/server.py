"""A real server in a thread of the test's process: uvicorn's protocol with our wire, on a loop of its own.

uvicorn's `Server` is left out: it handles signals and configures loggers, and both belong to the process of the user.
The loop is made by name, so that no event loop policy and no mode of an asyncio plugin plays a part.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from email.utils import formatdate
from typing import Any, TypeVar

from asgi_fault.asgi import ASGIApplication, Receive, Scope, Send
from asgi_fault.observe.logs import Log
from asgi_fault.partitions import Partition
from asgi_fault.testing.engine import Engine

T = TypeVar("T")

HOST = "127.0.0.1"
KEEP_ALIVE = 75  # seconds, as in `asgi-fault serve`
ANSWER_WITHIN = 30.0  # seconds for the thread to do what the test asked for; it does such things in microseconds
SETTLE_WITHIN = 0.1  # seconds that requests get to end of which the test has seen the end already
STOP_WITHIN = 5.0
PORTS_MAX = 100


class ServerThread(Engine):
    """A server on a free port of 127.0.0.1, in a daemon thread; serves from construction until `stop`."""

    wire = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        started: Future[int] = Future()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._servers: dict[int, asyncio.Server] = {}
        self._thread = threading.Thread(target=self._serve, args=(started,), name="asgi-fault", daemon=True)
        self._thread.start()
        self.port = started.result(ANSWER_WITHIN)
        self.base_url = f"http://{HOST}:{self.port}"

    def run(self, function: Callable[[], T]) -> T:
        """What `function` returns, called on the server's loop."""

        async def call() -> T:
            return function()

        return self._wait(call())

    def settle(self, partition: Partition) -> int:
        """Let the server notice what clients have done until now; how many requests are still under way.

        A client may know that an exchange is over before the server does: it has left, or it got the FIN.
        """

        async def settle() -> int:
            end = self._loop.time() + SETTLE_WITHIN
            # Each turn of the loop polls its sockets; what is waited for are several of its own callbacks.
            while partition.requests and self._loop.time() < end:  # noqa: ASYNC110
                await asyncio.sleep(0)
            return partition.requests

        return self._wait(settle())

    def open_port(self, partition: str) -> int:
        """Open another port whose requests belong to `partition`; its number."""
        if len(self._servers) > PORTS_MAX:
            raise RuntimeError(f"{PORTS_MAX} ports are open already.")
        return self._wait(self._listen(_in_partition(self.application, partition)))

    def close_port(self, port: int) -> None:
        """Close a port; its connections end with the server."""
        server = self._servers.pop(port, None)
        if server is not None:
            self.run(server.close)

    def stop(self) -> None:
        """End connections, requests, loop and thread. Harmless when repeated."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(2 * STOP_WITHIN)
            if self._thread.is_alive():
                raise RuntimeError("asgi-fault: the server's thread does not end")

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if not self._thread.is_alive():
            coroutine.close()
            raise RuntimeError("asgi-fault: this server has stopped; fixtures end with their tests.")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(ANSWER_WITHIN)

    # --- in the thread ---

    def _serve(self, started: "Future[int]") -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop, debug=False) as runner:
                runner.run(self._main(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _main(self, started: "Future[int]") -> None:
        from uvicorn.server import ServerState

        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._note)
        self._stop = asyncio.Event()
        self._state = ServerState()
        self._protocol = _protocol(self.context.log)
        started.set_result(await self._listen(self.application))
        ticking = self._loop.create_task(self._tell_the_date())
        await self._stop.wait()
        ticking.cancel()
        await self._end()

    async def _listen(self, application: ASGIApplication) -> int:
        from uvicorn import Config

        config = Config(
            application,
            http=self._protocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            # What Config would read from the environment, or do to loggers, when it is not told.
            workers=1,
            proxy_headers=False,
            forwarded_allow_ips="",
            log_config=None,
            access_log=True,
            timeout_keep_alive=KEEP_ALIVE,
        )
        config.load()
        self._state.default_headers = [(b"date", _date()), *config.encoded_headers]
        protocol, state = self._protocol, self._state
        # The protocol is said, or asyncio will not set TCP_NODELAY, and each answer waits 40 ms for the client's ACK.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind((HOST, 0))
        server = await self._loop.create_server(lambda: protocol(config, state, {}), sock=listener)
        port: int = listener.getsockname()[1]
        self._servers[port] = server
        return port

    async def _tell_the_date(self) -> None:
        """An origin server with a clock sends Date (RFC 9110 section 6.6.1); uvicorn's own runner would do this."""
        headers = self._state.default_headers
        while True:
            await asyncio.sleep(1)
            headers[0] = (b"date", _date())

    async def _end(self) -> None:
        for server in self._servers.values():
            server.close()
        self.context.stopping.begin()
        for connection in list(self._state.connections):
            connection.transport.abort()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=STOP_WITHIN)
        # What is still left, the Runner cancels.

    def _note(self, _: asyncio.AbstractEventLoop, event: dict[str, Any]) -> None:
        """Keep what asyncio would log: its logger belongs to the user."""
        self.context.log.warning("loop.error", event.get("message", ""), error=repr(event.get("exception")))


def _protocol(log: Log) -> Any:
    """The h11 protocol with our wire, and with loggers that nobody else knows."""
    from asgi_fault.faults import wire

    base: Any = wire.H11

    class Quiet(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.logger = logger
            self.access_log = False

    logger = logging.Logger("asgi_fault.testing", logging.WARNING)  # noqa: LOG001 - so that `logging` has no such logger
    logger.addHandler(_ToLog(log))
    return Quiet


class _ToLog(logging.Handler):
    """Takes what uvicorn's protocol has to say."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self._log.warning("http.error", record.getMessage())


def _in_partition(application: ASGIApplication, partition: str) -> ASGIApplication:
    """`application` for a port whose requests belong to `partition`."""
    mark = (b"x-fault-partition", partition.encode())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = [*scope["headers"], mark]
        await application(scope, receive, send)

    return app


def _date() -> bytes:
    return formatdate(usegmt=True).encode()

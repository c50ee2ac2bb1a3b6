"""A connection made of nothing, in virtual time: what the application does with it is written down with the time."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import unquote

from asgi_fault.faults.wire import EXTENSION, Wire
from tests.in_process import World
from tests.virtual_time import VirtualTimeLoop


class FakeConnection:
    """One connection for one request.

    Attributes:
        events: (seconds since the request, what happened, with what): `start`, `body` and `last` for ASGI messages,
            `write`, `eof`, `close` and `abort` for the transport.
        unsent: bytes that wait in the transport.
        refuses_eof: as TLS does.
        client_stays: when it is told that nothing more comes.
        write_takes: seconds that each write takes, as on a busy machine.
    """

    def __init__(self, world: World, *, refuses_eof: bool = False, client_stays: bool = False) -> None:
        self._world = world
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._over = asyncio.Event()
        self._closing = False
        self.events: list[tuple[float, str, Any]] = []
        self.unsent = 0
        self.refuses_eof = refuses_eof
        self.client_stays = client_stays
        self.write_takes = 0.0

    # What a test looks at.

    @property
    def names(self) -> list[str]:
        return [name for _, name, _ in self.events]

    @property
    def times(self) -> list[float]:
        return [round(seconds, 6) for seconds, _, _ in self.events]

    @property
    def written(self) -> bytes:
        """What was written past the server."""
        return b"".join(data for _, name, data in self.events if name == "write")

    @property
    def body(self) -> bytes:
        """What was sent by the server."""
        return b"".join(data for _, name, data in self.events if name in ("body", "last"))

    @property
    def start(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and headers sent by the server."""
        (start,) = [what for _, name, what in self.events if name == "start"]
        return start["status"], start["headers"]

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.start[1] if key == name]

    def leave(self) -> None:
        """The client goes."""
        self._over.set()

    async def request(
        self,
        target: str,
        method: str = "GET",
        *,
        wire: bool = False,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        **scope: Any,
    ) -> None:
        """Ask for `target`; with `wire` under a server that runs our protocol."""
        path, _, query = target.partition("?")
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await self._over.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._note("start", message)
            else:
                is_last = not message.get("more_body", False)
                self._note("last" if is_last else "body", message["body"])
                if is_last:
                    self._over.set()

        more = {"extensions": {EXTENSION: Wire(cast("asyncio.Transport", self), self._began)}} if wire else {}
        length = [(b"content-length", b"%d" % len(body))] if body else []
        await self._world.app(
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": method,
                "scheme": "http",
                "path": unquote(path),
                "raw_path": path.encode(),
                "query_string": query.encode(),
                "root_path": "",
                "headers": [*headers, *length],
                "client": ("127.0.0.1", 50000),
                "server": ("127.0.0.1", 8000),
                **more,
                **scope,
            },
            receive,
            send,  # type: ignore[arg-type]
        )

    def _note(self, name: str, what: Any = None) -> None:
        self.events.append((self._loop.time() - self._began, name, what))
        if name in ("start", "body", "last", "write"):
            cast("VirtualTimeLoop", self._loop)._jumping.now += self.write_takes

    # What a `Wire` asks of its transport.

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes) -> None:
        self._note("write", data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, _: str) -> None:
        return None

    def can_write_eof(self) -> bool:
        return not self.refuses_eof

    def write_eof(self) -> None:
        self._note("eof")
        if not self.client_stays:
            self._over.set()

    def close(self) -> None:
        self._end("close")

    def abort(self) -> None:
        self._end("abort")

    def _end(self, how: str) -> None:
        self._note(how)
        self._closing = True
        self._over.set()

"""An application and a client for it without sockets: every ASGI message goes through the hands of the test."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

from asgi_fault.application import Application
from asgi_fault.config import Settings
from asgi_fault.context import Context
from asgi_fault.observe.logs import Log
from tests.virtual_time import run_virtual

WALL_TIME = 1_700_000_000.0
T = TypeVar("T")


@dataclass
class Answer:
    """What a client got. `status` is 0 when it left before there was anything."""

    status: int = 0
    header_list: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode("latin-1") for name, value in self.header_list}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Talks to `app`; every exchange is a task of its own, so a test can start many and end them in any order."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def get(self, target: str, **options: Any) -> Answer:
        return await self.request("GET", target, **options)

    async def post(self, target: str, **options: Any) -> Answer:
        return await self.request("POST", target, **options)

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Iterable[tuple[str | bytes, str | bytes]] = (),
        chunks: Iterable[bytes] | None = None,
        leave: "asyncio.Event | None" = None,
        **scope: Any,
    ) -> Answer:
        """One request; `leave` makes the client go away when it is set, `chunks` is the body, piece by piece."""
        raw_path, _, query = target.partition("?")
        header_list = [
            (
                name.lower() if isinstance(name, bytes) else name.lower().encode(),
                value if isinstance(value, bytes) else value.encode(),
            )
            for name, value in headers
        ]
        messages = _messages(chunks)
        answer = Answer()
        done = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if messages and (leave is None or not leave.is_set()):
                return messages.pop(0)
            waits = [asyncio.create_task(done.wait())]
            if leave is not None:
                waits.append(asyncio.create_task(leave.wait()))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                assert answer.status == 0, "two response starts"
                answer.status = message["status"]
                answer.header_list = list(message["headers"])
                return
            assert answer.status, "body before start"
            assert not answer.complete, "body after the end"
            answer.body += message.get("body", b"")
            if not message.get("more_body", False):
                answer.complete = True
                done.set()

        await self.app(
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": method,
                "scheme": "http",
                "path": unquote(raw_path),
                "raw_path": raw_path.encode("latin-1"),
                "query_string": query.encode("latin-1"),
                "root_path": "",
                "headers": header_list,
                "client": ("127.0.0.1", 50000),
                "server": ("127.0.0.1", 8000),
                **scope,
            },
            receive,
            send,
        )
        if answer.complete and method != "HEAD" and "content-length" in answer.headers:
            assert int(answer.headers["content-length"]) == len(answer.body)
        return answer


def _messages(chunks: Iterable[bytes] | None) -> list[dict[str, Any]]:
    pieces = list(chunks or [b""])
    return [{"type": "http.request", "body": piece, "more_body": i < len(pieces) - 1} for i, piece in enumerate(pieces)]


@dataclass
class World:
    """A running application in virtual time.

    Attributes:
        lines: the log, one parsed JSON object a line.
    """

    app: Application
    client: Client
    context: Context
    log_text: list[str]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in "".join(self.log_text).splitlines()]


async def make_world(**settings: Any) -> World:
    """An application on the running loop's clock."""
    log_text: list[str] = []
    loaded = Settings(**settings)
    log = Log(loaded.log_level, loaded.log_format, log_text.append, lambda: WALL_TIME)
    context = Context(loaded, clock=asyncio.get_running_loop().time, wall_clock=lambda: WALL_TIME, log=log)
    app = Application(context)
    return World(app, Client(app), context, log_text)


def in_world(test: Callable[[World], Coroutine[Any, Any, T]], **settings: Any) -> T:
    """Run `test` with a fresh application in virtual time."""

    async def main() -> T:
        return await test(await make_world(**settings))

    return run_virtual(main())

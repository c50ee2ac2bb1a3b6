"""The stage of a demonstration: our own server in a thread, reached over its sockets like any other."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self

from asgi_fault.demo.evidence import Entries, Played
from asgi_fault.partitions import Partition
from asgi_fault.testing.server import HOST, ServerThread

ANSWER_WITHIN = 10.0  # seconds for the control plane, which answers in microseconds


class StageError(RuntimeError):
    """The server refused what a demonstration asked of it: a defect of the demonstration."""


class Stage:
    """A server on a free port, with wire faults; a context manager.

    Args:
        seed: of the server's randomness, and with its chapter's name of the client's.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._engine = ServerThread(seed=seed)
        self.url = self._engine.base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.stop()

    def play(self, name: str, rules: Sequence[Mapping[str, Any]], code: Callable[[str], Awaitable[object]]) -> Played:
        """Set `rules` in the partition `name`, run the client's `code` against it, and read what the server saw.

        Jitter is drawn from the module `random`, as in any program; here it is seeded, and left as it was.
        """
        self._ask("DELETE", name, "/faults")
        self._ask("DELETE", name, "/journal")
        self._ask("POST", name, "/faults", {"rules": list(rules)})
        clock = self._engine.context.clock
        chance = random.getstate()
        random.seed(f"{self._seed} {name}")
        error = None
        began_at = clock()
        try:
            asyncio.run(_run(code, f"{self.url}/~{name}"))
        except Exception as raised:  # noqa: BLE001 - shown as what the client's code came to
            error = raised
        finally:
            random.setstate(chance)
        seconds = clock() - began_at
        return Played(self._journal(name), began_at, seconds, error)

    def _journal(self, name: str) -> Entries:
        """What arrived, once the server knows how all of it ended."""
        context = self._engine.context

        def partition() -> Partition:
            return context.partitions.get(name, context.clock())

        self._engine.settle(self._engine.run(partition))
        entries: Entries = self._ask("GET", name, "/journal")["entries"]
        return entries

    def _ask(self, method: str, name: str, path: str, document: object = None) -> Any:
        connection = HTTPConnection(HOST, self._engine.port, timeout=ANSWER_WITHIN)
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, f"/~{name}{path}", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 300:
            raise StageError(f"{method} {path} was answered {answer.status}: {text}")
        return json.loads(text)


async def _run(code: Callable[[str], Awaitable[object]], url: str) -> None:
    await code(url)

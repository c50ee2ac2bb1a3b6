"""The callable without a socket: nanoseconds per request with a `send` that does nothing.

Nothing on the fast path suspends, so the coroutine is driven by hand and no event loop is needed; one that did suspend
would be reported as an error.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from asgi_fault.application import Application
from asgi_fault.config import Settings
from asgi_fault.context import Context
from benchmarks.errors import BenchmarkError
from benchmarks.peers import bare
from benchmarks.timing import Loop, nanoseconds

NEW_KEYS = 20_000  # twenty times the cache: each has been evicted long before it comes again
CACHED_KEYS = 100


def measure(*, rounds: int, calls: int) -> dict[str, float]:
    """Nanoseconds per request, by variant."""
    application = Application(Context(Settings(journal_size=0)))
    loops = {
        "bare ASGI callable": _loop(bare.app, [_scope()]),
        "/msg without key": _loop(application, [_scope()]),
        "/msg, a new key each": _loop(application, [_scope(b"new-%032d" % number) for number in range(NEW_KEYS)]),
        "/msg, cached keys": _loop(
            Application(Context(Settings(journal_size=0))),
            [_scope(b"old-%032d" % number) for number in range(CACHED_KEYS)],
        ),
        "/msg with the journal on": _loop(Application(Context(Settings())), [_scope()]),
    }
    return nanoseconds(loops, rounds=rounds, calls=calls)


def _scope(key: bytes | None = None) -> dict[str, Any]:
    """A scope as uvicorn makes it."""
    headers = [(b"host", b"127.0.0.1")]
    if key is not None:
        headers.append((b"x-request-id", key))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50_000),
        "scheme": "http",
        "root_path": "",
        "headers": headers,
        "state": {},
        "method": "GET",
        "path": "/msg",
        "raw_path": b"/msg",
        "query_string": b"",
    }


async def _send(_: Any) -> None:
    return


async def _receive() -> Any:
    raise BenchmarkError("the fast path read the request body")


def _loop(application: Any, scopes: Sequence[dict[str, Any]]) -> Loop:
    endless = cycle(scopes)

    def loop(calls: int) -> None:
        for scope, _ in zip(endless, range(calls), strict=False):
            try:
                application(scope, _receive, _send).send(None)
            except StopIteration:
                continue
            raise BenchmarkError("the fast path suspended")

    return loop

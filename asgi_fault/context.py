"""What all requests of one application share: settings, clocks, log, metrics, partitions, whether it stops."""

import time
from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any

from asgi_fault.config import Settings
from asgi_fault.docs import Documents
from asgi_fault.errors import Unavailable
from asgi_fault.observe.logs import Log
from asgi_fault.partitions import Partitions
from asgi_fault.ports import Ports
from asgi_fault.routing import Operation

Clock = Callable[[], float]


class Stopping:
    """Whether the server is on its way down, and everything that waits and must not hold it up.

    uvicorn ends the lifespan only after all connections are done, so a stall or a stream that ignored this would
    hold it for ever.

    Args:
        at_once: called when it begins.
    """

    def __init__(self, at_once: Callable[[], None] = lambda: None) -> None:
        self.begun = False
        self._at_once = at_once
        self._waiting: set[Future[Any]] = set()

    def begin(self) -> None:
        """Wake all that wait with a 503. Harmless when repeated."""
        self.begun = True
        self._at_once()
        for future in self._waiting:
            _fail(future)
        self._waiting.clear()

    def end(self) -> None:
        """Serve again: a new lifespan has begun."""
        self.begun = False

    def add(self, future: "Future[Any]") -> None:
        """`future` is to fail when the server stops, which may be at once."""
        if self.begun:
            _fail(future)
        else:
            self._waiting.add(future)

    def discard(self, future: "Future[Any]") -> None:
        """`future` no longer waits."""
        self._waiting.discard(future)


def _fail(future: "Future[Any]") -> None:
    if not future.done():
        future.set_exception(Unavailable("The server is stopping."))


class Context:
    """One application's shared state.

    Args:
        settings: checked settings.
        clock: seconds of a monotonic clock.
        wall_clock: Unix seconds; only ever shown, never decided on.
        log: where events are written; None makes one from the settings.

    Attributes:
        errors: answered errors by `(error class, status)`, for the metrics.
        operations: everything that counts requests; set by the application.
        documents: the pages and documents about the route table; set by the application.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
        log: Log | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.wall_clock = wall_clock
        self.log = log or Log(settings.log_level, settings.log_format, wall_clock=wall_clock)
        self.started_at = clock()
        self.partitions = Partitions(settings, clock, wall_clock)
        self.ports = Ports(settings, clock, self.log)
        self.stopping = Stopping(self.ports.stop)
        self.errors: dict[tuple[str, int], int] = {}
        self.operations: Sequence[Operation] = ()
        self.documents: Documents = Documents(())

    def uptime(self) -> float:
        """Seconds since the application was made."""
        return self.clock() - self.started_at

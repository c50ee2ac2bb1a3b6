"""An application for tests: made of arguments alone, silent, with the clock that skipped sleeps put forward.

Whatever reads or changes it goes through `run`: the thread that serves is the only one that touches its state.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from asgi_fault.application import Application
from asgi_fault.config import Settings
from asgi_fault.context import Context
from asgi_fault.observe.logs import Log
from asgi_fault.partitions import Partition
from asgi_fault.testing.sleeps import clock

T = TypeVar("T")

LINES_MAX = 1000
DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    # A test fails on command only: not because a hundred of its clients wait, nor because a debugger took its time.
    "max_concurrency": 1000,
    "request_timeout": 300.0,
    "queue_timeout": 300.0,
    "partition_idle_seconds": 86_400.0,
    "log_level": "WARNING",
    "log_format": "console",
}


class Engine:
    """An application in the thread of the test.

    Args:
        settings: by field name of `Settings`, over `DEFAULTS`. Nothing is read from the environment or from `.env`.

    Attributes:
        base_url: what URLs begin with, without a partition.
        lines: the latest log lines. written: how many there were.
        wire: whether faults below HTTP are possible.
    """

    base_url = "http://fault.test"
    wire = False

    def __init__(self, **settings: Any) -> None:
        self.lines: deque[str] = deque(maxlen=LINES_MAX)
        self.written = 0
        self.settings = Settings(**{**DEFAULTS, **settings})
        log = Log(self.settings.log_level, self.settings.log_format, self._write, time.time)
        self.context = Context(self.settings, clock=clock, log=log)
        self.application = Application(self.context)

    def _write(self, line: str) -> None:
        self.lines.append(line)
        self.written += 1

    def run(self, function: Callable[[], T]) -> T:
        """What `function` returns, called where the state may be touched."""
        return function()

    def settle(self, partition: Partition) -> int:
        """Let the server notice what clients have done until now; how many requests are still under way."""
        return partition.requests

    def open_port(self, partition: str) -> int:
        """Open another port whose requests belong to `partition`; its number."""
        raise NotImplementedError

    def close_port(self, port: int) -> None:
        """Close a port that `open_port` has opened."""
        raise NotImplementedError

    def stop(self) -> None:
        """End what was started. Harmless when repeated."""

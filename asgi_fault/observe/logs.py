"""Log lines: one JSON object (or one readable line) an event, buffered, written by size and by time.

A level that is off costs one attribute look-up: callers ask `debug_on` before they put a line together. The line of a
request is a template, because `logging` with a JSON formatter costs twelve times as much.

Events: `server.start`, `server.stop`, `fault.set`, `fault.reset`, `port.open`, `port.close` at INFO;
`request.complete`, `queue.wait`, `queue.acquire`, `cache.hit`, `cache.miss`, `fault.induced` at DEBUG; `send.failed`,
`port.lost`, `port.accept` at WARNING; `request.failed` (a defect of ours) at ERROR.
"""

import atexit
import json
import sys
import time
import traceback
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quote
from typing import Any

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
LOGGER = "asgi_fault"
FLUSH_SIZE = 64 * 1024  # bytes of waiting lines that are written at once
FLUSH_AFTER = 0.2  # seconds a line waits at most while a loop runs

Write = Callable[[str], object]


def write_to_stdout(text: str) -> None:
    """Write to standard output; a reader that went away is no reason to fail a request."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        return


class Log:
    """Where a server writes its events.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        form: `json` or `console`.
        write: takes finished lines; the tests' seam.
        wall_clock: Unix seconds.

    Attributes:
        debug_on, info_on: whether a line of that level would be written.
    """

    def __init__(
        self,
        level: str = "INFO",
        form: str = "json",
        write: Write = write_to_stdout,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._threshold = LEVELS[level]
        self._console = form == "console"
        self._write = write
        self._wall_clock = wall_clock
        self._second = -1
        self._second_text = ""
        self._waiting: list[str] = []
        self._waiting_size = 0
        self._loop: AbstractEventLoop | None = None
        self._flush_timer: TimerHandle | None = None
        self.debug_on = self._threshold <= LEVELS["DEBUG"]
        self.info_on = self._threshold <= LEVELS["INFO"]

    def buffer_on(self, loop: AbstractEventLoop) -> None:
        """Let lines wait up to `FLUSH_AFTER` seconds; `loop` writes them. Without it each is written at once."""
        self._loop = loop
        atexit.register(self.flush)

    def flush(self) -> None:
        """Write every line that waits."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._waiting_size = 0
            self._write(text)

    def close(self) -> None:
        """Write what waits, and wait no longer from here on."""
        self.flush()
        self._loop = None
        atexit.unregister(self.flush)

    def debug(self, event: str, message: str, **fields: Any) -> None:
        """A line for somebody who looks at single requests."""
        self._event("DEBUG", event, message, fields)

    def info(self, event: str, message: str, **fields: Any) -> None:
        """A line for the operator: rare, and worth reading."""
        self._event("INFO", event, message, fields)

    def warning(self, event: str, message: str, **fields: Any) -> None:
        """A line that asks for a look."""
        self._event("WARNING", event, message, fields)

    def failure(self, event: str, message: str, error: BaseException, **fields: Any) -> None:
        """A defect of ours, with its traceback: it goes here and nowhere else."""
        fields["exc_info"] = "".join(traceback.format_exception(error))
        self._event("ERROR", event, message, fields)

    def request(
        self, method: str, path: str, status: int, seconds: float, request_id: bytes, correlation_id: bytes
    ) -> None:
        """The line of one finished request, at DEBUG: ask `debug_on` first."""
        milliseconds = seconds * 1000
        if self._console:
            text = f"{quote(method)[1:-1]} {quote(path)[1:-1]} {status} {milliseconds:.2f} ms"
            self._put(f"{self._timestamp()} DEBUG   {text} request_id={request_id.decode('ascii')}\n")
            return
        self._put(
            f'{{"message":"HTTP request completed","event":"request.complete","level":"debug","logger":"{LOGGER}",'
            f'"timestamp":"{self._timestamp()}","correlation_id":"{correlation_id.decode("ascii")}",'
            f'"method":{quote(method)},"path":{quote(path)},"status_code":{status},'
            f'"duration_ms":{milliseconds:.2f},"request_id":{quote(request_id.decode("ascii"))}}}\n'
        )

    def _event(self, level: str, event: str, message: str, fields: dict[str, Any]) -> None:
        if LEVELS[level] < self._threshold:
            return
        if self._console:
            trace = fields.pop("exc_info", "")
            more = "".join(f" {key}={value!r}" for key, value in fields.items())
            self._put(f"{self._timestamp()} {level:<7} {message} [{event}]{more}\n{trace}")
        else:
            line = {"message": message, "event": event, "level": level.lower(), "logger": LOGGER}
            self._put(json.dumps({**line, "timestamp": self._timestamp(), **fields}, default=str) + "\n")
        if level != "DEBUG":
            self.flush()

    def _put(self, line: str) -> None:
        self._waiting.append(line)
        self._waiting_size += len(line)
        if self._loop is None or self._waiting_size > FLUSH_SIZE:
            self.flush()
        elif self._flush_timer is None:
            self._flush_timer = self._loop.call_later(FLUSH_AFTER, self.flush)

    def _timestamp(self) -> str:
        """RFC 3339 with milliseconds, in UTC; the part down to the second is formatted once a second."""
        now = self._wall_clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((now - second) * 1000):03d}Z"

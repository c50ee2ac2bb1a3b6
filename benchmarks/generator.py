"""The load generator: keep-alive connections on plain asyncio protocols, one request under way on each.

Closed loop: a connection sends its next request when it has the answer to the last. Answers are not parsed but
compared: status 200, and a body of exactly the expected length. What does not compare equal at once goes through
`_judge`, which reads the framing.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from itertools import count, cycle, repeat
from time import perf_counter, process_time_ns
from types import TracebackType
from typing import Self, cast

from benchmarks.cases import Keys
from benchmarks.errors import BenchmarkError

HOST = "127.0.0.1"
PATIENCE = 10.0  # seconds the last answers of a phase may take
CACHED_KEYS = 100  # far less than the 1000 entries of the cache
BODY_LENGTH = len('{"message_id":"6f1d1b1e-0a53-4cf0-9d5c-6d1f3b1f0a11"}')

_GOOD = b"HTTP/1.1 200 "
_HEAD_END = b"\r\n\r\n"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PLAIN = b"GET /msg HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
_WITH_KEY = b"GET /msg HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: %08x-0000-4000-8000-%012x\r\n\r\n"


def requests_with(keys: Keys, seed: int) -> Iterator[bytes]:
    """Endless requests; keep the iterator for the whole run, so that new keys stay new."""
    if keys is Keys.NONE:
        return repeat(_PLAIN)
    if keys is Keys.REPEATED:
        return cycle([_WITH_KEY % (seed & 0xFFFFFFFF, 0xFFFF_0000_0000 + number) for number in range(CACHED_KEYS)])
    return (_WITH_KEY % (seed & 0xFFFFFFFF, number) for number in count())


class Phase:
    """What one stretch of load brought.

    Attributes:
        latencies: seconds from the request to the last byte of its answer, one for each answer.
        seconds: from the first request to the last answer.
        bad: answers with another status or length than expected.
        generator_cpu_ns: what this process itself spent meanwhile.
    """

    __slots__ = ("bad", "generator_cpu_ns", "latencies", "seconds")

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.seconds = 0.0
        self.bad = 0
        self.generator_cpu_ns = 0


class Load:
    """Connections to one server. A context manager; `run` may be called many times meanwhile."""

    def __init__(self, port: int, connections: int, next_request: Callable[[], bytes]) -> None:
        self.next_request = next_request
        self.phase = Phase()
        self.until = 0.0
        self._port = port
        self._size = connections
        self._connections: list[_Connection] = []
        self._under_way = 0
        self._done: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for _ in range(self._size):
            _, connection = await loop.create_connection(lambda: _Connection(self), HOST, self._port)
            self._connections.append(connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done = None
        for connection in self._connections:
            connection.close()

    async def run(self, seconds: float) -> Phase:
        """Load the server for `seconds`, and return when every request has its answer.

        Raises:
            BenchmarkError: a connection was lost, or answers stayed away.
        """
        self.phase = phase = Phase()
        self._done = asyncio.get_running_loop().create_future()
        self._under_way = self._size
        cpu_before = process_time_ns()
        begun_at = perf_counter()
        self.until = begun_at + seconds
        for connection in self._connections:
            connection.send(perf_counter())
        try:
            await asyncio.wait_for(self._done, seconds + PATIENCE)
        except TimeoutError:
            raise BenchmarkError(f"{self._under_way} requests had no answer after {PATIENCE:g} s") from None
        phase.seconds = perf_counter() - begun_at
        phase.generator_cpu_ns = process_time_ns() - cpu_before
        return phase

    def rest(self) -> None:
        """A connection has its last answer of this phase."""
        self._under_way -= 1
        if not self._under_way and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def lost(self, reason: Exception | None) -> None:
        """The server closed a connection."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(BenchmarkError(f"the server closed a connection: {reason or 'no reason given'}"))


class _Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._pending = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(exc)

    def send(self, now: float) -> None:
        self._sent_at = now
        self._write(self._load.next_request())

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        load = self._load
        if self._pending:
            data = self._pending + data
            self._pending = b""
        if not data.startswith(_GOOD) or data.find(_HEAD_END) + 4 + BODY_LENGTH != len(data):
            good = _judge(data)
            if good is None:
                self._pending = data
                return
            load.phase.bad += not good
        load.phase.latencies.append(now - self._sent_at)
        if now < load.until:
            self._sent_at = now
            self._write(load.next_request())
        else:
            load.rest()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _judge(data: bytes) -> bool | None:
    """Whether `data` is the expected answer; None while it is not complete."""
    head_end = data.find(_HEAD_END)
    if head_end < 0:
        return None
    length = _CONTENT_LENGTH.search(data, 0, head_end)
    if length is None:
        return False
    received = len(data) - head_end - 4
    if received < int(length[1]):
        return None
    return data.startswith(_GOOD) and received == int(length[1]) == BODY_LENGTH

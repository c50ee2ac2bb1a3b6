"""One exchange: a request on its way to its answer, and the one place where it may wait.

Whatever an exchange waits for (its turn, a delay, its body, another request's answer) it waits for in `wait_for`,
which ends at the first of: the thing itself, the deadline, the client's disappearance, the server's stop. Nothing
that does not wait pays for a timer or a task.
"""

import math
from asyncio import Future, get_running_loop, timeout
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, TypeVar

from asgi_fault.asgi import Message, Receive, Scope
from asgi_fault.context import Context
from asgi_fault.errors import BodyTooLarge, HTTPError, RequestTimedOut, Unavailable
from asgi_fault.faults.checks import Loc
from asgi_fault.faults.wire import EXTENSION, Wire
from asgi_fault.parameters import query_values
from asgi_fault.partitions import Partition

T = TypeVar("T")

NO_PARAMS: Mapping[str, str] = MappingProxyType({})


NEVER = RequestTimedOut("Request timeout")
"""What a wait without an end would end with."""


class Disconnected(Exception):
    """The client has left; whoever worked for it stops."""


class Exchange:
    """One request and what is known of its answer.

    Attributes:
        headers: request headers by lower-case name; of a repeated one the last. `scope["headers"]` has all.
        partition: whose faults, cache and slots apply.
        arrived_at: the clock when the request came in; the one clock reading that decisions use.
        waited: seconds spent in the queue; the time limit does not count them.
        request_id: the client's `X-Request-ID` when it is well formed, else a fresh one; echoed in the answer.
        params: path parameters, still text.
        prefix: what every URL we write has to begin with: the mount point and the `/~NAME` the client used.
        done_at: the clock just before the last byte of the answer was written; 0.0 until then.
        status: what a fault has sent so far; 0 before the head.
        rule, step: the fault rule that decided what happens, for the journal.
        inline_fault: a fault that came with the request, and where it stood.
        body: the whole request body, once `read_body` is through.
        discards_body: nobody will want the body, so what is past the bound is thrown away instead of left unread.
    """

    # Defaults stand on the class, because the hot path does not need them set.
    params: Mapping[str, str] = NO_PARAMS
    prefix = ""
    body = b""
    waited = 0.0
    done_at = 0.0
    status = 0
    rule = ""
    step = -1
    inline_fault: tuple[str, Loc] | None = None
    discards_body = False
    _path: str | None = None
    _chunks: "list[bytes] | None" = None
    _size = 0
    _complete = False
    _wants_body: "Future[None] | None" = None

    def __init__(
        self,
        context: Context,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, bytes],
        partition: Partition,
        arrived_at: float,
        request_id: bytes,
    ) -> None:
        self.context = context
        self.scope = scope
        self.receive = receive
        self.headers = headers
        self.partition = partition
        self.arrived_at = arrived_at
        self.request_id = request_id

    @property
    def path(self) -> str:
        """The path without mount point, partition prefix and percent-encoding."""
        return self.scope["path"] if self._path is None else self._path

    def locate(self, path: str, prefix: str) -> None:
        """Set what the path and the prefix of our URLs are, when the target is not simply a path of ours."""
        self._path, self.prefix = path, prefix

    @property
    def wire(self) -> Wire | None:
        """The connection beneath, under a server that runs our protocol."""
        extensions = self.scope.get("extensions")
        return extensions.get(EXTENSION) if extensions else None

    @property
    def query(self) -> dict[str, str]:
        """The query parameters, last value first come; parsed at each use."""
        return query_values(self.scope["query_string"])

    @property
    def deadline(self) -> float:
        """The instant after which this exchange is answered 408."""
        return self.arrived_at + self.waited + self.context.settings.request_timeout

    def header_values(self, name: bytes) -> list[bytes]:
        """Every value of the header `name` (lower case), in order."""
        return [value for key, value in self.scope["headers"] if key == name]

    async def enter(self) -> None:
        """Wait for a slot of the partition. Call only when none is free.

        Raises:
            Unavailable: the queue is full, the wait took too long, or the server stops.
            Disconnected: the client left while it waited.
        """
        slots = self.partition.slots
        settings = self.context.settings
        log = self.context.log
        if len(slots.waiters) >= settings.queue_limit:
            raise Unavailable(
                f"All {slots.limit} slots are taken and {settings.queue_limit} requests wait already.",
                details={"limit": "SERVER_QUEUE_LIMIT"},
            )
        turn: Future[None] = get_running_loop().create_future()
        slots.waiters.append(turn)
        if log.debug_on:
            log.debug("queue.wait", "Waiting for a slot", waiting=len(slots.waiters), partition=self.partition.name)
        too_late = Unavailable(
            f"No slot became free within {settings.queue_timeout:g} s.",
            details={"limit": "SERVER_QUEUE_TIMEOUT"},
        )
        try:
            await self.wait_for(turn, until=self.arrived_at + settings.queue_timeout, otherwise=too_late)
        except BaseException:
            slots.withdraw(turn)
            raise
        self.waited = self.context.clock() - self.arrived_at
        if log.debug_on:
            waited_ms = round(self.waited * 1000, 2)
            log.debug("queue.acquire", "Got a slot", waited_ms=waited_ms, partition=self.partition.name)

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds`.

        Raises:
            RequestTimedOut: the deadline comes first, or at the same instant.
            Unavailable: the server stops. Disconnected: the client left.
        """
        loop = get_running_loop()
        over: Future[None] = loop.create_future()
        if self.context.clock() + seconds < self.deadline:
            timer = loop.call_later(seconds, _give, over, None)
            try:
                await self.wait_for(over)
            finally:
                timer.cancel()
        else:
            await self.wait_for(over)

    async def hold(self, seconds: float | None) -> None:
        """Wait for `seconds`, or for ever, whatever the deadline: what a fault rule does is outside of it.

        Raises:
            Unavailable: the server stops. Disconnected: the client left.
        """
        loop = get_running_loop()
        over: Future[None] = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _give, over, None)
        try:
            await self.wait_for(over, until=math.inf, otherwise=NEVER)
        finally:
            if timer is not None:
                timer.cancel()

    async def gone(self) -> None:
        """Wait until the server has noticed that the connection is over."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def read_body(self, limit: int) -> bytes:
        """The request body, also kept as `body`.

        Raises:
            BodyTooLarge: it is longer than `limit` bytes, whether it says so beforehand or not.
            RequestTimedOut, Unavailable, Disconnected: as `wait_for`.
        """
        declared = self.headers.get(b"content-length", b"")
        too_large = BodyTooLarge(
            f"The request body is larger than {limit} bytes.",
            details={"limit": "SERVER_MAX_BODY", "max_bytes": limit},
        )
        if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
            raise too_large
        self._wants_body = get_running_loop().create_future()
        if self._complete or self._size > limit:
            self._wants_body.set_result(None)
        await self.wait_for(self._wants_body)
        if self._size > limit:
            raise too_large
        self.body = b"".join(self._chunks or ())
        self._chunks = None
        return self.body

    async def peek_body(self) -> bytes:
        """The request body, or what comes of it before `SERVER_MAX_BODY` is passed, also kept as `body`.

        Unlike `read_body` it takes nothing away: `rest` gives it all again.

        Raises:
            Unavailable, Disconnected: as `hold`.
        """
        self._wants_body = get_running_loop().create_future()
        if self._complete or self._size > self.context.settings.max_body:
            self._wants_body.set_result(None)
        await self.wait_for(self._wants_body, until=math.inf, otherwise=NEVER)
        self.body = b"".join(self._chunks or ())
        return self.body

    def rest(self) -> Receive:
        """A `receive` for whoever reads the request after us: what came while we waited, then what still comes."""
        if not self._chunks and not self._complete:
            return self.receive
        first: Message | None = {
            "type": "http.request",
            "body": b"".join(self._chunks or ()),
            "more_body": not self._complete,
        }
        self._chunks = None

        async def receive() -> Message:
            nonlocal first
            if first is None:
                return await self.receive()
            message, first = first, None
            return message

        return receive

    async def wait_for(self, future: "Future[T]", *, until: float = 0.0, otherwise: HTTPError | None = None) -> T:
        """Wait until `future` is done. Its result also decides races: what is set first holds.

        Args:
            future: is given a result by whoever it waits for, or an exception by one of the three below.
            until: the instant at which waiting ends; counts only with `otherwise`.
            otherwise: what it ends with then; left out, it is the deadline and a 408.

        Raises:
            HTTPError: `otherwise`, or Unavailable when the server stops.
            Disconnected: the client left.
        """
        loop = get_running_loop()
        stopping = self.context.stopping
        if otherwise is None:
            until, otherwise = self.deadline, RequestTimedOut("Request timeout")
        timer = None
        if until != math.inf:
            timer = loop.call_later(until - self.context.clock(), _fail, future, otherwise)
        watcher = loop.create_task(self._watch_client(future))
        stopping.add(future)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            watcher.cancel()
            stopping.discard(future)

    async def _watch_client(self, future: "Future[Any]") -> None:
        """Read what the client sends while we wait: pieces of the body, or its disappearance."""
        if self._chunks is None:
            self._chunks = []
        limit = self.context.settings.max_body
        # Past the limit nothing more is read: the server's flow control holds the client back.
        while self._size <= limit or self.discards_body:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                _fail(future, Disconnected())
                return
            piece = message.get("body", b"")
            if piece:
                if self._size <= limit:
                    self._chunks.append(piece)
                self._size += len(piece)
            self._complete = self._complete or not message.get("more_body", False)
            if (self._complete or self._size > limit) and self._wants_body is not None:
                _give(self._wants_body, None)

    async def linger(self, seconds: float, size: int) -> None:
        """Swallow what the client still sends, up to `size` bytes within `seconds`.

        Closing at once would reset the connection, and the client could lose the answer it was just given (RFC 9112
        section 9.6).
        """
        received = 0
        with suppress(TimeoutError):
            async with timeout(seconds):
                while received < size:
                    message = await self.receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
                    received += len(message.get("body", b""))


def _give(future: "Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

"""A bulkhead: how many attempts may be in flight, and who is next when one ends.

A slot that becomes free is handed to the next waiter without ever being free, so no newcomer overtakes. A waiter that
gives up leaves its ticket behind, dead; dead tickets are skipped, and swept when they are more than the living.
"""

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from sansio_client.checks import check_count, check_seconds
from sansio_client.errors import SettingError

SWEEP_FROM = 32  # dead tickets below which a sweep would cost more than it frees


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadSettings:
    """How many attempts at once, and how the others wait.

    Attributes:
        limit: attempts in flight at once, 1 to 1 000 000; 100 is the size of httpx's connection pool.
        queue_limit: attempts that may wait for a slot, 0 or more; one more is refused as `full`. Envoy's max_pending
            is 1024.
        queue_timeout: seconds an attempt waits for a slot at most, `inf` for as long as its deadline allows.
        order: who is next: `fifo`, or `lifo`, which keeps some waits short when all are too long.
    """

    limit: int = 100
    queue_limit: int = 1000
    queue_timeout: float = 5.0
    order: Literal["fifo", "lifo"] = "fifo"

    def __post_init__(self) -> None:
        check_count("bulkhead.limit", self.limit, 1, 1_000_000)
        check_count("bulkhead.queue_limit", self.queue_limit)
        check_seconds("bulkhead.queue_timeout", self.queue_timeout)
        if self.order not in ("fifo", "lifo"):
            raise SettingError("bulkhead.order", self.order, "'fifo' or 'lifo'")

    def make(self) -> "Bulkhead":
        """A bulkhead with all slots free."""
        return Bulkhead(self.limit, queue_limit=self.queue_limit, lifo=self.order == "lifo")


class Ticket:
    """A place in the queue. `waiter` is None once it has been served or given up."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: Any) -> None:
        self.waiter: Any = waiter


class Bulkhead:
    """Counts slots and keeps the queue; knows no time. `used` may exceed `limit` only after `resize` has shrunk it.

    Somebody waits only while no slot is free: `live > 0` implies `used >= limit`.
    """

    __slots__ = ("_queue", "lifo", "limit", "live", "queue_limit", "used")

    def __init__(self, limit: float = inf, *, queue_limit: int = 0, lifo: bool = False) -> None:
        self.limit = limit
        self.used = 0
        self.live = 0  # waiters that have not given up
        self.queue_limit = queue_limit
        self.lifo = lifo
        self._queue: deque[Ticket] | None = None  # made when somebody waits: an empty deque is 760 bytes

    def acquire(self) -> bool:
        """Take a slot if one is free; never waits, never overtakes."""
        if self.used < self.limit:
            self.used += 1
            return True
        return False

    def enqueue(self, waiter: Any) -> Ticket | None:
        """Queue `waiter`, which must not be None; None is returned when the queue is full."""
        if self.live >= self.queue_limit:
            return None
        if self._queue is None:
            self._queue = deque()
        ticket = Ticket(waiter)
        self._queue.append(ticket)
        self.live += 1
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """The waiter of `ticket` no longer waits. Does nothing when it has been served or has given up before."""
        if ticket.waiter is None:
            return
        ticket.waiter = None
        self.live -= 1
        if not self.live:
            self._queue = None
        elif self._queue is not None and len(self._queue) > 2 * self.live + SWEEP_FROM:
            self._queue = deque(kept for kept in self._queue if kept.waiter is not None)

    def release(self) -> Any:
        """Give one slot back. Returns the waiter it was handed to, who holds it from now on, or None."""
        if self.used > self.limit or not self.live:
            self.used -= 1
            return None
        return self._next()

    def resize(self, limit: float) -> list[Any]:
        """Change the number of slots; returns the waiters who got one, in order.

        Shrinking takes nothing away from those in flight: slots that come back vanish until `used` fits.
        """
        self.limit = limit
        served = []
        while self.live and self.used < self.limit:
            self.used += 1
            served.append(self._next())
        return served

    def _next(self) -> Any:
        queue = self._queue
        assert queue is not None, "somebody waits, so there is a queue"
        while True:
            ticket = queue.pop() if self.lifo else queue.popleft()
            waiter = ticket.waiter
            if waiter is not None:
                ticket.waiter = None
                self.live -= 1
                if not self.live:
                    self._queue = None
                return waiter

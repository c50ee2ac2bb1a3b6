"""Admission: how many requests of one partition may be inside at once, and who is next.

A counter and a deque, not a task or a semaphore: entering a free slot is one comparison and one subtraction, which
`application` does itself. While anybody waits `free` is 0, and a slot that becomes free is handed to the longest
waiter without ever being free, so nobody who comes later can overtake.
"""

from asyncio import Future
from collections import deque


class Slots:
    """The slots of one partition.

    Attributes:
        limit: how many requests may be inside at once.
        free: slots nobody holds; the hot path takes one with `free -= 1` when it is positive.
        waiters: the futures of those who wait, oldest first. One that is done has given up.
    """

    __slots__ = ("free", "limit", "waiters")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.free = limit
        self.waiters: deque[Future[None]] = deque()

    def release(self) -> None:
        """Give a slot back: to the longest waiter that is still there, else to everybody."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1

    def withdraw(self, waiter: "Future[None]") -> None:
        """The request behind `waiter` will not come in: leave the queue, or hand on the slot it was just given."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.release()
            return
        try:
            self.waiters.remove(waiter)
        except ValueError:
            return  # a release has already passed it over

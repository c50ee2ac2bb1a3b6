"""The journal of a partition: its last arrivals and what became of them, kept raw and made readable when asked for.

While requests run, an arrival costs one `append` of a tuple (`Entry`) to a bounded deque. Attempts, gaps, connections
and redaction are worked out by whoever reads, in time proportional to what is kept. Only while somebody follows the
journal is each entry made readable at once, and once for all followers.

Entries lie in the order in which they ended, which is not that of their ordinals when requests overlap. So a cursor
(`after`) is a place in that order: it never skips a request that came early and ended late.
"""

import json
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from asgi_fault.observe.attempts import Calls, Connection, Entry, Facts, document

__all__ = ["Connection", "Entry", "Event", "Follower", "Journal", "to_line"]

FOLLOWERS_MAX = 32  # a journal
QUEUE_MAX = 1000  # events that wait for one follower


class Event(NamedTuple):
    """An entry on its way to followers: made readable and encoded once."""

    ordinal: int
    call: str
    line: bytes


class Follower:
    """What one reader of a live journal has not taken yet.

    Attributes:
        lost: events that were dropped, oldest first, because it did not take them in time; the reader sets it back.
        wakes: what the reader waits for, when it does; given a result by the next event.
    """

    __slots__ = ("_waiting", "lost", "wakes")

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque(maxlen=QUEUE_MAX)
        self.lost = 0
        self.wakes: Future[None] | None = None

    def put(self, event: Event) -> None:
        """Queue `event`, and drop the oldest when the queue is full."""
        if len(self._waiting) == QUEUE_MAX:
            self.lost += 1
        self._waiting.append(event)
        if self.wakes is not None and not self.wakes.done():
            self.wakes.set_result(None)

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Event:
        """The oldest event that waits.

        Raises:
            IndexError: there is none.
        """
        return self._waiting.popleft()


class Journal:
    """The last arrivals of one partition.

    Args:
        size: how many are kept.
        partition: its name.
        wall_offset: Unix seconds minus the monotonic clock that the entries are timed by.

    Attributes:
        append: writes an entry down. The deque's own method while nobody follows, so look it up for each entry.
    """

    __slots__ = ("_calls", "_entries", "_followers", "append", "partition", "size", "wall_offset")

    append: Callable[[Entry], None]

    def __init__(self, size: int, partition: str, wall_offset: float) -> None:
        self.size = size
        self.partition = partition
        self.wall_offset = wall_offset
        self._entries: deque[Entry] = deque(maxlen=size)
        self._followers: list[Follower] = []
        self._calls = Calls(size)
        self.append = self._entries.append

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        """Whether older entries may have been forgotten."""
        return len(self._entries) == self.size

    def clear(self) -> int:
        """Forget every entry; returns how many there were."""
        number = len(self._entries)
        self._entries.clear()
        self._calls = Calls(self.size)
        return number

    def entries(self, after: int = 0, limit: int | None = None, call: str | None = None) -> list[dict[str, Any]]:
        """The entries as JSON values, in order of arrival; see `page`."""
        return self.page(after, limit, call)[0]

    def page(
        self, after: int = 0, limit: int | None = None, call: str | None = None
    ) -> tuple[list[dict[str, Any]], int]:
        """The first `limit` entries of `call` that ended after the entry `after`, and the `after` of the next page.

        Within the page they stand in order of arrival. An `after` that is no longer kept means all entries with a
        greater ordinal.
        """
        entries = self._snapshot()
        calls, facts = self._facts(entries)
        found: list[dict[str, Any]] = []
        for entry in _since(entries, after):
            if len(found) == limit:
                break
            after = entry[0]
            if call is None or facts[after].call == call:
                found.append(document(entry, facts[after], calls, self.partition, self.wall_offset))
        return sorted(found, key=itemgetter("ordinal")), after

    def follow(self, after: int = 0) -> tuple[Follower, Iterator[Event]] | None:
        """A follower of all that is still to come, and the events that ended after the entry `after`, oldest first.

        None when `FOLLOWERS_MAX` follow already. The caller owes an `unfollow`. What lies in the journal is made
        readable as the iterator is used; what comes later is numbered in the order in which it ends.
        """
        if len(self._followers) >= FOLLOWERS_MAX:
            return None
        entries = self._snapshot()
        calls, facts = self._facts(entries)
        if not self._followers:
            self._calls = calls
            self.append = self._append_and_tell
        follower = Follower()
        self._followers.append(follower)
        return follower, (self._event(entry, facts[entry[0]], calls) for entry in _since(entries, after))

    def unfollow(self, follower: Follower) -> None:
        """`follower` is told nothing more. Harmless when repeated."""
        if follower in self._followers:
            self._followers.remove(follower)
        if not self._followers:
            self.append = self._entries.append

    def _append_and_tell(self, entry: Entry) -> None:
        self._entries.append(entry)
        event = self._event(entry, self._calls.add(entry), self._calls)
        for follower in self._followers:
            follower.put(event)

    def _event(self, entry: Entry, facts: Facts, calls: Calls) -> Event:
        line = to_line(document(entry, facts, calls, self.partition, self.wall_offset))
        return Event(entry[0], facts.call, line)

    def _facts(self, entries: list[Entry]) -> tuple[Calls, dict[int, Facts]]:
        """The facts about each entry by its ordinal, and what they were worked out with."""
        calls = Calls(self.size)
        return calls, {entry[0]: calls.add(entry) for entry in sorted(entries, key=itemgetter(0))}

    def _snapshot(self) -> list[Entry]:
        # A test may read the journal of a server that runs in another thread.
        while True:
            try:
                return list(self._entries)
            except RuntimeError:  # the deque changed meanwhile
                continue


def to_line(entry: dict[str, Any]) -> bytes:
    """An entry as one line of JSON, without its line end."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _since(entries: list[Entry], after: int) -> Iterator[Entry]:
    """What lies behind the entry with the ordinal `after`."""
    if after <= 0:
        return iter(entries)
    for place in range(len(entries) - 1, -1, -1):
        if entries[place][0] == after:
            return islice(entries, place + 1, None)
    return (entry for entry in entries if entry[0] > after)

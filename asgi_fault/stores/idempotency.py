"""The idempotency cache: the same key gets the same answer, for a time, also when the first requests come together.

Exact LRU (a hit refreshes) with a time to live counted from the first answer (a hit does not prolong it). Expired
entries go when they are asked for, and in a sweep that rides on an insertion now and then. `OrderedDict` because
removing the oldest key of a plain dict is quadratic over time.
"""

from asyncio import Future
from collections import OrderedDict, deque


class IdempotencyCache:
    """Answers by key. Every instant is seconds of one monotonic clock, handed in as `now`.

    Args:
        max_size: entries kept at most; the least recently used goes first.
        ttl: seconds an answer is valid for; at exactly `ttl` it still is.

    Attributes:
        hits, misses, evictions: counted since the start.
        flights: the keys whose first answer is being worked out, see `Flight`.
    """

    __slots__ = (
        "_entries",
        "_sweep_after",
        "_swept_at",
        "evictions",
        "flights",
        "hits",
        "max_size",
        "misses",
        "ttl",
    )

    def __init__(self, max_size: int, ttl: float) -> None:
        self.max_size = max_size
        self.ttl = ttl
        self.hits = self.misses = self.evictions = 0
        self.flights: dict[bytes, Flight] = {}
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._sweep_after = min(60.0, max(10.0, ttl * 0.1))
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> bytes | None:
        """The answer stored under `key`, or None when there is none or it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        stored_at, answer = entry
        if now - stored_at > self.ttl:
            del self._entries[key]
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return answer

    def put(self, key: bytes, answer: bytes, now: float) -> None:
        """Store `answer` under `key`; evicts the least recently used entry when full."""
        entries = self._entries
        if now - self._swept_at > self._sweep_after:
            self._sweep(now)
        entries[key] = (now, answer)
        if len(entries) > self.max_size:
            entries.popitem(last=False)
            self.evictions += 1

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        expired = [key for key, (stored_at, _) in self._entries.items() if now - stored_at > self.ttl]
        for key in expired:
            del self._entries[key]
        self.evictions += len(expired)


class Flight:
    """The first requests of one key that are under way together: one leads, the others follow.

    The leader works out the answer and calls `land`; every follower then has the same. A leader that fails,
    times out or loses its client calls `abandon`, and the oldest follower that is still there leads in its place:
    its future is given None instead of an answer.
    """

    __slots__ = ("_cache", "_followers", "_key")

    def __init__(self, cache: IdempotencyCache, key: bytes) -> None:
        self._cache = cache
        self._key = key
        self._followers: deque[Future[bytes | None]] = deque()
        cache.flights[key] = self

    def follow(self, future: "Future[bytes | None]") -> None:
        """`future` will be given the answer, or None when its owner has to lead."""
        self._followers.append(future)

    def land(self, answer: bytes, now: float) -> None:
        """The leader has the answer: store it and hand it to all followers."""
        del self._cache.flights[self._key]
        self._cache.put(self._key, answer, now)
        for follower in self._followers:
            if not follower.done():
                follower.set_result(answer)

    def abandon(self) -> None:
        """The leader has no answer: the oldest follower leads, or the flight is over."""
        while self._followers:
            follower = self._followers.popleft()
            if not follower.done():
                follower.set_result(None)
                return
        del self._cache.flights[self._key]

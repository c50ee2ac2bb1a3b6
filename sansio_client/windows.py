"""The results of the last calls, or of the last seconds, as running totals: what a failure rate is worked out from.

A window is settings (`CountWindow`, `TimeWindow`: frozen, shared) that make machines (`CountRing`, `TimeRing`: one for
each breaker). The machines have one shape, `Window`. Below them lies `BucketRing`, the one place here that knows how
time moves on; `budget` and `throttle` count with it, too.

A clock that goes back loses nothing and keeps nothing for longer: what was recorded "later" than now stays, what comes
next counts as newest, and all of it expires within the configured time from the new now.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from sansio_client.checks import check_count, check_seconds

LARGEST_COUNT = 4096  # results in a `CountRing`: as bits half a kilobyte, counted in a microsecond
LONGEST_WINDOW_SECONDS = 86_400.0


class Window(Protocol):
    """What a breaker asks of a window. The totals are right as of the last `record`, `record_successes` or `expire`."""

    @property
    def total(self) -> int:
        """How many results are in the window."""

    @property
    def failures(self) -> int:
        """How many of them failed."""

    @property
    def slow(self) -> int:
        """How many of them were slow, failed or not."""

    def record(self, now: float, failed: bool, slow: bool) -> None:  # noqa: FBT001 - two flags on the hot path
        """Count one result; what has expired by `now` is dropped first."""

    def record_successes(self, now: float, count: int) -> None:
        """Count `count` quick successes at once, in constant time: for who counts them and records them later."""

    def expire(self, now: float) -> None:
        """Drop what has expired by `now`; call it before reading totals without having recorded."""

    def clear(self) -> None:
        """Forget everything, as a breaker does when it closes."""


class WindowSettings(Protocol):
    """Settings that make a `Window`."""

    def make(self) -> Window:
        """Return a new, empty window."""


@dataclass(frozen=True, slots=True)
class CountWindow:
    """The last `size` results, forgotten altogether when `idle_seconds` pass without a failed or slow one.

    Default: 100 results, as resilience4j (FixedSizeSlidingWindowMetrics). There a window that saw no call all night is
    in the morning as sick, or as healthy, as it was; `idle_seconds` is ours, against that. A window without a bad
    result is forgotten `idle_seconds` after the last result of all.
    """

    size: int = 100
    idle_seconds: float = 60.0
    ones: int = field(init=False, repr=False, compare=False)  # `size` bits, all set; here, so the rings share it

    def __post_init__(self) -> None:
        check_count("size", self.size, 1, LARGEST_COUNT)
        check_seconds("idle_seconds", self.idle_seconds, 0.0)
        object.__setattr__(self, "ones", (1 << self.size) - 1)

    def make(self) -> "CountRing":
        """Return a new, empty ring."""
        return CountRing(self)


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """The results of the last `seconds`, in `buckets` that expire one by one.

    A result stays for at least `seconds` less one bucket, and never longer than `seconds`. Defaults: 30 s in
    10 buckets, as Polly.
    """

    seconds: float = 30.0
    buckets: int = 10

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds, 0.01, LONGEST_WINDOW_SECONDS)
        check_count("buckets", self.buckets, 2, 120)

    def make(self) -> "TimeRing":
        """Return a new, empty ring."""
        return TimeRing(self)


class CountRing:
    """The last results as bits of two integers, the newest lowest: to record is to shift, to evict is to mask.

    About 140 bytes with 100 results: a process that talks to a million hosts has one for each sick host.
    """

    __slots__ = ("_failed", "_marked_at", "_settings", "_slow", "total")

    def __init__(self, settings: CountWindow) -> None:
        self._settings = settings
        self._failed = 0
        self._slow = 0
        self._marked_at = -inf  # of the newest bad result, or of the newest of all where none is bad
        self.total = 0

    @property
    def failures(self) -> int:
        """How many of the results failed."""
        return self._failed.bit_count()

    @property
    def slow(self) -> int:
        """How many of the results were slow, failed or not."""
        return self._slow.bit_count()

    def record(self, now: float, failed: bool, slow: bool = False) -> None:  # noqa: FBT001, FBT002
        """Count one result, which pushes out the oldest of a full ring."""
        self.expire(now)
        settings = self._settings
        self._failed = (self._failed << 1 | failed) & settings.ones
        if slow or self._slow:
            self._slow = (self._slow << 1 | slow) & settings.ones
        if self.total < settings.size:
            self.total += 1
        if failed or slow or not (self._failed or self._slow):
            self._marked_at = now

    def record_successes(self, now: float, count: int) -> None:
        """Count `count` quick successes by one shift."""
        self.expire(now)
        settings = self._settings
        if count >= settings.size:  # all else is pushed out; and shifting by a million would make a number that long
            self._failed = self._slow = 0
            self.total = settings.size
        else:
            self._failed = self._failed << count & settings.ones
            self._slow = self._slow << count & settings.ones
            self.total = min(settings.size, self.total + count)
        if not (self._failed or self._slow):
            self._marked_at = now

    def expire(self, now: float) -> None:
        """Forget everything when the newest bad result is more than `idle_seconds` old."""
        if now < self._marked_at:  # the clock went back: the idle time is counted from here
            self._marked_at = now
        elif now - self._marked_at > self._settings.idle_seconds:
            self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._failed = self._slow = self.total = 0


class BucketRing:
    """Counters of several kinds over the last seconds: a ring of buckets and, for each kind, the total over them.

    The counters are integers in one flat list, bucket by bucket. `totals[kind]` is right as of the last call with a
    `now`. Every method is constant in time: the ring has a fixed number of buckets.
    """

    __slots__ = ("_at", "_counts", "_seconds", "_started_at", "_width", "totals")

    def __init__(self, seconds: float, buckets: int, kinds: int) -> None:
        self._seconds = seconds
        self._width = seconds / buckets
        self._started_at = -inf  # when the newest bucket began
        self._at = 0  # where its counters are
        self._counts = [0] * (buckets * kinds)
        self.totals = [0] * kinds

    def add(self, now: float, kind: int, count: int = 1) -> None:
        """Count into the newest bucket."""
        if not 0.0 <= now - self._started_at < self._width:
            self.expire(now)
        self._counts[self._at + kind] += count
        self.totals[kind] += count

    def take_back(self, now: float, kind: int, count: int = 1) -> None:
        """Uncount, the newest first; of what has expired nothing is left to take."""
        self.expire(now)
        counts, kinds = self._counts, len(self.totals)
        at = self._at
        for _ in range(0, len(counts), kinds):
            here = min(count, counts[at + kind])
            counts[at + kind] -= here
            self.totals[kind] -= here
            count -= here
            at = (at - kinds) % len(counts)

    def expire(self, now: float) -> None:
        """Drop the buckets that are too old by `now`.

        1. The clock went back: nothing is dropped, and the newest bucket begins now.
        2. The newest bucket is not over yet: nothing is dropped.
        3. It ended longer ago than the ring reaches (or there never was one): all is dropped.
        4. Else the ring moves on, bucket by bucket.
        """
        age = now - self._started_at
        if age < 0.0:
            self._started_at = now
        elif age < self._width:
            pass
        elif age >= self._seconds:
            self.clear()
            self._started_at = now
        else:
            steps = int(age / self._width)
            for _ in range(steps):
                self._move_on()
            self._started_at += steps * self._width

    def clear(self) -> None:
        """Set every counter to zero."""
        if any(self.totals):
            self._counts = [0] * len(self._counts)
            self.totals = [0] * len(self.totals)

    def _move_on(self) -> None:
        counts, totals = self._counts, self.totals
        self._at = at = (self._at + len(totals)) % len(counts)
        for kind in range(len(totals)):
            totals[kind] -= counts[at + kind]
            counts[at + kind] = 0


_TOTAL, _FAILURES, _SLOW = 0, 1, 2


class TimeRing(BucketRing):
    """The results of the last seconds."""

    __slots__ = ()

    def __init__(self, settings: TimeWindow) -> None:
        super().__init__(settings.seconds, settings.buckets, kinds=3)

    @property
    def total(self) -> int:
        """How many results are in the window."""
        return self.totals[_TOTAL]

    @property
    def failures(self) -> int:
        """How many of them failed."""
        return self.totals[_FAILURES]

    @property
    def slow(self) -> int:
        """How many of them were slow, failed or not."""
        return self.totals[_SLOW]

    def record(self, now: float, failed: bool, slow: bool = False, count: int = 1) -> None:  # noqa: FBT001, FBT002
        """Count `count` equal results."""
        self.add(now, _TOTAL, count)
        if failed:
            self.add(now, _FAILURES, count)
        if slow:
            self.add(now, _SLOW, count)

    def record_successes(self, now: float, count: int) -> None:
        """Count `count` quick successes."""
        self.add(now, _TOTAL, count)

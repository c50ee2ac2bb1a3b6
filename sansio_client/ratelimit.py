"""How fast attempts may be sent: the generic cell rate algorithm, with reservations of permits not yet there.

GCRA (ITU-T I.371, ATM Forum Traffic Management 4.0, in the form of the continuous-state leaky bucket): a level in
permits that drains at the rate; an attempt adds one and may go at once while the level is at most `burst`. Above it the
attempt is due when the level will have drained that far, so one level is also the queue: whoever reserves is told how
long to wait, in order of arrival, and nobody has to be woken.

The answers have the shape of resilience4j's `AtomicRateLimiter.reservePermission`: the wait, or -1 and nothing taken.
The pacing is another: resilience4j gives out all permits of a cycle as the cycle begins, so up to twice the permits may
go within an instant where two cycles meet. Here no window of T seconds, wherever it begins, sees more than
`rate_per_second * T + burst` attempts. `RateLimit(50, burst=50)` is nearest to "50 a second" there;
`RateLimit(50)` is an even pace of one every 20 ms.
"""

from dataclasses import dataclass
from math import inf

from sansio_client.checks import check_count, check_number
from sansio_client.errors import LocalProtocolError

# A wait no clock can tell from none: what rounding leaves of the level after exactly the time it needs refuses nobody.
NO_WAIT_SECONDS = 1e-9
# Threads that read the clock before they take the lock are out of order by less; a clock that was set goes further.
STRAGGLER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`rate_per_second` attempts a second in the long run, and `burst` of them at once after a pause."""

    rate_per_second: float
    burst: int = 1

    def __post_init__(self) -> None:
        check_number("rate_per_second", self.rate_per_second, 1e-6, 1e9)
        check_count("burst", self.burst, 1, 1_000_000_000)

    def make(self) -> "RateLimiter":
        """A limiter with its whole burst to give."""
        return RateLimiter(self)


class RateLimiter:
    """The machine of `RateLimit`: two floats, the level and the instant at which it was that.

    Time that goes back by up to a second stands still instead, so the `now` of a straggling thread earns nothing twice.
    Going back further, the clock was set, and the level goes on from the new time. So a wait is never longer than it
    would have been at the latest time known, and nobody is locked out until the old time comes round again.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, settings: RateLimit) -> None:
        self._rate = float(settings.rate_per_second)
        self._burst = float(settings.burst)
        self._level = 0.0
        self._at = -inf

    def reserve(self, now: float, timeout_seconds: float, n: int = 1) -> float:
        """Take `n` permits and return the seconds to wait before using them, 0.0 for none.

        Returns -1.0 and takes nothing when the wait would be longer than `timeout_seconds`. Whoever is not going to use
        the permits gives them back with `cancel`. Raises `LocalProtocolError` unless `n` is 1 to `burst`: more than a
        burst can never go at once.
        """
        if n != 1:
            self._check(n)
        elapsed = now - self._at
        if elapsed < 0.0:
            elapsed = self._went_back(now, elapsed)
        level = self._level - elapsed * self._rate
        level = level + n if level > 0.0 else float(n)
        wait = (level - self._burst) / self._rate
        if wait <= NO_WAIT_SECONDS:
            wait = 0.0
        elif wait > timeout_seconds:
            return -1.0
        self._level = level
        if elapsed > 0.0:
            self._at = now
        return wait

    def peek(self, now: float, n: int = 1) -> float:
        """The seconds `reserve` would make the caller wait. Nothing is taken. Raises as `reserve` does."""
        if n != 1:
            self._check(n)
        elapsed = max(0.0, now - self._at)
        wait = (self._level - elapsed * self._rate + n - self._burst) / self._rate
        return wait if wait > NO_WAIT_SECONDS else 0.0

    def cancel(self, now: float, n: int = 1, due_at: float | None = None) -> None:
        """Give back `n` permits that were reserved together and will not be used.

        `due_at` is the instant they were due, the `now` of `reserve` plus its answer. With it, what is given back never
        lets the rate be exceeded:

        * Before `due_at`, they come back in full when nothing was reserved after them. Permits reserved after them
          keep their instants, so as many fewer come back: given out again, those would meet the others at the end.
          (x/time/rate does the same: `Reservation.CancelAt`.)
        * After `due_at` nothing comes back: their moment has gone by.

        Without `due_at` they count as due now. That is exact for permits without a wait that are given back at the
        same `now`. For permits that are due later it gives back too few, if others wait too; for permits that were due
        earlier it may give back one moment's worth too many, once: `n` attempts above the rate.
        """
        elapsed = now - self._at
        if elapsed < 0.0:
            elapsed = self._went_back(now, elapsed)
        level = max(0.0, self._level - elapsed * self._rate)
        ahead = 0.0 if due_at is None else due_at - now
        if ahead < -NO_WAIT_SECONDS:
            return
        reserved_later = max(0.0, level - self._burst - ahead * self._rate)
        if reserved_later < n:
            self._level = max(0.0, level - (n - reserved_later))
            if elapsed > 0.0:
                self._at = now

    def _went_back(self, now: float, elapsed: float) -> float:
        """The time that has passed although `now` is earlier than known: none, as of the old time or the new one."""
        if elapsed < -STRAGGLER_SECONDS:
            self._at = now
        return 0.0

    def _check(self, n: int) -> None:
        if not 1 <= n <= self._burst:
            raise LocalProtocolError(
                f"n is {n}, and a burst is {self._burst:g}: ask for 1 to {self._burst:g} permits at a time"
            )

"""Client-side throttling: the more of what was sent the peer refuses, the more calls are dropped before they are sent.

"Handling Overload" of Google's SRE book: `p = max(0, (requests - k * accepts) / (requests + 1))` over two minutes.
"""

from dataclasses import dataclass
from math import inf

from sansio_client.checks import check_count, check_number, check_seconds
from sansio_client.windows import LONGEST_WINDOW_SECONDS, BucketRing


@dataclass(frozen=True, slots=True)
class ClientThrottle:
    """Settings of client-side throttling; `make` makes the gate of one target.

    Args:
        k: How many requests are sent for each that is accepted, before any is dropped: 2 in the SRE book. Less drops
            sooner; 1 would drop on every refusal.
        window_seconds: What is looked back on: 120 in the SRE book. Longer than the longest attempt may take, or the
            requests that hang are forgotten before they have failed.
        buckets: In how many parts the window expires.
        max_drop: The highest drop probability. Without one a total outage never ends: nothing is sent, so nothing is
            accepted, so nothing is sent (finagle NackAdmissionFilter.scala, `MaxDropProbability` 0.75; Envoy 0.8).
        min_rps: Nothing is dropped while fewer requests a second are sent, because a few refusals say little: 5 in
            Envoy (admission_control_filter.rst) and finagle. 0 for "always".
    """

    k: float = 2.0
    window_seconds: float = 120.0
    buckets: int = 20
    max_drop: float = 0.75
    min_rps: float = 5.0

    def __post_init__(self) -> None:
        check_number("k", self.k, 1.0, 1000.0)
        check_seconds("window_seconds", self.window_seconds, 1.0, LONGEST_WINDOW_SECONDS)
        check_count("buckets", self.buckets, 2, 120)
        check_number("max_drop", self.max_drop, 0.0, 0.95)  # so that one call in 20 finds out how the peer is
        check_number("min_rps", self.min_rps, 0.0)

    def make(self) -> "ClientThrottleGate":
        """Return a gate that has seen nothing and drops nothing."""
        return ClientThrottleGate(self)


_REQUESTS, _ACCEPTS = 0, 1


class ClientThrottleGate:
    """Drops attempts to one target at random, by what became of those before.

    Ask `admit` before an attempt, call `sent` when it is sent, and `accepted` if the peer took it on. A request counts
    from the moment it is sent: counted at its end, requests that hang would not raise the probability until they
    time out. What other gates refuse, and what this one drops, is not sent and does not count. (The SRE book counts
    what this one drops; then less is sent to an overloaded peer, and a recovered one is believed later.)
    """

    __slots__ = ("_began_at", "_ring", "_settings")

    def __init__(self, settings: ClientThrottle) -> None:
        self._settings = settings
        self._ring = BucketRing(settings.window_seconds, settings.buckets, kinds=2)
        self._began_at = inf  # when the first request of this window was sent

    def admit(self, now: float, u: float) -> bool:
        """Say whether to send; `u` is a fresh draw, 0 <= u < 1. Nothing is counted."""
        return u >= self.drop_probability(now)

    def sent(self, now: float) -> None:
        """Count an attempt that is being sent."""
        self._ring.add(now, _REQUESTS)
        if self._ring.totals[_REQUESTS] == 1 or now < self._began_at:
            self._began_at = now

    def accepted(self, now: float) -> None:
        """Count an answer that is no refusal: the peer took the request on, even if to say "not found"."""
        self._ring.add(now, _ACCEPTS)

    def drop_probability(self, now: float) -> float:
        """Return the share of attempts that `admit` drops now, from 0.0 to `max_drop`."""
        self._ring.expire(now)
        settings = self._settings
        requests, accepts = self._ring.totals
        surplus = requests - settings.k * accepts
        if surplus <= 0.0:
            return 0.0
        # The rate is over the time since the first request, as Envoy's is, but over no less than a second.
        seconds = min(settings.window_seconds, max(1.0, now - self._began_at))
        if requests < settings.min_rps * seconds:
            return 0.0
        return min(settings.max_drop, surplus / (requests + 1))

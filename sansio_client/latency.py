"""The time within which a share `q` of the answers arrives, estimated without keeping the answers.

The windowless moving percentile (Martin Jambon; failsafe-go `MovingQuantile`): an answer below the estimate moves it
down by `delta/q`, one above moves it up by `delta/(1-q)`, so it rests where a share `q` is below. `delta` is a small
part of the usual deviation of an answer, an exponential average with alpha = 2/(age+1).

Four things differ from failsafe-go, each because of what a hedging client would notice:

* The deviation is the mean distance from the estimate, not the standard deviation from the mean. An estimate far from
  the answers then has far to go and goes fast: after latency fell to a tenth, p95 is near again within 500 answers and
  p99 within 1,100, where the standard deviation takes 2,000 to 9,000 (and never arrives where all answers are equal).
* The step is made with the deviation of the answers before this one. Otherwise a slow answer would lengthen its own
  step up, and of skewed latencies 3.5 % are above what is called the 95th percentile.
* The distance of one answer counts as at most the estimate itself. A single answer of a minute then cannot make steps
  that throw an estimate of milliseconds about, and no step goes below zero.
* The estimate begins as the exact quantile of the first `minimum_samples`, not as the first answer alone, which has
  paid for the connection and is the slowest of all.
"""

from math import ceil, inf

from sansio_client.checks import check_count, check_number

FLOOR_SECONDS = 0.001  # finagle never hedges earlier: BackupRequestFilter, one millisecond
AGE = 100  # answers the deviation looks back on, as in failsafe-go's accuracy tests
LONGEST_SECONDS = 1e9  # beyond is a broken clock's; the arithmetic of shorter ones stays finite
STEP_RATIO = 0.005  # of the deviation; p95 then errs by 3 to 9 % on average, and p99 by 4 to 14 %


class Quantile:
    """A running estimate of one quantile of latency.

    `value` is in seconds: `inf` until `minimum_samples` have been added, then never below one millisecond. It is
    exceeded by the share `1 - q` of the answers, to within a tenth of that share.
    """

    __slots__ = ("_alpha", "_deviation", "_down", "_first", "_minimum_samples", "_q", "_up", "value")

    def __init__(self, q: float, minimum_samples: int = 100) -> None:
        check_number("q", q, 0.01, 0.9999)
        check_count("minimum_samples", minimum_samples, 1, 10_000)
        # A step up is at most a quarter of the deviation, or p99 would err by a quarter and p99.9 jump about.
        step = min(STEP_RATIO, 0.25 * (1.0 - q))
        self._up = step / (1.0 - q)
        self._down = step / q
        self._alpha = 2.0 / (AGE + 1)
        self._q = q
        self._minimum_samples = minimum_samples
        self._first: list[float] | None = []
        self._deviation = 0.0
        self.value = inf

    def add(self, seconds: float) -> None:
        """Learn from one answer. What is no duration (below zero, infinite, not a number) is left out."""
        if not 0.0 <= seconds < LONGEST_SECONDS:
            return
        if self._first is not None:
            self._begin(self._first, seconds)
            return
        value, deviation = self.value, self._deviation
        distance = seconds - value
        if distance < 0.0:
            distance = -distance
            self.value = max(FLOOR_SECONDS, value - deviation * self._down)
        elif distance > 0.0:
            self.value = value + deviation * self._up
            distance = min(distance, value)
        self._deviation = deviation + self._alpha * (distance - deviation)

    def _begin(self, first: list[float], seconds: float) -> None:
        """Collect the first answers; with the last of them, start from their quantile (nearest rank)."""
        first.append(seconds)
        if len(first) < self._minimum_samples:
            return
        first.sort()
        self.value = value = max(FLOOR_SECONDS, first[ceil(self._q * len(first)) - 1])
        total = 0.0
        for one in first:
            total += min(abs(one - value), value)
        self._deviation = total / len(first)
        self._first = None

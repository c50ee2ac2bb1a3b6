"""Simulated servers: how long they take, how many requests they take on, and when they are ill.

A server decides an answer when the request arrives; it does not notice that a client has gone away, as few real ones
do, so a cancelled request costs it as much as any other.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappush, heapreplace
from itertools import pairwise
from math import log10
from typing import Protocol

from sansio_client.checks import check_count, check_number, check_seconds, check_share
from sansio_client.errors import SettingError
from sansio_client.outcome import FAILURE, SUCCESS, Outcome

NATURAL_OF_TEN = 2.302585092994046  # log(x) as log10(x) times this


class Law(Protocol):
    """A distribution of seconds."""

    def draw(self, u: float) -> float:
        """Return the value at the quantile `u`, 0 <= u < 1; not negative."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same."""

    seconds: float

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds)

    def draw(self, u: float) -> float:
        """Return `seconds`."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class Uniform:
    """Anything from `low` to below `high`, equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        check_seconds("low", self.low)
        check_seconds("high", self.high, self.low)

    def draw(self, u: float) -> float:
        """Return a value in [low, high)."""
        return self.low + u * (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Memoryless: what gaps between independent arrivals are like, and service times in queueing theory."""

    mean: float

    def __post_init__(self) -> None:
        check_seconds("mean", self.mean)

    def draw(self, u: float) -> float:
        """Return a value of 0 or more, seldom many times the mean."""
        return -self.mean * NATURAL_OF_TEN * log10(1.0 - u)


@dataclass(frozen=True, slots=True)
class Pareto:
    """A heavy tail: never below `low`, above x with the probability `(low / x) ** alpha`, cut off at `high`."""

    low: float
    alpha: float = 1.5
    high: float = 60.0

    def __post_init__(self) -> None:
        check_seconds("low", self.low)
        check_number("alpha", self.alpha, 0.1)
        check_seconds("high", self.high, self.low)

    def draw(self, u: float) -> float:
        """Return a value in [low, high]."""
        return min(self.high, self.low * float((1.0 - u) ** (-1.0 / self.alpha)))


@dataclass(frozen=True, slots=True)
class Mixed:
    """`tail` for the share `share` of the draws, `body` for the rest: a garbage collector, a cold cache."""

    body: Law
    tail: Law
    share: float = 0.01

    def __post_init__(self) -> None:
        check_share("share", self.share, above_zero=False)

    def draw(self, u: float) -> float:
        """Return a draw of one of the two; the part of `u` that chose is stretched to be used again."""
        if u < self.share:
            return self.tail.draw(u / self.share)
        return self.body.draw((u - self.share) / (1.0 - self.share))


class Peer(Protocol):
    """Who answers requests in a `World`."""

    def answer(self, now: float, random: Callable[[], float]) -> tuple[float, Outcome]:
        """Take a request on at `now`: seconds until the client has the answer (`inf` for never), and the answer."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What is different from `begins_at` until before `ends_at`.

    Attributes:
        share: of the requests that arrive in this time, those that fail.
        failure: how they fail; its `retry_after` is the peer's to set.
        after: seconds until they fail; None for as long as an answer takes, `inf` for never (a black hole).
        slowness: factor on the time all others take.
    """

    begins_at: float
    ends_at: float
    share: float = 1.0
    failure: Outcome = FAILURE
    after: float | None = 0.0
    slowness: float = 1.0

    def __post_init__(self) -> None:
        if not self.begins_at <= self.ends_at:
            raise SettingError("ends_at", self.ends_at, f"{self.begins_at:g} or later")
        check_share("share", self.share, above_zero=False)
        if self.after is not None:
            check_seconds("after", self.after)
        check_number("slowness", self.slowness, 0.0)


class Server:
    """A peer with a latency law, workers with a bounded line before them, and phases of illness.

    Args:
        latency: seconds a request takes, apart from standing in line.
        workers: requests worked on at once; None for any number.
        line: requests that may stand in line; more get `refusal` at once.
        refusal: the answer to those.
        phases: in order of time, not overlapping.

    Attributes:
        arrived: requests that have reached it, refused ones included.
        refused: those that found the line full.

    """

    __slots__ = (
        "_begin_at",
        "_begins",
        "_draw",
        "_free_at",
        "_line",
        "_phases",
        "_refusal",
        "_workers",
        "arrived",
        "refused",
    )  # fmt: skip

    def __init__(
        self,
        latency: Law,
        *,
        workers: int | None = None,
        line: int = 1024,
        refusal: Outcome = FAILURE,
        phases: Sequence[Phase] = (),
    ) -> None:
        if workers is not None:
            check_count("workers", workers, 1)
        check_count("line", line)
        for before, after in pairwise(phases):
            if after.begins_at < before.ends_at:
                raise SettingError("phases", after, "phases in order of time that do not overlap")
        self.arrived = 0
        self.refused = 0
        self._draw = latency.draw
        self._workers = workers
        self._line = line
        self._refusal = refusal
        self._phases = tuple(phases)
        self._begins = [phase.begins_at for phase in phases]
        self._free_at: list[float] = []  # a heap: when each worker is done with all it has been given
        self._begin_at: deque[float] = deque()  # when each request in the line will be begun

    def answer(self, now: float, random: Callable[[], float]) -> tuple[float, Outcome]:
        """Draws twice for each request, whatever becomes of it, so that one fate does not move those after it."""
        self.arrived += 1
        fate, seconds = random(), self._draw(random())
        number = bisect_right(self._begins, now) - 1 if self._begins else -1
        if number >= 0:
            phase = self._phases[number]
            if now < phase.ends_at:
                seconds *= phase.slowness
                if fate < phase.share:
                    return (seconds if phase.after is None else phase.after), phase.failure
        if self._workers is None:
            return seconds, SUCCESS
        return self._stand_in_line(now, seconds, self._workers)

    def _stand_in_line(self, now: float, seconds: float, workers: int) -> tuple[float, Outcome]:
        line, free_at = self._begin_at, self._free_at
        while line and line[0] <= now:
            line.popleft()
        if len(free_at) < workers:
            begins_at = now
            heappush(free_at, now + seconds)
        else:
            begins_at = max(now, free_at[0])
            if begins_at > now:
                if len(line) >= self._line:
                    self.refused += 1
                    return 0.0, self._refusal
                line.append(begins_at)
            heapreplace(free_at, begins_at + seconds)
        return begins_at + seconds - now, SUCCESS

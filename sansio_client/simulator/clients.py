"""Simulated callers: some that wait for each answer before they ask again, some that come whether or not there is one.

The difference decides what an overload looks like: callers in a closed loop slow down with the peer, open arrivals pile
up before it ("Open Versus Closed: A Cautionary Tale", Schroeder, Wierman, Harchol-Balter, NSDI 2006).
"""

from collections.abc import Callable
from math import inf

from sansio_client.call import Call
from sansio_client.checks import check_count, check_number, check_seconds
from sansio_client.simulator.peers import Exponential, Fixed, Law
from sansio_client.simulator.world import World


class Tally:
    """What became of calls.

    Attributes:
        calls: that are over.
        sent: attempts made for them.
        reasons: how many ended for each of `call.REASONS`.
        seconds: how long each took, in the order they ended.
        on_end: told of each call that is over, after it has been counted; None for nobody. Who is to be told of calls
            gets them all, so they go the long way.

    """

    __slots__ = ("calls", "on_end", "reasons", "seconds", "sent")

    def __init__(self) -> None:
        self.calls = 0
        self.sent = 0
        self.reasons: dict[str, int] = {}
        self.seconds: list[float] = []
        self.on_end: Callable[[Call], None] | None = None

    @property
    def ok(self) -> int:
        """How many ended with an answer."""
        return self.reasons.get("ok", 0)

    @property
    def amplification(self) -> float:
        """Attempts for each call: what retries and hedges cost the peer. Below 1 when calls were refused unsent."""
        return self.sent / self.calls if self.calls else 0.0

    @property
    def longest(self) -> float:
        """Seconds the slowest call took."""
        return max(self.seconds, default=0.0)

    def count(self, call: Call | None, began_at: float, now: float) -> None:
        """Count a call that is over; None for one that succeeded at its first attempt."""
        self.calls += 1
        self.seconds.append(now - began_at)
        if call is None:
            sent, reason = 1, "ok"
        else:
            sent, reason = call.attempts, call.reason
        self.sent += sent
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if call is not None and self.on_end is not None:
            self.on_end(call)

    def __repr__(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.reasons.items()))
        return f"<{self.calls} calls: {reasons}; {self.amplification:.3f} sent for each; longest {self.longest:.3f} s>"


class Callers:
    """A closed loop: `number` callers, each of which makes its next call a while after the last has ended.

    Args:
        world: they live in; they begin when it runs.
        key: of the target they call.
        number: of callers.
        calls: each makes before it leaves.
        think: seconds between two of them; more than nothing, as a refusal takes no time at all.
        begin: seconds after which each makes its first, drawn one by one.
        may_repeat: whether their requests may be sent twice.
        timeout: seconds each gives its call, on top of the policy's `total_timeout`.
        tally: where they are counted; None for one of their own.

    """

    __slots__ = ("key", "may_repeat", "tally", "think", "timeout", "world")

    def __init__(
        self,
        world: World,
        key: str,
        *,
        number: int,
        calls: int = 1,
        think: Law = Fixed(0.1),  # noqa: B008 - frozen
        begin: Law = Fixed(0.0),  # noqa: B008
        may_repeat: bool = True,
        timeout: float = inf,
        tally: Tally | None = None,
    ) -> None:
        check_count("number", number, 1)
        check_count("calls", calls, 1)
        check_seconds("timeout", timeout)
        self.key = key
        self.tally = tally if tally is not None else Tally()
        self.world = world
        self.think = think
        self.may_repeat = may_repeat
        self.timeout = timeout
        for _ in range(number):
            _Caller(self, calls, world.now + begin.draw(world.random()))


class _Caller:
    """One of `Callers`."""

    __slots__ = ("_calls_left", "_of", "_world")

    def __init__(self, of: Callers, calls: int, begins_at: float) -> None:
        self._of = of
        self._world = of.world
        self._calls_left = calls
        self._world.at(begins_at, self._call)

    def _call(self, _: object) -> None:
        of = self._of
        self._calls_left -= 1
        self._world.request(
            of.key,
            self._on_end,
            may_repeat=of.may_repeat,
            timeout=of.timeout,
            always_call=of.tally.on_end is not None,
        )

    def _on_end(self, call: Call | None, began_at: float) -> None:
        of, world = self._of, self._world
        of.tally.count(call, began_at, world.now)
        if self._calls_left:
            world.at(world.now + of.think.draw(world.random()), self._call)


class Arrivals:
    """An open system: calls that come at their own pace, independent of each other and of the answers.

    Args:
        world: they live in.
        key: of the target they call.
        per_second: how many come on average.
        begins_at: when the first may come; None for now.
        until: none comes at this instant or later.
        regular: at equal distances, instead of independently (a Poisson process).
        may_repeat: whether the requests may be sent twice.
        timeout: seconds for each call, on top of the policy's `total_timeout`.
        tally: where they are counted; None for one of their own.

    """

    __slots__ = ("_gap", "_may_repeat", "_timeout", "_until", "_world", "key", "tally")

    def __init__(
        self,
        world: World,
        key: str,
        *,
        per_second: float,
        until: float,
        begins_at: float | None = None,
        regular: bool = False,
        may_repeat: bool = True,
        timeout: float = inf,
        tally: Tally | None = None,
    ) -> None:
        check_number("per_second", per_second, 1e-6)
        check_seconds("timeout", timeout)
        self.key = key
        self.tally = tally if tally is not None else Tally()
        self._world = world
        self._until = until
        self._gap: Law = Fixed(1.0 / per_second) if regular else Exponential(1.0 / per_second)
        self._may_repeat = may_repeat
        self._timeout = timeout
        self._plan(world.now if begins_at is None else begins_at)

    def _plan(self, after: float) -> None:
        at = after + self._gap.draw(self._world.random())
        if at < self._until:
            self._world.at(at, self._arrive)

    def _arrive(self, _: object) -> None:
        world = self._world
        self._plan(world.now)
        world.request(
            self.key,
            self._on_end,
            may_repeat=self._may_repeat,
            timeout=self._timeout,
            always_call=self.tally.on_end is not None,
        )

    def _on_end(self, call: Call | None, began_at: float) -> None:
        self.tally.count(call, began_at, self._world.now)

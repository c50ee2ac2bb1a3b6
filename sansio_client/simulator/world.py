"""Virtual time: a heap of what is to come, a core, its peers, and the loop that takes the calls through.

The heap holds `(at, number, action, argument)`; the number keeps those of one instant in the order they came. A call's
timer is an entry without action, `(timer, number, None, call)`, and is skipped when `call.timer` says something else by
then, so no timer is ever taken out.
"""

from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Any

from sansio_client.call import CANCEL, DONE, FINISH, SEND, Attempt, Call
from sansio_client.core import Core
from sansio_client.errors import LocalProtocolError
from sansio_client.events import Event
from sansio_client.outcome import BREAKER_OK, CANCELLATION, OK, Outcome
from sansio_client.policy import Policy
from sansio_client.simulator.peers import Peer
from sansio_client.target import Target

# Told when a call is over: the call, or None when it succeeded the short way, with one attempt; and when it began.
OnEnd = Callable[[Call | None, float], None]


class Request:
    """What the world knows of a call, as its `context`: for when its timer is in the heap, and whom to tell."""

    __slots__ = ("armed_at", "began_at", "on_end")

    def __init__(self, began_at: float, on_end: OnEnd) -> None:
        self.began_at = began_at
        self.on_end = on_end
        self.armed_at = inf


class World:
    """One core, its peers, and a clock that jumps from event to event.

    Args:
        policy: of the core; None for the defaults.
        seed: of all chance. The core, the peers and whatever else draws from `random` have a stream each, so that a
            policy that draws more does not change who arrives when.
        peers: who answers, by key.
        trace: a list that gets one line for each event of the core (see `events`); None for no trace.
        core: one to drive instead of a new one, a `RecordingCore` say; `policy` is not looked at then.
        started_at: what the clock shows at first.

    Attributes:
        now: what the clock shows.
        random: of callers, for arrivals and the like.
        events: how many entries of the heap have been acted on.

    """

    __slots__ = (
        "_core_events", "_heap", "_number", "_peer_random", "_trace", "core", "events", "now", "peers", "random",
    )  # fmt: skip

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        seed: int,
        peers: Mapping[str, Peer],
        trace: list[str] | None = None,
        core: Core | None = None,
        started_at: float = 0.0,
    ) -> None:
        self.now = started_at
        self.peers = peers
        self.random = _stream(3 * seed)
        self.events = 0
        self._peer_random = _stream(3 * seed + 1)
        self._trace = trace
        self._core_events: list[Event] = []
        if core is None:
            events = None if trace is None else self._core_events
            core = Core(policy, random=_stream(3 * seed + 2), events=events)
        elif trace is not None:
            core.common.events = self._core_events
        self.core = core
        self._heap: list[tuple[float, int, Callable[[Any], None] | None, Any]] = []
        self._number = 0

    def at(self, instant: float, action: Callable[[Any], None], argument: object = None) -> None:
        """Have `action(argument)` called at `instant`, after what was put there before."""
        if instant < self.now:
            raise LocalProtocolError(f"at() got {instant!r}, and it is {self.now!r}; the world does not go back")
        self._number += 1
        heappush(self._heap, (instant, self._number, action, argument))

    def begin(self, call: Call, on_end: OnEnd) -> None:
        """Start a call made by `core.call(key, world.now, ...)`; `on_end` is told when it is over."""
        call.context = Request(self.now, on_end)
        self._obey(call, call.start(self.now))

    def request(
        self, key: str, on_end: OnEnd, *, may_repeat: bool, timeout: float = inf, always_call: bool = False
    ) -> None:
        """Make a call and take it through. It goes the short way where it can, as in the adapters.

        That is without a `Call`, until something fails or has to be timed. The short way leaves no trace, so it is not
        gone where one is written, or with `always_call`.
        """
        now, target = self.now, self.core.targets.get(key)
        if target is None or always_call or self._trace is not None or target.policy.hedge is not None:
            generation = 0
        else:
            generation = target.enter()
        if not generation:
            call = self.core.call(key, now, may_repeat=may_repeat, deadline=now + timeout)
            self.begin(call, on_end)
            return
        assert target is not None
        seconds, outcome = self.peers[key].answer(now, self._peer_random)
        policy = target.policy
        if seconds <= timeout and seconds <= policy.total_timeout and seconds <= policy.attempt_timeout:
            visit = (target, generation, now, outcome, on_end, may_repeat, timeout)
            self._number += 1
            heappush(self._heap, (now + seconds, self._number, self._visited, visit))
            return
        attempt = self.core.adopt(target, generation, now, now, may_repeat=may_repeat, deadline=now + timeout)
        attempt.call.context = Request(now, on_end)
        if seconds < inf:
            self._number += 1
            heappush(self._heap, (now + seconds, self._number, self._answered, (attempt, outcome)))
        self._obey(attempt.call, 0)

    def _visited(self, visit: tuple[Target, int, float, Outcome, OnEnd, bool, float]) -> None:
        """What went the short way is answered."""
        target, generation, began_at, outcome, on_end, may_repeat, timeout = visit
        if outcome.verdict == OK and outcome.effect == BREAKER_OK:
            if not target.leave(generation):
                target.leave_at(generation, self.now)
                self._wake()
            on_end(None, began_at)
            return
        deadline = began_at + timeout
        attempt = self.core.adopt(target, generation, began_at, self.now, may_repeat=may_repeat, deadline=deadline)
        call = attempt.call
        call.context = Request(began_at, on_end)
        self._obey(call, call.on_done(attempt, outcome, self.now))

    def cancel(self, call: Call) -> None:
        """Its caller gives up."""
        self._obey(call, call.cancel(self.now))

    def run(self, until: float = inf) -> None:
        """Let happen what happens up to and including `until`; without it, all there is."""
        heap, core_events, wakeups, obey_one = self._heap, self._core_events, self.core.wakeups, self._obey_one
        done = 0
        while heap:
            entry = heappop(heap)
            at, _, action, argument = entry
            if at > until:
                heappush(heap, entry)
                break
            if action is not None:
                self.now = at
                action(argument)
            elif argument.timer == at:
                self.now = at
                argument.context.armed_at = inf
                obey_one(argument, argument.on_timer(at))
                if wakeups:
                    self._wake()
            else:
                continue
            done += 1
            if core_events:
                self._write_down()
        self.events += done
        if self.now < until < inf:
            self.now = until

    def _obey(self, call: Call, mask: int) -> None:
        """Do what an input to `call` said, and then what it made others ready for."""
        self._obey_one(call, mask)
        if self.core.wakeups:
            self._wake()

    def _wake(self) -> None:
        wakeups = self.core.wakeups
        while wakeups:
            woken = wakeups[:]
            wakeups.clear()
            for call in woken:
                assert isinstance(call, Call)
                self._obey_one(call, call.on_wakeup(self.now))

    def _obey_one(self, call: Call, mask: int) -> None:
        now = self.now
        answer_at = inf
        while True:
            if mask & SEND:
                attempt = call.attempt
                assert attempt is not None
                seconds, outcome = self.peers[call.target.key].answer(now, self._peer_random)
                if seconds < inf:
                    at = now + seconds
                    self._number += 1
                    heappush(self._heap, (at, self._number, self._answered, (attempt, outcome)))
                    answer_at = min(answer_at, at)
            if mask & CANCEL:
                assert call.victim is not None
                self._stop(call.victim)
                answer_at = inf
            request: Any = call.context
            if mask & FINISH:
                for attempt in call.flying:
                    self._stop(attempt)
                request.on_end(call, request.began_at)
                return
            timer = call.timer
            if timer > now:
                break
            mask = call.on_timer(now)
        # A timer that is due no earlier than the answer just planned need not ring: the call is looked at then anyway,
        # and in the most frequent case that is its end.
        if timer < answer_at and timer != request.armed_at:
            request.armed_at = timer
            self._number += 1
            heappush(self._heap, (timer, self._number, None, call))

    def _answered(self, what: tuple[Attempt, Outcome]) -> None:
        attempt, outcome = what
        if attempt.state != DONE:
            call = attempt.call
            self._obey_one(call, call.on_done(attempt, outcome, self.now))
            if self.core.wakeups:
                self._wake()

    def _stop(self, attempt: Attempt) -> None:
        # Its report is an event of its own, so that no input of the core is called from within another one's decisions.
        self._number += 1
        heappush(self._heap, (self.now, self._number, self._answered, (attempt, CANCELLATION)))

    def _write_down(self) -> None:
        assert self._trace is not None
        for now, name, call_id, a, b in self._core_events:
            self._trace.append(f"{now!r} {name} {call_id} {a!r} {b!r}")
        self._core_events.clear()


def _stream(seed: int) -> Callable[[], float]:
    return Random(seed).random  # noqa: S311 - it is to be repeated, not to be secret

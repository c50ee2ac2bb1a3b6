"""A core under test and the hand that drives it: time is set, not awaited."""

from collections.abc import Callable
from typing import Any

from sansio_client.backoff import Constant
from sansio_client.call import CANCEL, FINISH, SEND, Attempt, Call
from sansio_client.core import Core
from sansio_client.events import Event
from sansio_client.outcome import FAILURE, SUCCESS, Outcome
from sansio_client.policy import Policy

PLAIN: dict[str, Any] = {
    "breaker": None,
    "bulkhead": None,
    "budget": None,
    "backoff": Constant(1.0),
    "total_timeout": 100.0,
}


def plain(**changes: Any) -> Policy:
    """A policy of which only what `changes` says is on: three attempts one second apart, 100 seconds in all."""
    return Policy(**(PLAIN | changes))


class Driven:
    """A core, its events, a clock that the test sets, and shorthands for what a driver does."""

    def __init__(self, policy: Policy | None = None, *, u: Callable[[], float] = lambda: 0.5, **options: Any) -> None:
        self.events: list[Event] = []
        self.core = Core(policy or plain(), random=u, events=self.events, **options)
        self.now = 0.0

    def call(self, key: str = "host", **options: Any) -> Call:
        options.setdefault("may_repeat", True)
        return self.core.call(key, self.now, **options)

    def started(self, key: str = "host", **options: Any) -> Call:
        call = self.call(key, **options)
        call.start(self.now)
        return call

    def sent(self, key: str = "host", **options: Any) -> Attempt:
        call = self.call(key, **options)
        assert call.start(self.now) == SEND
        assert call.attempt is not None
        return call.attempt

    def done(self, attempt: Attempt, outcome: Outcome = SUCCESS) -> int:
        return attempt.call.on_done(attempt, outcome, self.now)

    def fail(self, times: int, key: str = "host", outcome: Outcome = FAILURE) -> None:
        """That many calls of one attempt each fail."""
        for _ in range(times):
            self.done(self.sent(key, max_attempts=1), outcome)

    def timer(self, call: Call) -> int:
        """Move the clock to the call's timer and ring it."""
        self.now = max(self.now, call.timer)
        return call.on_timer(self.now)

    def woken(self) -> list[tuple[Call, int]]:
        """Drain the wakeups, as an adapter does after each input; what each call answered."""
        answers = []
        while self.core.wakeups:
            call = self.core.wakeups.pop(0)
            assert isinstance(call, Call)
            answers.append((call, call.on_wakeup(self.now)))
        return answers

    def run(self, answer: Callable[[Attempt], Outcome], **options: Any) -> Call:
        """Drive a call to its end; `answer` is asked for the outcome of each attempt, which takes no time."""
        call = self.call(**options)
        mask = call.start(self.now)
        while not mask & FINISH:
            assert not mask & CANCEL
            if mask & SEND:
                assert call.attempt is not None
                mask = call.on_done(call.attempt, answer(call.attempt), self.now)
            else:
                mask = self.timer(call)
        return call

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event[1] == name]

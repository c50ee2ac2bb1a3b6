"""What the worlds share: how a call ends, what an exception says, what is known inside an attempt, who hears of events.

Nothing in here waits or sends, so all of it is the same for asyncio, trio and threads.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from math import inf
from socket import gaierror
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

from sansio_client.call import Attempt, Call
from sansio_client.checks import check_seconds
from sansio_client.core import Core
from sansio_client.errors import ERRORS, CallRejected, SettingError
from sansio_client.events import Event
from sansio_client.outcome import (
    FAILURE,
    FAILURES,
    SUCCESS,
    THROTTLED,
    TIMED_OUT,
    TIMEOUT,
    TRANSIENT,
    Outcome,
    Rejected,
)
from sansio_client.policy import Policy
from sansio_client.target import Target, Waiter

T = TypeVar("T")

Judge = Callable[[Any, Exception | None], Outcome]
"""Says what an attempt's value means, or its exception: exactly one of the two is given."""

UNKNOWN = FAILURES["unknown"]
NOTHING: Any = object()
"""In place of a value where there is none, as None may be one."""

Nested = Literal["once", "retry"]


# How a call ends


class Finished(Generic[T]):
    """What became of a call. `unwrap()` makes it a value or an exception again.

    Attributes:
        value: of the attempt whose outcome is the call's, be it a good one or the peer's last no; None without one.
        error: the exception of that attempt; None where it gave a value, or never was.
        outcome: what the core took it for; a `Rejected` when this side ended the call and the peer's word is none.
        reason: why no more was tried, a word of `sansio_client.call.REASONS`.
        attempts: how many were sent.
        retry_after: seconds before which another call has little chance, None when nobody said.

    """

    # A call that nothing happened to is one slot; the rest of it is the class's.
    __slots__ = ("value",)

    error: Exception | None = None
    outcome: Outcome | Rejected = SUCCESS
    reason: str = "ok"
    attempts: int = 1
    retry_after: float | None = None

    def __init__(self, value: T | None) -> None:
        self.value = value

    def unwrap(self) -> T:
        """The value, or an exception.

        Raises:
            Exception: the peer's own last one, with a note on why nothing more was tried (never masked by "open").
            CallRejected: there is none, because this side ended the call: a new object every time.
            TimeoutError: the last attempt was given up for its own time limit.

        """
        if self.error is not None:
            error = self.error
            self.explain(error)
            try:
                raise error
            finally:
                del self, error  # or it would be kept alive by its own traceback
        outcome = self.outcome
        if isinstance(outcome, Rejected):
            kind, message = ERRORS[outcome.why]
            raise kind(message, why=outcome.why, retry_at=outcome.retry_at, last=outcome.last, attempts=self.attempts)
        if outcome is TIMEOUT:  # the core's own: no attempt has said anything
            raise TimeoutError(f"no attempt was answered in its time; {_attempts(self.attempts)}: {self.reason}")
        return cast("T", self.value)

    def explain(self, error: Exception) -> None:
        """Note on `error` why nothing more was tried."""
        text = _NOTES.get(self.reason)
        if text is None or (self.reason == "attempts" and self.attempts == 1):
            return
        note = f"{_attempts(self.attempts)}; {text}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)

    def __repr__(self) -> str:
        return f"<Finished {self.reason} attempts={self.attempts} {self.outcome!r}>"  # a value may be large, or secret


class Ended(Finished[T]):
    """A `Finished` that has a story."""

    __slots__ = ("attempts", "error", "outcome", "reason", "retry_after")

    def __init__(self, call: Call, value: T | None, error: Exception | None, now: float) -> None:
        result = call.result
        assert result is not None, "a call that is not over"
        super().__init__(value)
        self.error = error
        self.outcome = result
        self.reason = call.reason
        self.attempts = call.attempts
        if isinstance(result, Outcome):
            self.retry_after = result.retry_after
        else:
            self.retry_after = max(0.0, result.retry_at - now) if result.retry_at < inf else None


_NOTES = {
    "unsafe": "not repeated: it may have been processed; may_repeat=True says that twice does no harm",
    "body": "not repeated: its body cannot be sent again",
    "told-not-to": "not repeated: the peer said so",
    "retry-after": "not repeated: the peer asks for a longer wait than max_retry_after",
    "budget": "not repeated: the retry budget is spent",
    "attempts": "it was the last of max_attempts",
    "deadline": "the time for the call is over, or would be before the next attempt",
    "open": "the circuit breaker is open",
    "full": "all slots are taken and the queue is full",
    "queue-timeout": "no slot became free in time for another attempt",
    "rate": "the rate limiter has no permit in time for another attempt",
    "throttled": "client-side throttling dropped another attempt",
}


def _attempts(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


# What an exception says

# The first row that fits decides. Nothing of the file system: it is no peer.
_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (CallRejected, "unknown"),  # a call inside the attempt was refused by this side: the peer has said nothing
    ((ConnectionRefusedError, gaierror), "connect"),
    (TimeoutError, "timeout"),
    (
        (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, BlockingIOError,
         ChildProcessError, ProcessLookupError),
        "unknown",
    ),
    ((OSError, EOFError), "read"),
)  # fmt: skip


def judge_exception(value: object, error: Exception | None) -> Outcome:
    """Any value is a success; an exception is what it says of the peer. The default judge.

    | exception | outcome |
    |---|---|
    | `ConnectionRefusedError`, `socket.gaierror` | transient, and provably never sent, so even a POST is repeated |
    | `TimeoutError` | timed out |
    | any other `OSError` but those of the file system, `EOFError` | transient |
    | everything else | fatal, and no evidence against the peer: a defect is not cured by trying again |

    So not every exception is worth a retry; who wants that says so, with `judge_on(Exception)`.
    """
    if error is None:
        return SUCCESS
    for types, kind in _KINDS:
        if isinstance(error, types):
            return FAILURES[kind]
    return UNKNOWN


def judge_on(*on: type[Exception], judge: Judge = judge_exception) -> Judge:
    """A judge to whom the exceptions `on`, and no others, are failures of the peer that are worth another attempt.

    Which kind of failure each is, `judge` says, and where that sees none it is a plain one.
    """

    def judged(value: object, error: Exception | None) -> Outcome:
        if error is None:
            return judge(value, None)
        if not isinstance(error, on):
            return UNKNOWN
        outcome = judge(value, error)
        return outcome if outcome.verdict in (TRANSIENT, THROTTLED, TIMED_OUT) else FAILURE

    return judged


# What is known inside an attempt


class AttemptView:
    """What `send` is told of its attempt.

    Attributes:
        number: from 1 within its call.
        deadline: the instant of the adapter's clock it must be done by; `inf` for none.
        repeats: whether another may follow if it fails.
        clock: what `deadline` is an instant of.
        over: it has ended, so what still runs of it is no part of a call any more.

    """

    __slots__ = ("clock", "deadline", "number", "over", "repeats")

    def __init__(self, number: int, deadline: float, clock: Callable[[], float], *, repeats: bool) -> None:
        self.number = number
        self.deadline = deadline
        self.clock = clock
        self.repeats = repeats
        self.over = False

    def seconds_left(self) -> float | None:
        """Seconds until `deadline`, never negative; None for no limit, as sockets want it."""
        return max(0.0, self.deadline - self.clock()) if self.deadline < inf else None


INSIDE: ContextVar[AttemptView | None] = ContextVar("sansio_client_attempt", default=None)
"""The attempt this code runs in. Tasks and contexts made inside one inherit it, which is why it can be `over`."""


def current_attempt() -> AttemptView | None:
    """The attempt around this code, for functions that are not handed one.

    None outside of any. It may be None inside of one that cannot be repeated, too, unless in a thread with a time
    limit: elsewhere that cancels what is awaited, and the code has no need to know.
    """
    view = INSIDE.get()
    return None if view is None or view.over else view


# Who hears of events, and how calls are made


class Parked(Protocol):
    """What `Call.context` is: the driver that waits for the call."""

    def wake(self) -> None:
        """Feed the call its `on_wakeup`, soon."""


def wake_all(wakeups: list[Waiter]) -> None:
    """Tell the drivers of the calls that another call's input has unblocked, in order."""
    while wakeups:
        woken = wakeups[:]
        wakeups.clear()
        for waiter in woken:
            context = cast("Call", waiter).context
            if context is not None:
                cast("Parked", context).wake()


class Base:
    """What every world's `Resilient` is made of: one core, its clock, its listener, and how calls begin.

    Attributes:
        core: targets, policy, wake-ups. Change the policy with `core.reconfigure`.
        clock: monotonic seconds, for everything the core is told.

    """

    def __init__(
        self,
        policy: Policy | None,
        core: Core | None,
        clock: Callable[[], float],
        random: Callable[[], float],
        on_event: Callable[[Event], None] | None,
        nested: Nested,
        lock: AbstractContextManager[Any] = nullcontext(),  # noqa: B008 - it has no state
    ) -> None:
        if core is not None and policy is not None:
            raise TypeError("give a policy or a core, not both: a core has its policy, see core.reconfigure()")
        if nested not in ("once", "retry"):
            raise SettingError("nested", nested, "'once' or 'retry'")
        if core is None:
            core = Core(policy, random=random)
        if on_event is not None and core.common.events is None:
            core.common.events = []
        self.core = core
        self.clock = clock
        self._lock = lock
        self._targets = core.targets
        self._wakeups = core.wakeups
        self._on_event = on_event
        self._marks = nested == "once"
        self._publishing = False
        self._known: Policy | None = None  # the policy `_limit` is of; None while the short way is closed
        self._limit = inf  # seconds that call and attempt have on the short way
        self._timed = self._repeats = False

    def _learn(self, policy: Policy) -> None:
        """Note what the short way needs to know of a policy. With hedging there is none."""
        self._known = policy if policy.hedge is None else None
        self._limit = min(policy.total_timeout, policy.attempt_timeout)
        self._timed = self._limit < inf
        self._repeats = self._marks and policy.max_attempts > 1

    def _new_target(self, key: str) -> Target:
        """The target of `key`, which is not known yet."""
        with self._lock:
            target = self.core.target(key, self.clock())
            if target.policy is not self._known:
                self._learn(target.policy)
            return target

    def _new_call(
        self,
        key: str,
        may_repeat: bool,  # noqa: FBT001
        replayable: bool,  # noqa: FBT001
        deadline: float = inf,
        timeout: float | None = None,
        policy: Policy | None = None,
        max_attempts: int | None = None,
    ) -> Call:
        now = self.clock()
        if timeout is not None:
            check_seconds("timeout", timeout)
            deadline = min(deadline, now + timeout)
        outer = current_attempt()
        if outer is not None:
            if outer.clock == self.clock:
                deadline = min(deadline, outer.deadline)
            if outer.repeats:
                max_attempts = 1  # or three attempts of three would be nine
        with self._lock:
            call = self.core.call(
                key,
                now,
                may_repeat=may_repeat,
                replayable=replayable,
                deadline=deadline,
                policy=policy,
                max_attempts=max_attempts,
            )
            if call.target.policy is not self._known:
                self._learn(call.target.policy)
        return call

    def _adopt(
        self,
        target: Target,
        generation: int,
        started_at: float | None,
        policy: Policy,
        *,
        may_repeat: bool,
        replayable: bool,
    ) -> Attempt:
        """The attempt of the short way as the first of a call, because it did not end well."""
        try:
            now = self.clock()
        except RuntimeError:  # trio's, out of trio
            target.leave_unproved(generation, target.last_used_at)
            raise
        if started_at is None:
            started_at = now  # nobody asked for the time, as nothing depends on it
        with self._lock:
            # Not `core.adopt`: the target may have another policy by now than the one the call began with.
            call = self.core.call(target.key, now, may_repeat=may_repeat, replayable=replayable, policy=policy)
            return call.adopt(generation, started_at, now)

    def repeats(self, call: Call) -> bool:
        """Whether calls inside an attempt of `call` are to leave the retrying to it."""
        return self._marks and call.max_attempts > 1 and call.may_repeat and call.replayable

    def _without_hedge(self, key: str, policy: Policy | None) -> Policy | None:
        """The policy of a call whose attempts are blocks of its caller, which cannot run twice at once."""
        with self._lock:
            chosen = policy if policy is not None else self.core.target(key, self.clock()).policy
        return policy if chosen.hedge is None else chosen.replace(hedge=None)

    def _leave_unproved(self, target: Target, generation: int) -> None:
        """An attempt on the short way ended by something that is no evidence: a cancellation, an interrupt."""
        with self._lock:
            target.leave_unproved(generation, self.clock())
        self.settle()

    def _leave_late(self, target: Target, generation: int) -> None:
        """An attempt on the short way succeeded, but somebody waits, or the target remembers trouble."""
        with self._lock:
            target.leave_at(generation, self.clock())
        self.settle()

    def settle(self) -> None:
        """Wake whom an input to the core has unblocked, and let the listener hear of it.

        To be called by whoever changes the core beside the calls: `core.reconfigure`, `target.force_breaker`.
        """
        with self._lock:
            wake_all(self._wakeups)
        if self._on_event is not None:
            self._publish(self._on_event)

    def _publish(self, listener: Callable[[Event], None]) -> None:
        """Hand the events to the listener, in order; it may call back into the core or begin other calls."""
        events = self.core.common.events
        while True:
            with self._lock:
                if self._publishing or not events:
                    return  # whoever is publishing goes on with what has come meanwhile
                self._publishing = True
                batch = events[:]
                events.clear()
            try:
                for event in batch:
                    try:
                        listener(event)
                    except Exception:  # noqa: BLE001 - a listener's defect is not the call's
                        log_failure("the event listener failed at %r", event)
            finally:
                with self._lock:
                    self._publishing = False
                    wake_all(self._wakeups)


def log_failure(message: str, *values: object) -> None:
    """Log the exception at hand, which must not break a call."""
    import logging

    logging.getLogger("adapters").exception(message, *values)  # noqa: LOG004 - called in handlers

"""The one loop that drives a `Call`, as a generator: it says what to do, and is told what happened.

A world (asyncio, trio, threads) carries out each `Wait` it yields, in this order:

1. stop the attempts in `stop`; one that never began, or has ended, is reported at once;
2. dispose of the values in `drop`: nobody will see them;
3. begin the attempt `start`;
4. wait until something happens, or until the instant `until`,

and sends in what it was: a `Done` for every attempt that was started, once; TIMER at `until` (earlier does no harm);
WAKEUP when the call's context was woken; CANCELLED when the caller has lost interest. The generator returns the
`Finished`, and only after every attempt it had started was reported. Closing it says that the caller has lost interest
and that all its attempts are over.

Without a hedge one attempt is under way at most, and there is nothing else to wait for, so a world may carry it out in
the caller's own task or thread, with `until` as its time limit. When the time is over: TIMER, then the `Done`.
"""

from collections.abc import Callable, Generator
from enum import Enum
from math import inf
from typing import Any, Final, NamedTuple, TypeVar

from sansio_client.call import CANCEL, FINISH, SEND, Attempt, Call
from sansio_client.outcome import CANCELLATION, Outcome, Rejected

from .calling import NOTHING, UNKNOWN, Ended, Finished, Judge, wake_all

T = TypeVar("T")


class Signal(Enum):
    """What can happen beside the end of an attempt."""

    TIMER = "timer"
    WAKEUP = "wakeup"
    CANCELLED = "cancelled"


TIMER: Final = Signal.TIMER
WAKEUP: Final = Signal.WAKEUP
CANCELLED: Final = Signal.CANCELLED


class Done(NamedTuple):
    """An attempt has ended. A value or an error is found again by `outcome`, which then must be no shared object."""

    attempt: Attempt
    outcome: Outcome
    value: Any = None
    error: Exception | None = None

    @property
    def droppable(self) -> bool:
        """Whether there is a value to dispose of when nobody gets it."""
        return self.value is not None


class Wait(NamedTuple):
    """What to do now, and until when to wait; see the module's docstring."""

    start: Attempt | None
    stop: tuple[Attempt, ...]
    drop: tuple[Any, ...]
    until: float


Input = Done | Signal
Driver = Generator[Wait, Input | None, Finished[T]]


def report(attempt: Attempt, judge: Judge, value: Any, error: Exception | None) -> Done:
    """What `judge` makes of the end of an attempt. If it fails itself, that is the error, and no evidence."""
    if value is NOTHING:
        value = None
    try:
        outcome = judge(value, error)
    except Exception as defect:  # noqa: BLE001 - given to the caller; the attempt has to be reported all the same
        error = defect
        outcome = UNKNOWN
    return Done(attempt, outcome.with_value(value if error is None else error), value, error)


def drive(call: Call, clock: Callable[[], float], first: Input | None = None) -> Driver[Any]:
    """Drive `call` to its end.

    Args:
        call: a new one; or an adopted one, whose attempt is under way, with its first input as `first`.
        clock: monotonic seconds; read once for every input.
        first: what has become of the adopted attempt.

    """
    wakeups = call.target.common.wakeups
    last: Done | None = None  # the report behind `call.last`, or behind the result
    drop: list[Any] = []
    event = first
    mask = 0
    now = clock()
    try:
        if event is None:
            mask = call.start(now)
        while True:
            if event is not None:
                mask = _feed(call, event, now)
                if isinstance(event, Done):
                    last = _sort(call, event, last, drop)
            wake_all(wakeups)
            if mask & FINISH:
                break
            if not mask and call.timer <= now:
                event = TIMER
                continue
            if mask & SEND and last is not None and last.droppable:
                # It may hold what the next attempt needs, the one connection of a pool for instance.
                drop.append(last.value)
                last = last._replace(value=None)
            wait = Wait(
                call.attempt if mask & SEND else None,
                (call.victim,) if mask & CANCEL and call.victim is not None else (),
                tuple(drop),
                call.timer,
            )
            drop.clear()
            event = yield wait
            now = clock()
        return (yield from _finish(call, clock, last, drop))
    except BaseException:
        # Closed, perhaps by a garbage collector, when the world and its clock have gone: hence no `clock()`.
        call.cancel(now)
        for attempt in tuple(call.flying):
            call.on_done(attempt, CANCELLATION, now)
        wake_all(wakeups)
        raise


def _feed(call: Call, event: Input, now: float) -> int:
    if isinstance(event, Done):
        return call.on_done(event.attempt, event.outcome, now)
    if event is TIMER:
        return call.on_timer(now)
    return call.on_wakeup(now) if event is WAKEUP else call.cancel(now)


def _sort(call: Call, done: Done, last: Done | None, drop: list[Any]) -> Done | None:
    """Keep the report that counts; what the other brought is to be dropped."""
    loser: Done | None = done
    if done.error is not None and done.droppable:
        drop.append(done.value)
        loser = done = done._replace(value=None)
    if done.outcome is call.last or done.outcome is call.result:
        loser, last = last, done
    if loser is not None and loser.droppable:
        drop.append(loser.value)
    return last


def _finish(call: Call, clock: Callable[[], float], last: Done | None, drop: list[Any]) -> Driver[Any]:
    """Have what is still under way stopped, and wait for it; then say how it ended."""
    result = call.result
    if last is not None and last.outcome is not result:
        if last.droppable:
            drop.append(last.value)
        last = last._replace(value=None)
    stop = tuple(call.flying)
    while call.flying or drop:
        event = yield Wait(None, stop, tuple(drop), inf if call.flying else -inf)
        stop = ()
        drop.clear()
        if isinstance(event, Done):
            call.on_done(event.attempt, event.outcome, clock())
            if event.droppable:
                drop.append(event.value)
        elif event is CANCELLED and last is not None and last.droppable:
            drop.append(last.value)  # the answer is here, but nobody who waits for it
            last = last._replace(value=None)
        wake_all(call.target.common.wakeups)
    value, error = (last.value, last.error) if last is not None and last.outcome is _word(result) else (None, None)
    return Ended(call, value, error, clock())


def _word(result: Outcome | Rejected | None) -> Outcome | None:
    """The peer's word in a result."""
    return result.last if isinstance(result, Rejected) else result

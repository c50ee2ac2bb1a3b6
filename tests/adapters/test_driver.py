"""The driver by itself, and the same behaviour in the three worlds that carry out what it says."""

import gc
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import pytest

from adapters import calling
from adapters.calling import Finished, judge_exception, judge_on
from adapters.driver import CANCELLED, TIMER, WAKEUP, Done, Wait, drive, report
from sansio_client.backoff import FullJitter, NoBackoff
from sansio_client.breaker import CLOSED, FORCED_OPEN, OPEN, BreakerSettings
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.core import Core
from sansio_client.errors import (
    BulkheadFull,
    CallRejected,
    CircuitOpen,
    DeadlineExceeded,
    LocalProtocolError,
    SettingError,
)
from sansio_client.outcome import FAILURE, SUCCESS, TIMEOUT, Outcome
from sansio_client.policy import Hedge, Policy
from sansio_client.ratelimit import RateLimit
from tests.adapters.worlds import (
    AsyncioWorld,
    Peer,
    World,
    assert_nothing_leaked,
    every_async_world,
    every_world,
    median,
)

# The driver by itself


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Parked:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def new_call(core: Core, **options: Any) -> Any:
    call = core.call("key", 100.0, **options)
    call.context = Parked()
    return call


def end_of(driver: Any, event: Any) -> Finished[Any]:
    with pytest.raises(StopIteration) as stop:
        driver.send(event)
    return stop.value.value  # type: ignore[no-any-return]


def test_a_call_is_a_start_and_a_report() -> None:
    core = Core(Policy(total_timeout=7.0), random=median)
    call = new_call(core)
    driver = drive(call, Clock())
    wait = next(driver)
    assert wait == Wait(call.attempt, (), (), 107.0)
    finished = end_of(driver, report(call.attempt, judge_exception, "page", None))
    assert (finished.value, finished.error, finished.reason, finished.attempts) == ("page", None, "ok", 1)
    assert finished.unwrap() == "page"


def test_waits_are_yielded_and_timers_that_are_early_do_no_harm() -> None:
    clock = Clock()
    call = new_call(Core(Policy(backoff=FullJitter(base_seconds=2.0)), random=median), may_repeat=True)
    driver = drive(call, clock)
    next(driver)
    wait = driver.send(Done(call.attempt, FAILURE))
    assert wait == Wait(None, (), (), 101.0)
    assert driver.send(TIMER) == wait
    clock.now = 101.0
    wait = driver.send(TIMER)
    assert wait.start is call.attempt
    assert wait.start.number == 2
    driver.close()


def test_what_an_input_unblocks_is_woken() -> None:
    core = Core(Policy(bulkhead=BulkheadSettings(limit=1)), random=median)
    first, second = new_call(core), new_call(core)
    one, other = drive(first, Clock()), drive(second, Clock())
    next(one)
    assert next(other).start is None
    end_of(one, Done(first.attempt, SUCCESS))
    assert second.context.woken == 1
    assert not core.wakeups
    assert other.send(WAKEUP).start is second.attempt
    end_of(other, Done(second.attempt, SUCCESS))


def test_every_attempt_is_awaited_before_the_end_and_the_losers_value_dropped() -> None:
    clock = Clock()
    core = Core(Policy(hedge=Hedge(after=1.0)), random=median)
    call = new_call(core, may_repeat=True)
    driver = drive(call, clock)
    loser = next(driver).start
    assert loser is not None
    clock.now = 101.0
    winner = driver.send(TIMER).start
    assert winner is not None
    wait = driver.send(report(winner, judge_exception, "won", None))
    assert wait == Wait(None, (loser,), (), inf)
    assert core.targets["key"].in_flight == 1
    wait = driver.send(TIMER)
    assert wait.stop == ()
    wait = driver.send(report(loser, judge_exception, "lost", None))
    assert wait.drop == ("lost",)
    assert end_of(driver, TIMER).value == "won"
    assert core.targets["key"].in_flight == 0


def test_an_answer_that_nobody_waits_for_any_more_is_dropped() -> None:
    clock = Clock()
    call = new_call(Core(Policy(hedge=Hedge(after=1.0)), random=median), may_repeat=True)
    driver = drive(call, clock)
    loser = next(driver).start
    assert loser is not None
    clock.now = 101.0
    winner = driver.send(TIMER).start
    assert winner is not None
    driver.send(report(winner, judge_exception, "won", None))
    wait = driver.send(CANCELLED)
    assert wait.drop == ("won",)
    assert end_of(driver, Done(loser, SUCCESS)).value is None


def test_closing_it_gives_everything_back() -> None:
    core = Core(Policy(bulkhead=BulkheadSettings(limit=1)), random=median)
    first, second = new_call(core), new_call(core)
    one, other = drive(first, Clock()), drive(second, Clock())
    next(one)
    next(other)
    one.close()
    assert second.context.woken == 1
    other.close()
    target = core.targets["key"]
    assert (target.in_flight, target.calls, target.bulkhead.live) == (0, 0, 0)


def test_a_refused_value_is_kept_while_waiting_and_dropped_before_the_next_attempt() -> None:
    clock = Clock()
    call = new_call(Core(Policy(backoff=NoBackoff()), random=median), may_repeat=True)

    def judge(value: Any, error: Exception | None) -> Outcome:
        return FAILURE if value != 200 else SUCCESS

    driver = drive(call, clock)
    next(driver)
    wait = driver.send(report(call.attempt, judge, 503, None))
    assert wait.start is call.attempt
    assert wait.drop == (503,)
    driver.send(report(call.attempt, judge, 502, None))
    finished = end_of(driver, report(call.attempt, judge, 500, None))
    assert (finished.value, finished.reason, finished.attempts) == (500, "attempts", 3)
    assert finished.unwrap() == 500


def test_a_judge_that_fails_is_the_error_and_loses_no_slot() -> None:
    core = Core(random=median)
    call = new_call(core)

    def judge(value: Any, error: Exception | None) -> Outcome:
        raise KeyError("defect")

    driver = drive(call, Clock())
    next(driver)
    wait = driver.send(report(call.attempt, judge, "value", None))
    assert wait.drop == ("value",)
    finished = end_of(driver, TIMER)
    assert isinstance(finished.error, KeyError)
    assert core.targets["key"].in_flight == 0


# What an exception says


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionRefusedError(), "connect"),
        (calling.gaierror(), "connect"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "read"),
        (BrokenPipeError(), "read"),
        (OSError(), "read"),
        (EOFError(), "read"),
        (FileNotFoundError(), "unknown"),
        (PermissionError(), "unknown"),
        (ValueError(), "unknown"),
        (DeadlineExceeded("inner", why="deadline", retry_at=inf), "unknown"),
        (CircuitOpen("inner", why="open", retry_at=inf), "unknown"),
    ],
)
def test_the_table_of_exceptions(error: Exception, outcome: str) -> None:
    assert judge_exception(None, error) is calling.FAILURES[outcome]


def test_judge_on_names_what_is_worth_another_attempt() -> None:
    judge = judge_on(ValueError, TimeoutError)
    assert judge(None, ValueError()) is FAILURE
    assert judge(None, TimeoutError()) is TIMEOUT
    assert judge(None, ConnectionRefusedError()) is calling.UNKNOWN
    assert judge("value", None) is SUCCESS


# The same in every world


@every_world
def test_what_fails_twice_is_sent_three_times(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(backoff=FullJitter(base_seconds=1.0)))
        for _ in range(2):
            peer = Peer(world, (0.25, ConnectionResetError), (0.25, ConnectionResetError), (0.25, "page"))
            began_at = world.now()
            finished = await world.run(resilient, peer, may_repeat=True)
            assert finished.unwrap() == "page"
            assert (finished.reason, finished.attempts) == ("ok", 3)
            assert peer.numbers == [1, 2, 3]
            assert [at - began_at for at in peer.began] == pytest.approx([0.0, 0.75, 2.0])
            assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_p45_the_last_real_error_is_raised_and_says_why_no_more_was_tried(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(backoff=NoBackoff(), breaker=BreakerSettings(consecutive_failures=3)))
        peer = Peer(world, ConnectionResetError)
        finished = await world.run(resilient, peer, may_repeat=True)
        assert isinstance(finished.error, ConnectionResetError)
        with pytest.raises(ConnectionResetError, match="attempt 3") as caught:
            finished.unwrap()
        assert caught.value is finished.error
        with pytest.raises(ConnectionResetError):
            finished.unwrap()
        assert caught.value.__notes__ == ["3 attempts; it was the last of max_attempts"]
        # The breaker opens at the third failure, in the middle of the next call: not "open" but the peer's own error.
        resilient.core.targets["default"].force_breaker(CLOSED, world.now())
        peer = Peer(world, ConnectionResetError)
        policy = Policy(max_attempts=5, backoff=NoBackoff(), retry_on_open=False)
        finished = await world.run(resilient, peer, may_repeat=True, policy=policy)
        assert (finished.reason, finished.attempts) == ("open", 3)
        with pytest.raises(ConnectionResetError) as caught:
            finished.unwrap()
        assert caught.value.__notes__ == ["3 attempts; the circuit breaker is open"]
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_the_breaker_opens_refuses_without_sending_and_recovers(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(breaker=BreakerSettings(open_seconds=4.0, open_jitter=0.0)))
        bad, good = Peer(world, ConnectionResetError), Peer(world, "page")
        for _ in range(5):
            await world.run(resilient, bad)
        finished = await world.run(resilient, good)
        assert good.attempts == 0
        assert finished.retry_after == 4.0
        with pytest.raises(CircuitOpen) as refused:
            finished.unwrap()
        assert (refused.value.why, refused.value.retry_at, refused.value.attempts) == ("open", world.now() + 4.0, 0)
        await world.sleep(4.0)
        assert (await world.run(resilient, good)).unwrap() == "page"
        assert resilient.core.targets["default"].breaker.state == CLOSED
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_a_retry_waits_for_the_breaker(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        breaker = BreakerSettings(consecutive_failures=1, open_seconds=4.0, open_jitter=0.0)
        resilient = world.resilient(Policy(breaker=breaker, backoff=NoBackoff()))
        peer = Peer(world, ConnectionResetError, "page")
        began_at = world.now()
        finished = await world.run(resilient, peer, may_repeat=True)
        assert (finished.unwrap(), finished.attempts) == ("page", 2)
        assert [at - began_at for at in peer.began] == [0.0, 4.0]
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_a_retry_that_waits_for_the_breaker_is_woken_when_it_closes(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(
            Policy(
                breaker=BreakerSettings(consecutive_failures=1, open_seconds=50.0, open_seconds_max=50.0),
                backoff=NoBackoff(),
            )
        )
        peer = Peer(world, ConnectionResetError, "page")
        began_at = world.now()

        async def call() -> None:
            assert (await world.run(resilient, peer, may_repeat=True)).unwrap() == "page"

        async def operator() -> None:
            await world.sleep(3.0)
            resilient.core.targets["default"].force_breaker(CLOSED, world.now())
            resilient.settle()

        await world.together(call, operator)
        assert [at - began_at for at in peer.began] == pytest.approx([0.0, 3.0])
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_a_call_that_is_woken_for_nothing_waits_on(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        breaker = BreakerSettings(consecutive_failures=1, open_seconds=4.0, open_growth=1.0, open_jitter=0.0)
        resilient = world.resilient(Policy(breaker=breaker, backoff=NoBackoff()))
        peer = Peer(world, ConnectionResetError, "page")
        began_at = world.now()

        async def call() -> None:
            assert (await world.run(resilient, peer, may_repeat=True)).unwrap() == "page"

        async def operator() -> None:
            for _ in range(3):
                await world.sleep(1.0)
                resilient.core.targets["default"].force_breaker(OPEN, world.now())
                resilient.settle()

        await world.together(call, operator)
        assert [at - began_at for at in peer.began] == [0.0, 7.0]
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_the_queue_is_first_come_first_served(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(bulkhead=BulkheadSettings(limit=1, queue_timeout=inf)))
        order: list[int] = []

        async def call(number: int) -> None:
            async def send(_: object) -> None:
                order.append(number)
                await world.sleep(1.0)

            (await world.run(resilient, send)).unwrap()

        for _ in range(2):
            began_at = world.now()
            order.clear()
            await world.together(*(partial(call, number) for number in range(6)))
            assert order == [0, 1, 2, 3, 4, 5]
            assert world.now() - began_at == 6.0
            assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_a_place_in_the_queue_is_given_up_in_time(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        bulkhead = BulkheadSettings(limit=1, queue_limit=1, queue_timeout=2.0)
        resilient = world.resilient(Policy(bulkhead=bulkhead))
        ended: dict[str, tuple[str, float]] = {}

        async def call(name: str, peer: Peer) -> None:
            began_at = world.now()
            finished = await world.run(resilient, peer)
            ended[name] = (finished.reason, world.now() - began_at)
            if finished.reason != "ok":
                with pytest.raises(BulkheadFull):
                    finished.unwrap()

        slow, never = Peer(world, (5.0, "page")), Peer(world, "never")
        await world.together(partial(call, "first", slow), partial(call, "queued", never), partial(call, "last", never))
        assert ended == {"first": ("ok", 5.0), "queued": ("queue-timeout", 2.0), "last": ("full", 0.0)}
        assert never.attempts == 0
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_retry_after_is_a_floor(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(max_retry_after=10.0))

        def judge(value: Any, error: Exception | None) -> Outcome:
            return SUCCESS if value == "page" else Outcome(FAILURE.verdict, FAILURE.effect, retry_after=value)

        peer = Peer(world, 5.0, "page")
        finished = await world.run(resilient, peer, may_repeat=True, judge=judge)
        assert finished.unwrap() == "page"
        assert peer.began[1] - peer.ended[0] == 5.25
        peer = Peer(world, 11.0)
        finished = await world.run(resilient, peer, may_repeat=True, judge=judge)
        assert (finished.value, finished.reason, finished.retry_after) == (11.0, "retry-after", 11.0)
        assert peer.attempts == 1
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_what_may_not_be_repeated_is_sent_once_unless_it_was_never_sent(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(backoff=NoBackoff()))
        for _ in range(2):
            peer = Peer(world, ConnectionResetError, "page")
            finished = await world.run(resilient, peer)
            assert (finished.reason, peer.attempts) == ("unsafe", 1)
            with pytest.raises(ConnectionResetError) as caught:
                finished.unwrap()
            assert "may_repeat" in caught.value.__notes__[0]
            peer = Peer(world, ConnectionRefusedError, "page")
            assert (await world.run(resilient, peer)).attempts == 2
            peer = Peer(world, ConnectionRefusedError, "page")
            finished = await world.run(resilient, peer, replayable=False)
            assert (finished.reason, peer.attempts) == ("body", 1)

    run(world, scenario)


@every_world
def test_p23_a_refused_connection_is_retried_with_all_defaults(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        peer = Peer(world, ConnectionRefusedError, "page")
        assert (await world.run(world.resilient(), peer)).unwrap() == "page"
        assert peer.attempts == 2
        peer = Peer(world, KeyError)  # and with the exceptions named, all of them are
        finished = await world.run(world.resilient(), peer, judge=judge_on(Exception), may_repeat=True)
        assert (finished.reason, peer.attempts) == ("attempts", 3)

    run(world, scenario)


@every_async_world
def test_the_deadline_ends_an_attempt(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(total_timeout=2.0))
        for _ in range(2):
            peer = Peer(world, (5.0, "page"))
            began_at = world.now()
            finished = await world.run(resilient, peer, may_repeat=True)
            assert (finished.reason, finished.attempts, world.now() - began_at) == ("deadline", 1, 2.0)
            with pytest.raises(DeadlineExceeded) as late:
                finished.unwrap()
            assert isinstance(late.value, TimeoutError)
            assert_nothing_leaked(resilient)

    run(world, scenario)


@every_async_world
def test_an_attempt_has_a_time_of_its_own(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(attempt_timeout=2.0, backoff=NoBackoff()))
        for _ in range(2):
            peer = Peer(world, (5.0, "late"), (1.0, "page"))
            began_at = world.now()
            finished = await world.run(resilient, peer, may_repeat=True)
            assert (finished.unwrap(), finished.attempts, world.now() - began_at) == ("page", 2, 3.0)
        peer = Peer(world, (5.0, "late"))
        finished = await world.run(resilient, peer)
        assert (finished.reason, finished.attempts) == ("unsafe", 1)
        with pytest.raises(TimeoutError) as late:
            finished.unwrap()
        assert not isinstance(late.value, CallRejected)
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_async_world
def test_an_earlier_error_is_not_taken_for_that_of_an_attempt_that_got_no_answer(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(attempt_timeout=2.0, max_attempts=2, backoff=NoBackoff()))
        finished = await world.run(resilient, Peer(world, ConnectionResetError, (9.0, "late")), may_repeat=True)
        assert (finished.reason, finished.error) == ("attempts", None)
        with pytest.raises(TimeoutError):
            finished.unwrap()
        # The deadline in the middle of an attempt leaves the word to the one before.
        finished = await world.run(
            resilient, Peer(world, ConnectionResetError, (9.0, "late")), may_repeat=True, timeout=1.0
        )
        assert finished.reason == "deadline"
        assert isinstance(finished.error, ConnectionResetError)

    run(world, scenario)


@every_world
def test_send_knows_how_much_time_it_has(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(total_timeout=10.0, attempt_timeout=4.0, backoff=NoBackoff(), breaker=None))
        left: list[float | None] = []

        async def send(attempt: Any) -> None:
            left.append(attempt.seconds_left())
            await world.sleep(3.75)
            raise TimeoutError

        for _ in range(2):
            left.clear()
            began_at = world.now()
            await world.run(resilient, send, may_repeat=True)
            assert left == [4.0, 4.0, 2.5]
            assert world.now() - began_at == (11.25 if world.name == "threads" else 10.0)  # nobody stops a thread
        left.clear()
        await world.run(resilient, send, timeout=2.0)
        await world.run(resilient, send, deadline=world.now() + 3.0)
        assert left == [2.0, 3.0]
        untimed = world.resilient(Policy(total_timeout=inf))
        left.clear()
        await world.run(untimed, send)
        await world.run(untimed, send)
        assert left == [None, None]

    run(world, scenario)


@every_world
def test_no_back_off_leads_past_the_deadline(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(total_timeout=2.0, backoff=FullJitter(base_seconds=8.0, cap_seconds=8.0)))
        peer = Peer(world, (1.0, ConnectionResetError))
        began_at = world.now()
        finished = await world.run(resilient, peer, may_repeat=True)
        assert (finished.reason, finished.attempts, world.now() - began_at) == ("deadline", 1, 1.0)
        with pytest.raises(ConnectionResetError):
            finished.unwrap()

    run(world, scenario)


@every_world
def test_the_rate_limiter_paces_calls(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(rate_limit=RateLimit(rate_per_second=1.0)))
        peer = Peer(world, "page")
        await world.together(*[partial(world.run, resilient, peer)] * 3)  # type: ignore[list-item]
        assert [at - peer.began[0] for at in peer.began] == pytest.approx([0.0, 1.0, 2.0])
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_async_world
def test_p38_the_hedge_wins_and_the_loser_is_cancelled_and_dropped(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(hedge=Hedge(after=1.0)))
        dropped: list[Any] = []
        peer = Peer(world, (50.0, "slow"), (0.5, "quick"))
        began_at = world.now()
        finished = await world.run(resilient, peer, may_repeat=True, discard=dropped.append)
        assert (finished.unwrap(), finished.attempts, world.now() - began_at) == ("quick", 2, 1.5)
        assert peer.ended[1] - began_at == 1.5, "the loser ended before the call did"
        assert dropped == []
        assert_nothing_leaked(resilient)
        # Both answer at the same instant: one wins, and what the other has brought is disposed of.
        peer = Peer(world, (2.0, "first"), (1.0, "second"))
        finished = await world.run(resilient, peer, may_repeat=True, discard=dropped.append)
        assert len(dropped) <= 1
        assert {finished.unwrap(), *dropped} <= {"first", "second"}
        assert finished.value not in dropped
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_async_world
def test_a_hedge_of_a_failed_attempt_goes_out_at_once_and_the_last_failure_counts(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(hedge=Hedge(after=10.0), backoff=NoBackoff()))
        peer = Peer(world, (1.0, ConnectionResetError), (1.0, ConnectionAbortedError), (1.0, ConnectionResetError))
        began_at = world.now()
        finished = await world.run(resilient, peer, may_repeat=True)
        assert (finished.reason, finished.attempts, world.now() - began_at) == ("attempts", 3, 3.0)
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_async_world
def test_a_hedge_that_outlasts_its_time_is_stopped(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        policy = Policy(hedge=Hedge(after=1.0), attempt_timeout=3.0, total_timeout=6.0, backoff=NoBackoff())
        resilient = world.resilient(policy)
        peer = Peer(world, (50.0, "never"))
        began_at = world.now()
        finished = await world.run(resilient, peer, may_repeat=True)
        assert [at - began_at for at in peer.began] == [0.0, 1.0, 3.0]
        assert [at - began_at for at in peer.ended] == [3.0, 4.0, 6.0]
        assert (finished.reason, world.now() - began_at) == ("deadline", 6.0)
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_values_are_disposed_of_before_the_next_attempt_and_the_last_is_handed_over(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(backoff=NoBackoff()))
        log: list[Any] = []

        def discard(value: Any) -> None:
            log.append(f"dropped {value}")
            raise ValueError("a discard that fails")

        async def send(attempt: Any) -> int:
            log.append(f"attempt {attempt.number}")
            return 500 + attempt.number  # type: ignore[no-any-return]

        for _ in range(2):
            log.clear()
            finished = await world.run(
                resilient, send, may_repeat=True, judge=lambda value, error: FAILURE, discard=discard
            )
            assert finished.unwrap() == 503
            assert log == ["attempt 1", "dropped 501", "attempt 2", "dropped 502", "attempt 3"]

    run(world, scenario)


@every_world
def test_p9_what_is_no_exception_passes_through_unchanged_and_uncounted(world: Callable[[], World]) -> None:
    class Leaving(BaseException):
        pass

    async def scenario(world: World) -> None:
        policy = Policy(breaker=BreakerSettings(consecutive_failures=1), hedge=None)
        resilient = world.resilient(policy)

        async def block(_: Any) -> None:
            raise leaving

        calls: list[Callable[[], Any]] = [
            lambda: world.run(resilient, block, may_repeat=True),
            lambda: world.run(resilient, block, may_repeat=True),  # the short way
            lambda: world.run(resilient, block, may_repeat=True, timeout=9.0),
            lambda: world.guard(resilient, block),
            lambda: world.attempts(resilient, block, may_repeat=True),
        ]
        if world.hedges:
            calls.append(lambda: world.run(resilient, block, may_repeat=True, policy=Policy(hedge=Hedge(after=1.0))))
        for call in calls:
            for leaving in (Leaving(), SystemExit(3)):
                if world.name == "asyncio" and call is calls[-1] and isinstance(leaving, SystemExit):
                    continue  # asyncio stops the loop when a task raises it
                with pytest.raises(type(leaving)) as caught:
                    await call()
                assert caught.value is leaving
                assert_nothing_leaked(resilient)
        assert resilient.core.targets["default"].breaker.state == CLOSED

    run(world, scenario)


@every_world
def test_p10_each_refusal_is_an_error_of_its_own(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient()
        peer = Peer(world, "page")
        await world.run(resilient, peer)
        resilient.core.targets["default"].force_breaker(FORCED_OPEN, world.now())
        errors, depths = set(), set()
        for _ in range(1000):
            finished = await world.run(resilient, peer)
            try:
                finished.unwrap()
            except CircuitOpen as error:
                errors.add(id(error))
                kept.append(error)
                depth, traceback = 0, error.__traceback__
                while traceback is not None:
                    depth, traceback = depth + 1, traceback.tb_next
                depths.add(depth)
        assert len(errors) == 1000
        assert len(depths) == 1

    kept: list[CircuitOpen] = []
    run(world, scenario)


@every_world
def test_p41_a_listener_may_use_the_core_and_may_fail(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        heard: list[tuple[Any, ...]] = []

        def listen(event: Any) -> None:
            heard.append(event)
            if event[1] == "ended":
                target = resilient.core.targets["default"]
                target.force_breaker(OPEN, world.now())
                target.force_breaker(CLOSED, world.now())
                resilient.settle()
            raise ValueError("a listener that fails")

        resilient = world.resilient(Policy(backoff=NoBackoff()), on_event=listen)
        peer = Peer(world, ConnectionResetError, "page")
        assert (await world.run(resilient, peer, may_repeat=True)).unwrap() == "page"
        names = [name for _, name, *_ in heard if name != "budget"]
        assert names == ["start", "send", "ended", "retry", "send", "breaker", "breaker", "ended", "finish", "breaker",
                         "breaker"]  # fmt: skip
        assert not resilient.core.common.events
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_p43_three_attempts_of_three_are_three(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        outer = world.resilient(Policy(backoff=NoBackoff()))
        inner = world.resilient(Policy(backoff=NoBackoff(), breaker=None))

        async def send(peer: Peer, attempt: Any) -> Any:
            return (await world.run(inner, peer, key="inner", may_repeat=True)).unwrap()

        for _ in range(2):
            peer = Peer(world, ConnectionResetError)
            await world.run(outer, partial(send, peer), may_repeat=True)
            assert peer.attempts == 3
        # An outer call that cannot be repeated leaves the repeating to the inner one.
        peer = Peer(world, ConnectionResetError, "page")
        finished = await world.run(outer, partial(send, peer), key="once")
        assert (finished.unwrap(), peer.attempts) == ("page", 2)
        single = world.resilient(Policy(max_attempts=1))
        peer = Peer(world, ConnectionResetError, "page")
        finished = await world.run(single, partial(send, peer), may_repeat=True)
        assert (finished.unwrap(), peer.attempts) == ("page", 2)
        # And so does one that was told to.
        multiplying = world.resilient(Policy(backoff=NoBackoff()), nested="retry")
        peer = Peer(world, ConnectionResetError)
        await world.run(multiplying, partial(send, peer), may_repeat=True)
        assert peer.attempts == 9

    run(world, scenario)


@every_world
def test_p43_what_is_nested_has_no_more_time_than_what_is_around_it(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        outer = world.resilient(Policy(total_timeout=5.0))
        inner = world.resilient(Policy(total_timeout=100.0))
        deadlines: list[float] = []

        async def innermost(attempt: Any) -> None:
            deadlines.append(attempt.deadline - world.now())

        async def send(_: Any) -> None:
            await world.sleep(1.0)
            (await world.run(inner, innermost)).unwrap()

        for _ in range(2):
            (await world.run(outer, send, may_repeat=True)).unwrap()
        assert deadlines == pytest.approx([4.0, 4.0])

    run(world, scenario)


@every_world
def test_p44_a_refusal_inside_is_no_failure_of_the_peer_outside(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        outer, inner = world.resilient(), world.resilient()
        peer = Peer(world, "page")
        await world.run(inner, peer)
        inner.core.targets["default"].force_breaker(FORCED_OPEN, world.now())

        async def send(_: Any) -> Any:
            return (await world.run(inner, peer)).unwrap()

        for _ in range(20):
            finished = await world.run(outer, send, may_repeat=True)
            assert isinstance(finished.error, CircuitOpen)
            assert (finished.reason, finished.attempts) == ("fatal", 1)
        assert outer.core.targets["default"].breaker.state == CLOSED

    run(world, scenario)


@every_world
def test_p49_one_policy_and_one_resilient_serve_a_hundred_calls_at_once(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        policy = Policy(backoff=FullJitter(base_seconds=1.0), breaker=None, total_timeout=20.0)
        resilient = world.resilient(policy)
        decorated: dict[int, int] = {}

        async def call(number: int) -> None:
            peer = Peer(world, *[(0.5, ConnectionResetError)] * (number % 3), (0.5, number))
            began_at = world.now()
            finished = await world.run(resilient, peer, may_repeat=True)
            assert (finished.unwrap(), finished.attempts) == (number, number % 3 + 1)
            assert world.now() - began_at == pytest.approx([0.5, 1.5, 3.0][number % 3])
            decorated[number] = number

        count = 20 if world.name == "threads" else 100
        await world.together(*(partial(call, number) for number in range(count)))
        assert len(decorated) == count
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_p8_a_decorated_function_that_fails_ten_times_opens_the_breaker(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient()
        sent = 0

        async def fetch(name: str) -> str:
            nonlocal sent
            sent += 1
            raise ConnectionResetError(name)

        call = world.decorate(resilient, fetch, may_repeat=False, key="host")
        for _ in range(5):
            with pytest.raises(ConnectionResetError, match="name"):
                await call("name")
        for _ in range(5):
            with pytest.raises(CircuitOpen):
                await call("name")
        assert sent == 5
        assert resilient.core.targets["host"].breaker.state == OPEN

    run(world, scenario)


@every_world
def test_a_decorated_function_is_repeated_for_the_exceptions_that_are_named(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(backoff=NoBackoff()))
        for named, attempts in (((KeyError,), 3), (LookupError, 3), (ValueError, 1)):
            peer = Peer(world, KeyError)
            call = world.decorate(resilient, peer.__call__, may_repeat=True, on=named, key=str(named))
            with pytest.raises(KeyError):
                await call()
            assert peer.attempts == attempts

    run(world, scenario)


@every_world
def test_a_guard_is_one_attempt_around_a_block(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(bulkhead=BulkheadSettings(limit=1)))
        order: list[float] = []
        began_at = world.now()

        async def guarded() -> None:
            async def block(attempt: Any) -> None:
                assert attempt.number == 1
                assert resilient.core.targets["db"].in_flight == 1
                order.append(world.now() - began_at)
                await world.sleep(1.0)

            await world.guard(resilient, block, key="db")

        await world.together(guarded, guarded, guarded)
        assert order == pytest.approx([0.0, 1.0, 2.0])

        async def fails(_: Any) -> None:
            raise ConnectionRefusedError

        for _ in range(5):
            with pytest.raises(ConnectionRefusedError):
                await world.guard(resilient, fails, key="db")
        with pytest.raises(CircuitOpen):
            await world.guard(resilient, fails, key="db")
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_async_world
def test_a_guard_ends_its_block_in_time(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        async def block(_: Any) -> None:
            await world.sleep(50.0)

        for policy, kind in (
            (Policy(total_timeout=2.0), DeadlineExceeded),
            (Policy(attempt_timeout=2.0), TimeoutError),
        ):
            resilient = world.resilient(policy)
            began_at = world.now()
            with pytest.raises(kind):
                await world.guard(resilient, block)
            assert world.now() - began_at == 2.0
            assert_nothing_leaked(resilient)
            assert resilient.core.targets["default"].breaker.consecutive == 1

    run(world, scenario)


@every_world
def test_attempts_are_a_loop(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        policy = Policy(backoff=FullJitter(base_seconds=1.0), hedge=Hedge(after=1.0) if world.hedges else None)
        resilient = world.resilient(policy)
        peer = Peer(world, ConnectionResetError, (0.25, ConnectionResetError), "page")
        began_at = world.now()
        await world.attempts(resilient, peer, may_repeat=True)
        assert [at - began_at for at in peer.began] == pytest.approx([0.0, 0.5, 1.75])
        assert peer.numbers == [1, 2, 3]
        # What is not worth it leaves the loop at once, what is exhausted with the last error.
        peer = Peer(world, KeyError)
        with pytest.raises(KeyError):
            await world.attempts(resilient, peer, may_repeat=True)
        assert peer.attempts == 1
        peer = Peer(world, ConnectionResetError)
        with pytest.raises(ConnectionResetError, match="attempt 3") as caught:
            await world.attempts(resilient, peer, may_repeat=True)
        assert caught.value.__notes__ == ["3 attempts; it was the last of max_attempts"]
        assert peer.attempts == 3
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_attempts_that_end_while_waiting_raise_the_last_error(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(backoff=FullJitter(base_seconds=2.0)))
        peer = Peer(world, ConnectionResetError)

        async def block(view: Any) -> None:
            if peer.attempts == 1:  # not by this call: it finds the breaker open after its wait
                resilient.core.targets["default"].force_breaker(FORCED_OPEN, world.now())
            await peer(view)

        peer.began.append(0.0)
        with pytest.raises(ConnectionResetError) as caught:
            await world.attempts(resilient, block, may_repeat=True)
        assert caught.value.__notes__ == ["1 attempt; the circuit breaker is open"]
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_async_world
def test_attempts_have_a_time_of_their_own(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(attempt_timeout=2.0, total_timeout=5.0, backoff=NoBackoff()))
        peer = Peer(world, (9.0, "late"))
        began_at = world.now()
        with pytest.raises(DeadlineExceeded):
            await world.attempts(resilient, peer, may_repeat=True)
        assert [at - began_at for at in peer.ended] == [2.0, 4.0, 5.0]
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_an_attempt_that_is_not_used_or_used_twice_is_a_mistake_that_leaks_nothing(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient()
        if world.name == "threads":
            with pytest.raises(LocalProtocolError, match="with attempt"):
                for _ in resilient.attempts(may_repeat=True):
                    pass
            for _ in resilient.attempts(may_repeat=True):
                break
            for attempt in resilient.attempts(may_repeat=True):
                with attempt:
                    pass
                with pytest.raises(LocalProtocolError), attempt:
                    pass
            guard = resilient.guard()
            with guard:
                pass
            with pytest.raises(LocalProtocolError), guard:
                pass
        else:
            with pytest.raises(LocalProtocolError, match="with attempt"):
                async for _ in resilient.attempts(may_repeat=True):
                    pass
            async for _ in resilient.attempts(may_repeat=True):
                break
            async for attempt in resilient.attempts(may_repeat=True):
                with attempt:
                    pass
                with pytest.raises(LocalProtocolError), attempt:
                    pass
            guard = resilient.guard()
            async with guard:
                pass
            with pytest.raises(LocalProtocolError):
                async with guard:
                    pass
        gc.collect()
        assert_nothing_leaked(resilient)

    run(world, scenario)


@every_world
def test_policies_may_change_under_way(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(total_timeout=inf))
        peer = Peer(world, "page")
        await world.run(resilient, peer)
        resilient.core.reconfigure(Policy(max_attempts=1, total_timeout=7.0), world.now())
        resilient.settle()
        deadlines = []

        async def send(attempt: Any) -> None:
            deadlines.append(attempt.deadline - world.now())
            raise ConnectionRefusedError

        for _ in range(3):
            assert (await world.run(resilient, send, may_repeat=True)).attempts == 1
        assert deadlines == pytest.approx([7.0] * 3)

    run(world, scenario)


@every_world
def test_settings_are_checked(world: Callable[[], World]) -> None:
    module = world().module
    with pytest.raises(SettingError, match="nested"):
        module.Resilient(nested="twice")
    with pytest.raises(TypeError, match="not both"):
        module.Resilient(Policy(), core=Core(random=median))
    core = Core(random=median)
    assert module.Resilient(core=core).core is core


@every_world
def test_the_worlds_are_parallel_texts(world: Callable[[], World]) -> None:
    """The same class with the same methods and arguments; threads add two of their own."""
    import inspect

    module = world().module
    ours, theirs = module.Resilient, AsyncioWorld.module.Resilient
    for name in ("run", "guard", "attempts", "resilient", "settle"):
        mine, other = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (ours, theirs))
        assert mine == other
    mine, other = (set(inspect.signature(kind).parameters) for kind in (ours, theirs))
    assert mine - other <= {"waitable", "lock"}
    assert other <= mine
    assert list(inspect.signature(module.resilient).parameters) == ["policy", "may_repeat", "key", "on", "judge"]


def run(world: Callable[[], World], scenario: Any) -> None:
    made = world()
    made.play(lambda _: scenario(made))

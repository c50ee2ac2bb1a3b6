"""What only threads have: several at once, a lock that must not be held, and nothing that could be stopped."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

import adapters.threads
from adapters.calling import AttemptView, current_attempt
from adapters.threads import Resilient
from sansio_client.backoff import FullJitter, NoBackoff
from sansio_client.breaker import CLOSED, OPEN
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.core import Core
from sansio_client.errors import BulkheadFull, SettingError
from sansio_client.outcome import FAILURE
from sansio_client.policy import Hedge, Policy
from tests.adapters.worlds import Bell, ThreadsWorld, ThreadTime, assert_nothing_leaked, median

PATIENCE = 30.0  # real seconds until a deadlock is called one; nothing here takes any of them

both_ways = pytest.mark.parametrize(
    "way", [pytest.param({"deadline": float("inf")}, id="long way"), pytest.param({}, id="short way")]
)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(number)` in real threads of which all must end, the first failure raised."""
    failures: list[BaseException] = []

    def one(number: int) -> None:
        try:
            work(number)
        except BaseException as failure:  # noqa: BLE001 - raised in the test
            failures.append(failure)

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "deadlock"
    if failures:
        raise failures[0]


@both_ways
def test_p7_ten_calls_are_in_flight_at_once(way: dict[str, Any]) -> None:
    """They meet at a barrier, which they could not if one waited for another, or for a lock held around `send`."""
    resilient = Resilient()
    resilient.run(lambda _: "page")
    barrier = threading.Barrier(10)

    def call(_: int) -> None:
        resilient.run(lambda _: barrier.wait(PATIENCE), may_repeat=True, **way).unwrap()

    in_threads(10, call)
    assert_nothing_leaked(resilient)


def test_p7_ten_guards_and_loops_are_in_flight_at_once() -> None:
    resilient = Resilient()
    barrier = threading.Barrier(10)

    def work(number: int) -> None:
        if number % 2:
            with resilient.guard():
                barrier.wait(PATIENCE)
        else:
            for attempt in resilient.attempts(may_repeat=True):
                with attempt:
                    barrier.wait(PATIENCE)

    in_threads(10, work)
    assert_nothing_leaked(resilient)


def test_p41_ten_threads_and_a_listener_that_uses_the_core() -> None:
    """It is called without the lock, by one thread at a time, in order."""
    heard: list[tuple[Any, ...]] = []
    inside = 0

    def listen(event: Any) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        if event[1] == "ended":
            with resilient.lock:
                resilient.core.targets["default"].force_breaker(CLOSED, event[0])
            resilient.settle()
        heard.append(event)
        inside -= 1

    resilient = Resilient(Policy(backoff=NoBackoff(), budget=None), on_event=listen)

    def work(number: int) -> None:
        for _ in range(20):
            failures = [ConnectionResetError, ConnectionResetError]

            def send(_: AttemptView, failures: Any = failures) -> int:
                if failures:
                    raise failures.pop()
                return number

            assert resilient.run(send, may_repeat=True).unwrap() == number

    in_threads(10, work)
    assert_nothing_leaked(resilient)
    for call_id in {event[2] for event in heard} - {0}:
        names = [name for _, name, call, *_ in heard if call == call_id]
        assert names == ["start", "send", "ended", "retry", "send", "ended", "retry", "send", "ended", "finish"]
    assert len({event[2] for event in heard} - {0}) == 200


def test_a_crowd_of_threads_never_exceeds_the_limit_and_leaks_nothing() -> None:
    resilient = Resilient(
        Policy(
            backoff=NoBackoff(),
            budget=None,
            breaker=None,
            bulkhead=BulkheadSettings(limit=3, queue_timeout=inf),
        )
    )
    lock = threading.Lock()
    inside = highest = 0

    def work(number: int) -> None:
        nonlocal inside, highest
        for turn in range(100):
            failures = (number + turn) % 3

            def send(attempt: AttemptView, failures: int = failures) -> int:
                nonlocal inside, highest
                with lock:
                    inside += 1
                    highest = max(highest, inside)
                try:
                    if attempt.number <= failures:
                        raise ConnectionResetError
                    return attempt.number
                finally:
                    with lock:
                        inside -= 1

            assert resilient.run(send, may_repeat=True).unwrap() == failures + 1

    in_threads(8, work)
    assert 1 <= highest <= 3
    assert_nothing_leaked(resilient)


def test_one_lock_serves_two_of_them_on_one_core() -> None:
    core = Core(Policy(bulkhead=BulkheadSettings(limit=1, queue_timeout=inf)), random=median)
    lock = threading.Lock()
    both = [Resilient(core=core, lock=lock), Resilient(core=core, lock=lock)]
    order: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            both[number % 2].run(lambda _: order.append(number)).unwrap()

    in_threads(4, work)
    assert len(order) == 200
    for each in both:
        assert_nothing_leaked(each)


def test_decisions_are_made_under_the_lock_and_nothing_else_is() -> None:
    """Chance and the back-off are asked in the middle of decisions."""
    asked = []

    def chance() -> float:
        asked.append(resilient.lock.locked())
        return 0.5

    def send(_: object) -> None:
        assert not resilient.lock.locked()
        raise ConnectionResetError

    def dispose(_: object) -> None:
        assert not resilient.lock.locked()

    time = ThreadTime()
    resilient = Resilient(Policy(), clock=lambda: time.now, random=chance, waitable=time.bell)
    resilient.run(send, may_repeat=True)
    resilient.run(send, may_repeat=True, deadline=float("inf"))
    resilient.run(lambda _: 503, may_repeat=True, judge=lambda *_: FAILURE, discard=dispose)
    assert len(asked) >= 4
    assert all(asked)
    assert_nothing_leaked(resilient)


# Nothing can be stopped


def test_hedging_is_refused_wherever_it_comes_from() -> None:
    hedged = Policy(hedge=Hedge(after=1.0))
    for make in (lambda: Resilient(hedged), lambda: Resilient(core=Core(hedged, random=median))):
        with pytest.raises(SettingError, match="cannot be stopped"):
            make()
    resilient = Resilient()
    with pytest.raises(SettingError, match="cannot be stopped"):
        resilient.run(lambda _: "page", policy=hedged)
    resilient.core.reconfigure(hedged, 0.0)
    with pytest.raises(SettingError, match="cannot be stopped"):
        resilient.run(lambda _: "page")
    assert_nothing_leaked(resilient)


@both_ways
def test_a_late_answer_is_an_answer_and_a_late_failure_is_the_end(way: dict[str, Any]) -> None:
    world = ThreadsWorld()

    async def scenario(_: object) -> None:
        resilient = world.resilient(Policy(total_timeout=2.0, backoff=NoBackoff()))

        def late(attempt: AttemptView) -> str:
            assert attempt.seconds_left() == 2.0
            world.time.bell().wait(3.0)
            return "page"

        def too_late(attempt: AttemptView) -> str:
            world.time.bell().wait(3.0)
            raise TimeoutError("of the socket")

        for _ in range(2):
            assert resilient.run(late, may_repeat=True, **way).unwrap() == "page"
            finished = resilient.run(too_late, may_repeat=True, **way)
            assert (finished.reason, finished.attempts) == ("deadline", 1)
            with pytest.raises(TimeoutError, match="of the socket"):
                finished.unwrap()
        assert_nothing_leaked(resilient)

    world.play(scenario)


class Interrupting(Bell):
    """Ctrl-C comes while somebody waits."""

    def wait(self, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt


def test_p9_an_interrupt_while_waiting_passes_through_and_leaves_nothing_behind() -> None:
    time = ThreadTime()
    resilient = Resilient(
        Policy(backoff=FullJitter()), clock=lambda: time.now, random=median, waitable=lambda: Interrupting(time)
    )

    def fail(_: AttemptView) -> None:
        raise ConnectionResetError

    def loop() -> None:
        for attempt in resilient.attempts(may_repeat=True):
            with attempt:
                raise ConnectionResetError

    dropped: list[int] = []
    for call in (
        lambda: resilient.run(fail, may_repeat=True),
        lambda: resilient.run(fail, may_repeat=True, deadline=float("inf")),
        lambda: resilient.run(lambda _: 503, may_repeat=True, judge=lambda *_: FAILURE, discard=dropped.append),
        loop,
    ):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert_nothing_leaked(resilient)
    assert dropped == [503]


def test_a_loop_that_is_left_between_attempts_is_over() -> None:
    time = ThreadTime()
    resilient = Resilient(clock=lambda: time.now, random=median, waitable=time.bell)

    def leave() -> None:
        for attempt in resilient.attempts(may_repeat=True):
            with attempt:
                raise ConnectionResetError
            break

    leave()
    assert_nothing_leaked(resilient)


# Functions


def test_p8_a_coroutine_function_is_refused_by_name() -> None:
    async def coroutine() -> None: ...

    async def generator() -> Any:
        yield

    for function in (coroutine, generator):
        with pytest.raises(TypeError, match=r"adapters\.asyncio or adapters\.trio"):
            adapters.threads.resilient(may_repeat=True)(function)


@both_ways
def test_p8_a_send_that_returns_a_coroutine_is_no_success(way: dict[str, Any]) -> None:
    async def coroutine(_: object) -> None: ...

    resilient = Resilient()
    for _ in range(10):
        finished = resilient.run(coroutine, may_repeat=True, **way)
        assert (finished.reason, finished.attempts) == ("fatal", 1)
        with pytest.raises(TypeError, match="nobody awaits"):
            finished.unwrap()
    assert_nothing_leaked(resilient)


def test_a_decorated_function_knows_its_time() -> None:
    @adapters.threads.resilient(Policy(total_timeout=60.0, backoff=NoBackoff()), may_repeat=True, on=KeyError)
    def fetch(url: str) -> str:
        """Fetch it."""
        attempt = current_attempt()
        assert attempt is not None
        left = attempt.seconds_left()
        assert left is not None
        assert 0 < left <= 60.0
        numbers.append(attempt.number)
        if attempt.number == 1:
            raise KeyError
        return url

    numbers: list[int] = []
    for _ in range(2):
        assert fetch("here") == "here"
    assert (fetch.__name__, fetch.__doc__, numbers) == ("fetch", "Fetch it.", [1, 2, 1, 2])


def test_p47_it_works_beside_a_running_loop() -> None:
    async def main() -> None:
        resilient = Resilient(Policy(backoff=NoBackoff()))
        failures = [ConnectionRefusedError]

        def send(_: AttemptView) -> str:
            if failures:
                raise failures.pop()
            return "page"

        assert (await asyncio.to_thread(resilient.run, send)).unwrap() == "page"

    asyncio.run(main())


def test_a_guard_that_is_refused_says_why() -> None:
    resilient = Resilient(Policy(bulkhead=BulkheadSettings(limit=1, queue_limit=0)))
    with resilient.guard(), pytest.raises(BulkheadFull), resilient.guard():
        pass
    resilient.core.targets["default"].force_breaker(OPEN, 0.0)
    assert_nothing_leaked(resilient)


# Memory


@both_ways
def test_what_failed_is_not_kept_alive_by_its_own_traceback(way: dict[str, Any]) -> None:
    class Something:
        pass

    resilient = Resilient(Policy(backoff=NoBackoff(), breaker=None))
    kept: list[weakref.ref[Something]] = []

    def send(_: object) -> None:
        something = Something()
        kept.append(weakref.ref(something))
        raise ConnectionResetError

    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            try:
                resilient.run(send, may_repeat=True, **way).unwrap()
            except ConnectionResetError:
                pass
        assert [ref() for ref in kept] == [None] * 3 * 2
    finally:
        gc.enable()

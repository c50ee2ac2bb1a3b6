"""The core's main test: a random walk with books kept beside it (`walk.py`), long enough to meet everything it can do.

The ordinary run makes half a million steps, `make soak` ten million; `WALK_STEPS` says otherwise for both (the mutation
run makes it short). A failure names its seed: `Walk(seed).run(...)` repeats it.
"""

import hashlib
import os
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansio_client.backoff import Constant
from sansio_client.breaker import BreakerSettings
from sansio_client.budget import AwsQuota, ConcurrentShare, GrpcThrottle
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.call import CANCEL, FINISH, SEND, Attempt, Call
from sansio_client.core import Core
from sansio_client.outcome import CANCELLATION, DEFINITE, FAILURE, SUCCESS, THROTTLE, TIMEOUT, Outcome
from sansio_client.policy import Policy
from sansio_client.simulator.recording import RecordingCore, replay
from sansio_client.target import Target
from sansio_client.windows import CountWindow
from tests.sansio_client.walk import Coverage, Walk, walk

PARTS = 10
STEPS = int(os.environ.get("WALK_STEPS", "500000"))
SOAK_STEPS = int(os.environ.get("WALK_STEPS", "10000000"))
STEPS_OF_A_WALK = 1500  # then other policies, another mix: new worlds find more than long lives


def walks(first_seed: int, steps: int) -> None:
    coverage = Coverage()
    seed = first_seed
    while coverage.steps < steps:
        walk(seed, STEPS_OF_A_WALK, coverage)
        seed += 1


@pytest.mark.parametrize("part", range(PARTS))
def test_half_a_million_random_steps_break_no_invariant(part: int) -> None:
    walks(100_000 * part, STEPS // PARTS)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_ten_million_random_steps_break_no_invariant(part: int) -> None:
    walks(100_000 * part, SOAK_STEPS // PARTS)


def test_the_walk_makes_every_transition_of_the_tables_and_no_other() -> None:
    """One that is not listed fails where it is made, in `Walk.feed`."""
    coverage = Coverage()
    for seed in range(2_000_000, 2_000_600):
        walk(seed, STEPS_OF_A_WALK, coverage)
        if not coverage.missing():
            break
    assert not coverage.missing()


def digest_of_walks() -> str:
    said = hashlib.sha256()
    for seed in range(4_000_000, 4_000_020):
        walker = Walk(seed)
        walker.run(800)
        walker.drain()
        said.update(repr((walker.steps, walker.now, walker.elapsed)).encode())
        for record in walker.records.values():
            call = record.call
            said.update(f"{call.reason} {call.attempts} {call.deadline!r} {record.elapsed!r}".encode())
    return said.hexdigest()


# Decisions, times and draws of 16 000 inputs. A change to the core that changes decisions, or to the walk, changes it;
# then, and only then, `python -m tests.sansio_client.test_walk` prints the new one.
WALKED = "f65109f5c821032b952d381d3a3242e3f9660724e950630863bdb8ce72fbda7d"


def test_a_walk_is_repeated_by_its_seed_on_every_python() -> None:
    assert digest_of_walks() == WALKED


@pytest.mark.parametrize("seed", range(8))
def test_a_recorded_walk_is_replayed_to_the_same_decisions(seed: int) -> None:
    """All inputs there are: clocks that go back, other settings, misuse, the short way and the long."""
    lines: list[str] = []
    cores: list[RecordingCore] = []

    def make_core(policy: Policy, **options: Any) -> Core:
        cores.append(RecordingCore(policy, write=lines.append, **options))
        return cores[0]

    walker = Walk(3_000_000 + seed, make_core=make_core)
    walker.run(1000)
    walker.drain()
    inputs = len([line for line in lines if line.startswith(">")])
    assert inputs > 1000
    assert replay(lines, cores[0].policies) == inputs


# The short way against the machine

OUTCOMES = (SUCCESS, SUCCESS, SUCCESS, FAILURE, THROTTLE, DEFINITE, CANCELLATION, TIMEOUT)

# No deadline: who goes the short way has no timer, and its driver watches the time (see `adapters`).
POLICIES = tuple(
    Policy(total_timeout=inf, backoff=Constant(0.1), **changes)
    for changes in (
        {"max_attempts": 1},
        {"max_attempts": 2, "bulkhead": BulkheadSettings(limit=2, queue_limit=2)},
        {"max_attempts": 3, "breaker": BreakerSettings(consecutive_failures=2, open_seconds=1.0)},
        {
            "max_attempts": 2,
            "breaker": BreakerSettings(consecutive_failures=None, window=CountWindow(4), minimum_calls=2),
            "budget": GrpcThrottle(4, 0.5),
        },
        {"max_attempts": 3, "breaker": None, "bulkhead": None, "budget": ConcurrentShare(0.2, 1)},
        {"max_attempts": 3, "breaker": None, "budget": AwsQuota(12)},
    )
)


class Shop:
    """A core driven the short way where it can be, or never; told the same either way."""

    def __init__(self, policy: Policy, *, short: bool) -> None:
        self.core = Core(policy, random=lambda: 0.25)
        self.now = 0.0
        self.target: Target = self.core.target("host", self.now)
        self.short = short
        self.out: list[Attempt | tuple[int, float]] = []
        self.calls: list[Call] = []
        self.masks: list[int] = []

    def begin(self) -> None:
        generation = self.target.enter() if self.short else 0
        if generation:
            self.out.append((generation, self.now))
        else:
            call = self.core.call("host", self.now, may_repeat=True)
            self.calls.append(call)
            self.obey(call, call.start(self.now))

    def end(self, at: int, outcome: Outcome) -> None:
        if not self.out:
            return None
        attempt = self.out.pop(at % len(self.out))
        if isinstance(attempt, tuple):
            generation, started_at = attempt
            if outcome is SUCCESS:
                if not self.target.leave(generation):
                    self.target.leave_at(generation, self.now)
                return self.drain()
            if outcome is CANCELLATION:
                self.target.leave_unproved(generation, self.now)
                return self.drain()
            attempt = self.core.adopt(self.target, generation, started_at, self.now, may_repeat=True)
            self.calls.append(attempt.call)
        return self.obey(attempt.call, attempt.call.on_done(attempt, outcome, self.now))

    def obey(self, call: Call, mask: int) -> None:
        while True:
            assert not mask & CANCEL
            if mask & SEND:
                assert call.attempt is not None
                self.out.append(call.attempt)
            if mask & FINISH or call.timer > self.now:
                break
            mask = call.on_timer(self.now)
        self.drain()

    def drain(self) -> None:
        while self.core.wakeups:
            call = self.core.wakeups.pop(0)
            assert isinstance(call, Call)
            self.obey(call, call.on_wakeup(self.now))

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            due = min((call for call in self.calls if call.timer <= until), key=lambda call: call.timer, default=None)
            if due is None:
                break
            self.now = max(self.now, due.timer)
            self.obey(due, due.on_timer(self.now))
        self.now = until
        self.drain()

    def state(self) -> object:
        """All that decides what becomes of calls to come."""
        target, breaker, budget = self.target, self.target.breaker, self.target.budget
        assert not self.core.wakeups
        target.tell_quiet(self.now)
        return (
            target.bulkhead.used,
            target.bulkhead.live,
            len(self.out),
            len(target.parked or ()),
            breaker and (breaker.state, breaker.generation, breaker.consecutive, breaker.openings, breaker.retry_at),
            breaker and breaker._window and (breaker._window.total, breaker._window.failures),
            breaker and (breaker._probes_out, breaker._probes_ok, breaker._quiet),
            budget and budget.level(),
        )


@settings(max_examples=150, deadline=None)
@given(
    policy=st.sampled_from(POLICIES),
    schedule=st.lists(
        st.one_of(
            st.just(("begin",)),
            st.tuples(st.just("end"), st.integers(0, 7), st.sampled_from(OUTCOMES)),
            st.tuples(st.just("advance"), st.sampled_from((0.01, 0.1, 1.0, 7.0))),
        ),
        max_size=60,
    ),
)
def test_the_short_way_leaves_the_target_as_the_machine_does(policy: Policy, schedule: list[tuple[Any, ...]]) -> None:
    short, machine = Shop(policy, short=True), Shop(policy, short=False)
    for name, *arguments in schedule:
        for shop in (short, machine):
            getattr(shop, name)(*arguments)
        assert short.state() == machine.state()
    others = [
        sorted(call.reason for call in shop.calls if call.reason not in ("", "ok", "cancelled"))
        for shop in (short, machine)
    ]
    assert others[0] == others[1]


if __name__ == "__main__":
    print(digest_of_walks())

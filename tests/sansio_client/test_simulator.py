"""The virtual-time world: one seed, one history; and what was recorded is replayed to the same decisions."""

import hashlib
from collections.abc import Callable
from math import inf, isclose
from random import Random

import pytest

from sansio_client import events as event
from sansio_client.adaptive import Gradient2, Vegas
from sansio_client.backoff import Decorrelated, GrpcJitter, PollyDecorrelatedV2
from sansio_client.breaker import FORCED_OPEN, BreakerSettings
from sansio_client.budget import ConcurrentShare, GrpcThrottle, RatioBudget
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.call import Call
from sansio_client.core import Core
from sansio_client.errors import LocalProtocolError, SettingError
from sansio_client.outcome import FAILURE, FAILURES, SUCCESS, THROTTLE, Outcome, classify
from sansio_client.policy import Hedge, Policy
from sansio_client.ratelimit import RateLimit
from sansio_client.simulator import (
    Arrivals,
    Callers,
    Exponential,
    Fixed,
    Law,
    Mixed,
    Pareto,
    Phase,
    RecordingCore,
    ReplayDiverged,
    Server,
    Uniform,
    World,
    replay,
)
from sansio_client.throttle import ClientThrottle
from sansio_client.windows import TimeWindow

ASKED = classify(503, [("Retry-After", "1")])

# One of each: what a trace depends on. A change to the core that changes decisions changes these; then, and only then,
# `python -m tests.sansio_client.test_simulator` prints the new ones.
TRACED: dict[str, tuple[Policy, str]] = {
    "default": (
        Policy(),
        "e62011abee9979674093362250975f7bba8cf94755aa649fef7651601ab307b5",
    ),
    "hedged": (
        Policy(
            hedge=Hedge(quantile=0.9, minimum_samples=20, parallel=3),
            attempt_timeout=1.0,
            backoff=Decorrelated(),
            budget=RatioBudget(),
            breaker=BreakerSettings(window=TimeWindow(), slow_call_seconds=2.0),
        ),
        "5d0018f569195f9071678ec6fa1e3ceecd7f76c37dff94e431da37e5a274e25a",
    ),
    "crowded": (
        Policy(
            bulkhead=BulkheadSettings(limit=4, queue_limit=20, order="lifo"),
            adaptive=Gradient2(4, 2, 40),
            backoff=PollyDecorrelatedV2(),
            budget=GrpcThrottle(),
            throttle=ClientThrottle(),
        ),
        "833e411a976fe96eabf577354f864c348c5a9c4cd24103060137de1ae919e5c7",
    ),
    "paced": (
        Policy(
            rate_limit=RateLimit(80.0, 10),
            adaptive=Vegas(),
            backoff=GrpcJitter(),
            budget=ConcurrentShare(),
            hedge=Hedge(after=0.05),
        ),
        "e584ddb9319ce2a64d9f1f153fb48a1c760924f87d6055bdcbac3142f6b8c562",
    ),
}


def ill_server() -> Server:
    return Server(
        Mixed(Exponential(0.04), Pareto(0.2), 0.05),
        workers=12,
        line=60,
        refusal=THROTTLE,
        phases=[Phase(3.0, 6.0, 0.5, failure=ASKED), Phase(8.0, 9.0, after=inf), Phase(10.0, 12.0, 0.1, slowness=4.0)],
    )


def trace_of(policy: Policy, seed: int, core: Core | None = None) -> list[str]:
    trace: list[str] = []
    world = World(policy, seed=seed, peers={"api": ill_server()}, trace=trace, core=core)
    Arrivals(world, "api", per_second=100.0, until=15.0)
    Callers(world, "api", number=5, calls=20, begin=Uniform(0.0, 1.0), think=Exponential(0.5), may_repeat=False)
    world.run()
    assert world.core.targets["api"].in_flight == 0
    return trace


def digest(trace: list[str]) -> str:
    return hashlib.sha256("\n".join(trace).encode()).hexdigest()


@pytest.mark.parametrize("name", TRACED)
def test_the_same_seed_gives_the_same_trace_on_every_python(name: str) -> None:
    policy, expected = TRACED[name]
    trace = trace_of(policy, 2026)
    assert len(trace) > 2000
    assert digest(trace) == expected


def test_another_seed_is_another_history() -> None:
    assert trace_of(Policy(), 1) == trace_of(Policy(), 1) != trace_of(Policy(), 2)


def test_every_kind_of_event_but_the_adaptive_limits_appears_in_some_trace() -> None:
    seen = {line.split()[1] for policy, _ in TRACED.values() for line in trace_of(policy, 2026)}
    assert seen == set(event.NAMES)


# The world


def into(ended: list[Call]) -> Callable[[Call | None, float], None]:
    def on_end(call: Call | None, began_at: float) -> None:
        assert call is not None
        ended.append(call)

    return on_end


def test_time_goes_from_event_to_event_in_order_and_those_of_one_instant_in_the_order_they_came() -> None:
    world = World(seed=0, peers={}, started_at=5.0)
    said: list[tuple[float, object]] = []

    def say(word: object) -> None:
        said.append((world.now, word))

    for at, word in ((9.0, "c"), (7.0, "a"), (9.0, "d"), (7.0, "b")):
        world.at(at, say, word)
    world.run(8.0)
    assert (said, world.now, world.events) == ([(7.0, "a"), (7.0, "b")], 8.0, 2)
    world.run()
    assert said[2:] == [(9.0, "c"), (9.0, "d")]
    assert world.now == 9.0
    with pytest.raises(LocalProtocolError, match="does not go back"):
        world.at(8.9, say)


class Scripted:
    """A peer that answers as it is told, and remembers when it was asked."""

    def __init__(self, *answers: tuple[float, Outcome]) -> None:
        self.answers = list(answers)
        self.asked: list[float] = []

    def answer(self, now: float, random: Callable[[], float]) -> tuple[float, Outcome]:
        self.asked.append(now)
        return self.answers.pop(0)


def scripted(policy: Policy, *answers: tuple[float, Outcome]) -> tuple[World, Scripted, list[Call]]:
    peer = Scripted(*answers)
    return World(policy, seed=0, peers={"api": peer}, trace=[]), peer, []


def test_a_call_is_taken_through_and_its_end_is_told_once() -> None:
    world, peer, ended = scripted(Policy(max_attempts=3), (0.5, FAILURE), (0.25, SUCCESS))
    call = world.core.call("api", world.now, may_repeat=True)
    world.begin(call, into(ended))
    world.run()
    assert ended == [call]
    assert call.reason == "ok"
    assert peer.asked[0] == 0.0
    assert 0.5 <= peer.asked[1] <= 1.0
    assert world.now == peer.asked[1] + 0.25, "nothing is left in the heap that would move the clock"


def test_attempts_that_are_given_up_are_stopped_and_report() -> None:
    policy = Policy(attempt_timeout=1.0, max_attempts=2, budget=None)
    world, peer, ended = scripted(policy, (inf, SUCCESS), (inf, SUCCESS))
    world.begin(world.core.call("api", world.now, may_repeat=True), into(ended))
    world.run()
    assert len(peer.asked) == 2
    assert [call.reason for call in ended] == ["attempts"]
    assert world.core.targets["api"].in_flight == 0


def test_a_hedge_that_wins_stops_the_other_and_a_late_answer_changes_nothing() -> None:
    world, peer, ended = scripted(Policy(hedge=Hedge(after=0.1)), (5.0, FAILURE), (0.1, SUCCESS))
    world.begin(world.core.call("api", world.now, may_repeat=True), into(ended))
    world.run(1.0)
    assert peer.asked == [0.0, 0.1]
    assert [call.reason for call in ended] == ["ok"]
    assert world.core.targets["api"].in_flight == 0
    world.run()
    assert world.now == 5.0, "the answer came to a call that had ended"


def test_a_caller_may_give_up() -> None:
    world, _, ended = scripted(Policy(), (5.0, SUCCESS))
    call = world.core.call("api", world.now)
    world.begin(call, into(ended))
    world.at(1.0, lambda _: world.cancel(call))
    world.run()
    assert [call.reason for call in ended] == ["cancelled"]


def test_calls_that_wait_for_a_slot_are_woken_in_turn() -> None:
    policy = Policy(bulkhead=BulkheadSettings(limit=1))
    world, peer, ended = scripted(policy, *[(1.0, SUCCESS)] * 4)
    begun = [world.core.call("api", world.now) for _ in range(4)]
    for call in begun:
        world.begin(call, into(ended))
    world.run()
    assert ended == begun
    assert peer.asked == [0.0, 1.0, 2.0, 3.0]


# Peers and callers


@pytest.mark.parametrize(
    ("law", "mean", "low", "high"),
    [
        (Fixed(2.0), 2.0, 2.0, 2.0),
        (Uniform(1.0, 3.0), 2.0, 1.0, 3.0),
        (Exponential(2.0), 2.0, 0.0, inf),
        (Pareto(1.0, 3.0, 1000.0), 1.5, 1.0, 1000.0),
        (Mixed(Fixed(1.0), Fixed(11.0), 0.1), 2.0, 1.0, 11.0),
        (Mixed(Uniform(0.0, 2.0), Uniform(10.0, 12.0), 0.5), 6.0, 0.0, 12.0),
    ],
    ids=str,
)
def test_a_law_has_the_mean_it_should_and_keeps_its_bounds(law: Law, mean: float, low: float, high: float) -> None:
    random = Random(5).random
    draws = [law.draw(random()) for _ in range(20_000)]
    assert low <= min(draws)
    assert max(draws) <= high
    assert isclose(sum(draws) / len(draws), mean, rel_tol=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(-1.0),
        lambda: Uniform(2.0, 1.0),
        lambda: Exponential(float("nan")),
        lambda: Pareto(1.0, 0.0),
        lambda: Mixed(Fixed(1.0), Fixed(2.0), 1.5),
        lambda: Phase(2.0, 1.0),
        lambda: Phase(0.0, 1.0, share=2.0),
        lambda: Server(Fixed(1.0), workers=0),
        lambda: Server(Fixed(1.0), phases=[Phase(0.0, 2.0), Phase(1.0, 3.0)]),
        lambda: Arrivals(World(seed=0, peers={}), "api", per_second=0.0, until=1.0),
        lambda: Callers(World(seed=0, peers={}), "api", number=0),
    ],
)
def test_a_bad_setting_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(SettingError):
        make()


def test_a_server_with_workers_has_a_line_and_the_line_an_end() -> None:
    server = Server(Fixed(1.0), workers=2, line=2, refusal=THROTTLE)
    answers = [server.answer(0.0, lambda: 0.5) for _ in range(5)]
    assert answers == [(1.0, SUCCESS), (1.0, SUCCESS), (2.0, SUCCESS), (2.0, SUCCESS), (0.0, THROTTLE)]
    assert server.answer(1.0, lambda: 0.5) == (2.0, SUCCESS), "the line has moved on, and two are being worked on"
    assert server.answer(10.0, lambda: 0.5) == (1.0, SUCCESS)
    assert (server.arrived, server.refused) == (7, 1)


def test_a_server_at_its_limit_queues_as_theory_says() -> None:
    """M/M/1 at 80 %: the mean time in the system is service / (1 - load)."""
    policy = Policy(bulkhead=None, breaker=None)
    world = World(policy, seed=3, peers={"api": Server(Exponential(0.8), workers=1, line=100_000)})
    callers = Arrivals(world, "api", per_second=1.0, until=60_000.0)
    world.run()
    seconds = callers.tally.seconds
    assert isclose(sum(seconds) / len(seconds), 4.0, rel_tol=0.1)


def test_a_phase_changes_what_arrives_in_it() -> None:
    refused = FAILURES["connect"]
    server = Server(
        Fixed(1.0),
        phases=[Phase(10.0, 20.0, 0.25, failure=refused, after=0.5), Phase(30.0, 40.0, 0.0, slowness=3.0)],
    )
    assert server.answer(9.999, lambda: 0.1) == (1.0, SUCCESS)
    assert server.answer(10.0, lambda: 0.1) == (0.5, refused)
    assert server.answer(10.0, lambda: 0.25) == (1.0, SUCCESS)
    assert server.answer(20.0, lambda: 0.1) == (1.0, SUCCESS)
    assert server.answer(35.0, lambda: 0.1) == (3.0, SUCCESS)
    assert Server(Fixed(1.0), phases=[Phase(0.0, 1.0, after=None)]).answer(0.0, lambda: 0.1) == (1.0, FAILURE)


def test_open_arrivals_come_at_their_pace_and_callers_in_a_loop_one_call_at_a_time() -> None:
    world = World(seed=4, peers={"api": Server(Fixed(0.5))})
    regular = Arrivals(world, "api", per_second=10.0, until=10.05, regular=True)
    random = Arrivals(world, "api", per_second=100.0, begins_at=100.0, until=200.0)
    loop = Callers(world, "api", number=2, calls=10, think=Fixed(0.25))
    world.run(50.0)
    assert regular.tally.calls == 100
    assert loop.tally.calls == 20
    assert loop.tally.seconds == [0.5] * 20
    world.run()
    assert 9_500 < random.tally.calls < 10_500
    assert random.tally.amplification == 1.0
    assert random.tally.ok == random.tally.calls
    assert repr(loop.tally) == "<20 calls: ok 20; 1.000 sent for each; longest 0.500 s>"


@pytest.mark.parametrize("name", TRACED)
def test_the_short_way_makes_the_same_history(name: str) -> None:
    """Who asks to be told of every call gets calls; the others go without one while nothing fails."""
    tallies = []
    for told in (True, False):
        world = World(TRACED[name][0], seed=5, peers={"api": ill_server()})
        callers: list[Arrivals | Callers] = [
            Arrivals(world, "api", per_second=60.0, until=15.0),
            Callers(world, "api", number=5, calls=20, begin=Uniform(0.0, 1.0), think=Exponential(0.5), timeout=0.4),
        ]
        calls: list[Call] = []
        for caller in callers:
            caller.tally.on_end = calls.append if told else None
        world.run()
        assert len(calls) == (sum(caller.tally.calls for caller in callers) if told else 0)
        assert world.core.targets["api"].in_flight == 0
        tallies.append([(repr(caller.tally), caller.tally.seconds) for caller in callers])
    assert tallies[0] == tallies[1]


def test_a_callers_own_time_limit_ends_its_call() -> None:
    world = World(seed=4, peers={"api": Server(Fixed(5.0))})
    callers = Callers(world, "api", number=3, timeout=2.0)
    world.run()
    assert callers.tally.reasons == {"deadline": 3}
    assert callers.tally.longest == 2.0


# Recording and replay


def recorded(policy: Policy, seed: int = 8) -> tuple[list[str], RecordingCore, list[str]]:
    lines: list[str] = []
    core = RecordingCore(policy, random=Random(seed).random, write=lines.append)
    return lines, core, trace_of(policy, seed, core)


@pytest.mark.parametrize("name", TRACED)
def test_a_recorded_world_is_replayed_to_the_same_decisions(name: str) -> None:
    lines, core, trace = recorded(TRACED[name][0])
    assert len(trace) > 2000
    assert replay([line + "\n" for line in lines], core.policies) == len([line for line in lines if line[0] == ">"])


def test_a_recorded_world_that_goes_the_short_way_is_replayed_too() -> None:
    lines: list[str] = []
    core = RecordingCore(Policy(), random=Random(1).random, write=lines.append)
    world = World(seed=1, peers={"api": ill_server()}, core=core)
    Arrivals(world, "api", per_second=60.0, until=10.0)
    world.run()
    names = {line.split("\t")[1] for line in lines if line.startswith(">")}
    assert {"enter", "leave", "adopt", "on_done", "on_timer"} <= names
    assert replay(lines, core.policies) > 1000


def test_recording_changes_nothing() -> None:
    policy = TRACED["hedged"][0]
    plain = Core(policy, random=Random(8).random)
    assert recorded(policy)[2] == trace_of(policy, 8, plain)


def altered(lines: list[str], kind: str, number: int, old: str, new: str) -> list[str]:
    at = [i for i, line in enumerate(lines) if line.startswith(kind) and old in line][number]
    return [*lines[:at], lines[at].replace(old, new, 1), *lines[at + 1 :]]


def test_a_replay_notices_every_difference() -> None:
    policy = Policy()
    lines, core, _ = recorded(policy)
    draws = [i for i, line in enumerate(lines) if line.startswith("~")]
    for wrong in (
        altered(lines, "<", 50, "wakes -", "wakes 3"),
        altered(lines, "<", 50, "inf", "1.0"),
        altered(lines, "~", 0, "0.", "1."),
        [*lines[: draws[0]], *lines[draws[0] + 1 :]],
        [*lines[: draws[0]], "~\t0.5", *lines[draws[0] :]],
        altered(lines, ">", 20, "\t0\tNone\tFalse", "\t1\tNone\tFalse"),
    ):
        with pytest.raises(ReplayDiverged) as caught:
            replay(wrong, core.policies)
        assert caught.value.line > 0
        assert caught.value.recorded != caught.value.replayed
    with pytest.raises(ReplayDiverged):
        replay(lines, [Policy(max_attempts=2)])


def test_a_record_that_breaks_off_is_replayed_as_far_as_it_goes() -> None:
    lines, core, _ = recorded(Policy())
    begun = [i for i, line in enumerate(lines) if line.startswith(">")]
    assert replay(lines[: begun[100] + 1], core.policies) == 100


def test_the_short_way_other_settings_force_and_misuse_are_recorded_too() -> None:
    lines: list[str] = []
    policy = Policy(bulkhead=BulkheadSettings(limit=2))
    core = RecordingCore(policy, random=Random(0).random, write=lines.append)
    key = "a\tkey\\t\nof all\\kinds"
    target = core.target(key, 0.0)
    assert core.target(key, 0.0) is target
    first, second = target.enter(), target.enter()
    third = core.call(key, 0.1, may_repeat=True, max_attempts=2, policy=policy.replace(max_attempts=9))
    assert third.start(0.1) == 0
    assert target.leave(first) is False
    target.leave_at(first, 0.2)
    assert [waiter.id for waiter in core.wakeups] == [third.id]
    core.wakeups.clear()
    third.on_wakeup(0.2)
    attempt = core.adopt(target, second, 0.0, 0.3, may_repeat=True)
    attempt.call.on_done(attempt, ASKED, 0.3)
    with pytest.raises(LocalProtocolError):
        attempt.call.start(0.3)
    target.force_breaker(FORCED_OPEN, 0.4)
    core.reconfigure(policy.replace(breaker=None), 0.5)
    entered = target.enter()
    target.leave_unproved(entered, 0.6)
    third.cancel(0.7)
    assert third.attempt is not None
    third.on_done(third.attempt, SUCCESS, 0.8)
    names = {line.split("\t")[1] for line in lines if line.startswith(">")}
    assert {"enter", "leave", "leave_at", "leave_unproved", "adopt", "force_breaker", "reconfigure", "target"} <= names
    assert len(core.policies) == 3
    assert "!" in lines
    assert replay(lines, core.policies) == len([line for line in lines if line.startswith(">")])


if __name__ == "__main__":
    for name, (policy, _) in TRACED.items():
        print(name, digest(trace_of(policy, 2026)))

"""What the default settings are for: a short blackout is ridden out, a long outage is not made worse."""

from collections.abc import Callable
from math import inf

import pytest

from sansio_client.breaker import BreakerSettings
from sansio_client.call import Call
from sansio_client.outcome import FAILURE, FAILURES, Outcome, Rejected, classify
from sansio_client.policy import Policy
from sansio_client.simulator import Arrivals, Callers, Exponential, Fixed, Phase, Server, Uniform, World

BLACKOUT = 0.3
REFUSED = FAILURES["connect"]
UNAVAILABLE = classify(503)


def phases(failure: Outcome, after: float | None, begins_at: float = 0.0, lasts: float = BLACKOUT) -> list[Phase]:
    return [Phase(begins_at, begins_at + lasts, failure=failure, after=after)]


@pytest.mark.parametrize(
    ("failure", "after"),
    [(REFUSED, 0.001), (UNAVAILABLE, 0.02), (FAILURE, 0.25)],
    ids=["connections refused", "503", "connections that break"],
)
@pytest.mark.parametrize("seed", range(25))
def test_twenty_calls_in_a_blackout_of_300_ms_all_succeed(seed: int, failure: Outcome, after: float) -> None:
    """All of them are out when it strikes; five failures open the breaker, the retries wait for it to close."""
    world = World(seed=seed, peers={"api": Server(Uniform(0.01, 0.05), phases=phases(failure, after))})
    callers = Callers(world, "api", number=20)
    world.run()
    assert callers.tally.reasons == {"ok": 20}
    assert callers.tally.longest < 10.0


@pytest.mark.parametrize("seed", range(25))
def test_with_the_usual_settings_all_twenty_fail(seed: int) -> None:
    """The yardstick of the test above: open for half a minute, and nobody waits for it."""
    policy = Policy(retry_on_open=False, breaker=BreakerSettings(open_seconds=30.0))
    world = World(policy, seed=seed, peers={"api": Server(Uniform(0.01, 0.05), phases=phases(REFUSED, 0.001))})
    callers = Callers(world, "api", number=20)
    world.run()
    assert callers.tally.reasons == {"open": 20}


@pytest.mark.parametrize("seed", range(25))
def test_calls_that_begin_while_the_breaker_is_open_are_told_at_once(seed: int) -> None:
    """The other side of it: who has been sent waits for the breaker, who comes new is refused and told until when."""
    world = World(seed=seed, peers={"api": Server(Uniform(0.01, 0.05), phases=phases(REFUSED, 0.001))})
    callers = Callers(world, "api", number=20, begin=Uniform(0.0, BLACKOUT))
    refused: list[Call] = []
    callers.tally.on_end = lambda call: refused.append(call) if call.reason == "open" else None
    world.run()
    assert set(callers.tally.reasons) == {"ok", "open"}
    assert callers.tally.ok >= 1
    for call in refused:
        assert call.attempts == 0
        assert isinstance(call.result, Rejected)
        assert call.result.retry_at <= BLACKOUT + 1.0


@pytest.mark.parametrize("seed", range(25))
def test_calls_that_a_blackout_breaks_off_all_succeed(seed: int) -> None:
    """The callers are at work when it begins; what is under way fails, and is sent again."""
    peers = {"api": Server(Exponential(0.1), phases=phases(FAILURE, 0.05, begins_at=1.0))}
    world = World(seed=seed, peers=peers)
    callers = Callers(world, "api", number=20, begin=Uniform(0.95, 1.0))
    world.run()
    assert callers.tally.reasons == {"ok": 20}


def outage(policy: Policy | None, seed: int, failure: Outcome, after: float) -> tuple[Server, Arrivals]:
    """A thousand calls over the two minutes that a peer is out, and a while after."""
    server = Server(Exponential(0.05), phases=phases(failure, after, begins_at=10.0, lasts=120.0))
    world = World(policy, seed=seed, peers={"api": server})
    callers = Arrivals(world, "api", per_second=1000 / 120, begins_at=10.0, until=130.0)

    def in_time(call: Call) -> None:
        assert world.now <= call.deadline, "waited past its deadline"

    callers.tally.on_end = in_time
    world.run()
    assert world.core.targets["api"].in_flight == 0
    return server, callers


@pytest.mark.parametrize("make", [lambda: None, lambda: Policy(breaker=None)], ids=["default", "the budget alone"])
@pytest.mark.parametrize(("failure", "after"), [(REFUSED, 0.001), (UNAVAILABLE, 0.5), (FAILURE, inf)])
@pytest.mark.parametrize("seed", range(3))
def test_an_outage_of_two_minutes_is_not_amplified_and_nobody_waits_past_its_deadline(
    seed: int, failure: Outcome, after: float, make: Callable[[], Policy | None]
) -> None:
    server, callers = outage(make(), seed, failure, after)
    tally = callers.tally
    assert 800 < tally.calls < 1200
    assert server.arrived == tally.sent
    assert tally.amplification < 1.2
    assert tally.longest <= 120.0 + 1e-9


def test_without_a_budget_and_a_breaker_the_same_outage_is_tripled() -> None:
    """The yardstick of the test above."""
    _, callers = outage(Policy(breaker=None, budget=None), 0, UNAVAILABLE, 0.5)
    assert callers.tally.amplification > 2.8


def test_after_an_outage_the_first_callers_find_out() -> None:
    """P40: the breaker's longest opening, not the length of the outage, is how long recovery takes."""
    server = Server(Fixed(0.05), phases=phases(REFUSED, 0.001, lasts=600.0))
    world = World(seed=1, peers={"api": server})
    callers = Callers(world, "api", number=10, calls=400, think=Fixed(2.0))
    ended: list[tuple[float, str]] = []
    callers.tally.on_end = lambda call: ended.append((world.now, call.reason))
    world.run()
    assert not [reason for at, reason in ended if at > 600.0 + 30.0 + 2.5 and reason != "ok"]

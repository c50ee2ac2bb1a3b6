"""Two hundred partitions at once, each with faults of its own: nobody gets another's, and a second run is the same."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from tests.many_partitions import ODDS, Address, Got, Plan, control, plan, run
from tests.processes import RUNNERS, running

PARTITIONS = 200
SCRIPTED, DRAWN, NOISE = 35, 12, 3  # requests of each; 10 000 together
PLANS = [plan(number, SCRIPTED, DRAWN, NOISE) for number in range(PARTITIONS)]
BYSTANDER = Plan("bystander", paths=["/scripted"] * 50)
Outcomes = dict[str, list[tuple[str, Got]]]


async def all_at_once(address: Address, plans: list[Plan]) -> Outcomes:
    outcomes = await asyncio.gather(*(run(address, plan) for plan in plans))
    return {plan.name: found for plan, found in zip(plans, outcomes, strict=True)}


async def journals(address: Address) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for one in PLANS:
        found[one.name] = (await control(address, "GET", f"/~{one.name}/journal"))["entries"]
    return found


async def both(address: Address, plans: list[Plan]) -> tuple[Outcomes, dict[str, list[dict[str, Any]]]]:
    return await all_at_once(address, plans), await journals(address)


@pytest.fixture(scope="module")
def first() -> tuple[Outcomes, dict[str, list[dict[str, Any]]]]:
    with running(RUNNERS["serve-httptools-uvloop"]) as server:
        found = asyncio.run(both(server.address, [BYSTANDER, *PLANS]))
        server.assert_no_defect()
        return found


def test_the_plans_differ_and_are_ten_thousand_requests() -> None:
    assert sum(len(one.paths) for one in PLANS) == 10_000
    assert len({json.dumps(one.script) for one in PLANS}) == PARTITIONS
    ends = Counter(got.end for one in PLANS for got in one.expected)
    assert min(ends["kept"], ends["fin"], ends["reset"]) > 1000


def test_each_gets_its_own_script_step_by_step(first: tuple[Outcomes, Any]) -> None:
    outcomes, _ = first
    for one in PLANS:
        assert [got for path, got in outcomes[one.name] if path == "/scripted"] == one.expected, one.name


def test_who_has_set_nothing_gets_nothing(first: tuple[Outcomes, Any]) -> None:
    outcomes, _ = first
    assert {(got.status, got.end) for _, got in outcomes[BYSTANDER.name]} == {(404, "kept")}


def test_what_is_drawn_is_drawn_for_each_alone(first: tuple[Outcomes, Any]) -> None:
    outcomes, _ = first
    drawn = {
        name: tuple(got.status == 418 for path, got in found if path == "/drawn") for name, found in outcomes.items()
    }
    for one in PLANS:
        for path, got in outcomes[one.name]:
            if path == "/drawn" and got.status == 418:
                assert got.body == f"{one.name} drew".encode()
    assert len(set(drawn.values())) > 150, "partitions share their luck"
    share = sum(sum(draws) for draws in drawn.values()) / (PARTITIONS * DRAWN)
    assert ODDS - 0.05 < share < ODDS + 0.05
    noise = [got.body for found in outcomes.values() for path, got in found if path == "/noise"]
    assert len(set(noise)) == len(noise) == PARTITIONS * NOISE


def test_each_journal_has_its_own_arrivals_in_order(first: tuple[Any, dict[str, list[dict[str, Any]]]]) -> None:
    _, entries = first
    for one in PLANS:
        found = entries[one.name]
        assert [entry["path"] for entry in found] == one.paths
        assert [entry["ordinal"] for entry in found] == list(range(1, len(one.paths) + 1))
        scripted = [entry for entry in found if entry["path"] == "/scripted"]
        assert [(entry["rule"], entry["step"]) for entry in scripted] == [("script", step) for step in range(SCRIPTED)]
        assert [entry["status"] for entry in scripted] == [got.status for got in one.expected]
        assert all(entry["gap_s"] >= 0 for entry in scripted[1:]), "done was read after the answer"


@pytest.mark.parametrize("name", ["serve-h11-asyncio"])
def test_another_server_in_another_order_gives_every_byte_again(first: tuple[Outcomes, Any], name: str) -> None:
    with running(RUNNERS[name]) as server:
        again = asyncio.run(all_at_once(server.address, PLANS[::-1]))
        server.assert_no_defect()
    outcomes, _ = first
    for one in PLANS:
        # What nobody decides has ids in it, which are new each time.
        real = ("/drawn", 404)
        for (path, got), (path_again, got_again) in zip(outcomes[one.name], again[one.name], strict=True):
            assert path == path_again
            assert got == got_again or (path, got.status) == (path, got_again.status) == real


def test_another_seed_draws_otherwise(first: tuple[Outcomes, Any]) -> None:
    few = PLANS[:20]
    with running(RUNNERS["serve-httptools-uvloop"], variables={"SERVER_SEED": "1"}) as server:
        other = asyncio.run(all_at_once(server.address, few))
    outcomes, _ = first
    for one in few:
        assert [got for path, got in other[one.name] if path == "/scripted"] == one.expected
        noise = [[got for path, got in found[one.name] if path == "/noise"] for found in (outcomes, other)]
        assert noise[0] != noise[1]

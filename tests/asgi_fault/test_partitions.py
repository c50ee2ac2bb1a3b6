"""Partitions: parallel tests do not see each other, and a million names are bounded memory."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_fault.config import Settings
from asgi_fault.errors import BadRequest, Unavailable
from asgi_fault.faults.induced import InducedFailures
from asgi_fault.partitions import Partitions
from tests.in_process import World, in_world


def in_partition(name: str) -> list[tuple[str, str]]:
    return [("X-Fault-Partition", name)]


def test_faults_and_ids_of_one_partition_are_not_seen_in_another() -> None:
    async def test(world: World) -> None:
        client = world.client
        await client.post("/~a/fail/count/2")
        assert (await client.get("/msg")).status == 200
        assert (await client.get("/~b/msg")).status == 200
        assert (await client.get("/~a/msg")).status == 500
        assert (await client.get("/msg", headers=in_partition("a"))).status == 500, "path or header: the same partition"
        assert (await client.get("/~a/msg")).status == 200
        ids = {
            (await client.get(f"{prefix}/msg", headers=[("X-Request-ID", "k")])).body for prefix in ("", "/~a", "/~b")
        }
        assert len(ids) == 3

    in_world(test)


@pytest.mark.parametrize(
    "target", ["/~a/msg", "/%7Ea/msg", "/%7ea/msg/", "/~a/%6dsg", "/~%61/msg", "http://h:1/~a/msg"]
)
def test_the_prefix_is_read_after_decoding_and_in_every_form_of_target(target: str) -> None:
    async def test(world: World) -> None:
        await world.client.post("/~a/fail/count/1")
        assert (await world.client.get(target)).status == 500

    in_world(test)


def test_the_path_wins_over_the_header() -> None:
    async def test(world: World) -> None:
        await world.client.post("/~a/fail/count/1")
        assert (await world.client.get("/~b/msg", headers=in_partition("a"))).status == 200
        assert (await world.client.get("/~default/msg", headers=in_partition("a"))).status == 200
        assert (await world.client.get("/~a/msg", headers=in_partition("b"))).status == 500

    in_world(test)


def test_the_prefix_works_below_a_mount_point_and_alone() -> None:
    async def test(world: World) -> None:
        assert (await world.client.get("/api/~a/msg", root_path="/api")).status == 200
        assert (await world.client.get("/apiary/msg", root_path="/api")).status == 404
        assert (await world.client.get("/~a")).status == 200, "the index"
        assert (await world.client.get("/~a/")).status == 200
        assert (await world.client.get("/~a/nothing")).status == 404

    in_world(test)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "caf%C3%A9", "a%0d%0ab", "%EF%BC%91", "a%2fb"])
def test_a_name_that_is_none_is_a_400_that_says_what_is(name: str) -> None:
    async def test(world: World) -> None:
        answer = await world.client.get(f"/~{name}/msg")
        assert answer.status == (404 if name == "a%2fb" else 400), "a decoded slash ends the name"
        if answer.status == 400:
            assert "64" in answer.json["message"]
        assert len(world.context.partitions) <= 2

    in_world(test)


def test_a_name_in_the_header_is_checked_as_well() -> None:
    async def test(world: World) -> None:
        for name in ("a b", "x" * 65, "../..", "\xff"):
            status = (await world.client.get("/msg", headers=[("X-Fault-Partition", name.encode("latin-1"))])).status
            assert status == 400, name

    in_world(test)


def test_a_partition_that_is_idle_is_forgotten() -> None:
    async def test(world: World) -> None:
        await world.client.post("/~a/fail/count/5")
        await asyncio.sleep(599)
        assert (await world.client.get("/~a/msg")).status == 500
        await asyncio.sleep(601)
        await world.client.get("/~b/msg")
        assert len(world.context.partitions) == 2
        assert (await world.client.get("/~a/msg")).status == 200, "it holds a fault, but its time was up"

    in_world(test)


def test_one_that_is_needed_stays_while_others_make_room() -> None:
    async def test(world: World) -> None:
        client = world.client
        await client.post("/~faulty/fail/count/1")
        busy = asyncio.create_task(client.get("/~busy/msg?delay=5000"))
        await asyncio.sleep(1)
        for number in range(50):
            assert (await client.get(f"/~n{number}/msg")).status == 200
        assert len(world.context.partitions) == 4
        assert (await client.get("/~faulty/msg")).status == 500
        assert (await busy).status == 200

    in_world(test, partitions_max=4)


def test_when_all_are_needed_a_new_one_is_a_503_naming_the_setting() -> None:
    async def test(world: World) -> None:
        client = world.client
        for name in "abc":
            await client.post(f"/~{name}/fail/count/1")
        refused = await client.get("/~d/msg")
        assert refused.status == 503
        assert "SERVER_PARTITIONS_MAX" in refused.json["message"]
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("/~a/msg")).status == 500, "it can be used up meanwhile"
        assert (await client.get("/~d/msg")).status == 503, "the full table is not searched for every request"
        await asyncio.sleep(1)
        assert (await client.get("/~d/msg")).status == 200
        assert (await client.get("/msg")).status == 200

    in_world(test, partitions_max=4)


def test_a_million_names_are_bounded() -> None:
    partitions = Partitions(Settings(partitions_max=100), lambda: 0.0)
    for number in range(1_000_000):
        partitions.get(f"n{number}", number / 1000)
    assert len(partitions) == 100


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.floats(0, 400)), max_size=60))
def test_the_number_is_bounded_and_nothing_needed_is_ever_lost(uses: list[tuple[str, bool, float]]) -> None:
    partitions = Partitions(Settings(partitions_max=4), lambda: 0.0)
    now = 0.0
    for name, set_fault, later in uses:
        now += later
        needed = [p for p in partitions._named.values() if p.holds_fault(now) and now - p.used_at < 600]
        try:
            partition = partitions.get(name, now)
        except Unavailable:
            assert len(needed) == 3
            continue
        assert partition.name == name
        assert len(partitions) <= 4
        assert {p.name for p in needed} <= set(partitions._named)
        if set_fault:
            partition.induced = InducedFailures()
            partition.induced.fail_count(1)


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_a_clear_refusal(name: str) -> None:
    partitions = Partitions(Settings(), lambda: 0.0)
    legal = 0 < len(name) <= 64 and all(c.isascii() and (c.isalnum() or c in "._-") for c in name)
    if legal:
        assert partitions.get(name, 0.0).name == name
    else:
        with pytest.raises(BadRequest):
            partitions.get(name, 0.0)

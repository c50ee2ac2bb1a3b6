"""GET /msg: the order of its steps is contract, and one id belongs to one X-Request-ID whatever happens."""

import asyncio
import uuid
from typing import Any

import pytest

from tests.in_process import Answer, World, in_world

INDUCED = {"detail": "Induced server failure"}


def key(value: str) -> dict[str, Any]:
    return {"headers": [("X-Request-ID", value)]}


def test_every_request_gets_an_id_of_its_own() -> None:
    async def test(world: World) -> list[Answer]:
        return [await world.client.get("/msg") for _ in range(600)]  # more than two batches of ids

    answers = in_world(test)
    ids = {answer.json["message_id"] for answer in answers}
    assert len(ids) == 600
    assert all(uuid.UUID(value).version == 4 for value in ids)
    assert all(list(answer.json) == ["message_id"] and answer.status == 200 for answer in answers)
    request_ids = {answer.headers["x-request-id"] for answer in answers}
    correlation_ids = {answer.headers["x-correlation-id"] for answer in answers}
    assert len(ids | request_ids | correlation_ids) == 1800


def test_the_same_request_id_gets_the_same_id_and_is_echoed() -> None:
    async def test(world: World) -> None:
        first = await world.client.get("/msg", **key("order-7"))
        again = await world.client.get("/msg?delay=5000", **key("order-7"))
        other = await world.client.get("/msg", **key("order-8"))
        assert first.body == again.body != other.body
        assert first.headers["x-request-id"] == again.headers["x-request-id"] == "order-7"
        assert first.headers["x-correlation-id"] != again.headers["x-correlation-id"]
        assert world.context.clock() == 1000.0, "a hit skips the delay"

    in_world(test)


def test_an_empty_request_id_is_no_request_id() -> None:
    async def test(world: World) -> None:
        first = await world.client.get("/msg", **key(""))
        second = await world.client.get("/msg", **key(""))
        assert first.body != second.body
        assert uuid.UUID(first.headers["x-request-id"]).version == 4

    in_world(test)


def test_a_delay_delays() -> None:
    async def test(world: World) -> None:
        assert (await world.client.get("/msg?delay=1250")).status == 200
        assert world.context.clock() == pytest.approx(1001.25)
        assert (await world.client.get("/msg?delay=7&delay=30&delay=0")).status == 200, "the last value wins"
        assert world.context.clock() == pytest.approx(1001.25)

    in_world(test)


def test_a_delay_as_long_as_the_time_limit_is_a_408() -> None:
    async def test(world: World) -> None:
        late = await world.client.get("/msg?delay=30000")
        assert (late.status, late.json) == (408, {"detail": "Request timeout"})
        assert late.headers["x-correlation-id"]
        assert late.headers["x-request-id"]
        assert world.context.clock() == pytest.approx(1030.0)
        assert (await world.client.get("/msg?delay=29999")).status == 200

    in_world(test)


@pytest.mark.parametrize(
    ("query", "kind", "shown"),
    [
        ("delay=-1", "greater_than_equal", "-1"),
        ("delay=30001", "less_than_equal", "30001"),
        ("delay=" + "9" * 400, "less_than_equal", "9" * 200),
        ("delay=" + "9" * 5000, "int_parsing_size", "9" * 200),
        ("delay=", "int_parsing", ""),
        ("delay=1.5", "int_parsing", "1.5"),
        ("delay=abc", "int_parsing", "abc"),
        ("delay=1_0", "int_parsing", "1_0"),
        ("delay=0x10", "int_parsing", "0x10"),
        ("delay=%EF%BC%91", "int_parsing", "\uff11"),  # a full-width digit one
        ("delay=5&delay=abc", "int_parsing", "abc"),
        ("delay=%zz", "int_parsing", "%zz"),
        ("delay=%ff", "int_parsing", "\ufffd"),
    ],
)
def test_a_delay_that_is_none_is_a_422_that_says_so(query: str, kind: str, shown: str) -> None:
    async def test(world: World) -> None:
        answer = await world.client.get(f"/msg?{query}")
        assert answer.status == 422
        (violation,) = answer.json["detail"]
        assert violation["type"] == kind
        assert violation["loc"] == ["query", "delay"]
        assert violation["input"] == shown
        assert answer.json["details"]["validation_errors"] == answer.json["detail"]
        assert answer.json["error"] == "ValidationError"
        assert answer.json["status_code"] == 422
        assert answer.json["request_id"] == answer.headers["x-request-id"]
        if kind.endswith("equal"):
            bound = {"greater_than_equal": {"ge": 0}, "less_than_equal": {"le": 30000}}[kind]
            assert violation["ctx"] == bound
            assert violation["msg"].endswith(f"or equal to {next(iter(bound.values()))}")

    in_world(test)


@pytest.mark.parametrize("query", ["delay=+5", "delay=%205%20", "delay=0", "delay=005", "other=abc", "", "=&&;="])
def test_a_query_that_can_be_read_is_read(query: str) -> None:
    async def test(world: World) -> None:
        assert (await world.client.get(f"/msg?{query}")).status == 200

    in_world(test)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"with space", "string_pattern_mismatch"),
        (b"caf\xc3\xa9", "string_pattern_mismatch"),
        (b"\x01", "string_pattern_mismatch"),
        (b"x" * 257, "string_too_long"),
    ],
)
def test_a_request_id_that_is_none_is_refused_and_never_echoed(value: bytes, kind: str) -> None:
    async def test(world: World) -> None:
        await world.client.post("/fail/count/1")
        refused = await world.client.get("/msg?delay=-1", headers=[("X-Request-ID", value)])
        assert refused.status == 422
        assert [violation["loc"] for violation in refused.json["detail"]] == [
            ["query", "delay"],
            ["header", "X-Request-ID"],
        ], "every violation at once, query before header"
        assert refused.json["detail"][1]["type"] == kind
        assert refused.headers["x-request-id"].encode() != value
        assert (await world.client.get("/msg")).status == 500, "a 422 uses up no failure"
        assert (await world.client.get("/health", headers=[("X-Request-ID", value)])).status == 200

    in_world(test)


def test_a_request_id_sent_twice_must_be_the_same() -> None:
    async def test(world: World) -> None:
        different = await world.client.get("/msg", headers=[("X-Request-ID", "a"), ("X-Request-ID", "b")])
        assert different.status == 422
        assert different.json["detail"][0]["type"] == "repeated_header"
        same = await world.client.get("/msg", headers=[("X-Request-ID", "a"), ("X-Request-ID", "a")])
        assert same.status == 200
        assert same.headers["x-request-id"] == "a"
        assert len(world.context.partitions.default.cache) == 1

    in_world(test)


def test_256_visible_characters_are_an_id() -> None:
    async def test(world: World) -> None:
        longest = "".join(chr(0x21 + i % 94) for i in range(256))
        answer = await world.client.get("/msg", **key(longest))
        assert answer.status == 200
        assert answer.headers["x-request-id"] == longest

    in_world(test)


def test_a_fault_beats_the_cache_and_the_cached_id_comes_back() -> None:
    async def test(world: World) -> None:
        first = await world.client.get("/msg", **key("k"))
        await world.client.post("/fail/count/1")
        failed = await world.client.get("/msg", **key("k"))
        assert (failed.status, failed.json) == (500, INDUCED)
        assert failed.headers["x-request-id"] == "k"
        assert (await world.client.get("/msg", **key("k"))).body == first.body

    in_world(test)


def test_a_failed_first_request_caches_nothing() -> None:
    async def test(world: World) -> None:
        await world.client.post("/fail/count/1")
        assert (await world.client.get("/msg", **key("k"))).status == 500
        first = await world.client.get("/msg", **key("k"))
        assert first.status == 200
        assert (await world.client.get("/msg", **key("k"))).body == first.body

    in_world(test)


def test_an_entry_lives_for_its_time_and_no_longer() -> None:
    async def test(world: World) -> None:
        first = await world.client.get("/msg", **key("k"))
        await asyncio.sleep(200)
        assert (await world.client.get("/msg", **key("k"))).body == first.body
        await asyncio.sleep(100)  # at exactly its time to live; the hit in between has not prolonged it
        assert (await world.client.get("/msg", **key("k"))).body == first.body
        await asyncio.sleep(0.001)
        assert (await world.client.get("/msg", **key("k"))).body != first.body

    in_world(test)


def test_the_least_recently_used_entry_makes_room() -> None:
    async def test(world: World) -> None:
        ids = {name: (await world.client.get("/msg", **key(name))).body for name in "ab"}
        assert (await world.client.get("/msg", **key("a"))).body == ids["a"]
        await world.client.get("/msg", **key("c"))
        assert (await world.client.get("/msg", **key("a"))).body == ids["a"], "it was used"
        assert (await world.client.get("/msg", **key("b"))).body != ids["b"], "it was not"

    in_world(test, cache_max_size=2)


def test_first_requests_of_one_key_that_come_together_share_one_id() -> None:
    async def test(world: World) -> None:
        answers = await asyncio.gather(
            *(world.client.get(f"/msg?delay={100 * i}", **key("k")) for i in range(5, 0, -1))
        )
        assert len({answer.body for answer in answers}) == 1
        assert {answer.status for answer in answers} == {200}
        assert world.context.clock() == pytest.approx(1000.5), "all have the leader's answer when the leader has it"
        assert len(world.context.partitions.default.cache) == 1

    in_world(test)


def test_a_request_without_a_delay_waits_for_the_one_that_leads() -> None:
    async def test(world: World) -> None:
        leader = asyncio.create_task(world.client.get("/msg?delay=400", **key("k")))
        await asyncio.sleep(0.1)
        follower = await world.client.get("/msg", **key("k"))
        assert follower.body == (await leader).body

    in_world(test)


def test_when_the_leader_leaves_the_oldest_follower_leads() -> None:
    async def test(world: World) -> None:
        leave = asyncio.Event()
        leader = asyncio.create_task(world.client.get("/msg?delay=20000", leave=leave, **key("k")))
        await asyncio.sleep(1)
        oldest = asyncio.create_task(world.client.get("/msg?delay=5000", **key("k")))
        await asyncio.sleep(1)
        younger = asyncio.create_task(world.client.get("/msg?delay=1000", **key("k")))
        await asyncio.sleep(1)
        leave.set()
        assert (await leader).status == 0
        assert (await oldest).body == (await younger).body
        assert world.context.clock() == pytest.approx(1006.0), "its own delay, counted from its own arrival"

    in_world(test)


def test_when_the_leader_times_out_a_follower_leads_and_nothing_of_the_leader_is_cached() -> None:
    async def test(world: World) -> None:
        leader = asyncio.create_task(world.client.get("/msg?delay=30000", **key("k")))
        await asyncio.sleep(10)
        follower = asyncio.create_task(world.client.get("/msg?delay=25000", **key("k")))
        assert (await leader).status == 408
        assert (await follower).status == 200
        assert (await world.client.get("/msg", **key("k"))).body == (await follower).body

    in_world(test)


def test_a_follower_that_leaves_is_not_asked_to_lead() -> None:
    async def test(world: World) -> None:
        leaves = [asyncio.Event() for _ in range(3)]
        tasks = [asyncio.create_task(world.client.get("/msg?delay=9000", leave=leave, **key("k"))) for leave in leaves]
        last = asyncio.create_task(world.client.get("/msg?delay=9000", **key("k")))
        await asyncio.sleep(1)
        leaves[1].set()
        leaves[2].set()
        await asyncio.sleep(1)
        leaves[0].set()
        assert {(await task).status for task in tasks} == {0}
        assert (await last).status == 200
        assert world.context.partitions.default.cache.flights == {}

    in_world(test)


def test_leader_and_followers_leaving_in_the_same_instant_leave_nothing_behind() -> None:
    async def test(world: World) -> None:
        leave = asyncio.Event()
        tasks = [asyncio.create_task(world.client.get("/msg?delay=9000", leave=leave, **key("k"))) for _ in range(20)]
        await asyncio.sleep(1)
        leave.set()
        assert {(await task).status for task in tasks} == {0}
        assert world.context.partitions.default.cache.flights == {}
        assert world.context.partitions.default.slots.free == 50
        assert (await world.client.get("/msg", **key("k"))).status == 200

    in_world(test)

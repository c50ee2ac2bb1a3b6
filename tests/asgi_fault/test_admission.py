"""Admission: never more inside than there are slots, first come first served, and no slot is ever lost."""

import asyncio
import random

import pytest

from tests.in_process import World, in_world


def test_never_more_inside_than_slots_and_served_in_order_of_arrival() -> None:
    async def test(world: World) -> None:
        slots = world.context.partitions.default.slots
        finished: list[int] = []
        most = 0

        async def one(number: int) -> None:
            nonlocal most
            answer = await world.client.get("/msg?delay=1000")
            most = max(most, slots.limit - slots.free)
            assert answer.status == 200
            finished.append(number)

        await asyncio.gather(*(one(number) for number in range(300)))
        assert most == 10
        waves = [sorted(finished[start : start + 10]) for start in range(0, 300, 10)]
        assert waves == [list(range(start, start + 10)) for start in range(0, 300, 10)]
        assert world.context.clock() == pytest.approx(1030.0), "ten at a time, a second each, none idle"
        assert slots.free == 10

    in_world(test, max_concurrency=10, queue_timeout=60)


def test_the_time_in_the_queue_is_not_the_time_limits() -> None:
    async def test(world: World) -> None:
        answers = await asyncio.gather(*(world.client.get("/msg?delay=700") for _ in range(6)))
        assert {answer.status for answer in answers} == {200}
        assert world.context.clock() == pytest.approx(1002.1)

    in_world(test, max_concurrency=2, request_timeout=1)


def test_the_control_plane_answers_while_every_slot_is_taken() -> None:
    async def test(world: World) -> None:
        inside = asyncio.create_task(world.client.get("/msg?delay=20000"))
        waiting = asyncio.create_task(world.client.get("/nowhere"))
        await asyncio.sleep(1)
        for method, path in (
            ("GET", "/health"),
            ("POST", "/fail/reset"),
            ("GET", "/fail/status"),
            ("GET", "/metrics"),
            ("DELETE", "/health"),
        ):
            answer = await world.client.request(method, path)
            assert answer.status in (200, 405), path
        assert world.context.clock() == pytest.approx(1001.0)
        assert not waiting.done(), "a path that no surface has passes the same layers"
        assert (await inside).status == 200
        assert (await waiting).status == 404

    in_world(test, max_concurrency=1)


def test_the_queue_is_bounded() -> None:
    async def test(world: World) -> None:
        tasks = [asyncio.create_task(world.client.get("/msg?delay=1000")) for _ in range(4)]
        await asyncio.sleep(0.5)
        refused = await world.client.get("/msg")
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json["details"]["limit"] == "SERVER_QUEUE_LIMIT"
        assert [(await task).status for task in tasks] == [200] * 4

    in_world(test, max_concurrency=1, queue_limit=3)


def test_waiting_is_bounded() -> None:
    async def test(world: World) -> None:
        inside = asyncio.create_task(world.client.get("/msg?delay=20000"))
        await asyncio.sleep(1)
        late = await world.client.get("/msg")
        assert late.status == 503
        assert late.json["details"]["limit"] == "SERVER_QUEUE_TIMEOUT"
        assert world.context.clock() == pytest.approx(1006.0)
        assert (await inside).status == 200
        assert (await world.client.get("/msg")).status == 200

    in_world(test, max_concurrency=1, queue_timeout=5)


@pytest.mark.parametrize("seed", range(5))
def test_no_slot_is_lost_after_a_thousand_random_disconnects(seed: int) -> None:
    async def test(world: World) -> None:
        rng = random.Random(seed)
        slots = world.context.partitions.default.slots
        outcomes: list[int] = []

        async def one() -> None:
            leave = asyncio.Event()
            await asyncio.sleep(rng.uniform(0, 20))
            # Equal instants on purpose: a grant and a departure in one turn of the loop is the interesting case.
            delay = rng.choice([0, 100, 100, 200])
            task = asyncio.create_task(world.client.get(f"/msg?delay={delay}", leave=leave))
            asyncio.get_running_loop().call_later(rng.choice([0, 0.1, 0.1, 0.2, 0.5]), leave.set)
            outcomes.append((await task).status)
            assert 0 <= slots.free <= slots.limit

        await asyncio.gather(*(one() for _ in range(1000)))
        assert outcomes.count(0) > 100
        assert outcomes.count(200) > 100
        assert set(outcomes) <= {0, 200}
        assert slots.free == slots.limit == 3
        assert not [waiter for waiter in slots.waiters if not waiter.done()]

    in_world(test, max_concurrency=3)


def test_a_cancelled_exchange_gives_its_slot_or_its_place_back() -> None:
    async def test(world: World) -> None:
        slots = world.context.partitions.default.slots
        inside = asyncio.create_task(world.client.get("/msg?delay=9000"))
        waiting = asyncio.create_task(world.client.get("/msg?delay=9000"))
        await asyncio.sleep(1)
        # The server cancels both in one turn, the slot of the first being on its way to the second.
        inside.cancel()
        await asyncio.sleep(0)
        waiting.cancel()
        for task in (inside, waiting):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert slots.free == 1
        assert (await world.client.get("/msg")).status == 200

    in_world(test, max_concurrency=1)


def test_partitions_do_not_share_slots() -> None:
    async def test(world: World) -> None:
        stalled = [asyncio.create_task(world.client.get("/~slow/msg?delay=20000")) for _ in range(2)]
        await asyncio.sleep(1)
        assert (await world.client.get("/msg")).status == 200
        assert (await world.client.get("/~other/msg")).status == 200
        assert world.context.clock() == pytest.approx(1001.0)
        await asyncio.gather(*stalled)

    in_world(test, max_concurrency=1)

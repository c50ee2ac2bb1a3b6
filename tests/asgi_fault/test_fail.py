"""/fail/*: exact counts, durations on the clock, and a status that uses nothing up."""

import asyncio

import pytest

from tests.in_process import WALL_TIME, World, in_world


async def statuses(world: World, number: int) -> list[int]:
    return [(await world.client.get("/msg")).status for _ in range(number)]


def test_the_next_n_requests_fail_and_no_more() -> None:
    async def test(world: World) -> None:
        answer = await world.client.post("/fail/count/3")
        assert answer.json == {"message": "Server will fail the next 3 requests", "fail_requests_count": 3}
        assert await statuses(world, 5) == [500, 500, 500, 200, 200]

    in_world(test)


def test_a_count_replaces_the_one_before() -> None:
    async def test(world: World) -> None:
        await world.client.post("/fail/count/100")
        await world.client.post("/fail/count/1")
        assert await statuses(world, 2) == [500, 200]
        await world.client.post("/fail/count/9")
        await world.client.post("/fail/count/0")
        assert await statuses(world, 1) == [200]

    in_world(test)


def test_the_count_is_exact_when_requests_come_together() -> None:
    async def test(world: World) -> None:
        await world.client.post("/fail/count/137")
        answers = await asyncio.gather(*(world.client.get("/msg?delay=5") for _ in range(400)))
        assert sum(answer.status == 500 for answer in answers) == 137
        assert sum(answer.status == 200 for answer in answers) == 263

    in_world(test)


def test_every_request_fails_for_the_duration() -> None:
    async def test(world: World) -> None:
        answer = await world.client.post("/fail/duration/10")
        assert answer.json == {
            "message": "Server will fail requests for the next 10 seconds",
            "duration_seconds": 10,
        }
        assert await statuses(world, 2) == [500, 500]
        await asyncio.sleep(9.999)
        assert await statuses(world, 1) == [500]
        await asyncio.sleep(0.001)
        assert await statuses(world, 1) == [200]

    in_world(test)


def test_the_count_goes_down_while_the_duration_runs() -> None:
    async def test(world: World) -> None:
        await world.client.post("/fail/duration/10")
        await world.client.post("/fail/count/3")
        assert await statuses(world, 2) == [500, 500]
        await asyncio.sleep(11)
        assert await statuses(world, 2) == [500, 200]

    in_world(test)


def test_the_status_tells_and_uses_nothing_up() -> None:
    async def test(world: World) -> None:
        await world.client.post("/fail/duration/10")
        await world.client.post("/fail/count/2")
        await asyncio.sleep(4)
        for _ in range(3):
            assert (await world.client.get("/fail/status")).json == {
                "failure_status": {
                    "fail_requests_count": 2,
                    "fail_until_timestamp": WALL_TIME + 10,
                    "duration_remaining_seconds": 6.0,
                    "currently_failing": True,
                },
                "currently_failing": True,
            }
        await asyncio.sleep(7)
        await statuses(world, 2)
        ended = (await world.client.get("/fail/status")).json
        assert ended["currently_failing"] is False
        assert ended["failure_status"] == {
            "fail_requests_count": 0,
            "fail_until_timestamp": WALL_TIME + 10,  # stays until reset
            "duration_remaining_seconds": 0.0,
            "currently_failing": False,
        }

    in_world(test)


def test_reset_ends_both() -> None:
    async def test(world: World) -> None:
        await world.client.post("/fail/count/5")
        await world.client.post("/fail/duration/5")
        answer = await world.client.post("/fail/reset")
        assert answer.json == {"message": "All failure modes have been reset", "status": "normal_operation"}
        assert await statuses(world, 1) == [200]
        assert (await world.client.get("/fail/status")).json["failure_status"]["fail_until_timestamp"] is None

    in_world(test)


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/fail/count/-1", "greater_than_equal", "n"),
        ("/fail/count/1001", "less_than_equal", "n"),
        ("/fail/count/many", "int_parsing", "n"),
        ("/fail/count/1.0", "int_parsing", "n"),
        ("/fail/count/%20", "int_parsing", "n"),
        ("/fail/duration/3601", "less_than_equal", "s"),
        ("/fail/duration/-1", "greater_than_equal", "s"),
        ("/fail/duration/" + "9" * 6000, "int_parsing_size", "s"),
    ],
)
def test_a_number_out_of_range_is_a_422_and_sets_nothing(path: str, kind: str, name: str) -> None:
    async def test(world: World) -> None:
        answer = await world.client.post(path)
        assert answer.status == 422
        assert answer.json["detail"][0]["type"] == kind
        assert answer.json["detail"][0]["loc"] == ["path", name]
        assert await statuses(world, 1) == [200]

    in_world(test)


@pytest.mark.parametrize("path", ["/fail/count/1000", "/fail/duration/3600", "/fail/count/0/", "/fail/duration/0"])
def test_the_ends_of_the_range_are_in_it(path: str) -> None:
    async def test(world: World) -> None:
        assert (await world.client.post(path)).status == 200

    in_world(test)


def test_a_disconnected_client_uses_up_its_failure_but_not_its_slot() -> None:
    async def test(world: World) -> None:
        leave = asyncio.Event()
        waiting = asyncio.create_task(world.client.get("/msg?delay=20000", leave=leave))
        await asyncio.sleep(1)
        leave.set()
        assert (await waiting).status == 0
        assert world.context.partitions.default.slots.free == 50
        assert world.context.clock() == pytest.approx(1001.0)

    in_world(test)

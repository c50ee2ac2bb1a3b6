"""The quick lane of the application answers, counts and remembers exactly what the long way would."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.in_process import Answer, World, in_world, make_world

KEYS = st.sampled_from([None, "a", "b", "", "with space", "x" * 257])
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS"]),
        st.sampled_from(["/msg", "/msg", "/msg/", "/msg?", "/msg?delay=5", "/msg?delay=x", "/~p/msg", "/nowhere"]),
        KEYS,
        st.sampled_from([(), (("X-Request-ID", "c"),), (("Content-Length", "0"),), (("X-Fault-Partition", "p"),)]),
        st.sampled_from([None, None, None, "/fail/count/1", "/fail/reset"]),
    ),
    max_size=12,
)


def seen(answer: Answer) -> Any:
    """Everything of an answer that is not made anew for each."""
    fresh = {"x-correlation-id", "x-request-id"}
    headers = {name: value for name, value in answer.headers.items() if name not in fresh}
    body = answer.body if answer.status != 200 or b"message_id" not in answer.body else b"an id"
    if answer.status >= 400 and b"request_id" in body:
        body = b"an error"
    return answer.status, headers, body, len(answer.headers.get("x-request-id", ""))


def counted(world: World) -> Any:
    """Everything the server remembers of what it was asked."""
    partition = world.context.partitions.default
    traffic = [
        (op.method, op.path, op.traffic.started, op.traffic.quick + sum(op.traffic.statuses.values()))
        for op in world.context.operations
        if op.traffic.started
    ]
    journal = [
        (entry["ordinal"], entry["method"], entry["target"], entry["status"], entry["attempt"], entry["monotonic_s"])
        for entry in (partition.journal.entries() if partition.journal else [])
    ]
    return traffic, journal, partition.arrivals, partition.slots.free, len(partition.cache), partition.cache.hits


@settings(max_examples=150, deadline=None)
@given(requests=REQUESTS)
def test_both_ways_are_one(requests: list[Any]) -> None:
    async def test(world: World) -> None:
        plain = await make_world()
        plain.app._quick = {}
        assert world.app._quick
        ids: dict[str, dict[bytes, bytes]] = {"quick": {}, "plain": {}}
        for method, target, key, more, before in requests:
            headers = [*([("X-Request-ID", key)] if key is not None else []), *more]
            answers = {}
            for name, each in (("quick", world), ("plain", plain)):
                if before:
                    await each.client.post(before)
                answers[name] = await each.client.request(method, target, headers=headers)
                # The same pairs of requests share an id on both ways.
                ids[name].setdefault(answers[name].body, b"%d" % len(ids[name]))
            assert seen(answers["quick"]) == seen(answers["plain"])
            assert ids["quick"].get(answers["quick"].body) == ids["plain"].get(answers["plain"].body)
        quick_counts, plain_counts = counted(world), counted(plain)
        assert quick_counts[0] == plain_counts[0]
        assert quick_counts[2:] == plain_counts[2:]
        assert [entry[:5] for entry in quick_counts[1]] == [entry[:5] for entry in plain_counts[1]]

    in_world(test)


def test_the_lane_is_taken_and_left() -> None:
    async def test(world: World) -> None:
        taken: list[bytes | None] = []
        quick = world.app._quick["/msg"]

        def answer(partition: Any, key: bytes | None, now: float) -> Any:
            taken.append(key)
            return quick.answer(partition, key, now)

        world.app._quick["/msg"] = quick._replace(answer=answer)
        await world.client.get("/msg")
        await world.client.get("/msg", headers=[("X-Request-ID", "k")])
        assert taken == [None, b"k"]
        await world.client.post("/fail/count/1")
        assert (await world.client.get("/msg")).status == 500
        await world.client.get("/msg?delay=1")
        await world.client.get("/msg", headers=[("Origin", "http://a")])
        assert taken == [None, b"k"]
        inside = [asyncio.create_task(world.client.get("/msg?delay=1000")) for _ in range(50)]
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(world.client.get("/msg"))
        await asyncio.sleep(0.1)
        assert not waiting.done(), "nobody overtakes the queue on the quick lane"
        await asyncio.gather(*inside, waiting)

    in_world(test)

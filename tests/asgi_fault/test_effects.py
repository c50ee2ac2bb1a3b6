"""Effects in virtual time: what plain ASGI can do, when each piece is sent, and what the journal is told of it."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from asgi_fault.asgi import BodyStream, Response
from tests.fake_connection import FakeConnection
from tests.in_process import WALL_TIME, World, in_world

TEXT = b"0123456789abcdef"
BODY: dict[str, Any] = {"body": {"bytes": 16}}


async def post(world: World, rule: dict[str, Any], *, wire: bool = False) -> FakeConnection:
    connection = FakeConnection(world)
    headers = [(b"content-type", b"application/json")]
    await connection.request("/~p/faults", "POST", wire=wire, headers=headers, body=json.dumps(rule).encode())
    return connection


async def set_rules(world: World, *steps: dict[str, Any], wire: bool = False, **rule: Any) -> None:
    connection = await post(world, {**({"script": list(steps)} if steps else {}), **rule}, wire=wire)
    assert connection.start[0] == 201, connection.body


async def ask(world: World, target: str = "/~p/x", method: str = "GET", **options: Any) -> FakeConnection:
    connection = FakeConnection(world)
    await connection.request(target, method, **options)
    return connection


async def entries(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.client.get("/~p/journal")).json["entries"]
    return found


def under(step: dict[str, Any], *, wire: bool = False, method: str = "GET", target: str = "/~p/x") -> FakeConnection:
    """What a client gets under a rule that always has `step`."""

    async def test(world: World) -> FakeConnection:
        await set_rules(world, wire=wire, then=step)
        return await asyncio.wait_for(ask(world, target, method, wire=wire), 10_000)

    return in_world(test)


class TestAnswers:
    @pytest.mark.parametrize(
        ("form", "body", "content_type"),
        [
            ({"json": {"a": [1, None]}}, b'{"a":[1,null]}', b"application/json"),
            ({"text": "Grüße"}, "Grüße".encode(), b"text/plain; charset=utf-8"),
            ({"html": "<p>"}, b"<p>", b"text/html; charset=utf-8"),
            ({"template": "{method} {path} {ordinal}"}, b"GET /x 1", b"text/plain; charset=utf-8"),
            ({"base64": "AP8="}, b"\x00\xff", b"application/octet-stream"),
            ({"bytes": 20}, b"0123456789abcdef0123", b"application/octet-stream"),
            ({"text": ""}, b"", b"text/plain; charset=utf-8"),
        ],
    )
    def test_every_form_of_body(self, form: dict[str, Any], body: bytes, content_type: bytes) -> None:
        connection = under({"status": 502, "body": form})
        assert (connection.start[0], connection.body) == (502, body)
        assert connection.values(b"content-type") == [content_type]
        assert connection.values(b"content-length") == [b"%d" % len(body)]

    @pytest.mark.parametrize(
        ("step", "status", "body"),
        [
            ({"status": 503}, 503, b'{"detail":"Service Unavailable"}'),
            ({"body": {"text": "a"}}, 200, b"a"),
            ({"status": 204}, 204, b""),
            ({"status": 304}, 304, b""),
        ],
    )
    def test_status_and_body_may_be_left_out(self, step: dict[str, Any], status: int, body: bytes) -> None:
        connection = under(step)
        assert (connection.start[0], connection.body) == (status, body)
        assert connection.values(b"content-length") == ([] if status in (204, 304) else [b"%d" % len(body)])

    def test_headers_repeat_and_override_the_content_type(self) -> None:
        headers = {"X-A": ["1", "2"], "Content-Type": "text/csv"}
        connection = under({"status": 200, "headers": headers, "body": {"text": "a,b"}})
        assert connection.values(b"x-a") == [b"1", b"2"]
        assert connection.values(b"content-type") == [b"text/csv"]
        assert len(connection.values(b"x-request-id")) == len(connection.values(b"x-correlation-id")) == 1

    @pytest.mark.parametrize(("target", "status"), [("/~p/msg", 200), ("/~p/nope", 404), ("/~p/msg?delay=x", 422)])
    def test_headers_alone_are_added_to_the_real_answer(self, target: str, status: int) -> None:
        connection = under({"headers": {"x-a": "1"}, "retry_after": 7}, target=target)
        assert (connection.start[0], connection.values(b"x-a")) == (status, [b"1"])
        assert connection.values(b"retry-after") == [b"7"]
        assert connection.values(b"content-length") == [b"%d" % len(connection.body)]

    @pytest.mark.parametrize(
        ("form", "text"),
        [
            (2, "2"),
            (10**18, "1" + "0" * 18),
            ({"raw": "soon"}, "soon"),
            ({"date_s": 2}, "Tue, 14 Nov 2023 22:13:22 GMT"),
            ({"date_s": 2, "form": "rfc850"}, "Tuesday, 14-Nov-23 22:13:22 GMT"),
            ({"date_s": -2, "form": "asctime"}, "Tue Nov 14 22:13:18 2023"),
        ],
    )
    def test_retry_after_in_every_form(self, form: Any, text: str) -> None:
        (value,) = under({"status": 429, "retry_after": form}).values(b"retry-after")
        assert value.decode() == text
        if isinstance(form, dict) and "date_s" in form:
            assert parsedate_to_datetime(text).timestamp() == WALL_TIME + form["date_s"] or text.endswith("2023")

    @pytest.mark.parametrize("method", ["HEAD", "GET"])
    def test_head_has_the_same_headers_and_no_body(self, method: str) -> None:
        connection = under({**BODY, "status": 500}, method=method)
        assert connection.values(b"content-length") == [b"16"]
        assert connection.body == (TEXT if method == "GET" else b"")

    @pytest.mark.parametrize("prefix", ["/~p", "/~p/"])
    def test_redirects_stay_in_the_partition(self, prefix: str) -> None:
        connection = under({"redirect": {"to": "/y?z=1", "status": 308}}, target=f"{prefix.rstrip('/')}/x")
        assert (connection.start[0], connection.values(b"location")) == (308, [b"/~p/y?z=1"])
        assert under({"redirect": {"to": "https://h/"}}).values(b"location") == [b"https://h/"]

    def test_a_loop_counts_its_hops(self) -> None:
        async def test(world: World) -> list[bytes]:
            await set_rules(world, then={"redirect": {"to": "loop"}})
            targets = [b"/~p/a%20b?q=1"]
            for _ in range(3):
                targets += (await ask(world, targets[-1].decode())).values(b"location")
            return targets[1:]

        assert in_world(test) == [b"/~p/a%%20b?q=1&fault_hop=%d" % hop for hop in (1, 2, 3)]

    def test_a_rule_lies_above_what_fail_has_set(self) -> None:
        async def test(world: World) -> list[Any]:
            await set_rules(world, {"status": 418}, {"headers": {"x-a": "1"}})
            await world.client.post("/~p/fail/count/1")
            answers = [await ask(world, "/~p/msg") for _ in range(3)]
            return [(answer.start[0], answer.values(b"x-a")) for answer in answers]

        assert in_world(test) == [(418, []), (500, [b"1"]), (200, [])]


class TestTimes:
    """Seconds are virtual, so they are exact."""

    def test_a_delay_comes_before_everything_and_knows_no_time_limit(self) -> None:
        connection = under({"delay_s": 3600.5, "status": 503})
        assert (connection.names, connection.times) == (["start", "last"], [3600.5, 3600.5])

    @pytest.mark.parametrize("wire", [False, True])
    def test_the_real_answer_is_asked_for_after_the_delay(self, wire: bool) -> None:
        async def test(world: World) -> int:
            await set_rules(world, then={"delay_s": 5}, wire=wire)
            late = asyncio.create_task(ask(world, "/~p/msg", wire=wire))
            await asyncio.sleep(1)
            await world.client.post("/~p/fail/count/1")
            return (await late).start[0]

        assert in_world(test) == 500

    @pytest.mark.parametrize(
        ("pace", "pieces", "times"),
        [
            (100, [5, 5, 5, 1], [0, 0, 0.05, 0.1, 0.15]),
            (4, [1] * 16, [0, *(i / 4 for i in range(16))]),
            (10_000, [16], [0, 0]),
        ],
    )
    def test_a_body_drips(self, pace: int, pieces: list[int], times: list[float]) -> None:
        connection = under({**BODY, "drip": {"bytes_per_s": pace}})
        assert connection.names == ["start", *["body"] * (len(pieces) - 1), "last"]
        assert [len(what) for _, name, what in connection.events if name != "start"] == pieces
        assert connection.times == times
        assert connection.body == TEXT

    def test_a_large_body_drips_in_constant_memory(self) -> None:
        async def test(world: World) -> tuple[int, float]:
            await set_rules(world, then={"body": {"bytes": 1 << 20}, "drip": {"bytes_per_s": 0.5}})
            connection = FakeConnection(world)
            task = asyncio.create_task(connection.request("/~p/x"))
            await asyncio.sleep(21)
            connection.leave()
            await task
            return len(connection.body), (await entries(world))[0]["status"]

        assert in_world(test) == (11, 200)

    @pytest.mark.parametrize(
        ("at", "names", "times"),
        [
            ("before-head", ["start", "last"], [9, 9]),
            ("after-head", ["start", "last"], [0, 9]),
            ("mid-body", ["start", "body", "last"], [0, 0, 9]),
        ],
    )
    def test_a_stall(self, at: str, names: list[str], times: list[float]) -> None:
        connection = under({**BODY, "stall": {"at": at, "for_s": 9}})
        assert (connection.names, connection.times, connection.body) == (names, times, TEXT)

    def test_a_stall_mid_body_of_a_head_answer_has_no_place(self) -> None:
        connection = under({**BODY, "stall": {"at": "mid-body", "for_s": 9}}, method="HEAD")
        assert (connection.times, connection.body) == ([0, 0], b"")

    @pytest.mark.parametrize(
        ("step", "status", "body"),
        [
            ({"silence": True}, 0, b""),
            ({**BODY, "delay_s": 80_000}, 0, b""),
            ({**BODY, "stall": {"at": "before-head"}}, 0, b""),
            ({**BODY, "stall": {"at": "after-head"}}, 200, b""),
            ({**BODY, "stall": {"at": "mid-body"}}, 200, TEXT[:8]),
            ({**BODY, "drip": {"bytes_per_s": 0.001}}, 200, TEXT[:1]),
        ],
    )
    @pytest.mark.parametrize("wire", [False, True])
    def test_what_lasts_ends_with_the_client(self, step: dict[str, Any], status: int, body: bytes, wire: bool) -> None:
        async def test(world: World) -> None:
            await set_rules(world, then=step)
            connection = FakeConnection(world)
            task = asyncio.create_task(connection.request("/~p/x", wire=wire))
            await asyncio.sleep(500)
            assert not task.done()
            assert await entries(world) == []
            connection.leave()
            await task
            assert (connection.body, "last" in connection.names) == (body, False)
            (entry,) = await entries(world)
            assert (entry["status"], entry["rule"], entry["done_monotonic_s"]) == (status, "r1", None)

        in_world(test)

    @pytest.mark.parametrize(
        ("step", "status", "ended"),
        [
            ({"silence": True}, 503, "start last"),
            ({**BODY, "delay_s": 100}, 503, "start last"),
            ({**BODY, "stall": {"at": "before-head"}}, 503, "start last"),
            ({**BODY, "stall": {"at": "after-head"}}, 200, "start close abort"),
            ({**BODY, "stall": {"at": "mid-body"}}, 200, "start body close abort"),
            ({**BODY, "stall": {"at": "in-head"}}, 200, "write close abort"),
            ({**BODY, "stall": {"at": "after-head"}, "truncate": {"bytes": 5}}, 200, "write close abort"),
            ({"end": {"how": "half-close", "at": "before-head"}}, 0, "eof abort"),
        ],
    )
    def test_what_lasts_ends_with_the_server(self, step: dict[str, Any], status: int, ended: str) -> None:
        async def test(world: World) -> None:
            await set_rules(world, then=step, wire=True)
            connection = FakeConnection(world, client_stays=True)
            task = asyncio.create_task(connection.request("/~p/x", wire=True))
            await asyncio.sleep(50)
            assert not task.done()
            world.context.stopping.begin()
            await task
            assert connection.names == ended.split()
            world.context.stopping.end()
            assert (await entries(world))[0]["status"] == status

        in_world(test)

    def test_without_our_protocol_the_server_ends_what_has_begun(self) -> None:
        async def test(world: World) -> list[str]:
            await set_rules(world, then={**BODY, "stall": {"at": "mid-body"}})
            connection = FakeConnection(world)
            task = asyncio.create_task(connection.request("/~p/x"))
            await asyncio.sleep(50)
            world.context.stopping.begin()
            await task
            return connection.names

        assert in_world(test) == ["start", "body"]


class TestFraming:
    def test_chunks_have_no_content_length(self) -> None:
        connection = under({**BODY, "chunked": "plain"})
        assert (connection.values(b"content-length"), connection.body) == ([], TEXT)

    def test_close_after_the_body_needs_no_more_than_a_header(self) -> None:
        connection = under({**BODY, "end": {"how": "close", "at": "after-body"}})
        assert (connection.values(b"connection"), connection.names) == ([b"close"], ["start", "last"])


class TestTheJournal:
    @pytest.mark.parametrize(
        ("step", "done"),
        [
            ({"status": 503}, 0),
            ({"delay_s": 4, **BODY}, 4),
            ({**BODY, "drip": {"bytes_per_s": 4}}, 3.75),
            ({**BODY, "stall": {"at": "mid-body", "for_s": 9}}, 9),
            ({**BODY, "truncate": {"bytes": 5}}, 0),
            ({**BODY, "drip": {"bytes_per_s": 4}, "truncate": {"bytes": 5}}, 1),
            ({**BODY, "drip": {"bytes_per_s": 4}, "content_length": "duplicate"}, 3.75),
            ({"delay_s": 2, "end": {"how": "reset", "at": "before-head"}}, 2),
            ({"delay_s": 2, "garbage": {"bytes": 5}}, 2),
        ],
    )
    def test_done_is_the_moment_before_the_last_write(self, step: dict[str, Any], done: float) -> None:
        async def test(world: World) -> None:
            await set_rules(world, step, wire=True)
            connection = await ask(world, wire=True)
            (entry,) = await entries(world)
            assert entry["done_monotonic_s"] - entry["monotonic_s"] == pytest.approx(done)
            assert max(connection.times) == pytest.approx(done), "nothing was written after it"
            assert (entry["rule"], entry["step"]) == ("r1", 0)

        in_world(test)

    @pytest.mark.parametrize(
        "step",
        [
            {"status": 503},
            {**BODY, "chunked": "plain"},
            {**BODY, "content_length": "duplicate"},
            {**BODY, "forge": {"status": 201}},
        ],
        ids=str,
    )
    def test_the_clock_is_read_before_the_client_can_have_the_last_byte(self, step: dict[str, Any]) -> None:
        async def test(world: World) -> None:
            await set_rules(world, step, wire=True)
            connection = FakeConnection(world)
            connection.write_takes = 1.0
            await connection.request("/~p/x", wire=True)
            (entry,) = await entries(world)
            last = [seconds for seconds, name, what in connection.events if what and (name == "last" or TEXT in what)]
            assert entry["done_monotonic_s"] - entry["monotonic_s"] <= last[-1]

        in_world(test)

    def test_gaps_count_from_there(self) -> None:
        async def test(world: World) -> list[Any]:
            await set_rules(
                world, {"status": 503, "delay_s": 1}, {"end": {"how": "reset", "at": "before-head"}}, wire=True
            )
            for pause in (0, 5, 7):
                await asyncio.sleep(pause)
                await ask(world, wire=True)
            return [(entry["gap_s"], entry["status"], entry["rule"], entry["step"]) for entry in await entries(world)]

        assert in_world(test) == [(None, 503, "r1", 0), (5.0, 0, "r1", 1), (7.0, 404, None, None)]


class TestByHand:
    """What is written past the server, on a connection that keeps the time."""

    def test_a_reset_waits_until_nothing_is_unsent(self) -> None:
        async def test(world: World) -> list[tuple[float, str]]:
            await set_rules(world, then={**BODY, "end": {"how": "reset", "at": "mid-body"}}, wire=True)
            connection = FakeConnection(world)
            connection.unsent = 100
            task = asyncio.create_task(connection.request("/~p/x", wire=True))
            await asyncio.sleep(30)
            assert "abort" not in connection.names
            connection.unsent = 0
            await task
            return [(round(seconds), name) for seconds, name, _ in connection.events]

        assert in_world(test) == [(0, "write"), (0, "write"), (30, "abort")]

    def test_a_stop_does_not_wait_for_it_and_adds_no_answer(self) -> None:
        async def test(world: World) -> list[str]:
            await set_rules(world, then={**BODY, "end": {"how": "reset", "at": "mid-body"}}, wire=True)
            connection = FakeConnection(world)
            connection.unsent = 100
            task = asyncio.create_task(connection.request("/~p/x", wire=True))
            await asyncio.sleep(30)
            world.context.stopping.begin()
            await task
            return connection.names

        assert in_world(test) == ["write", "write", "abort"]

    def test_over_tls_a_half_close_is_a_close(self) -> None:
        async def test(world: World) -> list[str]:
            await set_rules(world, then={"end": {"how": "half-close", "at": "before-head"}}, wire=True)
            connection = FakeConnection(world, refuses_eof=True)
            await connection.request("/~p/x", wire=True)
            return connection.names

        assert in_world(test) == ["close"]

    def test_a_slow_head_then_a_slow_body(self) -> None:
        connection = under({**BODY, "drip": {"bytes_per_s": 100, "head": True}}, wire=True)
        data = connection.written
        assert data.endswith(b"\r\n\r\n" + TEXT)
        assert connection.times[-1] == pytest.approx((len(data) - 1) / 100, abs=0.05)

    def test_a_date_of_the_rule_takes_the_place_of_ours(self) -> None:
        step = {**BODY, "headers": {"date": "Sun, 06 Nov 1994 08:49:37 GMT"}, "truncate": {"bytes": 3}}
        assert under(step, wire=True).written.lower().count(b"\r\ndate: ") == 1

    @pytest.mark.parametrize("status", [204, 304])
    def test_an_answer_without_a_body_has_no_length_unless_asked_for(self, status: int) -> None:
        end = {"end": {"how": "half-close", "at": "after-head"}}
        assert b"content-length" not in under({"status": status, **end}, wire=True).written
        assert b"content-length: 3\r\n" in under({"status": status, "content_length": {"value": 3}}, wire=True).written


class Streaming:
    """A handler whose answer comes in pieces, one a second, as a proxy's does; `closed` tells when it was given up."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces
        self._closed = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def __call__(self, _: Any) -> Response:
        return 200, [(b"content-type", b"text/plain")], self

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        if self.left:
            try:
                await asyncio.wait_for(self._closed.wait(), 1)
            except TimeoutError:
                self.left -= 1
                return TEXT
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._closed.set()


class TestStreamedAnswers:
    @staticmethod
    def streaming(
        step: dict[str, Any], test: Callable[[World, Streaming], Coroutine[Any, Any, None]], pieces: int = 4
    ) -> None:
        async def main(world: World) -> None:
            await set_rules(world, then=step, wire=True)
            stream = Streaming(pieces)
            resource, _ = world.app._router.find("/x")
            for operation in (*resource.operations.values(), resource.other):
                operation.handler = stream
            await test(world, stream)
            assert stream.closed

        in_world(main)

    def test_pass_through_as_they_come(self) -> None:
        async def test(world: World, _: Streaming) -> None:
            connection = await ask(world, wire=True)
            assert connection.times == [10, 11, 12, 13, 14, 14]
            assert connection.names == ["start", "body", "body", "body", "body", "last"]
            assert connection.values(b"x-a") == [b"1"]

        self.streaming({"delay_s": 10, "headers": {"x-a": "1"}}, test)

    def test_drip_as_they_come(self) -> None:
        async def test(world: World, _: Streaming) -> None:
            connection = await ask(world)
            assert connection.body == TEXT * 2
            assert connection.times[-1] == 10  # a second, four for the first piece, and again

        self.streaming({"drip": {"bytes_per_s": 4}}, test, pieces=2)

    def test_end_when_the_client_leaves(self) -> None:
        async def test(world: World, _: Streaming) -> None:
            connection = FakeConnection(world)
            task = asyncio.create_task(connection.request("/~p/x"))
            await asyncio.sleep(20.5)
            connection.leave()
            await task
            assert connection.body == TEXT * 20
            assert "last" not in connection.names
            assert (await entries(world))[0]["done_monotonic_s"] is None

        self.streaming({"headers": {"x-a": "1"}}, test, pieces=1_000_000)

    def test_are_gathered_to_be_cut(self) -> None:
        async def test(world: World, _: Streaming) -> None:
            connection = await ask(world, wire=True)
            head, _, body = connection.written.partition(b"\r\n\r\n")
            assert (b"content-length: 64" in head, body) == (True, (TEXT * 4)[:48])

        self.streaming({"truncate": {"share": 0.75}}, test)

    def test_are_not_read_for_a_head_request(self) -> None:
        async def test(world: World, stream: Streaming) -> None:
            connection = await ask(world, method="HEAD")
            assert (connection.body, stream.left) == (b"", 4)

        self.streaming({"headers": {"x-a": "1"}}, test)


WIRE_STEPS: list[dict[str, Any]] = [
    {"informational": [103]},
    {**BODY, "drip": {"bytes_per_s": 9, "head": True}},
    {"stall": {"at": "in-head"}},
    {"truncate": {"bytes": 1}},
    {"content_length": {"add": 1}},
    {"chunked": "bad-chunk"},
    {"end": {"how": "reset", "at": "after-body"}},
    {"garbage": {"bytes": 1}},
    {"forge": {"status": 200}},
]


class TestWithoutOurProtocol:
    @pytest.mark.parametrize("step", WIRE_STEPS, ids=str)
    def test_a_wire_rule_is_refused_when_set(self, step: dict[str, Any]) -> None:
        connection = in_world(lambda world: post(world, {"then": step}))
        assert connection.start[0] == 422
        assert "asgi-fault serve" in json.loads(connection.body)["detail"][0]["msg"]

    @pytest.mark.parametrize("text", ["reset=before-head", "garbage=4", "truncate=50%", "informational=103"])
    def test_and_when_it_comes_with_the_request(self, text: str) -> None:
        answer = in_world(lambda world: world.client.get("/~p/msg", headers=[("x-fault", text)]))
        assert answer.status == 422
        assert "--http asgi_fault.faults.wire:HttpTools" in answer.json["detail"][0]["msg"]


def test_the_routes_that_rules_never_match_are_the_control_plane() -> None:
    async def test(world: World) -> dict[str, int]:
        await set_rules(world, then={"status": 418})
        targets = ("/msg", "/", "/nope", "/health", "/metrics", "/faults", "/journal", "/fail/status", "/openapi.json")
        return {target: (await ask(world, f"/~p{target}")).start[0] for target in targets}

    statuses = in_world(test)
    assert [target for target, status in statuses.items() if status == 418] == ["/msg", "/", "/nope"]

"""`/journal`: its forms, its stream, its verification; first the handlers alone, then through the whole application."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_fault.context import Stopping
from asgi_fault.endpoints.journal import (
    KEEP_ALIVE,
    STREAM_HEADERS,
    Stream,
    delete_journal,
    get_journal,
    verify_journal,
)
from asgi_fault.errors import NotFound, Unavailable, UnsupportedMediaType, ValidationFailed
from asgi_fault.observe.expectations import SCHEMA
from asgi_fault.observe.journal import FOLLOWERS_MAX, QUEUE_MAX, Journal
from asgi_fault.parameters import query_values
from tests.asgi_fault.observe.journal_entries import entry, journal_of
from tests.in_process import Answer, World, in_world
from tests.virtual_time import run_virtual

JSON = {"content-type": "application/json"}


def ask(journal: Journal | None, query: str = "", headers: dict[str, str] | None = None, **more: Any) -> Any:
    """An exchange as far as the handlers look at one."""
    return SimpleNamespace(
        partition=SimpleNamespace(journal=journal),
        query=query_values(query.encode()),
        headers={name.encode(): value.encode() for name, value in (headers or {}).items()},
        scope={"method": more.get("method", "GET")},
        context=SimpleNamespace(stopping=more.get("stopping") or Stopping()),
        body=more.get("body", b""),
    )


def violations(exchange: Any, handler: Any = get_journal) -> list[tuple[str, list[Any]]]:
    with pytest.raises(ValidationFailed) as caught:
        handler(exchange)
    detail: Any = caught.value.detail
    return [(violation["type"], violation["loc"]) for violation in detail]


THREE = (entry(1, key="a"), entry(2, key="b"), entry(3, key="a", at=1001))


class TestReading:
    def test_as_one_object(self) -> None:
        status, headers, body = get_journal(ask(journal_of(*THREE)))
        document = json.loads(body)
        assert (status, document["partition"], document["next"]) == (200, "blue", 3)
        assert [one["attempt"] for one in document["entries"]] == [1, 1, 2]
        assert (b"cache-control", b"no-store") in headers

    @pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl"])
    def test_as_lines(self, content_type: str) -> None:
        _, headers, body = get_journal(ask(journal_of(*THREE), "limit=2", {"accept": f"text/x, {content_type};q=0.5"}))
        assert [json.loads(line)["ordinal"] for line in body.splitlines()] == [1, 2]
        assert body.endswith(b"\n")
        assert dict(headers)[b"content-type"] == content_type.encode()
        assert dict(headers)[b"x-journal-next"] == b"2"

    def test_limit_after_and_call(self) -> None:
        journal = journal_of(*THREE)
        assert json.loads(get_journal(ask(journal, "limit=1&after=1"))[2])["next"] == 2
        found = json.loads(get_journal(ask(journal, "call=a&after=1"))[2])
        assert ([one["ordinal"] for one in found["entries"]], found["next"]) == ([3], 3)

    def test_empty_fields_of_a_form_say_nothing(self) -> None:
        assert len(json.loads(get_journal(ask(journal_of(*THREE), "limit=&after=&call="))[2])["entries"]) == 3

    def test_every_mistake_is_told_at_once(self) -> None:
        query = f"limit=0&after=-1&call={'x' * 257}&follow=maybe"
        assert violations(ask(journal_of(), query, {"last-event-id": "x"})) == [
            ("greater_than_equal", ["query", "limit"]),
            ("greater_than_equal", ["query", "after"]),
            ("string_too_long", ["query", "call"]),
            ("bool_parsing", ["query", "follow"]),
            ("int_parsing", ["header", "Last-Event-ID"]),
        ]

    def test_forgetting(self) -> None:
        journal = journal_of(*THREE)
        assert json.loads(delete_journal(ask(journal))[2]) == {"deleted": 3}
        assert json.loads(get_journal(ask(journal))[2])["entries"] == []

    @pytest.mark.parametrize("handler", [get_journal, delete_journal, verify_journal])
    def test_a_server_without_one_says_which_setting(self, handler: Any) -> None:
        with pytest.raises(NotFound) as caught:
            handler(ask(None, headers=JSON, body=b"{}"))
        assert caught.value.details == {"setting": "SERVER_JOURNAL_SIZE"}


def events(pieces: list[bytes]) -> list[tuple[str, Any]]:
    """What a browser would make of the stream: id or event type, and the data."""
    found = []
    for block in b"".join(pieces).decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields.get("id") or fields["event"], json.loads(fields["data"])))
    return found


def stream_of(exchange: Any) -> Stream:
    status, headers, stream = get_journal(exchange)
    assert (status, headers) == (200, STREAM_HEADERS)
    made: Stream = stream  # type: ignore[assignment]
    return made


class TestFollowing:
    def test_what_lies_there_then_what_comes(self) -> None:
        async def test() -> None:
            journal = journal_of(*THREE)
            stream = stream_of(ask(journal, "follow"))
            assert (await anext(stream)).startswith(b": ")
            assert [name for name, _ in events([await anext(stream)])] == ["1", "2", "3"]
            asyncio.get_running_loop().call_later(5, journal.append, entry(4, key="a", at=1005))
            ((name, data),) = events([await anext(stream)])
            assert (name, data["attempt"], data["gap_s"]) == ("4", 3, 4.0)
            await stream.aclose()

        run_virtual(test())

    @pytest.mark.parametrize(
        ("query", "headers", "names"),
        [
            ("follow&after=1", {}, ["2", "3"]),
            ("follow=1", {"last-event-id": "2"}, ["3"]),
            ("follow&after=1", {"last-event-id": "2"}, ["3"]),
            ("", {"accept": "text/event-stream"}, ["1", "2", "3"]),
            ("follow&call=a", {}, ["1", "3"]),
            ("follow&limit=2", {}, ["1", "2"]),
        ],
    )
    def test_from_where_and_what(self, query: str, headers: dict[str, str], names: list[str]) -> None:
        async def test() -> list[bytes]:
            stream = stream_of(ask(journal_of(*THREE), query, headers))
            return [await anext(stream), await anext(stream)]

        assert [name for name, _ in events(run_virtual(test()))] == names

    def test_a_limit_ends_it(self) -> None:
        async def test() -> None:
            journal = journal_of(*THREE)
            stream = stream_of(ask(journal, "follow&limit=4"))
            asyncio.get_running_loop().call_later(1, lambda: [journal.append(entry(i)) for i in (4, 5)])
            assert [name for name, _ in events([piece async for piece in stream])] == ["1", "2", "3", "4"]
            append = journal.append
            journal.append(entry(6))
            assert append == journal.append
            assert len(journal) == 6

        run_virtual(test())

    def test_in_silence_it_sends_comments(self) -> None:
        async def test() -> None:
            stream = stream_of(ask(journal_of(), "follow"))
            await anext(stream)
            loop = asyncio.get_running_loop()
            begun = loop.time()
            assert (await anext(stream)).startswith(b": ")
            assert loop.time() - begun == pytest.approx(KEEP_ALIVE)

        run_virtual(test())

    @pytest.mark.parametrize("how", ["stop", "stopped before", "aclose"])
    def test_it_ends(self, how: str) -> None:
        async def test() -> None:
            journal, stopping = journal_of(), Stopping()
            if how == "stopped before":
                stopping.begin()
            stream = stream_of(ask(journal, "follow", stopping=stopping))
            loop = asyncio.get_running_loop()
            if how == "stop":
                loop.call_later(3, stopping.begin)
            elif how == "aclose":
                loop.call_later(3, lambda: asyncio.ensure_future(stream.aclose()))
            begun = loop.time()
            async with asyncio.timeout(10):
                assert len([piece async for piece in stream]) == 1
            assert loop.time() - begun == pytest.approx(0.0 if how == "stopped before" else 3.0)
            assert journal.append == journal._entries.append, "it follows no longer"

        run_virtual(test())

    def test_a_reader_that_is_cancelled_leaves_no_timer_behind(self) -> None:
        async def test() -> None:
            journal, stopping = journal_of(), Stopping()
            stream = stream_of(ask(journal, "follow", stopping=stopping))
            await anext(stream)
            reading = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(1)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await stream.aclose()
            assert not stopping._waiting
            await asyncio.sleep(0)
            assert not [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]

        run_virtual(test())

    def test_a_slow_reader_is_told_what_it_missed(self) -> None:
        async def test() -> list[tuple[str, Any]]:
            journal = journal_of(entry(1))
            stream = stream_of(ask(journal, f"follow&limit={QUEUE_MAX + 1}"))
            await anext(stream)
            for i in range(2, QUEUE_MAX + 5):
                journal.append(entry(i))
            return events([piece async for piece in stream])

        found = run_virtual(test())
        assert found[0][0] == "1"
        assert found[1] == ("lost", {"lost": 3})
        assert [name for name, _ in found[2:]] == [str(i) for i in range(5, QUEUE_MAX + 5)]

    def test_there_is_room_for_so_many(self) -> None:
        async def test() -> None:
            journal = journal_of()
            streams = [stream_of(ask(journal, "follow")) for _ in range(FOLLOWERS_MAX)]
            with pytest.raises(Unavailable):
                get_journal(ask(journal, "follow"))
            await streams[0].aclose()
            assert stream_of(ask(journal, "follow"))

        run_virtual(test())

    def test_head_takes_no_place(self) -> None:
        journal = journal_of()
        assert get_journal(ask(journal, "follow", method="HEAD")) == (200, STREAM_HEADERS, b"")
        assert journal._followers == []


def posted(document: Any, **more: Any) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return ask(journal_of(*THREE), headers=more.pop("headers", JSON), body=body, **more)


WORDS = ("GET /msg", "/msg", "GET", "a")
NAMES = (*SCHEMA["properties"], "min", "max", "exactly", "min_s", "max_s", "method", "path", "status", "call")


class TestVerifying:
    def test_met_and_missed(self) -> None:
        met = json.loads(verify_journal(posted({"count": {"exactly": 3}, "statuses": [200, 200, 200]}))[2])
        assert met["ok"]
        assert met["complete"]
        assert met["report"].startswith("ok: 2 checks. 3 arrivals in 2 calls\n")
        missed = json.loads(verify_journal(posted({"match": {"call": "a"}, "gaps": {"min_s": 2}}))[2])
        assert not missed["ok"]
        assert missed["checks"] == [
            {"check": "gaps", "ok": False, "proven": True, "expected": {"min_s": 2}, "observed": [1.0], "evidence": [3]}
        ]
        assert "too early" in missed["report"]

    def test_a_full_journal_is_not_complete(self) -> None:
        exchange = posted({"calls": {"max": 5}})
        exchange.partition.journal = journal_of(*THREE, size=3)
        verdict = json.loads(verify_journal(exchange)[2])
        assert not verdict["complete"]
        assert "earlier arrivals are forgotten" in verdict["report"]

    @pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
    def test_it_is_json(self, content_type: str) -> None:
        assert verify_journal(posted({"calls": {"min": 1}}, headers={"content-type": content_type}))[0] == 200

    @pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
    def test_and_says_so(self, headers: dict[str, str]) -> None:
        with pytest.raises(UnsupportedMediaType):
            verify_journal(posted({"calls": {"min": 1}}, headers=headers))

    @pytest.mark.parametrize(
        ("document", "kind", "loc"),
        [
            (b"", "json_invalid", ["body", 0]),
            (b'{"calls": NaN}', "json_invalid", ["body", "calls"]),
            ([], "dict_type", ["body"]),
            ({}, "too_short", ["body"]),
            ({"match": {}}, "value_error", ["body"]),
            ({"cuont": {"min": 1}}, "extra_forbidden", ["body", "cuont"]),
            ({"count": 3}, "dict_type", ["body", "count"]),
            ({"count": [{"min": 1}, {"max": "2"}]}, "int_type", ["body", "count", 1, "max"]),
            ({"count": {"path": "/a"}}, "value_error", ["body", "count"]),
            ({"count": [{"min": 2, "max": 1}]}, "value_error", ["body", "count", 0, "min"]),
            ({"count": {"exactly": 2, "max": 3}}, "value_error", ["body", "count", "exactly"]),
            ({"count": {"path": "a", "min": 1}}, "string_pattern_mismatch", ["body", "count", "path"]),
            ({"match": {"path": "/a**"}, "calls": {"min": 1}}, "value_error", ["body", "match", "path"]),
            ({"match": {"status": [600]}, "calls": {"min": 1}}, "less_than_equal", ["body", "match", "status", 0]),
            ({"match": {"method": []}, "calls": {"min": 1}}, "too_short", ["body", "match", "method"]),
            ({"calls": {}}, "too_short", ["body", "calls"]),
            ({"attempts": {"min": -1}}, "greater_than_equal", ["body", "attempts", "min"]),
            ({"statuses": [200, "503"]}, "int_type", ["body", "statuses", 1]),
            ({"statuses": [200] * 1001}, "too_long", ["body", "statuses"]),
            ({"order": ["GET /a", "/b"]}, "string_pattern_mismatch", ["body", "order", 1]),
            ({"order": ["GET /a**/b"]}, "value_error", ["body", "order", 0]),
            ({"gaps": [{"min_s": 1}, {"min_s": 2, "max_s": 1}]}, "value_error", ["body", "gaps", 1, "min_s"]),
            ({"gaps": {"min_s": -1}}, "greater_than_equal", ["body", "gaps", "min_s"]),
            ({"same_key": False}, "value_error", ["body", "same_key"]),
            ({"same_body": 1}, "bool_type", ["body", "same_body"]),
            ({"distinct_connections": "no"}, "bool_type", ["body", "distinct_connections"]),
        ],
    )
    def test_a_mistake_is_named_with_its_path(self, document: Any, kind: str, loc: list[Any]) -> None:
        assert (kind, loc) in violations(posted(document), verify_journal)

    def test_every_mistake_is_told_at_once(self) -> None:
        document = {"count": {"exactly": 1, "min": 2}, "gaps": {"min_s": 2, "max_s": 1}, "same_key": False}
        assert len(violations(posted(document), verify_journal)) == 3

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-1, 600) | st.floats(0, 9) | st.sampled_from(WORDS),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
            max_leaves=12,
        )
    )
    def test_any_document_is_judged_or_refused(self, document: Any) -> None:
        try:
            verdict = json.loads(verify_journal(posted(document))[2])
        except ValidationFailed as refused:
            detail: Any = refused.detail
            assert all(violation["loc"][0] == "body" for violation in detail)
        else:
            assert verdict["checks"]
            assert verdict["report"]


class TestThroughTheApplication:
    def test_every_arrival_is_written_down_routed_or_not_but_for_the_control_plane(self) -> None:
        async def test(world: World) -> None:
            get, post = world.client.get, world.client.post
            call = ("X-Request-ID", "call-1")
            await post("/~blue/fail/count/1")
            await get("/~blue/msg?api_key=hunter2", headers=[call, ("Authorization", "Bearer hunter2")])
            await asyncio.sleep(2)
            await get("/~blue/msg?api_key=hunter2", headers=[call, ("Cookie", "a=hunter2")])
            await post("/~blue/v1/anything", headers=[("content-length", "5")], chunks=[b"he", b"llo"])
            await get("/msg")
            answer = await get("/~blue/journal")
            assert answer.headers["content-type"] == "application/json"
            entries = answer.json["entries"]
            seen = [(e["ordinal"], e["method"], e["path"], e["status"], e["attempt"], e["gap_s"]) for e in entries]
            assert seen == [
                (1, "GET", "/msg", 500, 1, None),
                (2, "GET", "/msg", 200, 2, 2.0),
                (3, "POST", "/v1/anything", 404, 1, None),
            ]
            assert entries[0]["target"] == "/~blue/msg?api_key=***"
            assert entries[0]["call"] == "call-1"
            assert entries[0]["headers"]["authorization"] == "present"
            assert b"hunter2" not in answer.body
            assert entries[2]["body"] == {
                "bytes": 5,
                "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            }
            assert entries[2]["at"] == "2023-11-14T22:13:22.000Z"
            assert [e["path"] for e in (await get("/journal")).json["entries"]] == ["/msg"], "the other partition's"
            assert (await world.client.request("DELETE", "/~blue/journal")).json == {"deleted": 3}
            assert (await get("/~blue/journal")).json["entries"] == []

        in_world(test)

    def test_a_client_that_left_has_no_end(self) -> None:
        async def test(world: World) -> None:
            leave = asyncio.Event()
            asyncio.get_running_loop().call_later(1, leave.set)
            await world.client.get("/msg?delay=5000", leave=leave)
            (one,) = (await world.client.get("/journal")).json["entries"]
            assert (one["status"], one["done_monotonic_s"]) == (0, None)

        in_world(test)

    def test_the_end_is_read_before_the_last_byte_is_written(self) -> None:
        async def test(world: World) -> None:
            inner = world.app

            async def slow(scope: Any, receive: Any, send: Any) -> None:
                async def late(message: Any) -> None:
                    await send(message)
                    if message["type"] == "http.response.body":
                        await asyncio.sleep(3)

                await inner(scope, receive, late)

            world.client.app = slow
            await world.client.get("/msg")
            world.client.app = inner
            (one,) = (await world.client.get("/journal")).json["entries"]
            assert one["done_monotonic_s"] == one["monotonic_s"] == 1000.0

        in_world(test)

    def test_it_can_be_switched_off(self) -> None:
        async def test(world: World) -> None:
            assert (await world.client.get("/msg")).status == 200
            answer = await world.client.get("/journal")
            assert (answer.status, answer.json["details"]) == (404, {"setting": "SERVER_JOURNAL_SIZE"})

        in_world(test, journal_size=0)

    def test_it_is_bounded(self) -> None:
        async def test(world: World) -> None:
            for _ in range(5):
                await world.client.get("/msg")
            assert [e["ordinal"] for e in (await world.client.get("/journal")).json["entries"]] == [3, 4, 5]

        in_world(test, journal_size=3)

    def test_it_is_guarded_like_all_of_the_control_plane(self) -> None:
        async def test(world: World) -> None:
            for method, path in (("GET", "/journal"), ("DELETE", "/journal"), ("POST", "/journal/verify")):
                assert (await world.client.request(method, path)).status == 401

        in_world(test, admin_token="secret")

    def test_verification_says_yes_or_no_with_a_200(self) -> None:
        async def test(world: World) -> list[Answer]:
            await world.client.get("/msg")
            answers = []
            for document in ({"statuses": [200]}, {"statuses": [503]}, {"statuses": "x"}):
                body = json.dumps(document).encode()
                headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
                answers.append(await world.client.post("/journal/verify", headers=headers, chunks=[body]))
            return answers

        met, missed, mistaken = in_world(test)
        assert (met.status, met.json["ok"]) == (200, True)
        assert (missed.status, missed.json["ok"]) == (200, False)
        assert (mistaken.status, mistaken.json["detail"][0]["loc"]) == (422, ["body", "statuses"])

    def test_a_stream_goes_on_until_the_client_leaves(self) -> None:
        async def test(world: World) -> None:
            leave = asyncio.Event()
            following = asyncio.create_task(world.client.get("/~blue/journal?follow", leave=leave))
            await asyncio.sleep(1)
            await world.client.get("/~blue/msg", headers=[("X-Request-ID", "a")])
            await asyncio.sleep(20)
            leave.set()
            answer = await following
            assert answer.headers["content-type"] == "text/event-stream"
            assert "content-length" not in answer.headers
            assert [(name, data["call"]) for name, data in events([answer.body])] == [("1", "a")]
            assert answer.body.endswith(b": nothing new\n\n"), "it was kept alive"
            journal = world.context.partitions.get("blue", 0.0).journal
            assert journal is not None
            assert journal._followers == []

        in_world(test)

    def test_a_stream_ends_when_the_server_stops(self) -> None:
        async def test(world: World) -> None:
            following = asyncio.create_task(world.client.get("/journal?follow"))
            await asyncio.sleep(1)
            world.context.stopping.begin()
            answer = await asyncio.wait_for(following, 10)
            assert (answer.status, answer.complete) == (200, True)
            assert world.context.clock() == pytest.approx(1001.0)

        in_world(test)

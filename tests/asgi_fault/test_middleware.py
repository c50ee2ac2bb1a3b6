"""The fault rules in front of somebody else's application: what passes through, what does not, and who may steer."""

import asyncio
import hashlib
import json
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio

from asgi_fault.config import ConfigError, Settings
from asgi_fault.context import Context
from asgi_fault.effects import GATHERED_MAX
from asgi_fault.faults.wire import EXTENSION
from asgi_fault.guest import Guest
from asgi_fault.middleware import FaultMiddleware
from asgi_fault.observe.attempts import Connection
from asgi_fault.observe.logs import Log
from tests.in_process import WALL_TIME, Answer, Client
from tests.processes import ROOT, environment
from tests.virtual_time import run_virtual

JSON = [("Content-Type", "application/json")]


class Host:
    """An application that says what it was asked, and notes it."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self.receives: list[Any] = []
        self.after: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.receives.append(receive)
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        text = f"{scope['method']} {scope['path']}".encode()
        headers = [(b"content-length", b"%d" % len(text)), (b"x-host", b"yes")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})
        if self.after is not None:
            await self.after()


class Place:
    """A guest in front of `host` on the running loop's clock."""

    def __init__(self, host: Any, *, prefix: str = "/__fault__", local_only: bool = True, **settings: Any) -> None:
        self.log: list[str] = []
        self.host = host
        loaded = Settings(log_level="WARNING", enable_docs=False, **settings)
        log = Log("WARNING", "console", self.log.append, lambda: WALL_TIME)
        self.context = Context(loaded, clock=asyncio.get_running_loop().time, wall_clock=lambda: WALL_TIME, log=log)
        self.app = Guest(self.context, host, prefix=prefix, local_only=local_only)
        self.client = Client(self.app)
        self.prefix = prefix

    async def rule(self, *rules: dict[str, Any], partition: str = "", **options: Any) -> Answer:
        target = f"{f'/~{partition}' if partition else ''}{self.prefix}/faults"
        body = json.dumps({"rules": rules}).encode()
        headers = [*JSON, ("Content-Length", str(len(body))), *options.pop("headers", ())]
        return await self.client.post(target, chunks=[body], headers=headers, **options)

    async def journal(self, partition: str = "") -> list[dict[str, Any]]:
        answer = await self.client.get(f"{f'/~{partition}' if partition else ''}{self.prefix}/journal")
        entries: list[dict[str, Any]] = answer.json["entries"]
        return entries


def at(test: Callable[[Place], Coroutine[Any, Any, None]], host: Any = None, **options: Any) -> None:
    """Run `test` in virtual time; nothing may have been complained about."""

    async def main() -> None:
        place = Place(Host() if host is None else host, **options)
        await test(place)
        assert place.log == []

    run_virtual(main())


def http_scope(path: str = "/x", method: str = "GET", headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> Any:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": list(headers),
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), **more,
    }  # fmt: skip


class TestWhetherItIsOn:
    def test_it_is_off_unless_somebody_says_otherwise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ASGI_FAULT_ENABLED", raising=False)
        host = Host()
        assert FaultMiddleware(host) is host
        assert FaultMiddleware(host, enabled=False) is host
        for word in ("", "0", "false", "No", "off"):
            monkeypatch.setenv("ASGI_FAULT_ENABLED", word)
            assert FaultMiddleware(host) is host, word

    def test_the_variable_puts_it_on_and_the_argument_is_stronger(self, monkeypatch: pytest.MonkeyPatch) -> None:
        host = Host()
        for word in ("1", "true", "YES", "on"):
            monkeypatch.setenv("ASGI_FAULT_ENABLED", word)
            assert isinstance(FaultMiddleware(host), Guest), word
            assert FaultMiddleware(host, enabled=False) is host
        monkeypatch.delenv("ASGI_FAULT_ENABLED")
        assert isinstance(FaultMiddleware(host, enabled=True), Guest)

    def test_a_word_that_means_nothing_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ASGI_FAULT_ENABLED", "perhaps")
        with pytest.raises(ConfigError, match="ASGI_FAULT_ENABLED=perhaps: expected true or false"):
            FaultMiddleware(Host())

    @pytest.mark.parametrize("prefix", ["", "/", "fault", "/fault/", "/~fault", "/a b", "/a//b", "/ä"])
    def test_a_prefix_that_is_none_is_refused(self, prefix: str) -> None:
        with pytest.raises(ConfigError, match="is no prefix"):
            FaultMiddleware(Host(), enabled=True, prefix=prefix)

    def test_off_it_loads_nothing_of_the_server(self) -> None:
        code = (
            "import sys\nfrom asgi_fault.middleware import FaultMiddleware\nFaultMiddleware(print)\n"
            "print(sorted(m for m in sys.modules if m in ('asyncio', 'logging', 'httpx', 'uvicorn', 'dotenv')"
            " or m.startswith('asgi_fault.')))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert done.stdout.strip() == "['asgi_fault.config', 'asgi_fault.middleware', 'asgi_fault.version']"

    def test_it_reads_nothing_of_the_project_it_stands_in(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / ".env").write_text("SERVER_PORT=eighty\nSERVER_ADMIN_TOKEN=theirs\nASGI_FAULT_ADMIN_TOKEN=theirs\n")
        monkeypatch.chdir(tmp_path)
        plain = FaultMiddleware(Host(), enabled=True)
        for name, value in {
            "SERVER_PORT": "eighty", "SERVER_SEED": "7", "SERVER_ADMIN_TOKEN": "theirs", "SERVER_JOURNAL_SIZE": "0",
            "SERVER_FAULT_HEADERS": "true", "SERVER_PROXY": "http://nowhere", "DEBUG": "1", "REDIS_URL": "redis://x",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        guest = FaultMiddleware(Host(), enabled=True)
        assert isinstance(guest, Guest)
        assert isinstance(plain, Guest)
        assert guest.context.settings == plain.context.settings
        assert guest.context.settings == Settings(host="127.0.0.1", log_level="WARNING", enable_docs=False)
        assert capsys.readouterr() == ("", "")

    def test_it_touches_no_logger(self) -> None:
        code = (
            "import logging\nbefore = dict(logging.root.manager.loggerDict)\n"
            "from asgi_fault.middleware import FaultMiddleware\nFaultMiddleware(print, enabled=True)\n"
            "ours = {name for name in logging.root.manager.loggerDict if name not in before}\n"
            "assert not {n for n in ours if not n.startswith(('asyncio', 'concurrent'))}, ours\n"
            "assert not logging.root.handlers and logging.root.level == logging.WARNING\n"
        )
        subprocess.run([sys.executable, "-c", code], env=environment(), check=True, cwd=ROOT)


class TestWhatPassesThrough:
    def test_without_a_rule_every_message_passes_as_it_is(self) -> None:
        start = {"type": "http.response.start", "status": 207, "headers": [[b"X-Case", b"1"], [b"x-case", b"2"]]}
        body = {"type": "http.response.body", "body": b"x", "more_body": False, "their": "own"}
        given: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            given.extend((scope, receive))
            await send(start)
            await send(body)

        async def test(place: Place) -> None:
            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            async def receive() -> Any:
                raise AssertionError("nobody asked")

            scope = http_scope("/%zz", raw_path=b"/%zz", extensions={"theirs": {}})
            before = dict(scope)
            await place.app(scope, receive, send)
            assert sent[0] is start
            assert sent[1] is body
            assert given[0] is scope
            assert scope == before
            assert given[1] is receive
            assert start["headers"] == [[b"X-Case", b"1"], [b"x-case", b"2"]]

        at(test, app)

    def test_what_the_application_raises_is_raised(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise LookupError("theirs")

        async def test(place: Place) -> None:
            with pytest.raises(LookupError, match="theirs"):
                await place.client.get("/a")
            for step in ({"delay_s": 1}, {"drip": {"bytes_per_s": 10}}):
                await place.rule({"script": [step]})
                with pytest.raises(LookupError, match="theirs"):
                    await place.client.get("/b")
            assert [entry["status"] for entry in await place.journal()] == [500, 500, 500]

        at(test, app)

    def test_websockets_and_the_lifespan_are_the_applications(self) -> None:
        calls: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            calls.append((scope, send))
            while True:
                message = await receive()
                calls.append(message)
                if message["type"] in ("lifespan.shutdown", "websocket.disconnect"):
                    return

        async def test(place: Place) -> None:
            async def send(message: Any) -> None:
                pass

            for kind, words in (
                ("websocket", ("connect", "receive", "disconnect")),
                ("lifespan", ("startup", "shutdown")),
            ):
                calls.clear()
                scope = {"type": kind, "path": "/__fault__/x"}
                messages = [{"type": f"{kind}.{word}"} for word in words]
                queue = list(messages)

                async def receive(queue: list[Any] = queue) -> Any:
                    return queue.pop(0)

                await place.app(scope, receive, send)
                assert calls[0][0] is scope
                assert calls[0][1] is send
                assert calls[1:] == messages

        at(test, app)

    def test_the_end_of_the_lifespan_ends_what_a_rule_holds_up(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"then": {"stall": {"at": "before-head"}}})
            held = asyncio.create_task(place.client.get("/a"))
            await asyncio.sleep(3600)
            assert not held.done()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await receive()

            place.app._inner = app
            await place.app({"type": "lifespan"}, _one({"type": "lifespan.shutdown"}), _nothing)
            answer = await held
            assert answer.status == 503
            assert answer.json["message"] == "The server is stopping."
            await place.app({"type": "lifespan"}, _one({"type": "lifespan.startup"}), _nothing)
            assert not place.context.stopping.begun

        at(test)

    def test_a_stream_is_not_gathered(self) -> None:
        """The first piece is with the client before the application has made the second."""

        def stream() -> Any:
            proceed = asyncio.Event()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"first", "more_body": True})
                await proceed.wait()
                await send({"type": "http.response.body", "body": b"second"})

            return proceed, app

        async def test(place: Place) -> None:
            for rules in ((), ({"then": {"delay_s": 5, "headers": {"x-more": "1"}, "retry_after": 3}},)):
                if rules:
                    await place.rule(*rules)
                proceed, place.app._inner = stream()
                sent: asyncio.Queue[Any] = asyncio.Queue()
                began_at = place.context.clock()
                receive = _one({"type": "http.request", "body": b"", "more_body": False})
                running = asyncio.create_task(place.app(http_scope(), receive, sent.put))
                start, first = await sent.get(), await sent.get()
                assert place.context.clock() - began_at == (5 if rules else 0)
                assert (first["body"], first["more_body"]) == (b"first", True)
                assert start["headers"] == ([(b"x-more", b"1"), (b"retry-after", b"3")] if rules else [])
                assert sent.empty()
                assert not running.done()
                proceed.set()
                assert (await sent.get())["body"] == b"second"
                await running
                done_s = (await place.journal())[-1]["done_monotonic_s"]
                assert done_s == pytest.approx(place.context.clock())

        at(test)


class TestRules:
    def test_they_act_on_the_applications_paths_and_on_any_other(self) -> None:
        async def test(place: Place) -> None:
            answer = await place.rule(
                {"match": {"path": "/orders/{id}", "method": "POST"}, "script": [{"status": 503, "retry_after": 2}]},
                {"match": {"path": "/nowhere/**"}, "then": {"body": {"json": {"made": "up"}}}},
            )
            assert answer.status == 201
            first = await place.client.post("/orders/7", chunks=[b"a"])
            assert (first.status, first.headers["retry-after"]) == (503, "2")
            assert first.json == {"detail": "Service Unavailable"}
            assert (await place.client.post("/orders/7", chunks=[b"b"])).body == b"POST /orders/7"
            assert (await place.client.get("/nowhere/at/all")).json == {"made": "up"}
            assert (await place.client.get("/else")).body == b"GET /else"
            assert place.host.bodies == [b"b", b""]

        at(test)

    def test_an_answer_of_ours_has_ids_and_the_applications_have_none(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"match": {"path": "/a"}, "then": {"status": 500}})
            ours = await place.client.get("/a", headers=[("X-Request-ID", "mine")])
            assert ours.headers["x-request-id"] == "mine"
            assert ours.headers["x-correlation-id"]
            for step in ({}, {"delay_s": 1}, {"drip": {"bytes_per_s": 1}}):
                await place.rule({"id": "r", "match": {"path": "/b"}, "then": step})
                theirs = await place.client.get("/b", headers=[("X-Request-ID", "mine")])
                assert theirs.header_list == [(b"content-length", b"6"), (b"x-host", b"yes")], step

        at(test)

    def test_what_works_on_the_body_has_the_whole_of_it(self) -> None:
        async def test(place: Place) -> None:
            began_at = place.context.clock()
            await place.rule({"script": [{"drip": {"bytes_per_s": 2}}, {"stall": {"at": "mid-body", "for_s": 9}}]})
            assert (await place.client.get("/a")).body == b"GET /a"
            assert place.context.clock() - began_at == pytest.approx(2.5)
            assert (await place.client.get("/b")).body == b"GET /b"
            assert place.context.clock() - began_at == pytest.approx(11.5)
            assert (await place.client.request("HEAD", "/c")).status == 200

        at(test)

    def test_work_behind_the_answer_does_not_hold_it_up_and_may_fail(self) -> None:
        async def test(place: Place) -> None:
            async def after() -> None:
                await asyncio.sleep(60)
                raise LookupError("late")

            place.host.after = after
            await place.rule({"then": {"drip": {"bytes_per_s": 1000}}})
            done_at: list[float] = []
            began_at = place.context.clock()

            async def send(message: Any) -> None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    done_at.append(place.context.clock())

            receive = _one({"type": "http.request", "body": b"", "more_body": False})
            with pytest.raises(LookupError, match="late"):
                await place.app(http_scope(), receive, send)
            assert done_at == [pytest.approx(began_at, abs=1)]
            assert place.context.clock() - began_at == pytest.approx(60)

        at(test)

    def test_an_answer_too_large_to_gather_is_said_to_be(self) -> None:
        heard: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                for _ in range(64):
                    await send({"type": "http.response.body", "body": b"x" * (1 << 20), "more_body": True})
            except OSError:
                heard.append("nobody listens")
                raise

        async def test(place: Place) -> None:
            await place.rule({"then": {"drip": {"bytes_per_s": 1_000_000}}})
            answer = await place.client.get("/a")
            assert answer.status == 502
            assert str(GATHERED_MAX) in answer.json["message"]
            assert heard == ["nobody listens"]

        at(test, app)

    def test_an_answer_that_is_not_ended_is_said_to_be_none(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

        async def test(place: Place) -> None:
            await place.rule({"then": {"drip": {"bytes_per_s": 10}}})
            answer = await place.client.get("/a")
            assert (answer.status, answer.json["error"]) == (502, "BadGatewayError")

        at(test, app)

    def test_rules_of_the_wire_are_refused_unless_it_is_there(self) -> None:
        async def test(place: Place) -> None:
            cut = {"then": {"truncate": {"bytes": 3}}}
            refused = await place.rule(cut)
            assert refused.status == 422
            assert "asgi-fault serve" in refused.body.decode()
            wire = FakeWire()
            assert (await place.rule(cut, extensions={EXTENSION: wire})).status == 201
            leaves = asyncio.Event()
            wire.on_close = leaves.set
            answer = await place.client.get("/abc", extensions={EXTENSION: wire}, leave=leaves)
            assert answer.status == 0
            head, _, body = wire.written.partition(b"\r\n\r\n")
            assert body == b"GET"
            assert b"content-length: 8" in head
            assert b"x-host: yes" in head
            (entry,) = await place.journal()
            assert (entry["status"], entry["ended"]) == (200, "server-close")

        at(test)

    def test_a_client_that_leaves_ends_a_silence(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"then": {"silence": True}})
            for size in (10, 3000):
                leave = asyncio.Event()
                headers = [("Content-Length", str(size))]
                client = place.client.post("/a", chunks=[b"x" * (size // 5)] * 5, leave=leave, headers=headers)
                running = asyncio.create_task(client)
                await asyncio.sleep(3600)
                assert not running.done()
                leave.set()
                assert (await running).status == 0
            assert place.host.scopes == []
            small, large = await place.journal()
            assert (small["status"], small["body"]["bytes"]) == (0, 10)
            assert 1000 < large["body"]["bytes"] <= 1600

        at(test, max_body=1000)

    def test_a_client_that_leaves_is_noticed_behind_a_body_that_was_not_wanted(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"then": {"delay_s": 1, "stall": {"at": "mid-body"}}})
            leave = asyncio.Event()
            client = place.client.post("/a", chunks=[b"x" * 600] * 5, leave=leave, headers=[("Content-Length", "3000")])
            running = asyncio.create_task(client)
            await asyncio.sleep(3600)
            assert place.host.bodies == [b"x" * 3000]
            leave.set()
            assert (await running).body == b"POST"

        at(test, max_body=1000)

    def test_a_fault_that_comes_with_the_request_counts_in_a_partition_only(self) -> None:
        async def test(place: Place) -> None:
            fault = [("X-Fault", "status=418")]
            assert (await place.client.get("/a", headers=fault)).status == 200
            assert (await place.client.get("/~blue/a", headers=fault)).status == 418
            assert (await place.client.get("/~blue/a?x-fault=status%3D419")).status == 419
            wrong = await place.client.get("/~blue/a", headers=[("X-Fault", "status=1")])
            assert wrong.status == 422
            assert wrong.headers["x-request-id"] == wrong.json["request_id"]

        at(test)


class TestTheRequestsBody:
    def test_rules_that_ask_for_it_take_nothing_of_it_away(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"match": {"body_bytes": {"min": 5}}, "script": [{"status": 500}]})
            small = [("Content-Length", "4")]
            assert (await place.client.post("/a", chunks=[b"ab", b"cd"], headers=small)).status == 200
            large = [("Transfer-Encoding", "chunked")]
            assert (await place.client.post("/a", chunks=[b"abc", b"def"], headers=large)).status == 500
            assert (await place.client.post("/a", chunks=[b"abc", b"def"], headers=large)).status == 200
            assert place.host.bodies == [b"abcd", b"abcdef"]

        at(test)

    def test_one_past_the_bound_is_passed_on_whole_and_not_refused(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"match": {"body_bytes": {"min": 1000}}, "then": {"headers": {"x-large": "1"}}})
            headers = [("Content-Length", "5000")]
            answer = await place.client.post("/a", chunks=[b"x" * 500] * 10, headers=headers)
            assert (answer.status, answer.headers.get("x-large")) == (200, "1")
            assert place.host.bodies == [b"x" * 5000]
            (entry,) = await place.journal()
            assert entry["body"]["bytes"] == 5000
            await place.rule({"id": "r1", "match": {"body_bytes": {"min": 1000}}, "then": {"status": 507}})
            assert (await place.client.post("/a", chunks=[b"x" * 500] * 10, headers=headers)).status == 507

        at(test, max_body=1000)

    def test_what_comes_during_a_delay_is_passed_on(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"then": {"delay_s": 30}})
            headers = [("Content-Length", "5000")]
            for pieces in ([b"x" * 500] * 10, [b"x" * 100] * 2, [b""]):
                await place.client.post("/a", chunks=pieces, headers=headers)
                assert place.host.bodies.pop() == b"".join(pieces)

        at(test, max_body=1000)

    def test_the_journal_knows_it_whoever_answers(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"script": [{}, {"status": 503}]})
            for _ in range(3):
                await place.client.post("/a", chunks=[b"a", b"b"], headers=[("Content-Length", "2")])
            bodies = [entry["body"] for entry in await place.journal()]
            assert bodies == [{"bytes": 2, "sha256": hashlib.sha256(b"ab").hexdigest()}] * 3
            await place.client.get("/a")
            assert (await place.journal())[-1]["body"]["bytes"] == 0

        at(test)


class TestPartitions:
    def test_each_has_its_own_rules_and_journal(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"then": {"status": 503}}, partition="blue")
            assert (await place.client.get("/a")).status == 200
            assert (await place.client.get("/~blue/a")).status == 503
            assert (await place.client.get("/a", headers=[("X-Fault-Partition", "blue")])).status == 503
            assert (await place.client.get("/~green/a")).status == 200
            assert [entry["rule"] for entry in await place.journal("blue")] == ["r1", "r1"]
            assert len(await place.journal("green")) == len(await place.journal()) == 1
            assert all(not place.context.partitions.get(name, 0).requests for name in ("blue", "green"))

        at(test)

    def test_the_application_sees_it_as_the_place_where_it_is_mounted(self) -> None:
        async def test(place: Place) -> None:
            await place.client.get("/~blue/a/b")
            await place.client.get("/mnt/~blue/a", root_path="/mnt")
            await place.client.get("/~blue")
            await place.client.get("/a", headers=[("X-Fault-Partition", "blue")])
            seen = [(scope["root_path"], scope["path"]) for scope in place.host.scopes]
            assert seen == [("/~blue", "/~blue/a/b"), ("/mnt/~blue", "/mnt/~blue/a"), ("/~blue", "/~blue/"), ("", "/a")]
            assert (await place.journal("blue"))[0]["target"] == "/~blue/a/b"

        at(test)

    def test_a_port_of_its_own_is_one(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"then": {"status": 503}}, partition="blue")
            assert (await place.client.get("/a", extensions={EXTENSION: FakeWire("blue")})).status == 503
            assert (await place.client.get("/a", extensions={EXTENSION: FakeWire()})).status == 200

        at(test)

    def test_a_tilde_that_names_none_is_the_applications(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"match": {"path": "/*/x"}, "then": {"status": 418}})
            assert (await place.client.get("/~no%20such/x")).status == 418
            answer = await place.client.get("/~no%20such/y")
            assert answer.body == b"GET /~no such/y"
            assert place.host.scopes[-1]["root_path"] == ""
            assert len(place.context.partitions) == 1

        at(test)

    def test_a_name_in_the_header_that_is_none_is_refused(self) -> None:
        async def test(place: Place) -> None:
            answer = await place.client.get("/a", headers=[("X-Fault-Partition", "no such")])
            assert (answer.status, answer.json["error"]) == (400, "BadRequestError")
            assert place.host.scopes == []

        at(test)


class TestTheControlPlane:
    @pytest.mark.parametrize("prefix", ["/__fault__", "/admin/chaos"])
    def test_it_lies_below_the_prefix_and_nowhere_else(self, prefix: str) -> None:
        async def test(place: Place) -> None:
            for path in ("/faults", "/faults/schema", "/journal", "/metrics", "/health", "/openapi.json", "/"):
                answer = await place.client.get(prefix + path)
                assert answer.status == 200, path
                assert "x-host" not in answer.headers, path
                assert (await place.client.get(path)).body == f"GET {path}".encode()
            for path in (f"{prefix}x/faults", f"/a{prefix}/faults", f"{prefix[:-1]}/faults"):
                assert (await place.client.get(path)).headers["x-host"] == "yes", path
            for path in ("/msg", "/fail/status", "/docs", "/no", "/~blue", "/~blue/no"):
                answer = await place.client.get(prefix + path)
                assert "x-host" not in answer.headers, path
                assert answer.status == (200 if path == "/~blue" else 404), path

        at(test, prefix=prefix)

    def test_no_rule_and_no_journal_is_about_it(self) -> None:
        async def test(place: Place) -> None:
            await place.rule({"then": {"status": 503}})
            assert (await place.client.get("/__fault__/nothing")).status == 404
            assert (await place.client.get("/__fault__")).status == 200
            assert await place.journal() == []

        at(test)

    def test_the_partition_stands_before_or_behind_the_prefix(self) -> None:
        async def test(place: Place) -> None:
            for target in ("/~blue/__fault__", "/__fault__/~blue", "/mnt/~blue/__fault__"):
                root = "/mnt" if target.startswith("/mnt") else ""
                body = [b'{"id": "one", "then": {"status": 500}}']
                headers = [*JSON, ("Content-Length", str(len(body[0])))]
                made = await place.client.post(f"{target}/faults", headers=headers, chunks=body, root_path=root)
                assert made.headers["location"] == f"{target}/faults/one"
                shown = await place.client.get(made.headers["location"], root_path=root)
                assert shown.json["id"] == "one"
            assert len((await place.client.get("/~blue/__fault__/faults")).json["rules"]) == 1
            assert (await place.client.get("/__fault__/faults")).json["rules"] == []
            by_header = await place.client.get("/__fault__/faults", headers=[("X-Fault-Partition", "blue")])
            assert len(by_header.json["rules"]) == 1

        at(test)

    @pytest.mark.parametrize(
        ("client", "headers", "status"),
        [
            (("127.0.0.1", 1), [], 200),
            (("127.3.4.5", 1), [], 200),
            (("::1", 1), [], 200),
            (("::ffff:127.0.0.1", 1), [], 200),
            (("testclient", 1), [], 200),
            (("10.0.0.9", 1), [], 403),
            (("::ffff:10.0.0.9", 1), [], 403),
            (("localhost.evil.example", 1), [], 403),
            (None, [], 403),
            (("127.0.0.1", 1), [("X-Forwarded-For", "10.0.0.9")], 403),
            (("127.0.0.1", 1), [("Forwarded", "for=10.0.0.9")], 403),
            (("127.0.0.1", 1), [("Via", "1.1 nginx")], 403),
            (("testclient", 1), [("X-Real-IP", "10.0.0.9")], 403),
        ],
    )
    def test_without_a_token_it_is_for_this_machine(self, client: Any, headers: Any, status: int) -> None:
        async def test(place: Place) -> None:
            for path in ("/__fault__/faults", "/__fault__/health", "/__fault__/nothing"):
                answer = await place.client.get(path, client=client, headers=headers)
                assert answer.status == (404 if status == 200 and path.endswith("nothing") else status)
                if status == 403:
                    assert "ASGI_FAULT_ADMIN_TOKEN" in answer.json["details"]["hint"]
            refused = await place.rule({"then": {"status": 500}}, client=client, headers=headers)
            assert refused.status == (201 if status == 200 else 403)
            metrics = (await place.client.get("/__fault__/metrics")).body.decode()
            assert ('status="403"} 4' in metrics) == (status == 403)

        at(test)

    def test_with_a_token_it_is_for_whoever_has_it(self) -> None:
        async def test(place: Place) -> None:
            far = ("10.0.0.9", 1)
            for path in ("/__fault__/faults", "/__fault__/nothing", "/__fault__/"):
                assert (await place.client.get(path, client=far)).status == 401
                assert (await place.client.get(path)).status == 401
                good = [("Authorization", "Bearer s3cret")]
                assert (await place.client.get(path, client=far, headers=good)).status in (200, 404)
            wrong = [("Authorization", "Bearer secret")]
            assert (await place.client.get("/__fault__/faults", headers=wrong)).status == 401
            assert (await place.client.get("/a", client=far)).status == 200

        at(test, admin_token="s3cret")

    def test_the_token_comes_from_the_argument_or_its_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ASGI_FAULT_ADMIN_TOKEN", "from the variable")
        by_variable = FaultMiddleware(Host(), enabled=True)
        by_argument = FaultMiddleware(Host(), enabled=True, token="given")
        assert isinstance(by_variable, Guest)
        assert isinstance(by_argument, Guest)
        assert by_variable.context.settings.admin_token == "from the variable"
        assert by_argument.context.settings.admin_token == "given"

    def test_the_metrics_count_what_passed_through(self) -> None:
        async def test(place: Place) -> None:
            for _ in range(3):
                await place.client.get("/a")
            text = (await place.client.get("/__fault__/metrics")).body.decode()
            assert 'endpoint="behind"' in text
            line = next(
                line for line in text.splitlines() if line.startswith("http_requests_total") and "behind" in line
            )
            assert line.endswith(" 3")

        at(test)

    def test_the_journal_can_be_switched_off(self) -> None:
        async def test(place: Place) -> None:
            await place.client.post("/a", chunks=[b"x"], headers=[("Content-Length", "1")])
            assert place.host.bodies == [b"x"]
            assert (await place.client.get("/__fault__/journal")).status == 404

        at(test, journal_size=0)


class TestOtherLoops:
    def test_under_trio_requests_pass_and_the_control_plane_says_what_is_missing(self) -> None:
        host = Host()
        app = FaultMiddleware(host, enabled=True)
        answers: list[tuple[int, bytes]] = []

        async def ask(path: str, *headers: tuple[bytes, bytes]) -> tuple[int, bytes]:
            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            async def receive() -> Any:
                return {"type": "http.request", "body": b"", "more_body": False}

            await app(http_scope(path, headers=headers), receive, send)
            return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)

        async def main() -> None:
            answers.append(await ask("/a"))
            answers.append(await ask("/~blue/a"))
            answers.append(await ask("/__fault__/faults"))
            answers.append(await ask("/~blue/a", (b"x-fault", b"status=500")))

        trio.run(main)
        assert [status for status, _ in answers] == [200, 200, 501, 501]
        assert b"asyncio" in answers[2][1]


class TestStarlette:
    def test_the_example_works(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ASGI_FAULT_ENABLED", "1")
        monkeypatch.delitem(sys.modules, "examples.behind_faults", raising=False)

        from examples.behind_faults import app

        with starlette_client(app) as client:
            rule = {"match": {"method": "POST", "path": "/orders"}, "script": [{"status": 503}, {"status": 503}]}
            assert client.post("/__fault__/faults", json=rule).status_code == 201
            assert [client.post("/orders", content=b"abc").status_code for _ in range(3)] == [503, 503, 201]
            assert client.get("/count").text == "1\n2\n3\n"
            statuses = [entry["status"] for entry in client.get("/__fault__/journal").json()["entries"]]
            assert statuses == [503, 503, 201, 200]

    def test_it_stands_where_other_middleware_does(self) -> None:
        from starlette.applications import Starlette
        from starlette.background import BackgroundTask
        from starlette.middleware.base import BaseHTTPMiddleware
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse, Response
        from starlette.routing import Route, WebSocketRoute
        from starlette.websockets import WebSocket

        done: list[str] = []

        async def item(request: Request) -> Response:
            background = BackgroundTask(done.append, request.path_params["id"])
            return PlainTextResponse(
                f"{request.url.path} {request.url_for('item', id='9').path}", background=background
            )

        async def fails(request: Request) -> Response:
            raise LookupError("theirs")

        async def echo(socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text(await socket.receive_text())
            await socket.close()

        async def dispatch(request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers["x-outer"] = "yes"
            return response

        app = Starlette(
            routes=[Route("/items/{id}/", item, name="item"), Route("/fails", fails), WebSocketRoute("/ws", echo)]
        )
        app.add_middleware(FaultMiddleware, enabled=True)
        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        with starlette_client(app, raise_server_exceptions=False) as client:
            assert client.get("/~blue/items/7/").text == "/~blue/items/7/ /~blue/items/9/"
            moved = client.get("/~blue/items/7", follow_redirects=False)
            assert moved.headers["location"].endswith("/~blue/items/7/")
            slow = {"match": {"path": "/items/**"}, "then": {"drip": {"bytes_per_s": 1_000_000}}}
            assert client.post("/__fault__/faults", json=slow).status_code == 201
            assert client.get("/items/8/").text == "/items/8/ /items/9/"
            assert done == ["7", "8"]
            assert client.get("/fails").status_code == 500
            assert client.get("/__fault__/faults").headers["x-outer"] == "yes"
            with client.websocket_connect("/ws") as socket:
                socket.send_text("hello")
                assert socket.receive_text() == "hello"


class FakeWire:
    """Stands for a connection: keeps what is written."""

    def __init__(self, partition: str = "") -> None:
        self.partition = partition
        self.connection = Connection(1, 0.0)
        self.connection.requests = 1
        self.written = b""
        self.unsent = 0
        self.on_close: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.connection.ended = "server-close"
        self.on_close()


def starlette_client(app: Any, **options: Any) -> Any:
    """Starlette's own test client; with httpx instead of its fork it warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient
    return TestClient(app, **options)


def _one(message: Any) -> Any:
    """A `receive` that has one message, and then nothing for ever."""
    messages = [message]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()

    return receive


async def _nothing(_: Any) -> None:
    return

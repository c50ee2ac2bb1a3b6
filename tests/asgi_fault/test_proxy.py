"""A real upstream behind the fault server: what goes through, what becomes of its failures, and the faults on top."""

import asyncio
import gzip
import hashlib
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_fault.config import ConfigError, Settings
from asgi_fault.context import Context
from asgi_fault.observe.logs import Log
from asgi_fault.proxy import Proxy, ProxyApplication, upstream_of
from asgi_fault.startup import Misconfigured, become_application
from tests.processes import PLAIN, Server, eventually, run_to_end, running, serve

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class TestUpstream:
    @pytest.mark.parametrize(
        ("url", "shown", "authority"),
        [
            ("http://127.0.0.1:8001", "http://127.0.0.1:8001", "127.0.0.1:8001"),
            ("http://example.test/", "http://example.test", "example.test"),
            ("HTTPS://Example.test:443/api/", "https://example.test/api", "example.test"),
            ("http://[::1]:9", "http://[::1]:9", "[::1]:9"),
        ],
    )
    def test_a_url_of_an_upstream(self, url: str, shown: str, authority: str) -> None:
        assert str(upstream_of(url)) == shown
        assert upstream_of(url).authority == authority

    @pytest.mark.parametrize(
        "url",
        [
            "127.0.0.1:8001", "ftp://a", "http://", "http:///x", "http://a:b", "http://a:70000", "http://a?x=1",
            "http://a#b", "http://a b", "http://ä", "http://u:s3cret@a", "http://u@a", "http://[::1",
        ],
    )  # fmt: skip
    def test_what_is_none_is_refused_without_repeating_a_password(self, url: str) -> None:
        with pytest.raises(ConfigError, match="SERVER_PROXY=") as caught:
            upstream_of(url)
        assert "s3cret" not in str(caught.value)


class Lazy:
    """Stands for `asgi_fault.app` before its first use."""


def made() -> Any:
    """What the environment makes of it."""
    lazy: Any = Lazy()
    become_application(lazy)
    assert isinstance(lazy, ProxyApplication | Misconfigured)
    return lazy


class TestSettings:
    def test_the_environment_asks_for_a_proxy(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SERVER_PROXY", "http://127.0.0.1:1")
        assert isinstance(made(), ProxyApplication)
        monkeypatch.setenv("SERVER_CONTROL_PREFIX", "no")
        assert "'no' is no prefix" in made().reason

    def test_without_httpx_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SERVER_PROXY", "http://127.0.0.1:1")
        monkeypatch.setitem(sys.modules, "httpx", None)
        monkeypatch.delitem(sys.modules, "asgi_fault.proxy", raising=False)
        assert "pip install 'asgi-fault[proxy]'" in made().reason

    def test_the_command_refuses_what_is_no_upstream_and_repeats_no_password(self, tmp_path: Path) -> None:
        ended = run_to_end(("asgi_fault", "serve", "--proxy", "http://u:s3cret@h", "--port", "0"), cwd=tmp_path)
        assert ended.exit_code == 2
        assert "expected http://host[:port]" in ended.text
        assert "s3cret" not in ended.text
        shown = run_to_end(("asgi_fault", "config-info", "--proxy", "http://u:s3cret@h"), cwd=tmp_path)
        assert "http://***@h" in shown.out
        assert "s3cret" not in shown.text


# --- one process: our proxy, and an upstream whose every byte the test writes ---


@asynccontextmanager
async def upstream(talk: Talk) -> Any:
    """A TCP server that does `talk` with whoever connects; gives its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(answer: bytes, heard: list[bytes] | None = None) -> Talk:
    """An upstream that answers each request head with `answer`, and notes the heads."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(head)
        writer.write(answer)
        await writer.drain()

    return talk


class Exchanged:
    """What came back through the proxy."""

    def __init__(self) -> None:
        self.status = 0
        self.header_list: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.complete = False
        self._came = asyncio.Event()

    async def until(self, body: bytes) -> None:
        """Wait until this much of the body is here."""
        while self.body != body:
            self._came.clear()
            await self._came.wait()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.header_list = message["status"], message["headers"]
        else:
            self.pieces.append(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        self._came.set()


async def ask(
    app: Any,
    target: str = "/",
    *,
    method: str = "GET",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    chunks: tuple[bytes, ...] = (b"",),
    leave: asyncio.Event | None = None,
    exchanged: Exchanged | None = None,
    **more: Any,
) -> Exchanged:
    """One request, written as a server would hand it over."""
    raw, _, query = target.encode().partition(b"?")
    messages = [
        {"type": "http.request", "body": piece, "more_body": i < len(chunks) - 1} for i, piece in enumerate(chunks)
    ]

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    exchanged = exchanged or Exchanged()
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": raw.decode(), "raw_path": raw, "query_string": query, "root_path": "",
        "headers": [(b"host", b"front.test"), *headers], "client": ("192.0.2.7", 5), "server": ("127.0.0.1", 2), **more,
    }  # fmt: skip
    await app(scope, receive, exchanged.send)
    return exchanged


def with_upstream(talk: Talk, test: Callable[[Proxy], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with upstream(talk) as url:
            proxy = Proxy(url + "/base", **options)
            try:
                async with asyncio.timeout(20):  # far beyond what anything here takes: only a hang meets it
                    await test(proxy)
            finally:
                await proxy.aclose()

    asyncio.run(main())


class TestWhatGoesThrough:
    def test_the_request_as_it_came_but_for_what_is_the_connections(self) -> None:
        heard: list[bytes] = []

        async def test(proxy: Proxy) -> None:
            await ask(
                proxy,
                "/a%2Fb/../c;d='e'?q=%zz&r=\"1\"",
                method="pAtCh",
                headers=(
                    (b"connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"keep-alive", b"timeout=5"),
                    (b"te", b"trailers"), (b"upgrade", b"h2c"), (b"proxy-authorization", b"Basic x"),
                    (b"proxy-connection", b"close"), (b"expect", b"100-continue"), (b"x-fault", b"status=500"),
                    (b"x-fault-partition", b"blue"), (b"authorization", b"Bearer theirs"), (b"x-twice", b"1"),
                    (b"x-twice", b"2"), (b"via", b"1.0 first"), (b"x-forwarded-for", b"198.51.100.1"),
                ),
            )  # fmt: skip

        with_upstream(saying(b"HTTP/1.1 204 No Content\r\n\r\n", heard), test)
        line, *fields = heard[0].decode().strip().split("\r\n")
        assert line == "pAtCh /base/a%2Fb/../c;d='e'?q=%zz&r=\"1\" HTTP/1.1"
        assert fields[0].lower().startswith("host: 127.0.0.1:")
        assert [field.lower() for field in fields[1:]] == [
            "authorization: bearer theirs", "x-twice: 1", "x-twice: 2", "via: 1.0 first, 1.1 asgi-fault",
            "x-forwarded-for: 198.51.100.1, 192.0.2.7", "x-forwarded-host: front.test", "x-forwarded-proto: http",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("target", "more", "seen"),
        [
            ("/~blue/x", {"root_path": "/~blue"}, "/base/x"),
            ("/%7Eblue/x", {"root_path": "/~blue"}, "/base/x"),
            ("/mnt/~blue/x/y", {"root_path": "/mnt/~blue"}, "/base/x/y"),
            ("/~blue", {"root_path": "/~blue"}, "/base/"),
            ("http://front.test/x/y?z", {}, "/base/x/y?z"),
            ("/ä b", {"raw_path": None}, "/base/%C3%A4%20b"),
            ("*", {"method": "OPTIONS"}, "*"),
        ],
    )
    def test_the_target(self, target: str, more: dict[str, Any], seen: str) -> None:
        heard: list[bytes] = []

        async def test(proxy: Proxy) -> None:
            await ask(proxy, target, **more)

        with_upstream(saying(b"HTTP/1.1 204 No Content\r\n\r\n", heard), test)
        assert heard[0].split()[1].decode() == seen

    def test_the_answer_as_it_came_but_for_what_is_the_connections(self) -> None:
        packed = gzip.compress(b"what nobody here unpacks", mtime=0)
        answer = (
            b"HTTP/1.1 299 Fine By Me\r\nServer: theirs\r\nDate: Sat, 21 Nov 2026 03:00:00 GMT\r\n"
            b"Content-Encoding: gzip\r\nContent-Length: %d\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
            b"Connection: x-own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nTrailer: X\r\n\r\n%b" % (len(packed), packed)
        )

        async def test(proxy: Proxy) -> None:
            exchanged = await ask(proxy)
            assert exchanged.status == 299
            assert exchanged.body == packed
            assert exchanged.complete
            assert exchanged.header_list == [
                (b"server", b"theirs"), (b"date", b"Sat, 21 Nov 2026 03:00:00 GMT"), (b"content-encoding", b"gzip"),
                (b"content-length", b"%d" % len(packed)), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"),
            ]  # fmt: skip

        with_upstream(saying(answer), test)

    def test_a_redirect_is_the_clients_to_follow_and_a_head_has_no_body(self) -> None:
        heard: list[bytes] = []
        answer = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 5\r\n\r\n"

        async def test(proxy: Proxy) -> None:
            exchanged = await ask(proxy, method="HEAD")
            assert (exchanged.status, exchanged.body, exchanged.complete) == (302, b"", True)
            assert (b"content-length", b"5") in exchanged.header_list
            assert len(heard) == 1

        with_upstream(saying(answer, heard), test)

    def test_an_informational_answer_is_no_answer(self) -> None:
        answer = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

        async def test(proxy: Proxy) -> None:
            exchanged = await ask(proxy)
            assert (exchanged.status, exchanged.body) == (200, b"hi")

        with_upstream(saying(answer), test)

    @pytest.mark.parametrize("framing", [(b"content-length", b"6"), (b"transfer-encoding", b"chunked")])
    def test_a_body_keeps_its_framing_and_goes_up_as_it_comes(self, framing: tuple[bytes, bytes]) -> None:
        heard: list[bytes] = []
        proceed = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            first = await reader.readuntil(b"abc")
            proceed.set()
            heard.append(first + await reader.readuntil(b"def"))
            if framing[1] == b"chunked":
                heard.append(await reader.readuntil(b"0\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async def test(proxy: Proxy) -> None:
            messages = [
                {"type": "http.request", "body": b"abc", "more_body": True},
                {"type": "http.request", "body": b"def", "more_body": False},
            ]

            async def receive() -> Any:
                if len(messages) == 1:
                    await proceed.wait()  # the second piece exists when the first has arrived only
                return messages.pop(0) if messages else await asyncio.Event().wait()

            exchanged = Exchanged()
            scope = {
                "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/",
                "raw_path": b"/", "query_string": b"", "root_path": "", "headers": [framing], "client": None,
            }  # fmt: skip
            await proxy(scope, receive, exchanged.send)
            assert exchanged.body == b"ok"

        with_upstream(talk, test)
        assert b"%b: %b" % framing in heard[0].lower()
        assert b"forwarded-for" not in heard[0].lower()
        expected = b"abcdef" if framing[0] == b"content-length" else b"3\r\nabc\r\n3\r\ndef"
        assert heard[1] == expected

    def test_an_answer_comes_as_it_is_made(self) -> None:
        proceed = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            await proceed.wait()
            writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
            await writer.drain()

        async def test(proxy: Proxy) -> None:
            exchanged = Exchanged()
            running_ = asyncio.create_task(ask(proxy, exchanged=exchanged))
            await exchanged.until(b"first")
            assert not exchanged.complete
            proceed.set()
            await running_
            assert exchanged.body == b"firstsecond"
            assert exchanged.header_list == []

        with_upstream(talk, test)

    def test_a_slow_client_holds_the_upstream_back(self) -> None:
        written = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                written += 65536

        async def test(proxy: Proxy) -> None:
            sent = 0
            stop = asyncio.Event()

            async def send(message: Any) -> None:
                nonlocal sent
                sent += len(message.get("body", b""))
                if sent:
                    await stop.wait()

            exchanged = Exchanged()
            exchanged.send = send  # type: ignore[method-assign]
            running_ = asyncio.create_task(ask(proxy, exchanged=exchanged))
            before = -1
            while written != before or not sent:
                before = written
                await asyncio.sleep(0.1)
            assert written < 64 * 1024 * 1024  # what sockets hold; unbounded reading would never have stopped
            running_.cancel()
            await asyncio.gather(running_, return_exceptions=True)

        with_upstream(talk, test)


class TestFailuresOfTheUpstream:
    def test_one_that_refuses_is_a_502(self) -> None:
        async def main() -> None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                proxy = Proxy(f"http://127.0.0.1:{free.getsockname()[1]}")
                exchanged = await ask(proxy, headers=((b"x-request-id", b"mine"),))
                await proxy.aclose()
            answer = json.loads(exchanged.body)
            assert exchanged.status == 502
            assert answer["error"] == "BadGatewayError"
            assert answer["request_id"] == "mine"
            assert answer["message"] == "The upstream cannot be reached."
            assert answer["details"]["upstream"].startswith("http://127.0.0.1:")

        asyncio.run(main())

    @pytest.mark.parametrize(
        "answer",
        [b"", b"\x16\x03\x01 no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 2"],
        ids=["nothing", "garbage", "bad-length", "half-a-line"],
    )
    def test_one_that_answers_no_http_is_a_502(self, answer: bytes) -> None:
        async def test(proxy: Proxy) -> None:
            exchanged = await ask(proxy, headers=((b"accept", b"application/problem+json"),))
            assert exchanged.status == 502
            assert dict(exchanged.header_list)[b"content-type"] == b"application/problem+json"

        with_upstream(saying(answer), test)

    def test_one_that_is_silent_is_a_504(self) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async def test(proxy: Proxy) -> None:
            exchanged = await ask(proxy)
            assert exchanged.status == 504
            assert json.loads(exchanged.body)["details"]["limit"] == "SERVER_PROXY_TIMEOUT"

        with_upstream(talk, test, timeout=0.1)

    def test_one_that_has_no_connection_left_is_a_503(self) -> None:
        held = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nx")
            held.set()
            await reader.read()

        async def test(proxy: Proxy) -> None:
            leave = asyncio.Event()
            first = asyncio.create_task(ask(proxy, leave=leave))
            await held.wait()
            second = await ask(proxy)
            assert second.status == 503
            assert json.loads(second.body)["details"]["limit"] == "SERVER_PROXY_CONNECTIONS"
            leave.set()
            await first

        with_upstream(talk, test, timeout=0.3, connections=1)

    def test_one_that_breaks_off_leaves_the_answer_open(self) -> None:
        async def test(proxy: Proxy) -> None:
            exchanged = await ask(proxy)
            assert (exchanged.status, exchanged.body, exchanged.complete) == (200, b"half", False)

        with_upstream(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"), test)

    @pytest.mark.parametrize("where", ["before the head", "in the body", "in the request"])
    def test_a_client_that_leaves_ends_the_call(self, where: str) -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if where == "in the body":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\nx")
            begun.set()
            while await reader.read(100):
                pass
            ended.set()

        async def test(proxy: Proxy) -> None:
            leave = asyncio.Event()
            options: dict[str, Any] = {}
            if where == "in the request":
                options = {"method": "POST", "headers": ((b"content-length", b"9"),), "chunks": (b"abc", b"")}
            exchanged = Exchanged()
            task = asyncio.create_task(
                _ask_without_end(proxy, leave, exchanged, **options)
                if where == "in the request"
                else ask(proxy, leave=leave, exchanged=exchanged)
            )
            await begun.wait()
            if where == "in the body":
                await exchanged.until(b"x")
            leave.set()
            await task
            await ended.wait()
            assert not exchanged.complete

        with_upstream(talk, test)

    def test_connect_and_websockets_are_refused(self) -> None:
        async def test(proxy: Proxy) -> None:
            assert (await ask(proxy, method="CONNECT")).status == 400
            sent: list[Any] = []

            async def receive() -> Any:
                return {"type": "websocket.connect"}

            async def send(message: Any) -> None:
                sent.append(message)

            await proxy({"type": "websocket"}, receive, send)
            assert [message["type"] for message in sent] == ["websocket.close"]

        with_upstream(saying(b""), test)


async def _ask_without_end(app: Any, leave: asyncio.Event, exchanged: Exchanged, **options: Any) -> None:
    """A request whose body never ends."""
    messages = [{"type": "http.request", "body": b"abc", "more_body": True}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    async def app_with_receive(scope: Any, _: Any, send: Any) -> None:
        await app(scope, receive, send)

    await ask(app_with_receive, exchanged=exchanged, **options)


class TestFaultsOnTop:
    def test_rules_headers_and_the_control_plane(self) -> None:
        heard: list[bytes] = []
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: Sat, 21 Nov 2026 03:00:00 GMT\r\n\r\nhello"

        async def main() -> None:
            async with upstream(saying(answer, heard)) as url:
                log = Log("WARNING", "json", lambda _: None)
                app = ProxyApplication(Context(Settings(proxy=url, control_prefix="/ctl"), log=log))
                rules = {"script": [{"status": 503, "retry_after": 1}, {"headers": {"x-more": "1"}}]}
                body = json.dumps(rules).encode()
                headers = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))
                made = await ask(app, "/~blue/ctl/faults", method="POST", headers=headers, chunks=(body,))
                assert made.status == 201
                ours = await ask(app, "/~blue/x")
                assert (ours.status, heard) == (503, [])
                assert {b"date", b"x-request-id"} < {name for name, _ in ours.header_list}
                theirs = await ask(app, "/~blue/x")
                assert (theirs.status, theirs.body) == (200, b"hello")
                assert theirs.header_list[-1] == (b"x-more", b"1")
                assert heard[0].startswith(b"GET /x HTTP/1.1")
                assert (await ask(app, "/faults")).body == b"hello"
                inline = await ask(app, "/~blue/x", headers=((b"x-fault", b"status=418"),))
                assert inline.status == 418
                await app._proxy.aclose()

        asyncio.run(main())


# --- two processes: `serve --proxy`, and in front of it real clients ---


@pytest.fixture(scope="module")
def behind() -> Iterator[Server]:
    with running(serve("--max-body", str(1 << 28))) as server:
        yield server


@pytest.fixture(scope="module", params=["h11", "httptools"])
def front(request: pytest.FixtureRequest, behind: Server) -> Iterator[Server]:
    with running(serve("--http", request.param, "--proxy", behind.url, "--proxy-timeout", "20")) as server:
        yield server
        server.assert_no_defect()


def journal_of(client: httpx.Client, prefix: str = "") -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = client.get(prefix + "/journal").json()["entries"]
    return entries


class TestServe:
    def test_it_says_where_it_passes_on_to(self, front: Server, behind: Server) -> None:
        assert f"passes on  to {behind.url}" in front.err
        (line,) = [json.loads(line) for line in front.out.splitlines() if '"server.start"' in line]
        assert line["upstream"] == behind.url

    def test_an_answer_has_one_date_and_one_server(self, front: Server) -> None:
        with front.client() as client:
            for name in ("date", "server"):
                assert len(client.get("/msg").headers.get_list(name)) == 1

    def test_bodies_of_any_size_go_both_ways(self, front: Server, behind: Server) -> None:
        body = b"0123456789abcdef" * (1 << 21)  # 32 MiB
        partition = front.name + hashlib.sha256(front.url.encode()).hexdigest()[:8]
        with front.client() as client, behind.client(partition) as direct:
            rule = {"match": {"path": "/large"}, "then": {"body": {"bytes": 1_000_000}}}
            assert direct.post("/faults", json=rule).status_code == 201
            assert client.post(f"/~{partition}x/upload", content=body).status_code == 404
            pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
            # The partition is the front's; the upstream's goes in the path behind it.
            answer = client.post(f"/~front/~{partition}/upload", content=pieces)
            assert answer.status_code == 404
            entry = journal_of(direct)[-1]
            assert entry["body"] == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            assert journal_of(client, "/~front/__fault__")[-1]["body"] == entry["body"]
            large = client.get(f"/~front/~{partition}/large").content
            assert large == direct.get("/large").content
            assert len(large) == 1_000_000

    def test_a_stream_of_events_comes_through(self, front: Server, behind: Server) -> None:
        with front.client() as client, behind.client("sse") as direct:
            direct.delete("/journal")
            with client.stream("GET", "/~front/~sse/journal?follow") as stream:
                lines = stream.iter_lines()
                assert next(lines).startswith(": following")
                direct.get("/one")
                data = next(line for line in lines if line.startswith("data: "))
                assert json.loads(data.removeprefix("data: "))["target"] == "/~sse/one"

    def test_a_client_that_leaves_ends_the_upstreams_work(self, front: Server, behind: Server) -> None:
        with front.client() as client, behind.client("left") as direct:
            direct.delete("/journal")
            direct.post("/faults", json={"match": {"path": "/held"}, "then": {"silence": True}})
            with pytest.raises(httpx.ReadTimeout):
                client.get("/~front/~left/held", timeout=0.2)
            entry = eventually(lambda: [e for e in journal_of(direct) if e["target"].endswith("/held")])[0]
            assert entry["status"] == 0

    def test_faults_of_the_wire_work_on_the_upstreams_answer(self, front: Server) -> None:
        with front.client("wire") as client:
            rule = {"script": [{"truncate": {"bytes": 7}}, {"content_length": {"add": 3}}]}
            assert client.post("/__fault__/faults", json=rule).status_code == 201
            with socket.create_connection(front.address, timeout=20) as raw:
                raw.sendall(b"GET /~wire/msg HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = b"".join(iter(lambda: raw.recv(65536), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert body == b'{"messa'
            assert head.lower().count(b"\r\ndate: ") == 1
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/msg")
            assert client.get("/msg").status_code == 200

    def test_a_partition_can_have_a_port(self, front: Server) -> None:
        with front.client("ported") as client:
            url = client.post("/__fault__/ports", json={}).json()["url"]
            client.post("/__fault__/faults", json={"script": [{"status": 418}]})
            assert httpx.get(url + "/msg", **PLAIN).status_code == 418
            assert "message_id" in httpx.get(url + "/msg", **PLAIN).json()
            assert client.delete("/__fault__/ports").json() == {"deleted": 1}

    def test_an_upstream_that_breaks_off_ends_the_clients_connection(self, front: Server, behind: Server) -> None:
        with front.client() as client, behind.client("cut") as direct:
            direct.post("/faults", json={"then": {"body": {"bytes": 1000}, "truncate": {"bytes": 10}}})
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/~front/~cut/x")
            assert "without completing" not in front.err
            assert client.get("/msg").status_code == 200

    def test_an_upstream_that_ends_early_under_a_rule_is_a_502(self, front: Server, behind: Server) -> None:
        with front.client("both") as client, behind.client("cut2") as direct:
            direct.post("/faults", json={"then": {"body": {"bytes": 1000}, "truncate": {"bytes": 10}}})
            client.post("/__fault__/faults", json={"then": {"drip": {"bytes_per_s": 100_000}}})
            assert client.get("/~cut2/x").status_code == 502

    def test_a_prefix_of_choice_a_silent_upstream_and_a_dead_one(self, tmp_path: Path) -> None:
        with running(serve()) as upstream_server:
            options = ("--proxy", upstream_server.url, "--proxy-timeout", "0.3", "--control-prefix", "/ctl")
            with running(serve(*options)) as server, server.client() as client:
                assert client.get("/ctl/faults").json() == {"rules": []}
                httpx.post(upstream_server.url + "/faults", json={"then": {"silence": True}}, **PLAIN)
                silent = client.get("/x")
                assert (silent.status_code, silent.json()["error"]) == (504, "GatewayTimeoutError")
                upstream_server.process.kill()
                upstream_server.wait_for_end()
                dead = client.get("/x")
                assert (dead.status_code, dead.json()["error"]) == (502, "BadGatewayError")
                assert client.get("/ctl/health").status_code == 200
                server.assert_no_defect()

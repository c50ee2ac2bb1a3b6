"""The server over real sockets: the flow of the specification, load, and input that makes no sense."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.processes import RUNNERS, Pool, Server, eventually, running
from tests.sockets import Connection, Reply, connected, exchange, request

INDUCED = {"detail": "Induced server failure"}
MEBIBYTE = 1 << 20

EVERY = pytest.mark.parametrize("server", list(RUNNERS), indirect=True)
# Both parsers, both loops, our command and the plain one.
FOUR = ["serve-h11-asyncio", "serve-httptools-uvloop", "uvicorn-h11-uvloop", "uvicorn-httptools-asyncio"]
BOTH_PARSERS = pytest.mark.parametrize("server", FOUR, indirect=True)
OURS = pytest.mark.parametrize("server", [name for name in FOUR if name.startswith("serve")], indirect=True)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


@pytest.fixture
def server(pool: Pool, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that the whole module shares: a test keeps to a partition of its own."""
    server = pool[request.param]
    yield server
    server.assert_no_defect()


@pytest.fixture
def partition() -> str:
    return uuid4().hex


class TestTheFlowOfTheSpecification:
    @EVERY
    @pytest.mark.parametrize("by", ["header", "url"])
    def test_failing_recovering_and_repeating_an_id(self, server: Server, partition: str, by: str) -> None:
        headers = {"X-Fault-Partition": partition} if by == "header" else {}
        with server.client(partition if by == "url" else "", headers=headers) as client:
            eventually(lambda: client.get("/health").json()["status"] == "ok", what="the server is healthy")
            armed = client.post("/fail/count/3")
            assert armed.json() == {"message": "Server will fail the next 3 requests", "fail_requests_count": 3}
            failures = [client.get("/msg") for _ in range(3)]
            assert [(reply.status_code, reply.json()) for reply in failures] == [(500, INDUCED)] * 3
            recovered = client.get("/msg")
            assert recovered.status_code == 200
            assert UUID(recovered.json()["message_id"]).version == 4

            named = {"X-Request-ID": "order-66"}
            first, again = client.get("/msg", headers=named), client.get("/msg", headers=named)
            assert first.json() == again.json() != recovered.json()
            assert first.headers["x-request-id"] == again.headers["x-request-id"] == "order-66"
            assert first.headers["x-correlation-id"] != again.headers["x-correlation-id"]

            client.post("/fail/count/1")
            beaten = client.get("/msg", headers=named)
            assert (beaten.status_code, beaten.json()) == (500, INDUCED)
            assert client.get("/msg", headers=named).json() == first.json()

    @EVERY
    def test_exactly_as_many_failures_as_asked_for_under_concurrency(self, server: Server, partition: str) -> None:
        with server.client(partition) as client, ThreadPoolExecutor(30) as threads:
            client.post("/fail/count/7")
            statuses = Counter(threads.map(lambda _: client.get("/msg").status_code, range(30)))
        assert statuses == {500: 7, 200: 23}

    @EVERY
    def test_first_requests_of_one_id_that_come_together_get_one_answer(self, server: Server, partition: str) -> None:
        with server.client(partition) as client, ThreadPoolExecutor(20) as threads:
            named = {"X-Request-ID": "together"}
            replies = list(threads.map(lambda _: client.get("/msg?delay=50", headers=named), range(20)))
        assert {reply.status_code for reply in replies} == {200}
        assert len({reply.json()["message_id"] for reply in replies}) == 1

    @EVERY
    def test_a_partition_sees_nothing_of_another(self, server: Server, partition: str) -> None:
        with server.client(partition) as client, server.client(uuid4().hex) as neighbour:
            client.post("/fail/duration/60")
            assert client.get("/msg").status_code == 500
            assert neighbour.get("/msg").status_code == 200
            assert client.post("/fail/reset").json()["status"] == "normal_operation"
            assert client.get("/msg").status_code == 200

    @EVERY
    def test_every_page_answers_and_head_answers_without_a_body(self, server: Server) -> None:
        with server.client() as client:
            for path in ("/", "/health", "/health/", "/metrics", "/docs", "/redoc", "/openapi.json", "/fail/status"):
                reply, head = client.get(path), client.head(path)
                assert (reply.status_code, head.status_code) == (200, 200), path
                assert head.content == b""
                assert int(head.headers["content-length"]) > 0
                assert reply.headers["x-request-id"]
                assert reply.headers["x-correlation-id"]

    @EVERY
    def test_what_is_not_there_and_what_is_not_allowed(self, server: Server) -> None:
        with server.client() as client:
            missing, refused, options = client.get("/nope"), client.delete("/msg"), client.options("/msg")
        assert (missing.status_code, refused.status_code, options.status_code) == (404, 405, 204)
        assert refused.headers["allow"] == options.headers["allow"] == "GET, HEAD, OPTIONS"
        assert missing.json()["request_id"] == missing.headers["x-request-id"]

    @BOTH_PARSERS
    def test_pipelined_requests_are_answered_in_order(self, server: Server, partition: str) -> None:
        targets = [f"/~{partition}/msg?delay=100", f"/~{partition}/msg", "/nope", "/health"]
        with connected(server.address) as connection:
            connection.send(b"".join(request(target, f"x-request-id: r{i}") for i, target in enumerate(targets)))
            replies = [connection.read_reply() for _ in targets]
        assert [reply.status for reply in replies] == [200, 200, 404, 200]
        assert [reply.headers["x-request-id"] for reply in replies] == ["r0", "r1", "r2", "r3"]

    @BOTH_PARSERS
    @pytest.mark.parametrize("split", [4, 16, 30])
    def test_a_large_body_does_not_count_for_the_head_behind_it(self, server: Server, split: int) -> None:
        """However the packets fall: here each ends in the middle of the next head."""
        large = request("/msg", "content-length: 200000", body=b"a" * 200_000)
        with connected(server.address) as connection:
            connection.send(large[:split])
            for _ in range(3):
                connection.send(large[split:] + large[:split])
                assert connection.read_reply().status == 200

    @BOTH_PARSERS
    def test_many_small_requests_in_one_write_are_all_answered(self, server: Server) -> None:
        with connected(server.address) as connection:
            connection.send(request("/fail/status") * 4000)
            assert Counter(connection.read_reply().status for _ in range(4000)) == {200: 4000}

    @BOTH_PARSERS
    def test_http_1_0_ends_with_the_connection(self, server: Server) -> None:
        with connected(server.address) as connection:
            connection.send(b"GET /msg HTTP/1.0\r\n\r\n")
            assert connection.read_reply().status == 200
            assert connection.ended()

    @BOTH_PARSERS
    def test_a_websocket_is_refused_and_harms_nobody(self, server: Server) -> None:
        lines = (
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        assert 400 <= exchange(server.address, request("/msg", *lines)).status < 500
        assert exchange(server.address, request("/health")).status == 200


class TestLoad:
    """A partition has ten slots here; the gauges of /metrics are those of the default partition."""

    SLOTS = 10
    FOREVER = "/msg?delay=30000"  # as long as a request can be made to last

    @pytest.fixture(params=["serve-httptools-uvloop", "serve-h11-asyncio", "uvicorn-httptools-asyncio"])
    def server(self, request: pytest.FixtureRequest) -> Iterator[Server]:
        with running(RUNNERS[request.param], variables={"SERVER_MAX_CONCURRENCY": str(self.SLOTS)}) as server:
            yield server
            server.assert_no_defect()

    @pytest.fixture
    def open_many(self, server: Server) -> Iterator[ExitStack]:
        with ExitStack() as stack:
            yield stack

    @staticmethod
    def gauges(server: Server) -> tuple[float, float]:
        """Slots in use, and requests that wait for one."""
        return server.metric("asgi_fault_slots_in_use"), server.metric("asgi_fault_queue_length")

    def connect(self, server: Server, stack: ExitStack, count: int) -> list[Connection]:
        return [stack.enter_context(connected(server.address)) for _ in range(count)]

    def assert_all_slots_are_free_again(self, server: Server) -> None:
        """By the gauges, and by what a client sees: ten requests come in and the eleventh waits."""
        eventually(lambda: self.gauges(server) == (0, 0), what="no slot is taken and nobody waits")
        with ExitStack() as stack:
            for holder in self.connect(server, stack, self.SLOTS + 1):
                holder.send(request(self.FOREVER))
            eventually(lambda: self.gauges(server) == (self.SLOTS, 1), what="ten are in and one waits")
        eventually(lambda: self.gauges(server) == (0, 0), what="they have left")
        assert exchange(server.address, request("/msg")).status == 200

    def test_three_hundred_clients_all_get_their_answer_and_never_more_than_ten_are_inside(
        self, server: Server, open_many: ExitStack
    ) -> None:
        clients = self.connect(server, open_many, 300)
        for client in clients:
            client.send(request("/msg?delay=30"))
        seen: list[tuple[float, float]] = []

        def all_are_through() -> bool:
            seen.append(self.gauges(server))
            return seen[-1] == (0, 0)

        eventually(all_are_through)
        replies = [client.read_reply() for client in clients]
        assert Counter(reply.status for reply in replies) == {200: 300}
        assert len({reply.body for reply in replies}) == 300
        assert max(in_use for in_use, _ in seen) == self.SLOTS
        assert max(waiting for _, waiting in seen) > 0

    def test_the_eleventh_comes_in_when_one_of_the_ten_leaves_and_not_before(
        self, server: Server, open_many: ExitStack
    ) -> None:
        holders = self.connect(server, open_many, self.SLOTS)
        for holder in holders:
            holder.send(request(self.FOREVER))
        eventually(lambda: self.gauges(server) == (self.SLOTS, 0))
        first, second = self.connect(server, open_many, 2)
        first.send(request("/msg"))
        eventually(lambda: self.gauges(server) == (self.SLOTS, 1))
        second.send(request(self.FOREVER))
        eventually(lambda: self.gauges(server) == (self.SLOTS, 2))
        assert not first.has_data()
        holders[3].close()
        assert first.read_reply().status == 200
        eventually(lambda: self.gauges(server) == (self.SLOTS, 0), what="the slot went on to the second in the queue")

    def test_the_control_plane_answers_while_every_slot_is_taken(self, server: Server, open_many: ExitStack) -> None:
        for holder in self.connect(server, open_many, 2 * self.SLOTS):
            holder.send(request(self.FOREVER))
        eventually(lambda: self.gauges(server) == (self.SLOTS, self.SLOTS))
        with server.client() as client:
            assert client.get("/health").status_code == 200
            assert client.post("/fail/count/0").status_code == 200
            assert client.get("/fail/status").status_code == 200
            assert client.post("/fail/reset").status_code == 200
            assert client.get("/metrics").status_code == 200
            assert client.get("/openapi.json").status_code == 200
            assert client.get("/msg", headers={"X-Fault-Partition": "other"}).status_code == 200
        assert self.gauges(server) == (self.SLOTS, self.SLOTS)

    def test_clients_that_leave_while_they_wait_give_everything_back(
        self, server: Server, open_many: ExitStack
    ) -> None:
        dice = random.Random(20)
        clients = self.connect(server, open_many, 300)
        for number, client in enumerate(clients):
            kind = number % 4
            if kind == 0:  # the same few ids: leaders and followers leave as well
                client.send(request(self.FOREVER, f"x-request-id: id-{dice.randrange(5)}"))
            elif kind == 1:  # a body that never ends
                client.send(request("/msg", "content-length: 10", body=b"abc"))
            else:
                client.send(request(self.FOREVER))
        eventually(lambda: self.gauges(server) == (self.SLOTS, 290), what="all are in or waiting")
        dice.shuffle(clients)
        for number, client in enumerate(clients):
            dice.choice((client.close, client.reset, client.half_close))()
            if number % 50 == 0:
                assert self.gauges(server)[0] <= self.SLOTS
        self.assert_all_slots_are_free_again(server)

    def test_clients_that_leave_at_any_moment_give_everything_back(self, server: Server) -> None:
        dice = random.Random(7)
        for _ in range(200):
            data = request(f"/msg?delay={dice.choice((0, 1, 2, 5, 30000))}", f"x-request-id: {dice.randrange(9)}")
            with connected(server.address) as client:
                client.send(data[: dice.randrange(1, len(data) + 1)] if dice.random() < 0.2 else data)
                if dice.random() < 0.5:
                    client.reset()
        self.assert_all_slots_are_free_again(server)


def test_the_queue_is_bounded_and_says_when_to_come_back() -> None:
    settings = {"SERVER_MAX_CONCURRENCY": "1", "SERVER_QUEUE_LIMIT": "2", "SERVER_QUEUE_TIMEOUT": "0.3"}
    with running(RUNNERS["serve-httptools-uvloop"], variables=settings) as server, ExitStack() as stack:
        holder, *queued = (stack.enter_context(connected(server.address)) for _ in range(6))
        holder.send(request("/msg?delay=30000"))
        eventually(lambda: server.metric("asgi_fault_slots_in_use") == 1)
        for connection in queued:
            connection.send(request("/msg"))
        replies = [connection.read_reply() for connection in queued]
        server.assert_no_defect()
    assert [(reply.status, reply.headers["retry-after"]) for reply in replies] == [(503, "1")] * 5
    limits = Counter(json.loads(reply.body)["details"]["limit"] for reply in replies)
    assert limits == {"SERVER_QUEUE_LIMIT": 3, "SERVER_QUEUE_TIMEOUT": 2}


def test_clients_that_left_the_queue_keep_no_place_in_it() -> None:
    settings = {"SERVER_MAX_CONCURRENCY": "1", "SERVER_QUEUE_LIMIT": "2"}
    with running(RUNNERS["serve-httptools-uvloop"], variables=settings) as server, connected(server.address) as holder:
        holder.send(request("/msg?delay=30000"))
        eventually(lambda: server.metric("asgi_fault_slots_in_use") == 1)
        for _ in range(3):
            with connected(server.address) as first, connected(server.address) as second:
                first.send(request("/msg"))
                second.send(request("/msg"))
                eventually(lambda: server.metric("asgi_fault_queue_length") == 2, what="there is room for two")
            eventually(lambda: server.metric("asgi_fault_queue_length") == 0, what="both have left")
        with connected(server.address) as last:
            last.send(request("/msg"))
            eventually(lambda: server.metric("asgi_fault_queue_length") == 1)
            holder.close()
            assert last.read_reply().status == 200
        server.assert_no_defect()


@pytest.mark.parametrize("name", ["serve-h11-uvloop", "serve-httptools-asyncio"])
def test_work_that_lasts_too_long_is_answered_408_whether_it_is_a_delay_or_a_body(name: str) -> None:
    with running(RUNNERS[name], variables={"SERVER_REQUEST_TIMEOUT": "1"}) as server, ExitStack() as stack:
        delayed, trickling = (stack.enter_context(connected(server.address)) for _ in range(2))
        delayed.send(request("/msg?delay=5000"))
        trickling.send(request("/msg", "content-length: 10", body=b"abc"))
        for connection in (delayed, trickling):
            reply = connection.read_reply()
            assert (reply.status, json.loads(reply.body)) == (408, {"detail": "Request timeout"})
        assert exchange(server.address, request("/health")).status == 200
        server.assert_no_defect()


def assert_clear_refusal(reply: Reply, *, within: range = range(400, 500)) -> None:
    assert reply.status in within, reply
    assert b"Traceback" not in reply.body
    assert b'File "' not in reply.body
    if "x-request-id" in reply.headers:  # the application's own; the rest is said by the parser in front of it
        body = json.loads(reply.body)
        assert body["status_code"] == reply.status
        assert body["request_id"] == reply.headers["x-request-id"]


def assert_usable_or_closed(connection: Connection, reply: Reply) -> None:
    """After `reply` the connection either serves the next request or ends."""
    if "x-request-id" in reply.headers and reply.headers.get("connection") != "close":
        connection.send(request("/health"))
        assert connection.read_reply().status == 200
    else:
        assert connection.ended()


def assert_refused(server: Server, data: bytes, *statuses: int, method: str = "GET") -> Reply:
    """`data` is refused clearly, and the server goes on."""
    with connected(server.address) as connection:
        connection.send(data)
        reply = connection.read_reply(method)
        assert_clear_refusal(reply)
        assert not statuses or reply.status in statuses, reply
        assert_usable_or_closed(connection, reply)
    assert exchange(server.address, request("/health")).status == 200
    return reply


def _on_a_long_line(prefix: str, size: int = MEBIBYTE) -> bytes:
    return prefix.encode() + b"a" * size


# A request, and the statuses it may be refused with.
REFUSED: dict[str, tuple[Any, ...]] = {
    # The head is too large: all in one line, in many, in the request line.
    "one-huge-header": (request("/msg", _on_a_long_line("x-big: ")), 431, 400),
    "many-headers": (request("/msg", *(f"x-{i}: {'a' * 1000}" for i in range(1048))), 431, 400),
    "too-many-small-headers": (request("/msg", *(f"x-{i}: a" for i in range(300))), 431),
    "a-header-just-over-the-bound": (request("/msg", _on_a_long_line("x-big: ", 66_000)), 431),
    "a-huge-target": (request(_on_a_long_line("/")), 400, 404, 414, 431),
    # Framing.
    "content-length-negative": (request("/msg", "content-length: -1"), 400),
    "content-length-not-a-number": (request("/msg", "content-length: abc"), 400),
    "content-length-beyond-any-integer": (request("/msg", "content-length: " + "9" * 30), 400, 413),
    "content-length-twice": (request("/msg", "content-length: 1", "content-length: 2", body=b"ab"), 400),
    "transfer-encoding-unknown": (request("/msg", "transfer-encoding: gzip", body=b"abc"), 400),
    "chunk-size-not-hexadecimal": (request("/msg", "transfer-encoding: chunked", body=b"zz\r\n\r\n"), 400),
    "broken-chunk-that-nobody-waits-for": (request("/health", "transfer-encoding: chunked", body=b"zz\r\n\r\n"), 400),
    "broken-chunk-behind-a-refusal": (request("/~/msg", "transfer-encoding: chunked", body=b"zz\r\n\r\n"), 400),
    # The request line.
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "words": (b"hello there\r\n\r\n", 400),
    "not-even-ascii": (b"\xff\xfe\xfd\r\n\r\n", 400),
    "a-space-in-the-target": (request("/ms g"), 400),
    "no-slash": (request("msg"), 400),
    "an-asterisk": (request("*"), 404),
    "connect-to-a-host": (request("h:443", method="CONNECT"), 400),
    "connect-to-a-path": (request("/msg", method="CONNECT"), 400, 405),
    "unknown-method": (request("/msg", method="BREW"), 400, 405),
    "method-with-a-parenthesis": (request("/msg", method="G(T"), 400),
    # Encoding.
    "percent-without-digits": (request("/msg%zz"), 400),
    "percent-at-the-end": (request("/msg%"), 400),
    "percent-cut-short": (request("/msg%4"), 400),
    "percent-not-utf-8": (request("/%ff%fe"), 400),
    "bytes-in-the-path": (request(b"/\xff\xfe"), 400),
    "bytes-in-the-query": (request(b"/msg?delay=\xff"), 400, 422),
    "percent-in-the-query": (request("/msg?delay=%zz"), 422),
    "not-utf-8-in-the-query": (request("/msg?delay=%ff"), 422),
    "bytes-in-the-request-id": (request("/msg", b"x-request-id: \xff\xfe"), 422),
    "bytes-in-the-partition": (request("/msg", b"x-fault-partition: \xff\xfe"), 400),
    "nul-in-a-header": (request("/msg", b"x-thing: \x00"), 400),
    "a-header-without-colon": (request("/msg", "x-thing"), 400),
    "a-header-name-with-a-space": (request("/msg", "x thing: 1"), 400),
    # Parameters.
    "delay-negative": (request("/msg?delay=-1"), 422),
    "delay-huge": (request("/msg?delay=30001"), 422),
    "delay-of-five-thousand-digits": (request("/msg?delay=" + "9" * 5000), 422),
    "delay-not-a-number": (request("/msg?delay=abc"), 422),
    "delay-empty": (request("/msg?delay="), 422),
    "delay-repeated-and-the-last-is-wrong": (request("/msg?delay=1&delay=abc"), 422),
    "count-negative": (request("/~x/fail/count/-1", method="POST"), 422),
    "count-of-five-thousand-digits": (request("/~x/fail/count/" + "9" * 5000, method="POST"), 422),
    "count-not-a-number": (request("/~x/fail/count/many", method="POST"), 422),
    "seconds-out-of-range": (request("/~x/fail/duration/3601", method="POST"), 422),
    "two-request-ids": (request("/msg", "x-request-id: a", "x-request-id: b"), 422),
    "a-request-id-too-long": (request("/msg", "x-request-id: " + "a" * 257), 422),
    "a-partition-too-long": (request(f"/~{'a' * 65}/msg"), 400),
    "a-partition-without-a-name": (request("/~/msg"), 400),
}


class TestInputThatMakesNoSense:
    @BOTH_PARSERS
    @pytest.mark.parametrize("case", list(REFUSED))
    def test_is_refused_with_a_clear_4xx(self, server: Server, case: str) -> None:
        data, *statuses = REFUSED[case]
        method = "CONNECT" if case.startswith("connect") else "GET"
        assert_refused(server, data, *statuses, method=method)

    @OURS
    @pytest.mark.parametrize("case", ["one-huge-header", "many-headers"])
    def test_our_own_command_says_431_where_plain_uvicorn_may_say_400(self, server: Server, case: str) -> None:
        assert_refused(server, REFUSED[case][0], 431)

    @BOTH_PARSERS
    def test_a_huge_head_that_comes_in_packets_is_refused(self, server: Server) -> None:
        data = REFUSED["many-headers"][0]
        with connected(server.address) as connection:
            connection.dribble(data[i : i + 1460] for i in range(0, len(data), 1460))
            reply = connection.read_reply()
            assert_clear_refusal(reply)
            assert reply.status in ((431, 400) if "h11" in server.name else (431,))
            assert connection.ended()
        assert exchange(server.address, request("/health")).status == 200

    @OURS
    def test_a_head_that_never_ends_is_refused_before_it_ends(self, server: Server) -> None:
        with connected(server.address) as connection:
            connection.send(b"GET /msg HTTP/1.1\r\nhost: h\r\n")
            sent_all = connection.dribble(b"x-%d: %b\r\n" % (i, b"a" * 1000) for i in range(4000))
            assert not sent_all, "four megabytes of head were read without a word"
            assert connection.read_reply().status == 431
            assert connection.ended()

    @OURS  # uvicorn's own h11 protocol logs a traceback for these
    def test_a_body_that_breaks_when_no_400_can_be_sent_any_more_ends_the_connection(self, server: Server) -> None:
        with connected(server.address) as connection:
            connection.send(request("/health", "transfer-encoding: chunked"))
            assert connection.read_reply().status == 200
            connection.send(b"zz\r\n\r\n")
            connection.read_to_the_end()
        with connected(server.address) as connection:
            connection.send(request("/msg", "transfer-encoding: chunked", method="HEAD", body=b"zz\r\n\r\n"))
            assert connection.read_to_the_end().startswith(b"HTTP/1.1 400 ")
        assert exchange(server.address, request("/health")).status == 200

    @BOTH_PARSERS
    @pytest.mark.parametrize("target", ["http://h/~{}/msg", "http://user@h:99/~{}/msg?delay=1", "HTTP://h/~{}/msg"])
    def test_an_absolute_target_is_its_path(self, server: Server, partition: str, target: str) -> None:
        with server.client(partition) as client:
            client.post("/fail/count/1")
        statuses = [exchange(server.address, request(target.format(partition))).status for _ in range(2)]
        assert statuses == [500, 200]

    @BOTH_PARSERS
    def test_options_asterisk_tells_the_methods(self, server: Server) -> None:
        reply = exchange(server.address, request("*", method="OPTIONS"))
        assert reply.status == 204
        assert {"GET", "POST", "OPTIONS"} <= set(reply.headers["allow"].split(", "))

    @BOTH_PARSERS
    def test_harmless_oddities_are_served(self, server: Server) -> None:
        for data in (
            request("/msg", b"x-thing: \xff\xfe"),
            request("/msg", "x-request-id:"),
            request("/msg", "x-request-id: a", "x-request-id: a"),
            request("/msg?delay=abc&delay=1"),
            request("/msg?unknown=1&&=&%"),
            request("/~x%2dy/msg"),
            request("/%7Ex/msg"),
            b"GET /msg HTTP/1.0\r\n\r\n",
        ):
            assert exchange(server.address, data).status == 200, data

    @BOTH_PARSERS
    def test_two_different_request_ids_are_named_and_nothing_is_cached(self, server: Server, partition: str) -> None:
        reply = exchange(server.address, request(f"/~{partition}/msg", "x-request-id: a", "x-request-id: b"))
        violations = json.loads(reply.body)["detail"]
        assert [violation["loc"] for violation in violations] == [["header", "X-Request-ID"]]
        with server.client(partition) as client:
            ids = {client.get("/msg", headers={"X-Request-ID": name}).json()["message_id"] for name in "ab"}
        assert len(ids) == 2

    @BOTH_PARSERS
    def test_invalid_requests_use_up_no_fault(self, server: Server, partition: str) -> None:
        with server.client(partition) as client:
            client.post("/fail/count/1")
            assert client.get("/msg?delay=x").status_code == 422
            assert client.get("/nope").status_code == 404
            assert client.get("/msg").status_code == 500


class TestBodiesThatAreTooLarge:
    @BOTH_PARSERS
    @pytest.mark.parametrize("framing", ["chunked", "content-length"])
    def test_a_client_that_sends_everything_first_can_read_the_413(self, server: Server, framing: str) -> None:
        size = 4 * MEBIBYTE
        with connected(server.address) as connection:
            if framing == "chunked":
                connection.send(request("/msg", "transfer-encoding: chunked"))
                for _ in range(size // 65536):
                    assert connection.send(b"10000\r\n" + b"a" * 65536 + b"\r\n")
                connection.send(b"0\r\n\r\n")
            else:
                assert connection.send(request("/msg", f"content-length: {size}", body=b"a" * size))
            reply = connection.read_reply()
            assert_clear_refusal(reply)
            assert reply.status == 413
            assert json.loads(reply.body)["details"]["limit"] == "SERVER_MAX_BODY"
            assert connection.ended()
        assert exchange(server.address, request("/health")).status == 200

    @BOTH_PARSERS
    def test_a_body_that_never_ends_is_refused_before_it_ends(self, server: Server) -> None:
        with connected(server.address) as connection:
            connection.send(request("/msg", "transfer-encoding: chunked"))
            chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
            assert not connection.dribble(chunk for _ in range(1000)), "64 MiB were read without a word"
            assert connection.read_reply().status == 413
        assert exchange(server.address, request("/health")).status == 200

    @BOTH_PARSERS
    @pytest.mark.parametrize("line", ["x: y", "expect: 100-continue"])
    def test_a_client_that_announces_too_much_is_told_before_it_sends(self, server: Server, line: str) -> None:
        with connected(server.address) as connection:
            connection.send(request("/msg", f"content-length: {MEBIBYTE + 1}", line))
            assert connection.read_reply().status == 413
        assert exchange(server.address, request("/health")).status == 200

    @EVERY
    def test_httpx_reads_the_413(self, server: Server) -> None:
        with server.client() as client:
            reply = client.request("GET", "/msg", content=(b"a" * 65536 for _ in range(48)))
        assert (reply.status_code, reply.json()["error"]) == (413, "RequestEntityTooLarge")

    @BOTH_PARSERS
    def test_a_body_of_exactly_the_limit_passes(self, server: Server) -> None:
        with connected(server.address) as connection:
            connection.send(request("/msg", f"content-length: {MEBIBYTE}", body=b"a" * MEBIBYTE))
            reply = connection.read_reply()
            assert reply.status == 200
            assert_usable_or_closed(connection, reply)

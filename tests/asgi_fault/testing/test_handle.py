"""The handle over a real server: faults that are set arrive, and what the client did is there to read."""

import http.client
import logging
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from asgi_fault.testing import FaultServer, RecordedSleeps, RuleError, sleeps
from asgi_fault.testing.factory import Factory, partition_name


@pytest.fixture(scope="module")
def factory() -> Iterator[Factory]:
    factory = Factory()
    yield factory
    factory.close()


@pytest.fixture
def server(factory: Factory, request: pytest.FixtureRequest) -> Iterator[FaultServer]:
    with factory(partition_name(request.node.nodeid)) as server:
        yield server


def get(url: str, *, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=data, headers={n.replace("_", "-"): v for n, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def statuses(url: str, number: int) -> list[int]:
    return [get(url)[0] for _ in range(number)]


# --- faults ---


def test_everything_is_answered_until_the_test_says_otherwise(server: FaultServer) -> None:
    assert get(server.url) == (200, b'{"ok":true}')
    assert get(f"{server.url}/v1/orders?a=1", data=b"{}") == (200, b'{"ok":true}')


def test_the_surfaces_of_the_server_are_there(server: FaultServer) -> None:
    assert b"message_id" in get(f"{server.url}/msg")[1]
    assert get(f"{server.url}/health")[0] == 200


def test_fail_spoils_so_many_answers(server: FaultServer) -> None:
    assert server.fail(2) == server.url
    assert statuses(f"{server.url}/a", 4) == [503, 503, 200, 200]


def test_fails_come_one_after_the_other(server: FaultServer) -> None:
    server.fail(1, status=500)
    server.fail(2, status=429, retry_after=3)
    server.fail(status=404)
    assert statuses(server.url, 5) == [500, 429, 429, 404, 404]


def test_fail_without_a_number_goes_on_until_heal(server: FaultServer) -> None:
    url = server.fail(status=500)
    assert statuses(url, 3) == [500, 500, 500]
    server.heal()
    assert statuses(url, 2) == [200, 200]
    assert len(server.attempts) == 5


def test_no_failures_are_none(server: FaultServer) -> None:
    assert statuses(server.fail(0), 1) == [200]


def test_a_fault_may_be_about_one_path_and_method(server: FaultServer) -> None:
    server.fail(1, path="/users/{id}", method="POST")
    assert get(f"{server.url}/users/7")[0] == 200
    assert get(f"{server.url}/orders", data=b"x")[0] == 200
    assert get(f"{server.url}/users/7", data=b"x")[0] == 503


def test_a_step_may_say_more(server: FaultServer) -> None:
    server.fail(1, status=429, retry_after="soon", headers={"x-limit": "1"}, body={"text": "slow down"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(server.url)
    with caught.value as error:
        assert (error.code, error.headers["retry-after"], error.headers["x-limit"]) == (429, "soon", "1")
        assert error.read() == b"slow down"


def test_a_step_without_a_status_leaves_the_answer(server: FaultServer) -> None:
    server.fail(1, headers={"x-more": "1"})
    with urllib.request.urlopen(f"{server.url}/msg") as answer:
        assert (answer.status, answer.headers["x-more"]) == (200, "1")


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("reset", ConnectionResetError),
        ("close", http.client.RemoteDisconnected),
        ("garbage", http.client.BadStatusLine),
        ("truncated", http.client.IncompleteRead),
    ],
)
def test_a_scenario_below_http(server: FaultServer, word: str, error: type[Exception]) -> None:
    server.scenario(f"{word}-then-ok")
    parts = urlsplit(server.url)
    for expected in (error, None):
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        try:
            connection.request("GET", parts.path)
            with pytest.raises(error) if expected else nullcontext():
                assert connection.getresponse().read() == b'{"ok":true}'
        finally:
            connection.close()
    assert len(server.attempts) == 2


def test_answer_is_what_nothing_spoils(server: FaultServer) -> None:
    server.answer(json={"id": 7}, path="/users/{id}")
    server.answer(text="hello", headers={"content-type": "text/x-hello"})
    server.scenario("503-then-okx1-then-500-then-ok")
    assert get(f"{server.url}/users/7")[0] == 503
    assert get(f"{server.url}/users/7")[1] == b"hello"
    assert get(f"{server.url}/users/7")[0] == 500
    assert get(f"{server.url}/other")[1] == b"hello"
    server.heal()
    server.answer(json=[1], path="/users/{id}")
    assert get(f"{server.url}/users/7")[1] == b"[1]"
    server.reset()
    assert get(f"{server.url}/users/7")[1] == b'{"ok":true}'


def test_an_answer_without_a_body(server: FaultServer) -> None:
    assert get(server.answer(status=204)) == (204, b"")


def test_rules_are_set_all_or_none(server: FaultServer) -> None:
    assert server.rule({"id": "mine", "then": {"status": 500}}) == "mine"
    assert server.rules([{"then": {"status": 501}}, {"then": {}}]) == ["r1", "r2"]
    with pytest.raises(RuleError) as caught:
        server.rules([{"then": {"status": 502}}, {"then": {"status": 99}}, {"match": {"pth": "/"}, "then": {}}])
    assert str(caught.value).splitlines() == [
        "1.then.status: Input should be greater than or equal to 200 (got 99)",
        "2.match.pth: Extra inputs are not permitted (got '/')",
    ]
    assert statuses(server.url, 1) == [500]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"status": "503"}, r"^0\.script\.0\.status: .*\(got '503'\)$"),
        ({"delay": 1}, r"^0\.script\.0\.delay: Extra inputs"),
        ({"silence": True, "status": 503}, "silence"),
    ],
)
def test_a_mistake_is_told_with_its_place(server: FaultServer, mistake: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError, match=message):
        server.fail(1, **mistake)


def test_a_mistake_in_an_answer_changes_nothing(server: FaultServer) -> None:
    server.answer(text="before")
    with pytest.raises(RuleError, match="status"):
        server.answer(status=99)
    assert get(server.url)[1] == b"before"


# --- what the client did ---


def test_attempts_are_there_as_soon_as_the_client_has_its_answer(server: FaultServer) -> None:
    for ordinal in range(1, 101):
        get(server.url)
        assert len(server.attempts) == ordinal


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_attempts_are_there_as_soon_as_the_client_sees_the_end(server: FaultServer, how: str) -> None:
    server.fail(end={"how": how, "at": "before-head"})
    parts = urlsplit(server.url)
    for ordinal in range(1, 31):
        with socket.create_connection((parts.hostname, parts.port)) as client:
            client.sendall(b"GET %b HTTP/1.1\r\nhost: h\r\n\r\n" % parts.path.encode())
            with suppress(ConnectionResetError):
                assert client.recv(100) == b""
        assert [attempt.ordinal for attempt in server.attempts] == list(range(1, ordinal + 1))


def test_attempts_are_there_as_soon_as_the_client_has_left(server: FaultServer) -> None:
    server.scenario("silence")
    parts = urlsplit(server.url)
    for ordinal in range(1, 11):
        with socket.create_connection((parts.hostname, parts.port)) as client:
            client.sendall(b"GET %b HTTP/1.1\r\nhost: h\r\n\r\n" % parts.path.encode())
            while not server.pending:
                pass
        assert len(server.attempts) == ordinal
    assert server.pending == 0


def test_what_the_server_is_about_to_notice_is_waited_for(server: FaultServer) -> None:
    engine: Any = server._engine
    partition = engine.context.partitions.get(server.name, 0.0)

    def end_after(turns: int) -> None:
        if turns:
            engine._loop.call_soon(end_after, turns - 1)
        else:
            partition.requests -= 1

    partition.requests += 1
    engine.run(lambda: end_after(100))
    assert server.pending == 0


def test_an_attempt_tells_what_came(server: FaultServer) -> None:
    server.fail(1, path="/orders")
    get(f"{server.url}/orders?token=secret&a=1", data=b"abc", Idempotency_Key="k1", Authorization="Bearer x")
    get(f"{server.url}/orders?token=secret&a=1", data=b"abc", Idempotency_Key="k1")
    first, second = server.attempts
    assert (first.ordinal, first.method, first.path, first.status, first.attempt, first.gap) == (
        1, "POST", "/orders", 503, 1, None,
    )  # fmt: skip
    assert (first.call, first.headers["idempotency-key"], first.headers["authorization"]) == ("k1", "k1", "present")
    assert first.target == f"/~{server.name}/orders?token=***&a=1"
    assert (first.body_size, first.rule) == (3, "r1")
    assert (second.attempt, second.status) == (2, 200)
    assert second.gap is not None
    assert second.gap >= 0
    assert second.connection != first.connection
    assert repr(second).startswith("Attempt(ordinal=2, method='POST', path='/orders', status=200, attempt=2, gap=0.0")
    with pytest.raises(AttributeError):
        second.status = 500  # type: ignore[misc]


def test_calls_hold_the_attempts_of_one_key(server: FaultServer) -> None:
    server.scenario("503x2-then-ok")
    for key in ("a", "b", "a"):
        get(server.url, Idempotency_Key=key)
    a, b = server.calls
    assert (a.key, a.statuses, [attempt.ordinal for attempt in a.attempts]) == ("a", [503, 200], [1, 3])
    assert (b.key, b.statuses, b.gaps) == ("b", [503], [])
    assert a.strip.startswith("|--x 503")
    assert server.timeline().splitlines()[1].startswith("GET /  b  |--x 503")


def test_check_passes_or_tells(server: FaultServer) -> None:
    statuses(server.scenario("503-then-ok"), 2)
    server.check(count=2, attempts=2, statuses=[503, 200], same_body=True, min_gaps=0, no_unsafe_retry=True)
    with pytest.raises(AssertionError, match=r"(?s)FAILED: 1 of 2 checks.*attempts.*at most 1.*seed 0"):
        server.check(max_attempts=1, count=2)


def test_check_with_a_path(server: FaultServer) -> None:
    statuses(f"{server.url}/a", 2)
    statuses(f"{server.url}/b", 1)
    server.check(count=2, path="/a")
    server.check(order=["GET /a", "* /b"])


def test_what_is_under_way_is_told(server: FaultServer) -> None:
    server.scenario("silence")
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port)) as client:
        client.sendall(b"GET %b HTTP/1.1\r\nhost: h\r\n\r\n" % parts.path.encode())
        while not server.pending:
            pass
        assert server.attempts == []
        with pytest.raises(AssertionError, match="1 request is still under way"):
            server.check(count=1)


def test_reset_forgets_everything(server: FaultServer) -> None:
    get(server.fail())
    server.reset()
    assert server.attempts == []
    assert statuses(server.url, 1) == [200]
    assert [attempt.ordinal for attempt in server.attempts] == [1]


def test_skipped_sleeps_are_in_the_gaps(server: FaultServer) -> None:
    url = server.scenario("503x2-then-ok")
    recorded = RecordedSleeps()
    sleeps.start(recorded)
    try:
        while get(url)[0] == 503:
            time.sleep(60 * 2 ** len(recorded))
    finally:
        sleeps.stop()
    assert recorded == [60, 120]
    server.check(min_gaps=[60, 120])
    assert server.calls[0].gaps == pytest.approx([60, 120], abs=30)
    with pytest.raises(AssertionError, match=r"(?s)too early.*180 s of sleeps were skipped; the gaps contain them"):
        server.check(min_gaps=[60, 170])


def test_a_rate_limit_sees_skipped_time_pass(server: FaultServer) -> None:
    server.rule({"rate_limit": {"algorithm": "fixed-window", "limit": 1, "window_s": 3600, "key": "partition"}})
    recorded = RecordedSleeps()
    sleeps.start(recorded)
    try:
        seen = statuses(f"{server.url}/msg", 2)
        time.sleep(3600)
        seen += statuses(f"{server.url}/msg", 2)
    finally:
        sleeps.stop()
    assert seen == [200, 429, 200, 429]


# --- ports, partitions, threads ---


def test_an_own_port_needs_no_prefix(server: FaultServer) -> None:
    server.fail(1)
    assert server.own_port is server.own_port
    assert server.own_port.url == f"http://127.0.0.1:{server.own_port.port}"
    assert statuses(f"{server.own_port.url}/a", 2) == [503, 200]
    assert [attempt.path for attempt in server.attempts] == ["/a", "/a"]
    assert server.astray() is None


def test_an_own_port_is_closed_with_its_handle(factory: Factory) -> None:
    with factory("short-lived") as server:
        url = server.own_port.url
        get(url)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)


def test_a_request_without_prefix_is_told_what_is_wrong(server: FaultServer) -> None:
    base = server.url.rpartition("/~")[0]
    status, body = get(f"{base}/orders")
    assert status == 404
    assert b"without the path prefix" in body
    assert b"own_port" in body
    astray = server.astray()
    assert astray is not None
    assert "1 request came without the path prefix of the test's URL: GET /orders." in astray
    with pytest.raises(AssertionError, match=r"fault_server\.own_port\.url"):
        server.check(count=1)


def test_handles_do_not_see_each_other(factory: Factory) -> None:
    with factory("one") as one, factory("two") as two:
        one.fail()
        assert statuses(two.url, 2) == [200, 200]
        assert statuses(one.url, 1) == [503]
        assert (len(one.attempts), len(two.attempts)) == (1, 2)


def test_the_same_seed_and_name_give_the_same_faults(factory: Factory) -> None:
    def outcome(name: str, seed: int) -> list[int]:
        with factory(name, seed=seed) as server:
            server.rule({"match": {"probability": 0.5}, "then": {"status": 503}})
            return statuses(server.url, 32)

    first = outcome("chance", 1)
    assert outcome("chance", 1) == first
    assert outcome("chance", 2) != first
    assert outcome("other", 1) != first


def test_settings_make_a_server_of_its_own() -> None:
    factory = Factory()
    try:
        plain, other = factory(), factory(max_body=10)
        assert urlsplit(plain.url).port != urlsplit(other.url).port
        assert get(other.url, data=b"x" * 11)[0] == 413
        assert get(plain.url, data=b"x" * 11)[0] == 200
        with pytest.raises(ValueError, match="SERVER_MAX_BODY"):
            factory(max_body=-1)
        for name in ("default", "a b", ""):
            with pytest.raises(ValueError, match="is no name"):
                factory(name)
    finally:
        factory.close()


def test_a_session_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    factory = Factory()
    server = factory(max_concurrency=1)
    other = factory()
    server.scenario("silence")
    parts = urlsplit(server.url)
    # A client that still waits does not hold the stop up.
    with socket.create_connection((parts.hostname, parts.port)) as client:
        client.sendall(b"GET %b HTTP/1.1\r\nhost: h\r\n\r\n" % parts.path.encode())
        while not server.pending:
            pass
        get(other.url)
        factory.close()
        factory.close()
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
    assert set(threading.enumerate()) == before
    with pytest.raises(RuntimeError, match="this server has stopped"):
        server.fail()


def test_the_users_loggers_hear_nothing(caplog: pytest.LogCaptureFixture) -> None:
    names = ("uvicorn.access", "uvicorn.error", "uvicorn", "asyncio")
    before = {name: _state_of(name) for name in names}
    factory = Factory(log_level="DEBUG")
    with factory() as server:
        # asyncio's own "Using selector", said once when a loop is made, is past.
        caplog.clear()
        caplog.set_level(logging.DEBUG)
        get(server.url)
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port)) as client:
            client.sendall(b"NONSENSE\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400")
        lines = "".join(server.log())
    factory.close()
    assert caplog.records == []
    assert {name: _state_of(name) for name in names} == before
    assert "Invalid HTTP request received" in lines
    assert "GET / 200" in lines


def _state_of(name: str) -> tuple[object, ...]:
    logger = logging.getLogger(name)
    return logger.level, logger.propagate, logger.disabled, list(logger.handlers)


def test_nothing_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SERVER_MAX_BODY": "1",
        "SERVER_SEED": "9",
        "REDIS_URL": "redis://x",
        "DEBUG": "1",
        "WEB_CONCURRENCY": "many",
        "FORWARDED_ALLOW_IPS": "*",
        "PYTHONASYNCIODEBUG": "1",
    }.items():
        monkeypatch.setenv(name, value)  # fmt: skip
    factory = Factory()
    with factory() as server:
        assert get(server.url, data=b"abc")[0] == 200
        assert server.seed == 0
    factory.close()


def test_a_keep_alive_answer_does_not_wait_for_an_ack(server: FaultServer) -> None:
    # Without TCP_NODELAY each answer after the first waits 40 ms. Nothing asserts time: the option is looked at.
    engine: Any = server._engine
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("GET", parts.path)
    connection.getresponse().read()
    (protocol,) = [one for one in engine._state.connections if not one.transport.is_closing()]
    accepted = protocol.transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    connection.close()


def test_answers_have_a_date(server: FaultServer) -> None:
    with urllib.request.urlopen(server.url) as answer:
        assert answer.headers["date"].endswith("GMT")


@pytest.mark.parametrize(
    ("node_id", "name"),
    [
        ("tests/test_a.py::test_x", "test_x-"),
        ("tests/test_a.py::TestY::test_x[a b-ü]", "test_x-a-b-"),
        ("tests/test_a.py::" + "x" * 200, "x" * 40 + "-"),
        ("tests/test_a.py::[::]", "test-"),
    ],
)
def test_a_partition_is_named_after_its_test(node_id: str, name: str) -> None:
    assert partition_name(node_id).rpartition("-")[0] + "-" == name or partition_name(node_id).startswith(name)
    assert partition_name(node_id) == partition_name(node_id)
    assert partition_name(node_id) != partition_name(f"other/{node_id}")
    assert len(partition_name(node_id)) <= 64

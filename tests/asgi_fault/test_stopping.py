"""Stopping a real server while it is busy: whoever waits is told, and the process ends."""

import asyncio
import json
import signal
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack
from typing import Any

import pytest

from tests.in_process import World, in_world
from tests.processes import RUNNERS, Server, eventually, running
from tests.sockets import CLOSED, Connection, Reply, connected, request

STOPS_WITHIN = 5.0  # seconds; the requests below would last 30
# hypercorn is not here: it cancels what still runs after its own grace, without telling the application before.
STOPPABLE = [name for name in RUNNERS if name != "hypercorn"]
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(server: Server, stack: ExitStack, count: int = 1) -> list[Connection]:
    return [stack.enter_context(connected(server.address)) for _ in range(count)]


def assert_told_to_come_back(reply: Reply) -> None:
    assert reply.status == 503, reply
    assert int(reply.headers["retry-after"]) > 0
    assert json.loads(reply.body)["error"] == "ServiceUnavailableError"
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("name", STOPPABLE)
def test_everybody_who_waits_is_told_and_the_process_ends(
    name: str, number: signal.Signals, connections: ExitStack
) -> None:
    with running(RUNNERS[name], variables={"SERVER_MAX_CONCURRENCY": "2"}) as server:
        delayed, queued, followers = (connect(server, connections, 2) for _ in range(3))
        sending, chunking, idle, in_head = connect(server, connections, 4)
        for connection in delayed:
            connection.send(request("/msg?delay=30000"))
        eventually(lambda: server.metric("asgi_fault_slots_in_use") == 2)
        for connection in queued:
            connection.send(request("/msg?delay=30000"))
        for connection in followers:
            connection.send(request("/~other/msg?delay=30000", "x-request-id: same"))
        sending.send(request("/fail/count/1", "content-length: 100", method="POST", body=b"abc"))
        chunking.send(request("/~third/msg", "transfer-encoding: chunked", body=b"3\r\nabc\r\n"))
        idle.send(request("/health"))
        assert idle.read_reply().status == 200
        in_head.send(b"GET /msg HTTP/1.1\r\nhost: ")
        eventually(lambda: server.metric("asgi_fault_queue_length") == 2)
        waiting = [*delayed, *queued, *followers, sending, chunking]
        eventually(lambda: in_progress(server) == len(waiting), what="all requests have arrived")

        server.signal(number)
        for connection in waiting:
            assert_told_to_come_back(connection.read_reply())
            assert connection.ended()
        assert idle.read_reply() == CLOSED
        assert in_head.read_reply() == CLOSED
        exit_code = server.wait_for_end(STOPS_WITHIN)
        assert exit_code == 0 if number == signal.SIGINT else exit_code in (0, -signal.SIGTERM)
        assert '"server.stop"' in server.out
        server.assert_no_defect()


def in_progress(server: Server) -> int:
    """Requests that have arrived and are not answered, without the one that asks."""
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("http_requests_in_progress{")) - 1


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("name", ["serve-h11-asyncio", "serve-httptools-uvloop"])
def test_an_idle_server_ends(name: str, number: signal.Signals) -> None:
    with running(RUNNERS[name]) as server:
        server.signal(number)
        assert server.wait_for_end(STOPS_WITHIN) in ((0,) if number == signal.SIGINT else (0, -signal.SIGTERM))
        server.assert_no_defect()


@pytest.mark.parametrize("name", ["serve-h11-asyncio", "serve-httptools-uvloop"])
def test_an_impatient_user_who_presses_twice_gets_no_traceback(name: str, connections: ExitStack) -> None:
    with running(RUNNERS[name]) as server:
        waiting = connect(server, connections, 20)
        for connection in waiting:
            connection.send(request("/msg?delay=30000"))
        eventually(lambda: server.metric("asgi_fault_slots_in_use") == 20)
        for _ in range(3):
            server.signal(signal.SIGINT)
        server.wait_for_end(STOPS_WITHIN)
        for connection in waiting:
            assert connection.read_reply().status in (0, 503)
        server.assert_no_defect()


def test_a_client_that_still_sends_a_refused_body_does_not_hold_the_server_up(connections: ExitStack) -> None:
    with running(RUNNERS["serve-h11-asyncio"]) as server:
        (connection,) = connect(server, connections)
        connection.send(request("/msg", "content-length: 2000000", body=b"abc"))
        assert connection.read_reply().status == 413
        server.signal(signal.SIGINT)
        assert server.wait_for_end(STOPS_WITHIN) == 0
        server.assert_no_defect()


@pytest.mark.soak  # the server's own grace is 10 s
@pytest.mark.parametrize("name", ["serve-h11-asyncio", "serve-httptools-uvloop"])
def test_a_client_that_reads_nothing_does_not_hold_the_server_up(name: str, connections: ExitStack) -> None:
    with running(RUNNERS[name]) as server:
        (connection,) = connect(server, connections)
        assert not connection.send_as_much_as_it_takes(request("/openapi.json") * 200_000), "all was taken"
        server.signal(signal.SIGINT)
        assert server.wait_for_end() == 0
        server.assert_no_defect()


def test_an_application_that_was_stopped_serves_again_after_the_next_start() -> None:
    """Test clients run the lifespan once a test, of one application that many tests share."""

    async def start_and_stop_twice(world: World) -> None:
        for _ in range(2):
            stop = asyncio.Event()
            lifespan = asyncio.create_task(live_until(stop, world))
            await asyncio.sleep(0)
            assert (await world.client.get("/msg?delay=10")).status == 200
            assert (await world.client.get("/msg", chunks=[b"a", b"b"], headers=BODY)).status == 200
            stop.set()
            await lifespan

    in_world(start_and_stop_twice)


BODY = [("content-length", "2")]


async def live_until(stop: asyncio.Event, world: World) -> None:
    """The lifespan of `world`, from its start until `stop` is set."""
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        if sent:
            await stop.wait()
            return {"type": "lifespan.shutdown"}
        return {"type": "lifespan.startup"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await world.app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

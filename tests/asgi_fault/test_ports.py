"""Ports of their own, over real sockets: whose they are, what they do before a request, TLS, and how they end."""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from asgi_fault.application import Application
from asgi_fault.config import Settings
from asgi_fault.context import Context
from asgi_fault.docs.examples import NO_PORTS, PORT_BODIES, REFUSAL_BODIES
from asgi_fault.errors import ValidationFailed
from asgi_fault.faults import wire
from asgi_fault.faults.openings import TLS_FAULTS, Opening, Wanted, read_port, read_refusal
from asgi_fault.ports import Port
from tests.asgi_fault.docs.test_openapi import assert_documented
from tests.in_process import Answer, World, in_world
from tests.processes import PLAIN, ROOT, RUNNERS, Pool, Runner, Server, eventually, running, serve
from tests.sockets import TIMEOUT, Connection, connected, exchange, request

OURS = [name for name in RUNNERS if name.startswith("serve-")]
EVERY = pytest.mark.parametrize("server", OURS, indirect=True)
# Both parsers and both loops, in half the time.
BOTH = pytest.mark.parametrize("server", ["serve-h11-uvloop", "serve-httptools-asyncio"], indirect=True)
GET = request("/msg")
LAST = request("/msg", "connection: close")
UNASKED = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


@pytest.fixture
def server(pool: Pool, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that the whole module shares; its extra ports go after each test."""
    server = pool[request.param]
    yield server
    httpx.delete(server.url + "/ports", **PLAIN)
    server.assert_no_defect()


def opened(server: Server, **wanted: Any) -> dict[str, Any]:
    """A new port, as the server describes it."""
    reply = httpx.post(server.url + "/ports", json=wanted, **PLAIN)
    assert reply.status_code == 201, reply.text
    port: dict[str, Any] = reply.json()
    return port


def at(port: dict[str, Any]) -> tuple[str, int]:
    return port["host"], port["port"]


def shown(server: Server, port: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{server.url}/ports/{port['port']}", **PLAIN).json()
    return answer


def accepted(server: Server, port: dict[str, Any]) -> int:
    number: int = shown(server, port)["accepted"]
    return number


def how_it_ends(address: tuple[str, int], data: bytes = GET) -> str:
    """What a client sees of a connection on which it sends `data`: `FIN`, `RST`, `refused`, or what it reads."""
    try:
        with socket.create_connection(address, timeout=TIMEOUT) as client:
            client.sendall(data)
            received = b""
            while piece := client.recv(65536):
                received += piece
            return received.decode("latin-1") or "FIN"
    except (ConnectionResetError, BrokenPipeError):
        return "RST"
    except ConnectionRefusedError:
        return "refused"


def is_open(address: tuple[str, int]) -> bool:
    return how_it_ends(address, request("/health", "connection: close")).startswith("HTTP/1.1 200")


def sockets_at(port: dict[str, Any]) -> int:
    """How many sockets hold on to the server's side of that port, in whatever process."""
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        found += int(local.rpartition(":")[2], 16) == port["port"] and state in ("01", "08", "0A")
    return found


def trusting(port: dict[str, Any]) -> ssl.SSLContext:
    """A client that trusts the CA the server has named, and nobody else."""
    return ssl.create_default_context(cadata=port["tls"]["ca_pem"])


def get_over_tls(port: dict[str, Any], context: ssl.SSLContext, host: str = "127.0.0.1") -> int:
    client = http.client.HTTPSConnection(host, port["port"], context=context, timeout=TIMEOUT)
    try:
        client.request("GET", "/msg")
        return client.getresponse().status
    finally:
        client.close()


class TestWhoseRequestsTheyAre:
    @EVERY
    def test_the_port_picks_the_partition(self, server: Server) -> None:
        port = opened(server, partition="blue")
        with server.client("blue") as blue, server.client() as default:
            blue.post("/fail/count/1")
            client = http.client.HTTPConnection(*at(port), timeout=TIMEOUT)
            statuses = []
            for _ in range(2):
                client.request("GET", "/msg")
                reply = client.getresponse()
                reply.read()
                statuses.append(reply.status)
            client.close()
            assert statuses == [500, 200]
            assert default.get("/msg").status_code == 200
            entries = blue.get("/journal").json()["entries"]
            assert [(entry["partition"], entry["target"], entry["status"]) for entry in entries][-2:] == [
                ("blue", "/msg", 500),
                ("blue", "/msg", 200),
            ]

    @BOTH
    def test_it_wins_over_prefix_and_header(self, server: Server) -> None:
        port = opened(server, partition="green")
        with server.client("green") as green:
            green.post("/fail/count/3")
        for data in (GET, request("/~red/msg"), request("/msg", "x-fault-partition: red")):
            assert exchange(at(port), data).status == 500
        with server.client("red") as red:
            assert red.get("/journal").json()["entries"] == []
            assert red.get("/msg").status_code == 200

    @BOTH
    def test_the_control_plane_works_through_it_for_a_client_that_drops_the_path(self, server: Server) -> None:
        port = opened(server)
        with httpx.Client(base_url=port["url"], **PLAIN) as client:
            rule = {"match": {"path": "/v1/**"}, "then": {"status": 418}}
            made = client.post("/faults", json=rule)
            assert (made.status_code, made.headers["location"]) == (201, "/faults/r1")
            # An absolute path, as urljoin would leave it.
            assert client.get("/v1/anything").status_code == 418
        assert httpx.get(server.url + "/v1/anything", **PLAIN).status_code == 404

    @BOTH
    def test_ports_without_a_name_get_partitions_of_their_own(self, server: Server) -> None:
        first = opened(server)
        number = int(first["partition"].removeprefix("port-"))
        with server.client(f"port-{number + 1}") as somebody_elses:
            somebody_elses.get("/msg")
        second = opened(server)
        assert second["partition"] == f"port-{number + 2}"
        exchange(at(first), request("/fail/count/1", method="POST"))
        assert exchange(at(second), GET).status == 200
        assert exchange(at(first), GET).status == 500

    @BOTH
    def test_the_default_partition_can_have_one_too(self, server: Server) -> None:
        port = opened(server, partition="default")
        with server.client() as client:
            client.post("/fail/count/1")
            assert exchange(at(port), GET).status == 500
            assert client.get("/msg").status_code == 200

    @BOTH
    def test_a_request_of_a_partition_opens_sees_and_closes_its_own_ones(self, server: Server) -> None:
        other = opened(server, partition="other")
        with server.client("mine") as mine:
            made = mine.post("/ports")
            assert made.status_code == 201
            port = made.json()
            assert port["partition"] == "mine"
            assert made.headers["location"] == f"/~mine/ports/{port['port']}"
            assert mine.get(f"/ports/{port['port']}").json() == port
            assert [each["port"] for each in mine.get("/ports").json()["ports"]] == [port["port"]]
            assert mine.get(f"/ports/{other['port']}").status_code == 404
            assert mine.delete(f"/ports/{other['port']}").status_code == 404
            assert mine.delete("/ports").json() == {"deleted": 1}
        assert is_open(at(other))
        assert not is_open(at(port))


class TestBeforeARequest:
    @EVERY
    def test_each_connection_has_its_step_then_the_default_one(self, server: Server) -> None:
        port = opened(
            server,
            connections=[
                {"close": True},
                {"reset": True},
                {"send": {"text": UNASKED.decode()}, "close": True},
                {"send": {"base64": "AAEC"}, "reset": True},
                {"silence_s": 0.01},
                {"delay_s": 0.01},
                {"accept": "serve"},
                {},
            ],
            then={"close": True},
        )
        seen = [how_it_ends(at(port), LAST) for _ in range(10)]
        assert seen[:2] == ["FIN", "RST"]
        assert seen[2] == UNASKED.decode()
        assert seen[3] in ("RST", "\x00\x01\x02")  # what comes first, the bytes or the reset, is the client's to see
        assert seen[4] == "FIN"
        assert [text.split("\r\n")[0] for text in seen[5:8]] == ["HTTP/1.1 200 OK"] * 3
        assert seen[8:] == ["FIN", "FIN"]
        recent = shown(server, port)["recent"]
        assert [entry["opening"] for entry in recent] == [
            "close", "reset", "close", "reset", "silence", "serve", "serve", "serve", "close", "close",
        ]  # fmt: skip
        assert [entry["ordinal"] for entry in recent] == list(range(1, 11))
        assert shown(server, port)["accepted"] == 10

    @EVERY
    def test_a_reset_on_accept_is_econnreset_before_anything_was_sent(self, server: Server) -> None:
        port = opened(server, then={"reset": True})
        with pytest.raises(ConnectionResetError):  # noqa: SIM117 - which of the two raises is the kernel's to say
            with socket.create_connection(at(port), timeout=TIMEOUT) as client:
                client.recv(1)

    @EVERY
    def test_a_close_on_accept_is_fin_though_the_request_was_never_read(self, server: Server) -> None:
        port = opened(server, then={"close": True})
        for _ in range(20):
            assert how_it_ends(at(port), GET * 50) == "FIN"

    @EVERY
    def test_bytes_out_of_the_blue_then_service(self, server: Server) -> None:
        port = opened(server, then={"send": {"text": "hello "}})
        with connected(at(port)) as connection:
            assert connection.receive() == b"hello "
            connection.send(GET)
            assert connection.read_reply().status == 200

    @BOTH
    def test_silence_lasts_until_the_client_leaves(self, server: Server) -> None:
        port = opened(server, then={"silence_s": None})
        with connected(at(port)) as connection:
            connection.send(GET)
            assert exchange(server.address, GET).status == 200
            eventually(lambda: accepted(server, port) == 1, what="it is accepted")
            assert not connection.has_data()
            assert sockets_at(port) == 2
        eventually(lambda: sockets_at(port) == 1, what="only the listener is left")

    @BOTH
    def test_a_silent_server_takes_what_it_is_sent(self, server: Server) -> None:
        port = opened(server, then={"silence_s": None})
        with connected(at(port)) as connection:
            assert connection.send(b"x" * (8 << 20))

    @BOTH
    def test_a_delay_holds_up_nobody_else_and_loses_nothing(self, server: Server) -> None:
        port = opened(server, connections=[{"delay_s": 0.2}, {"delay_s": 3600}])
        with connected(at(port)) as late, connected(at(port)) as later:
            later.send(GET)
            late.send(request("/msg", "content-length: 300000", method="POST", body=b"x" * 300_000))
            assert exchange(at(port), GET).status == 200
            assert late.read_reply("POST").status == 405
            assert not later.has_data()

    @BOTH
    def test_keep_alive_and_wire_faults_work_as_on_the_servers_own_port(self, server: Server) -> None:
        port = opened(server)
        rule = {"script": [{"status": 200}, {"end": {"how": "reset", "at": "before-head"}}]}
        assert httpx.post(port["url"] + "/faults", json=rule, **PLAIN).status_code == 201
        with connected(at(port)) as connection:
            connection.send(GET)
            assert connection.read_reply().status == 200
            connection.send(GET)
            with pytest.raises(ConnectionResetError):
                connection._socket.recv(1)
        journal = httpx.get(port["url"] + "/journal", **PLAIN).json()["entries"]
        assert [(entry["connection"]["ordinal"], entry["ended"]) for entry in journal] == [
            (1, None),
            (2, "server-reset"),
        ]

    @BOTH
    def test_many_connections_at_once(self, server: Server) -> None:
        script = [{"reset": True} if index % 2 else {"accept": "serve"} for index in range(200)]
        port = opened(server, connections=script)
        seen: list[str] = []
        threads = [
            threading.Thread(target=lambda: seen.extend(how_it_ends(at(port), LAST)[:12] for _ in range(20)))
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seen) == ["HTTP/1.1 200"] * 100 + ["RST"] * 100


class TestRefusal:
    @EVERY
    def test_a_port_refuses_for_a_time_and_then_is_up(self, server: Server) -> None:
        port = opened(server, refuse_s=0.3)
        assert how_it_ends(at(port)) == "refused"
        assert shown(server, port)["refuses_for_s"] > 0
        eventually(lambda: is_open(at(port)), what="it listens")
        assert shown(server, port)["refuses_for_s"] == 0

    @EVERY
    def test_an_open_port_can_refuse_again_and_again(self, server: Server) -> None:
        port = opened(server)
        url = f"{server.url}/ports/{port['port']}/refuse"
        for _ in range(3):
            assert is_open(at(port))
            assert httpx.post(url, json={"seconds": 3600}, **PLAIN).json()["refuses_for_s"] > 3000
            assert how_it_ends(at(port)) == "refused"
            assert httpx.post(url, json={"seconds": 0}, **PLAIN).json()["refuses_for_s"] == 0
        assert httpx.post(url, json={"seconds": 0.05}, **PLAIN).status_code == 200
        eventually(lambda: is_open(at(port)), what="it listens again")

    @BOTH
    def test_the_number_is_nobody_elses_meanwhile(self, server: Server) -> None:
        port = opened(server, refuse_s=3600)
        again = httpx.post(server.url + "/ports", json={"port": port["port"]}, **PLAIN)
        assert (again.status_code, again.json()["error"]) == (409, "PortTakenError")

    @BOTH
    @pytest.mark.parametrize(("drop", "seen"), [(None, "200"), ("close", "FIN"), ("reset", "RST")])
    def test_what_becomes_of_the_connections_there_are(self, server: Server, drop: str | None, seen: str) -> None:
        port = opened(server, connections=[{"silence_s": None}])
        with connected(at(port)) as silent, connected(at(port)) as kept:
            kept.send(GET)
            assert kept.read_reply().status == 200
            eventually(lambda: accepted(server, port) == 2, what="both are accepted")
            wanted = {"seconds": 3600} | ({"drop": drop} if drop else {})
            httpx.post(f"{server.url}/ports/{port['port']}/refuse", json=wanted, **PLAIN)
            if seen == "200":
                assert not silent.has_data()
                kept.send(GET)
                assert kept.read_reply().status == 200
            elif seen == "FIN":
                assert silent._socket.recv(1) == kept._socket.recv(1) == b""
            else:
                for client in (silent, kept):
                    with pytest.raises(ConnectionResetError):
                        client._socket.recv(1)

    @BOTH
    def test_overlapping_requests_to_refuse_leave_it_in_the_last_state(self, server: Server) -> None:
        port = opened(server)
        body = [json.dumps({"seconds": seconds}).encode() for seconds in (5, 0, 7, 0)]
        lines = "content-type: application/json"
        with connected(server.address) as connection:
            for piece in body:
                target = f"/ports/{port['port']}/refuse"
                connection.send(request(target, lines, f"content-length: {len(piece)}", method="POST", body=piece))
            for _ in body:
                assert connection.read_reply("POST").status == 200
        assert is_open(at(port))


class TestTLS:
    @EVERY
    def test_the_ca_makes_a_good_one_pass(self, server: Server) -> None:
        port = opened(server, tls=True)
        assert port["url"].startswith("https://127.0.0.1:")
        for host in ("127.0.0.1", "localhost"):
            assert get_over_tls(port, trusting(port), host) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            get_over_tls(port, ssl.create_default_context())

    @EVERY
    @pytest.mark.parametrize(
        ("fault", "code", "words"),
        [
            ("expired", 10, "certificate has expired"),
            ("wrong-host", 64, "not valid for '127.0.0.1'"),
            ("self-signed", 18, "self-signed certificate"),
        ],
    )
    def test_a_bad_certificate_is_refused_for_its_own_reason(
        self, server: Server, fault: str, code: int, words: str
    ) -> None:
        port = opened(server, tls={"fault": fault})
        with pytest.raises(ssl.SSLCertVerificationError) as refused:
            get_over_tls(port, trusting(port))
        assert refused.value.verify_code == code
        assert words in refused.value.verify_message
        # Who does not look is served.
        careless = ssl.create_default_context()
        careless.check_hostname = False
        careless.verify_mode = ssl.CERT_NONE
        assert get_over_tls(port, careless) == 200

    @pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
    @BOTH
    def test_as_curl_sees_it(self, server: Server, tmp_path: Path) -> None:
        codes = {}
        for fault in (None, *TLS_FAULTS[:3]):
            port = opened(server, tls={"fault": fault} if fault else True)
            ca = tmp_path / "ca.pem"
            ca.write_text(port["tls"]["ca_pem"])
            command = ["curl", "-sS", "--noproxy", "*", "-o", os.devnull, "--cacert", str(ca), port["url"] + "/msg"]
            codes[fault] = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT).returncode
        assert codes == {None: 0, "expired": 60, "wrong-host": 60, "self-signed": 60}

    @BOTH
    def test_all_ports_of_a_server_share_one_ca(self, server: Server) -> None:
        first, second = opened(server, tls=True), opened(server, tls={})
        assert first["tls"] == second["tls"]
        assert second["tls"]["fault"] is None
        assert "PRIVATE" not in httpx.get(server.url + "/ports", **PLAIN).text

    @EVERY
    def test_a_stalled_handshake_is_never_answered(self, server: Server) -> None:
        port = opened(server, tls={"fault": "handshake-stall"})
        assert port["tls"]["ca_pem"].startswith("-----BEGIN CERTIFICATE-----")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = trusting(port).wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        with connected(at(port)) as connection:
            connection.send(outgoing.read())
            eventually(lambda: accepted(server, port) == 1, what="it is accepted")
            assert exchange(server.address, GET).status == 200
            assert not connection.has_data()
        eventually(lambda: sockets_at(port) == 1, what="only the listener is left")

    @EVERY
    def test_the_script_comes_before_the_handshake(self, server: Server) -> None:
        script: list[dict[str, Any]] = [
            {"reset": True},
            {"close": True},
            {"send": {"text": "no TLS"}},
            {"delay_s": 0.1},
        ]
        port = opened(server, tls=True, connections=script)
        with pytest.raises(ConnectionResetError):
            get_over_tls(port, trusting(port))
        with pytest.raises((ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            get_over_tls(port, trusting(port))
        with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version|record"):
            get_over_tls(port, trusting(port))
        for _ in range(10):
            assert get_over_tls(port, trusting(port)) == 200

    @BOTH
    def test_plain_http_on_a_tls_port_harms_nobody(self, server: Server) -> None:
        port = opened(server, tls=True)
        assert not how_it_ends(at(port)).startswith("HTTP")
        assert get_over_tls(port, trusting(port)) == 200

    @BOTH
    def test_a_reset_under_tls(self, server: Server) -> None:
        port = opened(server, tls=True)
        rule = {"then": {"end": {"how": "reset", "at": "before-head"}}}
        httpx.post(f"{server.url}/~{port['partition']}/faults", json=rule, **PLAIN)
        with pytest.raises(ConnectionResetError):
            get_over_tls(port, trusting(port))

    def test_without_the_library_it_says_what_to_install(self, tmp_path: Path) -> None:
        (tmp_path / "trustme.py").write_text("raise ImportError\n")
        with running(serve(), variables={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}) as server:
            refused = httpx.post(server.url + "/ports", json={"tls": True}, **PLAIN)
            assert (refused.status_code, refused.json()["error"]) == (501, "NotSupportedError")
            assert "pip install 'asgi-fault[tls]'" in refused.json()["message"]
            assert httpx.get(server.url + "/ports", **PLAIN).json() == {"ports": []}
            assert is_open(at(opened(server)))
            server.assert_no_defect()


class TestHowTheyEnd:
    @EVERY
    def test_closing_one_ends_its_connections_and_leaves_nothing_open(self, server: Server) -> None:
        other = opened(server)
        port = opened(server, connections=[{}, {"silence_s": None}, {"delay_s": 3600}])
        httpx.post(port["url"] + "/faults", json={"match": {"path": "/never"}, "then": {"silence": True}}, **PLAIN)
        with connected(at(port)) as silent, connected(at(port)) as late, connected(at(port)) as stalled:
            stalled.send(request("/never"))
            eventually(lambda: accepted(server, port) == 4, what="all are accepted")
            deleted = httpx.delete(f"{server.url}/ports/{port['port']}", **PLAIN)
            assert deleted.json() == {"deleted": 1}
            assert silent.ended()
            assert late.ended()
            assert stalled.ended()
        assert how_it_ends(at(port)) == "refused"
        assert httpx.get(f"{server.url}/ports/{port['port']}", **PLAIN).status_code == 404
        assert is_open(at(other))
        eventually(lambda: sockets_at(port) == 0, what="every socket is closed")

    @BOTH
    def test_it_can_be_closed_through_itself(self, server: Server) -> None:
        port = opened(server)
        with connected(at(port)) as connection:
            connection.send(request("/ports", method="DELETE"))
            reply = connection.read_reply("DELETE")
            assert (reply.status, reply.text) == (200, '{"deleted":1}')
            assert connection.ended()
        assert how_it_ends(at(port)) == "refused"

    @BOTH
    def test_one_that_refuses_can_be_closed(self, server: Server) -> None:
        port = opened(server, refuse_s=3600)
        assert httpx.delete(server.url + "/ports", **PLAIN).json() == {"deleted": 1}
        assert opened(server, port=port["port"])["port"] == port["port"]

    @pytest.mark.parametrize("name", OURS)
    def test_the_servers_stop_ends_all(self, name: str) -> None:
        with running(RUNNERS[name]) as server, contextlib.ExitStack() as stack:
            port = opened(server, connections=[{}, {"silence_s": None}, {"delay_s": 3600}])
            stall = opened(server, tls={"fault": "handshake-stall"})
            opened(server, refuse_s=3600)
            rule = {"match": {"path": "/never"}, "then": {"silence": True}}
            httpx.post(port["url"] + "/faults", json=rule, **PLAIN)
            clients: list[Connection] = []
            for address in (at(port), at(port), at(port), at(stall)):
                clients.append(stack.enter_context(connected(address)))
            clients[2].send(request("/never"))
            eventually(lambda: accepted(server, port) == 4 and accepted(server, stall) == 1, what="all are accepted")
            server.signal(signal.SIGTERM)
            assert server.wait_for_end() in (0, -signal.SIGTERM)
            for client in clients:
                client.read_to_the_end()
            assert how_it_ends(at(port)) == "refused"
            server.assert_no_defect()
            assert "graceful" not in server.err


class TestLimitsAndRefusals:
    def test_their_number_is_bounded(self) -> None:
        with running(serve("--ports-max", "2")) as server:
            first, _ = opened(server), opened(server)
            refused = httpx.post(server.url + "/ports", **PLAIN)
            assert refused.status_code == 503
            assert "SERVER_PORTS_MAX" in refused.json()["message"]
            assert "retry-after" in refused.headers
            httpx.delete(f"{server.url}/ports/{first['port']}", **PLAIN)
            opened(server)

    def test_the_token_guards_them(self) -> None:
        with running(serve("--admin-token", "hunter2")) as server:
            for method, path in [
                ("POST", "/ports"), ("GET", "/ports"), ("DELETE", "/ports"), ("GET", "/ports/80"),
                ("DELETE", "/ports/80"), ("POST", "/ports/80/refuse"),
            ]:  # fmt: skip
                assert httpx.request(method, server.url + path, **PLAIN).status_code == 401, (method, path)
            known = {"authorization": "Bearer hunter2"}
            port = httpx.post(server.url + "/ports", headers=known, **PLAIN)
            assert port.status_code == 201
            assert httpx.post(port.json()["url"] + "/fail/reset", **PLAIN).status_code == 401

    @pytest.mark.parametrize(("host", "bound"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")])
    def test_an_address_is_loopback_unless_it_is_asked_for(self, host: str, bound: str) -> None:
        runner = Runner("hosts", ("asgi_fault", "serve", "--host", host, "--port", "0"))
        with running(runner, wait=False) as server:
            with contextlib.suppress(httpx.HTTPError):
                eventually(lambda: "listens on http://" in server.err, what="it listens")
            url = server.err.split("listens on ")[1].split()[0]
            eventually(lambda: _answers(url), what="it answers")
            assert httpx.post(url + "/ports", **PLAIN).json()["host"] == bound
            wide = httpx.post(url + "/ports", json={"host": "0.0.0.0"}, **PLAIN).json()
            assert (wide["host"], wide["url"]) == ("0.0.0.0", f"http://127.0.0.1:{wide['port']}")

    @pytest.mark.parametrize("name", ["uvicorn-h11-asyncio", "hypercorn"])
    def test_a_server_without_our_protocol_says_which_has_it(self, name: str) -> None:
        with running(RUNNERS[name]) as server:
            refused = httpx.post(server.url + "/ports", json={}, **PLAIN)
            assert (refused.status_code, refused.json()["error"]) == (501, "NotSupportedError")
            assert "`asgi-fault serve`" in refused.json()["message"]
            assert httpx.get(server.url + "/ports", **PLAIN).json() == {"ports": []}

    @pytest.mark.parametrize("kind", ["H11", "HttpTools"])
    def test_plain_uvicorn_with_our_protocol_has_them(self, kind: str) -> None:
        options = ("--host", "127.0.0.1", "--port", "0", "--http", f"asgi_fault.faults.wire:{kind}")
        with running(Runner("plain", ("uvicorn", "asgi_fault:app", *options))) as server:
            assert is_open(at(opened(server)))

    def test_workers_cannot_share_them(self) -> None:
        with running(serve("--workers", "2")) as server:
            refused = httpx.post(server.url + "/ports", **PLAIN)
            assert refused.status_code == 501
            assert "--workers 1" in refused.json()["message"]

    @BOTH
    def test_a_port_in_use_is_a_conflict(self, server: Server) -> None:
        taken = httpx.post(server.url + "/ports", json={"port": server.address[1]}, **PLAIN)
        assert (taken.status_code, taken.json()["error"]) == (409, "PortTakenError")
        port = opened(server)
        elsewhere = httpx.post(server.url + "/ports", json={"host": "127.0.0.9", "port": port["port"]}, **PLAIN)
        assert elsewhere.status_code == 409

    @BOTH
    def test_an_address_of_another_machine_is_a_mistake(self, server: Server) -> None:
        reply = httpx.post(server.url + "/ports", json={"host": "192.0.2.1"}, **PLAIN)
        assert reply.status_code == 422
        assert [violation["loc"] for violation in reply.json()["detail"]] == [["body", "host"]]

    @BOTH
    def test_documents_and_numbers_that_make_no_sense(self, server: Server) -> None:
        url = server.url + "/ports"
        plain = httpx.post(url, content=b"{}", headers={"content-type": "text/plain"}, **PLAIN)
        assert (plain.status_code, plain.headers["accept"]) == (415, "application/json")
        broken = httpx.post(url, content=b"{", headers={"content-type": "Application/JSON; charset=utf-8"}, **PLAIN)
        assert broken.json()["detail"][0]["type"] == "json_invalid"
        wrong = httpx.post(url, json={"then": {"close": 1}, "x": 2}, **PLAIN)
        assert [violation["loc"] for violation in wrong.json()["detail"]] == [["body", "then", "close"], ["body", "x"]]
        assert httpx.get(url, **PLAIN).json() == {"ports": []}
        for number, status in (("0", 422), ("abc", 422), ("65536", 422), ("1", 404)):
            assert httpx.get(f"{url}/{number}", **PLAIN).status_code == status
            assert httpx.delete(f"{url}/{number}", **PLAIN).status_code == status
        port = opened(server)
        assert httpx.post(f"{url}/{port['port']}/refuse", json={}, **PLAIN).json()["detail"][0]["type"] == "missing"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url + "/health", **PLAIN).status_code == 200
    except httpx.TransportError:
        return False


class TestDocuments:
    @pytest.mark.parametrize(
        ("document", "wanted"),
        [
            ({}, Wanted()),
            ({"tls": False, "then": {}, "connections": []}, Wanted()),
            ({"tls": {}}, Wanted(tls=True)),
            ({"tls": {"fault": "expired"}}, Wanted(tls=True, tls_fault="expired")),
            ({"host": "LocalHost", "port": 8080.0}, Wanted(host="127.0.0.1", port=8080)),
            ({"host": "0:0:0:0:0:0:0:1"}, Wanted(host="::1")),
            ({"then": {"silence_s": None}}, Wanted(then=Opening(end="silence"))),
            ({"then": {"silence_s": 2}}, Wanted(then=Opening(end="silence", silence=2.0))),
            ({"then": {"close": False, "reset": True}}, Wanted(then=Opening(end="reset"))),
            (
                {"connections": [{"delay_s": 1, "send": {"base64": "AP8="}, "close": True}]},
                Wanted(script=(Opening(delay=1.0, data=b"\x00\xff", end="close"),)),
            ),
            ({"then": {"send": {"text": "é"}}}, Wanted(then=Opening(data="é".encode()))),
        ],
    )
    def test_what_is_asked_for(self, document: Any, wanted: Wanted) -> None:
        assert read_port(document) == wanted

    @pytest.mark.parametrize(
        ("document", "kind", "loc"),
        [
            ([], "dict_type", ()),
            ({"ports": 1}, "extra_forbidden", ("ports",)),
            ({"partition": "a/b"}, "string_pattern_mismatch", ("partition",)),
            ({"partition": "x" * 65}, "string_pattern_mismatch", ("partition",)),
            ({"port": 65536}, "less_than_equal", ("port",)),
            ({"port": True}, "int_type", ("port",)),
            ({"host": "example.com"}, "value_error", ("host",)),
            ({"host": "fe80::1%eth0"}, "value_error", ("host",)),
            ({"host": "1.2.3.4.5"}, "value_error", ("host",)),
            ({"tls": "yes"}, "bool_type", ("tls",)),
            ({"tls": {"fault": "revoked"}}, "literal_error", ("tls", "fault")),
            ({"tls": {"faults": "expired"}}, "extra_forbidden", ("tls", "faults")),
            ({"connections": [{}] * 1001}, "too_long", ("connections",)),
            ({"connections": [{}, {"delay_s": -1}]}, "greater_than_equal", ("connections", 1, "delay_s")),
            ({"connections": [{"accept": "drop"}]}, "literal_error", ("connections", 0, "accept")),
            ({"connections": [{"close": True, "reset": True}]}, "value_error", ("connections", 0, "reset")),
            ({"connections": [{"accept": "serve", "close": True}]}, "value_error", ("connections", 0, "close")),
            ({"then": {"silence_s": None, "reset": True}}, "value_error", ("then", "reset")),
            ({"then": {"silence_s": "1"}}, "float_type", ("then", "silence_s")),
            ({"then": {"send": {}}}, "too_short", ("then", "send")),
            ({"then": {"send": {"text": "a", "base64": ""}}}, "too_long", ("then", "send")),
            ({"then": {"send": {"base64": "A"}}}, "string_pattern_mismatch", ("then", "send", "base64")),
            ({"then": {"send": {"text": "x" * 65537}}}, "string_too_long", ("then", "send", "text")),
            ({"refuse_s": 86401}, "less_than_equal", ("refuse_s",)),
        ],
    )
    def test_a_mistake_is_named_with_its_place(self, document: Any, kind: str, loc: tuple[Any, ...]) -> None:
        with pytest.raises(ValidationFailed) as refused:
            read_port(document)
        assert [(found["type"], tuple(found["loc"])) for found in refused.value.detail] == [  # type: ignore[attr-defined]
            (kind, ("body", *loc))
        ]

    def test_a_refusal(self) -> None:
        assert read_refusal({"seconds": 2}) == (2.0, "")
        assert read_refusal({"seconds": 0, "drop": "reset"}) == (0.0, "reset")
        for document in ({}, {"seconds": "2"}, {"seconds": 1, "drop": "kill"}, {"seconds": 1, "x": 1}):
            with pytest.raises(ValidationFailed):
                read_refusal(document)


class TestDocumentation:
    """What the OpenAPI document says of the ports is what a server answers."""

    @BOTH
    def test_every_answer_is_as_documented(self, server: Server) -> None:
        def check(method: str, target: str, template: str, status: int, **options: Any) -> Any:
            reply = httpx.request(method, server.url + target, **options, **PLAIN)
            assert reply.status_code == status, reply.text
            fields = [(name.lower(), value) for name, value in reply.headers.raw]
            assert_documented(Answer(status, fields, reply.content, complete=True), method, template)
            return reply.json()

        for body in PORT_BODIES.values():
            port = check("POST", "/ports", "/ports", 201, json=body)["port"]
        check("POST", "/ports", "/ports", 409, json={"port": port})
        check("POST", "/ports", "/ports", 422, json={"port": -1})
        check("POST", "/ports", "/ports", 415, content=b"{}")
        check("GET", "/ports", "/ports", 200)
        for refusal in REFUSAL_BODIES.values():
            check("POST", f"/ports/{port}/refuse", "/ports/{port}/refuse", 200, json=refusal)
        check("POST", "/ports/1/refuse", "/ports/{port}/refuse", 404, json={"seconds": 1})
        check("POST", f"/ports/{port}/refuse", "/ports/{port}/refuse", 422)
        for method in ("GET", "DELETE"):
            check(method, f"/ports/{port}", "/ports/{port}", 200)
            check(method, "/ports/0", "/ports/{port}", 422)
        check("GET", f"/ports/{port}", "/ports/{port}", 404)
        check("DELETE", "/ports", "/ports", 200)

    def test_without_connections_too(self) -> None:
        async def test(world: World) -> Answer:
            return await world.client.request("POST", "/ports")

        answer = in_world(test)
        assert answer.status == 501
        assert answer.json["message"] == NO_PORTS["message"]
        assert_documented(answer, "POST", "/ports")


class TestFromPython:
    def test_a_server_in_a_thread_opens_them_without_a_request(self) -> None:
        context = Context(Settings(host="127.0.0.1", log_level="ERROR"))
        config = uvicorn.Config(Application(context), host="127.0.0.1", port=0, http=wire.H11, log_level="critical")
        server = uvicorn.Server(config)
        loops: list[asyncio.AbstractEventLoop] = []

        async def main() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve()

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        try:
            eventually(lambda: server.started, what="it starts")

            async def open_ports() -> list[Port]:
                siblings = wire.Siblings.of(server)
                ports = context.ports
                return [ports.open(read_port(wanted), siblings, "mine") for wanted in ({}, {"partition": "red"})]

            mine, red = asyncio.run_coroutine_threadsafe(open_ports(), loops[0]).result(TIMEOUT)
            assert (mine.partition, red.partition) == ("mine", "red")
            assert httpx.get(red.url + "/msg", **PLAIN).status_code == 200

            async def refuse(*seconds: float) -> None:
                for each in seconds:
                    red.refuse(each)
                await asyncio.sleep(0.02)

            def seen() -> str:
                return how_it_ends((red.host, red.number), LAST)[:4]

            cases: list[tuple[tuple[float, ...], str]] = [
                ((9, 0), "HTTP"), ((0, 0), "HTTP"), ((0, 9), "refu"), ((9, 9, 0), "HTTP"),
                ((0.01, 9), "refu"), ((9, 1e-9), "HTTP"),
            ]  # fmt: skip
            for seconds, answer in cases:
                asyncio.run_coroutine_threadsafe(refuse(*seconds), loops[0]).result(TIMEOUT)
                eventually(lambda answer=answer: seen() == answer, what=f"after {seconds}")
            loops[0].call_soon_threadsafe(context.ports.close, mine)
            eventually(lambda: how_it_ends((mine.host, mine.number)) == "refused", what="it is closed")
        finally:
            server.should_exit = True
            thread.join()
        assert how_it_ends((red.host, red.number)) == "refused"

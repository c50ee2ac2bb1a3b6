"""Every effect of a rule as real clients see it: a bare socket that checks the bytes, curl, and `http.client`."""

import http.client
import select
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.asgi_fault.test_stopping import STOPS_WITHIN, in_progress
from tests.clients import ask, curl, read_exactly, read_to_the_end, read_up_to, relay, see_over_tls
from tests.fault_partition import FaultPartition, plain_client
from tests.missing import missing
from tests.processes import ADDRESS, RUNNERS, Pool, Runner, Server, eventually, running, serve
from tests.sockets import TIMEOUT, Connection, connected

PARSERS_AND_LOOPS = [name for name in RUNNERS if name.startswith("serve-")]
OUR_CLASS = "uvicorn --http HttpTools"
RUNNERS[OUR_CLASS] = Runner(
    OUR_CLASS, ("uvicorn", "asgi_fault:app", *ADDRESS, "--http", "asgi_fault.faults.wire:HttpTools")
)
ALL = pytest.mark.parametrize("partition", PARSERS_AND_LOOPS, indirect=True)
ALL_AND_UVICORN = pytest.mark.parametrize("partition", [*PARSERS_AND_LOOPS, OUR_CLASS], indirect=True)
TWO = pytest.mark.parametrize("partition", ["serve-h11-asyncio", "serve-httptools-uvloop"], indirect=True)
PLAIN_UVICORN = pytest.mark.parametrize("partition", ["uvicorn-h11-uvloop", "uvicorn-httptools-asyncio"], indirect=True)

TEXT = b"0123456789abcdef"
MEBIBYTE = 1 << 20
FORGED = {"status": 201, "headers": {"x-forged": "yes"}, "body": {"text": "forged"}}
FORGED_BYTES = (
    b"HTTP/1.1 201 Created\r\ncontent-type: text/plain; charset=utf-8\r\nx-forged: yes\r\n"
    b"content-length: 6\r\n\r\nforged"
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with plain_client() as client:
        yield client


@pytest.fixture
def partition(pool: Pool, client: httpx.Client, request: pytest.FixtureRequest) -> Iterator[FaultPartition]:
    """A partition of a server that the whole module shares, named after the test: randomness follows from the name."""
    server = pool[request.param]
    name = sha256(request.node.originalname.encode() + str(request.node.callspec.indices).encode()).hexdigest()[:32]
    yield FaultPartition(server, name, client)
    server.assert_no_defect()


def text_step(**step: Any) -> dict[str, Any]:
    return {"body": {"bytes": len(TEXT)}, **step}


def ending(how: str, at: str, **step: Any) -> dict[str, Any]:
    return {**step, "end": {"how": how, "at": at}}


@dataclass(frozen=True)
class Ended:
    """An effect after which the connection ends.

    Attributes:
        step: what is asked for.
        body: the bytes behind the head, None for no head.
        lengths: the values of Content-Length.
        end: how TCP ends.
        curl: its exit code.
        python: what `http.client` raises; nothing when empty.
        read: bytes of the body that `http.client` takes; as many as there are when None.
        by: who is said to have ended it.
        announced: the head says that the connection ends.
    """

    step: dict[str, Any]
    body: bytes | None = TEXT
    lengths: tuple[str, ...] = ("16",)
    end: str = "fin"
    curl: int = 0
    python: str = ""
    read: int | None = None
    by: str = "server-close"
    announced: bool = False


CUT = {"curl": 18, "python": "IncompleteRead"}
RESET = {"end": "reset", "curl": 56, "python": "ConnectionResetError", "read": 0, "by": "server-reset"}
HALF = {"by": "server-half-close"}
FILLER = TEXT * (MEBIBYTE // len(TEXT))

ENDED: dict[str, Ended] = {
    "close-before-head": Ended(ending("close", "before-head"), None, (), curl=52, python="RemoteDisconnected"),
    "close-after-head": Ended(ending("close", "after-head", **text_step()), b"", **CUT),
    "close-mid-body": Ended(ending("close", "mid-body", **text_step()), TEXT[:8], **CUT),
    "close-after-body": Ended(ending("close", "after-body", **text_step()), announced=True),
    "half-close-before-head": Ended(
        ending("half-close", "before-head"), None, (), curl=52, python="RemoteDisconnected", **HALF
    ),
    "half-close-after-head": Ended(ending("half-close", "after-head", **text_step()), b"", **CUT, **HALF),
    "half-close-mid-body": Ended(ending("half-close", "mid-body", **text_step()), TEXT[:8], **CUT, **HALF),
    "half-close-after-body": Ended(ending("half-close", "after-body", **text_step()), **HALF),
    "reset-before-head": Ended(ending("reset", "before-head"), None, (), **RESET),
    "reset-after-head": Ended(ending("reset", "after-head", **text_step()), b"", **RESET),
    "reset-mid-body": Ended(ending("reset", "mid-body", **text_step()), TEXT[:8], **RESET),
    # Both take the answer, which is complete, and do not look further.
    "reset-after-body": Ended(ending("reset", "after-body", **text_step()), end="reset", by="server-reset"),
    "truncate-0-bytes": Ended(text_step(truncate={"bytes": 0}), b"", **CUT),
    "truncate-15-bytes": Ended(text_step(truncate={"bytes": 15}), TEXT[:15], **CUT),
    "truncate-a-share": Ended(text_step(truncate={"share": 0.7}), TEXT[:11], **CUT),
    "truncate-a-mebibyte": Ended(
        {"body": {"bytes": MEBIBYTE}, "truncate": {"bytes": 700_001}}, FILLER[:700_001], (str(MEBIBYTE),), **CUT
    ),
    "truncate-and-reset": Ended(ending("reset", "mid-body", **text_step(truncate={"bytes": 3})), TEXT[:3], **RESET),
    "truncate-a-mebibyte-and-reset": Ended(
        ending("reset", "mid-body", body={"bytes": MEBIBYTE}, truncate={"bytes": 700_001}),
        FILLER[:700_001],
        (str(MEBIBYTE),),
        **RESET,
    ),
    "truncate-and-half-close": Ended(
        ending("half-close", "mid-body", **text_step(truncate={"bytes": 3})), TEXT[:3], **CUT, **HALF
    ),
    "content-length-too-long": Ended(text_step(content_length={"add": 5}), TEXT, ("21",), **CUT),
    "content-length-too-short": Ended(text_step(content_length={"add": -5}), TEXT, ("11",), read=11),
    "content-length-another": Ended(text_step(content_length={"value": 7}), TEXT, ("7",), read=7),
    "content-length-zero": Ended(text_step(content_length={"value": 0}), TEXT, ("0",), read=0),
    "content-length-of-no-content": Ended(
        {"status": 204, "content_length": {"value": 7}}, b"", ("7",)
    ),
    "content-length-missing": Ended(text_step(content_length="missing"), TEXT, (), announced=True),
    "content-length-duplicate": Ended(text_step(content_length="duplicate"), TEXT, ("16", "16"), announced=True),
    # curl believes the last, http.client the first.
    "content-length-conflicting": Ended(text_step(content_length="conflicting"), TEXT, ("16", "17"), curl=18),
    "bad-chunk": Ended(
        text_step(chunked="bad-chunk"),
        b"xyz\r\n" + TEXT + b"\r\n0\r\n\r\n",
        (),
        curl=56,
        python="IncompleteRead",
        read=0,
    ),
    "no-last-chunk": Ended(
        text_step(chunked="no-last-chunk"), b"10\r\n" + TEXT + b"\r\n", (), **CUT, read=16
    ),
    "chunked-and-half-close": Ended(
        ending("half-close", "after-body", **text_step(chunked="plain")),
        b"10\r\n" + TEXT + b"\r\n0\r\n\r\n", (), read=16, **HALF,
    ),
    "drip-the-head": Ended(text_step(drip={"bytes_per_s": 4000, "head": True}), announced=True),
    "stall-in-head": Ended(text_step(stall={"at": "in-head", "for_s": 0.05}), announced=True),
    "stall-then-reset": Ended(
        ending("reset", "before-head", stall={"at": "before-head", "for_s": 0.05}), None, (), **RESET
    ),
    "stall-mid-body-then-close": Ended(
        ending("close", "mid-body", **text_step(stall={"at": "mid-body", "for_s": 0.05})), TEXT[:8], **CUT
    ),
    "forge-and-close": Ended(
        ending("close", "after-body", **text_step(forge=FORGED)), TEXT + FORGED_BYTES, read=16, announced=True
    ),
    "forge-and-half-close": Ended(
        ending("half-close", "after-body", **text_step(forge=FORGED)), TEXT + FORGED_BYTES, read=16, **HALF
    ),
    "forge-within-the-body": Ended(
        text_step(forge=FORGED, content_length={"add": 5}), TEXT + FORGED_BYTES, ("21",), read=21
    ),
}  # fmt: skip
EFFECTS = pytest.mark.parametrize("effect", [pytest.param(effect, id=name) for name, effect in ENDED.items()])


class TestTheConnectionEnds:
    @ALL_AND_UVICORN
    @EFFECTS
    def test_with_exactly_these_bytes_and_in_this_way(self, partition: FaultPartition, effect: Ended) -> None:
        partition.set(effect.step, effect.step)
        for seen in (partition.see(), partition.see()):
            assert seen.end == effect.end
            if effect.body is None:
                assert seen.data == b""
                continue
            assert seen.status == effect.step.get("status", 200)
            assert (seen.body, seen.values("content-length")) == (effect.body, list(effect.lengths))
            assert len(seen.values("x-request-id")) == len(seen.values("x-correlation-id")) == 1
            assert len(seen.values("date")) == 1
            assert seen.values("connection") == (["close"] if effect.announced else [])
        for step, entry in enumerate(partition.entries(2, ended=True)):
            assert entry["status"] == (0 if effect.body is None else effect.step.get("status", 200))
            assert (entry["rule"], entry["step"], entry["ended"]) == ("r1", step, effect.by)
            assert entry["done_monotonic_s"] >= entry["monotonic_s"]
            assert entry["gap_s"] is None if step == 0 else entry["gap_s"] >= 0

    @TWO
    @EFFECTS
    def test_and_curl_says_so(self, partition: FaultPartition, effect: Ended) -> None:
        partition.set(effect.step)
        done = curl(partition.url())
        assert done.code == effect.curl, done
        if effect.body is not None and effect.lengths == ("16",) and not effect.step.get("forge"):
            assert done.body == effect.body

    @TWO
    @EFFECTS
    def test_and_python_says_so(self, partition: FaultPartition, effect: Ended) -> None:
        partition.set(effect.step)
        heard = ask(partition.server.address, partition.target())
        expected = len(effect.body or b"") if effect.read is None else effect.read
        assert (heard.error, heard.read) == (effect.python, expected)

    @ALL
    def test_a_reset_waits_for_a_client_that_reads_slowly(self, partition: FaultPartition) -> None:
        partition.set(ending("reset", "mid-body", body={"bytes": MEBIBYTE}, truncate={"bytes": 999_999}))
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(TIMEOUT)
            connection.connect(partition.server.address)
            connection.sendall(partition.request())
            select.select([connection], [], [], TIMEOUT)
            assert partition.entries() == [], "it was over before the client had anything"
            seen = read_to_the_end(connection, 4096)
        assert (seen.end, seen.body) == ("reset", FILLER[:999_999])

    @ALL
    @pytest.mark.parametrize("at", ["before-head", "after-head", "after-body"])
    def test_a_half_closed_connection_still_takes_bytes(self, partition: FaultPartition, at: str) -> None:
        partition.set(ending("half-close", at, **({} if at == "before-head" else text_step())))
        with socket.create_connection(partition.server.address, timeout=TIMEOUT) as connection:
            connection.sendall(partition.request())
            assert read_to_the_end(connection).end == "fin"
            for _ in range(3):
                connection.sendall(b"x" * 1000)
            assert partition.entries() == [], "the exchange lasts as long as the client stays"
            assert connection.recv(1) == b"", "a reset"
        assert [entry["ended"] for entry in partition.entries(1)] == ["server-half-close"]

    @ALL
    def test_a_real_answer_is_cut_too(self, partition: FaultPartition) -> None:
        partition.set({"truncate": {"bytes": 10}}, match={"path": "/msg"})
        seen = partition.see("/msg")
        whole = partition.see("/msg", "connection: close")
        assert (seen.status, seen.end, seen.values("content-length")) == (200, "fin", whole.values("content-length"))
        assert seen.body == whole.body[:10] == b'{"message_'

    @TWO
    @pytest.mark.parametrize(
        ("step", "length"),
        [
            (text_step(truncate={"bytes": 5}), ["16"]),
            (text_step(content_length={"add": 3}), ["19"]),
            (text_step(chunked="bad-chunk"), []),
            (text_step(chunked="no-last-chunk"), []),
            (ending("reset", "mid-body", **text_step()), ["16"]),
            (text_step(drip={"bytes_per_s": 4000, "head": True}), ["16"]),
        ],
    )
    def test_the_answer_to_a_head_request_has_no_body(
        self, partition: FaultPartition, step: dict[str, Any], length: list[str]
    ) -> None:
        partition.set(step)
        seen = partition.see(method="HEAD")
        assert (seen.status, seen.body, seen.values("content-length")) == (200, b"", length)
        assert seen.end == ("reset" if "end" in step else "fin")

    @ALL
    def test_a_request_with_a_body_is_read_before(self, partition: FaultPartition) -> None:
        body = b"b" * 300_000
        partition.set(ending("close", "before-head"), text_step(truncate={"bytes": 1}))
        for expected in (b"", TEXT[:1]):
            seen = partition.see("/orders", f"content-length: {len(body)}", method="POST", body=body)
            assert (seen.end, seen.body) == ("fin", expected)
        for entry in partition.entries(2):
            assert entry["body"] == {"bytes": len(body), "sha256": sha256(body).hexdigest()}

    @TWO
    def test_curl_sends_a_large_body_after_a_100(self, partition: FaultPartition, tmp_path: Path) -> None:
        partition.set(text_step(truncate={"bytes": 5}))
        (tmp_path / "body").write_bytes(b"b" * MEBIBYTE)
        done = curl(partition.url(), "--data-binary", f"@{tmp_path / 'body'}", "-H", "Expect: 100-continue")
        assert (done.code, done.out[:12], done.body) == (18, b"HTTP/1.1 100", TEXT[:5])


KEPT: dict[str, tuple[dict[str, Any], int, bytes | None]] = {
    "status": ({"status": 503}, 503, b'{"detail":"Service Unavailable"}'),
    "no-content": ({"status": 204}, 204, b""),
    "unusual-status": ({"status": 299, "body": {"text": "?"}}, 299, b"?"),
    "json": ({"status": 429, "body": {"json": {"a": [1]}}, "retry_after": 2}, 429, b'{"a":[1]}'),
    "base64": ({"body": {"base64": "AAH/"}}, 200, b"\0\1\xff"),
    "delay": (text_step(delay_s=0.05), 200, TEXT),
    "informational": (text_step(informational=[102, 103]), 200, TEXT),
    "drip": (text_step(drip={"bytes_per_s": 400}), 200, TEXT),
    "stall-before-head": (text_step(stall={"at": "before-head", "for_s": 0.05}), 200, TEXT),
    "stall-after-head": (text_step(stall={"at": "after-head", "for_s": 0.05}), 200, TEXT),
    "stall-mid-body": (text_step(stall={"at": "mid-body", "for_s": 0.05}), 200, TEXT),
    "chunked": (text_step(chunked="plain"), 200, TEXT),
    "redirect": ({"redirect": {"to": "/y", "status": 307}}, 307, None),
    "the-real-answer": ({}, 404, None),
    "headers-on-the-real-answer": ({"headers": {"x-a": ["1", "2"]}}, 404, None),
}
KEEPING = pytest.mark.parametrize("kept", list(KEPT))


class TestTheConnectionLivesOn:
    @ALL_AND_UVICORN
    @KEEPING
    def test_and_serves_the_next_request(self, partition: FaultPartition, kept: str) -> None:
        step, status, body = KEPT[kept]
        partition.set(step)
        with connected(partition.server.address) as connection:
            connection.send(partition.request())
            faulty = connection.read_reply()
            connection.send(partition.request("/msg"))
            real = connection.read_reply()
        assert faulty.status == status
        assert body is None or faulty.body == body
        assert real.status == 200
        assert b"message_id" in real.body
        first, second = partition.entries(2)
        assert (first["rule"], first["step"], first["status"]) == ("r1", 0, status)
        assert (second["rule"], second["status"]) == (None, 200)
        assert first["connection"]["id"] == second["connection"]["id"]
        assert (first["connection"]["ordinal"], second["connection"]["ordinal"]) == (1, 2)
        assert second["monotonic_s"] >= first["done_monotonic_s"]
        if "for_s" in step.get("stall", {}) or "delay_s" in step:
            assert first["done_monotonic_s"] - first["monotonic_s"] >= 0.045  # the loop's clock has a resolution

    @TWO
    @KEEPING
    def test_for_curl(self, partition: FaultPartition, kept: str) -> None:
        step, status, body = KEPT[kept]
        partition.set(step)
        done = curl(partition.url(), partition.url("/msg"), "-w", "\n%{http_code} %{num_connects}\n")
        assert done.code == 0, done
        assert f"\n{status} 1\n".encode() in done.out
        assert done.out.endswith(b"\n200 0\n"), "a second connection"
        assert body is None or body in done.out

    @TWO
    @pytest.mark.parametrize("kept", [name for name in KEPT if name != "informational"])
    def test_for_python(self, partition: FaultPartition, kept: str) -> None:
        step, status, body = KEPT[kept]
        partition.set(step)
        connection = http.client.HTTPConnection(*partition.server.address, timeout=TIMEOUT)
        connection.request("GET", partition.target())
        reply = connection.getresponse()
        got = reply.read()
        assert reply.status == status
        assert body is None or got == body
        connection.request("GET", partition.target("/msg"))
        assert connection.getresponse().status == 200
        connection.close()
        assert {entry["connection"]["ordinal"] for entry in partition.entries(2)} == {1, 2}

    @ALL
    def test_statuses_before_the_answer_byte_by_byte(self, partition: FaultPartition) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        steps = [
            text_step(informational=[103, 103]),
            text_step(informational=[103], truncate={"bytes": 3}),
            ending("close", "before-head", informational=[103]),
        ]
        partition.set(*steps)
        first, cut, ended = (partition.see("/x", "connection: close").data for _ in steps)
        assert first.startswith(early + early + b"HTTP/1.1 200 OK\r\n")
        assert first.endswith(b"\r\n\r\n" + TEXT)
        assert cut.startswith(early + b"HTTP/1.1 200 OK\r\n")
        assert cut.endswith(b"\r\n\r\n" + TEXT[:3])
        assert ended == early

    @TWO
    def test_statuses_before_the_answer_for_the_others(self, partition: FaultPartition) -> None:
        partition.set(*[text_step(informational=[103]), text_step(informational=[100])])
        assert curl(partition.url()).out.startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert ask(partition.server.address, partition.target()).status == 200

    @ALL
    def test_the_chunks_are_chunks(self, partition: FaultPartition) -> None:
        partition.set(text_step(chunked="plain"))
        seen = partition.see("/x", "connection: close")
        assert seen.values("transfer-encoding") == ["chunked"]
        assert seen.values("content-length") == []
        assert seen.body == b"10\r\n" + TEXT + b"\r\n0\r\n\r\n"

    @ALL
    def test_a_failure_of_fail_lies_beneath_the_rules(self, partition: FaultPartition) -> None:
        partition.set({"status": 418}, {"headers": {"x-rule": "1"}}, {"truncate": {"bytes": 5}}, match={"path": "/msg"})
        with partition.server.client(partition.name) as client:
            client.post("/fail/count/2")
        teapot, marked, cut, real = (partition.see("/msg", "connection: close") for _ in range(4))
        assert [seen.status for seen in (teapot, marked, cut, real)] == [418, 500, 500, 200]
        assert marked.values("x-rule") == ["1"]
        assert cut.body == marked.body[:5] == b'{"det'


class TestRedirects:
    @TWO
    def test_a_loop_has_no_end_and_stays_in_the_partition(self, partition: FaultPartition) -> None:
        partition.set(match={"path": "/a"}, then={"redirect": {"to": "loop"}})
        assert curl(partition.url("/a?q=1"), "-L", "--max-redirs", "3", "-o", "/dev/null").code == 47
        hops = [f"{partition.target('/a')}?q=1{hop}" for hop in ("", "&fault_hop=1", "&fault_hop=2", "&fault_hop=3")]
        assert [entry["target"] for entry in partition.entries(4)] == hops
        with pytest.raises(urllib.error.HTTPError, match="infinite loop"):
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(partition.url("/a"))

    @TWO
    def test_it_can_be_followed(self, partition: FaultPartition) -> None:
        partition.set({"redirect": {"to": "/msg", "status": 308}})
        done = curl(partition.url(), "-L")
        assert (done.code, b"HTTP/1.1 308 " in done.out, b"message_id" in done.body) == (0, True, True)


STALLS: dict[str, tuple[dict[str, Any], bytes, int]] = {
    "silence": ({"silence": True}, b"", 0),
    "before-head": (text_step(stall={"at": "before-head"}), b"", 0),
    "in-head": (text_step(stall={"at": "in-head"}), b"HTTP/1.1 200 OK\r\n", 200),
    "after-head": (text_step(stall={"at": "after-head"}), b"\r\n\r\n", 200),
    "mid-body": (text_step(stall={"at": "mid-body"}), b"\r\n\r\n" + TEXT[:8], 200),
    "a-slow-body": (text_step(drip={"bytes_per_s": 0.001}), b"\r\n\r\n" + TEXT[:1], 200),
    "a-slow-head": (text_step(drip={"bytes_per_s": 0.001, "head": True}), b"H", 200),
    "a-long-delay": (text_step(delay_s=10_000), b"", 0),
}
STALLING = pytest.mark.parametrize("stall", list(STALLS))


class TestTheAnswerNeverEnds:
    @ALL
    @STALLING
    @pytest.mark.parametrize("leave", ["fin", "reset"])
    def test_until_the_client_leaves(self, partition: FaultPartition, stall: str, leave: str) -> None:
        step, mark, status = STALLS[stall]
        partition.set(step)
        with socket.create_connection(partition.server.address, timeout=TIMEOUT) as connection:
            connection.sendall(partition.request())
            data = read_up_to(connection, mark)
            assert data.endswith(mark)
            assert partition.entries() == []
            if leave == "fin":
                connection.shutdown(socket.SHUT_WR)
                data += read_to_the_end(connection).data
                assert data.endswith(mark) or stall == "in-head"
                assert (b"\r\n\r\n" in data) == (stall in ("after-head", "mid-body", "a-slow-body"))
            else:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + bytes(7))
        (entry,) = partition.entries(1)
        assert (entry["status"], entry["rule"], entry["done_monotonic_s"]) == (status, "r1", None)
        assert entry["ended"] == f"client-{leave}"

    @TWO
    @pytest.mark.parametrize("stall", ["silence", "in-head", "mid-body", "a-slow-body"])
    def test_for_curl_and_python_with_a_time_limit(self, partition: FaultPartition, stall: str) -> None:
        partition.set(STALLS[stall][0], STALLS[stall][0])
        assert curl(partition.url(), "--max-time", "0.2").code == 28
        assert ask(partition.server.address, partition.target(), timeout=0.2).error == "TimeoutError"
        assert [entry["ended"] for entry in partition.entries(2)] == ["client-fin"] * 2

    @ALL
    @pytest.mark.parametrize("leave", ["close", "reset"])
    @pytest.mark.parametrize("when", ["at once", "later"])
    def test_when_the_client_leaves_with_another_request_behind(
        self, partition: FaultPartition, when: str, leave: str
    ) -> None:
        """The server stops reading for the one behind, and its parser's protocol knows of the last one only."""
        partition.set({"silence": True})
        with connected(partition.server.address) as connection:
            connection.send(partition.request() + (partition.request("/behind") if when == "at once" else b""))
            eventually(lambda: in_progress(partition.server) == 1)
            if when == "later":
                connection.send(partition.request("/behind"))
            eventually(lambda: in_progress(partition.server) == 1)
            getattr(connection, leave)()
        assert [entry["path"] for entry in partition.entries(1)] == ["/x"]


class TestPipelining:
    @ALL
    def test_answers_come_in_order(self, partition: FaultPartition) -> None:
        partition.set({"status": 503, "delay_s": 0.05}, match={"path": "/a"})
        partition.set(text_step(drip={"bytes_per_s": 400}, informational=[103]), match={"path": "/b"})
        with connected(partition.server.address) as connection:
            connection.send(b"".join(partition.request(path) for path in ("/a", "/b", "/msg", "/a")))
            assert [connection.read_reply().status for _ in range(4)] == [503, 200, 200, 404]
        assert [entry["connection"]["ordinal"] for entry in partition.entries(4)] == [1, 2, 3, 4]

    @ALL
    @pytest.mark.parametrize("how", ["close", "half-close", "reset"])
    @pytest.mark.parametrize("at", ["before-head", "mid-body"])
    def test_nothing_comes_behind_an_end(self, partition: FaultPartition, how: str, at: str) -> None:
        partition.set(ending(how, at, **({} if at == "before-head" else text_step())), match={"path": "/b"})
        with socket.create_connection(partition.server.address, timeout=TIMEOUT) as connection:
            connection.sendall(b"".join(partition.request(path) for path in ("/a", "/b", "/c")))
            seen = read_to_the_end(connection)
        assert seen.data.count(b"HTTP/1.1 404 ") == 1
        assert seen.data.count(b"HTTP/1.1 200 ") == (at == "mid-body")
        assert seen.end == ("reset" if how == "reset" else "fin")
        assert [entry["path"] for entry in partition.entries(2)] == ["/a", "/b"]


class TestForgery:
    @ALL
    def test_a_bare_socket_sees_it_right_behind_the_answer(self, partition: FaultPartition) -> None:
        partition.set(text_step(forge=FORGED))
        with socket.create_connection(partition.server.address, timeout=TIMEOUT) as connection:
            connection.sendall(partition.request())
            read_up_to(connection, b"\r\n\r\n")
            expected = TEXT + FORGED_BYTES
            assert read_exactly(connection, len(expected)) == expected
            connection.sendall(partition.request("/msg"))
            assert read_up_to(connection, b"\r\n") == b"HTTP/1.1 200 OK\r\n"

    @ALL
    @pytest.mark.parametrize("line", ["connection: close", "connection: Keep-Alive, Close"])
    def test_also_when_the_client_wants_nothing_more(self, partition: FaultPartition, line: str) -> None:
        partition.set(text_step(forge=FORGED))
        seen = partition.see("/x", line)
        assert (seen.body, seen.end) == (TEXT + FORGED_BYTES, "fin")

    @TWO
    def test_a_pooled_connection_of_python_takes_it_for_the_next_answer(self, partition: FaultPartition) -> None:
        """`http.client` throws away what it has read ahead; so the second answer comes in a packet of its own."""
        partition.set(text_step(forge=FORGED))
        with relay(partition.server.address, b"HTTP/1.1 201") as address:
            connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
            connection.request("GET", partition.target())
            assert connection.getresponse().read() == TEXT
            connection.request("GET", partition.target("/secret"))
            reply = connection.getresponse()
            assert (reply.status, reply.headers["x-forged"], reply.read()) == (201, "yes", b"forged")
            connection.request("GET", partition.target("/next"))
            assert connection.getresponse().status == 404  # the real answer, one request late
            connection.close()

    @TWO
    def test_and_so_does_curl(self, partition: FaultPartition) -> None:
        partition.set(text_step(forge=FORGED))
        with relay(partition.server.address, b"HTTP/1.1 201") as (host, port):
            urls = [f"http://{host}:{port}{partition.target(path)}" for path in ("/x", "/secret")]
            done = curl(*urls, "-w", "\n%{http_code} %{num_connects}\n")
        assert done.code == 0
        assert b"\n200 1\n" in done.out
        assert done.out.endswith(b"forged\n201 0\n")


class TestGarbage:
    def test_is_the_same_everywhere_and_another_each_time(self, pool: Pool, client: httpx.Client) -> None:
        seen: dict[str, list[bytes]] = {}
        for name in PARSERS_AND_LOOPS:
            partition = FaultPartition(pool[name], "garbage", client)
            partition.set(*[{"garbage": {"bytes": size}} for size in (1, 64, 64, 65_536)])
            answers = [partition.see() for _ in range(4)]
            assert {answer.end for answer in answers} == {"fin"}
            assert [(entry["status"], entry["ended"]) for entry in partition.entries(4)] == [(0, "server-close")] * 4
            seen[name] = [answer.data for answer in answers]
        first = seen.pop(PARSERS_AND_LOOPS[0])
        assert [len(data) for data in first] == [1, 64, 64, 65_536]
        assert first[1] != first[2]
        assert all(data == first for data in seen.values())

    @TWO
    def test_curl_and_python_do_not_take_it_for_an_answer(self, partition: FaultPartition) -> None:
        partition.set({"garbage": {"bytes": 64}}, {"garbage": {"bytes": 64}})
        assert curl(partition.url()).code == 1  # "Received HTTP/0.9 when not allowed"
        assert ask(partition.server.address, partition.target()).error == "BadStatusLine"


class TestStopping:
    @pytest.mark.parametrize("name", [*PARSERS_AND_LOOPS, OUR_CLASS])
    def test_ends_every_fault_that_lasts(self, name: str, client: httpx.Client) -> None:
        lasting = [step for step, _, _ in STALLS.values()]
        lasting += [
            ending(how, at, body={"bytes": MEBIBYTE})
            for how in ("half-close", "reset")
            for at in ("mid-body", "after-body")
        ]
        lasting += [ending("half-close", "before-head"), text_step(chunked="plain", stall={"at": "mid-body"})]
        with running(RUNNERS[name]) as server, ExitStack() as stack:
            connections: list[Connection] = []
            for number, step in enumerate(lasting):
                partition = FaultPartition(server, f"p{number}", client)
                partition.set(step)
                connections.append(stack.enter_context(connected(server.address)))
                # With one behind it, which is never answered.
                connections[-1].send(partition.request() + (partition.request("/behind") if number % 2 else b""))
            eventually(lambda: in_progress(server) == len(lasting), what="all last")
            server.signal(signal.SIGINT)
            assert server.wait_for_end(STOPS_WITHIN) == 0
            answers = [connection.read_to_the_end() for connection in connections]
            told = [data for data in answers if data.startswith(b"HTTP/1.1 503 ")]
            assert len(told) == 3, "silence, stall before-head, delay"
            for data in answers:
                assert data in told or data.count(b"HTTP/1.1 ") <= 1, "an answer behind one that had begun"
            assert "ASGI callable returned without" not in server.err
            server.assert_no_defect()


class TestPlainUvicorn:
    @PLAIN_UVICORN
    @pytest.mark.parametrize(
        ("step", "at"),
        [
            ({"informational": [103]}, ["informational"]),
            (text_step(drip={"bytes_per_s": 10, "head": True}), ["drip", "head"]),
            ({"stall": {"at": "in-head"}}, ["stall", "at"]),
            ({"truncate": {"bytes": 1}}, ["truncate"]),
            ({"content_length": "missing"}, ["content_length"]),
            ({"chunked": "bad-chunk"}, ["chunked"]),
            ({"chunked": "no-last-chunk"}, ["chunked"]),
            (ending("reset", "before-head"), ["end"]),
            (ending("half-close", "after-body"), ["end"]),
            (ending("close", "mid-body"), ["end"]),
            ({"garbage": {"bytes": 1}}, ["garbage"]),
            ({"forge": FORGED}, ["forge"]),
        ],
        ids=str,
    )
    def test_refuses_what_it_cannot_do_and_names_who_can(
        self, partition: FaultPartition, step: dict[str, Any], at: list[str]
    ) -> None:
        with partition.server.client(partition.name) as client:
            answer = client.post("/faults", json={"script": [{}, step]})
            assert client.get("/faults").json() == {"rules": []}
        (violation,) = answer.json()["detail"]
        assert answer.status_code == 422
        assert violation["loc"] == ["body", "script", 1, *at]
        assert "asgi-fault serve" in violation["msg"]
        assert "--http asgi_fault.faults.wire:HttpTools" in violation["msg"]

    @PLAIN_UVICORN
    @pytest.mark.parametrize("kept", [name for name in KEPT if name != "informational"])
    def test_does_what_needs_no_more(self, partition: FaultPartition, kept: str) -> None:
        step, status, body = KEPT[kept]
        partition.set(step)
        with connected(partition.server.address) as connection:
            connection.send(partition.request() + partition.request("/msg"))
            faulty, real = connection.read_reply(), connection.read_reply()
        assert (faulty.status, real.status) == (status, 200)
        assert body is None or faulty.body == body
        assert [entry["rule"] for entry in partition.entries(2)] == ["r1", None]

    @PLAIN_UVICORN
    def test_closes_after_the_body(self, partition: FaultPartition) -> None:
        partition.set(ending("close", "after-body", **text_step()))
        seen = partition.see()
        assert (seen.body, seen.end, seen.values("connection")) == (TEXT, "fin", ["close"])

    @PLAIN_UVICORN
    @pytest.mark.parametrize("stall", ["silence", "before-head", "after-head", "mid-body", "a-slow-body"])
    def test_never_ends_until_the_client_leaves(self, partition: FaultPartition, stall: str) -> None:
        step, mark, status = STALLS[stall]
        partition.set(step)
        with socket.create_connection(partition.server.address, timeout=TIMEOUT) as connection:
            connection.sendall(partition.request())
            assert read_up_to(connection, mark).endswith(mark)
        (entry,) = partition.entries(1)
        assert (entry["status"], entry["done_monotonic_s"]) == (status, None)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with a certificate for 127.0.0.1 and its key."""
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    options = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    command = ["openssl", "req", "-x509", *options, "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        missing("there is no openssl command to make a certificate with")
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return str(path)


@pytest.fixture(scope="module", params=["h11-asyncio", "httptools-asyncio", "h11-uvloop", "httptools-uvloop"])
def https(request: pytest.FixtureRequest, certificate: str) -> Iterator[Server]:
    http, loop = request.param.split("-")
    with running(serve("--ssl-certfile", certificate, "--http", http, "--loop", loop)) as server:
        yield server
        # The test's own client keeps an idle connection, and does not say goodbye.
        server.signal(signal.SIGINT)
        server.wait_for_end(STOPS_WITHIN)
        server.assert_no_defect()


class TestHttps:
    @pytest.mark.parametrize(
        "name",
        [
            "close-before-head",
            "close-mid-body",
            "close-after-body",
            "half-close-after-head",
            "reset-before-head",
            "reset-mid-body",
            "truncate-15-bytes",
            "truncate-a-mebibyte",
            "bad-chunk",
        ],
    )
    def test_has_the_same_ends(self, https: Server, client: httpx.Client, name: str) -> None:
        effect = ENDED[name]
        partition = FaultPartition(https, name, client)
        partition.set(effect.step, effect.step)
        seen = see_over_tls(partition.server.address, partition.request())
        assert seen.end == effect.end
        assert seen.data == b"" if effect.body is None else seen.body == effect.body
        assert curl(partition.url(), "-k").code == effect.curl
        # TLS has no half-close here: it is a close.
        by = "server-close" if effect.by == "server-half-close" else effect.by
        assert [entry["ended"] for entry in partition.entries(2, ended=True)] == [by] * 2

    @pytest.mark.parametrize("stall", ["silence", "in-head", "mid-body"])
    def test_a_client_may_leave(self, https: Server, client: httpx.Client, stall: str) -> None:
        partition = FaultPartition(https, stall, client)
        partition.set(STALLS[stall][0])
        assert curl(partition.url(), "-k", "--max-time", "0.2").code == 28
        (entry,) = partition.entries(1)
        assert (entry["done_monotonic_s"], entry["ended"]) == (None, "client-fin")

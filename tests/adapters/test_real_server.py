"""Every adapter against the project's own server in a process of its own: the journal says what really went out."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import pytest

from sansio_client.backoff import Constant
from sansio_client.breaker import BreakerSettings
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.policy import Policy
from tests.adapters.stacks import STACKS, Job, Stack
from tests.fault_partition import FaultPartition, plain_client
from tests.processes import Server, running, serve

QUICK = Policy(backoff=Constant(0.01))
ONCE = QUICK.replace(max_attempts=1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(serve()) as server:
        yield server


@pytest.fixture(scope="module")
def control() -> Iterator[httpx.Client]:
    with plain_client() as client:
        yield client


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> Stack:
    return STACKS[request.param]()


@pytest.fixture
def peer(server: Server, control: httpx.Client, request: pytest.FixtureRequest) -> Iterator[FaultPartition]:
    """A partition for this test alone."""
    name = sha256(request.node.nodeid.encode()).hexdigest()[:32]
    yield FaultPartition(server, name, control)
    server.assert_no_defect()


def induce(peer: FaultPartition, path: str) -> Any:
    return peer.client.post(peer.url(path)).raise_for_status().json()


def test_failures_that_pass_are_survived(stack: Stack, peer: FaultPartition) -> None:
    induce(peer, "/fail/count/2")
    assert stack.one(QUICK, Job(peer.url("/msg"))).status == 200
    entries = peer.entries(3)
    assert [entry["status"] for entry in entries] == [500, 500, 200]
    assert [entry["attempt"] for entry in entries] == [1, 2, 3], "all are attempts of one call"
    assert len({entry["connection"]["id"] for entry in entries}) == 1, "a retry does not cost a connection"
    numbers = [entry["headers"].get("retry-attempt") for entry in entries]
    assert numbers == (["0", "1", "2"] if stack.numbers else [None] * 3)


def test_p45_failures_that_last_are_handed_on_as_the_peer_said_them(stack: Stack, peer: FaultPartition) -> None:
    induce(peer, "/fail/count/9")
    result = stack.one(QUICK, Job(peer.url("/msg")))
    assert result.status == 500
    assert len(peer.entries(3)) == 3


def test_a_breaker_opens_and_recovers_with_exactly_one_probe_of_50_callers(stack: Stack, peer: FaultPartition) -> None:
    induce(peer, "/fail/count/5")
    breaker = BreakerSettings(consecutive_failures=5, open_seconds=0.3, open_jitter=0.0)
    job = Job(peer.url("/msg"))
    slow = Job(peer.url("/msg?delay=500"))  # so long that all 50 are there before it is back
    results = stack.run(ONCE.replace(breaker=breaker), [[job] * 5, [job] * 5, 0.35, [slow] * 50, [job]])
    failed, refused, probing, (recovered,) = results
    assert [result.status for result in failed] == [500] * 5
    assert {result.status for result in refused} == {0}
    assert all({"CircuitOpen", "CircuitOpenError"} & set(result.error) for result in refused)
    assert sorted(result.status for result in probing) == [0] * 49 + [200]
    assert recovered.status == 200
    assert [entry["status"] for entry in peer.entries(7)] == [500] * 5 + [200] * 2


def test_the_bulkhead_queues(stack: Stack, peer: FaultPartition) -> None:
    policy = QUICK.replace(bulkhead=BulkheadSettings(limit=3, queue_timeout=5.0))
    (results,) = stack.run(policy, [[Job(peer.url("/msg?delay=30"))] * 9])
    assert [result.status for result in results] == [200] * 9
    entries = peer.entries(9)
    moments = [(entry["monotonic_s"], 1) for entry in entries] + [(entry["done_monotonic_s"], -1) for entry in entries]
    inside = most = 0
    for _, step in sorted(moments):
        inside += step
        most = max(most, inside)
    assert most == 3


def test_a_wait_in_the_queue_is_bounded(stack: Stack, peer: FaultPartition) -> None:
    policy = QUICK.replace(bulkhead=BulkheadSettings(limit=1, queue_limit=1, queue_timeout=0.05))
    (results,) = stack.run(policy, [[Job(peer.url("/msg?delay=250"))] * 3])
    assert sorted(result.status for result in results) == [0, 0, 200]
    for result in results:
        assert result.status or {"BulkheadFull", "PoolTimeoutError"} & set(result.error)
    assert len(peer.entries(1)) == 1


def test_p18_retry_after_is_never_shortened(stack: Stack, peer: FaultPartition) -> None:
    asks = {"status": 503, "headers": {"retry-after-ms": "60"}}
    peer.set({**asks, "status": 429}, asks, {"status": 200, "body": {"text": "good"}})
    assert stack.one(QUICK, Job(peer.url())).body == b"good"
    gaps = [entry["gap_s"] for entry in peer.entries(3)]
    assert min(gaps[1:]) >= 0.060


def test_p18_a_longer_retry_after_than_allowed_is_handed_on(stack: Stack, peer: FaultPartition) -> None:
    peer.set({"status": 503, "retry_after": 61}, {"status": 200})
    assert stack.one(QUICK, Job(peer.url())).status == 503
    assert len(peer.entries(1)) == 1


def test_retry_after_in_seconds(peer: FaultPartition) -> None:
    peer.set({"status": 503, "retry_after": 1}, {"status": 200})
    assert STACKS["httpx2-client-asyncio"]().one(QUICK, Job(peer.url())).status == 200
    assert peer.entries(2)[1]["gap_s"] >= 1.0


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"end": {"how": "close", "at": "before-head"}}], ids=["503", "close"]
)
def test_p22_a_post_is_sent_once_without_a_key(stack: Stack, peer: FaultPartition, fault: dict[str, Any]) -> None:
    peer.set(fault, {"status": 201})
    result = stack.one(QUICK, Job(peer.url(), "POST", body=b"order"))
    assert result.status == fault.get("status", 0)
    if not result.status:
        assert "RemoteProtocolError" in result.error
    assert len(peer.entries(1)) == 1


def test_p22_and_with_a_key_again_with_the_same(stack: Stack, peer: FaultPartition) -> None:
    peer.set({"status": 503}, {"end": {"how": "close", "at": "before-head"}}, {"status": 201})
    job = Job(peer.url(), "POST", {"Idempotency-Key": '"order-7"'}, b"order")
    assert stack.one(QUICK, job).status == 201
    entries = peer.entries(3)
    assert [entry["headers"]["idempotency-key"] for entry in entries] == ['"order-7"'] * 3
    assert len({entry["body"]["sha256"] for entry in entries}) == 1
    assert entries[0]["body"]["bytes"] == 5


def test_a_connection_closed_without_a_reply_is_retried(stack: Stack, peer: FaultPartition) -> None:
    peer.set(
        {"end": {"how": "close", "at": "before-head"}}, {"end": {"how": "reset", "at": "before-head"}}, {"status": 200}
    )
    assert stack.one(QUICK, Job(peer.url())).status == 200
    assert len(peer.entries(3)) == 3


@pytest.mark.parametrize(
    "cut", [{"truncate": {"bytes": 3}}, {"end": {"how": "reset", "at": "mid-body"}}], ids=["cut", "reset"]
)
def test_p21_a_body_that_breaks_off(stack: Stack, peer: FaultPartition, cut: dict[str, Any]) -> None:
    whole = {"body": {"text": "0123456789"}}
    peer.set({**whole, **cut}, whole)
    result = stack.one(QUICK, Job(peer.url()))
    if stack.reads_body:
        assert result.body == b"0123456789"
        assert len(peer.entries(2)) == 2
    else:  # the application was reading it already, so it is the one to know
        assert {"RemoteProtocolError", "ReadError"} & set(result.error)
        assert len(peer.entries(1)) == 1


def test_p38_a_broken_body_of_an_error_is_no_obstacle(stack: Stack, peer: FaultPartition) -> None:
    peer.set({"status": 503, "body": {"text": "0123456789"}, "truncate": {"bytes": 3}}, {"status": 200})
    assert stack.one(QUICK, Job(peer.url())).status == 200
    assert len(peer.entries(2)) == 2


def test_an_answer_that_does_not_come_ends_with_its_attempt(stack: Stack, peer: FaultPartition) -> None:
    peer.set({"stall": {"at": "before-head"}}, {"status": 200, "body": {"text": "good"}})
    assert stack.one(QUICK.replace(attempt_timeout=0.15), Job(peer.url())).body == b"good"
    assert len(peer.entries(2)) == 2


def test_p23_a_refused_connection_is_retried_by_default(stack: Stack, peer: FaultPartition) -> None:
    port = peer.client.post(peer.url("/ports"), json={"refuse_s": 0.1}).raise_for_status().json()
    policy = QUICK.replace(max_attempts=100, backoff=Constant(0.02), breaker=None)
    assert stack.one(policy, Job(f"{port['url']}/created", "POST")).status == 404  # never sent before: even a POST
    assert len(peer.entries(1)) == 1


def test_p23_a_connection_that_is_reset_at_once_is_retried(stack: Stack, peer: FaultPartition) -> None:
    script = {"connections": [{"reset": True}, {"close": True}]}
    port = peer.client.post(peer.url("/ports"), json=script).raise_for_status().json()
    assert stack.one(QUICK, Job(f"{port['url']}/msg")).status == 200
    assert len(peer.entries(1)) == 1

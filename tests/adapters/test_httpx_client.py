"""`ResilientClient`: the façade's names, what it raises, what it repeats, what it logs and what it never does."""

import io
import logging
import random
import re
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import pytest

from adapters import httpx as ours
from adapters.httpx import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BudgetExhaustedError,
    BulkheadConfig,
    CircuitBreakerConfig,
    CircuitOpenError,
    ClientConfig,
    DeadlineExceededError,
    InvalidRequestError,
    LoggingConfig,
    MyAPIError,
    NotFoundError,
    PoolTimeoutError,
    ResilientClient,
    RetryConfig,
    ServerError,
    ServerTimeoutError,
    ServiceUnavailableError,
    TimeoutConfig,
)
from sansio_client.backoff import Exponential, NoBackoff, Spread
from sansio_client.budget import GrpcThrottle
from sansio_client.errors import SettingError
from sansio_client.outcome import DEFINITE, FAILURE, SUCCESS
from sansio_client.policy import Policy
from sansio_client.ratelimit import RateLimit
from tests.adapters.libraries import NAMES, Peer, World, find, now

BASE = "http://user:secret@api.example/v1"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
EXACT = RetryConfig(jitter=False)


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return find(request.param)


@pytest.fixture(params=["asyncio", "trio"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def client_of(peer: Peer, *, on_event: Any = None, **settings: Any) -> ResilientClient:
    settings.setdefault("retry", EXACT)
    config = ClientConfig(base_url=BASE, **settings)
    return ResilientClient(config, transport=peer, module=peer.module, clock=now, on_event=on_event)


def call(world: World, peer: Peer, method: str = "get", path: str = "/msg", *, on: Any = None, **options: Any) -> Any:
    """What one call gives: the response or the exception. Settings of the client are those `ClientConfig` knows."""
    settings = {
        name: options.pop(name) for name in list(options) if name in ClientConfig.__slots__ and name != "headers"
    }
    if "key" in options:
        options["idempotency_key"] = options.pop("key")

    async def main() -> Any:
        async with client_of(peer, on_event=on, **settings) as client:
            try:
                return await getattr(client, method)(path, **options)
            except Exception as error:  # noqa: BLE001 - a result like any other
                return error

    return world.run(main)


async def never(world: World) -> Any:
    await world.sleep(100_000)


class TestNames:
    def test_the_documented_defaults(self) -> None:
        assert RetryConfig() == RetryConfig(
            max_attempts=3, min_wait_seconds=1.0, max_wait_seconds=60.0, exponential_base=2, jitter=True
        )
        assert CircuitBreakerConfig() == CircuitBreakerConfig(
            failure_threshold=5, recovery_timeout=30.0, expected_exception=None
        )
        assert BulkheadConfig() == BulkheadConfig(max_concurrency=10, acquisition_timeout=5.0)
        assert TimeoutConfig() == TimeoutConfig(connect=5.0, read=30.0, write=30.0, pool=10.0, total=120.0)
        assert LoggingConfig() == LoggingConfig(level="INFO", logger_name="resilient_client")

    def test_the_tree_of_exceptions(self) -> None:
        assert APIError is MyAPIError
        parents = {
            APIConnectionError: MyAPIError,
            APITimeoutError: APIConnectionError,
            ServerTimeoutError: APIConnectionError,
            ServiceUnavailableError: APIConnectionError,
            ServerError: APIConnectionError,
            APIStatusError: MyAPIError,
            AuthenticationError: APIStatusError,
            NotFoundError: APIStatusError,
            InvalidRequestError: APIStatusError,
            PoolTimeoutError: MyAPIError,
            CircuitOpenError: APIConnectionError,
            BudgetExhaustedError: MyAPIError,
            DeadlineExceededError: APITimeoutError,
        }
        assert {kind: kind.__base__ for kind in parents} == parents
        assert {kind.__name__ for kind in parents} <= set(ours.__all__)

    @pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
    def test_the_methods(self, world: World, module: ModuleType, method: str) -> None:
        peer = Peer(module, 200)
        answer = call(world, peer, method, "/things", params={"a": "b"}, headers={"h": "i"})
        assert (answer.status_code, answer.content) == (200, b"body")
        assert peer.requests[0].method == method.upper()
        assert peer.requests[0].url.path == "/v1/things"
        assert peer.requests[0].url.query == b"a=b"
        assert peer.sent("h") == ["i"]

    def test_the_settings_become_a_policy(self) -> None:
        policy = ClientConfig().to_policy()
        assert (policy.max_attempts, policy.total_timeout, policy.max_retry_after) == (3, 120.0, 60.0)
        assert policy.backoff == Spread(1.0, 60.0, 2)
        breaker, bulkhead = policy.breaker, policy.bulkhead
        assert breaker is not None
        assert bulkhead is not None
        assert (breaker.consecutive_failures, breaker.open_seconds, breaker.open_growth) == (5, 30.0, 1.0)
        assert (breaker.open_seconds_max, breaker.open_jitter, breaker.probes) == (30.0, 0.0, 1)
        assert (breaker.window, breaker.slow_call_seconds) == (None, None)
        assert (bulkhead.limit, bulkhead.queue_timeout) == (10, 5.0)
        bare = ClientConfig(
            retry=None, circuit_breaker=None, bulkhead=None, timeout=TimeoutConfig(total=None)
        ).to_policy()
        assert (bare.max_attempts, bare.breaker, bare.bulkhead, bare.total_timeout) == (1, None, None, float("inf"))
        assert ClientConfig(retry=RetryConfig(max_retry_after=7.0)).to_policy().max_retry_after == 7.0
        mine = Policy(max_attempts=7)
        assert ClientConfig(policy=mine, retry=None).to_policy() is mine

    def test_the_laws_of_waiting(self) -> None:
        assert RetryConfig(jitter=False, min_wait_seconds=0.5, exponential_base=3).backoff() == Exponential(
            0.5, 60.0, 3
        )
        assert RetryConfig(min_wait_seconds=0).backoff() == NoBackoff()
        law = RetryConfig(jitter=False, min_wait_seconds=0.0001, max_wait_seconds=0.0005).backoff()
        assert law.delay(0, 0.5, 0.0, 0.0) == 0.001

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (lambda: RetryConfig(max_attempts=0), "retry.max_attempts is 0; expected an integer, 1 to 1000"),
            (lambda: RetryConfig(min_wait_seconds=-1), "retry.min_wait_seconds is -1; expected seconds"),
            (lambda: RetryConfig(max_wait_seconds=0.5), "retry.max_wait_seconds is 0.5; expected seconds, 1 to"),
            (lambda: RetryConfig(exponential_base=0.5), "retry.exponential_base is 0.5; expected a number, 1 or more"),
            (lambda: RetryConfig(max_retry_after=-1), "retry.max_retry_after"),
            (lambda: RetryConfig(classify=5), "retry.classify is 5; expected a function"),
            (lambda: CircuitBreakerConfig(failure_threshold=0), "circuit_breaker.failure_threshold"),
            (lambda: CircuitBreakerConfig(recovery_timeout=float("inf")), "circuit_breaker.recovery_timeout"),
            (
                lambda: CircuitBreakerConfig(expected_exception=(ValueError, "x")),
                "circuit_breaker.expected_exception is",
            ),
            (lambda: BulkheadConfig(max_concurrency=0), "bulkhead.max_concurrency"),
            (lambda: BulkheadConfig(acquisition_timeout=-1), "bulkhead.acquisition_timeout"),
            (lambda: BulkheadConfig(queue_limit=-1), "bulkhead.queue_limit"),
            (lambda: TimeoutConfig(read=0), "timeout.read is 0; expected more than 0 seconds; None for no limit"),
            (lambda: TimeoutConfig(total="soon"), "timeout.total is 'soon'"),
            (lambda: LoggingConfig(level="LOUD"), "logging.level is 'LOUD'; expected one of DEBUG"),
            (lambda: LoggingConfig(level=True), "logging.level is True"),
            (lambda: LoggingConfig(logger_name=""), "logging.logger_name"),
            (lambda: ClientConfig(timeout=None), "timeout is None; expected TimeoutConfig"),
            (lambda: ClientConfig(retry=3), "retry is 3; expected RetryConfig"),
        ],
    )
    def test_a_setting_out_of_range_is_named_with_its_range(self, make: Any, said: str) -> None:
        with pytest.raises(SettingError, match=re.escape(said)):
            make()

    def test_the_steps_have_their_limits(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 200)
        call(world, peer, timeout=TimeoutConfig(connect=1.0, read=float("inf"), write=None))
        assert peer.requests[0].extensions["timeout"] == {"connect": 1.0, "read": None, "write": None, "pool": 10.0}

    def test_its_own_pool_is_no_smaller_than_its_bulkhead(self, world: World, module: ModuleType) -> None:
        async def main() -> None:
            for limit, connections in ((10, 100), (300, 300)):
                config = ClientConfig(bulkhead=BulkheadConfig(max_concurrency=limit))
                async with ResilientClient(config, module=module, verify=False) as client:
                    assert client._client._transport._pool._max_connections == connections
            await ResilientClient(module=module, verify=False).aclose()

        world.run(main)


class TestWhatIsRaised:
    @pytest.mark.parametrize(
        ("status", "kind", "attempts"),
        [
            (400, InvalidRequestError, 1),
            (401, AuthenticationError, 1),
            (403, AuthenticationError, 1),
            (404, NotFoundError, 1),
            (408, ServerTimeoutError, 3),
            (409, APIStatusError, 1),
            (422, InvalidRequestError, 1),
            (429, APIStatusError, 3),
            (500, ServerError, 3),
            (501, ServerError, 1),
            (502, ServiceUnavailableError, 3),
            (503, ServiceUnavailableError, 3),
            (504, ServiceUnavailableError, 3),
            (505, ServerError, 1),
            (507, ServerError, 1),
        ],
    )
    def test_each_status_has_its_class_and_number_of_attempts(
        self, world: World, module: ModuleType, status: int, kind: type, attempts: int
    ) -> None:
        peer = Peer(module, (status, {"retry-after": "2"} if attempts == 3 else {}, [b"why"]))
        error = call(world, peer, request_id="r-1")
        assert type(error) is kind
        assert (error.response.status_code, error.response.content) == (status, b"why")
        assert error.attempts == len(peer.requests) == attempts
        assert error.request_id == "r-1"
        assert error.retry_after == (2.0 if attempts == 3 else None)
        assert error.reason == ("attempts" if attempts == 3 else "fatal")
        assert f"GET http://api.example/v1/msg: {status} ({attempts} attempt" in str(error)

    @pytest.mark.parametrize(
        ("name", "kind", "attempts"),
        [
            ("ConnectError", APIConnectionError, 3),
            ("ReadError", APIConnectionError, 3),
            ("WriteError", APIConnectionError, 3),
            ("CloseError", APIConnectionError, 3),
            ("RemoteProtocolError", APIConnectionError, 3),
            ("ProxyError", APIConnectionError, 3),
            ("DecodingError", APIConnectionError, 3),
            ("ConnectTimeout", APITimeoutError, 3),
            ("ReadTimeout", APITimeoutError, 3),
            ("WriteTimeout", APITimeoutError, 3),
            ("PoolTimeout", PoolTimeoutError, 1),
            ("LocalProtocolError", MyAPIError, 1),
            ("UnsupportedProtocol", MyAPIError, 1),
            ("TooManyRedirects", MyAPIError, 1),
            ("StreamError", MyAPIError, 1),
        ],
    )
    def test_p23_each_exception_has_its_class_and_is_retried_by_default(
        self, world: World, module: ModuleType, name: str, kind: type, attempts: int
    ) -> None:
        peer = Peer(module, getattr(module, name))
        error = call(world, peer)
        assert type(error) is kind
        assert type(error.__cause__) is getattr(module, name)
        assert error.response is None
        assert error.attempts == len(peer.requests) == attempts
        assert UUID.fullmatch(error.request_id)
        assert f"{name} ({attempts} attempt" in str(error)

    def test_what_is_nobodys_to_translate_passes_through(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, ZeroDivisionError)
        assert type(call(world, peer)) is ZeroDivisionError
        assert len(peer.requests) == 1

    def test_a_redirect_is_an_answer(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (302, {"location": "/elsewhere"}, []), 200)
        assert call(world, peer).status_code == 302
        peer = Peer(module, (302, {"location": "/elsewhere"}, []), 200)
        assert call(world, peer, follow_redirects=True).status_code == 200

    def test_p18_a_retry_after_that_is_too_long_ends_the_call_and_is_told(
        self, world: World, module: ModuleType
    ) -> None:
        peer = Peer(module, (429, {"retry-after": "61"}, [b"later"]), 200)
        error = call(world, peer)
        assert type(error) is APIStatusError
        assert (error.retry_after, error.reason, error.attempts) == (61.0, "retry-after", 1)
        assert error.response.content == b"later"

    def test_a_peer_that_says_no_more_names_no_time(self, world: World, module: ModuleType) -> None:
        error = call(world, Peer(module, (503, {"x-should-retry": "false"}, [])))
        assert (error.retry_after, error.reason) == (None, "told-not-to")

    def test_the_total_deadline(self, world: World, module: ModuleType) -> None:
        async def main() -> Any:
            async with client_of(Peer(module, lambda _: never(world)), timeout=TimeoutConfig(total=7.0)) as client:
                began = now()
                with pytest.raises(
                    DeadlineExceededError, match=r"msg: the time for the call is over \(1 attempt\)"
                ) as caught:
                    await client.get("/msg")
                assert now() - began == pytest.approx(7.0)
                began = now()
                with pytest.raises(DeadlineExceededError):
                    await client.get("/msg", total_timeout=2.0)
                assert now() - began == pytest.approx(2.0)
                return caught.value

        error = world.run(main)
        assert (error.attempts, error.response, error.reason) == (1, None, "deadline")

    def test_p45_the_deadline_does_not_hide_what_the_peer_said(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (503, {}, [b"busy"]), lambda _: never(world))
        error = call(world, peer, timeout=TimeoutConfig(total=7.0))
        assert type(error) is ServiceUnavailableError
        assert (error.attempts, error.reason, error.response.content) == (2, "deadline", b"busy")
        peer = Peer(module, module.ReadError, lambda _: never(world))
        error = call(world, peer, timeout=TimeoutConfig(total=7.0))
        assert type(error) is APIConnectionError
        assert type(error.__cause__) is module.ReadError

    def test_an_attempts_own_limit(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, lambda _: never(world))
        policy = Policy(max_attempts=2, attempt_timeout=3.0, backoff=NoBackoff())
        error = call(world, peer, policy=policy)
        assert type(error) is APITimeoutError
        assert (error.attempts, error.response, error.reason) == (2, None, "attempts")

    def test_p45_a_breaker_that_opens_during_the_retries_does_not_hide_the_503(
        self, world: World, module: ModuleType
    ) -> None:
        breaker = CircuitBreakerConfig(failure_threshold=2, recovery_timeout=30.0, retry_on_open=False)
        peer = Peer(module, (503, {}, [b"busy"]))

        async def main() -> tuple[Any, Any]:
            async with client_of(peer, circuit_breaker=breaker) as client:
                with pytest.raises(ServiceUnavailableError) as first:
                    await client.get("/msg")
                await world.sleep(10)
                with pytest.raises(CircuitOpenError) as second:
                    await client.get("/msg")
                assert second.value.retry_at == pytest.approx(now() + second.value.retry_after)
                return first.value, second.value

        first, second = world.run(main)
        assert (first.attempts, first.reason, first.response.content) == (2, "open", b"busy")
        assert (second.attempts, second.reason, second.response) == (0, "open", None)
        assert second.retry_after == pytest.approx(30.0 - 10.0 - 2.0)  # it opened before the second back-off
        assert UUID.fullmatch(second.request_id)

    def test_a_call_under_way_waits_for_the_breaker_by_default(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 503, 200)
        assert call(world, peer, circuit_breaker=CircuitBreakerConfig(failure_threshold=2)).status_code == 200
        assert peer.gaps == pytest.approx([1.0, 30.0])

    def test_p45_an_empty_budget_does_not_hide_the_503(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503)
        error = call(world, peer, budget=GrpcThrottle(max_tokens=2))
        assert type(error) is ServiceUnavailableError
        assert error.reason == "budget"
        assert error.attempts == len(peer.requests) < 3

    def test_our_own_pace(self, world: World, module: ModuleType) -> None:
        policy = Policy(rate_limit=RateLimit(0.001), total_timeout=5.0)

        async def main() -> None:
            async with client_of(Peer(module, 200), policy=policy) as client:
                await client.get("/msg")
                with pytest.raises(BudgetExhaustedError, match="rate limiter has no permit") as caught:
                    await client.get("/msg")
                assert (caught.value.reason, caught.value.attempts) == ("rate", 0)

        world.run(main)


class TestWhatIsRepeated:
    def test_the_request_id_is_the_same_on_all_attempts_and_new_for_each_call(
        self, world: World, module: ModuleType
    ) -> None:
        peer = Peer(module, 503, 503, 200, 503, 200)

        async def main() -> None:
            async with client_of(peer) as client:
                await client.get("/msg")
                await client.get("/msg")

        world.run(main)
        ids = peer.sent("X-Request-ID")
        assert len(set(ids[:3])) == len(set(ids[3:])) == 1
        assert ids[0] != ids[3]
        assert all(UUID.fullmatch(value or "") for value in ids)
        assert peer.sent("Retry-Attempt") == ["0", "1", "2", "0", "1"]

    @pytest.mark.parametrize("method", ["post", "patch"])
    def test_p22_a_post_is_sent_once_by_default(self, world: World, module: ModuleType, method: str) -> None:
        for step in (503, module.ReadTimeout, module.RemoteProtocolError):
            peer = Peer(module, step, 200)
            error = call(world, peer, method, json={"a": 1})
            assert (error.reason, error.attempts, len(peer.requests)) == ("unsafe", 1, 1)

    def test_p22_an_id_that_was_only_passed_on_makes_nothing_repeatable(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)
        error = call(world, peer, "post", headers={"X-Request-ID": "from-upstream"})
        assert (error.reason, error.request_id) == ("unsafe", "from-upstream")
        assert peer.sent("X-Request-ID") == ["from-upstream"]
        peer = Peer(module, 503, 200)
        assert call(world, peer, "post", request_id="").reason == "unsafe"

    def test_p22_a_post_with_an_explicit_request_id_is_repeated(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, module.ReadError, 200)
        assert (
            call(world, peer, "post", request_id="order-7", json={}, headers={"x-request-id": "no"}).status_code == 200
        )
        assert peer.sent("X-Request-ID") == ["order-7"] * 3
        assert peer.sent("Idempotency-Key") == [None] * 3

    def test_p22_a_post_with_a_key_is_repeated_with_the_same(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, module.ReadError, 200)
        assert call(world, peer, "post", key=True).status_code == 200
        keys = peer.sent("Idempotency-Key")
        assert len(keys) == 3
        assert len(set(keys)) == 1
        assert UUID.fullmatch((keys[0] or "").strip('"'))
        peer = Peer(module, 503, 200)
        call(world, peer, "post", key="mine")
        assert peer.sent("Idempotency-Key") == ['"mine"', '"mine"']
        peer = Peer(module, 503, 200)
        call(world, peer, "post", headers={"Idempotency-Key": "bare"}, key=True)
        assert peer.sent("Idempotency-Key") == ["bare", "bare"]

    def test_the_client_may_send_keys_always(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200, 200, 503, 200)

        async def main() -> None:
            async with client_of(peer, idempotency_key=True) as client:
                await client.post("/msg")
                await client.get("/msg")
                with pytest.raises(ServiceUnavailableError):
                    await client.post("/msg", idempotency_key=False)

        world.run(main)
        keys = peer.sent("Idempotency-Key")
        assert keys[0] == keys[1] is not None
        assert keys[2:] == [None, None]

    def test_a_post_that_was_never_processed_is_sent_again(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, module.ConnectError, 200)
        assert call(world, peer, "post").status_code == 200

    def test_a_request_may_bring_its_own_terms(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503)
        policy = Policy(max_attempts=5, backoff=NoBackoff(), breaker=None)
        assert call(world, peer, extensions={"resilience": {"policy": policy}}).attempts == 5
        assert call(world, peer, "post", extensions={"resilience": {"may_repeat": True}}).attempts == 3
        assert call(world, peer, "put", content=b"", extensions={"resilience": {"replayable": False}}).reason == "body"
        assert call(world, peer, extensions={"resilience": {"timeout": 0.5}}).reason == "deadline"
        with pytest.raises(TypeError, match="has attempts; it may have"):
            raise call(world, peer, extensions={"resilience": {"attempts": 5}})

    def test_the_caller_may_know_better(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)
        assert call(world, peer, "post", may_repeat=True).status_code == 200
        peer = Peer(module, 503, 200)
        assert call(world, peer, "get", may_repeat=False).reason == "unsafe"

    def test_p20_a_body_that_is_used_up_is_not_sent_again_and_the_error_is_the_first(
        self, world: World, module: ModuleType
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"abc"

        for make in (lambda: {"content": body()}, lambda: {"files": {"a": io.BytesIO(b"abc")}}):
            peer = Peer(module, (503, {}, [b"busy"]), 200)
            error = call(world, peer, "put", **make())
            assert type(error) is ServiceUnavailableError
            assert (error.reason, error.response.content, len(peer.bodies)) == ("body", b"busy", 1)

    def test_p20_a_body_in_memory_is_the_same_on_all_attempts(self, world: World, module: ModuleType) -> None:
        for body in ({"json": {"a": 1}}, {"data": {"a": "b"}}, {"content": b"abc"}, {"files": {"a": b"abc"}}):
            peer = Peer(module, 503, module.ReadError, 200)
            call(world, peer, "put", **body)
            assert len(peer.bodies) == 3
            assert len(set(peer.bodies)) == 1

    @pytest.mark.parametrize("failure", ["RemoteProtocolError", "ReadError", "ReadTimeout", "DecodingError"])
    def test_p21_a_body_that_breaks_off_or_stalls_is_a_failure_of_its_attempt(
        self, world: World, module: ModuleType, failure: str
    ) -> None:
        broken = (200, {"content-length": "9"}, [b"half", getattr(module, failure)("broken")])
        peer = Peer(module, broken, broken, (200, {}, [b"all"]))
        assert call(world, peer).content == b"all"
        assert [event for event in peer.events if event.endswith("closed")][:2] == ["1 closed", "2 closed"]
        peer = Peer(module, broken)
        error = call(world, peer)
        assert isinstance(error, APITimeoutError if failure == "ReadTimeout" else APIConnectionError)
        assert error.attempts == 3
        peer = Peer(module, broken, 200)
        assert call(world, peer, "post").reason == "unsafe"

    def test_p21_a_body_that_stalls_for_ever_ends_with_the_attempt(self, world: World, module: ModuleType) -> None:
        class Stalling(module.AsyncByteStream):  # type: ignore[misc, name-defined]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"half"
                await never(world)

        stalling = module.Response(200, stream=Stalling())
        peer = Peer(module, stalling, 200)
        policy = Policy(attempt_timeout=5.0, backoff=NoBackoff())
        assert call(world, peer, policy=policy).content == b"body"
        assert peer.gaps == pytest.approx([5.0])
        assert stalling.is_closed

    def test_a_caller_that_goes_ends_the_attempt_and_there_is_no_other(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, lambda _: never(world))

        async def main() -> float:
            async with client_of(peer, bulkhead=BulkheadConfig(max_concurrency=1)) as client:
                began = now()
                for _ in range(3):
                    assert await world.within(2.0, lambda: client.get("/msg")) is None
                return now() - began

        assert world.run(main) == pytest.approx(6.0)
        assert len(peer.requests) == 3

    def test_p21_the_slot_is_taken_until_the_body_is_read(self, world: World, module: ModuleType) -> None:
        class Slow(module.AsyncByteStream):  # type: ignore[misc, name-defined]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                await world.sleep(3)
                yield b"slow"

        peer = Peer(module, lambda _: module.Response(200, stream=Slow()))

        async def main() -> None:
            async with client_of(peer, bulkhead=BulkheadConfig(max_concurrency=1)) as client:
                await world.together(*[lambda: client.get("/msg")] * 2)

        world.run(main)
        assert peer.gaps == pytest.approx([3.0])


class TestSettingsAtWork:
    def test_waits_without_jitter_are_the_exact_exponential(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503)
        retry = RetryConfig(max_attempts=6, min_wait_seconds=1.0, max_wait_seconds=5.0, jitter=False)
        call(world, peer, retry=retry, circuit_breaker=None)
        assert peer.gaps == pytest.approx([1.0, 2.0, 4.0, 5.0, 5.0])

    def test_waits_with_jitter_keep_both_names_true(self, world: World, module: ModuleType) -> None:
        gaps: list[list[float]] = [[], [], []]
        dice = random.Random(3)
        for _ in range(30):
            peer = Peer(module, 503)

            async def main(peer: Peer = peer) -> None:
                config = ClientConfig(retry=RetryConfig(max_attempts=4, max_wait_seconds=6.0), circuit_breaker=None)
                async with ResilientClient(
                    config, transport=peer, module=module, clock=now, random=dice.random
                ) as client:
                    with pytest.raises(ServiceUnavailableError):
                        await client.get("http://a/")

            world.run(main)
            for retry, gap in enumerate(peer.gaps):
                gaps[retry].append(gap)
        for seen, longest in zip(gaps, [2.0, 4.0, 6.0], strict=True):
            assert 1.0 <= min(seen) < 1.0 + longest / 4
            assert longest * 0.8 < max(seen) <= longest
            assert len(set(seen)) == 30

    def test_the_breaker_opens_after_five_failures_for_30_seconds_each_time_and_lets_one_probe_through(
        self, world: World, module: ModuleType
    ) -> None:
        peer = Peer(module, 503)

        async def main() -> list[float]:
            opened = []
            async with client_of(peer, retry=None) as client:
                for failures in (5, 1, 1, 1):
                    for _ in range(failures):
                        with pytest.raises(ServiceUnavailableError):
                            await client.get("/msg")
                    with pytest.raises(CircuitOpenError) as caught:
                        await client.get("/msg")
                    opened.append(caught.value.retry_after)
                    await world.sleep(29.9)
                    with pytest.raises(CircuitOpenError):
                        await client.get("/msg")
                    await world.sleep(0.1)
                sent = len(peer.requests)
                results = await world.together(*[lambda: client.get("/msg")] * 50)
                assert len(peer.requests) == sent + 1
                assert sum(isinstance(result, CircuitOpenError) for result in results) == 49
                return opened

        assert world.run(main) == pytest.approx([30.0] * 4)

    def test_a_success_between_resets_the_count(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, *[503, 503, 503, 503, 200] * 4)

        async def main() -> None:
            async with client_of(peer, retry=None) as client:
                await world.together(*[lambda: client.get("/msg")] * 20)

        world.run(main)
        assert len(peer.requests) == 20

    def test_expected_exception_narrows_what_the_breaker_counts(self, world: World, module: ModuleType) -> None:
        def failures_until_open(step: Any, expected: Any) -> int:
            breaker = CircuitBreakerConfig(failure_threshold=3, expected_exception=expected)
            peer = Peer(module, step)

            async def main() -> None:
                async with client_of(peer, retry=None, circuit_breaker=breaker) as client:
                    for _ in range(10):
                        with pytest.raises(MyAPIError):
                            await client.get("/msg")

            world.run(main)
            return len(peer.requests)

        assert failures_until_open(503, ServiceUnavailableError) == 3
        assert failures_until_open(503, (APITimeoutError, APIConnectionError)) == 3
        assert failures_until_open(500, ServiceUnavailableError) == 10
        assert failures_until_open(module.ReadTimeout, APITimeoutError) == 3
        assert failures_until_open(module.ReadTimeout, module.ReadTimeout) == 3
        assert failures_until_open(module.ReadError, module.ReadTimeout) == 10
        assert failures_until_open(404, NotFoundError) == 10

    def test_an_unexpected_failure_proves_nothing_but_an_answer_does(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, module.ReadTimeout, module.ConnectError, 500)
        breaker = CircuitBreakerConfig(failure_threshold=1, recovery_timeout=1.0, expected_exception=APITimeoutError)
        states = []

        def look(event: Any) -> None:
            if event[1] == "breaker":
                states.append((len(peer.requests), event[4]))

        async def main() -> None:
            async with client_of(peer, retry=None, circuit_breaker=breaker, on_event=look) as client:
                for _ in range(3):
                    with pytest.raises(MyAPIError):
                        await client.get("/msg")
                    await world.sleep(1.0)

        world.run(main)
        assert states == [(1, "OPEN"), (1, "HALF_OPEN"), (3, "CLOSED")]

    def test_ten_at_once_and_the_others_wait_up_to_five_seconds(self, world: World, module: ModuleType) -> None:
        async def slow(_: Any) -> int:
            await world.sleep(3)
            return 200

        peer = Peer(module, slow)

        async def main() -> tuple[list[Any], float]:
            began = now()
            async with client_of(peer) as client:
                return await world.together(*[lambda: client.get("/msg")] * 25), began

        results, began = world.run(main)
        assert [time - began for time in peer.times] == pytest.approx([0.0] * 10 + [3.0] * 10)
        refused = [result for result in results if isinstance(result, PoolTimeoutError)]
        assert len(refused) == 5
        assert {(error.reason, error.attempts) for error in refused} == {("queue-timeout", 0)}

    def test_a_full_queue_refuses_at_once(self, world: World, module: ModuleType) -> None:
        async def slow(_: Any) -> int:
            await world.sleep(1)
            return 200

        bulkhead = BulkheadConfig(max_concurrency=1, queue_limit=2)

        async def main() -> list[Any]:
            async with client_of(Peer(module, slow), bulkhead=bulkhead) as client:
                results: list[Any] = await world.together(*[lambda: client.get("/msg")] * 5)
                return results

        refused = [result for result in world.run(main) if isinstance(result, PoolTimeoutError)]
        assert [error.reason for error in refused] == ["full", "full"]

    def test_retry_conditions_of_the_users_own(self, world: World, module: ModuleType) -> None:
        def classify(response: Any, error: Exception | None) -> Any:
            if error is None and b"pending" in response.content:
                return FAILURE
            if error is None and response.status_code == 404:
                return SUCCESS
            return DEFINITE if isinstance(error, module.ReadError) else None

        retry = RetryConfig(classify=classify)
        peer = Peer(module, (200, {}, [b"pending"]), 503, (200, {}, [b"ready"]))
        assert call(world, peer, retry=retry).content == b"ready"
        assert call(world, Peer(module, 404), retry=retry).status_code == 404
        assert call(world, Peer(module, module.ReadError, 200), retry=retry).attempts == 1
        error = call(world, Peer(module, (200, {}, [b"pending"])), retry=retry)
        assert type(error) is APIStatusError
        assert (error.attempts, error.response.content) == (3, b"pending")

    def test_headers_of_the_client_are_sent_and_not_shown(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 200)
        headers = {"X-Api-Key": "s3cret"}

        async def main() -> None:
            async with client_of(peer, headers=headers) as client:
                await client.get("/msg")
                assert "s3cret" not in repr(client.config)

        world.run(main)
        assert peer.sent("X-Api-Key") == ["s3cret"]

    def test_a_call_in_a_resilient_call_is_sent_once(self, world: World, module: ModuleType) -> None:
        from adapters.asyncio import Resilient as Asyncio
        from adapters.trio import Resilient as Trio

        outer = (Asyncio if world.name == "asyncio" else Trio)(Policy(backoff=NoBackoff()), clock=now)
        peer = Peer(module, 503)

        async def main() -> None:
            async with client_of(peer) as client:
                with pytest.raises(ServiceUnavailableError):
                    (await outer.run(lambda _: client.get("/msg"), may_repeat=True)).unwrap()

        world.run(main)
        assert len(peer.requests) == 1


class TestLog:
    def lines(
        self, world: World, peer: Peer, caplog: pytest.LogCaptureFixture, level: str, **options: Any
    ) -> list[str]:
        """What the client writes, as `LEVEL text`."""
        logger = logging.getLogger("resilient_client")
        logger.setLevel(level)
        try:
            with caplog.at_level("DEBUG"):
                call(world, peer, **options)
        finally:
            logger.setLevel(logging.NOTSET)
        records = [record for record in caplog.records if record.name == "resilient_client"]
        return [f"{record.levelname} {record.getMessage()}" for record in records]

    def test_attempt_n_of_m_and_the_wait_and_the_reason(
        self, world: World, module: ModuleType, caplog: pytest.LogCaptureFixture
    ) -> None:
        peer = Peer(module, 503, module.ReadTimeout, 200)
        assert self.lines(world, peer, caplog, "INFO") == [
            "INFO GET http://api.example/v1/msg: attempt 1 of 3 failed (503), next in 1.000 s",
            "INFO GET http://api.example/v1/msg: attempt 2 of 3 failed (ReadTimeout), next in 2.000 s",
            "INFO GET http://api.example/v1/msg: succeeded at attempt 3 of 3",
        ]
        first = next(record for record in caplog.records if record.name == "resilient_client")
        assert first.__dict__["retry_num"] == 1
        assert first.__dict__["caused_by"] == "503"
        assert first.__dict__["wait_for"] == 1.0
        assert first.__dict__["waited_so_far"] == 0.0

    def test_failures_and_refusals(self, world: World, module: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
        lines = self.lines(world, Peer(module, module.ConnectError), caplog, "WARNING")
        assert lines == [
            "WARNING GET http://api.example/v1/msg: failed at attempt 3 of 3 (ConnectError), no more is tried: attempts"
        ]

    def test_a_deadline_without_an_answer_is_not_blamed_on_the_attempt_before(
        self, world: World, module: ModuleType, caplog: pytest.LogCaptureFixture
    ) -> None:
        peer = Peer(module, 503, lambda _: never(world))
        lines = self.lines(world, peer, caplog, "WARNING", timeout=TimeoutConfig(total=9.0))
        assert lines == [
            "WARNING GET http://api.example/v1/msg: failed at attempt 2 of 3 (timed-out), no more is tried: deadline"
        ]

    def test_a_good_call_is_a_line_for_debugging_only(
        self, world: World, module: ModuleType, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert self.lines(world, Peer(module, 200), caplog, "INFO") == []
        assert self.lines(world, Peer(module, 200), caplog, "DEBUG") == ["DEBUG GET http://api.example/v1/msg: 200"]

    def test_no_secret_is_ever_written(
        self, world: World, module: ModuleType, caplog: pytest.LogCaptureFixture
    ) -> None:
        def leaking(request: Any) -> Any:
            raise module.ReadError(f"cannot read {request.url} {request.headers}")

        for script in ([503, 200], [leaking], [404], [200], [module.ConnectError]):
            error = None
            peer = Peer(module, *script)
            headers = {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "Cookie": "session=s3cret"}
            self.lines(
                world,
                peer,
                caplog,
                "DEBUG",
                path="/msg?token=s3cret&a=b#s3cret",
                headers=headers,
                params={"sig": "s3cret"},
            )
            error = call(world, peer, path="/msg?token=s3cret", headers=headers)
            assert "s3cret" not in str(error)
            assert "secret" not in str(error)
        written = [record for record in caplog.records if record.name == "resilient_client"]
        assert len(written) > 8
        for record in written:
            assert "secret" not in record.getMessage()
            assert "s3cret" not in repr(record.__dict__)

    def test_levels_are_the_applications_where_it_has_set_one(self) -> None:
        logger = logging.getLogger("resilient_client.test")
        assert LoggingConfig(level="debug", logger_name=logger.name).logger() is logger
        assert logger.level == logging.DEBUG
        LoggingConfig(level=35, logger_name=logger.name).logger()
        assert logger.level == logging.DEBUG
        assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
        assert logger.propagate

    def test_it_can_be_silent(self, world: World, module: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
        assert self.lines(world, Peer(module, 503), caplog, "DEBUG", logging=None) == []
        seen: list[Any] = []
        call(world, Peer(module, 503, 200), logging=None, on=seen.append)
        assert [event[1] for event in seen][:2] == ["start", "send"]

"""The httpx transports: what is sent again and what is not, what is closed when, and what the application gets."""

import io
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from adapters import httpx as ours
from adapters import httpx_held
from adapters.calling import AttemptView, Finished
from adapters.httpx import AsyncResilientTransport, ResilientTransport
from adapters.httpx_requests import HttpJudge, copy_of, is_replayable, key_of, library, limit_steps, response_of
from sansio_client.backoff import Constant, NoBackoff
from sansio_client.breaker import BreakerSettings
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.errors import CallRejected, CircuitOpen, DeadlineExceeded, SettingError
from sansio_client.outcome import BREAKER_IGNORE, DEFINITE, FAILURE, FATAL, Rejected
from sansio_client.policy import Hedge, Policy
from tests.adapters.libraries import NAMES, Peer, World, find, forget, now

URL = "http://api.example/things?token=abc"
QUICK = Policy(backoff=NoBackoff())
STEADY = Policy(backoff=Constant(1.0))


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return find(request.param)


@pytest.fixture(params=["asyncio", "trio"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def transport_of(peer: Peer, policy: Policy | None = STEADY, **options: Any) -> Any:
    return AsyncResilientTransport(peer, policy, module=peer.module, clock=now, **options)


def send(world: World, peer: Peer, policy: Policy | None = STEADY, method: str = "GET", **options: Any) -> Any:
    """What a client with the transport gets: the response, read, or the exception."""
    names = ("on_event", "classify", "idempotency_key", "attempt_header", "random", "tracing")
    made = {name: options.pop(name) for name in names if name in options}

    async def main() -> Any:
        async with peer.module.AsyncClient(transport=transport_of(peer, policy, **made)) as client:
            try:
                return await client.request(method, URL, **options)
            except Exception as error:  # noqa: BLE001 - a result like any other
                return error

    return world.run(main)


class TestWhatIsSentAgain:
    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_a_get_is_sent_again_after_a_passing_status(self, world: World, module: ModuleType, status: int) -> None:
        peer = Peer(module, status, status, 200)
        assert send(world, peer).status_code == 200
        assert len(peer.requests) == 3

    @pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 409, 413, 422, 501, 505, 507])
    def test_a_final_status_is_handed_on_as_it_is(self, world: World, module: ModuleType, status: int) -> None:
        peer = Peer(module, status)
        answer = send(world, peer)
        assert (answer.status_code, answer.content) == (status, b"body")
        assert len(peer.requests) == 1

    @pytest.mark.parametrize(
        "name", ["ConnectError", "ConnectTimeout", "ReadError", "ReadTimeout", "RemoteProtocolError", "WriteError"]
    )
    def test_p23_every_passing_failure_is_retried_by_default(self, world: World, module: ModuleType, name: str) -> None:
        peer = Peer(module, getattr(module, name), 200)
        assert send(world, peer, None).status_code == 200
        assert len(peer.requests) == 2

    @pytest.mark.parametrize("name", ["PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"])
    def test_a_failure_of_this_side_is_not(self, world: World, module: ModuleType, name: str) -> None:
        peer = Peer(module, getattr(module, name), 200)
        assert type(send(world, peer)) is getattr(module, name)
        assert len(peer.requests) == 1

    def test_a_failure_of_this_side_is_not_held_against_the_peer(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, *[module.PoolTimeout] * 20, 200)

        async def main() -> Any:
            transport = transport_of(peer)
            async with module.AsyncClient(transport=transport) as client:
                for _ in range(20):
                    with pytest.raises(module.PoolTimeout):
                        await client.get(URL)
                return await client.get(URL)

        assert world.run(main).status_code == 200

    def test_the_last_answer_is_the_peers_own_when_all_attempts_fail(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (503, {"x-which": "1"}, [b"one"]), (500, {"x-which": "2"}, [b"two"]))
        answer = send(world, peer, STEADY.replace(max_attempts=2))
        assert (answer.status_code, answer.headers["x-which"], answer.content) == (500, "2", b"two")

    def test_the_last_exception_is_the_peers_own_and_says_how_often(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, module.ReadError)
        error = send(world, peer)
        assert type(error) is module.ReadError
        assert any("3 attempts" in note for note in error.__notes__)

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_p22_a_post_is_sent_once_without_a_key(self, world: World, module: ModuleType, method: str) -> None:
        for failure in (503, module.ReadTimeout, module.RemoteProtocolError, module.WriteError):
            peer = Peer(module, failure, 200)
            send(world, peer, method=method, headers={"X-Request-ID": "trace-1"})
            assert len(peer.requests) == 1

    @pytest.mark.parametrize("step", ["ConnectError", "ConnectTimeout", 425])
    def test_p22_a_post_that_was_never_processed_is_sent_again(
        self, world: World, module: ModuleType, step: str | int
    ) -> None:
        peer = Peer(module, getattr(module, step) if isinstance(step, str) else step, 200)
        assert send(world, peer, method="POST", content=b"x").status_code == 200
        assert peer.bodies[-1] == b"x"
        assert len(peer.requests) == 2

    def test_p22_a_post_with_a_key_is_sent_again_with_the_same(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)
        send(world, peer, method="POST", headers={"Idempotency-Key": "mine"})
        assert peer.sent("Idempotency-Key") == ["mine", "mine"]

    def test_one_key_is_made_for_each_call_that_needs_one(self, world: World, module: ModuleType) -> None:
        keys = set()
        for _ in range(3):
            peer = Peer(module, 503, 503, 200)
            send(world, peer, method="POST", idempotency_key=True)
            assert len(set(peer.sent("Idempotency-Key"))) == 1
            keys.add(peer.sent("Idempotency-Key")[0])
        assert len(keys) == 3
        assert all(len(key or "") == 38 and (key or "")[0] == '"' for key in keys)
        peer = Peer(module, 200)
        send(world, peer, method="PUT", idempotency_key=True)
        assert peer.sent("Idempotency-Key") == [None]

    def test_an_empty_key_is_none(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)
        send(world, peer, method="POST", headers={"Idempotency-Key": ""})
        assert len(peer.requests) == 1


class Replayable:
    """Some users have streams that can be read again, and say so."""

    replayable = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"again"


def generator() -> Iterator[bytes]:
    yield b"abc"


async def async_generator() -> AsyncIterator[bytes]:
    yield b"abc"


class TestP20Bodies:
    BODIES: ClassVar[dict[str, dict[str, Any]]] = {
        "bytes": {"content": b"abc"},
        "text": {"content": "abc"},
        "nothing": {},
        "json": {"json": {"a": 1}},
        "form": {"data": {"a": "1"}},
        "multipart": {"files": {"a": b"abc", "b": ("name.txt", "text")}, "data": {"c": "d"}},
    }

    @pytest.mark.parametrize("kind", BODIES)
    def test_p20_a_body_in_memory_is_the_same_on_every_attempt(
        self, world: World, module: ModuleType, kind: str
    ) -> None:
        peer = Peer(module, module.ReadError, 503, 200)
        assert send(world, peer, method="PUT", **self.BODIES[kind]).status_code == 200
        assert len(peer.bodies) == 3
        assert len(set(peer.bodies)) == 1
        assert len(set(peer.sent("content-length"))) == len(set(peer.sent("content-type"))) == 1

    ONCE: ClassVar[dict[str, Callable[[], dict[str, Any]]]] = {
        "async generator": lambda: {"content": async_generator()},
        "multipart with a file": lambda: {"files": {"a": io.BytesIO(b"abc")}},
    }

    @pytest.mark.parametrize("kind", ONCE)
    def test_p20_what_can_be_read_once_is_sent_once_and_the_answer_handed_on(
        self, world: World, module: ModuleType, kind: str
    ) -> None:
        peer = Peer(module, (503, {"retry-after": "1"}, [b"no"]), 200)
        answer = send(world, peer, method="PUT", **self.ONCE[kind]())
        assert (answer.status_code, answer.content, len(peer.bodies)) == (503, b"no", 1)
        peer = Peer(module, module.ReadError("broken"), 200)
        error = send(world, peer, method="PUT", **self.ONCE[kind]())
        assert type(error) is module.ReadError
        assert str(error) == "broken"
        assert b"abc" in peer.bodies[0]
        assert len(peer.bodies) == 1

    def test_p20_files_and_generators_of_the_synchronous_client(self, module: ModuleType, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"abc")
        for content in (generator(), path.open("rb")):
            peer = Peer(module, 503, 200)
            with module.Client(transport=ResilientTransport(peer, QUICK, module=module)) as client:
                assert client.put(URL, content=content).status_code == 503
            assert peer.bodies == [b"abc"]
            if isinstance(content, io.BufferedReader):
                content.close()

    def test_p20_a_file_that_fails_before_it_was_sent_is_not_sent_either(self, module: ModuleType) -> None:
        file = io.BytesIO(b"abc")
        peer = Peer(module, module.ConnectError, 200)
        client = module.Client(transport=ResilientTransport(peer, QUICK, module=module))
        with client, pytest.raises(module.ConnectError):
            client.put(URL, content=file)
        assert len(peer.requests) == 1

    def test_a_body_that_was_read_first_is_in_memory(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)

        async def main() -> Any:
            async with module.AsyncClient(transport=transport_of(peer)) as client:
                request = client.build_request("PUT", URL, content=async_generator())
                await request.aread()
                return await client.send(request)

        assert world.run(main).status_code == 200
        assert peer.bodies == [b"abc", b"abc"]

    def test_a_stream_may_say_that_it_can_be_read_again(self, module: ModuleType) -> None:
        assert is_replayable(module, Replayable())
        assert not is_replayable(module, generator())
        assert not is_replayable(module, module.Request("PUT", URL, content=async_generator()).stream)
        assert is_replayable(module, module.Request("GET", URL).stream)

    def test_content_that_can_be_read_again_is_sent_again(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)
        assert send(world, peer, method="PUT", content=Replayable()).status_code == 200
        assert peer.bodies == [b"again"] * 2
        peer = Peer(module, 503, 200)
        with module.Client(transport=ResilientTransport(peer, QUICK, module=module)) as client:
            client.put(URL, content=[b"a", b"b"])
        assert peer.bodies == [b"ab", b"ab"]

    def test_a_request_may_say_it_for_its_stream(self, world: World, module: ModuleType) -> None:
        class Silent(Replayable):
            replayable = False

        for made, says, count in ((Silent, True, 2), (Silent, False, 1), (Silent, None, 1), (Replayable, False, 1)):
            peer = Peer(module, 503, 200)
            options = {} if says is None else {"replayable": says}
            send(world, peer, method="PUT", content=made(), extensions={"resilience": options})
            assert peer.bodies == [b"again"] * count


class TestWaiting:
    def test_retry_after_is_a_floor_for_the_wait(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (503, {"retry-after": "7"}, []), (429, {"retry-after-ms": "2500"}, []), 200)
        assert send(world, peer).status_code == 200
        assert peer.gaps == pytest.approx([8.0, 3.5])

    def test_a_date_counts_from_the_servers_own(self, world: World, module: ModuleType) -> None:
        headers = {"retry-after": "Sun, 06 Nov 1994 08:49:47 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}
        peer = Peer(module, (503, headers, []), 200)
        send(world, peer)
        assert peer.gaps == pytest.approx([11.0])

    def test_p18_a_longer_retry_after_than_allowed_ends_the_call_with_the_answer(
        self, world: World, module: ModuleType
    ) -> None:
        for status in (429, 503):
            peer = Peer(module, (status, {"retry-after": "61"}, [b"later"]), 200)
            answer = send(world, peer, STEADY.replace(max_retry_after=60.0))
            assert (answer.status_code, answer.content) == (status, b"later")
            assert answer.headers["retry-after"] == "61"
            assert len(peer.requests) == 1

    def test_p18_jitter_comes_on_top_and_never_takes_away(self, world: World, module: ModuleType) -> None:
        dice = random.Random(7)
        for _ in range(20):
            peer = Peer(module, (503, {"retry-after": "3"}, []), 200)
            send(world, peer, Policy(), random=dice.random)
            assert 3.0 <= peer.gaps[0] <= 3.5

    def test_a_negative_hint_is_obeyed(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (503, {"x-should-retry": "false"}, []), 200)
        assert send(world, peer).status_code == 503
        assert len(peer.requests) == 1

    def test_the_deadline_ends_the_call_with_what_the_peer_said(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (503, {"retry-after": "30"}, [b"no"]), 200)
        answer = send(world, peer, STEADY, extensions={"resilience": {"timeout": 20.0}})
        assert (answer.status_code, answer.content) == (503, b"no")

    def test_an_attempt_without_an_answer_ends_at_the_deadline(self, world: World, module: ModuleType) -> None:
        async def never(_: Any) -> int:
            await world.sleep(1000)
            return 200

        peer = Peer(module, never)
        error = send(world, peer, STEADY.replace(total_timeout=5.0))
        assert isinstance(error, DeadlineExceeded)
        assert isinstance(error, module.TimeoutException)
        assert error.request.url == URL

    def test_an_attempts_own_limit_is_a_timeout_of_the_library(self, world: World, module: ModuleType) -> None:
        async def never(_: Any) -> int:
            await world.sleep(1000)
            return 200

        peer = Peer(module, never)
        error = send(world, peer, STEADY.replace(attempt_timeout=5.0))
        assert type(error) is module.ReadTimeout
        assert len(peer.requests) == 3
        assert peer.gaps == pytest.approx([6.0, 6.0])


class TestWhatIsClosed:
    def test_p38_a_response_that_is_retried_is_closed_before_the_next_attempt(
        self, world: World, module: ModuleType
    ) -> None:
        peer = Peer(module, 503, module.ReadError, 503, 200)
        send(world, peer, STEADY.replace(max_attempts=4))
        events = peer.events
        assert events.index("1 closed") < events.index("2 sent")
        assert events.index("3 closed") < events.index("4 sent")
        assert events.index("4 read") < events.index("4 closed")

    def test_p38_so_is_one_that_is_too_long_to_be_read(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (503, {}, [b"x" * 40_000] * 3), 200)
        assert send(world, peer).content == b"body"
        assert "1 read" not in peer.events
        assert peer.events.index("1 closed") < peer.events.index("2 sent")

    def test_p38_the_loser_of_a_hedge_is_closed(self, world: World, module: ModuleType) -> None:
        async def slow(_: Any) -> tuple[int, dict[str, str], list[bytes]]:
            await world.sleep(5)
            return 200, {}, [b"slow"]

        async def quick(_: Any) -> tuple[int, dict[str, str], list[bytes]]:
            await world.sleep(1)
            return 200, {}, [b"quick"]

        cancelled = Peer(module, slow, quick)
        policy = STEADY.replace(hedge=Hedge(after=2.0))
        assert send(world, cancelled, policy).content == b"quick"
        assert "1 closed" not in cancelled.events  # it never got its response

    def test_the_connection_of_a_short_body_is_free_during_the_back_off(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (503, {}, [b"sho", b"rt"]), 200)
        seen: list[str] = []

        def look(event: Any) -> None:
            if event[1] == "retry":
                seen.extend(peer.events)

        send(world, peer, on_event=look)
        assert seen == ["1 sent", "1 read", "1 closed"]

    def test_a_response_that_is_handed_on_in_the_end_is_whole(self, world: World, module: ModuleType) -> None:
        for chunks in ([b"ab", b"cd"], [b"x" * 40_000, b"y" * 40_000, b"z"], []):
            peer = Peer(module, (503, {}, chunks))
            assert send(world, peer, STEADY.replace(max_attempts=2)).content == b"".join(chunks)
            assert peer.events.count("1 closed") == peer.events.count("2 closed") == 1

    def test_a_body_that_breaks_off_does_not_hide_the_status(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (503, {}, [b"ab", module.ReadError("broken")]), 200)
        assert send(world, peer).status_code == 200
        peer = Peer(module, (503, {}, [b"ab", module.ReadError("broken")]))

        async def main() -> Any:
            client = module.AsyncClient(transport=transport_of(peer))
            async with client, client.stream("GET", URL) as response:
                pieces = response.aiter_raw()
                first = await anext(pieces)
                with pytest.raises(module.ReadError, match="broken"):
                    await anext(pieces)
                return response.status_code, first

        assert world.run(main) == (503, b"ab")

    def test_a_good_response_is_not_read_in_advance(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (200, {}, [b"a", b"b"]))

        async def main() -> None:
            client = module.AsyncClient(transport=transport_of(peer))
            async with client, client.stream("GET", URL) as response:
                assert peer.events == ["1 sent"]
                assert [piece async for piece in response.aiter_raw()] == [b"a", b"b"]

        world.run(main)
        assert peer.events == ["1 sent", "1 read", "1 closed", "closed"]

    def test_a_caller_that_goes_while_the_body_is_read_leaves_nothing_open(
        self, world: World, module: ModuleType
    ) -> None:
        class Slow(module.AsyncByteStream):  # type: ignore[misc, name-defined]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"a"
                await world.sleep(1000)

            async def aclose(self) -> None:
                peer.events.append("aclosed")

        peer = Peer(module, lambda _: module.Response(503, stream=Slow()))

        async def main() -> float:
            began = now()
            async with module.AsyncClient(transport=transport_of(peer)) as client:
                assert await world.within(5.0, lambda: client.get(URL)) is None
            return now() - began

        assert world.run(main) == pytest.approx(5.0)
        assert peer.events == ["1 sent", "aclosed", "closed"]

    def test_a_response_that_cannot_be_retried_is_not_read_in_advance(self, world: World, module: ModuleType) -> None:
        for options in ({"method": "POST"}, {"method": "PUT", "content": async_generator()}):
            peer = Peer(module, 503)

            async def main(peer: Peer = peer, options: dict[str, Any] = options) -> None:
                client = module.AsyncClient(transport=transport_of(peer))
                async with client, client.stream(url=URL, **options):
                    assert peer.events == ["1 sent"]

            world.run(main)

    def test_a_defect_while_the_body_is_read_closes_it(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, (503, {}, [ZeroDivisionError()]))
        assert type(send(world, peer)) is ZeroDivisionError
        assert peer.events == ["1 sent", "1 closed", "closed"]

    def test_the_synchronous_transport_does_the_same(self, module: ModuleType) -> None:
        peer = Peer(module, (503, {}, [b"x" * 70_000, b"y"]), (503, {}, [b"short"]), (500, {}, [b"a", b"b"]))
        with module.Client(transport=ResilientTransport(peer, QUICK, module=module)) as client:
            answer = client.get(URL)
        assert (answer.status_code, answer.content) == (500, b"ab")
        assert peer.events == [
            "1 sent", "1 closed", "2 sent", "2 read", "2 closed", "3 sent", "3 read", "3 closed", "closed",
        ]  # fmt: skip
        peer = Peer(module, (503, {}, [b"x" * 70_000, b"y"]))
        with module.Client(transport=ResilientTransport(peer, QUICK, module=module)) as client:
            assert len(client.get(URL).content) == 70_001
        peer = Peer(module, (503, {}, [b"x", module.ReadError("broken")]))
        client = module.Client(transport=ResilientTransport(peer, QUICK, module=module))
        with client, pytest.raises(module.ReadError, match="broken"):
            client.get(URL)
        assert len(peer.requests) == 3
        peer = Peer(module, (503, {}, [ZeroDivisionError()]))
        client = module.Client(transport=ResilientTransport(peer, QUICK, module=module))
        with client, pytest.raises(ZeroDivisionError):
            client.get(URL)
        assert peer.events == ["1 sent", "1 closed", "closed"]


class TestWhatIsSharedAndRefused:
    def test_each_scheme_host_and_port_is_a_target_of_its_own(self, module: ModuleType) -> None:
        keys = {
            "http://a/x": "http://a:80",
            "https://a/y": "https://a:443",
            "http://a:80/": "http://a:80",
            "https://a:8443": "https://a:8443",
            "http://[::1]:8000/": "http://[::1]:8000",
            "http://user:secret@a/": "http://a:80",
        }
        assert {url: key_of(module.URL(url)) for url in keys} == keys

    def test_an_open_breaker_refuses_without_a_request_and_only_for_its_target(
        self, world: World, module: ModuleType
    ) -> None:
        peer = Peer(module, *[module.ConnectError] * 5, 200)
        policy = QUICK.replace(max_attempts=1, breaker=BreakerSettings(consecutive_failures=5, open_jitter=0.0))

        async def main() -> None:
            async with module.AsyncClient(transport=transport_of(peer, policy)) as client:
                for _ in range(5):
                    with pytest.raises(module.ConnectError):
                        await client.get("http://one/")
                refusals = []
                for _ in range(2):
                    with pytest.raises(module.TransportError) as caught:
                        await client.get("http://one/")
                    refusals.append(caught.value)
                assert isinstance(refusals[0], CircuitOpen)
                assert refusals[0].retry_at == pytest.approx(now() + 1.0)
                assert refusals[0].request.url == "http://one/"
                assert refusals[0] is not refusals[1]
                assert (await client.get("http://two/")).status_code == 200
                await world.sleep(1.0)
                assert (await client.get("http://one/")).status_code == 200

        world.run(main)
        assert len(peer.requests) == 7

    def test_a_full_bulkhead_is_a_pool_timeout(self, world: World, module: ModuleType) -> None:
        async def slow(_: Any) -> int:
            await world.sleep(10)
            return 200

        peer = Peer(module, slow)
        bulkhead = BulkheadSettings(limit=1, queue_limit=1, queue_timeout=3.0)

        async def main() -> list[Any]:
            async with module.AsyncClient(transport=transport_of(peer, STEADY.replace(bulkhead=bulkhead))) as client:
                results: list[Any] = await world.together(*[lambda: client.get(URL)] * 3)
                return results

        results = world.run(main)
        refused = [result for result in results if isinstance(result, module.PoolTimeout)]
        assert sorted(error.why for error in refused) == ["full", "queue-timeout"]
        assert all(isinstance(error, CallRejected) and error.attempts == 0 for error in refused)

    def test_a_refusal_of_an_inner_call_is_not_held_against_the_peer(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, module.ConnectError)
        policy = QUICK.replace(max_attempts=1, breaker=BreakerSettings(consecutive_failures=1, open_seconds=30.0))
        inner = transport_of(peer, policy, nested="retry")
        moves = []
        outer = AsyncResilientTransport(inner, QUICK, module=module, clock=now, on_event=moves.append)

        async def main() -> None:
            async with module.AsyncClient(transport=outer) as client:
                with pytest.raises(CircuitOpen):
                    await client.get(URL)  # a retry has found it open
                for _ in range(20):
                    with pytest.raises(CircuitOpen) as caught:
                        await client.get(URL)
                    assert isinstance(caught.value, module.TransportError)

        world.run(main)
        assert len(peer.requests) == 1
        assert [event for event in moves if event[1] == "breaker"] == []

    @pytest.mark.parametrize("why", ["open", "full", "queue-timeout", "rate", "throttled", "deadline"])
    def test_a_refusal_is_no_evidence_whatever_else_it_is(self, module: ModuleType, why: str) -> None:
        refusal = response_error(module, why)
        assert isinstance(refusal, module.TransportError)
        outcome = HttpJudge(module)(None, refusal)
        assert (outcome.verdict, outcome.effect) == (FATAL, BREAKER_IGNORE)

    def test_a_refusal_names_its_request(self, module: ModuleType) -> None:
        peer = Peer(module, module.ConnectError)
        policy = QUICK.replace(max_attempts=1, breaker=BreakerSettings(consecutive_failures=1))
        transport = ResilientTransport(peer, policy, module=module)
        request = module.Request("GET", URL)
        with pytest.raises(module.ConnectError):
            transport.handle_request(request)
        with pytest.raises(module.TransportError) as caught:
            transport.handle_request(request)
        assert caught.value.request is request


def response_error(module: ModuleType, why: str) -> Exception:
    """What a transport raises for a call that was refused."""

    class Refused(Finished[Any]):
        outcome = Rejected(why)
        attempts = 0

    with pytest.raises(CallRejected) as caught:
        response_of(module, module.Request("GET", URL), Refused(None))
    return caught.value


class TestOptions:
    def test_a_request_may_bring_its_own(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)
        send(world, peer, method="POST", extensions={"resilience": {"may_repeat": True}})
        assert len(peer.requests) == 2
        peer = Peer(module, 503, 200)
        send(world, peer, extensions={"resilience": {"may_repeat": False}})
        assert len(peer.requests) == 1
        peer = Peer(module, 503)
        send(world, peer, extensions={"resilience": {"policy": STEADY.replace(max_attempts=4)}})
        assert len(peer.requests) == 4

    @pytest.mark.parametrize("options", [{"may_repaet": True}, {"policy": QUICK, "retries": 3}, "fast"])
    def test_what_is_no_option_is_refused_before_anything_is_sent(
        self, world: World, module: ModuleType, options: Any
    ) -> None:
        peer = Peer(module, 200)
        error = send(world, peer, extensions={"resilience": options})
        assert isinstance(error, TypeError)
        assert "may have may_repeat, policy, replayable, timeout" in str(error)
        assert not peer.requests

    def test_attempts_are_numbered_on_the_wire_from_0(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 503, 200)
        send(world, peer)
        assert peer.sent("Retry-Attempt") == ["0", "1", "2"]

    def test_the_number_can_be_renamed_or_left_out(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)
        send(world, peer, attempt_header="X-Stainless-Retry-Count")
        assert peer.sent("x-stainless-retry-count") == ["0", "1"]
        peer = Peer(module, 503, 200)
        send(world, peer, attempt_header=None)
        assert peer.sent("Retry-Attempt") == [None, None]

    def test_the_applications_request_stays_as_it_was(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)
        answer = send(world, peer, headers={"A": "b"}, content=b"x")
        assert "retry-attempt" not in answer.request.headers
        assert answer.request.headers["a"] == peer.sent("a")[0] == "b"
        assert answer.request is not peer.requests[0]

    def test_a_copy_is_the_same_request(self, module: ModuleType) -> None:
        request = module.Request("POST", URL, headers=[("a", "1"), ("a", "2")], json={}, extensions={"x": 1})
        copy = copy_of(module, request)
        assert (copy.method, copy.url, copy.headers.raw) == (request.method, request.url, request.headers.raw)
        assert copy.stream is request.stream
        copy.headers["b"] = "3"
        copy.extensions["y"] = 2
        assert "b" not in request.headers
        assert request.extensions == {"x": 1}

    def test_the_user_decides_what_is_a_failure(self, world: World, module: ModuleType) -> None:
        def classify(response: Any, error: Exception | None) -> Any:
            if error is None and response.status_code == 202:
                return FAILURE
            return DEFINITE if error is not None else None

        peer = Peer(module, 202, 503, 200)
        assert send(world, peer, classify=classify).status_code == 200
        assert len(peer.requests) == 3
        peer = Peer(module, module.ReadError, 200)
        assert type(send(world, peer, classify=classify)) is module.ReadError
        assert len(peer.requests) == 1

    def test_one_transport_serves_calls_that_run_together(self, world: World, module: ModuleType) -> None:
        def odd(request: Any) -> int:
            return 503 if request.headers["retry-attempt"] != "2" else 200

        peer = Peer(module, odd)

        async def main() -> list[Any]:
            policy = Policy(breaker=None, budget=None)
            async with module.AsyncClient(transport=transport_of(peer, policy)) as client:
                results: list[Any] = await world.together(*[lambda: client.get(URL)] * 50)
                return results

        assert [answer.status_code for answer in world.run(main)] == [200] * 50
        assert len(peer.requests) == 150


class TestTheLibraryAndTheLoop:
    def test_one_transport_serves_asyncio_and_then_trio(self, module: ModuleType) -> None:
        peer = Peer(module, 503, 200, 503, 200)
        transport = transport_of(peer)

        async def main() -> int:
            request = module.Request("GET", URL)
            status: int = (await transport.handle_async_request(request)).status_code
            return status

        assert [World("asyncio").run(main), World("trio").run(main)] == [200, 200]
        assert len(peer.requests) == 4

    def test_it_is_a_subclass_of_neither_librarys_transport(self, module: ModuleType) -> None:
        assert AsyncResilientTransport.__mro__ == (AsyncResilientTransport, object)
        assert ResilientTransport.__mro__ == (ResilientTransport, object)
        assert set(ours.__all__) <= set(dir(ours))

    def test_the_library_is_that_of_the_transport(self, module: ModuleType) -> None:
        assert library(transport=module.MockTransport(lambda _: None)) is module
        assert library(module) is module

    def test_a_request_of_the_other_library_is_refused_with_the_fix(self, world: World) -> None:
        peer = Peer(find("httpx"), 200)

        async def main() -> None:
            async with find("httpx2").AsyncClient(transport=transport_of(peer)) as client:
                with pytest.raises(
                    TypeError, match="is for httpx and got a request of httpx2: make it with module=httpx2"
                ):
                    await client.get(URL)

        world.run(main)
        assert not peer.requests

    def test_it_is_httpx_before_httpx2(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert library() is find("httpx")
        forget(monkeypatch, "httpx")
        assert library() is find("httpx2")
        forget(monkeypatch, "httpx2")
        with pytest.raises(
            ImportError, match=r"httpx is required to use adapters\.httpx: pip install 'asgi-fault\[httpx"
        ):
            AsyncResilientTransport()

    def test_its_own_transport_is_the_librarys(self, world: World, module: ModuleType) -> None:
        async def main() -> str:
            transport = AsyncResilientTransport(module=module)
            async with transport:
                name: str = type(transport._inner).__module__
                return name

        assert world.run(main) == module.__name__
        with ResilientTransport(module=module) as transport:
            assert isinstance(transport._inner, module.HTTPTransport)

    def test_it_can_be_mounted_and_closed(self, world: World, module: ModuleType) -> None:
        peer = Peer(module, 503, 200)

        async def main() -> int:
            client = module.AsyncClient(mounts={"http://api.example": transport_of(peer)})
            status: int = (await client.get(URL)).status_code
            await client.aclose()
            return status

        assert world.run(main) == 200
        assert peer.events[-1] == "closed"

    def test_a_held_body_is_a_stream_of_its_library(self, module: ModuleType) -> None:
        asynchronous, synchronous = httpx_held._held_kinds(module)
        assert issubclass(asynchronous, module.AsyncByteStream)
        assert issubclass(synchronous, module.SyncByteStream)
        assert httpx_held._held_kinds(module) == (asynchronous, synchronous)


class TestThreads:
    def test_the_synchronous_transport_retries(self, module: ModuleType) -> None:
        peer = Peer(module, 503, module.ConnectError, (200, {}, [b"good"]))
        with module.Client(transport=ResilientTransport(peer, QUICK, module=module)) as client:
            assert client.get(URL).content == b"good"
        assert peer.sent("Retry-Attempt") == ["0", "1", "2"]

    def test_it_refuses_to_hedge(self, module: ModuleType) -> None:
        with pytest.raises(SettingError, match="hedge"):
            ResilientTransport(Peer(module, 200), QUICK.replace(hedge=Hedge(after=1.0)), module=module)

    def test_no_step_takes_longer_than_the_attempt_has_left(self, module: ModuleType) -> None:
        clock = iter([100.0 + step / 1000 for step in range(1000)])
        peer = Peer(module, 200)
        policy = QUICK.replace(total_timeout=8.0, attempt_timeout=4.0)
        transport = ResilientTransport(peer, policy, module=module, clock=lambda: next(clock))
        with module.Client(transport=transport, timeout=module.Timeout(5.0, connect=1.0, pool=None)) as client:
            answer = client.get(URL)
        steps = peer.requests[0].extensions["timeout"]
        assert steps["connect"] == 1.0
        assert [steps[name] for name in ("read", "write", "pool")] == pytest.approx([4.0] * 3, abs=0.05)
        assert answer.request.extensions["timeout"]["read"] == 5.0

    def test_a_limit_that_is_over_is_still_a_limit(self, module: ModuleType) -> None:
        request = module.Request("GET", URL)
        limit_steps(request, AttemptView(1, 10.0, lambda: 11.0, repeats=True))
        assert set(request.extensions["timeout"].values()) == {0.001}

    def test_no_limit_leaves_them_alone(self, module: ModuleType) -> None:
        peer = Peer(module, 200)
        transport = ResilientTransport(peer, QUICK.replace(total_timeout=float("inf")), module=module)
        with module.Client(transport=transport, timeout=None) as client:
            client.get(URL)
        assert set(peer.requests[0].extensions["timeout"].values()) == {None}

    def test_its_refusals_are_the_librarys_too(self, module: ModuleType) -> None:
        peer = Peer(module, module.ConnectError)
        policy = QUICK.replace(max_attempts=1, breaker=BreakerSettings(consecutive_failures=1))
        with module.Client(transport=ResilientTransport(peer, policy, module=module)) as client:
            with pytest.raises(module.ConnectError):
                client.get(URL)
            with pytest.raises(module.TransportError) as caught:
                client.get(URL)
        assert isinstance(caught.value, CircuitOpen)
        assert len(peer.requests) == 1

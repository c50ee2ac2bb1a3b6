"""One span for a call, one for each attempt below it, and a `traceparent` of its own on each."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from adapters.httpx import AsyncResilientTransport, ClientConfig, MyAPIError, ResilientClient, ResilientTransport
from adapters.otel import Tracing
from sansio_client.backoff import NoBackoff
from sansio_client.policy import Hedge, Policy
from tests.adapters.libraries import NAMES, Peer, World, find, forget, now

URL = "https://me:s3cret@api.example/things?token=s3cret&page=2"
QUICK = Policy(backoff=NoBackoff())


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return find(request.param)


@pytest.fixture(params=["asyncio", "trio"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


class Spans:
    """A tracer whose finished spans can be looked at."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider, TraceContextTextMapPropagator())

    @property
    def attempts(self) -> list[ReadableSpan]:
        spans = [span for span in self._exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]
        return sorted(spans, key=lambda span: (span.attributes or {}).get("http.request.resend_count", 0))  # type: ignore[arg-type, return-value]

    @property
    def call(self) -> ReadableSpan:
        (span,) = [span for span in self._exporter.get_finished_spans() if span.kind is SpanKind.INTERNAL]
        return span


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.provider.shutdown()


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def trace_of(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parents_of(peer: Peer) -> list[tuple[str, str]]:
    """Trace and span of the `traceparent` of each request."""
    sent = [(value or "").split("-") for value in peer.sent("traceparent")]
    return [(parts[1], parts[2]) for parts in sent]


def send(world: World, peer: Peer, spans: Spans, method: str = "GET", policy: Policy = QUICK) -> Any:
    transport = AsyncResilientTransport(peer, policy, module=peer.module, tracing=spans.tracing, clock=now)

    async def main() -> Any:
        async with peer.module.AsyncClient(transport=transport) as client:
            try:
                return await client.request(method, URL)
            except Exception as error:  # noqa: BLE001 - a result like any other
                return error

    return world.run(main)


def test_a_call_is_one_span_with_a_client_span_for_each_attempt(world: World, module: ModuleType, spans: Spans) -> None:
    peer = Peer(module, 503, module.ReadTimeout, 200)
    assert send(world, peer, spans).status_code == 200
    call = spans.call
    assert call.name == "resilient GET"
    assert call.parent is None
    assert facts(call) == {"sansio_client.attempts": 3, "sansio_client.reason": "ok"}
    assert call.status.status_code is StatusCode.UNSET
    common = {
        "http.request.method": "GET",
        "url.full": "https://REDACTED:REDACTED@api.example/things?token=REDACTED&page=2",
        "server.address": "api.example",
        "server.port": 443,
    }
    first, second, third = spans.attempts
    assert facts(first) == {**common, "http.response.status_code": 503, "error.type": "503"}
    assert facts(second) == {**common, "error.type": f"{module.__name__}.ReadTimeout", "http.request.resend_count": 1}
    assert facts(third) == {**common, "http.response.status_code": 200, "http.request.resend_count": 2}
    codes = [span.status.status_code for span in (first, second, third)]
    assert codes == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert {span.name for span in spans.attempts} == {"GET"}
    assert {span.parent.span_id for span in spans.attempts if span.parent} == {
        call.context.span_id if call.context else 0
    }
    assert not any(span.events for span in spans.attempts), "the text of an exception may hold secrets"


def test_each_attempt_carries_its_own_span_of_the_same_trace(world: World, module: ModuleType, spans: Spans) -> None:
    peer = Peer(module, 503, 503, 200)
    send(world, peer, spans)
    assert parents_of(peer) == [trace_of(span) for span in spans.attempts]
    assert len({span for _, span in parents_of(peer)}) == 3
    assert {trace for trace, _ in parents_of(peer)} == {trace_of(spans.call)[0]}


def test_the_call_is_below_the_applications_span(world: World, module: ModuleType, spans: Spans) -> None:
    with spans.provider.get_tracer("application").start_as_current_span("checkout", kind=SpanKind.SERVER) as outer:
        send(world, Peer(module, 200), spans)
    assert spans.call.parent is not None
    assert spans.call.parent.span_id == outer.get_span_context().span_id


def test_a_call_that_fails_is_an_error_without_attributes_of_http(
    world: World, module: ModuleType, spans: Spans
) -> None:
    send(world, Peer(module, module.ConnectError("https://me:s3cret@")), spans)
    call = spans.call
    assert call.status.status_code is StatusCode.ERROR
    assert facts(call) == {
        "sansio_client.attempts": 3,
        "sansio_client.reason": "attempts",
        "error.type": f"{module.__name__}.ConnectError",
    }
    assert "s3cret" not in "".join(span.to_json() for span in [call, *spans.attempts])


def test_an_unknown_method_makes_no_series_of_its_own(world: World, module: ModuleType, spans: Spans) -> None:
    send(world, Peer(module, 200), spans, "BREW")
    (attempt,) = spans.attempts
    assert attempt.name == "HTTP"
    assert facts(attempt)["http.request.method"] == "_OTHER"
    assert facts(attempt)["http.request.method_original"] == "BREW"


def test_a_hedge_is_a_span_beside_the_first_and_the_loser_has_a_reason(
    world: World, module: ModuleType, spans: Spans
) -> None:
    async def slow(_: Any) -> int:
        await world.sleep(100)
        return 200

    peer = Peer(module, slow, 200)
    send(world, peer, spans, policy=QUICK.replace(hedge=Hedge(after=1.0)))
    loser, winner = spans.attempts
    assert facts(winner)["http.request.resend_count"] == 1
    assert facts(loser)["error.type"].endswith(("CancelledError", "Cancelled"))
    assert trace_of(loser)[0] == trace_of(winner)[0]
    assert loser.parent is not None
    assert winner.parent is not None
    assert loser.parent.span_id == winner.parent.span_id


def test_the_synchronous_transport_does_the_same(module: ModuleType, spans: Spans) -> None:
    peer = Peer(module, 503, 200)
    transport = ResilientTransport(peer, QUICK, module=module, tracing=spans.tracing)
    with module.Client(transport=transport) as client:
        client.get(URL)
    assert parents_of(peer) == [trace_of(span) for span in spans.attempts]
    assert facts(spans.attempts[1])["http.request.resend_count"] == 1
    assert facts(spans.call)["sansio_client.attempts"] == 2


def test_the_client_does_the_same(world: World, module: ModuleType, spans: Spans) -> None:
    peer = Peer(module, 503, 404)

    async def main() -> None:
        config = ClientConfig(policy=QUICK)
        async with ResilientClient(config, transport=peer, module=module, tracing=spans.tracing, clock=now) as client:
            with pytest.raises(MyAPIError):
                await client.get(URL)

    world.run(main)
    assert [facts(span)["http.response.status_code"] for span in spans.attempts] == [503, 404]
    assert [facts(span)["error.type"] for span in spans.attempts] == ["503", "404"]
    assert parents_of(peer) == [trace_of(span) for span in spans.attempts]
    assert facts(spans.call) == {
        "sansio_client.attempts": 2,
        "sansio_client.reason": "fatal",
        "error.type": "adapters.httpx_errors.NotFoundError",
    }


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "adapters.otel")
    forget(monkeypatch, "opentelemetry")
    with pytest.raises(
        ImportError, match=r"opentelemetry-api is required to use adapters\.otel: pip install 'asgi-fault"
    ):
        importlib.import_module("adapters.otel")

"""Calls as OpenTelemetry spans: one span for the call, and in it one CLIENT span for each attempt.

    client = ResilientClient(config, tracing=Tracing())

The semantic conventions for HTTP want a span for every request that goes over the wire, and no attributes of HTTP on
the span around them. Each attempt carries its own `traceparent`: the same trace, another span, so the server's side of
every attempt hangs below the attempt that caused it. Needs `opentelemetry-api` only; without an SDK it records nothing.
"""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .observe import safe_url

try:
    from opentelemetry import propagate, trace
    from opentelemetry.trace import SpanKind, StatusCode
except ImportError as error:
    raise ImportError("opentelemetry-api is required to use adapters.otel: pip install 'asgi-fault[otel]'") from error

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider

KNOWN_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""The methods that may be attribute values; any other is `_OTHER`, so that nobody can make series without end."""

_PORTS = {"http": 80, "https": 443}


class Tracing:
    """Makes the spans. One for any number of clients and transports.

    Args:
        tracer_provider: instead of the global one.
        propagator: what writes the trace context into headers, instead of the global one (W3C `traceparent`).

    """

    def __init__(
        self,
        tracer_provider: "TracerProvider | None" = None,
        propagator: "TextMapPropagator | None" = None,
    ) -> None:
        self._tracer = trace.get_tracer("sansio_client", tracer_provider=tracer_provider)
        self._propagator = propagator if propagator is not None else propagate.get_global_textmap()

    @contextmanager
    def call(self, name: str) -> Iterator["CallSpan"]:
        """The span around all attempts and waits of a call; attempts made inside the block become its children."""
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            try:
                yield CallSpan(span)
            except BaseException as error:
                _fail(span, error)
                raise

    @contextmanager
    def attempt(self, method: str, url: str, number: int, headers: MutableMapping[str, str]) -> Iterator["AttemptSpan"]:
        """The span of one attempt; its trace context is written into `headers`.

        Args:
            method: of the request.
            url: absolute; secrets in it are redacted.
            number: of the attempt, from 1.
            headers: of the request that is about to be sent.

        """
        known = method if method in KNOWN_METHODS else "_OTHER"
        parts = urlsplit(url)
        attributes: dict[str, str | int] = {"http.request.method": known, "url.full": safe_url(url)}
        if known != method:
            attributes["http.request.method_original"] = method
        if parts.hostname:
            attributes["server.address"] = parts.hostname
        port = parts.port or _PORTS.get(parts.scheme)
        if port:
            attributes["server.port"] = port
        if number > 1:
            attributes["http.request.resend_count"] = number - 1
        with self._tracer.start_as_current_span(
            known if known == method else "HTTP",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            self._propagator.inject(headers)
            try:
                yield AttemptSpan(span)
            except BaseException as error:
                _fail(span, error)
                raise


class CallSpan:
    """The span of a call under way."""

    __slots__ = ("_span",)

    def __init__(self, span: "Span") -> None:
        self._span = span

    def finished(self, attempts: int, reason: str) -> None:
        """Write down how the call ended; the caller says by an exception whether that was a failure."""
        self._span.set_attribute("sansio_client.attempts", attempts)
        self._span.set_attribute("sansio_client.reason", reason)


class AttemptSpan:
    """The span of an attempt under way."""

    __slots__ = ("_span",)

    def __init__(self, span: "Span") -> None:
        self._span = span

    def answered(self, status: int) -> None:
        """The response has this status; from 400 on that is an error, the client conventions say."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 400:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)


def _fail(span: "Span", error: BaseException) -> None:
    # The class only: the text of an exception may hold a URL with secrets. Cancelled is an error too: without a status,
    # and the conventions ask for `error.type` whenever there is none.
    kind = type(error)
    module = kind.__module__
    span.set_attribute("error.type", kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}")
    span.set_status(StatusCode.ERROR)

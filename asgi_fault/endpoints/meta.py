"""What the server says about itself: `/`, `/docs`, `/redoc`, `/openapi.json`, `/metrics`.

The documents are made from the route table by `docs` when they are first asked for; this file only picks one.
"""

from asgi_fault.asgi import HTML, JSON, Response, response
from asgi_fault.exchange import Exchange
from asgi_fault.observe import metrics
from asgi_fault.version import __version__

APP_NAME = "asgi-fault"


def get_index(exchange: Exchange) -> Response:
    """List the surfaces: HTML when a browser asks, JSON else."""
    documents = exchange.context.documents
    if b"text/html" in exchange.headers.get(b"accept", b""):
        return response(200, HTML, documents.index_html, (b"vary", b"Accept"))
    return response(200, JSON, documents.index_json(exchange.prefix), (b"vary", b"Accept"))


def get_openapi(exchange: Exchange) -> Response:
    """The OpenAPI 3.1 document of every documented route."""
    return response(200, JSON, exchange.context.documents.openapi_json)


def get_docs(exchange: Exchange) -> Response:
    """The documentation as one page, with a form to send each request."""
    return response(200, HTML, exchange.context.documents.docs_html)


def get_redoc(exchange: Exchange) -> Response:
    """The same as a reference to read and to print."""
    return response(200, HTML, exchange.context.documents.reference_html)


def get_metrics(exchange: Exchange) -> Response:
    """Prometheus text, or OpenMetrics when the `Accept` header asks for it."""
    openmetrics = b"application/openmetrics-text" in exchange.headers.get(b"accept", b"")
    content_type = metrics.OPENMETRICS if openmetrics else metrics.PROMETHEUS
    families = [*_server_families(exchange), *metrics.process_families()]
    return response(200, (b"content-type", content_type.encode()), metrics.render(families, openmetrics=openmetrics))


def _server_families(exchange: Exchange) -> list[metrics.Family]:
    context = exchange.context
    app = metrics.Family("app", "info", "The server.")
    app.add(1, "_info", version=__version__, name=APP_NAME)
    errors = metrics.Family("http_errors", "counter", "Errors answered, by class.")
    for (error, status), count in sorted(context.errors.items()):
        errors.add(count, "_total", error_type=error, status_code=str(status))
    partitions = context.partitions
    cache = partitions.default.cache
    hits = metrics.Family("cache_hits", "counter", "Answers repeated by the idempotency cache (default partition).")
    hits.add(cache.hits, "_total", endpoint="/msg")
    misses = metrics.Family("cache_misses", "counter", "Keys the idempotency cache did not know (default partition).")
    misses.add(cache.misses, "_total", endpoint="/msg")
    slots = partitions.default.slots
    in_use = metrics.Family("asgi_fault_slots_in_use", "gauge", "Slots taken (default partition).")
    in_use.add(slots.limit - slots.free)
    waiting = metrics.Family("asgi_fault_queue_length", "gauge", "Requests waiting for a slot (default partition).")
    waiting.add(sum(not waiter.done() for waiter in slots.waiters))
    number = metrics.Family("asgi_fault_partitions", "gauge", "Partitions kept.")
    number.add(len(partitions))
    uptime = metrics.Family("asgi_fault_uptime_seconds", "gauge", "Seconds since the start.")
    uptime.add(round(context.uptime(), 3))
    operations = ((op.method, op.path, op.traffic) for op in context.operations)
    http = metrics.http_families(operations)
    return [app, *http, errors, hits, misses, in_use, waiting, number, uptime]

"""Every URL of the server on one screen, as data. The router, OpenAPI and the documentation pages are made from it."""

from asgi_fault.endpoints import fail, health, meta, msg
from asgi_fault.requestid import REQUEST_ID
from asgi_fault.routing import Reply, Route

ID = "6f1d1b1e-0a53-4cf0-9d5c-6d1f3b1f0a11"
INDUCED = Reply(description="Induced by /fail", example={"detail": "Induced server failure"})
TIMED_OUT = Reply(description="Outlasted SERVER_REQUEST_TIMEOUT", example={"detail": "Request timeout"})
STATUS = {
    "fail_requests_count": 3,
    "fail_until_timestamp": None,
    "duration_remaining_seconds": 0.0,
    "currently_failing": True,
}

ROUTES = (
    Route(
        "GET", "/msg", msg.get_msg, "msg", "An id for a request",
        description="The same `X-Request-ID` gets the same id while it is cached. Fails while `/fail` says so.",
        parameters=(msg.DELAY, REQUEST_ID),
        replies={200: Reply(description="The id", example={"message_id": ID}), 408: TIMED_OUT, 500: INDUCED},
    ),
    Route(
        "POST", "/fail/count/{n}", fail.fail_count, "fail", "Fail the next n requests to /msg",
        description="Replaces an earlier count. Exact under any concurrency.",
        parameters=(fail.COUNT,), control=True,
        replies={200: Reply(
            description="Set",
            example={"message": "Server will fail the next 3 requests", "fail_requests_count": 3},
        )},
    ),
    Route(
        "POST", "/fail/duration/{s}", fail.fail_duration, "fail", "Fail every request to /msg for s seconds",
        parameters=(fail.SECONDS,), control=True,
        replies={200: Reply(
            description="Set",
            example={"message": "Server will fail requests for the next 5 seconds", "duration_seconds": 5},
        )},
    ),
    Route(
        "POST", "/fail/reset", fail.fail_reset, "fail", "Stop failing", control=True,
        replies={200: Reply(
            description="Reset",
            example={"message": "All failure modes have been reset", "status": "normal_operation"},
        )},
    ),
    Route(
        "GET", "/fail/status", fail.fail_status, "fail", "What is still going to fail", control=True,
        replies={200: Reply(
            description="The failure modes",
            example={"failure_status": STATUS, "currently_failing": True},
        )},
    ),
    Route(
        "GET", "/health", health.get_health, "observe", "Whether the server lives",
        description="Takes no slot, no fault and no token.",
        control=True, public=True,
        replies={200: Reply(
            description="It does",
            example={
                "status": "ok", "uptime_seconds": 12.34, "version": "0.1.0",
                "timestamp": "2026-11-21T03:00:00.000Z",
            },
        )},
    ),
    Route(
        "GET", "/metrics", meta.get_metrics, "observe", "Counters for Prometheus", control=True,
        description="OpenMetrics when `Accept` asks for `application/openmetrics-text`.",
        replies={200: Reply(description="The counters", content_type="text/plain")},
    ),
    Route(
        "GET", "/", meta.get_index, "about", "The surfaces of this server",
        replies={200: Reply(
            description="JSON, or HTML for a browser", schema={"type": "object", "required": ["name", "surfaces"]},
        )},
    ),
    Route("GET", "/docs", meta.get_docs, "about", "This documentation", control=True,
          replies={200: Reply(description="A page", content_type="text/html")}),
    Route("GET", "/redoc", meta.get_redoc, "about", "The same, to read and print", control=True,
          replies={200: Reply(description="A page", content_type="text/html")}),
    Route("GET", "/openapi.json", meta.get_openapi, "about", "The OpenAPI 3.1 document", control=True,
          replies={200: Reply(
              description="The document", schema={"type": "object", "required": ["openapi", "paths"]},
          )}),
)  # fmt: skip

DOCUMENT_PAGES = frozenset({"/docs", "/redoc"})
"""The paths that `SERVER_ENABLE_DOCS` switches."""

"""Every URL of the server on one screen, as data. The router, OpenAPI and the documentation pages are made from it."""

from asgi_fault.docs import examples
from asgi_fault.endpoints import fail, faults, health, journal, meta, msg, ports
from asgi_fault.faults.schema import RULE
from asgi_fault.parameters import Text
from asgi_fault.requestid import REQUEST_ID
from asgi_fault.routing import Body, Reply, Route

ID = "6f1d1b1e-0a53-4cf0-9d5c-6d1f3b1f0a11"
INDUCED = Reply(description="Induced by /fail", example={"detail": "Induced server failure"})
TIMED_OUT = Reply(description="Outlasted SERVER_REQUEST_TIMEOUT", example={"detail": "Request timeout"})
STATUS = {
    "fail_requests_count": 3,
    "fail_until_timestamp": None,
    "duration_remaining_seconds": 0.0,
    "currently_failing": True,
}

RULE_ID = Text(
    name="id", where="path", pattern=RULE["properties"]["id"]["pattern"], max_length=64,
    description="Of the rule.", example="r1",
)  # fmt: skip


def shaped(name: str) -> dict[str, str]:
    """The schema `name` of the documents."""
    return {"$ref": f"#/components/schemas/{name}"}


NO_RULE = Reply(description="No rule has this id", example=examples.NO_RULE, schema=shaped("Error"))
NO_JOURNAL = Reply(
    description="`SERVER_JOURNAL_SIZE` is 0: there is no journal", example=examples.NO_JOURNAL, schema=shaped("Error")
)
NO_PORT = Reply(description="No such port, or not of this partition", example=examples.NO_PORT, schema=shaped("Error"))
PORT = Reply(description="The port", example=examples.OWN_PORT, schema=shaped("Port"))
PORT_TAKEN = Reply(description="Somebody listens there", example=examples.PORT_TAKEN, schema=shaped("Error"))

ROUTES = (
    Route(
        "GET", "/msg", msg.get_msg, "msg", "An id for a request",
        description="The same `X-Request-ID` gets the same id while it is cached. Fails while `/fail` says so.",
        parameters=(msg.DELAY, REQUEST_ID),
        replies={200: Reply(description="The id", example={"message_id": ID}), 408: TIMED_OUT, 500: INDUCED},
        quick=msg.quick_msg,
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
            example={"message": "Server will fail requests for the next 3 seconds", "duration_seconds": 3},
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
        "POST", "/faults", faults.post_faults, "faults", "Set fault rules", control=True,
        description="One rule, or `{\"rules\": [...]}`: all of them or none. A rule of the same id is replaced.",
        body=Body(
            description="Which requests, and what happens to them.",
            schema=shaped("Faults"), examples=examples.RULE_BODIES,
        ),
        replies={201: Reply(
            description="Set", example={"rules": [examples.SET_RULE]}, schema=shaped("SetRules"), headers=("Location",),
        )},
    ),
    Route(
        "GET", "/faults", faults.get_faults, "faults", "The rules and their counters", control=True,
        replies={200: Reply(
            description="In the order they are asked", example={"rules": [examples.COUNTED_RULE]},
            schema=shaped("SetRules"),
        )},
    ),
    Route(
        "DELETE", "/faults", faults.delete_faults, "faults", "Remove all rules", control=True,
        replies={200: Reply(description="Removed", example={"deleted": 1})},
    ),
    Route(
        "GET", "/faults/schema", faults.get_schema, "faults", "The JSON Schema of a rule", control=True,
        replies={200: Reply(
            description="The schema", content_type="application/schema+json", schema={"type": "object"},
        )},
    ),
    Route(
        "GET", "/faults/{id}", faults.get_fault, "faults", "One rule", control=True, parameters=(RULE_ID,),
        replies={
            200: Reply(description="The rule", example=examples.COUNTED_RULE, schema=shaped("SetRule")), 404: NO_RULE,
        },
    ),
    Route(
        "DELETE", "/faults/{id}", faults.delete_fault, "faults", "Remove one rule", control=True, parameters=(RULE_ID,),
        replies={200: Reply(description="Removed", example={"deleted": 1}), 404: NO_RULE},
    ),
    Route(
        "GET", "/journal", journal.get_journal, "journal", "What the clients did", control=True,
        description="JSON, JSON lines (`Accept: application/x-ndjson`), or a stream of events (`?follow`).",
        parameters=(journal.LIMIT, journal.AFTER, journal.CALL, journal.FOLLOW),
        replies={
            200: Reply(
                description="The entries", example=examples.PAGE, schema=shaped("JournalPage"),
                headers=("X-Journal-Next",),
                also={
                    "application/x-ndjson": examples.NDJSON, "application/jsonl": None,
                    "text/event-stream": examples.EVENTS,
                },
            ),
            404: NO_JOURNAL,
        },
    ),
    Route(
        "DELETE", "/journal", journal.delete_journal, "journal", "Forget every entry", control=True,
        replies={200: Reply(description="Forgotten", example={"deleted": 2}), 404: NO_JOURNAL},
    ),
    Route(
        "POST", "/journal/verify", journal.verify_journal, "journal", "Hold the journal against expectations",
        control=True,
        body=Body(
            description="What is expected of the arrivals.",
            schema=shaped("Expectations"), examples=examples.EXPECTATION_BODIES,
        ),
        replies={
            200: Reply(description="Met or not: `ok` says it", example=examples.VERDICT, schema=shaped("Verdict")),
            404: NO_JOURNAL,
        },
    ),
    Route(
        "POST", "/ports", ports.post_ports, "ports", "Open a port that belongs to a partition", control=True,
        description="With a script for what happens to a connection before its first request, and with TLS if asked.",
        body=Body(
            description="Whose it is, and what happens to its connections.",
            schema=shaped("WantedPort"), examples=examples.PORT_BODIES,
        ),
        replies={
            201: Reply(
                description="Open", example=examples.OWN_PORT, schema=shaped("Port"), headers=("Location",),
            ),
            409: PORT_TAKEN,
            501: Reply(
                description="Not under this server, with several workers, or without trustme",
                example=examples.NO_PORTS, schema=shaped("Error"),
            ),
        },
    ),
    Route(
        "GET", "/ports", ports.get_ports, "ports", "The ports", control=True,
        replies={200: Reply(
            description="Those of the partition the request names, else all", example={"ports": [examples.OWN_PORT]},
            schema=shaped("Ports"),
        )},
    ),
    Route(
        "DELETE", "/ports", ports.delete_ports, "ports", "Close all ports", control=True,
        replies={200: Reply(description="Closed, their connections too", example={"deleted": 1})},
    ),
    Route(
        "GET", "/ports/{port}", ports.get_port, "ports", "One port", control=True, parameters=(ports.PORT,),
        replies={200: PORT, 404: NO_PORT},
    ),
    Route(
        "DELETE", "/ports/{port}", ports.delete_port, "ports", "Close one port", control=True,
        parameters=(ports.PORT,),
        replies={200: Reply(description="Closed, its connections too", example={"deleted": 1}), 404: NO_PORT},
    ),
    Route(
        "POST", "/ports/{port}/refuse", ports.refuse_port, "ports", "Refuse connections for a time", control=True,
        parameters=(ports.PORT,),
        body=Body(
            description="For how long, and what becomes of the connections there are.",
            schema=shaped("Refusal"), examples=examples.REFUSAL_BODIES,
        ),
        replies={200: PORT, 404: NO_PORT, 409: PORT_TAKEN},
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
        replies={200: Reply(
            description="The counters", content_type="text/plain", also={"application/openmetrics-text": None},
        )},
    ),
    Route(
        "GET", "/", meta.get_index, "about", "The surfaces of this server",
        replies={200: Reply(
            description="JSON, or HTML for a browser", schema={"type": "object", "required": ["name", "surfaces"]},
            also={"text/html": None},
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

"""What the documents show of `/faults` and `/journal`: one story, word for word as a server tells it.

A rule fails the first call of `/msg`, a client comes back two seconds later, and the journal bears witness. A test
tells the story to a server and holds every answer against these.
"""

import json
from typing import Any

from asgi_fault.errors import HTTPError, NotFound, NotSupported

SAMPLE_ID = "0d5f6a5c-2f0e-4b8e-9d3c-6f1f3f0c7a11"

RULE: dict[str, Any] = {
    "match": {"method": "GET", "path": "/msg"},
    "script": [{"status": 503, "retry_after": 2}],
}
RULE_BODIES: dict[str, Any] = {
    "The first call of /msg is told to come back in two seconds": RULE,
    "A slow, unreliable API with a quota, of paths that this server does not have": {
        "rules": [
            {
                "id": "unreliable",
                "match": {"path": "/v1/**", "probability": 0.2},
                "then": {"status": 502, "body": {"html": "<h1>Bad Gateway</h1>"}},
            },
            {
                "id": "slow",
                "match": {"method": ["POST", "PUT"], "path": "/v1/orders/{id}", "first": 10},
                "then": {"status": 201, "body": {"json": {"stored": True}}, "delay_s": {"uniform": [0.1, 0.5]}},
            },
            {
                "id": "quota",
                "match": {"path": "/v1/**"},
                "rate_limit": {
                    "algorithm": "token-bucket",
                    "limit": 10,
                    "window_s": 60,
                    "key": {"header": "Authorization"},
                },
            },
        ]
    },
    "The second attempt of every call waits until the client gives up": {
        "match": {"headers": {"Idempotency-Key": {"present": True}}, "attempt": 2},
        "then": {"stall": {"at": "before-head"}},
    },
}

SET_RULE = {"id": "r1", **RULE, "set_at": "2026-11-21T03:00:00.000Z"}
COUNTED_RULE = {**SET_RULE, "age_s": 2.0, "matched": 2, "used": 1, "step": None}

ENTRIES: list[dict[str, Any]] = [
    {
        "ordinal": ordinal,
        "at": f"2026-11-21T03:00:0{seconds}.000Z",
        "monotonic_s": 1000.0 + seconds,
        "partition": "default",
        "connection": {"id": 1, "ordinal": ordinal, "ended": None},
        "call": "order-17",
        "call_from": "x-request-id",
        "attempt": ordinal,
        "gap_s": gap,
        "method": "GET",
        "target": "/msg",
        "path": "/msg",
        "headers": {"x-request-id": "order-17"},
        "request_id": "order-17",
        "body": {"bytes": 0, "sha256": None},
        "status": status,
        "rule": rule,
        "step": step,
        "done_monotonic_s": 1000.0 + seconds,
        "ended": None,
    }
    for ordinal, seconds, gap, status, rule, step in ((1, 0, None, 503, "r1", 0), (2, 2, 2.0, 200, None, None))
]
PAGE = {"partition": "default", "entries": ENTRIES, "next": 2}
_LINES = [json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in ENTRIES]
NDJSON = "".join(f"{line}\n" for line in _LINES)
EVENTS = ": following the journal of partition default\n\n" + "".join(
    f"id: {number}\ndata: {line}\n\n" for number, line in enumerate(_LINES, 1)
)

EXPECTATIONS: dict[str, Any] = {
    "match": {"path": "/msg"},
    "statuses": [503, 200],
    "gaps": {"min_s": 2},
    "same_key": True,
}
EXPECTATION_BODIES: dict[str, Any] = {
    "It came back once, not too early, and as the same call": EXPECTATIONS,
    "It gives up after three attempts, and creates nothing twice": {
        "attempts": {"max": 3},
        "count": [{"method": "POST", "path": "/v1/orders", "status": [200, 201], "max": 1}],
        "same_body": True,
    },
}
VERDICT = {
    "ok": True,
    "complete": True,
    "checks": [
        {
            "check": "statuses",
            "ok": True,
            "proven": True,
            "expected": [503, 200],
            "observed": [503, 200],
            "evidence": [1, 2],
        },
        {"check": "gaps", "ok": True, "proven": True, "expected": {"min_s": 2}, "observed": [2.0], "evidence": [2]},
        {
            "check": "same_key",
            "ok": True,
            "proven": True,
            "expected": True,
            "observed": ["x-request-id: order-17"],
            "evidence": [1, 2],
        },
    ],
    "report": (
        "ok: 3 checks. 2 arrivals in 1 call\n\nGET /msg  order-17  |--x 503--2.00s--ok|\n\n"
        "ok      statuses: 2 arrivals\nok      gaps: 1 arrival\nok      same_key: 2 arrivals\n"
    ),
}


def error(status: int, name: str, message: str, **details: object) -> dict[str, Any]:
    """An error as `errors.render` writes it."""
    shown = {"error": name, "message": message, "detail": message, "status_code": status, "request_id": SAMPLE_ID}
    return {**shown, "details": details} if details else shown


NO_RULE = error(404, HTTPError.error, "There is no rule 'r1' in this partition.", id="r1")
NO_JOURNAL = error(404, NotFound.error, "This server keeps no journal.", setting="SERVER_JOURNAL_SIZE")

OWN_PORT: dict[str, Any] = {
    "port": 40123,
    "host": "127.0.0.1",
    "url": "http://127.0.0.1:40123",
    "partition": "port-1",
    "tls": None,
    "refuses_for_s": 0.0,
    "accepted": 1,
    "recent": [{"ordinal": 1, "monotonic_s": 12.5, "opening": "serve"}],
}
PORT_BODIES: dict[str, Any] = {
    "Any free port, with a partition of its own": {},
    "The first two connections come to nothing": {
        "partition": "blue",
        "connections": [{"reset": True}, {"silence_s": 5}],
    },
    "HTTPS with a certificate that has expired": {"tls": {"fault": "expired"}},
    "A server that is still starting": {"refuse_s": 2},
}
REFUSAL_BODIES: dict[str, Any] = {
    "A restart: nobody gets in for two seconds, and who is in is thrown out": {"seconds": 2, "drop": "reset"},
}
NO_PORT = error(404, HTTPError.error, "No port 3 is open here.", port=3)
PORT_TAKEN = error(409, "PortTakenError", "Port 8000 of 127.0.0.1 is in use; 0 is a free one.")
NO_PORTS = error(
    501,
    NotSupported.error,
    "Ports need this project's connections: run `asgi-fault serve`, or uvicorn with "
    "`--http asgi_fault.faults.wire:HttpTools` (or `:H11`).",
)

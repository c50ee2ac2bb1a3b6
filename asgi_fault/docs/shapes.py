"""The shapes of what `/faults` and `/journal` take and answer, as schemas of the OpenAPI document.

What they take is the very schema that the server checks with. Its definitions become schemas of the document, because
there a reference begins at the root of the document.
"""

from collections.abc import Mapping
from typing import Any

from asgi_fault.faults import openings
from asgi_fault.faults import schema as faults
from asgi_fault.observe import expectations

Schema = dict[str, Any]

COMPONENTS = "#/components/schemas/"
_DEFINITIONS = "#/$defs/"


def refer(name: str) -> Schema:
    """A reference to the schema `name` of the document."""
    return {"$ref": COMPONENTS + name}


def embedded(schema: Mapping[str, Any], name: str, prefix: str) -> dict[str, Schema]:
    """A schema that stands alone as several of the document: itself as `name`, and each definition behind `prefix`."""
    names = {key: prefix + key.title().replace("_", "") for key in schema.get("$defs", ())}
    whole = {key: value for key, value in schema.items() if key not in ("$schema", "$defs")}
    parts = {names[key]: definition for key, definition in schema.get("$defs", {}).items()}
    return {key: _refer_anew(value, names) for key, value in {name: whole, **parts}.items()}


def _refer_anew(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, Mapping):
        return {
            key: COMPONENTS + names[value.removeprefix(_DEFINITIONS)]
            if key == "$ref" and isinstance(value, str)
            else _refer_anew(value, names)
            for key, value in node.items()
        }
    return [_refer_anew(item, names) for item in node] if isinstance(node, list) else node


def _object(description: str, properties: Mapping[str, Any], *optional: str) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"description": description, "type": "object", "properties": dict(properties), "required": required}


def _one(kind: str | list[str], description: str = "", **more: Any) -> Schema:
    return {"description": description, "type": kind, **more} if description else {"type": kind, **more}


def _array(description: str, items: Schema) -> Schema:
    return {"description": description, "type": "array", "items": items}


ASKED = {
    **embedded(faults.SCHEMA, "Faults", "Fault"),
    **embedded(expectations.SCHEMA, "Expectations", "Expectation"),
    "WantedPort": openings.PORT,
    "Refusal": openings.REFUSAL,
}
"""What the server takes, as published."""

_SET_RULE = _object(
    "A rule as it is kept. What `/fail` has set is listed as a rule too: with `set_by`, without counters.",
    {
        **ASKED["FaultRule"]["properties"],
        "set_at": _one("string", "When it was set.", format="date-time"),
        "age_s": _one("number", "Seconds since then.", minimum=0),
        "matched": _one("integer", "Arrivals that met every condition.", minimum=0),
        "used": _one("integer", "Those of them that it decided.", minimum=0),
        "step": _one(["integer", "null"], "The next index of the script; null when it is used up.", minimum=0),
        "set_by": _one("string", "The path that set it, when that is not `/faults`."),
    },
)
_SET_RULE |= {"required": ["id"], "additionalProperties": False}

_ENTRY = _object(
    "One arrival and what became of it. Never the value of a secret header, nor of a query parameter with such a name.",
    {
        "ordinal": _one("integer", "Of the arrival in its partition, from 1.", minimum=1),
        "at": _one("string", "When its head was there.", format="date-time"),
        "monotonic_s": _one("number", "The same on the server's monotonic clock."),
        "partition": _one("string"),
        "connection": {
            **_object(
                "What it came on; null when the server does not say.",
                {
                    "id": _one(["integer", "string"], "Its number, else the client's address and port."),
                    "ordinal": _one("integer", "Of the arrival on it, from 1.", minimum=1),
                    "ended": _one(["string", "null"], "How it ended; null while it is open or when nobody knows."),
                },
            ),
            "type": ["object", "null"],
        },
        "call": _one("string", "The logical call that it is an attempt of: its key, or a hash of the request."),
        "call_from": _one("string", "The header with the key, or `request`."),
        "attempt": _one("integer", "Which attempt of the call it is, from 1.", minimum=1),
        "gap_s": _one(
            ["number", "null"], "Seconds from the end of the attempt before to this arrival; negative: they overlap."
        ),
        "method": _one("string"),
        "target": _one("string", "As sent, without secrets."),
        "path": _one("string", "Decoded, within the partition."),
        "headers": {
            **_one("object", "Those that tell attempts apart; of a secret one only that it was `present`."),
            "additionalProperties": {"type": "string"},
        },
        "request_id": _one("string", "The `X-Request-ID` of the answer."),
        "body": _object(
            "Of the request.",
            {"bytes": _one("integer", minimum=0), "sha256": _one(["string", "null"], "In hexadecimal.")},
        ),
        "status": _one("integer", "Of the answer; 0 when there was none.", minimum=0, maximum=599),
        "rule": _one(["string", "null"], "The rule that decided, or `X-Fault`."),
        "step": _one(["integer", "null"], "Of its script; -1 for what is not in the script."),
        "done_monotonic_s": _one(["number", "null"], "Just before the last byte was written; null when none was."),
        "ended": _one(["string", "null"], "How the connection ended, when this arrival was the last on it."),
    },
)

_CHECK = _object(
    "One expectation, judged.",
    {
        "check": _one("string", "The expectation."),
        "ok": _one("boolean"),
        "proven": _one("boolean", "False for a failure that what a server sees cannot prove."),
        "expected": {},
        "observed": {},
        "evidence": _array("Ordinals of the arrivals that decide.", _one("integer")),
        "note": _one("string", "Why there was nothing to judge."),
    },
    "note",
)

_PORT = _object(
    "A port that belongs to a partition.",
    {
        "port": _one("integer", "Its number.", minimum=1, maximum=65535),
        "host": _one("string", "The address it is bound to."),
        "url": _one("string", "Where clients of this machine go.", format="uri"),
        "partition": _one("string", "Whose requests come in here."),
        "tls": {
            "description": "Of an HTTPS port: what is wrong on purpose, and the CA to trust.",
            "type": ["object", "null"],
            "properties": {"fault": _one(["string", "null"]), "ca_pem": _one("string")},
            "required": ["fault", "ca_pem"],
        },
        "refuses_for_s": _one("number", "For how many seconds more it refuses connections.", minimum=0),
        "accepted": _one("integer", "Connections so far.", minimum=0),
        "recent": _array(
            "The last 100 of them.",
            _object(
                "One connection.",
                {
                    "ordinal": _one("integer", "From 1.", minimum=1),
                    "monotonic_s": _one("number", "When it came, on the clock of the journal."),
                    "opening": _one("string", "What happened first.", enum=["serve", "silence", "close", "reset"]),
                },
            ),
        ),
    },
)

ANSWERED: dict[str, Schema] = {
    "SetRule": _SET_RULE,
    "SetRules": _object("Several rules.", {"rules": _array("In the order they are asked.", refer("SetRule"))}),
    "JournalEntry": _ENTRY,
    "JournalPage": _object(
        "Entries of a journal.",
        {
            "partition": _one("string"),
            "entries": _array("In order of arrival.", refer("JournalEntry")),
            "next": _one("integer", "The `after` of the page that follows.", minimum=0),
        },
    ),
    "Port": _PORT,
    "Ports": _object("Several ports.", {"ports": _array("In the order they were opened.", refer("Port"))}),
    "Check": _CHECK,
    "Verdict": _object(
        "The journal held against expectations.",
        {
            "ok": _one("boolean", "Whether all are met."),
            "complete": _one("boolean", "False when the journal is full, so that earlier arrivals may be forgotten."),
            "checks": _array("One for each expectation.", refer("Check")),
            "report": _one("string", "The same to read, with a time line of each call."),
        },
    ),
}

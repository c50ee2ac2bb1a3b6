"""What can be expected of the arrivals in a journal: the schema of `POST /journal/verify`, and its contradictions."""

from collections.abc import Iterator
from typing import Any

METHOD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}"  # a token (RFC 9110 section 5.6.2)
PATH = r"/([^{}?#]|\{[A-Za-z0-9_]+\})*"
PATH_MAX = 512
LIST_MAX = 1000  # items of a list
ORDER_MAX = 200  # each may have to be looked for in the whole journal
COUNTS_MAX = 100

_NUMBER = {"type": "integer", "minimum": 0}
_SECONDS = {"type": "number", "minimum": 0}
_STATUS = {"type": "integer", "minimum": 0, "maximum": 599}
_BOUNDS = {"min": _NUMBER, "max": _NUMBER, "exactly": _NUMBER}
_FILTER = {
    "method": {
        "description": "One method, or several.",
        "type": ["string", "array"],
        "pattern": f"^{METHOD}$",
        "items": {"type": "string", "pattern": f"^{METHOD}$"},
        "minItems": 1,
        "maxItems": 32,
    },
    "path": {
        "description": "A path in the partition, written as in the `match` of a rule.",
        "type": "string",
        "pattern": f"^{PATH}$",
        "maxLength": PATH_MAX,
    },
    "status": {
        "description": "One status, or several; 0 is an arrival that got no answer.",
        "type": ["integer", "array"],
        "minimum": 0,
        "maximum": 599,
        "items": _STATUS,
        "minItems": 1,
        "maxItems": 100,
    },
    "call": {"description": "The name of a logical call, as `call` of an entry.", "type": "string", "maxLength": 256},
}


def _bounds(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "properties": _BOUNDS,
        "additionalProperties": False,
        "minProperties": 1,
    }


_COUNT = {"type": "object", "properties": {**_FILTER, **_BOUNDS}, "additionalProperties": False, "minProperties": 1}
_GAP = {"min_s": _SECONDS, "max_s": _SECONDS}

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Expectations",
    "description": "What the arrivals of a partition have to be. Those that `match` excludes are not looked at.",
    "type": "object",
    "properties": {
        "match": {
            "description": "Which arrivals are judged; all when absent.",
            "type": "object",
            "properties": _FILTER,
            "additionalProperties": False,
        },
        "count": {
            **_COUNT,
            "description": "How many arrivals there are, or how many of those that a filter of its own selects.",
            "type": ["object", "array"],
            "items": _COUNT,
            "minItems": 1,
            "maxItems": COUNTS_MAX,
        },
        "calls": _bounds("How many logical calls there are."),
        "attempts": _bounds("How many attempts each logical call has."),
        "statuses": {
            "description": "What was answered, in order of arrival; 0 is no answer.",
            "type": "array",
            "items": _STATUS,
            "maxItems": LIST_MAX,
        },
        "order": {
            "description": "What arrived in this order, as `METHOD /path`; others may lie between. * is any method.",
            "type": "array",
            "items": {"type": "string", "pattern": f"^{METHOD} {PATH}$", "maxLength": 32 + PATH_MAX},
            "minItems": 1,
            "maxItems": ORDER_MAX,
        },
        "gaps": {
            "description": "The seconds between the attempts of each call: for every gap, or one object for each gap.",
            "type": ["object", "array"],
            "properties": _GAP,
            "additionalProperties": False,
            "minProperties": 1,
            "items": {"type": "object", "properties": _GAP, "additionalProperties": False, "minProperties": 1},
            "minItems": 1,
            "maxItems": LIST_MAX,
        },
        "same_key": {
            "description": "All arrivals with one method, target and body carry one and the same key.",
            "type": "boolean",
        },
        "same_body": {"description": "All attempts of a call have the same body.", "type": "boolean"},
        "distinct_connections": {
            "description": "true: each attempt of a call came on a connection of its own; false: all came on one.",
            "type": "boolean",
        },
    },
    "additionalProperties": False,
    "minProperties": 1,
}

EXPECTATIONS = frozenset(SCHEMA["properties"]) - {"match"}


def contradictions(document: dict[str, Any]) -> Iterator[tuple[list[str | int], str]]:
    """What is wrong with a document that fits the schema: where, and why."""
    if not EXPECTATIONS & document.keys():
        yield [], f"nothing is expected; say one of {', '.join(sorted(EXPECTATIONS))}"
    for name in ("same_key", "same_body"):
        if document.get(name) is False:
            yield [name], "differences cannot be expected; leave it out"
    for name in ("count", "calls", "attempts", "gaps"):
        value = document.get(name)
        for place, bounds in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if bounds is not None:
                for where, message in _contradictions_of(bounds):
                    yield [name, *([] if place is None else [place]), *where], message


def _contradictions_of(bounds: dict[str, Any]) -> Iterator[tuple[list[str], str]]:
    if "exactly" in bounds and bounds.keys() & {"min", "max"}:
        yield ["exactly"], "exactly excludes min and max"
    if not bounds.keys() & {*_BOUNDS, *_GAP}:
        yield [], "say how many: exactly, or min and max"
    for low, high in (("min", "max"), ("min_s", "max_s")):
        if low in bounds and high in bounds and bounds[low] > bounds[high]:
            yield [low], f"{low} is greater than {high}"


def paths(document: dict[str, Any]) -> Iterator[tuple[list[str | int], str]]:
    """Every path pattern in a document that fits the schema, and where it stands."""
    counts = document.get("count", {})
    listed = isinstance(counts, list)
    filters: list[tuple[list[str | int], dict[str, Any]]] = [(["match"], document.get("match", {}))]
    filters += [(["count", i] if listed else ["count"], one) for i, one in enumerate(counts if listed else [counts])]
    for loc, one in filters:
        if "path" in one:
            yield [*loc, "path"], one["path"]
    for i, text in enumerate(document.get("order", ())):
        yield ["order", i], text.partition(" ")[2]

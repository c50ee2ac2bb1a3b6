"""The JSON Schema (draft 2020-12) of fault rules: what `POST /faults` takes, published as it stands.

`checks` interprets the keywords used here and no others. "One of several forms" is written as a scalar beside an object
with exactly one key, never as `oneOf`: so a mistake has one place and one message. What a schema cannot say is in
`contradictions`.
"""

from typing import Any

Schema = dict[str, Any]

RULES_MAX = 1000  # a partition
SCRIPT_MAX = 1000  # steps of one rule
BODY_MAX = 1024 * 1024  # bytes
TEMPLATE_MAX = 16 * 1024  # characters; filled in it may grow forty-fold
HEADER_VALUE_MAX = 8 * 1024
REGEX_MAX = 200
TARGET_MAX = 2048
SECONDS_MAX = 86_400
QUOTA_MAX = 10_000
GARBAGE_MAX = 64 * 1024
CENTURY = 3_155_760_000  # seconds; keeps dates within four-digit years

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # noqa: S105 - a field name, RFC 9110 section 5.6.2
# RFC 9110 section 5.5: no control character but tab, no white space at the ends.
FIELD_VALUE = r"^([\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$"
BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

PLACES = ("before-head", "in-head", "after-head", "mid-body", "after-body")


def _words(*words: str) -> str:
    """A pattern that only these words match. Unlike `enum` it leaves the other types of a union alone."""
    return f"^({'|'.join(words)})$"


def _one_of(description: str, scalar: Schema | None = None, **forms: Schema) -> Schema:
    """An object with exactly one of the keys `forms`, or what `scalar` allows."""
    scalar = dict(scalar or {})
    types = [scalar.pop("type"), "object"] if scalar else "object"
    return {
        "description": description,
        "type": types,
        **scalar,
        "properties": forms,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _object(description: str, properties: Schema, *required: str) -> Schema:
    schema: Schema = {"description": description, "type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    schema["additionalProperties"] = False
    return schema


def _integer(low: int, high: int, description: str = "") -> Schema:
    schema: Schema = {"type": "integer", "minimum": low, "maximum": high}
    return {"description": description, **schema} if description else schema


def _number(low: float, high: float, description: str = "") -> Schema:
    return {**_integer(0, 0, description), "type": "number", "minimum": low, "maximum": high}


def _pair(description: str) -> Schema:
    items = _number(0, SECONDS_MAX)
    return {"description": description, "type": "array", "items": items, "minItems": 2, "maxItems": 2}


_ORDINAL = {
    "type": ["integer", "array"],
    "minimum": 1,
    "items": {"type": "integer", "minimum": 1},
    "minItems": 1,
    "maxItems": 1000,
}

_CONDITION = _one_of(
    "The value itself (one of the values will do), a regular expression found in one of them, or whether there is one.",
    {"type": "string", "maxLength": HEADER_VALUE_MAX},
    regex={
        "description": "Searched for, in linear time: groups, classes, repeats, | ^ $ and a leading (?i); no "
        "back-references, no look-around. A value longer than 1024 characters matches none.",
        "type": "string",
        "maxLength": REGEX_MAX,
    },
    present={"type": "boolean"},
)

MATCH = _object(
    "Which arrivals the rule is for: all that meet every condition. Left out, or empty: everything on the data plane.",
    {
        "method": {
            "description": "As on the wire: upper case. HEAD is not GET.",
            "type": ["string", "array"],
            "pattern": "^[A-Z][A-Z0-9_-]{0,31}$",
            "items": {"type": "string", "pattern": "^[A-Z][A-Z0-9_-]{0,31}$"},
            "minItems": 1,
            "maxItems": 32,
        },
        "path": {
            "description": "Within the partition, percent-encoding undone, with or without the trailing slash. {name} "
            "is one segment, * is anything within one, /**/ is any number of segments, none included.",
            "type": "string",
            "pattern": r"^/([^{}?#]|\{[A-Za-z0-9_]+\})*$",
            "maxLength": 256,
        },
        "headers": {
            "type": "object",
            "propertyNames": {"pattern": f"^{TOKEN}{{1,100}}$"},
            "additionalProperties": {"$ref": "#/$defs/condition"},
            "maxProperties": 32,
        },
        "query": {
            "type": "object",
            "propertyNames": {"maxLength": 256},
            "additionalProperties": {"$ref": "#/$defs/condition"},
            "maxProperties": 32,
        },
        "body_bytes": _object("Size of the request body.", {"min": _integer(0, 2**40), "max": _integer(0, 2**40)}),
        "attempt": {
            "description": "Which attempt of its logical call it is, from 1. Attempts of a call share Idempotency-Key, "
            "else X-Request-ID, else amz-sdk-invocation-id, else method, target and body.",
            **_ORDINAL,
        },
        "for_s": {
            "description": "Seconds from the moment the rule was set.",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": SECONDS_MAX,
        },
        "between_s": _pair("From and to (not included), in seconds from the moment the rule was set."),
        "nth": {"description": "Of the arrivals that fit all of the above and reach this rule, from 1.", **_ORDINAL},
        "every": _integer(1, 10**9, "Each so many-th of them."),
        "first": _integer(1, 10**9, "Only so many of them."),
        "probability": _number(0, 1, "Drawn for what is left; seed, partition and ordinal of the arrival decide."),
    },
)

HEADERS = {
    "type": "object",
    "propertyNames": {"pattern": f"^{TOKEN}{{1,100}}$"},
    "additionalProperties": {
        "type": ["string", "array"],
        "pattern": FIELD_VALUE,
        "maxLength": HEADER_VALUE_MAX,
        "items": {"type": "string", "pattern": FIELD_VALUE, "maxLength": HEADER_VALUE_MAX},
        "minItems": 1,
        "maxItems": 16,
    },
    "maxProperties": 64,
}

BODY = _one_of(
    "Content-Type follows from the form, unless headers has one.",
    json={},
    text={"type": "string", "maxLength": BODY_MAX},
    html={"type": "string", "maxLength": BODY_MAX},
    template={
        "description": "Text with {method} {path} {ordinal} {attempt} filled in; other braces stay.",
        "type": "string",
        "maxLength": TEMPLATE_MAX,
    },
    base64={"type": "string", "pattern": BASE64, "maxLength": (BODY_MAX + 2) // 3 * 4},
    bytes=_integer(0, BODY_MAX, "So many bytes 0123456789abcdef0123..."),
)

DELAY = _one_of(
    "Seconds before anything else happens.",
    {"type": "number", "minimum": 0, "maximum": SECONDS_MAX},
    uniform=_pair("Lowest and highest."),
    lognormal=_object(
        "exp(N(ln median, sigma)).",
        {
            "median_s": {"type": "number", "exclusiveMinimum": 0, "maximum": SECONDS_MAX},
            "sigma": _number(0, 10),
        },
        "median_s",
        "sigma",
    ),
    histogram={
        "description": "[upper bound, count] of each bucket, bounds ascending; even within a bucket.",
        "type": "array",
        "items": {"type": "array", "items": _number(0, 10**9), "minItems": 2, "maxItems": 2},
        "minItems": 1,
        "maxItems": 1000,
    },
)

RETRY_AFTER = {
    "description": "Seconds, or an HTTP-date so many seconds from now (rounded up to the second), or any text.",
    "type": ["integer", "object"],
    "minimum": 0,
    "maximum": 10**18,
    "properties": {
        "date_s": _number(-CENTURY, CENTURY),
        "form": {"type": "string", "pattern": _words("imf-fixdate", "rfc850", "asctime")},
        "raw": {"type": "string", "pattern": FIELD_VALUE, "maxLength": HEADER_VALUE_MAX},
    },
    "additionalProperties": False,
    "minProperties": 1,
}

_STATUS = _integer(200, 599)

STEP = _object(
    "What happens to one arrival. Without status, body and redirect the real handler answers. (wire) marks what only "
    "`asgi-fault serve`, or uvicorn with our protocol class, can do.",
    {
        "status": {"description": "Without a body: JSON with the reason phrase.", **_STATUS},
        "headers": {"$ref": "#/$defs/headers"},
        "body": {"$ref": "#/$defs/body"},
        "retry_after": RETRY_AFTER,
        "redirect": _object(
            "A path gets the prefix of the partition; loop is the same target with an increasing ?fault_hop=n.",
            {
                "to": {"type": "string", "pattern": r"^[\x21-\x7e]+$", "maxLength": TARGET_MAX},
                "status": {"type": "integer", "enum": [301, 302, 303, 307, 308], "default": 302},
            },
            "to",
        ),
        "delay_s": DELAY,
        "informational": {
            "description": "(wire) Statuses sent before the answer.",
            "type": "array",
            "items": _integer(100, 199),
            "minItems": 1,
            "maxItems": 8,
        },
        "drip": _object(
            "The pace of the body; with head (wire) of the head as well.",
            {
                "bytes_per_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 10**9},
                "head": {"type": "boolean", "default": False},
            },
            "bytes_per_s",
        ),
        "stall": _object(
            "A silence; in-head is (wire). Without for_s it lasts until the client leaves or the server stops.",
            {"at": {"type": "string", "pattern": _words(*PLACES[:4])}, "for_s": _number(0, SECONDS_MAX)},
            "at",
        ),
        "truncate": _one_of(
            "(wire) Where the body breaks off, while Content-Length announces all of it.",
            bytes=_integer(0, 2**40),
            share={"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        ),
        "content_length": _one_of(
            "(wire) A Content-Length that is not the body's: wrong, left out, sent twice, or twice and different.",
            {"type": "string", "pattern": _words("missing", "duplicate", "conflicting")},
            add=_integer(-(10**9), 10**9),
            value=_integer(0, 2**53),
        ),
        "chunked": {
            "description": "Chunks in place of Content-Length; bad-chunk and no-last-chunk are (wire).",
            "type": "string",
            "pattern": _words("plain", "bad-chunk", "no-last-chunk"),
        },
        "end": _object(
            "(wire, but for close after-body) How the connection ends, and after which part of the answer.",
            {
                "how": {"type": "string", "pattern": _words("close", "half-close", "reset")},
                "at": {"type": "string", "pattern": _words("before-head", "after-head", "mid-body", "after-body")},
            },
            "how",
            "at",
        ),
        "garbage": _object(
            "(wire) Random bytes in place of an answer, then the connection is closed.",
            {"bytes": _integer(1, GARBAGE_MAX)},
            "bytes",
        ),
        "forge": _object(
            "(wire) A second answer right behind the first, which nobody asked for.",
            {"status": _STATUS, "headers": {"$ref": "#/$defs/headers"}, "body": {"$ref": "#/$defs/body"}},
            "status",
        ),
        "silence": {"description": "No answer at all, on an open connection.", "type": "boolean"},
    },
)

RATE_LIMIT = _object(
    "The real answer with RateLimit fields while the quota lasts, then 429 with Retry-After.",
    {
        "algorithm": {"type": "string", "pattern": _words("fixed-window", "sliding-window", "token-bucket")},
        "limit": _integer(1, QUOTA_MAX),
        "window_s": {"type": "number", "minimum": 0.001, "maximum": SECONDS_MAX},
        "key": _one_of(
            "Who has a quota of its own: each client address (the default), the partition, each value of a header.",
            {"type": "string", "pattern": _words("client", "partition")},
            header={"type": "string", "pattern": f"^{TOKEN}{{1,100}}$"},
        ),
    },
    "algorithm",
    "limit",
    "window_s",
)

RULE = _object(
    "Of a partition's rules, in the order they were set, the first that has a step for an arrival decides. Either "
    "script, then, or both; or rate_limit.",
    {
        "id": {
            "description": "Another rule of this id is replaced in place. Left out: r1, r2, ...",
            "type": "string",
            "pattern": "^[A-Za-z0-9._-]{1,64}$",
        },
        "match": {"$ref": "#/$defs/match"},
        "script": {
            "description": "One step for each arrival that matches, in order.",
            "type": "array",
            "items": {"$ref": "#/$defs/step"},
            "minItems": 1,
            "maxItems": SCRIPT_MAX,
        },
        "then": {"$ref": "#/$defs/step"},
        "rate_limit": {"$ref": "#/$defs/rate_limit"},
    },
)

SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Fault rules of asgi-fault",
    "description": "One rule, or several under `rules`: all of them are set, or none.",
    "if": {"required": ["rules"]},
    "then": {"$ref": "#/$defs/rules"},
    "else": {"$ref": "#/$defs/rule"},
    "$defs": {
        "rules": _object(
            "Several rules.",
            {"rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}, "minItems": 1, "maxItems": RULES_MAX}},
            "rules",
        ),
        "rule": RULE,
        "match": MATCH,
        "condition": _CONDITION,
        "step": STEP,
        "headers": HEADERS,
        "body": BODY,
        "rate_limit": RATE_LIMIT,
    },
}

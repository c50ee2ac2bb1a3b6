"""A fault that comes with its request: `X-Fault: status=503;retry-after=2;delay=0.5`, or the same as `?x-fault=`.

`key=value` pairs between semicolons, percent-encoded where a value has one; they make one step, checked like any other.
A text that begins with `{` is a step as JSON.

    status=503            retry-after=2 | date:2 | rfc850:2 | asctime:-5 | any text
    delay=0.5 | 0.1..0.5  body=... json=... html=... template=... base64=... bytes=n
    header=name:value     redirect=/x | loop          informational=102,103
    drip=100              drip-head=100               stall=mid-body | mid-body:5
    truncate=10 | 50%     content-length=7 | +5 | -5 | missing | duplicate | conflicting
    chunked=plain | bad-chunk | no-last-chunk         close= half-close= reset= before-head | ... | after-body
    garbage=32            silence
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from asgi_fault.faults.chance import Chance
from asgi_fault.faults.checks import Findings, Loc, check
from asgi_fault.faults.contradictions import check_step
from asgi_fault.faults.documents import read_json
from asgi_fault.faults.matching import Arrival
from asgi_fault.faults.plan import Plan
from asgi_fault.faults.schema import SCHEMA
from asgi_fault.faults.steps import Step

TEXT_MAX = 2048  # characters
RULE_ID = "X-Fault"
HEADER: Loc = ("header", "X-Fault")
QUERY: Loc = ("query", "x-fault")

_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
_DATES = {"date": "imf-fixdate", "rfc850": "rfc850", "asctime": "asctime"}


def plan_from_text(text: str, arrival: Arrival, seed: int, partition: str, *, wire: bool, loc: Loc = HEADER) -> Plan:
    """The plan that `text` asks for.

    Raises:
        ValidationFailed: it makes no step; the violations stand at `loc` and the key of the step.
    """
    step = step_from_text(text, wire=wire, loc=loc)
    return step.plan(arrival, Chance(seed, partition, arrival.ordinal, RULE_ID))


def step_from_text(text: str, *, wire: bool, loc: Loc = HEADER) -> Step:
    """The step that `text` says.

    Raises:
        ValidationFailed: it makes no step.
    """
    findings = Findings()
    if len(text) > TEXT_MAX:
        findings.add("string_too_long", loc, f"String should have at most {TEXT_MAX} characters", text)
        findings.raise_any()
    if text.lstrip().startswith("{"):
        document = read_json(text.encode("utf-8", "replace"), loc)
    else:
        document = _read_pairs(text, loc, findings)
    findings.raise_any()
    check(document, SCHEMA["$defs"]["step"], loc, findings)
    findings.raise_any()
    check_step(document, loc, findings, wire=wire)
    findings.raise_any()
    return Step(document, RULE_ID, -1)


def _read_pairs(text: str, loc: Loc, findings: Findings) -> dict[str, Any]:
    step: dict[str, Any] = {}
    for pair in text.split(";"):
        name, equals, value = pair.strip().partition("=")
        if not name:
            continue
        key, read = _KEYS.get(name.strip().lower(), (None, None))
        if key is None or read is None:
            known = ", ".join(_KEYS)
            findings.add("extra_forbidden", (*loc, name[:80]), f"There is no such key; there are {known}", value)
        elif not equals and key != "silence":
            findings.add("missing", (*loc, name), "The key needs a value: key=value", name)
        elif key == "headers":
            header, _, field = unquote(value).partition(":")
            step.setdefault(key, {}).setdefault(header.strip(), []).append(field.strip())
        elif key in step:
            findings.add("value_error", (*loc, name), f"Value error, {key} is said twice", value)
        elif name.lower() == "json":
            step[key] = {"json": read_json(unquote(value).encode("utf-8", "replace"), (*loc, "json"))}
        else:
            step[key] = read(unquote(value.strip()))
    if "status" in step and "redirect" in step:
        step["redirect"]["status"] = step.pop("status")
    return step


def _number(text: str) -> Any:
    """The number that `text` is, else the text, with which the check finds fault."""
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)


def _retry_after(text: str) -> Any:
    kind, colon, seconds = text.partition(":")
    if colon and kind in _DATES and _NUMBER.fullmatch(seconds):
        return {"date_s": _number(seconds), "form": _DATES[kind]}
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 19 else {"raw": text}


def _delay(text: str) -> Any:
    low, dots, high = text.partition("..")
    return {"uniform": [_number(low), _number(high)]} if dots else _number(text)


def _stall(text: str) -> Any:
    place, colon, seconds = text.partition(":")
    return {"at": place, "for_s": _number(seconds)} if colon else {"at": place}


def _truncate(text: str) -> Any:
    number = _number(text.removesuffix("%"))
    if text.endswith("%") and not isinstance(number, str):
        return {"share": number / 100}
    return {"share" if isinstance(number, float) else "bytes": number}


def _content_length(text: str) -> Any:
    if text[:1] in ("+", "-"):
        return {"add": _number(text.removeprefix("+"))}
    number = _number(text)
    return number if isinstance(number, str) else {"value": number}


def _end(how: str) -> Callable[[str], Any]:
    return lambda text: {"how": how, "at": text}


def _body(form: str, read: Callable[[str], Any] = str) -> Callable[[str], Any]:
    return lambda text: {form: read(text)}


_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "status": ("status", _number),
    "header": ("headers", str),
    "body": ("body", _body("text")),
    "json": ("body", _body("json")),
    "html": ("body", _body("html")),
    "template": ("body", _body("template")),
    "base64": ("body", _body("base64")),
    "bytes": ("body", _body("bytes", _number)),
    "retry-after": ("retry_after", _retry_after),
    "redirect": ("redirect", lambda text: {"to": text}),
    "delay": ("delay_s", _delay),
    "informational": ("informational", lambda text: [_number(status.strip()) for status in text.split(",")]),
    "drip": ("drip", lambda text: {"bytes_per_s": _number(text)}),
    "drip-head": ("drip", lambda text: {"bytes_per_s": _number(text), "head": True}),
    "stall": ("stall", _stall),
    "truncate": ("truncate", _truncate),
    "content-length": ("content_length", _content_length),
    "chunked": ("chunked", str),
    "close": ("end", _end("close")),
    "half-close": ("end", _end("half-close")),
    "reset": ("end", _end("reset")),
    "garbage": ("garbage", lambda text: {"bytes": _number(text)}),
    "silence": ("silence", lambda text: text in ("", "true")),
}

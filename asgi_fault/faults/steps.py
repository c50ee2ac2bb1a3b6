"""A step of a rule, ready to become a `Plan`: what is fixed is worked out when it is set, the rest on arrival."""

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from typing import Any, TypeAlias
from urllib.parse import quote

from asgi_fault.asgi import HTML, JSON, TEXT, Header, reason_phrase, to_json
from asgi_fault.faults.chance import Chance
from asgi_fault.faults.matching import Arrival
from asgi_fault.faults.plan import Answer, End, Plan, Stall
from asgi_fault.faults.retry_after import http_date

Document: TypeAlias = Mapping[str, Any]
Late: TypeAlias = "Callable[[Arrival, Chance], Mapping[str, Any]]"
"""What of a plan only the arrival decides: attributes of `Plan`."""

BODILESS = frozenset({204, 304})
BYTES = (b"content-type", b"application/octet-stream")
HOP = b"fault_hop"
PATH_SHOWN_MAX = 256
METHOD_SHOWN_MAX = 32
_FILLER = b"0123456789abcdef"


class Step:
    """One step.

    Args:
        document: a step without violations and contradictions.
        rule_id: of the rule it belongs to.
        index: its place in the script; -1 for `then`.

    Attributes:
        needs_attempt: it shows the attempt to the client.
    """

    __slots__ = ("_late", "_plan", "needs_attempt")

    def __init__(self, document: Document, rule_id: str, index: int) -> None:
        self._late: list[Late] = []
        delay = document.get("delay_s", 0)
        if isinstance(delay, Mapping):
            self._late.append(lambda _, chance: {"delay": chance.delay(delay)})
        if gives_answer(document):
            answering = _Answering(document)
            fixed: dict[str, Any] = {"answer": answering.fixed}
            if answering.fixed is None:
                self._late.append(lambda arrival, _: {"answer": answering.at(arrival)})
        else:
            headers = _Headers(document)
            fixed = {"headers": headers.fixed}
            if headers.late:
                self._late.append(lambda arrival, _: {"headers": headers.at(arrival)})
        if "forge" in document:
            forging = _Answering(document["forge"])
            fixed["forged"] = forging.fixed
            if forging.fixed is None:
                self._late.append(lambda arrival, _: {"forged": forging.at(arrival)})
        if "garbage" in document:
            size = int(document["garbage"]["bytes"])
            self._late.append(lambda _, chance: {"garbage": chance.bytes(size)})
        if not isinstance(delay, Mapping):
            fixed["delay"] = float(delay)
        self._plan = Plan(rule_id=rule_id, step=index, **fixed, **_framing(document), **_course(document))
        bodies = (document.get("body", {}), document.get("forge", {}).get("body", {}))
        self.needs_attempt = any("{attempt}" in body.get("template", "") for body in bodies)

    def plan(self, arrival: Arrival, chance: Chance) -> Plan:
        """What happens to `arrival`."""
        if not self._late:
            return self._plan
        decided: dict[str, Any] = {}
        for late in self._late:
            decided.update(late(arrival, chance))
        return replace(self._plan, **decided)


def gives_answer(document: Document) -> bool:
    """Whether the step answers itself, in place of the real handler."""
    return "status" in document or "body" in document or "redirect" in document


def answer_status(document: Document) -> int:
    """The status of the answer that a step gives itself."""
    if "redirect" in document:
        return int(document["redirect"].get("status", 302))
    return int(document.get("status", 200))


def body_size(document: Document) -> int | None:
    """How long the body of the answer is; None when that is known on arrival only."""
    if not gives_answer(document) or "template" in document.get("body", {}):
        return None
    form = document.get("body", {})
    if "bytes" in form:
        return int(form["bytes"])
    if "base64" in form:
        encoded: str = form["base64"]
        return len(encoded) // 4 * 3 - encoded.count("=")
    return len(_body(document)[1])


def _body(document: Document) -> tuple[Header | None, bytes]:
    """Content type and bytes of a body that is known beforehand."""
    form = document.get("body")
    if form is None:
        status = answer_status(document)
        return (None, b"") if status in BODILESS else (JSON, to_json({"detail": reason_phrase(status)}))
    if "json" in form:
        return JSON, to_json(form["json"])
    if "base64" in form:
        return BYTES, b64decode(form["base64"])
    if "html" in form:
        return HTML, form["html"].encode()
    return TEXT, form.get("text", "").encode()


def _filler(size: int) -> bytes:
    return (_FILLER * (size // len(_FILLER) + 1))[:size]


def _filled_in(template: str, arrival: Arrival) -> bytes:
    """The template for this arrival. One pass: what is filled in is not looked at again."""
    values = {
        "method}": arrival.method[:METHOD_SHOWN_MAX],
        "path}": arrival.path[:PATH_SHOWN_MAX],
        "ordinal}": str(arrival.ordinal),
        "attempt}": str(arrival.attempt),
    }
    head, *rest = template.split("{")
    made = [head]
    for piece in rest:
        name, brace, text = piece.partition("}")
        value = values.get(name + brace)
        made.append("{" + piece if value is None else value + text)
    return "".join(made).encode("utf-8", "replace")


class _Headers:
    """The header fields of a step, without content type.

    Attributes:
        fixed: those known beforehand. late: makes those that are not.
    """

    __slots__ = ("fixed", "late")

    def __init__(self, document: Document) -> None:
        fixed: list[Header] = []
        self.late: list[Callable[[Arrival], Header]] = []
        for name, values in document.get("headers", {}).items():
            fixed += [
                (name.lower().encode(), value.encode("latin-1"))
                for value in ([values] if isinstance(values, str) else values)
            ]
        if "redirect" in document:
            to: str = document["redirect"]["to"]
            self.late.append(_loop if to == "loop" else lambda arrival: (b"location", _located(to, arrival)))
        retry_after = document.get("retry_after")
        if isinstance(retry_after, int | float):
            fixed.append((b"retry-after", b"%d" % int(retry_after)))
        elif retry_after is not None and "raw" in retry_after:
            fixed.append((b"retry-after", retry_after["raw"].encode("latin-1")))
        elif retry_after is not None:
            seconds, form = retry_after["date_s"], retry_after.get("form", "imf-fixdate")
            self.late.append(lambda arrival: (b"retry-after", http_date(ceil(arrival.wall + seconds), form).encode()))
        self.fixed = tuple(fixed)

    def at(self, arrival: Arrival) -> tuple[Header, ...]:
        return (*self.fixed, *(late(arrival) for late in self.late))


class _Answering:
    """The answer of a step.

    Attributes:
        fixed: the answer when nothing of it depends on the arrival; else None. A body that is only a number of bytes
            is not kept either: thousands of steps may each have a megabyte of them.
    """

    __slots__ = ("_body", "_content_type", "_headers", "_status", "fixed")

    def __init__(self, document: Document) -> None:
        self._headers = _Headers(document)
        self._status = answer_status(document)
        form = document.get("body", {})
        self._body: Callable[[Arrival], bytes]
        known: bytes | None = None
        content_type: Header | None
        if "template" in form:
            content_type, template = TEXT, form["template"]
            self._body = lambda arrival: _filled_in(template, arrival)
        elif "bytes" in form:
            content_type, size = BYTES, int(form["bytes"])
            self._body = lambda _: _filler(size)
        else:
            content_type, body = _body(document)
            known = body
            self._body = lambda _: body
        overridden = any(name == b"content-type" for name, _ in self._headers.fixed)
        self._content_type = () if content_type is None or overridden else (content_type,)
        self.fixed: Answer | None = None
        if known is not None and not self._headers.late:
            self.fixed = Answer(self._status, (*self._content_type, *self._headers.fixed), known)

    def at(self, arrival: Arrival) -> Answer:
        return Answer(self._status, (*self._content_type, *self._headers.at(arrival)), self._body(arrival))


def _located(to: str, arrival: Arrival) -> bytes:
    """A path of ours gets the prefix of the partition; anything else goes where it says."""
    ours = to.startswith("/") and not to.startswith("//")
    return ((quote(arrival.prefix, safe="/~") if ours else "") + to).encode("ascii")


def _loop(arrival: Arrival) -> Header:
    """The target again, its `fault_hop` one higher: clients that stop at a repeated URL go on as well."""
    hop = 1
    kept = []
    for pair in arrival.query_string.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == HOP:
            hop = int(value) + 1 if value.isdigit() and len(value) < 10 else 1
        elif pair:
            kept.append(pair)
    query = b"&".join([*kept, b"%b=%d" % (HOP, hop)])
    # What a server lets through in a query may still be no character of a header.
    query = quote(query, safe="%/?:@!$&'()*+,;=-._~").encode()
    path = quote(arrival.prefix + arrival.path, safe="/:@!$&'()*+,;=-._~", errors="replace")
    return b"location", path.encode() + b"?" + query


def _framing(document: Document) -> dict[str, Any]:
    """How the answer is framed and where it breaks off, as attributes of `Plan`."""
    attributes: dict[str, Any] = {}
    length = document.get("content_length")
    if isinstance(length, str):
        attributes["framing"] = length
    elif length is not None and "add" in length:
        attributes["content_length_add"] = int(length["add"])
    elif length is not None:
        attributes["content_length"] = int(length["value"])
    if "chunked" in document:
        attributes["framing"] = "chunked" if document["chunked"] == "plain" else document["chunked"]
    cut = document.get("truncate")
    if cut is not None:
        attributes["cut"] = int(cut["bytes"]) if "bytes" in cut else float(cut["share"])
    return attributes


def _course(document: Document) -> dict[str, Any]:
    """In what time and to what end the answer is written, as attributes of `Plan`."""
    attributes: dict[str, Any] = {
        "informational": tuple(int(status) for status in document.get("informational", ())),
        "silent": document.get("silence", False),
    }
    drip = document.get("drip")
    if drip is not None:
        attributes["bytes_per_second"] = float(drip["bytes_per_s"])
        attributes["drip_head"] = drip.get("head", False)
    stall = document.get("stall")
    if stall is not None:
        seconds = stall.get("for_s")
        attributes["stall"] = Stall(stall["at"], None if seconds is None else float(seconds))
    end = document.get("end")
    if end is not None:
        attributes["end"] = End(end["how"], end["at"])
    return attributes

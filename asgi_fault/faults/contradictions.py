"""What a schema cannot say of a rule: keys that exclude each other, conditions never met, cuts that cut nothing.

Only for rules that the schema has nothing against. Every finding stands at the key that has to change.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from asgi_fault.faults.checks import Findings, Loc
from asgi_fault.faults.paths import mistake_in
from asgi_fault.faults.pattern import Pattern, PatternError
from asgi_fault.faults.schema import BODY_MAX, PLACES
from asgi_fault.faults.steps import BODILESS, answer_status, body_size

Document = Mapping[str, Any]

RESERVED_IDS = {
    "schema": "GET /faults/schema",
    "fail-count": "what /fail/count set",
    "fail-duration": "what /fail/duration set",
    "x-fault": "faults that come with a request",
}
NEEDS_WIRE = "needs the connection itself; run `asgi-fault serve`, or uvicorn --http asgi_fault.faults.wire:HttpTools"

EXCLUSIONS = (
    ("redirect", "status", "redirect has a status of its own"),
    ("truncate", "chunked", "a body in chunks has no Content-Length to announce all of it; use no-last-chunk"),
    ("truncate", "content_length", "truncate announces the true length"),
    ("content_length", "chunked", "an answer has a Content-Length or chunks"),
    ("forge", "truncate", "the forged answer would be read as the rest of the body"),
)
"""Pairs of keys that exclude each other: the second is at fault."""

NEVER_AFTER = {
    "before-head": ("drip", "truncate", "content_length", "chunked", "forge"),
    "after-head": ("truncate", "forge"),
    "mid-body": ("forge",),
}
"""What is never reached when the connection ends there."""

HEADERS_ELSEWHERE = {
    "content-length": "it follows from the body; content_length makes it wrong",
    "transfer-encoding": "it follows from chunked",
}


def check_rule(rule: Document, loc: Loc, findings: Findings, *, wire: bool) -> None:
    """Add what is contradictory in `rule`, and without `wire` what only our own protocol could do."""
    reserved = RESERVED_IDS.get(rule.get("id", "").lower())
    if reserved:
        findings.contradiction((*loc, "id"), f"this id stands for {reserved}", rule["id"])
    _check_match(rule.get("match", {}), (*loc, "match"), findings)
    if "rate_limit" in rule:
        for key in ("script", "then"):
            if key in rule:
                findings.contradiction((*loc, key), f"rate_limit excludes {key}")
    elif "script" not in rule and "then" not in rule:
        findings.contradiction(loc, "a rule needs script, then or rate_limit")
    for index, step in enumerate(rule.get("script", ())):
        check_step(step, (*loc, "script", index), findings, wire=wire)
        if findings.full:
            return
    if "then" in rule:
        check_step(rule["then"], (*loc, "then"), findings, wire=wire)


def check_step(step: Document, loc: Loc, findings: Findings, *, wire: bool) -> None:
    """Add what is contradictory in `step`, and without `wire` what only our own protocol could do."""
    if not step:
        return
    if step.get("silence"):
        _check_alone(step, {"silence"}, "with silence there is no answer", loc, findings)
    elif "garbage" in step:
        _check_alone(step, {"garbage", "delay_s"}, "garbage is all that is sent", loc, findings)
    else:
        for key, other, reason in EXCLUSIONS:
            if key in step and other in step:
                findings.contradiction((*loc, other), f"{key} excludes {other}: {reason}")
        _check_answer(step, loc, findings)
        if "forge" in step:
            _check_answer(step["forge"], (*loc, "forge"), findings)
        _check_times(step, loc, findings)
        _check_size(step, loc, findings)
        _check_course(step, loc, findings)
    if not wire:
        for at, what in _wire_needs(step):
            findings.contradiction((*loc, *at), f"{what} {NEEDS_WIRE}")


def _check_alone(step: Document, allowed: set[str], reason: str, loc: Loc, findings: Findings) -> None:
    for key in step:
        if key not in allowed:
            findings.contradiction((*loc, key), f"{reason}: {key} has no effect", step[key])


def _check_match(match: Document, loc: Loc, findings: Findings) -> None:
    mistake = mistake_in(match.get("path", "/"))
    if mistake:
        findings.contradiction((*loc, "path"), mistake, match["path"])
    for where in ("headers", "query"):
        _check_regexes(match.get(where, {}), (*loc, where), findings)
    size = match.get("body_bytes", {})
    if size.get("min", 0) > size.get("max", float("inf")):
        findings.contradiction((*loc, "body_bytes", "max"), "max is below min", size["max"])
    if "between_s" in match:
        start, end = match["between_s"]
        if start >= end:
            findings.contradiction((*loc, "between_s"), "there is nothing between the two", match["between_s"])
        elif start >= match.get("for_s", float("inf")):
            findings.contradiction((*loc, "for_s"), "it is over before between_s begins", match["for_s"])
    if "nth" in match:
        nth = match["nth"] if isinstance(match["nth"], list) else [match["nth"]]
        every, first = match.get("every", 1), match.get("first", float("inf"))
        if not any(n % every == 0 and n <= first for n in nth):
            findings.contradiction((*loc, "nth"), "every and first leave none of these", match["nth"])
    elif match.get("first", float("inf")) < match.get("every", 1):
        findings.contradiction((*loc, "first"), "every leaves none of the first", match["first"])


def _check_regexes(conditions: Document, loc: Loc, findings: Findings) -> None:
    for name, form in conditions.items():
        if isinstance(form, dict) and "regex" in form:
            try:
                Pattern(form["regex"])
            except PatternError as error:
                findings.contradiction((*loc, name, "regex"), str(error), form["regex"])


def _check_answer(answer: Document, loc: Loc, findings: Findings) -> None:
    """The parts of an answer, given by the step itself or forged."""
    elsewhere = dict(HEADERS_ELSEWHERE)
    if "redirect" in answer:
        elsewhere["location"] = "redirect writes it"
    if "retry_after" in answer:
        elsewhere["retry-after"] = "retry_after writes it"
    for name, value in answer.get("headers", {}).items():
        if name.lower() in elsewhere:
            findings.contradiction((*loc, "headers", name), elsewhere[name.lower()], value)
    status = answer_status(answer)
    body = answer.get("body")
    if body is None:
        return
    if status in BODILESS:
        findings.contradiction((*loc, "body"), f"an answer with status {status} has no body")
    size = body_size(answer)
    if size is not None and size > BODY_MAX:
        (form, content), *_ = body.items()
        findings.contradiction((*loc, "body", form), f"a body has at most {BODY_MAX} bytes, not {size}", content)


def _check_times(step: Document, loc: Loc, findings: Findings) -> None:
    delay = step.get("delay_s")
    if isinstance(delay, dict) and "uniform" in delay and delay["uniform"][0] > delay["uniform"][1]:
        findings.contradiction((*loc, "delay_s", "uniform"), "the lowest comes first", delay["uniform"])
    if isinstance(delay, dict) and "histogram" in delay:
        at = (*loc, "delay_s", "histogram")
        bounds = [upper for upper, _ in delay["histogram"]]
        if any(low >= high for low, high in pairwise(bounds)):
            findings.contradiction(at, "the upper bounds must ascend", delay["histogram"])
        if not any(count for _, count in delay["histogram"]):
            findings.contradiction(at, "all counts are 0", delay["histogram"])
    retry_after = step.get("retry_after")
    if isinstance(retry_after, dict):
        at = (*loc, "retry_after")
        if "raw" in retry_after and len(retry_after) > 1:
            findings.contradiction((*at, "raw"), "raw is the whole value: no date_s and no form beside it")
        elif "raw" not in retry_after and "date_s" not in retry_after:
            findings.contradiction((*at, "form"), "form needs date_s", retry_after["form"])
    if 101 in step.get("informational", ()):
        at = (*loc, "informational", step["informational"].index(101))
        findings.contradiction(at, "101 ends HTTP on the connection: it is no informational answer", 101)


def _check_size(step: Document, loc: Loc, findings: Findings) -> None:
    """Cuts and stalls that the body is too short for; nothing when its size is not known beforehand."""
    size = body_size(step)
    if size is None:
        return
    cut = step.get("truncate", {})
    if cut.get("bytes", -1) >= size or ("share" in cut and size == 0):
        key = next(iter(cut))
        findings.contradiction((*loc, "truncate", key), f"the body has {size} bytes: nothing is cut off", cut[key])
    if size == 0:
        for key in ("stall", "end"):
            if step.get(key, {}).get("at") == "mid-body":
                findings.contradiction((*loc, key, "at"), "the body is empty: it has no middle", "mid-body")
    if "chunked" in step and answer_status(step) in BODILESS:
        findings.contradiction((*loc, "chunked"), f"an answer with status {step['status']} has no body")
    added = step.get("content_length")
    if isinstance(added, dict) and size + added.get("add", 0) < 0:
        reason = f"the body has {size} bytes: Content-Length would be negative"
        findings.contradiction((*loc, "content_length", "add"), reason, added["add"])


def _check_course(step: Document, loc: Loc, findings: Findings) -> None:
    """The end of the connection, and what would come after it."""
    chunked, length = step.get("chunked"), step.get("content_length")
    if "forge" in step and (length == "missing" or chunked in ("bad-chunk", "no-last-chunk")):
        key = "content_length" if length == "missing" else "chunked"
        findings.contradiction((*loc, key), "the first answer has no end that a second could follow", step[key])
    stall = step.get("stall")
    lasting = stall is not None and "for_s" not in stall
    if lasting and "forge" in step:
        findings.contradiction((*loc, "forge"), "a stall without for_s has nothing behind it")
    end = step.get("end")
    if end is None:
        return
    at: str = end["at"]
    if lasting:
        findings.contradiction((*loc, "end"), "a stall without for_s has nothing behind it", end)
    elif stall is not None and PLACES.index(stall["at"]) > PLACES.index(at):
        findings.contradiction((*loc, "stall", "at"), f"the connection ends {at}", stall["at"])
    for key in NEVER_AFTER.get(at, ()):
        if key in step:
            findings.contradiction((*loc, key), f"the connection ends {at}: {key} has no effect")
    if at == "after-head" and "drip" in step and not step["drip"].get("head"):
        findings.contradiction((*loc, "drip"), "the connection ends after-head: there is no body to drip")
    if chunked in {"after-head": ("bad-chunk", "no-last-chunk"), "mid-body": ("no-last-chunk",)}.get(at, ()):
        findings.contradiction((*loc, "chunked"), f"the connection ends {at}: {chunked} has no effect", chunked)
    if at == "after-body" and "truncate" in step:
        findings.contradiction((*loc, "end", "at"), "truncate breaks off mid-body", at)


_WIRE: tuple[tuple[tuple[str, ...], Callable[[Any], bool]], ...] = (
    (("informational",), lambda _: True),
    (("drip", "head"), bool),
    (("stall", "at"), lambda at: bool(at == "in-head")),
    (("truncate",), lambda _: True),
    (("content_length",), lambda _: True),
    (("chunked",), lambda form: bool(form != "plain")),
    (("end",), lambda end: bool((end["how"], end["at"]) != ("close", "after-body"))),
    (("garbage",), lambda _: True),
    (("forge",), lambda _: True),
)


def _wire_needs(step: Document) -> list[tuple[tuple[str, ...], str]]:
    """The places in `step` that only our own protocol can carry out, and what stands there."""
    needs = []
    for at, is_needed in _WIRE:
        value: Any = step
        for key in at:
            value = value.get(key) if value is not None else None
        if value is not None and is_needed(value):
            needs.append((at, f"{at[-1]} {value}" if isinstance(value, str) else at[0]))
    return needs

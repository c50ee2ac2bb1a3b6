"""Expectations as a test writes them, `count=3, min_gaps=[1, 2]`, made into those of the journal, and judged.

Three are a test's own: `max_attempts`, `min_gaps`, and `no_unsafe_retry`: a request whose method is not idempotent
(RFC 9110 section 9.2.2) came no second time with the same target and body, unless it carried an Idempotency-Key.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from asgi_fault.errors import ValidationFailed
from asgi_fault.faults.checks import Findings, check
from asgi_fault.faults.documents import copy_of
from asgi_fault.faults.paths import PathPattern, bare, mistake_in
from asgi_fault.observe.expectations import SCHEMA, contradictions, paths
from asgi_fault.observe.timeline import calls_of
from asgi_fault.observe.verify import NOTHING, Check, Row, Shown, select, verify
from asgi_fault.testing.messages import explained

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
FILTERS = ("method", "path", "status", "call")
COUNTS = ("count", "calls", "attempts")
FLAGS = ("same_key", "same_body", "no_unsafe_retry")
OWN = ("max_attempts", "min_gaps", "no_unsafe_retry")
NAMES = frozenset({*FILTERS, *OWN, *SCHEMA["properties"]} - {"match"})

OVERLAP = "calls overlap, and whose sleeps were skipped cannot be told; test them without recorded_sleeps"


class ExpectationError(ValueError):
    """Expectations that make no sense."""


def expectations_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The expectations of the journal, plus `no_unsafe_retry`, that `options` are.

    Raises:
        ExpectationError: with every mistake.
    """
    unknown = sorted(options.keys() - NAMES)
    if unknown:
        known = ", ".join(sorted(NAMES))
        raise ExpectationError(f"{', '.join(unknown)}: there is no such expectation; there are {known}")
    wanted = {name: value for name, value in options.items() if value is not None and not (name in FLAGS and not value)}
    match = {name: wanted.pop(name) for name in FILTERS if name in wanted}
    for name in COUNTS:
        if name in wanted:
            wanted[name] = _bounds(wanted[name])
    if "max_attempts" in wanted:
        wanted["attempts"] = {**wanted.get("attempts", {}), "max": wanted.pop("max_attempts")}
    if "min_gaps" in wanted:
        gaps = wanted.pop("min_gaps")
        wanted["gaps"] = [{"min_s": gap} for gap in gaps] if isinstance(gaps, list | tuple) else {"min_s": gaps}
    unsafe = wanted.pop("no_unsafe_retry", False)
    if wanted:
        wanted = _checked({**wanted, **({"match": match} if match else {})})
    elif not unsafe:
        raise ExpectationError(f"nothing is expected; say one of {', '.join(sorted(NAMES - set(FILTERS)))}")
    else:
        wanted = {"match": match}
    return {**wanted, "no_unsafe_retry": True} if unsafe else wanted


def judge(
    entries: Sequence[Shown], expectations: Mapping[str, Any], skipped: Sequence[tuple[float, float]] = ()
) -> tuple[list[Shown], list[Check]]:
    """The entries that are looked at, and every expectation judged on them.

    Args:
        entries: of the journal, as JSON values.
        expectations: from `expectations_of`.
        skipped: the sleeps that were skipped: the instant each began, and its seconds.
    """
    selected = select(entries, expectations.get("match", {}), path_test)
    expected = {name: value for name, value in expectations.items() if name != "no_unsafe_retry"}
    checks = verify(selected, expected, path_test)
    if "no_unsafe_retry" in expectations:
        checks.append(_no_unsafe_retry(selected))
    if _ambiguous(entries, skipped):
        checks = [replace(one, ok=False, note=OVERLAP) if one.name == "gaps" else one for one in checks]
    return selected, checks


def with_skipped(entries: Sequence[dict[str, Any]], skipped: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """The entries with the gaps that there were when sleeps were skipped.

    A client may act on a head while the server is about to write the body, and so sleep before the clock is read for
    the end of the answer. In real time that is nothing; a skipped hour would be missing from the gap.
    """
    if skipped:
        for attempts in calls_of(entries).values():
            for before, after in pairwise(attempts):
                if after["gap_s"] is not None:
                    begin, end = before["monotonic_s"], before["done_monotonic_s"]
                    after["gap_s"] += sum(seconds for at, seconds in skipped if begin <= at <= end)  # type: ignore[index]
    return list(entries)


def skipped_between(entries: Sequence[Shown], skipped: Sequence[tuple[float, float]]) -> float:
    """The seconds skipped between the first and the last of `entries`."""
    if not entries:
        return 0.0
    instants = [entry["monotonic_s"] for entry in entries]
    return sum(seconds for at, seconds in skipped if min(instants) <= at <= max(instants))


def path_test(pattern: str) -> Callable[[str], bool]:
    """The test whether a path fits `pattern`, written as in a rule."""
    compiled = PathPattern(bare(pattern))
    return lambda path: compiled.fits(bare(path))


def _bounds(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"exactly": value}
    if isinstance(value, tuple) and len(value) == 2:
        return {"min": value[0], "max": value[1]}
    return value


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    findings = Findings()
    try:
        copy = copy_of(document, ())
        check(copy, SCHEMA, (), findings)
        if not findings.violations:
            for loc, message in contradictions(copy):
                findings.contradiction(tuple(loc), message)
            for loc, pattern in paths(copy):
                mistake = mistake_in(pattern)
                if mistake is not None:
                    findings.contradiction(tuple(loc), mistake, pattern)
        findings.raise_any()
    except ValidationFailed as error:
        raise ExpectationError(explained(error, ())) from None
    checked: dict[str, Any] = copy
    return checked


def _no_unsafe_retry(entries: Sequence[Shown]) -> Check:
    seen: dict[tuple[Any, ...], int] = {}
    rows: list[Row] = []
    for entry in entries:
        if entry["method"] in IDEMPOTENT or entry["headers"].get("idempotency-key"):
            continue
        key = (entry["method"], entry["target"], entry["body"]["sha256"], entry["body"]["bytes"])
        seen[key] = seen.get(key, 0) + 1
        observed = "sent once" if seen[key] == 1 else f"sent {seen[key]} times"
        rows.append(Row(ok=seen[key] == 1, expected="sent once", observed=observed, entry=entry))
    wrong = [row for row in rows if not row.ok]
    return Check(
        name="no_unsafe_retry",
        ok=bool(entries) and not wrong,
        expected=True,
        observed=[row.observed for row in rows],
        note="" if entries else NOTHING,
        rows=rows or [Row(ok=True, expected="", observed="")],
        evidence=[row.entry["ordinal"] for row in wrong if row.entry] or [entry["ordinal"] for entry in entries],
    )


def _ambiguous(entries: Sequence[Shown], skipped: Sequence[tuple[float, float]]) -> bool:
    """Whether a sleep was skipped between two attempts of more than one call."""
    gaps = [
        (before["done_monotonic_s"], after["monotonic_s"])
        for attempts in calls_of(entries).values()
        for before, after in pairwise(attempts)
        if before["done_monotonic_s"] is not None
    ]
    return any(sum(begin <= at <= end for begin, end in gaps) > 1 for at, _ in skipped)

"""Verification: whether the arrivals in a journal are what was expected of a client.

Pure: journal entries as JSON values and expectations that fit `expectations.SCHEMA` in, checks and a report out. So the
same checks judge a live server, a recorded journal and a simulated client.

Two rules keep it honest. A check that finds nothing to judge fails: a client that never retries does not pass for one
that waits long enough. And a gap measured at the server proves only "too early": the clock is read before the last byte
of an answer is written, so the client's own wait is shorter than the gap. "Too late" may be the network's doing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, TypeAlias

from asgi_fault.observe.timeline import calls_of, gap_text

Shown: TypeAlias = Mapping[str, Any]
"""A journal entry as a JSON value."""

PathTest: TypeAlias = Callable[[str], Callable[[str], bool]]
"""Makes, of a path pattern as it stands in a rule, the test whether a path fits it."""

CLOCK_TOLERANCE = 0.005  # seconds: what two readings of the clock may be wrong by
NOTHING = "nothing to judge"
UNKNOWN = gap_text(None)
LATE = "too late, but not proven: the time on the network and in a busy machine counts as well"
KEY_HEADERS = ("idempotency-key", "x-request-id", "amz-sdk-invocation-id", "x-ms-client-request-id")


@dataclass(frozen=True)
class Row:
    """One line of the comparison: what was expected in this place and what was there."""

    ok: bool
    expected: str
    observed: str
    entry: Shown | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One expectation, judged.

    Attributes:
        proven: False for a failure that what a server sees cannot prove.
        evidence: ordinals of the arrivals that decide; those that are wrong, where some are.
        rows: the comparison in detail, for the report.
    """

    name: str
    ok: bool
    expected: Any
    observed: Any
    proven: bool = True
    note: str = ""
    rows: Sequence[Row] = field(default=(), repr=False)
    evidence: Sequence[int] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is answered; the rows are only in the report."""
        shown = {
            "check": self.name,
            "ok": self.ok,
            "proven": self.proven,
            "expected": self.expected,
            "observed": self.observed,
            "evidence": list(self.evidence),
        }
        return {**shown, "note": self.note} if self.note else shown


def select(entries: Iterable[Shown], match: Mapping[str, Any], path_test: PathTest) -> list[Shown]:
    """The entries that fit `match`, in order of arrival."""
    path_fits = path_test(match["path"]) if "path" in match else None
    methods, statuses = _listed(match.get("method")), _listed(match.get("status"))
    return [
        entry
        for entry in sorted(entries, key=lambda entry: int(entry["ordinal"]))
        if (methods is None or entry["method"] in methods)
        and (statuses is None or entry["status"] in statuses)
        and (path_fits is None or path_fits(entry["path"]))
        and ("call" not in match or entry["call"] == match["call"])
    ]


def verify(selected: Sequence[Shown], expectations: Mapping[str, Any], path_test: PathTest) -> list[Check]:
    """Every expectation, judged on `selected`: the entries that its `match` selects, in order of arrival."""
    checks: list[Check] = []
    if "count" in expectations:
        counts = expectations["count"]
        counts = counts if isinstance(counts, list) else [counts]
        checks += [_count(select(selected, count, path_test), count) for count in counts]
    if "order" in expectations:
        checks.append(_order(selected, expectations["order"], path_test))
    checks += [judge(selected, expectations[name]) for name, judge in _JUDGES.items() if name in expectations]
    return checks


def _count(found: Sequence[Shown], expected: Mapping[str, Any]) -> Check:
    return Check(
        name="count",
        ok=_within(len(found), expected),
        expected=dict(expected),
        observed=len(found),
        evidence=_ordinals(found),
    )


def _calls(entries: Sequence[Shown], expected: Mapping[str, Any]) -> Check:
    calls = calls_of(entries)
    return Check(
        name="calls",
        ok=_within(len(calls), expected),
        expected=dict(expected),
        observed=len(calls),
        evidence=_ordinals(attempts[0] for attempts in calls.values()),
    )


def _attempts(entries: Sequence[Shown], expected: Mapping[str, Any]) -> Check:
    calls = calls_of(entries).values()
    rows = [
        Row(_within(len(attempts), expected), bounds_text(expected), str(len(attempts)), attempts[0])
        for attempts in calls
    ]
    return _from_rows("attempts", dict(expected), [len(attempts) for attempts in calls], rows)


def _statuses(entries: Sequence[Shown], expected: Sequence[int]) -> Check:
    rows = [
        Row(
            entry is not None and status == entry["status"],
            "-" if status is None else str(status),
            "-" if entry is None else str(entry["status"]),
            entry,
        )
        for status, entry in zip_longest(expected, entries)
    ]
    observed = [entry["status"] for entry in entries]
    # Nothing expected and nothing there is an answer too.
    return _from_rows("statuses", list(expected), observed, rows or [Row(ok=True, expected="-", observed="-")])


def _order(entries: Sequence[Shown], expected: Sequence[str], path_test: PathTest) -> Check:
    rows: list[Row] = []
    place = 0
    for text in expected:
        method, _, path = text.partition(" ")
        path_fits = path_test(path)
        for at in range(place, len(entries)):
            entry = entries[at]
            if method in ("*", entry["method"]) and path_fits(entry["path"]):
                rows += map(_between, entries[place:at])
                rows.append(Row(ok=True, expected=text, observed=_request(entry), entry=entry))
                place = at + 1
                break
        else:
            # What comes next is looked for from the same place, so that one that is missing is reported alone.
            rows.append(Row(ok=False, expected=text, observed="-"))
    rows += map(_between, entries[place:])
    found = [row for row in rows if row.expected and row.ok]
    check = _from_rows("order", list(expected), [row.observed for row in found], rows)
    return replace(check, evidence=_ordinals(row.entry for row in found))


def _between(entry: Shown) -> Row:
    return Row(ok=True, expected="", observed=_request(entry), entry=entry)


def _gaps(entries: Sequence[Shown], expected: Mapping[str, float] | Sequence[Mapping[str, float]]) -> Check:
    rows: list[Row] = []
    observed: list[float | None] = []
    for attempts in calls_of(entries).values():
        later = [entry for entry in attempts if entry["attempt"] > 1]
        observed += [entry["gap_s"] for entry in later]
        bounds = [expected] * len(later) if isinstance(expected, Mapping) else expected
        rows += [_gap(bound, entry, attempts[-1]) for bound, entry in zip_longest(bounds, later)]
    if all(row.ok and row.observed == UNKNOWN for row in rows):
        rows = []
    shown = dict(expected) if isinstance(expected, Mapping) else list(map(dict, expected))
    proven = all(row.ok for row in rows) or any(not row.ok and row.note != LATE for row in rows)
    return replace(_from_rows("gaps", shown, observed, rows), proven=proven)


def _gap(bound: Mapping[str, float] | None, entry: Shown | None, last: Shown) -> Row:
    expected = "no further attempt" if bound is None else gap_bounds_text(bound)
    if entry is None:
        return Row(ok=False, expected=expected, observed="no further attempt", entry=last)
    gap, observed = entry["gap_s"], gap_text(entry["gap_s"])
    note = ""
    if bound is None:
        return Row(ok=False, expected=expected, observed=observed, entry=entry)
    if gap is None:
        return Row(ok=True, expected=expected, observed=UNKNOWN, entry=entry, note="its beginning is not known")
    if "min_s" in bound and gap < bound["min_s"] - CLOCK_TOLERANCE:
        note = "too early"
    elif "max_s" in bound and gap > bound["max_s"]:
        note = LATE
    return Row(ok=not note, expected=expected, observed=observed, entry=entry, note=note)


def _same_key(entries: Sequence[Shown], expected: object) -> Check:
    groups: dict[tuple[Any, ...], list[Shown]] = {}
    for entry in entries:
        body = entry["body"]
        groups.setdefault((entry["method"], entry["target"], body["sha256"], body["bytes"]), []).append(entry)
    rows: list[Row] = []
    for group in groups.values():
        if len(group) > 1:
            first = _key(group[0])
            rows += [Row(_key(entry) == first != "none", first, _key(entry), entry) for entry in group]
    return _from_rows("same_key", expected, sorted({row.observed for row in rows}), rows)


def _same_body(entries: Sequence[Shown], expected: object) -> Check:
    groups: dict[tuple[Any, ...], list[Shown]] = {}
    for entry in entries:
        # A call without a key is told by its body, so its attempts could not differ: then the request line has to do.
        keyed = entry["call_from"] != "request"
        key = (entry["call_from"], entry["call"]) if keyed else ("", entry["method"], entry["target"])
        groups.setdefault(key, []).append(entry)
    rows: list[Row] = []
    for group in groups.values():
        if len(group) > 1:
            rows += [Row(entry["body"] == group[0]["body"], _body(group[0]), _body(entry), entry) for entry in group]
    return _from_rows("same_body", expected, sorted({row.observed for row in rows}), rows)


def _connections(entries: Sequence[Shown], distinct: bool) -> Check:  # noqa: FBT001 - the value of an expectation
    rows: list[Row] = []
    for attempts in calls_of(entries).values():
        seen: list[Any] = []
        for entry in attempts if len(attempts) > 1 else ():
            connection = entry["connection"] and entry["connection"]["id"]
            ok = connection is not None and (not seen or (connection not in seen) == distinct)
            rows.append(Row(ok, _wanted(seen, distinct=distinct), str(connection or "unknown"), entry))
            seen.append(connection)
    return _from_rows("distinct_connections", distinct, [row.observed for row in rows], rows)


def _wanted(seen: Sequence[Any], *, distinct: bool) -> str:
    if not seen:
        return "any"
    return "another" if distinct else str(seen[0])


_JUDGES: Mapping[str, Callable[[Sequence[Shown], Any], Check]] = {
    "calls": _calls,
    "attempts": _attempts,
    "statuses": _statuses,
    "gaps": _gaps,
    "same_key": _same_key,
    "same_body": _same_body,
    "distinct_connections": _connections,
}


def bounds_text(bounds: Mapping[str, Any]) -> str:
    """`exactly 3`, `at least 1`, `at most 5`, `1 to 5`."""
    if "exactly" in bounds:
        return f"exactly {bounds['exactly']}"
    if "min" in bounds and "max" in bounds:
        return f"{bounds['min']} to {bounds['max']}"
    return f"at least {bounds['min']}" if "min" in bounds else f"at most {bounds['max']}"


def gap_bounds_text(bounds: Mapping[str, float]) -> str:
    """`>= 2 s`, `<= 5 s`, `2 to 5 s`."""
    low, high = bounds.get("min_s"), bounds.get("max_s")
    if low is not None and high is not None:
        return f"{low:g} to {high:g} s"
    return f">= {low:g} s" if low is not None else f"<= {high:g} s"


def _from_rows(name: str, expected: Any, observed: Any, rows: Sequence[Row]) -> Check:
    wrong = [row for row in rows if not row.ok]
    return Check(
        name=name,
        ok=bool(rows) and not wrong,
        expected=expected,
        observed=observed,
        note="" if rows else NOTHING,
        rows=rows,
        evidence=_ordinals(row.entry for row in wrong or rows),
    )


def _within(number: int, bounds: Mapping[str, Any]) -> bool:
    if "exactly" in bounds:
        return bool(number == bounds["exactly"])
    return bool(bounds.get("min", 0) <= number <= bounds.get("max", number))


def _ordinals(entries: Iterable[Shown | None]) -> list[int]:
    return [entry["ordinal"] for entry in entries if entry is not None]


def _listed(value: Any) -> list[Any] | None:
    return value if value is None or isinstance(value, list) else [value]


def _request(entry: Shown) -> str:
    return f"{entry['method']} {entry['path']}"


def _key(entry: Shown) -> str:
    headers: Mapping[str, str] = entry["headers"]
    return next((f"{name}: {headers[name]}" for name in KEY_HEADERS if headers.get(name)), "none")


def _body(entry: Shown) -> str:
    sha = entry["body"]["sha256"]
    return f"{entry['body']['bytes']} bytes" + (f" {sha[:12]}" if sha else "")

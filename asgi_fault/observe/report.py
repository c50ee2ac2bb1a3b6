"""A verification as text: one line a check, and what was expected beside what was there where it differs."""

from collections.abc import Mapping, Sequence
from typing import Any

from asgi_fault.observe.redaction import cut
from asgi_fault.observe.timeline import calls_of, plain, timeline
from asgi_fault.observe.verify import Check, Row, Shown, bounds_text

ROWS_MAX = 40  # lines of one comparison
CELL_MAX = 60  # characters
INDENT = " " * 8


def report(entries: Sequence[Shown], checks: Sequence[Check], *, forgotten: bool) -> str:
    """The text for `checks` made on `entries`; `forgotten` says that the journal was full and older ones may miss."""
    failed = sum(not check.ok for check in checks)
    number = _number(len(checks), "check")
    verdict = f"FAILED: {failed} of {number}" if failed else f"ok: {number}"
    lines = [f"{verdict}. {_number(len(entries), 'arrival')} in {_number(len(calls_of(entries)), 'call')}"]
    if forgotten:
        lines.append("The journal is full: earlier arrivals are forgotten, and not judged.")
    if entries:
        lines += ["", timeline(entries)]
    lines.append("")
    start = min((entry["monotonic_s"] for entry in entries), default=0.0)
    for check in checks:
        lines += _lines_of(check, start)
    return "\n".join(lines) + "\n"


def _lines_of(check: Check, start: float) -> list[str]:
    head = f"{'ok' if check.ok else 'FAILED':<6}  {check.name}"
    if check.note:
        return [f"{head}: {check.note}"]
    if not check.rows:
        return [f"{head}: {_filter_text(check.expected)}{bounds_text(check.expected)}, there were {check.observed}"]
    if check.ok:
        return [f"{head}: {_number(len(check.evidence), 'arrival')}"]
    return [head if check.proven else f"{head} (not proven)", *_table(check.rows, start)]


def _table(all_rows: Sequence[Row], start: float) -> list[str]:
    rows = _around_the_first_difference(all_rows)
    cells = [("", "expected", "observed", "time", ""), *(_cells(row, start) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = []
    for line in cells:
        padded = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=False))
        mark, *columns = padded
        lines.append(f"{INDENT}{mark} {'  '.join((*columns, line[4]))}".rstrip())
    if len(rows) < len(all_rows):
        lines.append(f"{INDENT}({len(all_rows) - len(rows)} more)")
    return lines


def _around_the_first_difference(rows: Sequence[Row]) -> Sequence[Row]:
    """As many rows as are shown, among them the first that differs."""
    first = next(place for place, row in enumerate(rows) if not row.ok)
    begin = max(0, min(first - ROWS_MAX // 2, len(rows) - ROWS_MAX))
    return rows[begin : begin + ROWS_MAX]


def _cells(row: Row, start: float) -> tuple[str, str, str, str, str]:
    what = [] if row.entry is None else [f"#{row.entry['ordinal']} {row.entry['method']} {row.entry['path']}"]
    what += [row.note] if row.note else []
    return (
        " " if row.ok else "!",
        cut(plain(row.expected), CELL_MAX),
        cut(plain(row.observed), CELL_MAX),
        "" if row.entry is None else f"+{row.entry['monotonic_s'] - start:.3f}s",
        "; ".join(cut(plain(text), CELL_MAX * 2) for text in what),
    )


def _filter_text(expected: Mapping[str, Any]) -> str:
    names = ("method", "path", "status", "call")
    words = [f"{name} {plain(str(expected[name]))}" for name in names if name in expected]
    return f"{', '.join(words)}: " if words else ""


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

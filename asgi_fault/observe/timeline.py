r"""Timelines: one line of plain text for each logical call, with every attempt and the time between them.

    POST /orders  order-7  |--x 503--0.43s--x 503--0.91s--ok|

An attempt is `ok` (200), `ok 204` (another 2xx, or 304), `-> 302` (a redirect), `x 503` (any other status), and where
there was no answer `x reset`, `x close`, `x half-close` (a rule's doing), `x left` (the client left) or `x nothing`.
The time is from the end of one attempt to the arrival of the next; `?` where the end is not known.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from asgi_fault.observe.redaction import cut

CALLS_MAX = 50  # lines
ATTEMPTS_HEAD, ATTEMPTS_TAIL = 9, 3  # attempts of one call that are drawn, from either end
LABEL_MAX = 60  # characters

SPOILS = frozenset({"server-close", "server-half-close", "server-reset"})
"""Ends of a connection that are a rule's doing; any other is the ordinary end of one."""


def timeline(entries: Iterable[Mapping[str, Any]]) -> str:
    """The timelines of the calls in `entries` (journal entries as JSON values), in order of their first arrival."""
    calls = list(calls_of(entries).values())
    labels = [_label(attempts[0]) for attempts in calls[:CALLS_MAX]]
    width = max(map(len, labels), default=0)
    lines = [f"{label:<{width}}  {strip(attempts)}" for label, attempts in zip(labels, calls[:CALLS_MAX], strict=True)]
    if len(calls) > CALLS_MAX:
        lines.append(f"... and {len(calls) - CALLS_MAX} more calls")
    return "\n".join(lines)


def calls_of(entries: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """The entries of each logical call, both in order of arrival."""
    calls: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in sorted(entries, key=lambda entry: int(entry["ordinal"])):
        calls.setdefault((entry["call_from"], entry["call"]), []).append(entry)
    return calls


def strip(attempts: list[Mapping[str, Any]]) -> str:
    """The attempts of one call as a strip."""
    pieces: list[str] = []
    left_out = len(attempts) - ATTEMPTS_HEAD - ATTEMPTS_TAIL
    for place, entry in enumerate(attempts):
        if left_out > 1 and ATTEMPTS_HEAD <= place < ATTEMPTS_HEAD + left_out:
            if place == ATTEMPTS_HEAD:
                pieces.append(f"({left_out} more)")
            continue
        if place:
            pieces.append(gap_text(entry["gap_s"]))
        pieces.append(outcome_text(entry))
    return f"|--{'--'.join(pieces)}|"


def gap_text(gap: float | None) -> str:
    """A gap to read: `0.43s`, `12ms`, `overlap 0.10s`, `?`."""
    if gap is None:
        return "?"
    if gap < 0:
        return f"overlap {gap_text(-gap)}"
    return f"{gap:.2f}s" if gap >= 0.0995 else f"{gap * 1000:.0f}ms"


def outcome_text(entry: Mapping[str, Any]) -> str:
    """What an attempt got, see the module."""
    status: int = entry["status"]
    ended: str = entry["ended"] or ""
    left = entry["done_monotonic_s"] is None
    spoiled = entry["rule"] is not None and ended in SPOILS
    how = "left" if left else ended.removeprefix("server-") if spoiled else "nothing"
    if not status:
        return f"x {how}"
    if left or spoiled:
        return f"x {status} {how}"
    if 200 <= status < 300 or status == 304:
        return "ok" if status == 200 else f"ok {status}"
    return f"-> {status}" if status in (301, 302, 303, 307, 308) else f"x {status}"


def plain(text: str) -> str:
    """`text` in printable ASCII, so that nothing a client sent can move the cursor of a terminal."""
    return text.encode("unicode_escape").decode("ascii")


def _label(entry: Mapping[str, Any]) -> str:
    request = cut(plain(f"{entry['method']} {entry['path']}"), LABEL_MAX)
    return request if entry["call_from"] == "request" else f"{request}  {cut(plain(entry['call']), LABEL_MAX)}"

"""What a journal proves, and how it is drawn: strips, lanes, ticks, and the few numbers that claims are made of.

Everything here takes journal entries as JSON values, as `GET /journal` answers them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from asgi_fault.observe.timeline import calls_of, plain, strip

Entry = dict[str, Any]
Entries = list[Entry]

CALLS_DRAWN = 3
BAR_WIDTH = 60  # characters


@dataclass(frozen=True, slots=True)
class Played:
    """A chapter that was played.

    Attributes:
        entries: the server's journal, in order of arrival.
        began_at: instant of the journal's clock before the first request.
        seconds: that the client's code took.
        error: what it raised.
    """

    entries: Entries
    began_at: float
    seconds: float
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Something a chapter says of itself, held against the journal.

    Attributes:
        text: what should be so.
        holds: whether it is.
        found: what the journal has instead, for when it is not.
    """

    text: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a journal shows of a chapter.

    Attributes:
        lines: drawings and numbers, as they are printed.
        claims: each of them must hold.
    """

    lines: list[str]
    claims: list[Claim]


def at(entries: Entries, path: str) -> Entries:
    """The arrivals at one path."""
    return [entry for entry in entries if entry["path"] == path]


def calls(entries: Entries) -> list[Entries]:
    """The attempts of each logical call."""
    return [[dict(entry) for entry in attempts] for attempts in calls_of(entries).values()]


def statuses(entries: Entries) -> list[int]:
    """What the arrivals were answered; 0 for nothing."""
    return [entry["status"] for entry in entries]


def gaps(entries: Entries) -> list[float]:
    """The seconds before each further attempt of a call, where they are known."""
    return [entry["gap_s"] for entry in entries[1:] if entry["gap_s"] is not None]


def count(number: int, word: str) -> str:
    """`1 arrival`, `2 arrivals`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def seconds_text(seconds: float) -> str:
    """A duration to read: `0.43 s`, `12 ms`, `0.4 ms`."""
    if seconds >= 0.0995:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.00095 else f"{seconds * 1000:.1f} ms"


def most_at_once(entries: Entries) -> int:
    """The most requests that were inside the server at once.

    A journal takes the end of a request just before its last byte is sent, so what a client sends after an answer never
    overlaps with it.
    """
    events = [(entry["monotonic_s"], 1) for entry in entries]
    events += [(entry["done_monotonic_s"], -1) for entry in entries if entry["done_monotonic_s"] is not None]
    inside = most = 0
    for _, change in sorted(events):
        inside += change
        most = max(most, inside)
    return most


def answered_after(attempts: Entries) -> float | None:
    """Seconds from the first attempt of a call to its first answer; None without one."""
    done = [entry["done_monotonic_s"] for entry in attempts if entry["done_monotonic_s"] is not None]
    return min(done) - attempts[0]["monotonic_s"] if done else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of `values` do not exceed (nearest rank); 0 without any."""
    return sorted(values)[ceil(share * len(values)) - 1] if values else 0.0


# Drawings


def call_strips(entries: Entries) -> list[str]:
    """A strip for each call, the first few."""
    found = calls(entries)
    names = [f"{attempts[0]['method']} {plain(attempts[0]['path'])}" for attempts in found[:CALLS_DRAWN]]
    width = max(map(len, names), default=0)
    lines = [f"{name:<{width}}  {strip(list(attempts))}" for name, attempts in zip(names, found, strict=False)]
    if len(found) > CALLS_DRAWN:
        lines.append(f"... and {count(len(found) - CALLS_DRAWN, 'call')} more")
    return lines


def stream_strip(entries: Entries) -> str:
    """All arrivals in one strip, whichever call they belong to."""
    if not entries:
        return "|----|"
    again = [dict(entry) for entry in entries]
    for before, entry in zip(entries, again[1:], strict=False):
        done_at = before["done_monotonic_s"]
        entry["gap_s"] = None if done_at is None else entry["monotonic_s"] - done_at
    return strip(list(again))


def lanes(entries: Entries) -> list[str]:
    """A bar for each request, from its arrival to its answer, all on one axis of time."""
    timed = [entry for entry in entries if entry["done_monotonic_s"] is not None]
    if not timed:
        return []
    begin = min(entry["monotonic_s"] for entry in timed)
    span = max(entry["done_monotonic_s"] for entry in timed) - begin or 1.0
    lines = []
    for entry in timed:
        first = int((entry["monotonic_s"] - begin) / span * BAR_WIDTH)
        last = max(first + 1, int((entry["done_monotonic_s"] - begin) / span * BAR_WIDTH))
        lines.append(f"|{' ' * first}{'#' * (last - first)}".ljust(BAR_WIDTH + 1) + "|")
    return [*lines, axis(span)]


def axis(span: float) -> str:
    """What stands below lanes and ticks."""
    return f"0{seconds_text(span):>{BAR_WIDTH + 1}}"


def ticks(instants: Sequence[float], begin: float, span: float) -> str:
    """Instants on an axis of time: `*` for one, a digit for several, `#` for ten and more in one place."""
    cells = [0] * BAR_WIDTH
    for instant in instants:
        cells[min(BAR_WIDTH - 1, max(0, int((instant - begin) / (span or 1.0) * BAR_WIDTH)))] += 1
    marks = ("-" if not here else "*" if here == 1 else str(here) if here < 10 else "#" for here in cells)
    return f"|{''.join(marks)}|"

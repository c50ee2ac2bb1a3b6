"""Journal entries for tests: whole from a few words, raw as the application writes them or as JSON values."""

import hashlib
from typing import Any

from asgi_fault.observe.journal import Connection, Entry, Journal

START = 1000.0
WALL_OFFSET = 1_700_000_000.0 - START


def entry(
    ordinal: int,
    *,
    at: float = START,
    took: float | None = 0.0,
    method: str = "GET",
    target: str = "/msg",
    headers: tuple[tuple[str, str], ...] = (),
    key: str = "",
    body: bytes = b"",
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    connection: Connection | None = None,
    status: int = 200,
    rule: str = "",
    step: int = -1,
) -> Entry:
    """An arrival at `at` that was done `took` seconds later; None: the client left before."""
    fields = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    if key:
        fields.append((b"idempotency-key", key.encode()))
    sha = hashlib.sha256(body).hexdigest() if body else ""
    done_at = 0.0 if took is None else at + took
    return (
        ordinal, at, done_at, method, target.encode("latin-1"), fields, client, connection, status, len(body), sha,
        rule, step, b"r%d" % ordinal,
    )  # fmt: skip


def journal_of(*entries: Entry, size: int = 1000, partition: str = "blue") -> Journal:
    """A journal that holds `entries`, which ended in this order."""
    journal = Journal(size, partition, WALL_OFFSET)
    for one in entries:
        journal.append(one)
    return journal


def shown(*entries: Entry, partition: str = "blue") -> list[dict[str, Any]]:
    """`entries` as JSON values."""
    return journal_of(*entries, partition=partition).entries()


def attempts_of(*statuses: int, gaps: tuple[float, ...], key: str = "order-7", **options: Any) -> list[dict[str, Any]]:
    """One call with an attempt for each status, each done at once, and so many seconds between them."""
    at = START
    made = []
    for ordinal, (status, gap) in enumerate(zip(statuses, (*gaps, 0.0), strict=True), 1):
        made.append(entry(ordinal, at=at, status=status, key=key, **options))
        at += gap
    return shown(*made)

"""`/journal`: what the clients of a partition did, to read, to follow, to forget, and to hold against expectations."""

import re
from asyncio import Future, get_running_loop
from collections.abc import Callable, Iterator
from typing import Any

from asgi_fault.asgi import Header, Response, json_response, response
from asgi_fault.errors import NotFound, Unavailable, ValidationFailed, require_json
from asgi_fault.exchange import Exchange
from asgi_fault.faults.checks import Findings, check
from asgi_fault.faults.documents import read_json
from asgi_fault.faults.paths import PathPattern, bare, mistake_in
from asgi_fault.observe.expectations import SCHEMA, contradictions, paths
from asgi_fault.observe.journal import FOLLOWERS_MAX, Event, Follower, Journal, to_line
from asgi_fault.observe.report import report
from asgi_fault.observe.verify import select, verify
from asgi_fault.parameters import Integer, Text, Violation

ORDINAL_MAX = 2**53 - 1  # the greatest integer that every reader of JSON keeps exact (RFC 8259 section 6)
KEEP_ALIVE = 15.0  # seconds of silence after which a stream sends a comment, lest a proxy closes it
PIECE = 64 * 1024  # bytes of events that are sent at once

LIMIT = Integer(
    name="limit",
    where="query",
    low=1,
    high=100_000,
    may_be_empty=True,
    description="Entries at most; a stream ends there.",
)
AFTER = Integer(
    name="after",
    where="query",
    low=0,
    high=ORDINAL_MAX,
    default=0,
    may_be_empty=True,
    description="Only what ended after the entry with this ordinal; next in an answer continues it.",
)
CALL = Text(
    name="call",
    where="query",
    pattern=r"^[\s\S]*$",
    max_length=256,
    description="Only the attempts of this logical call, named as in the entries.",
)
FOLLOW = Text(
    name="follow",
    where="query",
    pattern="^(|0|1|false|true|no|yes|off|on)$",
    max_length=5,
    default="false",
    description="Keep the answer open and send each entry as a server-sent event when it ends. "
    "Last-Event-ID continues a stream that broke. Accept: text/event-stream does the same.",
)

NDJSON = ("application/x-ndjson", "application/jsonl")
STREAM_HEADERS: list[Header] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
NO_STORE = (b"cache-control", b"no-store")
VARY = (b"vary", b"Accept")


def get_journal(exchange: Exchange) -> Response:
    """The entries, oldest first: as one object, as JSON lines, or as a stream that goes on."""
    journal = _journal(exchange)
    limit, after, call, follow = _query(exchange)
    accept = exchange.headers.get(b"accept", b"").decode("latin-1").lower()
    if follow:
        return _follow(exchange, journal, after, limit, call)
    entries, following = journal.page(after, limit, call)
    more = (NO_STORE, VARY, (b"x-journal-next", b"%d" % following))
    for content_type in NDJSON:
        if content_type in accept:
            lines = b"".join(to_line(entry) + b"\n" for entry in entries)
            return response(200, (b"content-type", content_type.encode()), lines, *more)
    return json_response(200, {"partition": journal.partition, "entries": entries, "next": following}, *more)


def delete_journal(exchange: Exchange) -> Response:
    """Forget every entry."""
    return json_response(200, {"deleted": _journal(exchange).clear()})


def verify_journal(exchange: Exchange) -> Response:
    """Hold the journal against expectations. 200 whether they are met or not: `ok` says it."""
    journal = _journal(exchange)
    require_json(exchange.headers.get(b"content-type", b""), "Expectations")
    expectations = _expectations(exchange.body)
    # Asked before the journal is read, so that an entry that comes in between cannot hide one that is forgotten.
    forgotten = journal.is_full
    selected = select(journal.entries(), expectations.get("match", {}), _path_test)
    checks = verify(selected, expectations, _path_test)
    return json_response(
        200,
        {
            "ok": all(check.ok for check in checks),
            "complete": not forgotten,
            "checks": [check.to_json() for check in checks],
            "report": report(selected, checks, forgotten=forgotten),
        },
        NO_STORE,
    )


def _journal(exchange: Exchange) -> Journal:
    journal: Journal | None = exchange.partition.journal
    if journal is None:
        raise NotFound("This server keeps no journal.", details={"setting": "SERVER_JOURNAL_SIZE"})
    return journal


def _expectations(body: bytes) -> dict[str, Any]:
    document = read_json(body)
    findings = Findings()
    check(document, SCHEMA, ("body",), findings)
    # Contradictions are looked for in what fits the schema only: there every value has the type it should have.
    if not findings.violations:
        for loc, message in contradictions(document):
            findings.contradiction(("body", *loc), message)
        for loc, pattern in paths(document):
            mistake = mistake_in(pattern)
            if mistake is not None:
                findings.contradiction(("body", *loc), mistake, pattern)
    findings.raise_any()
    expectations: dict[str, Any] = document
    return expectations


def _path_test(pattern: str) -> Callable[[str], bool]:
    compiled = PathPattern(bare(pattern))
    return lambda path: compiled.fits(bare(path))


def _query(exchange: Exchange) -> tuple[int | None, int, str | None, bool]:
    """Limit, after, call and follow, or a 422 with every violation."""
    # A form sends the fields that were left empty too. But `?follow` is empty when it is set.
    query = {name: text for name, text in exchange.query.items() if text or name == FOLLOW.name}
    violations: list[Violation] = []
    limit = LIMIT.read(query["limit"], violations) if "limit" in query else None
    after = AFTER.read(query.get("after", "0"), violations)
    call = CALL.read(query["call"], violations) if "call" in query else None
    follow = _flag(query.get("follow"), violations)
    if b"text/event-stream" in exchange.headers.get(b"accept", b"").lower():
        follow = True
    if follow and b"last-event-id" in exchange.headers:
        found: list[Violation] = []
        after = AFTER.read(exchange.headers[b"last-event-id"].decode("latin-1"), found)
        violations += [{**violation, "loc": ["header", "Last-Event-ID"]} for violation in found]
    if violations:
        raise ValidationFailed(violations)
    return limit, after, call, follow


def _flag(text: str | None, violations: list[Violation]) -> bool:
    """A flag that counts as set when it stands there without a value."""
    if text is None:
        return False
    if not re.fullmatch(FOLLOW.pattern.strip("^$"), text.lower()):
        message = "Input should be a valid boolean, unable to interpret input"
        violations.append({"type": "bool_parsing", "loc": ["query", "follow"], "msg": message, "input": text[:200]})
    return text.lower() not in ("0", "false", "no", "off")


def _follow(exchange: Exchange, journal: Journal, after: int, limit: int | None, call: str | None) -> Response:
    if exchange.scope["method"] == "HEAD":
        return 200, STREAM_HEADERS, b""
    following = journal.follow(after)
    if following is None:
        raise Unavailable(
            f"{FOLLOWERS_MAX} clients follow this journal already.", details={"followers_max": FOLLOWERS_MAX}
        )
    stream: Any = Stream(exchange, journal, *following, limit=limit, call=call)
    return 200, STREAM_HEADERS, stream


class Stream:
    """The body of a followed journal: server-sent events, until `limit`, the server's stop or `aclose`.

    It takes one of the journal's few places from the moment it is made, so whoever gets it owes an `aclose`.
    """

    def __init__(
        self,
        exchange: Exchange,
        journal: Journal,
        follower: Follower,
        backlog: Iterator[Event],
        *,
        limit: int | None,
        call: str | None,
    ) -> None:
        self._stopping = exchange.context.stopping
        self._journal = journal
        self._follower = follower
        self._backlog = backlog
        self._left = limit
        self._call = call
        self._begun = False
        self._closed = False

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> bytes:
        """The next events, or a comment when there were none for a while."""
        if not self._begun:
            # Something at once, so that client and proxies know that the stream stands.
            self._begun = True
            return b": following the journal of partition %b\n\n" % self._journal.partition.encode()
        while not self._closed:
            piece = self._piece()
            if piece:
                return piece
            if self._left == 0:
                break
            try:
                if not await self._wait() and not self._closed:
                    return b": nothing new\n\n"
            except Unavailable:
                break
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Follow no longer: gives the place back, and ends a `__anext__` that waits."""
        self._closed = True
        self._journal.unfollow(self._follower)
        if self._follower.wakes is not None:
            _give(self._follower.wakes)

    def _piece(self) -> bytes:
        """What can be sent now, about `PIECE` bytes at most: what lay in the journal, then what has come since."""
        follower = self._follower
        lines: list[bytes] = []
        size = 0
        while self._left != 0 and size < PIECE:
            event = next(self._backlog, None)
            if event is None:
                if follower.lost:
                    lines.append(b'event: lost\ndata: {"lost":%d}\n\n' % follower.lost)
                    follower.lost = 0
                if not follower:
                    break
                event = follower.take()
            if self._call is None or event.call == self._call:
                lines.append(b"id: %d\ndata: %b\n\n" % (event.ordinal, event.line))
                size += len(lines[-1])
                self._left = None if self._left is None else self._left - 1
        return b"".join(lines)

    async def _wait(self) -> bool:
        """Wait for an event; False when none came for `KEEP_ALIVE` seconds.

        Raises:
            Unavailable: the server stops.
        """
        loop = get_running_loop()
        wakes: Future[None] = loop.create_future()
        self._follower.wakes = wakes
        timer = loop.call_later(KEEP_ALIVE, _give, wakes)
        self._stopping.add(wakes)
        try:
            await wakes
        finally:
            self._follower.wakes = None
            timer.cancel()
            self._stopping.discard(wakes)
        return bool(self._follower)


def _give(future: "Future[None]") -> None:
    if not future.done():
        future.set_result(None)

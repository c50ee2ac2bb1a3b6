"""Logical calls: which arrivals are attempts of the same call, on which connections they came, and how far apart.

Nothing of this is worked out while requests run. `Calls` is handed the journal's entries afterwards, one by one.
"""

import hashlib
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

from asgi_fault.observe.redaction import shown_headers, shown_target

CALL_KEYS = (b"idempotency-key", b"x-request-id", b"amz-sdk-invocation-id")
"""Headers that name a call; the first that is there and not empty counts. Without one, a call is all requests with
the same method, target and body."""

KEY_MAX = 128  # characters of a call's name; a longer key is shown as its hash


class Connection:
    """What is known of one connection; filled in by the server's protocol.

    Attributes:
        opened_at, ended_at: instants of the monotonic clock; `ended_at` is 0 while it is open.
        requests: how many began on it.
        ended: `client-fin` or `client-reset`; `server-close`, `server-reset` or `server-half-close` when a rule did it;
            `server-end` for an ordinary end by the server, as after `Connection: close`. None while it is open.
    """

    __slots__ = ("ended", "ended_at", "id", "opened_at", "requests")

    def __init__(self, id_: int, opened_at: float) -> None:
        self.id = id_
        self.opened_at = opened_at
        self.requests = 0
        self.ended: str | None = None
        self.ended_at = 0.0


Entry: TypeAlias = tuple[
    int,  # 0 ordinal: of the arrival in its partition, from 1
    float,  # 1 arrived_at: monotonic clock, when the head was there
    float,  # 2 done_at: read just BEFORE the last byte was written or the connection ended by us; 0.0: never got so far
    str,  # 3 method
    bytes,  # 4 target: as sent, with ?query
    list[tuple[bytes, bytes]],  # 5 headers: the scope's own list
    "tuple[str, int] | None",  # 6 client: address and port
    "Connection | None",  # 7 connection: None under a server without our protocol
    int,  # 8 status: 0 when none was sent
    int,  # 9 body_size: of the request
    str,  # 10 body_sha256: in hexadecimal, or empty
    str,  # 11 rule: the id of the rule that decided, or empty
    int,  # 12 step: of that rule's script; -1 for its default
    bytes,  # 13 request_id: as echoed in the answer
]
"""One arrival as the application writes it down: a plain tuple of what it has at hand."""


class Facts(NamedTuple):
    """What is known of an arrival only by looking at those before it.

    Attributes:
        call: the name of its logical call.
        call_from: the header that named it, or `request`.
        attempt: its ordinal in the call, from 1.
        gap: seconds from the end of the attempt before to this arrival; negative when they overlap, None for the first
            and after an attempt whose end is not known.
        connection: id of the connection, or the client's address and port; None when neither is known.
        connection_ordinal: its ordinal on that connection, from 1.
    """

    call: str
    call_from: str
    attempt: int
    gap: float | None
    connection: int | str | None
    connection_ordinal: int


class _Call:
    __slots__ = ("attempts", "done_at", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.attempts = 0
        self.done_at: float | None = None


class Calls:
    """Numbers the attempts of calls, and the requests on connections, in the order in which entries are added.

    Args:
        bound: how many calls and connections are remembered; the one unused longest is forgotten first.
    """

    def __init__(self, bound: int) -> None:
        self._bound = max(1, bound)
        self._calls: OrderedDict[tuple[bytes | str, ...], _Call] = OrderedDict()
        self._connections: OrderedDict[int | str, int] = OrderedDict()

    def add(self, entry: Entry) -> Facts:
        """The facts about `entry`, which is the latest."""
        headers = dict(entry[5])
        call_from = "request"
        identity: tuple[bytes | str, ...] = (entry[3], entry[4], entry[10] or str(entry[9]))
        for name in CALL_KEYS:
            if headers.get(name):
                call_from, identity = name.decode(), (headers[name],)
                break
        call = self._calls.get((call_from, *identity))
        if call is None:
            call = self._calls[call_from, *identity] = _Call(_name_of(entry, call_from, identity))
            if len(self._calls) > self._bound:
                self._calls.popitem(last=False)
        else:
            self._calls.move_to_end((call_from, *identity))
        call.attempts += 1
        gap = None if call.done_at is None else entry[1] - call.done_at
        call.done_at = end_of(entry)
        connection = entry[7].id if entry[7] is not None else f"{entry[6][0]}:{entry[6][1]}" if entry[6] else None
        ordinal = self._count(connection)
        return Facts(call.name, call_from, call.attempts, gap, connection, ordinal)

    def _count(self, connection: int | str | None) -> int:
        if connection is None:
            return 1
        ordinal = self._connections.pop(connection, 0) + 1
        self._connections[connection] = ordinal
        if len(self._connections) > self._bound:
            self._connections.popitem(last=False)
        return ordinal

    def is_last_on_connection(self, facts: Facts) -> bool:
        """Whether no later arrival came on the connection of `facts`."""
        return facts.connection is not None and self._connections.get(facts.connection) == facts.connection_ordinal


def end_of(entry: Entry) -> float | None:
    """The instant at which the client could go on, or None when it left before we were done.

    A gap measured from any other instant could accuse a client that has done nothing wrong.
    """
    if entry[2] == 0.0 or (entry[8] == 0 and not entry[11]):
        return None
    return entry[2]


def document(entry: Entry, facts: Facts, calls: Calls, partition: str, wall_offset: float) -> dict[str, Any]:
    """`entry` as it is shown, without secrets."""
    ordinal, arrived_at, _, method, target, headers, _, connection, status, size, sha, rule, step, request_id = entry
    done_at = end_of(entry)
    shown = shown_target(target)
    ended = connection.ended if connection is not None else None
    at = datetime.fromtimestamp(arrived_at + wall_offset, UTC).isoformat(timespec="milliseconds")
    return {
        "ordinal": ordinal,
        "at": at.replace("+00:00", "Z"),
        "monotonic_s": round(arrived_at, 6),
        "partition": partition,
        "connection": None
        if facts.connection is None
        else {"id": facts.connection, "ordinal": facts.connection_ordinal, "ended": ended},
        "call": facts.call,
        "call_from": facts.call_from,
        "attempt": facts.attempt,
        "gap_s": None if facts.gap is None else round(facts.gap, 6),
        "method": method,
        "target": shown,
        "path": path_of(shown, partition),
        "headers": shown_headers(headers),
        "request_id": request_id.decode("latin-1"),
        "body": {"bytes": size, "sha256": sha or None},
        "status": status,
        "rule": rule or None,
        "step": step if rule else None,
        "done_monotonic_s": None if done_at is None else round(done_at, 6),
        "ended": ended if calls.is_last_on_connection(facts) else None,
    }


def path_of(target: str, partition: str) -> str:
    """The decoded path of a target, without scheme, host, query and the partition's prefix."""
    path = target.partition("?")[0]
    if "://" in path and not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    path = unquote(path)
    _, mark, rest = f"{path}/".partition(f"/~{partition}/")
    return (f"/{rest}".removesuffix("/") or "/") if mark else path


def _name_of(entry: Entry, call_from: str, identity: tuple[bytes | str, ...]) -> str:
    """A name for the call that `entry` begins: its key, or a hash of what makes it this call.

    A hash of a secret can be found by trying, so a target that has one is hashed without it, and told apart from
    others by its first arrival.
    """
    key = identity[0]
    if call_from != "request" and isinstance(key, bytes):
        return key.decode("latin-1") if len(key) <= KEY_MAX else "sha256:" + _hash(key.decode("latin-1"))
    shown = shown_target(entry[4])
    name = _hash(f"{entry[3]} {shown} {identity[2]!s}")
    return name if shown.encode("latin-1") == entry[4] else f"{name}-{entry[0]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]

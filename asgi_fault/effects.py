"""How a plan is carried out on an exchange: what a fault does to the answer, to its bytes and to its connection.

The cases, in order of what they need:

1. No answer at all: a silence, garbage, an end before the head.
2. An answer that plain ASGI can give: late, slow, silent for a while, framed as chunks, closed afterwards.
3. An answer with something before or behind it that HTTP allows no application: 1xx statuses, a forged second answer.
   The server gives the answer itself, so the connection lives on.
4. An answer whose bytes are wrong. It is written by hand, byte for byte, and the connection ends after it. The head
   says so (`Connection: close`) unless that is what is wrong.

The last write of an answer is preceded by a reading of the clock: the journal compares the client's next arrival with
it, and a reading after the write could make a correct client look too early.
"""

import math
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Iterator
from email.utils import formatdate

from asgi_fault.asgi import BodyStream, Header, Response, Send, reason_phrase
from asgi_fault.errors import Unavailable
from asgi_fault.exchange import Disconnected, Exchange
from asgi_fault.faults.plan import Answer, End, Plan
from asgi_fault.faults.wire import Wire

Respond = Callable[[], Awaitable[Response | None]]
"""Gives the real answer, the handler's, with every error already rendered; None when it has been sent already."""

BODILESS = frozenset({204, 304})
"""Statuses whose answers have no body."""

GATHERED_MAX = 16 * 1024 * 1024  # bytes of a streamed body that a fault works on
TICK = 0.05  # seconds between the pieces of a slow body, at least; a slower pace waits longer for each byte
RESET_POLL = 0.005  # seconds until a reset asks again whether the client has everything that was written before it


async def carry_out(plan: Plan, exchange: Exchange, respond: Respond, send: Send, ids: list[Header]) -> int:
    """Do what `plan` says and return the status that was sent, 0 when none was; see also `exchange.status`.

    Args:
        plan: what is to happen.
        exchange: to whom.
        respond: called when the plan leaves the answer to the handler.
        send: the server's.
        ids: headers that every answer carries.

    Raises:
        Disconnected: the client left, or our side has ended the connection; nothing more can be sent.
        Unavailable: the server stops, and nothing was sent yet.
    """
    wire = exchange.wire
    if plan.delay:
        await exchange.hold(plan.delay)
    if plan.silent:
        await exchange.hold(None)
    if wire is not None:
        for informational in plan.informational:
            wire.write(b"HTTP/1.1 %d %b\r\n\r\n" % (informational, reason_phrase(informational).encode()))
        if plan.garbage is not None:
            exchange.done_at = exchange.context.clock()
            wire.write(plan.garbage)
            return await _end(wire, exchange, End("close", "before-head"))
    await _stall(plan, exchange, "before-head")
    if wire is not None and plan.end is not None and plan.end.at == "before-head":
        return await _end(wire, exchange, plan.end)
    if plan.answer is None:
        answer = await respond()
        if answer is None:
            return exchange.status
        status, headers, content = answer
    else:
        status, headers, content = plan.answer.status, [*plan.answer.headers], plan.answer.body
        if status not in BODILESS:
            headers.append((b"content-length", b"%d" % len(plan.answer.body)))
    return await _give(plan, exchange, send, status, [*headers, *plan.headers, *ids], content)


async def _give(
    plan: Plan, exchange: Exchange, send: Send, status: int, headers: list[Header], content: bytes | BodyStream
) -> int:
    """Give the answer as the plan has it: by the server's hand or by ours."""
    wire = exchange.wire
    by_hand = wire is not None and _needs_own_bytes(plan, exchange)
    if not isinstance(content, bytes):
        if exchange.scope["method"] == "HEAD":
            await content.aclose()
            content = b""
        elif by_hand or (plan.stall is not None and plan.stall.at == "mid-body"):
            content = await _gather(content)
    exchange.status = status
    if wire is not None and by_hand and isinstance(content, bytes):
        return await _write_by_hand(plan, exchange, wire, status, headers, content)
    try:
        await _send(plan, exchange, send, status, headers, content)
    except Unavailable:
        # The server stops in the middle of an answer that has begun: nothing sensible can follow.
        if wire is not None:
            return await _end(wire, exchange, End("close", "mid-body"))
        raise Disconnected from None
    if plan.forged is not None and wire is not None:
        wire.write(_bytes_of(plan.forged))
    return status


async def _gather(content: BodyStream) -> bytes:
    """A streamed body as one; what is past the bound is left out, because nobody could hold it."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in content:
            pieces.append(piece)
            size += len(piece)
            if size > GATHERED_MAX:
                break
    finally:
        await content.aclose()
    return b"".join(pieces)[:GATHERED_MAX]


def _needs_own_bytes(plan: Plan, exchange: Exchange) -> bool:
    """Whether it is case 4."""
    return (
        plan.drip_head
        or (plan.stall is not None and plan.stall.at == "in-head")
        or plan.cut is not None
        or plan.content_length is not None
        or plan.content_length_add != 0
        or plan.framing not in (None, "chunked")
        or (plan.end is not None and (plan.end.how, plan.end.at) != ("close", "after-body"))
        # The server closes right behind its last byte: what is forged would come too late.
        or (plan.forged is not None and (plan.end is not None or _is_last_on_connection(exchange)))
    )


def _is_last_on_connection(exchange: Exchange) -> bool:
    """Whether the client wants no further answer on this connection."""
    return exchange.scope["http_version"] == "1.0" or b"close" in exchange.headers.get(b"connection", b"").lower()


# --- cases 2 and 3: the server writes ---


async def _send(
    plan: Plan, exchange: Exchange, send: Send, status: int, headers: list[Header], content: bytes | BodyStream
) -> None:
    if plan.framing == "chunked":
        headers = [header for header in headers if header[0] != b"content-length"]
    if plan.end is not None:
        headers.append((b"connection", b"close"))
        if exchange.wire is not None:
            exchange.wire.closes()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await _stall(plan, exchange, "after-head")
    if not isinstance(content, bytes):
        await _relay(plan, exchange, send, content)
        content = b""
    elif exchange.scope["method"] == "HEAD":
        content = b""
    elif plan.stall is not None and plan.stall.at == "mid-body":
        half = (len(content) + 1) // 2
        await send({"type": "http.response.body", "body": content[:half], "more_body": True})
        await _stall(plan, exchange, "mid-body")
        content = content[half:]
    for piece, seconds, is_last in _pieces(content, plan.bytes_per_second):
        if is_last:
            exchange.done_at = exchange.context.clock()
        await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
        if not is_last:
            await exchange.hold(seconds)


async def _relay(plan: Plan, exchange: Exchange, send: Send, stream: BodyStream) -> None:
    """Send a streamed body as it comes, all but the end of it."""

    async def watch() -> None:
        await exchange.gone()
        await stream.aclose()

    watcher = get_running_loop().create_task(watch())
    try:
        async for content in stream:
            for piece, seconds, _ in _pieces(content, plan.bytes_per_second):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if seconds:
                    await exchange.hold(seconds)
        if watcher.done():
            raise Disconnected
    finally:
        watcher.cancel()
        await stream.aclose()


# --- case 4: we write ---


async def _write_by_hand(
    plan: Plan, exchange: Exchange, wire: Wire, status: int, headers: list[Header], body: bytes
) -> int:
    """Write head and body with what is wrong about them, then end the connection."""
    is_head = exchange.scope["method"] == "HEAD"
    head = _head(plan, status, headers, len(body), is_head=is_head)
    end = plan.end or End("close", "after-body")
    content = b"" if is_head or end.at == "after-head" else _framed(plan, body)
    if plan.cut is not None:
        content = content[: math.floor(plan.cut * len(body)) if isinstance(plan.cut, float) else plan.cut]
    elif end.at == "mid-body":
        content = content[: (len(content) + 1) // 2]
    pace = plan.bytes_per_second
    try:
        if plan.stall is not None and plan.stall.at == "in-head":
            half = len(head) // 2
            wire.write(head[:half])
            await _stall(plan, exchange, "in-head")
            head = head[half:]
        await _write(wire, exchange, head, pace if plan.drip_head else None)
        await _stall(plan, exchange, "after-head")
        if plan.stall is not None and plan.stall.at == "mid-body" and not is_head:
            half = (len(content) + 1) // 2
            await _write(wire, exchange, content[:half], pace)
            await _stall(plan, exchange, "mid-body")
            content = content[half:]
        await _write(wire, exchange, content, pace, to_the_end=True)
        if plan.forged is not None:
            wire.write(_bytes_of(plan.forged))
    except Unavailable:
        end = End("close", "mid-body")
    return await _end(wire, exchange, end)


def _head(plan: Plan, status: int, headers: list[Header], size: int, *, is_head: bool) -> bytes:
    """The status line and the header fields, with the framing the plan asks for."""
    own = [value for name, value in headers if name == b"content-length"]
    # The answer to a HEAD may announce a body that it does not hold.
    true_length = int(own[0]) if own and is_head else size
    length = true_length + plan.content_length_add if plan.content_length is None else plan.content_length
    fields = [header for header in headers if header[0] != b"content-length"]
    if plan.framing in ("chunked", "bad-chunk", "no-last-chunk"):
        fields.append((b"transfer-encoding", b"chunked"))
    elif plan.framing == "conflicting":
        fields += [(b"content-length", b"%d" % length), (b"content-length", b"%d" % (length + 1))]
    elif plan.framing == "duplicate":
        fields += [(b"content-length", b"%d" % length)] * 2
    elif plan.framing != "missing" and (own or length or (status not in BODILESS and not is_head)):
        fields.append((b"content-length", b"%d" % length))
    if _ends_as_announced(plan):
        fields = [*(field for field in fields if field[0] != b"connection"), (b"connection", b"close")]
    if all(name != b"date" for name, _ in fields):
        fields.append((b"date", formatdate(usegmt=True).encode()))
    lines = [b"HTTP/1.1 %d %b" % (status, reason_phrase(status).encode()), *(b"%b: %b" % field for field in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _ends_as_announced(plan: Plan) -> bool:
    """Whether the end of the connection is no fault, only ours because we write."""
    return (
        (plan.end is None or (plan.end.how, plan.end.at) == ("close", "after-body"))
        and plan.cut is None
        and plan.content_length is None
        and plan.content_length_add == 0
        and plan.framing in (None, "chunked", "missing", "duplicate")
    )


def _framed(plan: Plan, body: bytes) -> bytes:
    if plan.framing == "chunked":
        return (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    if plan.framing == "no-last-chunk":
        return b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    if plan.framing == "bad-chunk":
        # A chunk size is hexadecimal (RFC 9112 section 7.1); this one is not, for any reading of it.
        return b"xyz\r\n%b\r\n0\r\n\r\n" % body
    return body


async def _write(
    wire: Wire, exchange: Exchange, data: bytes, bytes_per_second: float | None, *, to_the_end: bool = False
) -> None:
    """Write `data` at its pace; with `to_the_end` nothing comes after it."""
    for piece, seconds, is_last in _pieces(data, bytes_per_second):
        if to_the_end and is_last:
            exchange.done_at = exchange.context.clock()
            seconds = 0.0  # noqa: PLW2901
        wire.write(piece)
        if seconds:
            await exchange.hold(seconds)


async def _end(wire: Wire, exchange: Exchange, end: End) -> int:
    """End the connection, and wait until the server has noticed, lest it adds an answer of its own; the status sent."""
    exchange.done_at = exchange.done_at or exchange.context.clock()
    try:
        if end.how == "reset":
            while wire.unsent:
                await exchange.hold(RESET_POLL)
            wire.reset()
        elif end.how == "half-close":
            wire.half_close()
        else:
            wire.close()
        await exchange.hold(None)
    except Disconnected:
        pass
    except Unavailable:
        wire.abort()
        await exchange.gone()
    return exchange.status


# --- pieces and pauses ---


def _pieces(data: bytes, bytes_per_second: float | None) -> Iterator[tuple[bytes, float, bool]]:
    """`data` in pieces, each with the seconds it takes and whether it is the last; without a pace one piece."""
    if not bytes_per_second or not data:
        yield data, 0.0, True
        return
    size = max(1, math.floor(bytes_per_second * TICK))
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        yield piece, len(piece) / bytes_per_second, start + size >= len(data)


async def _stall(plan: Plan, exchange: Exchange, at: str) -> None:
    if plan.stall is not None and plan.stall.at == at:
        await exchange.hold(plan.stall.seconds)


def _bytes_of(answer: Answer) -> bytes:
    """A whole answer as bytes, for a client that did not ask for it."""
    fields = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    lines = [
        b"HTTP/1.1 %d %b" % (answer.status, reason_phrase(answer.status).encode()),
        *(b"%b: %b" % field for field in fields),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + answer.body

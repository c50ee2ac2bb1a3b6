"""`GET /msg`: an id for every request, the same id for the same `X-Request-ID`, late on demand, failing on command.

The order is contract: validation (a 422 uses up no fault), induced failure, idempotency, delay, new id, store.
"""

from asyncio import Future, get_running_loop
from collections.abc import Awaitable

from asgi_fault.asgi import JSON, Response
from asgi_fault.errors import InducedFailure, ValidationFailed
from asgi_fault.exchange import Exchange
from asgi_fault.observe.ids import new_id, take
from asgi_fault.parameters import Integer, Violation
from asgi_fault.partitions import Partition
from asgi_fault.requestid import REQUEST_ID, is_well_formed
from asgi_fault.stores.idempotency import Flight

DELAY = Integer(
    name="delay",
    where="query",
    low=0,
    high=30_000,
    default=0,
    description="Milliseconds to wait before the answer.",
)

_HEADERS = [JSON, (b"content-length", b"%d" % len(b'{"message_id":"%b"}' % new_id()))]


def get_msg(exchange: Exchange) -> Response | Awaitable[Response]:
    """Answer `{"message_id": <uuid4>}`."""
    delay_ms = 0
    key = exchange.headers.get(b"x-request-id")
    if exchange.scope["query_string"] or (key and key is not exchange.request_id):
        delay_ms = _validate(exchange, key)
    partition = exchange.partition
    induced = partition.induced
    if induced is not None and induced.strikes(exchange.arrived_at):
        exchange.rule = "fail"
        log = exchange.context.log
        if log.debug_on:
            log.debug("fault.induced", "Induced server failure", partition=partition.name)
        raise InducedFailure("Induced server failure")
    if not key:
        if delay_ms:
            return _delayed(exchange, delay_ms)
        return _answer(new_id())
    cached = partition.cache.get(key, exchange.arrived_at)
    if exchange.context.log.debug_on:
        _log_lookup(exchange, hit=cached is not None)
    if cached is not None:
        return _answer(cached)
    if delay_ms or key in partition.cache.flights:
        return _first_of_key(exchange, key, delay_ms)
    message_id = new_id()
    partition.cache.put(key, message_id, exchange.arrived_at)
    return _answer(message_id)


def quick_msg(partition: Partition, key: bytes | None, now: float) -> Response | None:
    """Answer what needs no delay: the same as `get_msg` for a plain request of a partition without failures."""
    if not key:
        try:
            message_id = take()
        except IndexError:
            message_id = new_id()
        return 200, _HEADERS, b'{"message_id":"%b"}' % message_id
    cache = partition.cache
    if not is_well_formed(key) or key in cache.flights:
        return None
    known = cache.get(key, now)
    if known is None:
        known = new_id()
        cache.put(key, known, now)
    return 200, _HEADERS, b'{"message_id":"%b"}' % known


def _answer(message_id: bytes) -> Response:
    return 200, _HEADERS, b'{"message_id":"%b"}' % message_id


def _validate(exchange: Exchange, key: bytes | None) -> int:
    """The delay in milliseconds, or a 422 with every violation."""
    violations: list[Violation] = []
    text = exchange.query.get("delay")
    delay_ms = 0 if text is None else DELAY.read(text, violations)
    # The application takes the client's id over when it is well formed; a non-empty one that it did not take is not.
    if key and key is not exchange.request_id:
        violations.append(REQUEST_ID.violation(exchange.header_values(b"x-request-id")))
    if violations:
        raise ValidationFailed(violations)
    return delay_ms


async def _delayed(exchange: Exchange, delay_ms: int) -> Response:
    await exchange.pause(delay_ms / 1000)
    return _answer(new_id())


async def _first_of_key(exchange: Exchange, key: bytes, delay_ms: int) -> Response:
    """Work out the answer for a new key, or wait for the request of the same key that is already at it."""
    cache = exchange.partition.cache
    flight = cache.flights.get(key)
    if flight is None:
        flight = Flight(cache, key)
    else:
        turn: Future[bytes | None] = get_running_loop().create_future()
        flight.follow(turn)
        try:
            message_id = await exchange.wait_for(turn)
        except BaseException:
            # Asked to lead in the very moment of giving up: somebody else has to.
            if turn.done() and not turn.cancelled() and turn.exception() is None and turn.result() is None:
                flight.abandon()
            raise
        if message_id is not None:
            return _answer(message_id)
    try:
        worked = exchange.context.clock() - exchange.arrived_at - exchange.waited
        if delay_ms / 1000 > worked:
            await exchange.pause(delay_ms / 1000 - worked)
        message_id = new_id()
    except BaseException:
        flight.abandon()
        raise
    flight.land(message_id, exchange.context.clock())
    return _answer(message_id)


def _log_lookup(exchange: Exchange, *, hit: bool) -> None:
    event, message = ("cache.hit", "Idempotency cache hit") if hit else ("cache.miss", "Idempotency cache miss")
    exchange.context.log.debug(event, message, request_id=exchange.request_id, partition=exchange.partition.name)

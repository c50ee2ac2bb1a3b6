"""The ASGI callable: a request's way through the server, in order.

1. find the operation and the partition (one dictionary look-up for an exact path without a partition)
2. control plane: check the token. All else, routed or not: take a slot, or wait for one
3. read the body, when there is one
4. the fault rules, then the handler; 404 and 405 are handlers too, so that nothing can pass the layers by
5. send the answer with its ids
6. give the slot back, count, write journal and log line

Nothing on that way makes a task, a timer or a closure unless the request has to wait (`exchange`).
"""

import hmac
from asyncio import CancelledError, get_running_loop
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import NoReturn

from asgi_fault.asgi import BodyStream, Header, Receive, Response, Scope, Send
from asgi_fault.context import Context
from asgi_fault.cors import Cors
from asgi_fault.docs import Documents
from asgi_fault.effects import carry_out
from asgi_fault.errors import (
    HEAD_MAX,
    AuthenticationFailed,
    BadRequest,
    HeadTooLarge,
    HTTPError,
    Unexpected,
    render,
)
from asgi_fault.exchange import Disconnected, Exchange
from asgi_fault.faults.checks import Loc
from asgi_fault.faults.matching import Arrival
from asgi_fault.faults.plan import Plan
from asgi_fault.faults.text import HEADER, QUERY, plan_from_text
from asgi_fault.faults.wire import EXTENSION
from asgi_fault.lifespan import serve_lifespan
from asgi_fault.observe.attempts import Entry
from asgi_fault.observe.ids import new_id, take
from asgi_fault.observe.metrics import BOUNDS
from asgi_fault.refusals import answer_options, refuse
from asgi_fault.requestid import is_well_formed
from asgi_fault.routes import DOCUMENT_PAGES, ROUTES
from asgi_fault.routing import Operation, Route, Router
from asgi_fault.target import Target, split_target

HEADERS_MAX = 256  # fields; ten times what browsers send
LINGER = 2.0  # seconds
LINGER_SIZE = 16 * 1024 * 1024  # bytes
QUICK = BOUNDS[0]
SENT: list[Header] = []
"""Stands for the headers of an answer that has been sent already, or that nobody is left to be sent to."""
SPECIAL = frozenset({b"content-length", b"transfer-encoding", b"x-fault-partition", b"origin"})
"""Header fields that a request in the quick lane does not have."""


class Application:
    """The server as an ASGI callable.

    Works with and without lifespan events. It changes nothing outside itself unless `owns_process` is set.

    Args:
        context: settings, clocks, log.
        owns_process: it is the application of this process (`uvicorn asgi_fault:app`), not a guest in another's: it
            chains the stop signals and mutes uvicorn's access log, which costs 2.3 times a whole request.
        routes: the table.
    """

    def __init__(self, context: Context, *, owns_process: bool = False, routes: Sequence[Route] = ROUTES) -> None:
        settings = context.settings
        routes = [route for route in routes if settings.enable_docs or route.path not in DOCUMENT_PAGES]
        self._cors = Cors(settings.cors_origins) if settings.cors_enabled else None
        router = Router(routes, refuse=refuse, options=partial(answer_options, self._cors))
        context.operations = [
            operation for resource in router.resources for operation in (*resource.operations.values(), resource.other)
        ]
        context.documents = Documents(routes)
        self.context = context
        self._router = router
        # With fault headers everywhere no path may take the short way past `_find`.
        self._static = {} if settings.fault_headers else router.static
        self._quick = {path: found for path, found in router.quick.items() if path in self._static}
        self._unmatched = router.unmatched.other
        self._clock = context.clock
        self._default = context.partitions.default
        self._log = context.log
        self._token = settings.admin_token.encode()
        if not self._token:
            for operation in context.operations:
                operation.guarded = False
        self._owns_process = owns_process

    # Two functions are long on purpose, this one and `_serve`: a call of another costs a twentieth of all they do.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        # The quick lane. A request that asks for nothing special, of a partition where nothing is wrong, never has to
        # wait, so it needs neither an exchange nor a second coroutine. `_serve` would answer it the same.
        quick = self._quick.get(scope.get("path", ""))
        partition = self._default
        slots = partition.slots
        answer = None
        if (
            quick is not None
            and slots.free > 0
            and partition.induced is None
            and (partition.rules is None or not partition.rules.concerns(quick.path))
            and scope.get("method") == "GET"
            and not scope["query_string"]
        ):
            fields = scope["headers"]
            headers: dict[bytes, bytes] = dict(fields)
            arrived_at = self._clock()
            key = headers.get(b"x-request-id")
            if (
                SPECIAL.isdisjoint(headers)
                and len(fields) == len(headers) <= HEADERS_MAX
                and sum(map(len, headers.values())) <= HEAD_MAX
                and not (key and self._log.debug_on)
            ):
                answer = quick.answer(partition, key, arrived_at)
        if answer is None or quick is None:
            await self._serve(scope, receive, send)
            return
        slots.free -= 1
        partition.arrivals = ordinal = partition.arrivals + 1
        traffic = quick.traffic
        traffic.started += 1
        done_at = 0.0
        try:
            try:
                correlation_id = take()
                request_id = key or take()
            except IndexError:
                correlation_id, request_id = new_id(), key or new_id()
            sent_headers = [*answer[1], (b"x-request-id", request_id), (b"x-correlation-id", correlation_id)]
            await send({"type": "http.response.start", "status": 200, "headers": sent_headers})
            done_at = self._clock()
            await send({"type": "http.response.body", "body": answer[2]})
        except Exception as error:  # noqa: BLE001 - as in `_serve`
            self._log.warning("send.failed", "The server could not send the answer", error=repr(error))
        finally:
            if slots.waiters:
                slots.release()
            else:
                slots.free += 1
            seconds = (done_at or self._clock()) - arrived_at
            traffic.seconds += seconds
            if seconds <= QUICK:
                traffic.quick += 1
            else:
                traffic.finish(200, seconds)
            if partition.journal is not None:
                partition.journal.append(entry_of(scope, ordinal, arrived_at, done_at, 200, request_id))
            if self._log.debug_on:
                self._log.request("GET", scope["path"], 200, seconds, request_id, correlation_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: C901, PLR0912, PLR0915
        """Serve any scope, the way the module says."""
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        arrived_at = self._clock()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = headers.get(b"x-request-id")
        if request_id is not None and not is_well_formed(request_id):
            request_id = None
        if len(headers) != len(scope["headers"]) and _differs(b"x-request-id", scope):
            request_id = None
        try:
            correlation_id = take()
            if request_id is None:
                request_id = take()
        except IndexError:
            correlation_id = new_id()
            request_id = request_id or new_id()
        partition = self._default
        exchange = Exchange(self.context, scope, receive, headers, partition, arrived_at, request_id)

        operation = self._unmatched
        entered = False
        ordinal = status = 0
        try:
            try:
                # 1. The operation and the partition.
                resource = self._static.get(scope["path"])
                if resource is None or b"x-fault-partition" in headers:
                    # `_find` may raise: until it has found another, this operation is the one that has begun.
                    operation.traffic.started += 1
                    found = self._find(exchange)
                    operation.traffic.started -= 1
                    operation, partition = found, exchange.partition
                else:
                    operation = resource.operations.get(scope["method"], resource.other)
                operation.traffic.started += 1
                # 2. The token, or a slot.
                if operation.control:
                    if operation.guarded:
                        self._check_token(headers)
                else:
                    partition.arrivals = ordinal = partition.arrivals + 1
                    if partition.slots.free > 0:
                        partition.slots.free -= 1
                    else:
                        await exchange.enter()
                    entered = True
                # 3. The body.
                if sum(map(len, headers.values())) > HEAD_MAX or len(scope["headers"]) > HEADERS_MAX:
                    _refuse_head()
                if (b"content-length" in headers or b"transfer-encoding" in headers) and not operation.public:
                    await exchange.read_body(self.context.settings.max_body)
                # 4. The rules, then the handler.
                if entered and (partition.rules is not None or exchange.inline_fault is not None):
                    answer = await self._under_rules(exchange, operation, ordinal, send, correlation_id)
                else:
                    handled = operation.handler(exchange)
                    answer = handled if isinstance(handled, tuple) else await handled
            except Exception as error:  # noqa: BLE001 - the edge: whatever went wrong, the client gets an answer
                answer = self._recover(exchange, operation, error)
            # 5. The answer.
            status, response_headers, body = answer
            if scope["method"] == "HEAD":
                body = b""
            if response_headers is not SENT:
                sent_headers = [
                    *response_headers,
                    (b"x-request-id", request_id),
                    (b"x-correlation-id", correlation_id),
                ]
                if self._cors is not None and b"origin" in headers:
                    sent_headers += self._cors.headers(headers[b"origin"])
                await send({"type": "http.response.start", "status": status, "headers": sent_headers})
                if type(body) is not bytes or status == 413:
                    body = await _send_slowly(exchange, send, status, body)
                # Read before the last byte is written: the journal holds the client's next arrival against it.
                exchange.done_at = self._clock()
                await send({"type": "http.response.body", "body": body})
        except CancelledError:
            # A client that reads nothing is given up by the server when it stops; that is no defect of anybody.
            if not self.context.stopping.begun:
                raise
        except Exception as error:  # noqa: BLE001 - whatever the server could not send, it is over for this client
            self._log.warning("send.failed", "The server could not send the answer", error=repr(error))
        finally:
            # 6. The slot, the counters, the journal, the log line.
            if entered:
                if partition.slots.waiters:
                    partition.slots.release()
                else:
                    partition.slots.free += 1
            if partition is not self._default:
                partition.requests -= 1
            seconds = (exchange.done_at or self._clock()) - arrived_at
            traffic = operation.traffic
            traffic.seconds += seconds
            if status == 200 and seconds <= QUICK:
                traffic.quick += 1
            else:
                traffic.finish(status, seconds)
            if ordinal and partition.journal is not None:
                partition.journal.append(_entry(exchange, ordinal, status))
            if self._log.debug_on:
                self._log.request(scope["method"], exchange.path, status, seconds, request_id, correlation_id)

    def _find(self, exchange: Exchange) -> Operation:
        """The operation for anything but a plain hit in the static table; sets path, params, prefix and partition.

        Raises:
            BadRequest: the target or the partition's name makes no sense.
            Unavailable: there is no room for another partition.
        """
        scope = exchange.scope
        if scope["method"] == "CONNECT":
            raise BadRequest("CONNECT is refused: this server is no proxy.")
        target = self._split(scope)
        exchange.locate(target.path, target.prefix)
        resource, exchange.params = self._router.find(target.path)
        operation = resource.operations.get(scope["method"], resource.other)
        if operation.public:
            return operation
        name = target.partition
        wire = exchange.wire
        if wire is not None and wire.partition:
            name = wire.partition
        elif name is None and b"x-fault-partition" in exchange.headers:
            name = exchange.headers[b"x-fault-partition"].decode("latin-1")
        if name is not None:
            exchange.partition = self.context.partitions.get(name, exchange.arrived_at)
        if exchange.partition is not self._default:
            exchange.partition.requests += 1
        if name is not None or self.context.settings.fault_headers:
            exchange.inline_fault = inline_fault(exchange)
        return operation

    def _split(self, scope: Scope) -> Target:
        """The target of `scope` taken apart, as this application understands it."""
        return split_target(scope)

    async def _under_rules(
        self, exchange: Exchange, operation: Operation, ordinal: int, send: Send, correlation_id: bytes
    ) -> Response:
        """The handler's answer, unless a rule has it otherwise: then that is carried out here, and sent."""
        plan = self._plan(exchange, ordinal)
        if plan is None:
            return await self._real_answer(exchange, operation)
        exchange.rule, exchange.step = plan.rule_id, plan.step
        headers: list[Header] = [(b"x-request-id", exchange.request_id), (b"x-correlation-id", correlation_id)]
        if self._cors is not None and b"origin" in exchange.headers:
            headers += self._cors.headers(exchange.headers[b"origin"])
        status = await carry_out(plan, exchange, partial(self._real_answer, exchange, operation), send, headers)
        return status, SENT, b""

    def _plan(self, exchange: Exchange, ordinal: int) -> Plan | None:
        scope, partition, settings = exchange.scope, exchange.partition, self.context.settings
        client = scope.get("client")
        arrival = Arrival(
            scope["method"],
            exchange.path,
            exchange.headers,
            scope["query_string"],
            exchange.body,
            now=exchange.arrived_at,
            wall=self.context.wall_clock(),
            ordinal=ordinal,
            client=client[0] if client else "",
            prefix=exchange.prefix,
            fields=scope["headers"],
        )
        if exchange.inline_fault is not None:
            text, loc = exchange.inline_fault
            wire = exchange.wire is not None
            return plan_from_text(text, arrival, settings.seed, partition.name, wire=wire, loc=loc)
        return partition.rules.decide(arrival) if partition.rules is not None else None

    async def _real_answer(self, exchange: Exchange, operation: Operation) -> Response:
        """What the handler answers, its errors included."""
        try:
            answer = operation.handler(exchange)
            return answer if isinstance(answer, tuple) else await answer
        except HTTPError as error:
            return self._recover(exchange, operation, error)

    def _check_token(self, headers: dict[bytes, bytes]) -> None:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise AuthenticationFailed(
                "The control plane needs `Authorization: Bearer <SERVER_ADMIN_TOKEN>`.",
                headers=[(b"www-authenticate", b'Bearer realm="asgi-fault"')],
            )

    def _recover(self, exchange: Exchange, operation: Operation, error: Exception) -> Response:
        """The answer to a request whose handling raised `error`; `SENT` when nobody is left to answer."""
        if isinstance(error, Disconnected):
            return exchange.status, SENT, b""
        if not isinstance(error, HTTPError):
            self._log.failure(
                "request.failed",
                "Unexpected error",
                error,
                method=exchange.scope["method"],
                path=exchange.path,
                endpoint=operation.path,
                request_id=exchange.request_id.decode("ascii"),
            )
            error = Unexpected("An unexpected error occurred")
        errors = self.context.errors
        key = (error.error, error.status)
        errors[key] = errors.get(key, 0) + 1
        as_problem = b"application/problem+json" in exchange.headers.get(b"accept", b"")
        return render(error, exchange.request_id.decode("ascii"), as_problem=as_problem)

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything that is not HTTP: the lifespan, and websockets, which are closed cleanly."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "asgi-fault speaks HTTP only"})
        else:
            raise ValueError(f"unknown ASGI scope type {scope['type']!r}")

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await serve_lifespan(self.context, receive, send, owns_process=self._owns_process, announced=self._announced())

    def _announced(self) -> dict[str, str]:
        return {"url": self.context.settings.url} if self.context.settings.url else {}


def _differs(name: bytes, scope: Scope) -> bool:
    """Whether the header `name` came more than once and not always the same."""
    return len({value for key, value in scope["headers"] if key == name}) > 1


def _refuse_head() -> NoReturn:
    raise HeadTooLarge(f"The header fields are larger than {HEAD_MAX} bytes, or more than {HEADERS_MAX}.")


def inline_fault(exchange: Exchange) -> tuple[str, Loc] | None:
    """The fault that came with the request, as text, and where it stood."""
    if b"x-fault" in exchange.headers:
        return exchange.headers[b"x-fault"].decode("latin-1"), HEADER
    if b"x-fault=" in exchange.scope["query_string"]:
        text = exchange.query.get("x-fault")
        if text is not None:
            return text, QUERY
    return None


async def _send_slowly(exchange: Exchange, send: Send, status: int, body: bytes | BodyStream) -> bytes:
    """Send what is no single piece; returns what is left for the last one."""
    if not isinstance(body, bytes):
        await _stream(exchange, send, body)
    elif status == 413:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await exchange.linger(LINGER, LINGER_SIZE)
    return b""


async def _stream(exchange: Exchange, send: Send, body: BodyStream) -> None:
    """Send a body piece by piece until it ends or the client leaves."""

    async def watch() -> None:
        await exchange.gone()
        await body.aclose()

    watcher = get_running_loop().create_task(watch())
    try:
        async for piece in body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        watcher.cancel()
        await body.aclose()


def _entry(exchange: Exchange, ordinal: int, status: int) -> Entry:
    """What the journal keeps of an exchange that is over."""
    entry = entry_of(exchange.scope, ordinal, exchange.arrived_at, exchange.done_at, status, exchange.request_id)
    if not exchange.body and not exchange.rule:
        return entry
    digest = sha256(exchange.body).hexdigest() if exchange.body else ""
    return (*entry[:9], len(exchange.body), digest, exchange.rule, exchange.step, exchange.request_id)


def entry_of(scope: Scope, ordinal: int, arrived_at: float, done_at: float, status: int, request_id: bytes) -> Entry:
    """What the journal keeps of a request without a body that no rule was about."""
    extensions = scope.get("extensions")
    wire = extensions.get(EXTENSION) if extensions else None
    target = scope.get("raw_path") or scope["path"].encode(errors="replace")
    return (
        ordinal,
        arrived_at,
        done_at,
        scope["method"],
        target + b"?" + scope["query_string"] if scope["query_string"] else target,
        scope["headers"],
        scope.get("client"),
        wire.connection if wire is not None else None,
        status,
        0,
        "",
        "",
        -1,
        request_id,
    )

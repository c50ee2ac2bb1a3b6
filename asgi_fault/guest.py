"""The fault server as a guest: in front of another ASGI application, whose answers it leaves alone unless a rule acts.

The control plane (`/faults`, `/journal`, `/metrics`, ...) lies below a prefix and is served as `Application` serves it.
Every other path belongs to the application behind:

1. no rule, no fault in the request: its messages pass through as they are, to it and from it
2. a rule that leaves the body of its answer alone (a delay, more headers): they still pass through, later
3. a rule that works on the answer (cut, drip, framing): the answer is gathered first, up to 16 MiB
4. a rule that answers itself: the application is not asked

The guest has no slots, no queue and no time limit: they are the host's business. Of the request it reads beforehand
only what the rules ask for, and the application gets that again.
"""

import re
from asyncio import CancelledError, get_running_loop
from collections.abc import Awaitable
from functools import partial
from hashlib import sha256
from ipaddress import ip_address

from asgi_fault.application import QUICK, Application, entry_of, inline_fault
from asgi_fault.asgi import ASGIApplication, Header, Message, Receive, Response, Scope, Send
from asgi_fault.config import ConfigError
from asgi_fault.context import Context
from asgi_fault.effects import carry_out
from asgi_fault.errors import BadRequest, HTTPError
from asgi_fault.exchange import Disconnected, Exchange
from asgi_fault.faults.plan import Plan
from asgi_fault.gathering import Gathering, Reading, adding_headers
from asgi_fault.observe.ids import new_id
from asgi_fault.partitions import NAME
from asgi_fault.refusals import answer_options, refuse
from asgi_fault.requestid import is_well_formed
from asgi_fault.routes import ROUTES
from asgi_fault.routing import Operation, Resource
from asgi_fault.target import PARTITION_MARK, Target, split_target

DEFAULT_PREFIX = "/__fault__"
PREFIX = re.compile(r"(/[A-Za-z0-9._-]+)+", re.ASCII)
TAGS = frozenset({"faults", "journal", "ports", "observe", "about"})
"""The surfaces that steer and watch; the others are the fault server's own data plane."""

BEHIND = "behind"
"""The metric label of every path that is not the control plane's."""

FORWARDED = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip"})
"""What a proxy adds. A client that comes through one on this machine looks local and is not."""

TEST_CLIENT = "testclient"
"""The address that Starlette's TestClient has; a server gives numbers."""


class NotLocal(HTTPError):
    """403: without a token the control plane is for this machine only."""

    status = 403
    error = "ForbiddenError"


class NotOnThisLoop(HTTPError):
    """501: the server runs the application on something else than asyncio."""

    status = 501
    error = "NotImplementedError"


class Visit(Exchange):
    """An exchange with the application behind.

    Attributes:
        inner_scope: the scope it is called with.
        reading: what it reads the request's body through, while a journal wants to know the body.
        gathering: its whole answer, when a rule works on that.
    """

    inner_scope: Scope
    reading: Reading | None = None
    gathering: Gathering | None = None

    @property
    def has_body(self) -> bool:
        """Whether the request announces a body; HTTP/2 may leave that out."""
        headers, scope = self.headers, self.scope
        if b"content-length" in headers or b"transfer-encoding" in headers:
            return True
        return scope.get("http_version", "1.1") >= "2" and scope["method"] not in ("GET", "HEAD")


class Guest(Application):
    """Faults in front of `inner`.

    Args:
        context: settings, clocks, log.
        inner: the application behind.
        prefix: where the control plane lies, such as `/__fault__`.
        local_only: without an admin token, the control plane answers to this machine only.
        owns_process: as for `Application`. Then the lifespan is ours, and `inner` sees none of it.

    Raises:
        ConfigError: `prefix` is none.
    """

    def __init__(
        self,
        context: Context,
        inner: ASGIApplication,
        *,
        prefix: str = DEFAULT_PREFIX,
        local_only: bool = False,
        owns_process: bool = False,
    ) -> None:
        if PREFIX.fullmatch(prefix) is None:
            raise ConfigError(
                f"{prefix!r} is no prefix: expected one like {DEFAULT_PREFIX}, without a slash at the end"
            )
        super().__init__(context, owns_process=owns_process, routes=[route for route in ROUTES if route.tag in TAGS])
        # Below the prefix nothing is the data plane: no path there has faults, slots or a journal.
        for operation in context.operations:
            operation.control = True
            operation.guarded = bool(self._token) and not operation.public and operation.method != "OPTIONS"
        self._behind = Resource(BEHIND, (), refuse, partial(answer_options, self._cors))
        context.operations = [*context.operations, *self._behind.operations.values(), self._behind.other]
        self._inner = inner
        self._prefix = prefix
        self._local_only = local_only and not self._token
        self._looks_everywhere = context.settings.fault_headers
        # Every control request goes through `_find`, which knows the prefix.
        self._static = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        path = scope["path"]
        if self._prefix in path and self._is_control(scope):
            if _runs_asyncio():
                await self._serve(scope, receive, send)
            else:
                await self._refuse_control(scope, receive, send)
            return
        arrived_at = self._clock()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        visit = Visit(self.context, scope, receive, headers, self._default, arrived_at, b"")
        visit.inner_scope = scope
        operation = self._behind.operations.get(scope["method"], self._behind.other)
        operation.traffic.started += 1
        wire = visit.wire
        ordinal = 0
        try:
            if (
                (wire is not None and wire.partition)
                or b"x-fault-partition" in headers
                or "~" in path
                or path[:1] != "/"
                or scope.get("root_path")
                or self._looks_everywhere
            ):
                self._locate(visit)
            partition = visit.partition
            partition.arrivals = ordinal = partition.arrivals + 1
            if partition.rules is None and visit.inline_fault is None:
                await self._inner(visit.inner_scope, self._reads(visit, receive), self._noting(visit, send))
            else:
                await self._serve_under_rules(visit, operation, ordinal, send)
        except Disconnected:
            pass
        except HTTPError as error:
            await self._refuse_visit(visit, operation, error, send)
        except Exception:
            # Whatever the application raises is its server's to handle, and every server makes this of it.
            visit.status = visit.status or 500
            raise
        finally:
            self._count(visit, operation, ordinal)

    # --- where a request belongs ---

    def _is_control(self, scope: Scope) -> bool:
        try:
            path = split_target(scope).path
        except BadRequest:
            return False
        return path == self._prefix or path.startswith(self._prefix + "/")

    def _split(self, scope: Scope) -> Target:
        """The target below the prefix. The partition may stand before or behind it."""
        outer = split_target(scope)
        below = {"path": outer.path[len(self._prefix) :] or "/", "method": scope["method"]}
        inner = split_target(below)
        partition = outer.partition if inner.partition is None else inner.partition
        return Target(inner.path, partition, outer.prefix + self._prefix + inner.prefix)

    def _find(self, exchange: Exchange) -> Operation:
        """As in `Application`, for whoever may use the control plane.

        Raises:
            NotLocal: nobody else may.
        """
        if self._local_only and not _is_local(exchange.scope, exchange.headers):
            self._unmatched.traffic.started += 1
            raise NotLocal(
                "Without a token the control plane answers to this machine only, and not through a proxy.",
                details={"hint": "ASGI_FAULT_ADMIN_TOKEN, or FaultMiddleware(app, token=...), sets a token."},
            )
        return super()._find(exchange)

    def _locate(self, visit: Visit) -> None:
        """Find partition and path of a request to the application behind, and the scope for it.

        Raises:
            BadRequest: the partition's name in the header makes no sense.
            Unavailable: there is no room for another partition.
        """
        scope = visit.scope
        try:
            path, name, prefix = split_target(scope)
        except BadRequest:
            return  # the application behind may think otherwise
        if name is not None and NAME.fullmatch(name) is None:
            # No partition can be called that: it is a path of the application behind.
            mark = PARTITION_MARK + name
            path, name, prefix = mark + path, None, prefix.removesuffix(mark)
        visit.locate(path, prefix)
        if name is not None:
            # As for any application that is mounted somewhere: `path` keeps what `root_path` names.
            visit.inner_scope = {**scope, "path": prefix + path, "root_path": prefix}
        wire = visit.wire
        if wire is not None and wire.partition:
            name = wire.partition
        elif name is None and b"x-fault-partition" in visit.headers:
            name = visit.headers[b"x-fault-partition"].decode("latin-1")
        if name is not None:
            visit.partition = self.context.partitions.get(name, visit.arrived_at)
            if visit.partition is not self._default:
                visit.partition.requests += 1
        if name is not None or self._looks_everywhere:
            visit.inline_fault = inline_fault(visit)

    # --- the ways to an answer ---

    async def _serve_under_rules(self, visit: Visit, operation: Operation, ordinal: int, send: Send) -> None:
        """Ask the rules, and do what they say.

        Raises:
            HTTPError: nothing has been sent yet.
            Disconnected: the client left.
            Exception: what the application behind raises.
        """
        if not _runs_asyncio():
            raise _not_asyncio()
        rules = visit.partition.rules
        if rules is not None and rules.needs_body and visit.has_body:
            await visit.peek_body()
        plan = self._plan(visit, ordinal)
        noting = self._noting(visit, send)
        if plan is None:
            await self._inner(visit.inner_scope, self._reads(visit, visit.rest()), noting)
            return
        visit.rule, visit.step = plan.rule_id, plan.step
        visit.request_id = _request_id(visit)
        if _takes_over(plan):
            if visit.has_body:
                await visit.peek_body()
            visit.discards_body = True
        headers = self._own_headers(visit) if plan.answer is not None else []
        respond = partial(self._respond, visit, plan, operation, noting)
        try:
            await carry_out(plan, visit, respond, send, headers)
        except CancelledError:
            if visit.gathering is not None:
                visit.gathering.task.cancel()
            raise
        finally:
            if visit.gathering is not None:
                await visit.gathering.task

    async def _respond(self, visit: Visit, plan: Plan, operation: Operation, noting: Send) -> Response | None:
        """What the application behind answers; None when it has gone to the client already."""
        receive = self._reads(visit, visit.rest())
        if _passes_through(plan):
            await self._inner(visit.inner_scope, receive, adding_headers(noting, plan.headers))
            return None
        visit.gathering = Gathering(self._inner, visit.inner_scope, receive)
        try:
            return await visit.gathering.answer
        except HTTPError as error:
            return self._recover(visit, operation, error)
        finally:
            visit.discards_body = True

    async def _refuse_visit(self, visit: Visit, operation: Operation, error: HTTPError, send: Send) -> None:
        """Answer with `error`, unless an answer has begun already."""
        if visit.status:
            return
        own_headers = self._own_headers(visit)
        status, headers, body = self._recover(visit, operation, error)
        assert isinstance(body, bytes)  # noqa: S101 - for the type checker
        visit.status = status
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *own_headers]})
        visit.done_at = self._clock()
        await send({"type": "http.response.body", "body": b"" if visit.scope["method"] == "HEAD" else body})

    def _own_headers(self, visit: Visit) -> list[Header]:
        """What every answer of ours carries; those of the application behind get nothing of it."""
        visit.request_id = visit.request_id or _request_id(visit)
        return [(b"x-request-id", visit.request_id), (b"x-correlation-id", new_id())]

    # --- what passes through ---

    def _reads(self, visit: Visit, receive: Receive) -> Receive:
        """`receive` for the application behind; the journal's measure of the body goes with it."""
        if visit.partition.journal is None or not visit.has_body:
            return receive
        visit.reading = Reading(receive)
        return visit.reading

    def _noting(self, visit: Visit, send: Send) -> Send:
        """`send`, with a note of the status and of the instant before the last byte."""
        clock = self._clock

        # No coroutine: it hands out the server's own.
        def noting(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
            elif not message.get("more_body", False):
                visit.done_at = clock()
            return send(message)

        return noting

    def _count(self, visit: Visit, operation: Operation, ordinal: int) -> None:
        """Give the partition back, and write down what happened."""
        partition, traffic = visit.partition, operation.traffic
        if partition is not self._default:
            partition.requests -= 1
        seconds = (visit.done_at or self._clock()) - visit.arrived_at
        traffic.seconds += seconds
        if visit.status == 200 and seconds <= QUICK:
            traffic.quick += 1
        else:
            traffic.finish(visit.status, seconds)
        if ordinal and partition.journal is not None:
            request_id = visit.request_id
            key = visit.headers.get(b"x-request-id") if not request_id else None
            if key is not None and is_well_formed(key):
                request_id = key
            entry = entry_of(visit.scope, ordinal, visit.arrived_at, visit.done_at, visit.status, request_id)
            if visit.reading is not None or visit.body or visit.rule:
                size, digest = _measure(visit)
                entry = (*entry[:9], size, digest, visit.rule, visit.step, request_id)
            partition.journal.append(entry)

    # --- everything that is not HTTP ---

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is not HTTP. Of the lifespan only the stop is noted: it ends what a rule holds up."""
        if scope["type"] != "lifespan":
            await self._inner(scope, receive, send)
        elif self._owns_process:
            await self._serve_lifespan(receive, send)
        else:
            stopping = self.context.stopping

            async def watched() -> Message:
                message = await receive()
                if message["type"] == "lifespan.startup":
                    stopping.end()
                elif message["type"] == "lifespan.shutdown":
                    stopping.begin()
                return message

            await self._inner(scope, watched, send)

    async def _refuse_control(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say that the control plane needs asyncio."""
        visit = Visit(self.context, scope, receive, dict(scope["headers"]), self._default, self._clock(), b"")
        await self._refuse_visit(visit, self._unmatched, _not_asyncio(), send)


def _takes_over(plan: Plan) -> bool:
    """Whether the application behind is not asked."""
    return (
        plan.answer is not None
        or plan.silent
        or plan.garbage is not None
        or (plan.end is not None and plan.end.at == "before-head")
        or (plan.stall is not None and plan.stall.at == "before-head" and plan.stall.seconds is None)
    )


def _passes_through(plan: Plan) -> bool:
    """Whether the answer's body may go to the client as it comes."""
    return (
        not plan.needs_wire
        and plan.bytes_per_second is None
        and (plan.stall is None or plan.stall.at == "before-head")
        and plan.framing is None
        and plan.end is None
    )


def _measure(visit: Visit) -> tuple[int, str]:
    """Size and hash of the request's body, as far as it was read."""
    if visit.reading is not None:
        return visit.reading.size, visit.reading.digest
    return len(visit.body), sha256(visit.body).hexdigest() if visit.body else ""


def _request_id(visit: Visit) -> bytes:
    given = visit.headers.get(b"x-request-id")
    return given if given is not None and is_well_formed(given) else new_id()


def _is_local(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether the client is on this machine, as far as can be known."""
    client = scope.get("client")
    if client is None or not FORWARDED.isdisjoint(headers):
        return False
    if client[0] == TEST_CLIENT:
        return True
    try:
        address = ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _runs_asyncio() -> bool:
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True


def _not_asyncio() -> NotOnThisLoop:
    return NotOnThisLoop(
        "asgi-fault needs asyncio, and this server runs something else (trio?). Requests still pass through; rules, "
        "X-Fault and the control plane need a server, or a worker, that runs asyncio."
    )

"""A real upstream behind the fault server: `asgi-fault serve --proxy URL`. Streams both ways; nothing is kept whole.

Requests and answers go through as they are, compressed bodies included, without what belongs to one connection only
(RFC 9110 section 7.6.1). Redirects are the client's to follow. The upstream's failure to answer is a 502 or a 504; its
failure in the middle of an answer ends the client's connection there.

An upstream that answers before it has read the request is heard when all of the request is sent. httpx's connection
pool is slow (its cost grows with the connections in use): this is a tool for tests, not for load.
"""

from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import anyio
import httpx

from asgi_fault.asgi import Header, Message, Receive, Response, Scope, Send
from asgi_fault.config import ConfigError
from asgi_fault.context import Context
from asgi_fault.errors import BadRequest, HTTPError, Unavailable, render
from asgi_fault.faults.wire import EXTENSION
from asgi_fault.guest import Guest, Visit
from asgi_fault.observe.ids import new_id
from asgi_fault.requestid import is_well_formed

IDLE = 2.0  # seconds a connection is kept for the next request; uvicorn and node close theirs after 5
HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
OURS = frozenset({b"expect", b"host", b"via", b"x-fault", b"x-fault-partition", b"x-forwarded-for"})
"""Request headers that do not go on as they are. The server has answered an `Expect` already."""
SELF = b"asgi-fault"
"""Our name in `Via`."""


class BadGateway(HTTPError):
    """502: the upstream cannot be reached, or what it says is no HTTP."""

    status = 502
    error = "BadGatewayError"


class GatewayTimeout(HTTPError):
    """504: the upstream was silent for too long."""

    status = 504
    error = "GatewayTimeoutError"


class ClientLeft(Exception):
    """The client has gone in the middle of its request."""


class Upstream(NamedTuple):
    """Where requests go on to.

    Attributes:
        base: the path that theirs are appended to, without a slash at the end.
    """

    scheme: str
    host: str
    port: int | None
    base: str

    @property
    def authority(self) -> str:
        """What stands in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.base}"


def upstream_of(url: str) -> Upstream:
    """The upstream that `url` names.

    Raises:
        ConfigError: it names none. Its text repeats no URL that may hold a password.
    """
    shown = "..." if "@" in url else url
    mistake = ConfigError(
        f"SERVER_PROXY={shown}: expected http://host[:port][/path] or https://..., without user, password, query "
        "and fragment (the clients' Authorization headers are passed on)"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise mistake from None
    usual = {"http": 80, "https": 443}
    if parts.scheme not in usual or not parts.hostname or "@" in parts.netloc or "?" in url or "#" in url:
        raise mistake
    if not url.isascii() or not url.isprintable() or " " in url:
        raise mistake
    return Upstream(parts.scheme, parts.hostname, None if port == usual[parts.scheme] else port, parts.path.rstrip("/"))


class Proxy:
    """An ASGI application that is somebody else's server.

    Args:
        url: of the upstream.
        timeout: seconds of its silence that are waited for, whatever it is that it should do.
        connections: to it, at most; a request that gets none within `timeout` is answered 503.
        verify: whether its certificate has to be good.

    Raises:
        ConfigError: `url` names no upstream.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, connections: int = 100, verify: bool = True) -> None:
        self.upstream = upstream_of(url)
        self._timeout = timeout
        self._connections = connections
        self._verify = verify and self.upstream.scheme == "https"
        self._url = httpx.URL(f"{self.upstream.scheme}://{self.upstream.authority}/")
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on. A websocket is closed; the lifespan closes the connections."""
        if scope["type"] == "http":
            await self._pass_on(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "asgi-fault passes on HTTP only"})
        elif scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await self.aclose()
            await send({"type": "lifespan.shutdown.complete"})

    async def aclose(self) -> None:
        """Close every connection to the upstream."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "CONNECT":
            error = BadRequest("CONNECT is refused: this proxy has one upstream.")
            await _answer(scope, send, error)
            return
        upload = Upload(receive)
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await upload.over.wait()
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await self._exchange(scope, upload, send)
            group.cancel_scope.cancel()

    async def _exchange(self, scope: Scope, upload: "Upload", send: Send) -> None:
        """Send the request, and the answer back."""
        if self._transport is None:
            limits = httpx.Limits(
                max_connections=self._connections, max_keepalive_connections=self._connections, keepalive_expiry=IDLE
            )
            self._transport = httpx.AsyncHTTPTransport(verify=self._verify, limits=limits)
        try:
            response = await self._transport.handle_async_request(self._request(scope, upload))
        except ClientLeft:
            return
        except httpx.TransportError as error:
            await _answer(scope, send, self._meaning(error))
            return
        upload.over.set()
        try:
            await send({"type": "http.response.start", "status": response.status_code, "headers": _back(response)})
            assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for the type checker
            async for piece in response.stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except httpx.TransportError:
            await _break_off(scope)
            return
        finally:
            await response.aclose()
        await send({"type": "http.response.body", "body": b""})

    def _request(self, scope: Scope, upload: "Upload") -> httpx.Request:
        request = httpx.Request(
            scope["method"],
            self._url,
            headers=self._forth(scope),
            stream=upload,
            extensions={
                "target": self._target(scope),
                "timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout),
            },
        )
        request.method = scope["method"]  # methods are case-sensitive (RFC 9110 section 9.1); httpx thinks otherwise
        return request

    def _target(self, scope: Scope) -> bytes:
        """The request target, byte for byte as the client wrote it, without partition and mount point."""
        raw: bytes = scope.get("raw_path") or quote(scope["path"], safe="/:@!$&'()*+,;=-._~").encode()
        if raw == b"*":
            return raw
        if not raw.startswith(b"/"):
            raw = b"/" + raw.partition(b"://")[2].partition(b"/")[2]
        for _ in range((scope.get("root_path") or "").count("/")):
            raw = b"/" + raw[1:].partition(b"/")[2]
        query: bytes = scope["query_string"]
        return self.upstream.base.encode() + raw + (b"?" + query if query else b"")

    def _forth(self, scope: Scope) -> list[Header]:
        """The headers of the request to the upstream."""
        fields: list[Header] = scope["headers"]
        given = dict(fields)
        dropped = HOP_BY_HOP | OURS | _named_by_connection(fields)
        chunked = b"transfer-encoding" in given
        if chunked:
            dropped |= {b"content-length"}
        client = scope.get("client")
        version: str = scope.get("http_version", "1.1")
        via = [value for name, value in fields if name == b"via"]
        addresses = [value for name, value in fields if name == b"x-forwarded-for"]
        addresses += [client[0].encode("ascii", "replace")] if client else []
        forwarded = [
            (b"host", self.upstream.authority.encode()),
            *(field for field in fields if field[0] not in dropped),
            (b"via", b", ".join([*via, version.encode() + b" " + SELF])),
        ]
        if addresses:
            forwarded.append((b"x-forwarded-for", b", ".join(addresses)))
        if b"x-forwarded-host" not in given and b"host" in given:
            forwarded.append((b"x-forwarded-host", given[b"host"]))
        if b"x-forwarded-proto" not in given:
            forwarded.append((b"x-forwarded-proto", scope.get("scheme", "http").encode()))
        if chunked or (version >= "2" and b"content-length" not in given and scope["method"] not in ("GET", "HEAD")):
            forwarded.append((b"transfer-encoding", b"chunked"))
        return forwarded

    def _meaning(self, error: httpx.TransportError) -> HTTPError:
        """What the client is told of `error`; the driver's own words are nobody's business."""
        details = {"upstream": str(self.upstream)}
        if isinstance(error, httpx.PoolTimeout):
            return Unavailable(
                f"All {self._connections} connections to the upstream are in use.",
                details={**details, "limit": "SERVER_PROXY_CONNECTIONS"},
            )
        if isinstance(error, httpx.TimeoutException):
            message = f"The upstream was silent for {self._timeout:g} s."
            return GatewayTimeout(message, details={**details, "limit": "SERVER_PROXY_TIMEOUT"})
        if isinstance(error, httpx.LocalProtocolError):
            return BadRequest("This request cannot be passed on: it is no HTTP/1.1.", details=details)
        if isinstance(error, httpx.ConnectError):
            return BadGateway("The upstream cannot be reached.", details=details)
        return BadGateway("The upstream broke the connection, or answered no HTTP.", details=details)


class Upload(httpx.AsyncByteStream):
    """The request's body on its way up, read as fast as the upstream takes it.

    Attributes:
        over: nothing more of it will be read here, so somebody else may look out for the client's leaving.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.over = anyio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces.

        Raises:
            ClientLeft: before the last of them.
        """
        more = True
        while more:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            more = message.get("more_body", False)
            piece = message.get("body", b"")
            if piece:
                yield piece
        self.over.set()


class ProxyApplication(Guest):
    """The application of `asgi-fault serve --proxy`."""

    def __init__(self, context: Context, *, owns_process: bool = True) -> None:
        settings = context.settings
        self._proxy = Proxy(
            settings.proxy,
            timeout=settings.proxy_timeout,
            connections=settings.proxy_connections,
            verify=settings.proxy_verify,
        )
        super().__init__(context, self._proxy, prefix=settings.control_prefix, owns_process=owns_process)

    def _own_headers(self, visit: Visit) -> list[Header]:
        """With the date: the server adds none here, because the upstream's answers have theirs."""
        return [*super()._own_headers(visit), _date(self.context.wall_clock())]

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await self._proxy.aclose()
            await send(message)

        await super()._serve_lifespan(receive, closing)

    def _announced(self) -> dict[str, str]:
        return {**super()._announced(), "upstream": str(self._proxy.upstream)}


def _named_by_connection(fields: list[Header]) -> set[bytes]:
    """What the Connection header says belongs to the connection."""
    values = b",".join(value for name, value in fields if name == b"connection")
    return {option.strip().lower() for option in values.split(b",")}


def _back(response: httpx.Response) -> list[Header]:
    """The headers of the answer for the client."""
    fields = [(name.lower(), value) for name, value in response.headers.raw]
    dropped = HOP_BY_HOP | _named_by_connection(fields)
    return [field for field in fields if field[0] not in dropped]


async def _answer(scope: Scope, send: Send, error: HTTPError) -> None:
    """Answer in the upstream's place."""
    given = dict(scope["headers"])
    request_id = given.get(b"x-request-id")
    if request_id is None or not is_well_formed(request_id):
        request_id = new_id()
    as_problem = b"application/problem+json" in given.get(b"accept", b"")
    answer: Response = render(error, request_id.decode("ascii"), as_problem=as_problem)
    status, headers, body = answer
    headers = [*headers, (b"x-request-id", request_id), _date(None)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _break_off(scope: Scope) -> None:
    """End the client's connection in the middle of an answer; a server without our protocol does so by itself."""
    wire = (scope.get("extensions") or {}).get(EXTENSION)
    if wire is not None:
        wire.close()
        await anyio.sleep_forever()  # until the server has noticed: then `watch` ends this


def _date(wall: float | None) -> Header:
    return b"date", formatdate(wall, usegmt=True).encode()

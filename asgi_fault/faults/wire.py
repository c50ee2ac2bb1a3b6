"""Below HTTP: uvicorn's two HTTP/1 protocols, with the connection handed to the application.

What only the connection can do (a reset, a half-close, a cut at any byte, bytes that are no HTTP) the application does
through `scope["extensions"]["asgi_fault.wire"]`, a `Wire`. The protocols also refuse a request head that never ends,
with 431 (RFC 6585 section 5): h11 stops at 64 KiB but says 400, httptools reads on for ever. A head that is complete
but too large reaches the application, which answers 431 itself under every server.

`asgi-fault serve` uses these protocols; with plain uvicorn: `--http asgi_fault.faults.wire:HttpTools` or `:H11`.
uvicorn is imported when a protocol is asked for (PEP 562), because only a process that listens needs it.
"""

import itertools
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from asgi_fault.asgi import ASGIApplication, Receive, Scope, Send
from asgi_fault.errors import HEAD_MAX
from asgi_fault.observe.attempts import Connection

if TYPE_CHECKING:
    from asyncio import BaseProtocol, Transport

    H11: type[BaseProtocol]
    HttpTools: type[BaseProtocol]

EXTENSION = "asgi_fault.wire"
"""The key in `scope["extensions"]`."""

_REASON = b"The request head is larger than 64 KiB."
ANSWER_431 = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_REASON), _REASON)
)

# Linger on, for zero seconds: close() discards what is unsent and sends RST instead of FIN (socket(7)).
LINGER_ZERO = struct.pack("ii", 1, 0)

TLS_CONSENT = 0.5  # seconds; asyncio would wait 30 for a close_notify that no client needs to send (RFC 8446 6.1)

AHEAD_MAX = HEAD_MAX
"""Bytes of later requests that are read while one is answered; see `Wired.data_received`."""

_connection_ids = itertools.count(1)


class Wire:
    """One connection, as far as a fault needs it.

    Whoever writes here has taken the answer out of the server's hands: it must end with `close`, `half_close` or
    `reset` and then wait for `http.disconnect`, or the server adds a 500 of its own.

    Attributes:
        connection: what the journal knows of it.
        partition: whose port the client has come to; empty for the server's own listener.
        protocol: uvicorn's side of the connection.
    """

    __slots__ = ("_transport", "connection", "partition", "protocol")

    def __init__(
        self, transport: "Transport", opened_at: float, protocol: "Wired | None" = None, partition: str = ""
    ) -> None:
        self._transport = transport
        self.connection = Connection(next(_connection_ids), opened_at)
        self.partition = partition
        self.protocol = protocol

    def siblings(self) -> "Siblings":
        """What makes protocols like the one of this connection."""
        protocol: Any = self.protocol
        return Siblings(type(protocol), protocol.config, protocol.server_state, protocol.app_state)

    def write(self, data: bytes) -> None:
        """Put bytes on the connection as they are."""
        if not self._transport.is_closing():
            self._transport.write(data)

    @property
    def unsent(self) -> int:
        """How many bytes a reset would lose: those the client's kernel has not confirmed.

        Where the system does not tell that, those that still wait in this process.
        """
        return self._transport.get_write_buffer_size() + _unconfirmed(self._transport.get_extra_info("socket"))

    def closes(self) -> None:
        """Note that the server will close behind this answer, because a rule wants it."""
        self._ended("server-close")

    def close(self) -> None:
        """Send what was written, then FIN."""
        self._ended("server-close")
        self._transport.close()

    def half_close(self) -> None:
        """Send what was written, then FIN, and still read. TLS cannot: there it is a `close`."""
        if not self._transport.can_write_eof():
            self.close()
            return
        self._ended("server-half-close")
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:  # the client has reset the connection, and the loop does not know yet
                self._transport.abort()

    def reset(self) -> None:
        """RST at once; bytes on their way are lost, so wait for `unsent` to be 0 where they matter."""
        self._ended("server-reset")
        reset(self._transport)

    def abort(self) -> None:
        """End the connection without another byte, as it is."""
        self._transport.abort()

    def _ended(self, how: str) -> None:
        if self.connection.ended is None:
            self.connection.ended = how


def _unconfirmed(raw: socket.socket | None) -> int:
    """Bytes in the kernel that the peer has not acknowledged (tcp(7), SIOCOUTQ); 0 where the kernel does not tell."""
    try:
        from fcntl import ioctl
        from termios import TIOCOUTQ

        if raw is None:
            return 0
        (number,) = struct.unpack("i", ioctl(raw.fileno(), TIOCOUTQ, bytes(4)))
        return int(number)
    except (ImportError, OSError, ValueError):
        return 0


def reset(transport: "Transport") -> None:
    """End a connection with RST."""
    raw: socket.socket | None = transport.get_extra_info("socket")
    if raw is not None and not transport.is_closing():
        with suppress(OSError):  # the client has ended it meanwhile
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    transport.abort()


class OwnPort(Protocol):
    """What a protocol knows of the port its client has come to, when that belongs to a partition."""

    partition: str


class Siblings:
    """Makes protocols that serve like those of a running uvicorn server, each for a port of its own.

    Attributes:
        workers: how many processes the server has.
    """

    __slots__ = ("_app_state", "_config", "_kind", "_server_state", "workers")

    def __init__(self, kind: Any, config: Any, server_state: Any, app_state: dict[str, Any]) -> None:
        self._kind = kind
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self.workers: int = config.workers

    @classmethod
    def of(cls, server: Any) -> "Siblings":
        """Those of a `uvicorn.Server` that has started with `H11` or `HttpTools`."""
        return cls(server.config.http_protocol_class, server.config, server.server_state, server.lifespan.state)

    def __call__(self, port: OwnPort) -> Any:
        """A protocol for one connection to `port`. To be called where the loop runs."""
        return self._kind(config=self._config, server_state=self._server_state, app_state=self._app_state, port=port)

    def serving(self, port: OwnPort) -> "list[Wired]":
        """Those protocols of `port` that have a connection."""
        return [protocol for protocol in self._server_state.connections if getattr(protocol, "port", None) is port]


class Wired:
    """Mixin over either protocol: gives each connection a `Wire`, and each request the wire of its connection."""

    transport: Any
    loop: Any
    flow: Any
    app: ASGIApplication
    _wire: Wire
    _client_has_ended = False
    _answering: Any = None
    _ahead = 0

    def __init__(self, *args: Any, port: OwnPort | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.port = port
        inner = self.app
        # Whoever looks for the header finds the partition; `Wire.partition` says that nothing may overrule it.
        mark = [] if port is None else [(b"x-fault-partition", port.partition.encode("ascii"))]

        def app(scope: Scope, receive: Receive, send: Send) -> Any:
            wire = self._wire
            wire.connection.requests += 1
            self._answering = receive.__self__  # type: ignore[attr-defined]
            scope["extensions"] = {EXTENSION: wire}
            if mark:
                scope["headers"] = scope["headers"] + mark
            return inner(scope, receive, send)

        self.app = app

    def end(self, how: str) -> None:
        """End the connection from outside of any request: `close`, `reset` or `abort`."""
        {"close": self._wire.close, "reset": self._wire.reset, "abort": self._wire.abort}[how]()

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        partition = "" if self.port is None else self.port.partition
        self._wire = Wire(transport, self.loop.time(), self, partition)
        super().connection_made(transport)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and go on reading for a while where uvicorn stops at a request behind one unanswered.

        Nobody sees a client leave while nothing is read, and an answer that never comes would keep its slot for ever.
        """
        if self._wire.connection.ended is not None:
            return  # after a half-close, where no answer is possible, not even a 400
        super().data_received(data)  # type: ignore[misc]
        if not self.flow.read_paused:
            self._ahead = 0
        elif self._ahead < AHEAD_MAX and not self.transport.is_closing():
            self._ahead += len(data)
            self.flow.resume_reading()

    def eof_received(self) -> Any:
        """The client will send nothing more."""
        # Once we close, TLS has the client say the same; that is its answer to ours.
        self._client_has_ended = not self.transport.is_closing()
        return super().eof_received()  # type: ignore[misc]

    def shutdown(self) -> None:
        """The server stops: an idle connection is closed; over TLS with the client's consent, if it comes soon."""
        super().shutdown()  # type: ignore[misc]
        if self.transport.is_closing():
            self.loop.call_later(TLS_CONSENT, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over: note how, unless it was us who ended it."""
        connection = self._wire.connection
        if connection.ended is None:
            connection.ended = "client-reset" if exc else "client-fin" if self._client_has_ended else "server-end"
        connection.ended_at = self.loop.time()
        super().connection_lost(exc)  # type: ignore[misc]
        # uvicorn's httptools protocol tells the latest request; with pipelining that is not the one being answered.
        cycle = self._answering
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()


class BoundedH11:
    """Mixin for uvicorn's h11 protocol: says 431 where h11 has found the head too long."""

    transport: Any
    cycle: Any

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused; called while its exception, which carries the status, is being handled."""
        from h11 import LocalProtocolError

        try:
            if getattr(sys.exception(), "error_status_hint", 400) == 431:
                self.transport.write(ANSWER_431)
            else:
                super().send_400_response(msg)  # type: ignore[misc]
        except LocalProtocolError:
            # A broken body came while its request was being answered: the answer cannot be taken back.
            pass
        self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True


class BoundedHttpTools:
    """Mixin for uvicorn's httptools protocol: counts the packets of a head that has not ended."""

    transport: Any
    _in_head = False
    _began = False
    _head_size = 0

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a head that is past the bound and still has not ended.

        Counts the packets after the one in which the head began: what of that one belongs to an earlier request, the
        parser does not say. So the bound is late by a packet, 256 KiB, at most.
        """
        self._began = False
        super().data_received(data)  # type: ignore[misc]
        if self._in_head and not self._began:
            self._head_size += len(data)
            if self._head_size > HEAD_MAX and not self.transport.is_closing():
                self.transport.write(ANSWER_431)
                self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = self._began = True
        self._head_size = 0
        super().on_message_begin()  # type: ignore[misc]

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head = False
        super().on_headers_complete()  # type: ignore[misc]


def __getattr__(name: str) -> Any:
    """Make the protocol class `H11` or `HttpTools` on first use."""
    if name == "H11":
        from uvicorn.protocols.http.h11_impl import H11Protocol

        made: type = type("H11", (Wired, BoundedH11, H11Protocol), {})
    elif name == "HttpTools":
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        made = type("HttpTools", (Wired, BoundedHttpTools, HttpToolsProtocol), {})
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made

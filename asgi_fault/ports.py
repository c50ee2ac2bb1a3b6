"""Ports of their own: listeners that each belong to a partition, opened and closed while the server runs.

Some clients drop a path prefix and cannot set a header, so a partition needs an address; and what happens before there
is a request (refusal, silence, a reset) can only be told apart by the address.

A port accepts connections itself. What its script has for one happens on the bare socket, before a TLS handshake, and
with nothing read from it that anybody else would miss. Then the socket goes to a protocol object like those of the
server's own listener, told whose port it is: there is no second HTTP parser.
"""

import asyncio
import errno
import socket
import ssl
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from asgi_fault.config import Settings
from asgi_fault.errors import HTTPError, NotSupported, Unavailable, ValidationFailed
from asgi_fault.faults.openings import LOCALHOST, Opening, Wanted
from asgi_fault.faults.wire import LINGER_ZERO, Siblings, Wired
from asgi_fault.observe.logs import Log
from asgi_fault.tls import Authority

BACKLOG = 128
BIND_TRIES = 10  # the kernel's free ports are free on one address; we want a number of our own
ACCEPT_AGAIN = 0.1  # seconds after accept() failed: out of file descriptors, most likely
TLS_TIMEOUTS = {"ssl_handshake_timeout": 60.0, "ssl_shutdown_timeout": 2.0}
LINGER = 2.0  # seconds between our FIN and the end, unless the client ends first
RECENT_MAX = 100
ANYWHERE = {"0.0.0.0": LOCALHOST, "::": "::1"}  # noqa: S104 - what is replaced, not what is bound
NO_SUCH_HOST = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
STALL = "handshake-stall"


class PortTaken(HTTPError):
    """409: somebody else listens there."""

    status = 409
    error = "PortTakenError"


class Ports:
    """All extra ports of one server.

    Args:
        settings: `host` is where a port is opened that names no address, `ports_max` how many there may be.
        clock: seconds of a monotonic clock.
        log: of the server.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float], log: Log) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self._ports: dict[int, Port] = {}
        self._named = 0
        self._authority: Authority | None = None

    def __len__(self) -> int:
        return len(self._ports)

    def fresh_name(self) -> str:
        """`port-1`, `port-2`, ...: for a port that is asked for without a partition."""
        self._named += 1
        return f"port-{self._named}"

    def open(self, wanted: Wanted, siblings: Siblings, partition: str) -> "Port":
        """Open a port; when this returns it listens, or refuses for the time that was asked for.

        Args:
            wanted: what it is to be.
            siblings: makes the protocols.
            partition: whose it is, when `wanted` names none.

        Raises:
            Unavailable: there are `ports_max` ports.
            PortTaken: the port is in use.
            ValidationFailed: this machine has no such address, or the port needs privileges.
            NotSupported: TLS is wanted, and nothing here makes certificates.
        """
        if len(self._ports) >= self._settings.ports_max:
            raise Unavailable(
                f"All {self._settings.ports_max} extra ports are open; SERVER_PORTS_MAX raises the bound.",
                details={"limit": "SERVER_PORTS_MAX"},
            )
        if wanted.tls and self._authority is None:
            self._authority = Authority()
        default = self._settings.host
        listener = self._bind(wanted.host or ANYWHERE.get(default, default), wanted.port)
        port = Port(listener, wanted, wanted.partition or partition, siblings, self._clock, self._log)
        if wanted.tls and self._authority is not None:
            port.ca_pem = self._authority.pem
            if wanted.tls_fault != STALL:
                port.tls = self._authority.context(wanted.tls_fault, port.shown_host)
        self._ports[port.number] = port
        try:
            port.refuse(wanted.refuse)
        except NotImplementedError:
            self.close(port)
            raise NotSupported("Ports need a loop that can watch sockets; Windows' proactor loop cannot.") from None
        except OSError:
            self.close(port)
            raise PortTaken(f"Port {port.number} was taken in the meantime.") from None
        self._log.info("port.open", "Port opened", url=port.url, partition=port.partition, tls=wanted.tls)
        return port

    def of(self, partition: str = "") -> "list[Port]":
        """The ports of `partition`, or all, in the order they were opened."""
        return [port for port in self._ports.values() if partition in ("", port.partition)]

    def get(self, number: int, partition: str = "") -> "Port | None":
        """The port with that number, when it is one of `partition`, or of any."""
        port = self._ports.get(number)
        return port if port is not None and partition in ("", port.partition) else None

    def close(self, port: "Port", spared: Wired | None = None) -> None:
        """Close `port` and its connections; the protocol `spared` may finish its answer first."""
        self._ports.pop(port.number, None)
        port.close()
        port.drop("abort", spared)
        self._log.info("port.close", "Port closed", url=port.url, partition=port.partition)

    def stop(self) -> None:
        """Accept nothing more: the server stops, and ends the connections with those of its own listener."""
        for port in self._ports.values():
            port.close()
        self._ports.clear()

    def _bind(self, host: str, number: int) -> socket.socket:
        for _ in range(BIND_TRIES):
            try:
                listener = bound(host, number)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTaken(f"Port {number} of {host} is in use; 0 is a free one.") from None
                loc, value = ("host", host) if error.errno in NO_SUCH_HOST else ("port", number)
                reason = error.strerror or "cannot be bound"
                violation = {"type": "value_error", "loc": ["body", loc], "msg": f"Value error, {reason}"}
                raise ValidationFailed([{**violation, "input": value, "ctx": {"error": reason}}]) from None
            if listener.getsockname()[1] not in self._ports:
                return listener
            listener.close()
        raise PortTaken(f"Port {number} is open already, on another address.")


class Port:
    """One listener.

    Attributes:
        partition: whose requests come in here.
        host, number: the address.
        tls: what its handshake needs; None for plain HTTP, and for a handshake that stalls.
        ca_pem: what the client is to trust; empty for plain HTTP.
        accepted: connections so far.
    """

    # What is not served yet: the task that sees to it, and its connection, unless it is with the protocol already.
    _before: dict[asyncio.Task[None], socket.socket | None]

    def __init__(
        self,
        listener: socket.socket,
        wanted: Wanted,
        partition: str,
        siblings: Siblings,
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        self.host: str
        self.number: int
        self.host, self.number = listener.getsockname()[:2]
        self.partition = partition
        self.tls: ssl.SSLContext | None = None
        self.ca_pem = ""
        self.accepted = 0
        self._wanted = wanted
        self._siblings = siblings
        self._clock = clock
        self._log = log
        self._listener = listener
        self._listens = False
        self._before = {}
        self._refuses_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._recent: deque[tuple[int, float, str]] = deque(maxlen=RECENT_MAX)

    @property
    def shown_host(self) -> str:
        """An address that reaches it from this machine."""
        return ANYWHERE.get(self.host, self.host)

    @property
    def url(self) -> str:
        """Where clients go, without a slash at the end."""
        host = f"[{self.shown_host}]" if ":" in self.shown_host else self.shown_host
        return f"http{'s' if self._wanted.tls else ''}://{host}:{self.number}"

    def to_json(self) -> dict[str, Any]:
        """The port for `GET /ports`."""
        refuses_for = 0.0 if self._listens else max(0.0, self._refuses_until - self._clock())
        recent = [
            {"ordinal": ordinal, "monotonic_s": round(at, 6), "opening": did} for ordinal, at, did in self._recent
        ]
        return {
            "port": self.number,
            "host": self.host,
            "url": self.url,
            "partition": self.partition,
            "tls": {"fault": self._wanted.tls_fault or None, "ca_pem": self.ca_pem} if self._wanted.tls else None,
            "refuses_for_s": round(refuses_for, 3),
            "accepted": self.accepted,
            "recent": recent,
        }

    def refuse(self, seconds: float) -> None:
        """Refuse connections for `seconds` from now, and then listen; 0 ends a refusal. The number stays ours.

        Raises:
            OSError: somebody else has the address.
        """
        self._stop_timer()
        self._refuses_until = self._clock() + seconds
        if not seconds:
            self._listen()
            return
        if self._listens:
            self._shut()
            # Bound but not listening: the kernel answers RST, and gives the number to nobody who asks for a free one.
            self._listener = bound(self.host, self.number)
        self._timer = get_running_loop().call_later(seconds, self._listen_again)

    def drop(self, how: str, spared: Wired | None = None) -> None:
        """End its connections: `close`, `reset`, or `abort`, which loses what is unsent. `spared` may answer first."""
        for task, connection in self._before.items():
            if how == "reset" and connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            task.cancel()
        for protocol in self._siblings.serving(self):
            if protocol is spared:
                protocol.shutdown()
            else:
                protocol.end(how)

    def close(self) -> None:
        """Stop listening, and end what is not served yet. Harmless when repeated."""
        self._shut()
        for task in self._before:
            task.cancel()

    def _listen(self) -> None:
        if not self._listens:
            self._listener.listen(BACKLOG)
            self._listens = True
        get_running_loop().add_reader(self._listener, self._accept)

    def _listen_again(self) -> None:
        self._timer = None
        try:
            self._listen()
        except OSError as error:
            # Somebody has bound it with SO_REUSEADDR while we refused, and listens.
            self._log.warning("port.lost", "The port cannot be opened again", url=self.url, error=repr(error))

    def _shut(self) -> None:
        self._stop_timer()
        if self._listens:
            self._listens = False
            get_running_loop().remove_reader(self._listener)  # before the close, or the loop watches a stranger's file
        self._listener.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _accept(self) -> None:
        """Take what has come. Not `loop.sock_accept`: cancelled at the wrong moment, it loses a connection."""
        script = self._wanted.script
        for _ in range(BACKLOG):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._log.warning("port.accept", "A connection was not accepted", url=self.url, error=repr(error))
                # Without file descriptors the connection that waits would wake us for ever: look away for a moment.
                get_running_loop().remove_reader(self._listener)
                self._timer = get_running_loop().call_later(ACCEPT_AGAIN, self._listen_again)
                return
            connection.settimeout(0)
            opening = script[self.accepted] if self.accepted < len(script) else self._wanted.then
            self.accepted += 1
            self._recent.append((self.accepted, self._clock(), opening.end))
            task = get_running_loop().create_task(self._take(connection, opening))
            self._before[task] = connection
            task.add_done_callback(self._taken)

    async def _take(self, connection: socket.socket, opening: Opening) -> None:
        """Do with a connection what the script has for it."""
        loop = get_running_loop()
        try:
            if opening.delay:
                await asyncio.sleep(opening.delay)
            if opening.data:
                await loop.sock_sendall(connection, opening.data)
            if opening.end == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            elif opening.end == "serve" and self._wanted.tls_fault != STALL:
                self._hand_over()
                timeouts: dict[str, Any] = TLS_TIMEOUTS if self.tls is not None else {}
                await loop.connect_accepted_socket(self._protocol, connection, ssl=self.tls, **timeouts)
            else:
                if opening.end != "close":
                    await swallow(connection, opening.silence)
                # FIN, then read on for a moment: to close with something unread would be a reset.
                connection.shutdown(socket.SHUT_WR)
                await swallow(connection, LINGER)
        except OSError:
            pass  # the client has left, or does not like our certificate

    def _hand_over(self) -> None:
        """The running task no longer owns its connection."""
        task = asyncio.current_task()
        if task is not None:
            self._before[task] = None

    def _taken(self, task: asyncio.Task[None]) -> None:
        """A connection is through with its script. Here and not there, because what is cancelled early never runs."""
        connection = self._before.pop(task)
        if connection is not None:
            connection.close()

    def _protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._siblings(self)
        return protocol


async def swallow(connection: socket.socket, seconds: float) -> None:
    """Read, and forget, until the client ends its side or `seconds` have passed.

    Raises:
        ConnectionResetError: the client has reset the connection.
    """
    loop = get_running_loop()
    try:
        async with asyncio.timeout(None if seconds == inf else seconds):
            while await loop.sock_recv(connection, 65536):
                pass
    except TimeoutError:
        return


def bound(host: str, number: int) -> socket.socket:
    """A socket with that address that does not listen yet."""
    # asyncio switches Nagle's algorithm off only where the protocol is named: without it an answer waits 40 ms.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(0)
        listener.bind((host, number))
    except OSError:
        listener.close()
        raise
    return listener

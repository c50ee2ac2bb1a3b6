"""A client on a bare socket: sends any bytes whatever, and reads answers with h11."""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import h11

TIMEOUT = 20.0  # seconds; only a hang meets it


@dataclass
class Reply:
    """One answer. `status` is 0 when the connection ended without one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


CLOSED = Reply()


class Connection:
    """One TCP connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def close(self) -> None:
        """Close at once."""
        self._socket.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._socket.close()

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> bool:
        """Send all of `data`; False when the peer stopped taking it."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def send_as_much_as_it_takes(self, data: bytes) -> bool:
        """Send until the peer takes no more for a while, or closes; False when something was left over."""
        self._socket.settimeout(0.5)
        try:
            self._socket.sendall(data)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            return False
        finally:
            self._socket.settimeout(TIMEOUT)
        return True

    def dribble(self, pieces: Iterable[bytes]) -> bool:
        """Send piece after piece; stops and returns False when the peer says something or closes."""
        return all(not self.has_data() and self.send(piece) for piece in pieces)

    def receive(self) -> bytes:
        """What comes next; empty when the connection has ended."""
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            return b""

    def has_data(self) -> bool:
        """Whether something has arrived, or the peer has closed; does not wait."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self._socket.settimeout(TIMEOUT)
        return True

    def read_reply(self, method: str = "GET") -> Reply:
        """The next answer, to a request with `method`; `CLOSED` when the connection ends before it is complete."""
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
        parser.send(h11.EndOfMessage())
        if self._rest:  # h11 takes b"" for the end of the connection
            parser.receive_data(self._rest)
            self._rest = b""
        reply = Reply()
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError:
                return CLOSED
            if event is h11.NEED_DATA:
                parser.receive_data(self.receive())
            elif isinstance(event, h11.Response):
                reply.status = event.status_code
                reply.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                reply.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._rest = parser.trailing_data[0]
                return reply

    def read_to_the_end(self) -> bytes:
        """Everything until the peer closes."""
        return b"".join(iter(self.receive, b""))

    def ended(self) -> bool:
        """True as soon as the peer has closed and nothing more came before that."""
        return self.read_to_the_end() == b""


@contextlib.contextmanager
def connected(address: tuple[str, int]) -> Iterator[Connection]:
    """A connection that is closed with the block."""
    connection = Connection(address)
    try:
        yield connection
    finally:
        connection.close()


def request(
    target: str | bytes, *lines: str | bytes, method: str | bytes = "GET", version: str = "HTTP/1.1", body: bytes = b""
) -> bytes:
    """The bytes of a request; `lines` are further header fields, as they are to stand there."""

    def raw(text: str | bytes) -> bytes:
        return text if isinstance(text, bytes) else text.encode("latin-1")

    first = b" ".join((raw(method), raw(target), raw(version)))
    return b"\r\n".join((first, b"host: test", *map(raw, lines), b"", body))


def exchange(address: tuple[str, int], data: bytes, method: str = "GET") -> Reply:
    """Send `data` on a connection of its own and read one answer."""
    with connected(address) as connection:
        connection.send(data)
        return connection.read_reply(method)

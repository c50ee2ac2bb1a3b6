"""The clients that faults are shown to: a bare socket that tells FIN from RST, curl, and Python's own `http.client`."""

import contextlib
import functools
import http.client
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.missing import missing
from tests.sockets import TIMEOUT

Address = tuple[str, int]


@dataclass
class Seen:
    """What came over a connection.

    Attributes:
        data: every byte.
        end: `fin` or `reset`.
    """

    data: bytes = b""
    end: str = ""
    _parts: tuple[bytes, bytes] | None = field(default=None, repr=False)

    @property
    def head(self) -> list[str]:
        """The lines of the head."""
        return self.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")

    @property
    def status(self) -> int:
        """0 when there is none."""
        line = self.head[0]
        return int(line.split(" ")[1]) if line.startswith("HTTP/1.1 ") else 0

    @property
    def body(self) -> bytes:
        """All that came behind the head."""
        return self.data.partition(b"\r\n\r\n")[2]

    def values(self, name: str) -> list[str]:
        """The values of the header `name`, in order."""
        pairs = [line.partition(": ") for line in self.head[1:]]
        return [value for key, _, value in pairs if key.lower() == name]


def read_to_the_end(connection: socket.socket, size: int = 65536) -> Seen:
    """Everything until FIN or RST, in reads of at most `size` bytes."""
    seen = Seen()
    pieces = []
    try:
        while piece := connection.recv(size):
            pieces.append(piece)
        seen.end = "fin"
    except ConnectionResetError:
        seen.end = "reset"
    seen.data = b"".join(pieces)
    return seen


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """The next `size` bytes; fewer when the connection ends before."""
    data = b""
    while len(data) < size and (piece := connection.recv(size - len(data))):
        data += piece
    return data


def read_up_to(connection: socket.socket, mark: bytes) -> bytes:
    """Everything up to and with `mark`, nothing of what is behind; less when the connection ends before."""
    data = b""
    while not data.endswith(mark) and (piece := connection.recv(1)):
        data += piece
    return data


def see(address: Address, data: bytes) -> Seen:
    """Send `data` on a connection of its own and read until it ends."""
    with socket.create_connection(address, timeout=TIMEOUT) as connection:
        connection.sendall(data)
        return read_to_the_end(connection)


@dataclass(frozen=True)
class Curled:
    """What curl did: its exit code, standard output (with `-i` the head is part of it) and standard error."""

    code: int
    out: bytes
    err: str

    @property
    def body(self) -> bytes:
        """Behind the last head."""
        return self.out.rpartition(b"\r\n\r\n")[2]


def curl(*arguments: str) -> Curled:
    """Run curl with URLs and options, without the user's configuration and proxies."""
    executable = shutil.which("curl")
    if executable is None:
        missing("there is no curl on this machine")
    command = [executable, "--disable", "--noproxy", "*", "-sS", "-i", "--http1.1", "--max-time", f"{TIMEOUT:g}"]
    done = subprocess.run([*command, *arguments], capture_output=True, check=False, timeout=2 * TIMEOUT)
    return Curled(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


@dataclass(frozen=True)
class Heard:
    """What `http.client` made of an answer; `error` is the name of what it raised, with `read` the bytes before."""

    status: int = 0
    read: int = 0
    error: str = ""


def ask(address: Address, target: str, method: str = "GET", *, timeout: float = TIMEOUT) -> Heard:
    """One request by `http.client`, read to its end."""
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    status = 0
    try:
        connection.request(method, target)
        reply = connection.getresponse()
        status = reply.status
        return Heard(status, len(reply.read()))
    except http.client.IncompleteRead as error:
        return Heard(status, len(error.partial), "IncompleteRead")
    except (http.client.HTTPException, OSError) as error:
        return Heard(status, 0, type(error).__name__)
    finally:
        connection.close()


@contextlib.contextmanager
def relay(address: Address, mark: bytes) -> Iterator[Address]:
    """A way to `address` on which what begins with `mark` is held back until the client sends something more.

    So a test says where TCP splits the stream. Serves one connection.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as client, socket.create_connection(address, timeout=TIMEOUT) as server:
                server.sendall(client.recv(65536))
                found = b""
                while not found:
                    before, found, after = server.recv(65536).partition(mark)
                    client.sendall(before)
                second = client.recv(65536)
                client.sendall(found + after)
                server.sendall(second)
                sides = {client: server, server: client}
                while True:
                    for side in select.select(list(sides), [], [], TIMEOUT)[0]:
                        piece = side.recv(65536)
                        if not piece:
                            return
                        sides[side].sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()
        thread.join(TIMEOUT)


def see_over_tls(address: Address, data: bytes) -> Seen:
    """As `see`, over TLS whoever the server is. `ssl.SSLSocket` does not tell RST from FIN, so it is not used."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    seen = Seen()
    with socket.create_connection(address, timeout=TIMEOUT) as connection:
        step: Callable[[], object] = tls.do_handshake
        while not seen.end:
            try:
                done = step()
            except ssl.SSLWantReadError:
                if outgoing.pending:
                    connection.sendall(outgoing.read())
                try:
                    piece = connection.recv(65536)
                except ConnectionResetError:
                    seen.end = "reset"
                else:
                    incoming.write(piece) if piece else incoming.write_eof()
                continue
            except ssl.SSLZeroReturnError:  # close_notify
                seen.end = "fin"
                continue
            if step == tls.do_handshake:
                tls.write(data)
                step = functools.partial(tls.read, 65536)
            elif isinstance(done, bytes) and done:
                seen.data += done
            else:
                seen.end = "fin"
    return seen

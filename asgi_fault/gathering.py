"""Between a server and an application behind us: its request measured, its answer gathered or given more headers."""

from asyncio import CancelledError, Task, get_running_loop
from collections.abc import Awaitable
from hashlib import sha256

from asgi_fault.asgi import ASGIApplication, Header, Message, Receive, Response, Scope, Send
from asgi_fault.effects import GATHERED_MAX
from asgi_fault.errors import HTTPError


class NotWhole(HTTPError):
    """502: a rule works on whole answers, and the application behind gave none, or one that is too large."""

    status = 502
    error = "BadGatewayError"


class Reading:
    """A `receive` that measures the body that goes through it."""

    __slots__ = ("_hash", "_receive", "size")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._hash = sha256()
        self.size = 0

    async def __call__(self) -> Message:
        """The next message."""
        message = await self._receive()
        piece = message.get("body")
        if piece:
            self.size += len(piece)
            self._hash.update(piece)
        return message

    @property
    def digest(self) -> str:
        """The hash of all that went through, in hexadecimal; empty when nothing did."""
        return self._hash.hexdigest() if self.size else ""


class Gathering:
    """The whole answer of an application, which may go on working after it.

    Attributes:
        answer: the answer, or what the application raised before it was whole.
        task: the application's call; await it, for what it raises afterwards.
    """

    def __init__(self, application: ASGIApplication, scope: Scope, receive: Receive) -> None:
        loop = get_running_loop()
        self._receive = receive
        self._status = 0
        self._headers: list[Header] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_over = loop.create_future()
        self.answer: Awaitable[Response] = self._is_over
        # Ways to send a body that the server knows and we do not; and the connection, which is ours to break.
        extensions = {
            name: value
            for name, value in (scope.get("extensions") or {}).items()
            if not name.startswith(("http.response.", "asgi_fault."))
        }
        self.task: Task[None] = loop.create_task(self._run(application, {**scope, "extensions": extensions}))

    async def _run(self, application: ASGIApplication, scope: Scope) -> None:
        try:
            await application(scope, self._receives, self._send)
        except CancelledError:
            self._is_over.cancel()
            raise
        except Exception as error:
            if not self._is_over.done():
                self._is_over.set_exception(error)
            elif self._size <= GATHERED_MAX:
                raise
        if not self._is_over.done():
            self._is_over.set_exception(NotWhole("The application ended its answer before it was whole."))

    async def _receives(self) -> Message:
        if self._is_over.done():
            return {"type": "http.disconnect"}
        return await self._receive()

    async def _send(self, message: Message) -> None:
        """Keep one message.

        Raises:
            OSError: the answer is too large; for an application that means that nobody listens any more.
        """
        if self._is_over.done():
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
            return
        piece = message.get("body", b"")
        self._size += len(piece)
        if self._size > GATHERED_MAX:
            self._pieces.clear()
            self._is_over.set_exception(
                NotWhole(f"The answer is larger than {GATHERED_MAX} bytes, more than a rule about its body can hold.")
            )
            raise OSError("The answer is too large.")
        self._pieces.append(piece)
        if not message.get("more_body", False):
            self._is_over.set_result((self._status, self._headers, b"".join(self._pieces)))


def adding_headers(send: Send, headers: tuple[Header, ...]) -> Send:
    """`send`, which adds `headers` to the answer."""
    if not headers:
        return send

    def adding(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        return send(message)

    return adding

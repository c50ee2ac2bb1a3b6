"""The server without a socket: an ASGI application in the test's own event loop, over `httpx.ASGITransport`.

It needs asyncio, runs no lifespan, and has no network: what only the wire can do, and what only a time-out would
notice, is refused when it is set.
"""

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from asgi_fault.asgi import Receive, Scope, Send
from asgi_fault.testing.engine import Engine
from asgi_fault.testing.handle import FaultServer, OwnPort

if TYPE_CHECKING:
    import httpx

USE_THE_SERVER = "use the fixture fault_server, which is a real server."


class FaultApp(FaultServer):
    """A `FaultServer` in process; `transport` and `client` lead to it.

    Args:
        name: the partition.
        seed: what all randomness begins with.
        settings: of the application, by field name of `Settings`.
    """

    advice = "Join URLs as httpx does: client.get('/orders') with base_url=fault_app.url."

    def __init__(self, name: str, seed: int = 0, **settings: Any) -> None:
        super().__init__(Engine(seed=seed, **settings), name, seed)

    @property
    def own_port(self) -> OwnPort:
        """There is none.

        Raises:
            RuntimeError: always.
        """
        _refuse(f"fault_app has no port: {USE_THE_SERVER}")

    @property
    def transport(self) -> "httpx.ASGITransport":
        """For `httpx.AsyncClient(transport=fault_app.transport, base_url=fault_app.url)`.

        Raises:
            RuntimeError: httpx is not installed.
        """
        try:
            import httpx
        except ImportError:
            _refuse("httpx is required to use fault_app.transport. Install it with: pip install 'asgi-fault[httpx]'")
        return httpx.ASGITransport(app=self)

    def client(self, **options: Any) -> "httpx.AsyncClient":
        """An `httpx.AsyncClient` that talks to this application and to nothing else."""
        transport = self.transport
        import httpx

        return httpx.AsyncClient(transport=transport, base_url=self.url, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            RuntimeError: not on asyncio, or the request brings a fault of its own.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            _refuse(f"fault_app runs on asyncio only: {USE_THE_SERVER}")
        if scope["type"] == "http" and (
            b"x-fault=" in scope["query_string"] or any(name == b"x-fault" for name, _ in scope["headers"])
        ):
            _refuse(f"fault_app takes no X-Fault; set a rule, or {USE_THE_SERVER}")
        await self._engine.application(scope, receive, send)


def _refuse(reason: str) -> NoReturn:
    raise RuntimeError(reason)

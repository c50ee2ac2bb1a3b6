"""The application of a process: made from the environment and `.env`, and refused with a reason when that cannot be."""

from typing import Any

from asgi_fault.application import Application
from asgi_fault.asgi import Receive, Scope, Send, json_response
from asgi_fault.config import ConfigError, Settings
from asgi_fault.context import Context


def become_application(lazy: Any) -> None:
    """Make `lazy` the application of this process, with settings from the environment and `.env`.

    It is initialised in place. To make an application and to share its `__dict__` would be shorter, but CPython 3.13
    counts what such a dictionary holds twice, and its garbage collector then clears what is in use.
    """
    try:
        context = Context(Settings.load())
        lazy.__class__ = proxy_application() if context.settings.proxy else Application
        lazy.__init__(context, owns_process=True)
    except ConfigError as error:
        lazy.__class__ = Misconfigured
        lazy.__init__(str(error))


def proxy_application() -> type[Application]:
    """The class of the application that sends on to `SERVER_PROXY`.

    Raises:
        ConfigError: httpx is not installed.
    """
    try:
        from asgi_fault.proxy import ProxyApplication
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ConfigError("A proxy needs httpx: pip install 'asgi-fault[proxy]'") from None
    return ProxyApplication


class Misconfigured:
    """An application that refuses to start, so that the server says why and ends without a traceback."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Fail the start; a server without lifespan gets the reason in every answer."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": f"asgi-fault cannot start:\n{self.reason}"})
            return
        status, headers, body = json_response(500, {"error": "ConfigurationError", "message": self.reason})
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

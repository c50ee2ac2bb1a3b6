"""A server that misbehaves on command and remembers what every client did: `uvicorn asgi_fault:app`."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgi_fault.version import __version__

__all__ = ["__version__", "app"]


class _LazyApplication:
    """The application before its first use: `import asgi_fault` loads neither asyncio nor a setting.

    At its first call, the lifespan's, it BECOMES the application, class and all: a server keeps the object that it has
    imported, and passing every request on would cost each of them another coroutine. A module's `__getattr__` would
    do for most servers, but hypercorn reads the module's dictionary.
    """

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        self._become()
        await self(scope, receive, send)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._become()
        return getattr(self, name)

    def _become(self) -> None:
        from asgi_fault.startup import become_application

        become_application(self)


app = _LazyApplication()

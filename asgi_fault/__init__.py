"""A server that misbehaves on command and remembers what every client did: `uvicorn asgi_fault:app`."""

from typing import TYPE_CHECKING, Any

from asgi_fault.version import __version__

if TYPE_CHECKING:
    from asgi_fault.asgi import ASGIApplication

    app: ASGIApplication

__all__ = ["__version__", "app"]


def __getattr__(name: str) -> Any:
    """Make the application on first use (PEP 562), so that `import asgi_fault` loads neither asyncio nor a setting."""
    if name != "app":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from asgi_fault.application import application_from_environment

    globals()["app"] = application = application_from_environment()
    return application

"""The start and the stop of the server, as ASGI tells of them, and the signals that come before the stop.

uvicorn ends the lifespan only after all connections are done, so anything that waits would hold the stop up. A stop
signal therefore wakes all that waits, before the server's own handler runs.
"""

import logging
import signal
import threading
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from typing import Any

from asgi_fault.asgi import Receive, Send
from asgi_fault.context import Context
from asgi_fault.version import __version__

SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def serve_lifespan(
    context: Context, receive: Receive, send: Send, *, owns_process: bool, announced: dict[str, str]
) -> None:
    """Serve one lifespan scope to its end.

    Args:
        context: whose stop and log it is about.
        receive: as ASGI has it.
        send: as ASGI has it.
        owns_process: chain the stop signals, buffer the log, and mute uvicorn's access log.
        announced: what the log line of the start says beside the version.

    """
    restore: Callable[[], None] = lambda: None  # noqa: E731
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            context.stopping.end()
            if owns_process:
                loop = get_running_loop()
                context.log.buffer_on(loop)
                _mute_access_log()
                restore = _chain_stop_signals(context, loop)
            context.log.info("server.start", "Server started", version=__version__, **announced)
            await send({"type": "lifespan.startup.complete"})
        else:
            context.stopping.begin()
            restore()
            context.log.info("server.stop", "Server stopped", uptime_seconds=round(context.uptime(), 2))
            context.log.close()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _chain_stop_signals(context: Context, loop: AbstractEventLoop) -> Callable[[], None]:
    """Have a stop signal wake everything that waits, before the server's own handler runs; returns the undoing."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    chained: dict[int, tuple[Any, Any]] = {}
    for number in SIGNALS:
        previous = signal.getsignal(number)

        def stop(signum: int, frame: Any, previous: Any = previous) -> None:
            loop.call_soon_threadsafe(context.stopping.begin)
            if callable(previous):
                previous(signum, frame)
            elif previous == signal.SIG_DFL:
                signal.signal(signum, signal.SIG_DFL)
                signal.raise_signal(signum)

        signal.signal(number, stop)
        chained[number] = (stop, previous)

    def restore() -> None:
        for number, (ours, previous) in chained.items():
            # Somebody who has taken over since then keeps the signal.
            if signal.getsignal(number) is ours:
                signal.signal(number, previous)

    return restore


def _mute_access_log() -> None:
    """Mute it: uvicorn looks at its access logger once a connection, so emptying it here is in time."""
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False

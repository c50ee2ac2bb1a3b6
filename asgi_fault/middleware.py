"""`FaultMiddleware(app)`: the fault rules in front of any ASGI application. Off unless it is enabled.

    app = FaultMiddleware(app, enabled=True)          # around it
    app.add_middleware(FaultMiddleware, enabled=True)  # Starlette, FastAPI

It reads its arguments, `ASGI_FAULT_ENABLED` and `ASGI_FAULT_ADMIN_TOKEN`, and nothing else: no `.env`, no `SERVER_*`.
It touches no logger; the few warnings it has go to standard error.
"""

import os
import sys
from typing import TYPE_CHECKING

from asgi_fault.config import FALSE_WORDS, TRUE_WORDS, ConfigError

if TYPE_CHECKING:
    from asgi_fault.asgi import ASGIApplication

ENABLED = "ASGI_FAULT_ENABLED"
TOKEN = "ASGI_FAULT_ADMIN_TOKEN"  # noqa: S105 - the name of the variable


def FaultMiddleware(  # noqa: N802 - to whoever writes it, it is a middleware like any other
    app: "ASGIApplication",
    *,
    enabled: bool | None = None,
    prefix: str = "/__fault__",
    token: str | None = None,
    seed: int = 0,
    journal_size: int = 1000,
) -> "ASGIApplication":
    """Put the fault rules in front of `app`; when they are off, return `app` itself, so that they cost nothing.

    Without a token the control plane answers to clients on this machine only, and not to those that come through a
    proxy. It needs a server that runs asyncio; on another one requests pass through and the control plane says 501.

    Args:
        app: any ASGI application. It sees every request that no rule answers, as it came.
        enabled: whether they are on; None asks `ASGI_FAULT_ENABLED` (1, true, yes, on), which is off when unset.
        prefix: where the control plane lies: `POST <prefix>/faults`, `GET <prefix>/journal` and so on. A partition
            stands before it or behind it: `/~NAME/__fault__/faults` and `/__fault__/~NAME/faults` are the same.
        token: what the control plane asks for as `Authorization: Bearer`; None asks `ASGI_FAULT_ADMIN_TOKEN`.
        seed: what all randomness of the rules begins with.
        journal_size: arrivals that the journal of a partition keeps; 0 keeps none.

    Raises:
        ConfigError: an argument or a variable makes no sense.
    """
    if not (_enabled_by_environment() if enabled is None else enabled):
        return app
    # What is off is not imported either.
    from asgi_fault.config import Settings
    from asgi_fault.context import Context
    from asgi_fault.guest import Guest
    from asgi_fault.observe.logs import Log

    settings = Settings(
        host="127.0.0.1",  # where `POST /ports` listens when it is told no address
        admin_token=os.environ.get(TOKEN, "") if token is None else token,
        seed=seed,
        journal_size=journal_size,
        enable_docs=False,
        log_level="WARNING",
    )
    log = Log("WARNING", "console", _complain)
    return Guest(Context(settings, log=log), app, prefix=prefix, local_only=True)


def _enabled_by_environment() -> bool:
    word = os.environ.get(ENABLED, "").strip().lower()
    if word and word not in TRUE_WORDS and word not in FALSE_WORDS:
        raise ConfigError(f"{ENABLED}={word}: expected true or false")
    return word in TRUE_WORDS


def _complain(text: str) -> None:
    """Write where a process says what is wrong with it, whatever that is by now."""
    sys.stderr.write(text)

"""What is measured through sockets: the servers that run side by side, and the traffic each of them gets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

FAST_FLAGS = ("--loop", "uvloop", "--http", "httptools", "--no-access-log")


class Keys(Enum):
    """What a request says in `X-Request-ID`."""

    NONE = "none"
    NEW = "a new key each"
    REPEATED = "keys that are cached"


@dataclass(frozen=True)
class Server:
    """One uvicorn process.

    Attributes:
        target: `module:attribute`.
        flags: of uvicorn, beside the address.
        packages: what has to be installed for it, beside uvicorn.
        rules: how many fault rules on other routes it is given before it is measured.
    """

    name: str
    target: str
    flags: tuple[str, ...] = FAST_FLAGS
    environment: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ("uvloop", "httptools")
    rules: int = 0


@dataclass(frozen=True)
class Case:
    """Traffic of one kind to one server.

    Attributes:
        ceiling: the case with the same requests and the bare callable.
        every_load: measured with every number of connections, not only with the first.
    """

    name: str
    title: str
    server: str
    keys: Keys = Keys.NONE
    ceiling: str = "bare"
    every_load: bool = False


NO_JOURNAL = {"SERVER_JOURNAL_SIZE": "0"}

SERVERS = (
    Server("bare", "benchmarks.peers.bare:app"),
    Server("ours", "asgi_fault:app", environment=NO_JOURNAL),
    Server("ours-logging", "asgi_fault:app", environment={**NO_JOURNAL, "SERVER_LOG_LEVEL": "DEBUG"}),
    Server("ours-default", "asgi_fault:app", flags=(), environment=NO_JOURNAL),
    Server("ours-journal", "asgi_fault:app"),
    Server("ours-rules", "asgi_fault:app", environment=NO_JOURNAL, rules=100),
    Server("starlette", "benchmarks.peers.starlette_plain:app", packages=("uvloop", "httptools", "starlette")),
    Server("fastapi", "benchmarks.peers.fastapi_plain:app", packages=("uvloop", "httptools", "fastapi")),
    Server(
        "original",
        "benchmarks.peers.fastapi_original:app",
        packages=("uvloop", "httptools", "fastapi", "structlog"),
    ),
)

CASES = (
    Case("bare", "bare ASGI callable (the ceiling)", "bare", every_load=True),
    Case("bare-key", "the same, requests with a key", "bare", Keys.NEW, "bare-key"),
    Case("msg", "/msg without key", "ours", every_load=True),
    Case("msg-new-key", "/msg, a new key each", "ours", Keys.NEW, "bare-key"),
    Case("msg-cached-key", "/msg, cached keys", "ours", Keys.REPEATED, "bare-key"),
    Case("msg-logging", "/msg with our JSON access log", "ours-logging"),
    Case("msg-default", "/msg, `uvicorn asgi_fault:app` and no flags", "ours-default"),
    Case("msg-journal", "/msg with the journal on, as it is by default", "ours-journal"),
    Case("msg-rules", "/msg with 100 rules on other routes", "ours-rules"),
    Case("starlette", "Starlette", "starlette", every_load=True),
    Case("fastapi", "FastAPI without middleware", "fastapi", every_load=True),
    Case("original", "FastAPI with the original's four middlewares", "original", every_load=True),
)

"""Makes the servers of one test session: one thread for all who need nothing special, started by the first."""

import itertools
import re
from hashlib import sha256
from typing import Any

from asgi_fault.partitions import NAME
from asgi_fault.testing.engine import Engine
from asgi_fault.testing.handle import FaultServer, refuse_astray
from asgi_fault.testing.server import ServerThread

READABLE_MAX = 40  # characters of a test's name in its URL


class Factory:
    """What the fixture `make_fault_server` is.

    Args:
        seed: what all randomness begins with, where nothing else is said.
        log_level: least level of the servers' log lines.
    """

    def __init__(self, *, seed: int = 0, log_level: str = "WARNING") -> None:
        self._seed = seed
        self._log_level = log_level
        self._shared: Engine | None = None
        self._numbers = itertools.count(1)
        self._made: list[FaultServer] = []

    def __call__(self, name: str | None = None, *, seed: int | None = None, **settings: Any) -> FaultServer:
        """A server to talk to.

        Args:
            name: of its partition; what is random follows from it. `server-1`, `server-2`, ... when left out.
            seed: of this one alone.
            settings: by field name of `Settings`; with any, it is a server in a thread of its own.

        Raises:
            ValueError: the name is none, or a setting is out of its range.
        """
        name = f"server-{next(self._numbers)}" if name is None else name
        if not NAME.fullmatch(name) or name == "default":
            raise ValueError(f"{name!r} is no name: 1 to 64 letters, digits, dots, hyphens, underscores; not 'default'")
        seed = self._seed if seed is None else seed
        engine = self._start(**settings) if settings else self._shared_engine()
        made = FaultServer(engine, name, seed, owns_engine=bool(settings))
        self._made = [server for server in self._made if server.is_open]
        self._made.append(made)
        return made

    def close(self) -> None:
        """End every server that was made."""
        for server in self._made:
            server.close()
        if self._shared is not None:
            self._shared.stop()

    def _shared_engine(self) -> Engine:
        if self._shared is None:
            self._shared = self._start()
        return self._shared

    def _start(self, **settings: Any) -> Engine:
        engine = ServerThread(**{"log_level": self._log_level, "seed": self._seed, **settings})
        refuse_astray(engine)
        return engine


def partition_name(node_id: str) -> str:
    """The partition of a test: readable, and the same in every run, whatever else runs and in whatever worker."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", node_id.rpartition("::")[2])[:READABLE_MAX].strip("-.")
    return f"{name or 'test'}-{sha256(node_id.encode(errors='replace')).hexdigest()[:8]}"

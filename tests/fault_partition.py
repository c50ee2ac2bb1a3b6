"""A partition of a running server, as a test of faults uses it: set a rule, send requests, read the journal."""

from typing import Any

import httpx

from tests.clients import Seen, see
from tests.processes import PLAIN, Server, eventually
from tests.sockets import request


class FaultPartition:
    """One partition.

    Attributes:
        server: where it is.
        client: picks the partition by its URL.
    """

    def __init__(self, server: Server, name: str, client: httpx.Client) -> None:
        self.server = server
        self.name = name
        self.client = client

    def set(self, *script: dict[str, Any], match: dict[str, Any] | None = None, **rule: Any) -> None:
        """Add a rule with a script."""
        document = {"match": match or {}, **({"script": list(script)} if script else {}), **rule}
        answer = self.client.post(f"{self.server.url}/~{self.name}/faults", json=document)
        assert answer.status_code == 201, answer.text

    def target(self, path: str = "/x") -> str:
        return f"/~{self.name}{path}"

    def url(self, path: str = "/x") -> str:
        return self.server.url + self.target(path)

    def request(self, path: str = "/x", *lines: str, **options: Any) -> bytes:
        """The bytes of a request into this partition."""
        return request(self.target(path), *lines, **options)

    def see(self, path: str = "/x", *lines: str, **options: Any) -> Seen:
        """What a bare socket gets for it."""
        return see(self.server.address, self.request(path, *lines, **options))

    def entries(self, count: int = 0, *, ended: bool = False) -> list[dict[str, Any]]:
        """The journal, as soon as `count` arrivals are over; with `ended`, so are the connections of all of them."""

        def found() -> list[dict[str, Any]] | None:
            entries: list[dict[str, Any]] = self.client.get(self.url("/journal")).json()["entries"]
            waits = len(entries) < count or (ended and any(entry["ended"] is None for entry in entries))
            return None if waits else entries

        if not count:
            return found() or []
        entries = eventually(found, what=f"{count} arrivals are over")
        assert len(entries) == count, entries
        return list(entries)


def plain_client() -> httpx.Client:
    """A client for any URL."""
    return httpx.Client(**PLAIN)

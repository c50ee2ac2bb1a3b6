"""Attempts and calls as a test reads them: small, frozen, made of journal entries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from asgi_fault.observe.timeline import calls_of, strip


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that reached the server.

    Attributes:
        ordinal: which arrival of the test it was, from 1.
        method, path, target: as sent; the path without prefix and query, secrets in the target masked.
        status: what was answered; 0 when nothing was.
        attempt: which attempt of its logical call it was, from 1.
        call: the name of that call: its Idempotency-Key, X-Request-ID or amz-sdk-invocation-id, else a hash.
        gap: seconds from the end of the attempt before to this arrival, skipped sleeps included; None for a first
            attempt, and when the end is not known.
        headers: those that tell retries apart, by name in lower case; values of secret ones are never kept.
        body_size, body_sha256: of the request's body.
        rule: the id of the rule that decided.
        connection: a number for each connection; None in process.
        ended: how the connection ended, when this was the last on it.
    """

    ordinal: int
    method: str
    path: str
    status: int
    attempt: int
    call: str = field(repr=False)
    gap: float | None
    target: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body_size: int = field(repr=False)
    body_sha256: str | None = field(repr=False)
    rule: str | None = field(repr=False)
    connection: int | str | None = field(repr=False)
    ended: str | None = field(repr=False)
    request_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """All attempts of one logical call, in order.

    Attributes:
        key: the name of the call.
        attempts: its attempts.
        strip: them as one line: `|--x 503--0.43s--ok|`.
    """

    key: str
    attempts: tuple[Attempt, ...]
    strip: str

    @property
    def statuses(self) -> list[int]:
        """What the attempts were answered."""
        return [attempt.status for attempt in self.attempts]

    @property
    def gaps(self) -> list[float | None]:
        """The seconds between the attempts."""
        return [attempt.gap for attempt in self.attempts[1:]]


def attempt_of(entry: Mapping[str, Any]) -> Attempt:
    """The attempt that a journal entry, as a JSON value, is about."""
    connection = entry["connection"]
    return Attempt(
        ordinal=entry["ordinal"],
        method=entry["method"],
        path=entry["path"],
        status=entry["status"],
        attempt=entry["attempt"],
        call=entry["call"],
        gap=entry["gap_s"],
        target=entry["target"],
        headers=MappingProxyType(entry["headers"]),
        body_size=entry["body"]["bytes"],
        body_sha256=entry["body"]["sha256"],
        rule=entry["rule"],
        connection=None if connection is None else connection["id"],
        ended=entry["ended"],
        request_id=entry["request_id"],
    )


def calls_in(entries: Iterable[Mapping[str, Any]]) -> list[Call]:
    """The calls in journal entries, in order of their first arrival."""
    return [Call(found[0]["call"], tuple(map(attempt_of, found)), strip(found)) for found in calls_of(entries).values()]

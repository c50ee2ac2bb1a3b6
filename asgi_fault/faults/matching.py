"""What an arrival is, and whether it meets the conditions of a rule. Pure; the counting is the rule's."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from asgi_fault.asgi import Header
from asgi_fault.faults.paths import PathPattern
from asgi_fault.faults.pattern import Pattern
from asgi_fault.observe.attempts import CALL_KEYS

CALLS_MAX = 1000

Condition: TypeAlias = Callable[[Sequence[str]], bool]
"""Asked with all values a header or query parameter has; none when it is absent."""


class Arrival:
    """One request as rules see it.

    Attributes:
        method: as sent.
        path: within the partition, percent-encoding undone.
        headers: by lower-case name; of a repeated one the last.
        fields: all of them, in order; only looked at when a name came more than once.
        query_string: raw, without the question mark.
        body: the whole body; needed only when `RuleSet.needs_body`.
        now: monotonic seconds. wall: Unix seconds, for dates only.
        ordinal: which data-plane arrival of the partition it is, from 1.
        client: the client's address, for rate limits.
        prefix: what our URLs begin with: mount point and `/~NAME`.
        attempt: which attempt of its logical call it is, from 1; `RuleSet.decide` sets it when a rule asks.
    """

    __slots__ = (
        "_query",
        "attempt",
        "body",
        "client",
        "fields",
        "headers",
        "method",
        "now",
        "ordinal",
        "path",
        "prefix",
        "query_string",
        "wall",
    )

    def __init__(
        self,
        method: str,
        path: str,
        headers: Mapping[bytes, bytes],
        query_string: bytes,
        body: bytes,
        *,
        now: float,
        wall: float,
        ordinal: int,
        client: str = "",
        prefix: str = "",
        fields: Sequence[Header] = (),
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.query_string = query_string
        self.body = body
        self.now = now
        self.wall = wall
        self.ordinal = ordinal
        self.client = client
        self.prefix = prefix
        self.fields = fields
        self.attempt = 1
        self._query: dict[str, list[str]] | None = None

    def header_values(self, name: bytes) -> list[str]:
        """Every value of the header `name` (lower case), one a field line."""
        if name not in self.headers:
            return []
        if len(self.fields) <= len(self.headers):
            return [self.headers[name].decode("latin-1")]
        return [value.decode("latin-1") for key, value in self.fields if key == name]

    def query_values(self, name: str) -> list[str]:
        """Every value of the query parameter `name`."""
        if self._query is None:
            self._query = {}
            for key, value in parse_qsl(self.query_string.decode("utf-8", "replace"), keep_blank_values=True):
                self._query.setdefault(key, []).append(value)
        return self._query.get(name, [])

    def call(self) -> tuple[bytes, bytes]:
        """The logical call that this is an attempt of: what named it, and the name (hashed when it is long)."""
        for header in CALL_KEYS:
            value = self.headers.get(header)
            if value:
                return header, value if len(value) <= 64 else sha256(value).digest()
        target = f"{self.method} {self.path}?".encode("utf-8", "replace") + self.query_string
        return b"", sha256(target + b"\n" + sha256(self.body).digest()).digest()


class Attempts:
    """How often each of the latest 1000 logical calls has arrived."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()

    def count(self, call: tuple[bytes, bytes]) -> int:
        """Which attempt this is; the call that was silent longest is forgotten when there are too many."""
        counts = self._counts
        number = counts[call] = counts.get(call, 0) + 1
        counts.move_to_end(call)
        if len(counts) > CALLS_MAX:
            counts.popitem(last=False)
        return number


class Match:
    """The conditions of one rule.

    Attributes:
        path: None for every path.
        needs_attempt: it asks which attempt an arrival is. needs_body: it asks for the body's size.
        probability: how many of the arrivals that meet everything else are meant.
    """

    __slots__ = (
        "_attempts",
        "_every",
        "_first",
        "_from_s",
        "_headers",
        "_high",
        "_low",
        "_methods",
        "_nth",
        "_query",
        "_until_s",
        "needs_body",
        "path",
        "probability",
    )

    def __init__(self, document: Mapping[str, Any]) -> None:
        method = document.get("method")
        self._methods = None if method is None else frozenset([method] if isinstance(method, str) else method)
        self.path = PathPattern(document["path"]) if "path" in document else None
        headers, query = document.get("headers", {}), document.get("query", {})
        self._headers = tuple((name.lower().encode(), _condition(form)) for name, form in headers.items())
        self._query = tuple((name, _condition(form)) for name, form in query.items())
        size = document.get("body_bytes")
        self.needs_body = size is not None
        self._low = (size or {}).get("min", 0)
        self._high = (size or {}).get("max", float("inf"))
        self._attempts = _ordinals(document.get("attempt"))
        self._from_s: float
        self._until_s: float
        self._from_s, self._until_s = document.get("between_s", (0.0, float("inf")))
        self._until_s = min(self._until_s, document.get("for_s", float("inf")))
        self._nth = _ordinals(document.get("nth"))
        self._every: int = int(document.get("every", 1))
        self._first: float = document.get("first", float("inf"))
        self.probability: float | None = document.get("probability")

    @property
    def needs_attempt(self) -> bool:
        """Whether it asks which attempt an arrival is."""
        return self._attempts is not None

    def fits(self, arrival: Arrival, path: str, age: float) -> bool:
        """Whether `arrival` meets what can be seen of it alone, `age` seconds after the rule was set.

        Args:
            arrival: the arrival.
            path: its path without a trailing slash.
            age: in seconds.
        """
        if self._methods is not None and arrival.method not in self._methods:
            return False
        if self.path is not None and path != self.path.literal and not self.path.fits(path):
            return False
        if (self._headers or self._query) and not self._fields_hold(arrival):
            return False
        if self.needs_body and not self._low <= len(arrival.body) <= self._high:
            return False
        if self._attempts is not None and arrival.attempt not in self._attempts:
            return False
        return self._from_s <= age < self._until_s

    def _fields_hold(self, arrival: Arrival) -> bool:
        return all(holds(arrival.header_values(name)) for name, holds in self._headers) and all(
            holds(arrival.query_values(name)) for name, holds in self._query
        )

    def counts(self, fitted: int) -> bool:
        """Whether the arrival that is the `fitted`-th to fit is one of those meant."""
        if self._nth is not None and fitted not in self._nth:
            return False
        return fitted % self._every == 0 and fitted <= self._first


def _ordinals(form: "int | list[int] | None") -> frozenset[int] | None:
    return None if form is None else frozenset(form if isinstance(form, list) else [form])


def _condition(form: "str | dict[str, Any]") -> Condition:
    if isinstance(form, str):
        expected = form
        return lambda values: expected in values
    if "regex" in form:
        search = Pattern(form["regex"]).search
        return lambda values: any(map(search, values))
    wanted: bool = form["present"]
    return lambda values: bool(values) is wanted

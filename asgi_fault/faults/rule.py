"""One rule with its counters: whether an arrival is one of those it is for, and which step is next."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from asgi_fault.asgi import to_json
from asgi_fault.faults.chance import Chance
from asgi_fault.faults.matching import Arrival, Match
from asgi_fault.faults.plan import Plan
from asgi_fault.faults.ratelimit import RateLimit
from asgi_fault.faults.steps import Step


class Load(NamedTuple):
    """What a rule adds to the load of its partition: steps, regular expressions, bytes of JSON."""

    steps: int
    regexes: int
    size: int

    @classmethod
    def of(cls, rule: Mapping[str, Any]) -> "Load":
        """The load of a rule as it was written."""
        match = rule.get("match", {})
        conditions = [*match.get("headers", {}).values(), *match.get("query", {}).values()]
        regexes = sum(isinstance(form, dict) and "regex" in form for form in conditions)
        return cls(len(rule.get("script", ())) + ("then" in rule), regexes, len(to_json(rule)))


class Rule:
    """One rule and its counters.

    Attributes:
        document: as it was set, with its id.
        load: what it adds to the load of the partition.
        matched: arrivals that met every condition. used: those of them that it decided.
    """

    __slots__ = (
        "_fitted",
        "_limit",
        "_next",
        "_script",
        "_set_at",
        "_then",
        "_wall",
        "document",
        "id",
        "load",
        "match",
        "matched",
        "needs_attempt",
        "used",
    )

    def __init__(self, document: dict[str, Any], load: Load, now: float, wall: float) -> None:
        self.document = document
        self.load = load
        self.id: str = document["id"]
        self.match = Match(document.get("match", {}))
        self._script = [Step(step, self.id, index) for index, step in enumerate(document.get("script", ()))]
        self._then = Step(document["then"], self.id, -1) if "then" in document else None
        self._limit = RateLimit(document["rate_limit"], self.id) if "rate_limit" in document else None
        self._set_at, self._wall = now, wall
        steps = [*self._script, self._then]
        self.needs_attempt = self.match.needs_attempt or any(step.needs_attempt for step in steps if step is not None)
        self._fitted = self._next = self.matched = self.used = 0

    def decide(self, arrival: Arrival, path: str, seed: int, partition: str) -> Plan | None:
        """The plan for `arrival`, or None when the rule is not for it or has nothing left. Counts: ask once."""
        age = arrival.now - self._set_at
        if not self.match.fits(arrival, path, age):
            return None
        self._fitted += 1
        if not self.match.counts(self._fitted):
            return None
        chance = Chance(seed, partition, arrival.ordinal, self.id)
        probability = self.match.probability
        if probability is not None and chance.draw() >= probability:
            return None
        self.matched += 1
        if self._limit is not None:
            self.used += 1
            return self._limit.take(arrival, age)
        if self._next < len(self._script):
            step = self._script[self._next]
            self._next += 1
        elif self._then is not None:
            step = self._then
        else:
            return None
        self.used += 1
        return step.plan(arrival, chance)

    def described(self) -> dict[str, Any]:
        """The rule as it was set, with `set_at`."""
        set_at = datetime.fromtimestamp(self._wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {**self.document, "set_at": set_at}

    def counted(self, now: float) -> dict[str, Any]:
        """The same with its age and its counters; `step` is the next index of the script, None when it is used up."""
        return {
            **self.described(),
            "age_s": round(now - self._set_at, 3),
            "matched": self.matched,
            "used": self.used,
            "step": self._next if self._next < len(self._script) else None,
        }

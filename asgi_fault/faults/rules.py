"""The rules of one partition: which fault, if any, an arrival gets. Pure but for its own counters; no clock, no I/O.

Rules are asked in the order they were set, and the first that has a step decides. A rule asks, in this order: method,
path, headers, query, size of the body, attempt, time. What fits is counted, and the count is held against nth, every
and first; then probability is drawn. A rule whose script is used up and that has no `then` is passed over.

A lock makes a decision one step for all threads; an arrival that no rule is about does not take it.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from threading import Lock
from typing import Any

from asgi_fault.faults.checks import Findings, Loc, check
from asgi_fault.faults.contradictions import check_rule
from asgi_fault.faults.documents import copy_of
from asgi_fault.faults.matching import Arrival, Attempts
from asgi_fault.faults.paths import bare
from asgi_fault.faults.plan import Plan
from asgi_fault.faults.rule import Load, Rule
from asgi_fault.faults.schema import RULES_MAX, SCHEMA

STEPS_MAX = 10_000  # of all rules together
REGEXES_MAX = 100  # the same; each may take milliseconds to search a long value
SIZE_MAX = 8 * 1024 * 1024  # bytes of JSON of all rules together


class Index:
    """Which rules an arrival has to be held against: those whose path may be its own, in order.

    A literal path is one look-up. The others are found by their first segment, so a hundred rules about other routes
    cost nothing. What belongs to one path is put together when it is first asked for; that are at most as many lists
    as there are rules. Never changed: a thread that looks while rules are set sees the old ones or the new ones.
    """

    __slots__ = ("_anywhere", "_by_path", "_by_segment", "rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self._by_path: dict[str, Sequence[Rule] | None] = {}
        self._by_segment: dict[str, Sequence[Rule] | None] = {}
        self._anywhere: list[Rule] = []
        for rule in rules:
            path = rule.match.path
            if path is None or (path.literal is None and path.first_segment is None):
                self._anywhere.append(rule)
            elif path.literal is not None:
                self._by_path[path.literal] = None
            elif path.first_segment is not None:
                self._by_segment[path.first_segment] = None

    def candidates(self, path: str) -> Sequence[Rule]:
        """The rules that may be about `path`, which has no trailing slash."""
        if path in self._by_path:
            found = self._by_path[path]
            if found is None:
                found = self._by_path[path] = self._gather(path)
            return found
        if self._by_segment:
            segment = path[1:].partition("/")[0]
            if segment in self._by_segment:
                found = self._by_segment[segment]
                if found is None:
                    found = self._by_segment[segment] = self._gather(path, literals=False)
                return found
        return self._anywhere

    def _gather(self, path: str, *, literals: bool = True) -> Sequence[Rule]:
        segment = path[1:].partition("/")[0]
        found = []
        for rule in self.rules:
            pattern = rule.match.path
            if pattern is None:
                found.append(rule)
            elif pattern.literal is not None:
                if literals and pattern.literal == path:
                    found.append(rule)
            elif pattern.first_segment in (None, segment):
                found.append(rule)
        return found


class RuleSet:
    """All rules of one partition, in the order they were set.

    Args:
        seed: what all randomness begins with.
        partition: the name of the partition, which is part of it.

    Attributes:
        needs_body: a rule looks at the body, or at the attempt, which the body may tell.
    """

    __slots__ = ("_attempts", "_index", "_lock", "_needs_attempt", "_numbered", "_partition", "_seed", "needs_body")

    def __init__(self, seed: int, partition: str) -> None:
        self._seed = seed
        self._partition = partition
        self._lock = Lock()
        self._numbered = 0
        self._attempts = Attempts()
        self._set([])

    def __len__(self) -> int:
        return len(self._index.rules)

    @property
    def rules(self) -> Sequence[Rule]:
        """The rules, in order."""
        return self._index.rules

    def put(self, documents: Sequence[object], now: float, *, wall: float, wire: bool) -> list[Rule]:
        """Set the rules that Python code wrote down: all of them, or none. Else as `put_document`."""
        return self.put_document(copy_of({"rules": documents}), now, wall=wall, wire=wire)

    def put_document(self, document: Any, now: float, *, wall: float, wire: bool) -> list[Rule]:
        """Set what a `POST /faults` says: all of it, or nothing. A rule of the same id is replaced in place.

        Args:
            document: what `documents.read_json` returned; parts of it are kept.
            now: monotonic seconds.
            wall: the same instant as Unix seconds, for display.
            wire: whether the server runs on our protocol.

        Raises:
            ValidationFailed: with every mistake, up to 50.
        """
        findings = Findings()
        check(document, SCHEMA, ("body",), findings)
        placed = _without_violations(_placed(document), findings)
        loaded = [(rule, Load.of(rule)) for rule, _ in placed]
        # Before the rules are looked at closely: there may be more of them than anybody wants to look at.
        if _check_load(_merged(self._index.rules, loaded), findings):
            findings.raise_any()
        for rule, loc in placed:
            check_rule(rule, loc, findings, wire=wire)
        _check_ids(placed, findings)
        findings.raise_any()
        with self._lock:
            _check_load(_merged(self._index.rules, loaded), findings)
            findings.raise_any()
            merged = {rule.id: rule for rule in self._index.rules}
            taken = merged.keys() | {rule["id"] for rule, _ in loaded if "id" in rule}
            made = [
                Rule({"id": rule.get("id") or self._new_id(taken), **rule}, load, now, wall) for rule, load in loaded
            ]
            merged.update((rule.id, rule) for rule in made)
            self._set(list(merged.values()))
        return made

    def remove(self, rule_id: str) -> bool:
        """Forget the rule `rule_id`; False when there is none."""
        with self._lock:
            rules = self._index.rules
            kept = [rule for rule in rules if rule.id != rule_id]
            self._set(kept)
            return len(kept) < len(rules)

    def clear(self) -> int:
        """Forget all rules; how many there were."""
        with self._lock:
            number = len(self._index.rules)
            self._set([])
            return number

    def find(self, rule_id: str) -> Rule | None:
        """The rule `rule_id`."""
        return next((rule for rule in self._index.rules if rule.id == rule_id), None)

    def documents(self, now: float) -> list[dict[str, Any]]:
        """Every rule with its counters."""
        with self._lock:
            return [rule.counted(now) for rule in self._index.rules]

    def concerns(self, path: str) -> bool:
        """Whether a request for `path`, without a slash at its end, has to be asked about. Counts nothing."""
        return self._needs_attempt or bool(self._index.candidates(path))

    def decide(self, arrival: Arrival) -> Plan | None:
        """What happens to `arrival`; None leaves it alone. Counts: ask once an arrival."""
        path = arrival.path
        if path[-1:] == "/":
            path = bare(path)
        rules = self._index.candidates(path)
        if not rules and not self._needs_attempt:
            return None
        with self._lock:
            if self._needs_attempt:
                arrival.attempt = self._attempts.count(arrival.call())
            for rule in rules:
                plan = rule.decide(arrival, path, self._seed, self._partition)
                if plan is not None:
                    return plan
        return None

    def _set(self, rules: Sequence[Rule]) -> None:
        self._index = Index(rules)
        self._needs_attempt = any(rule.needs_attempt for rule in rules)
        self.needs_body = self._needs_attempt or any(rule.match.needs_body for rule in rules)
        if not self._needs_attempt:
            self._attempts = Attempts()

    def _new_id(self, taken: AbstractSet[str]) -> str:
        """r1, r2, ...: the next that nobody has taken. A number is not given twice."""
        while True:
            self._numbered += 1
            if f"r{self._numbered}" not in taken:
                return f"r{self._numbered}"


def _merged(rules: Sequence[Rule], loaded: Sequence[tuple[Mapping[str, Any], Load]]) -> list[Load]:
    """The load of `rules` together with that of those to be set."""
    replaced = {rule.get("id") for rule, _ in loaded}
    return [*(rule.load for rule in rules if rule.id not in replaced), *(load for _, load in loaded)]


def _check_load(loads: Sequence[Load], findings: Findings) -> bool:
    """Note what a partition would have too much of; whether there is anything."""
    too_much = False
    for number, bound, what in (
        (len(loads), RULES_MAX, "rules"),
        (sum(load.steps for load in loads), STEPS_MAX, "steps"),
        (sum(load.regexes for load in loads), REGEXES_MAX, "regular expressions"),
        (sum(load.size for load in loads), SIZE_MAX, "bytes of rules"),
    ):
        if number > bound:
            too_much = True
            message = f"A partition has at most {bound} {what}, not {number}"
            findings.add("too_long", ("body",), message, None, max_length=bound, actual_length=number)
    return too_much


def _placed(document: object) -> list[tuple[Mapping[str, Any], Loc]]:
    """The rules of a document and where they stand in it."""
    if not isinstance(document, dict):
        return []
    if "rules" not in document:
        return [(document, ("body",))]
    rules = document["rules"]
    if not isinstance(rules, list) or len(rules) > RULES_MAX:
        return []
    return [(rule, ("body", "rules", index)) for index, rule in enumerate(rules)]


def _without_violations(
    placed: list[tuple[Mapping[str, Any], Loc]], findings: Findings
) -> list[tuple[Mapping[str, Any], Loc]]:
    """Those that can be looked at further."""
    if findings.full:
        return []
    faulty = {tuple(violation["loc"][:length]) for violation in findings.violations for length in (1, 3)}
    return [(rule, loc) for rule, loc in placed if loc not in faulty]


def _check_ids(placed: Sequence[tuple[Mapping[str, Any], Loc]], findings: Findings) -> None:
    seen: set[str] = set()
    for rule, loc in placed:
        if "id" in rule:
            if rule["id"] in seen:
                findings.contradiction((*loc, "id"), "another rule of this request has this id", rule["id"])
            seen.add(rule["id"])

"""The rules that a test sets on its partition, in the order they are asked; behind them what is answered otherwise.

A test wants 200 from any path until it says something else, whether the server has that path or not. So there is a
tail of rules behind those of the test: its `answer`s, the server's own surfaces untouched, then 200 for all else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from asgi_fault.errors import ValidationFailed
from asgi_fault.faults.rules import RuleSet
from asgi_fault.partitions import Partition
from asgi_fault.routes import ROUTES
from asgi_fault.stores.idempotency import IdempotencyCache
from asgi_fault.testing.engine import Engine
from asgi_fault.testing.messages import explained

Document = Mapping[str, Any]

OK: dict[str, Any] = {"status": 200, "body": {"json": {"ok": True}}}
TAIL = "fixture."
"""What the ids of the tail begin with."""

WITH_REAL_TIME = {"delay_s", "drip", "silence", "stall"}
"""Keys of a step that a client in the same thread would notice as something else, if at all."""

_SURFACES = [
    {"id": f"{TAIL}{place}", "match": {"method": [route.method, "HEAD"], "path": route.path}, "then": {}}
    for place, route in enumerate(ROUTES)
    if not route.control and route.path != "/"
]


class RuleError(ValueError):
    """A rule that makes no sense; the text has one line a mistake, each with its path in the rule."""


class Rulebook:
    """The rules of one partition. Call its methods where the engine's state may be touched.

    Attributes:
        ok: the step of an undisturbed answer to any path.
    """

    def __init__(self, engine: Engine, name: str, seed: int) -> None:
        self._engine = engine
        self._name = name
        self._seed = seed
        self._answers: list[dict[str, Any]] = []
        self.ok = OK

    @property
    def partition(self) -> Partition:
        """The partition; made when it does not exist."""
        context = self._engine.context
        return context.partitions.get(self._name, context.clock())

    def start(self) -> None:
        """Begin with nothing: no rule of the test, no arrival, no cached answer."""
        partition, settings = self.partition, self._engine.settings
        partition.arrivals = 0
        partition.cache = IdempotencyCache(settings.cache_max_size, settings.cache_ttl_seconds)
        if partition.journal is not None:
            partition.journal.clear()
        self._answers = []
        self.ok = OK
        self.heal()

    def heal(self) -> None:
        """Forget the rules of the test; its `answer`s stay."""
        partition = self.partition
        partition.induced = None
        partition.rules = RuleSet(self._seed, self._name)
        self.put([])

    def end(self) -> None:
        """Leave nothing that takes memory or keeps the partition from being forgotten."""
        self.start()
        self.partition.rules = None

    def put(self, documents: Sequence[object]) -> list[str]:
        """Set rules of the test, all of them or none, in front of the tail; their ids.

        Raises:
            RuleError: with every mistake.
        """
        partition, context = self.partition, self._engine.context
        rules = partition.rules or RuleSet(self._seed, self._name)
        now, wall, wire = context.clock(), context.wall_clock(), self._engine.wire
        if not wire:
            _refuse_real_time(documents)
        made: list[str] = []
        if documents:
            try:
                made = [rule.id for rule in rules.put(documents, now, wall=wall, wire=wire)]
            except ValidationFailed as error:
                raise RuleError(_explained(error, in_process=not wire)) from None
        for rule in list(rules.rules):
            if rule.id.startswith(TAIL):
                rules.remove(rule.id)
        rules.put(self._tail(), now, wall=wall, wire=wire)
        partition.rules = rules
        return made

    def answer(self, step: dict[str, Any], match: dict[str, Any]) -> None:
        """What is answered when no rule of the test decides; a later one goes before an earlier one.

        Raises:
            RuleError: with every mistake.
        """
        answers = self._answers
        self._answers = [{"id": f"{TAIL}answer-{len(answers)}", "match": match, "then": step}, *answers]
        try:
            self.put([])
        except ValidationFailed as error:
            self._answers = answers
            self.put([])
            raise RuleError(_explained(error, in_process=not self._engine.wire)) from None
        if not match:
            self.ok = step

    def _tail(self) -> list[dict[str, Any]]:
        return [*self._answers, *_SURFACES, {"id": f"{TAIL}ok", "then": OK}]


def _refuse_real_time(documents: Sequence[object]) -> None:
    for document in documents:
        if not isinstance(document, Mapping):
            continue
        script: Any = document.get("script")
        for step in [*(script if isinstance(script, Sequence) else ()), document.get("then")]:
            found = sorted(WITH_REAL_TIME & step.keys()) if isinstance(step, Mapping) else []
            if found:
                raise RuleError(
                    f"{found[0]}: in process there is neither a network nor a time-out that could notice it; "
                    "use the fixture fault_server, which is a real server."
                )


def _explained(error: ValidationFailed, *, in_process: bool) -> str:
    text = explained(error, ("body", "rules"))
    if in_process and "asgi-fault serve" in text:
        text += "\nThe fixture fault_server, which is a real server, can do that."
    return text

"""The handle that a test holds: faults to set, attempts to read, expectations to check. One partition of a server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from asgi_fault.observe.report import report
from asgi_fault.observe.timeline import timeline
from asgi_fault.testing import messages
from asgi_fault.testing.attempts import Attempt, Call, attempt_of, calls_in
from asgi_fault.testing.checks import expectations_of, judge, skipped_between, with_skipped
from asgi_fault.testing.engine import Engine
from asgi_fault.testing.rulebook import Rulebook
from asgi_fault.testing.scenario import parse
from asgi_fault.testing.sleeps import RecordedSleeps


@dataclass(frozen=True, slots=True)
class OwnPort:
    """A port whose every request belongs to one test.

    Attributes:
        port: its number.
        url: the base URL; it has no path.
    """

    port: int
    url: str


class FaultServer:
    """A server of a test's own: it answers 200 to everything, until the test says otherwise.

    Args:
        engine: what serves.
        name: the partition.
        seed: what all randomness begins with.
        owns_engine: it is closed with this handle.

    Attributes:
        name: of the partition, which is in the URL. It follows from the test's id, and decides with `seed` and the
            ordinal of an arrival everything random: a test gets the same faults in every run.
        was_told: the test has had the timeline in a message already.
        is_open: it has not been closed.
    """

    advice = (
        "A port of the test's own needs no prefix: use fault_server.own_port.url, or "
        "@pytest.mark.asgi_fault(own_port=True)."
    )
    """What to do about a client that drops the prefix."""

    def __init__(self, engine: Engine, name: str, seed: int = 0, *, owns_engine: bool = False) -> None:
        self.name = name
        self.seed = seed
        self.was_told = False
        self._engine = engine
        self._owns_engine = owns_engine
        self._rulebook = Rulebook(engine, name, seed)
        self._own_port: OwnPort | None = None
        self._prefers_own_port = False
        self.is_open = True
        self._astray_from = 0
        self._log_from = engine.written
        self.reset()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end: `http://127.0.0.1:40123/~NAME`."""
        return self.own_port.url if self._prefers_own_port else f"{self._engine.base_url}/~{self.name}"

    @property
    def own_port(self) -> OwnPort:
        """A port that is this test's alone, for clients that drop the path of a base URL; opened when asked for."""
        if self._own_port is None:
            port = self._engine.open_port(self.name)
            self._own_port = OwnPort(port, f"http://127.0.0.1:{port}")
        return self._own_port

    def prefer_own_port(self) -> None:
        """Have `url` be that of the test's own port."""
        self._prefers_own_port = True

    # --- faults ---

    def fail(
        self,
        times: int | None = None,
        *,
        status: int | None = None,
        retry_after: int | str | Mapping[str, Any] | None = None,
        path: str | None = None,
        method: str | list[str] | None = None,
        **step: Any,
    ) -> str:
        """Spoil the next `times` answers, or all of them; what is set first comes first. Returns the base URL.

        Args:
            times: how many.
            status: 503 when nothing else is said.
            retry_after: seconds, or any text.
            path: which requests are meant, `/users/{id}`, `/v1/**`; all when left out.
            method: which are meant; all when left out.
            step: what else a step of a rule may say: headers, body, delay_s, stall, truncate, end, silence, ...

        Raises:
            RuleError: with every mistake.
        """
        made = dict(step)
        if status is not None or not step:
            made["status"] = 503 if status is None else status
        if retry_after is not None:
            made["retry_after"] = {"raw": retry_after} if isinstance(retry_after, str) else retry_after
        rule = {"then": made} if times is None else {"script": [made] * times}
        return self._add(rule, path, method) if times != 0 else self.url

    def scenario(self, text: str, *, path: str | None = None, method: str | list[str] | None = None) -> str:
        """Spoil answers as a few words say: `503x2-then-ok`, `429-retry-after-1-then-reset-then-ok`; the base URL.

        Raises:
            ValueError: `text` is no scenario (the module `scenario` has the grammar).
        """
        rule = parse(text, self._rulebook.ok)
        return self._add(rule, path, method) if rule else self.url

    def rule(self, document: Mapping[str, Any]) -> str:
        """Set one rule, as `POST /faults` takes it; its id.

        Raises:
            RuleError: with every mistake.
        """
        return self.rules([document])[0]

    def rules(self, documents: Sequence[Mapping[str, Any]]) -> list[str]:
        """Set several rules: all of them or none; their ids.

        Raises:
            RuleError: with every mistake.
        """
        return self._engine.run(lambda: self._rulebook.put(documents))

    def answer(
        self,
        *,
        json: Any = None,
        text: str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
        method: str | list[str] | None = None,
    ) -> str:
        """What requests get that nothing spoils, in place of 200 and `{"ok": true}`; the base URL.

        Raises:
            RuleError: with every mistake.
        """
        step: dict[str, Any] = {"status": status, "body": {"json": json} if text is None else {"text": text}}
        if status in (204, 304):
            del step["body"]
        if headers:
            step["headers"] = dict(headers)
        self._engine.run(lambda: self._rulebook.answer(step, _match(path, method)))
        return self.url

    def heal(self) -> None:
        """Spoil nothing any more; attempts and `answer`s stay."""
        self._engine.run(self._rulebook.heal)

    def reset(self) -> None:
        """Forget faults, answers and attempts."""
        default = self._engine.context.partitions.default
        self._engine.run(self._rulebook.start)
        self._astray_from = default.arrivals
        self.was_told = False

    # --- what the client did ---

    @property
    def attempts(self) -> list[Attempt]:
        """The requests that have arrived and are over, in order; the last 1000."""
        return [attempt_of(entry) for entry in self._entries()]

    @property
    def calls(self) -> list[Call]:
        """The same, those of one logical call together."""
        return calls_in(self._entries())

    @property
    def pending(self) -> int:
        """How many requests are under way: nothing has ended them yet, neither an answer nor their client."""
        return self._settled()

    def timeline(self) -> str:
        """One line for each call: `GET /orders  |--x 503--1.00s--ok|`."""
        return timeline(self._entries())

    def check(self, **expectations: Any) -> None:
        """Hold the attempts against expectations.

        Args:
            expectations: `count`, `calls` (how many logical calls) and `attempts` (of each call) are a number, a pair
                (least, most), or {"min", "max", "exactly"}; `max_attempts` bounds each call. `statuses=[503, 200]`,
                `order=["GET /a", "POST /b"]`. `min_gaps=[1, 2]`: the seconds before each further attempt at least, and
                no further one; a single number is for every gap. `gaps` has "max_s" too. `same_key`, `same_body`,
                `distinct_connections`, `no_unsafe_retry`. `method`, `path`, `status`, `call` choose what is judged.

        Raises:
            AssertionError: an expectation is not met, or there was nothing to judge it by.
            ExpectationError: they make no sense.
        """
        __tracebackhide__ = True
        problem = self.problem(expectations)
        if problem is not None:
            raise AssertionError(problem)

    def problem(self, options: Mapping[str, Any]) -> str | None:
        """What `check` would raise with, or None."""
        expected = expectations_of(options)
        journal = self._engine.run(lambda: self._rulebook.partition.journal)
        entries = self._entries()
        selected, checks = judge(entries, expected, _skipped())
        if all(one.ok for one in checks):
            return None
        self.was_told = True
        text = report(selected, checks, forgotten=journal is not None and journal.is_full)
        return "\n".join([f"asgi-fault {text}", *self._notes(selected)])

    def story(self) -> str:
        """What a failed test is told of its server."""
        entries = self._entries()
        return messages.of_test(entries=entries, notes=self._notes(entries))

    def astray(self) -> str | None:
        """What is wrong with a client whose requests, since the last `reset`, came without any prefix."""
        journal = self._engine.context.partitions.default.journal
        if journal is None:
            return None
        entries = self._engine.run(lambda: journal.entries(after=self._astray_from))
        return messages.about_astray(entries, self.advice) if entries else None

    def log(self) -> list[str]:
        """What the server has logged since this handle was made; the latest 1000 lines."""
        engine = self._engine
        lines, written = engine.run(lambda: (list(engine.lines), engine.written))
        return lines[max(0, len(lines) - (written - self._log_from)) :]

    def close(self) -> None:
        """Give everything back; a handle from a fixture is closed by the fixture. Harmless when repeated."""
        if self.is_open:
            self.is_open = False
            if self._own_port is not None:
                self._engine.close_port(self._own_port.port)
            self._engine.run(self._rulebook.end)
            if self._owns_engine:
                self._engine.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, rule: dict[str, Any], path: str | None, method: str | list[str] | None) -> str:
        self.rule({"match": _match(path, method), **rule})
        return self.url

    def _notes(self, entries: Sequence[Mapping[str, Any]]) -> list[str]:
        astray = self.astray()
        skipped, pending = skipped_between(entries, _skipped()), self._settled()
        notes = messages.notes(url=self.url, seed=self.seed, skipped=skipped, pending=pending)
        return notes if astray is None else [astray, *notes]

    def _entries(self) -> list[dict[str, Any]]:
        self._settled()

        def entries() -> list[dict[str, Any]]:
            journal = self._rulebook.partition.journal
            return [] if journal is None else journal.entries()

        return with_skipped(self._engine.run(entries), _skipped())

    def _settled(self) -> int:
        return self._engine.settle(self._engine.run(lambda: self._rulebook.partition))


def refuse_astray(engine: Engine) -> None:
    """Have requests without a prefix told what is wrong."""
    step = {"status": 404, "body": {"text": messages.ASTRAY_BODY}}
    book = Rulebook(engine, "default", 0)
    engine.run(lambda: book.put([{"id": "prefix-dropped", "then": step}]))


def _skipped() -> list[tuple[float, float]]:
    return RecordedSleeps.latest.skipped if RecordedSleeps.latest is not None else []


def _match(path: str | None, method: str | list[str] | None) -> dict[str, Any]:
    match: dict[str, Any] = {} if path is None else {"path": path}
    return match if method is None else {**match, "method": method}

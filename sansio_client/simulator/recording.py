"""What a core was told, written down in production; and the same told to a fresh core, to the same decisions.

`RecordingCore` stands in for `Core`. It writes three kinds of lines, fields set apart by tabs:

* `>` an input: its name, then what it was given, instants among it;
* `~` a number that was drawn, in the order drawn;
* `<` what the input before it came to: for a call the mask, its timer, state, attempt, victim, reason and result, and
  the calls it unblocked. After `!` the machine refused the input as misuse.

Floats are written by `repr`, so they come back bit for bit. Values (responses, exceptions) are not written down, nor
are policies, other than to be read by people: `replay` is handed the same policies in the order of their numbers. The
lines are also a log: what happened, and why, can be read from them without any tool.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Any

from sansio_client.call import Attempt, Call
from sansio_client.core import Core
from sansio_client.errors import LocalProtocolError
from sansio_client.events import Event
from sansio_client.outcome import Outcome, Rejected
from sansio_client.policy import Policy
from sansio_client.target import Common, Target, Waiter

Write = Callable[[str], object]


class ReplayDiverged(Exception):
    """A replay came to another decision than the record. `line` counts from 1."""

    def __init__(self, line: int, recorded: str, replayed: str) -> None:
        super().__init__(f"line {line}: recorded {recorded!r}, replayed {replayed!r}")
        self.line = line
        self.recorded = recorded
        self.replayed = replayed


class _Recorder(Common):
    """What the recording parts share: where lines go, and the policies they name by number."""

    __slots__ = ("policies", "write")

    def __init__(self, random: Callable[[], float], events: list[Event] | None, write: Write) -> None:
        super().__init__(self._draw_from(random), events)
        self.write = write
        self.policies: list[Policy] = []

    def _draw_from(self, random: Callable[[], float]) -> Callable[[], float]:
        def draw() -> float:
            u = random()
            self.write(f"~\t{u!r}")
            return u

        return draw

    def number(self, policy: Policy | None) -> str:
        """The number of `policy`; a new one is written down as a comment first."""
        if policy is None:
            return "-"
        if policy not in self.policies:
            self.policies.append(policy)
            self.write(f"#\tpolicy {len(self.policies) - 1}: {policy!r}")
        return str(self.policies.index(policy))

    def record(self, name: str, fields: Sequence[object], do: Callable[[], Any], said: Callable[[Any], str]) -> Any:
        """Write an input down, do it, and write down what it came to."""
        self.write("\t".join((">", name, *map(_field, fields))))
        before = len(self.wakeups)
        try:
            result = do()
        except LocalProtocolError:
            self.write("!")
            raise
        self.write(_answer(said(result), self.wakeups[before:]))
        return result


class RecordingCore(Core):
    """A `Core` whose inputs, and those of its calls and targets, are written down by `write`, a line at a time.

    Give every policy that is to be used later as an object that is kept, and `policies` to `replay`.
    """

    __slots__ = ("_recorder",)

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        random: Callable[[], float],
        write: Write,
        events: list[Event] | None = None,
        spare_targets: int = 1024,
        idle_seconds: float = 600.0,
        max_targets: int = 100_000,
    ) -> None:
        super().__init__(
            policy,
            random=random,
            events=events,
            spare_targets=spare_targets,
            idle_seconds=idle_seconds,
            max_targets=max_targets,
        )
        self.common = self._recorder = _Recorder(random, events, write)
        self.wakeups = self.common.wakeups
        self._recorder.number(self.policy)

    @property
    def policies(self) -> list[Policy]:
        """Every policy used so far, in the order of their numbers: what `replay` wants."""
        return self._recorder.policies

    def target(self, key: str, now: float) -> Target:
        """See `Core.target`. One that exists is only looked up, which is not worth a line."""
        found = self.targets.get(key)
        if found is not None:
            return found
        target: Target = self._recorder.record(
            "target", (key, now), lambda: super(RecordingCore, self).target(key, now), _said_target
        )
        target.__class__ = _RecordedTarget  # same slots: it is the same machine, with a pen
        return target

    def call(
        self,
        key: str,
        now: float,
        *,
        may_repeat: bool = False,
        replayable: bool = True,
        deadline: float = inf,
        policy: Policy | None = None,
        max_attempts: int | None = None,
    ) -> Call:
        """See `Core.call`."""
        self.target(key, now)
        number = self._recorder.number(policy)
        call: Call = self._recorder.record(
            "call",
            (key, now, may_repeat, replayable, deadline, number, max_attempts),
            lambda: super(RecordingCore, self).call(
                key,
                now,
                may_repeat=may_repeat,
                replayable=replayable,
                deadline=deadline,
                policy=policy,
                max_attempts=max_attempts,
            ),
            _said_call,
        )
        call.__class__ = _RecordedCall
        return call

    def adopt(
        self,
        target: Target,
        generation: int,
        started_at: float,
        now: float,
        *,
        may_repeat: bool = False,
        replayable: bool = True,
        deadline: float = inf,
        max_attempts: int | None = None,
    ) -> Attempt:
        """See `Core.adopt`."""
        attempt: Attempt = self._recorder.record(
            "adopt",
            (target.key, generation, started_at, now, may_repeat, replayable, deadline, max_attempts),
            lambda: super(RecordingCore, self).adopt(
                target,
                generation,
                started_at,
                now,
                may_repeat=may_repeat,
                replayable=replayable,
                deadline=deadline,
                max_attempts=max_attempts,
            ),
            lambda attempt: _said_call(attempt.call),
        )
        attempt.call.__class__ = _RecordedCall
        return attempt

    def reconfigure(self, policy: Policy, now: float) -> None:
        """See `Core.reconfigure`."""
        number = self._recorder.number(policy)
        self._recorder.record(
            "reconfigure", (number, now), lambda: super(RecordingCore, self).reconfigure(policy, now), _said_nothing
        )


class _RecordedCall(Call):
    __slots__ = ()

    def start(self, now: float) -> int:
        return self._record("start", (now,), lambda: super(_RecordedCall, self).start(now))

    def on_done(self, attempt: Attempt, outcome: Outcome, now: float) -> int:
        fields = (now, attempt.call.id, attempt.number, *_fields_of(outcome))
        return self._record("on_done", fields, lambda: super(_RecordedCall, self).on_done(attempt, outcome, now))

    def on_headers(self, attempt: Attempt, now: float) -> int:
        fields = (now, attempt.call.id, attempt.number)
        return self._record("on_headers", fields, lambda: super(_RecordedCall, self).on_headers(attempt, now))

    def on_wakeup(self, now: float) -> int:
        return self._record("on_wakeup", (now,), lambda: super(_RecordedCall, self).on_wakeup(now))

    def on_timer(self, now: float) -> int:
        return self._record("on_timer", (now,), lambda: super(_RecordedCall, self).on_timer(now))

    def cancel(self, now: float) -> int:
        return self._record("cancel", (now,), lambda: super(_RecordedCall, self).cancel(now))

    def _record(self, name: str, fields: Sequence[object], do: Callable[[], int]) -> int:
        recorder = self.target.common
        assert isinstance(recorder, _Recorder)
        mask: int = recorder.record(name, (self.id, *fields), do, lambda mask: f"{mask}\t{_said_call(self)}")
        return mask


class _RecordedTarget(Target):
    __slots__ = ()

    def enter(self) -> int:
        generation: int = self._record("enter", (), super().enter)
        return generation

    def leave(self, generation: int) -> bool:
        left: bool = self._record("leave", (generation,), lambda: super(_RecordedTarget, self).leave(generation))
        return left

    def leave_at(self, generation: int, now: float) -> None:
        fields = (generation, now)
        self._record("leave_at", fields, lambda: super(_RecordedTarget, self).leave_at(generation, now))

    def leave_unproved(self, generation: int, now: float) -> None:
        fields = (generation, now)
        self._record("leave_unproved", fields, lambda: super(_RecordedTarget, self).leave_unproved(generation, now))

    def force_breaker(self, state: int, now: float) -> None:
        self._record("force_breaker", (state, now), lambda: super(_RecordedTarget, self).force_breaker(state, now))

    def _record(self, name: str, fields: Sequence[object], do: Callable[[], Any]) -> Any:
        recorder = self.common
        assert isinstance(recorder, _Recorder)
        return recorder.record(name, (self.key, *fields), do, _said_of_target)


def replay(lines: Iterable[str], policies: Sequence[Policy], **options: Any) -> int:
    """Tell a fresh core what `lines` say a recorded one was told; the number of inputs told.

    Args:
        lines: what a `RecordingCore` wrote, from its beginning, with or without line ends.
        policies: its `policies`.
        options: the core's `spare_targets`, `idle_seconds` and `max_targets`, where they were not the defaults.

    Raises:
        ReplayDiverged: the new core decided otherwise, or drew more or fewer numbers.

    """
    replayer = _Replayer(policies, options)
    for number, line in enumerate(lines, 1):
        replayer.take(number, line.rstrip("\n"))
    return replayer.inputs


class _Replayer:
    """Reads lines; an input is told to the core when its answer has been read, and with it all it may draw."""

    def __init__(self, policies: Sequence[Policy], options: dict[str, Any]) -> None:
        self.inputs = 0
        self._policies = policies
        self._draws: list[float] = []
        self._line = 0
        self._core = Core(policies[0], random=self._draw, **options)
        self._calls: dict[int, Call] = {}
        self._attempts: dict[tuple[int, int], Attempt] = {}
        self._input: list[str] = []

    def take(self, number: int, line: str) -> None:
        kind, _, rest = line.partition("\t")
        self._line = number
        if kind == ">":
            self._input = rest.split("\t")
            self._draws.clear()
        elif kind == "~":
            self._draws.append(float(rest))
        elif kind in ("<", "!"):
            self._draws.reverse()
            before = len(self._core.wakeups)
            try:
                said = _answer(self._tell(), self._core.wakeups[before:])
            except LocalProtocolError:
                said = "!"
            self._core.wakeups.clear()
            if said != line:
                raise ReplayDiverged(number, line, said)
            if self._draws:
                raise ReplayDiverged(number, f"{len(self._draws)} more numbers drawn", "none")
            self._input = []
            self.inputs += 1

    def _draw(self) -> float:
        if not self._draws:
            raise ReplayDiverged(self._line, "no number drawn", "one more")
        return self._draws.pop()

    def _tell(self) -> str:
        """Do the input; what it came to, in the words of the record."""
        name, *rest = self._input
        fields = iter(rest)
        if name in ("target", "call", "adopt", "reconfigure"):
            return self._tell_core(name, fields)
        if name in ("enter", "leave", "leave_at", "leave_unproved", "force_breaker"):
            target = self._core.targets[_read_text(next(fields))]
            return _said_of_target(getattr(target, name)(*map(_read, fields)))
        call = self._calls[int(next(fields))]
        now = float(next(fields))
        arguments: tuple[Any, ...] = ()
        if name in ("on_done", "on_headers"):
            arguments = (self._attempts[int(next(fields)), int(next(fields))],)
        if name == "on_done":
            arguments += (_read_outcome(fields),)
        mask = getattr(call, name)(*arguments, now)
        self._know(call)
        return f"{mask}\t{_said_call(call)}"

    def _tell_core(self, name: str, fields: Iterator[str]) -> str:
        core = self._core
        if name == "reconfigure":
            core.reconfigure(self._policies[int(next(fields))], float(next(fields)))
            return ""
        key = _read_text(next(fields))
        if name == "target":
            return _said_target(core.target(key, float(next(fields))))
        if name == "call":
            now, may_repeat, replayable, deadline = (_read(next(fields)) for _ in range(4))
            number, most = next(fields), _read(next(fields))
            call = core.call(
                key,
                now,
                may_repeat=may_repeat,
                replayable=replayable,
                deadline=deadline,
                policy=None if number == "-" else self._policies[int(number)],
                max_attempts=most,
            )
        else:
            generation, started_at, now, may_repeat, replayable, deadline, most = map(_read, fields)
            call = core.adopt(
                core.targets[key],
                generation,
                started_at,
                now,
                may_repeat=may_repeat,
                replayable=replayable,
                deadline=deadline,
                max_attempts=most,
            ).call
        self._calls[call.id] = call
        self._know(call)
        return _said_call(call)

    def _know(self, call: Call) -> None:
        for attempt in call.flying:
            self._attempts[call.id, attempt.number] = attempt


# The words of the record


def _field(value: object) -> str:
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return repr(value)


def _read_text(text: str) -> str:
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r") for part in parts)


def _read(text: str) -> Any:
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    try:
        return int(text)
    except ValueError:
        return float(text)


def _fields_of(outcome: Outcome) -> tuple[object, ...]:
    return (outcome.verdict, outcome.effect, outcome.retry_after, outcome.unsent, outcome.status)


def _read_outcome(fields: Iterator[str]) -> Outcome:
    verdict, effect, retry_after, unsent, status = map(_read, fields)
    return Outcome(verdict, effect, retry_after=retry_after, unsent=unsent, status=status)


def _answer(said: str, woken: Sequence[Waiter]) -> str:
    return f"<\t{said}\twakes {' '.join(str(waiter.id) for waiter in woken) or '-'}"


def _said_nothing(_: object) -> str:
    return ""


def _said_target(target: Target) -> str:
    return str(target.in_flight)


def _said_of_target(result: object) -> str:
    return str(result)


def _said_call(call: Call) -> str:
    attempt, victim = (one.number if one is not None else "-" for one in (call.attempt, call.victim))
    result = call.result
    if isinstance(result, Outcome):
        said = " ".join(map(repr, _fields_of(result)))
    elif isinstance(result, Rejected):
        last = "-" if result.last is None else " ".join(map(repr, _fields_of(result.last)))
        said = f"{result.why} {result.retry_at!r} {last}"
    else:
        said = "-"
    return f"{call.id}\t{call.timer!r}\t{call.state}\t{attempt}\t{victim}\t{call.reason or '-'}\t{said}"

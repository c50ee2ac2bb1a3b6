"""What was decided, for people: events to `logging` and to callbacks, and what of a request may be written at all.

    log = CallLog(logging.getLogger("payments"))
    resilient = Resilient(policy, on_event=fan_out(log, Hooks(on_retry=count_it)))

A listener hears what `sansio_client.events` lists. A call on which nothing happens makes no event, so a quiet log is
a healthy peer, and costs nothing.

Never written, by anything here: header values, bodies, the query and the user information of a URL, and the text of an
exception, since HTTP libraries put URLs into it.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from sansio_client import events as names
from sansio_client.events import Event
from sansio_client.outcome import VERDICT_NAMES

Listener = Callable[[Event], None]

MANY_CALLS = 10_000  # calls a listener remembers at once; beyond it the oldest is forgotten
HIDDEN = "REDACTED"  # the word of OpenTelemetry's semantic conventions

# Parts of parameter names whose values are secrets; `sig` and `code` only as a whole word ("design", "zipcode").
_SECRET_PARTS = (
    "pass", "pwd", "secret", "token", "key", "credential", "private", "auth", "cookie", "session", "signature", "jwt",
    "bearer",
)  # fmt: skip
_SECRET_WORDS = ("sig", "code")

logging.getLogger("sansio_client").addHandler(logging.NullHandler())


# What may be written of a URL


def bare_url(url: str) -> str:
    """`url` without user information, query and fragment: for logs and messages of exceptions."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def safe_url(url: str) -> str:
    """`url` with REDACTED for its user information and for every query value whose name is a secret's."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    hidden = f"{HIDDEN}:{HIDDEN}" if ":" in user else HIDDEN
    query = "&".join(map(_without_secret, parts.query.split("&")))
    return urlunsplit((parts.scheme, f"{hidden}@{host}" if at else host, parts.path, query, ""))


def _without_secret(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={HIDDEN}" if equals and _is_secret(unquote(name).lower()) else pair


def _is_secret(name: str) -> bool:
    words = name.replace("-", " ").replace("_", " ").replace(".", " ").split()
    return any(part in name for part in _SECRET_PARTS) or any(word in words for word in _SECRET_WORDS)


# What a call is about


class Subject:
    """What the calls made inside of `about` are about, for listeners that write.

    Attributes:
        name: "GET https://api.example/things", say.
        max_attempts: how many it may have; 0 when that is not known.
        cause: why the last attempt failed, "503" say; kept up to date by who made it.

    """

    __slots__ = ("cause", "max_attempts", "name")

    def __init__(self, name: str, max_attempts: int = 0) -> None:
        self.name = name
        self.max_attempts = max_attempts
        self.cause = ""


_SUBJECT: ContextVar[Subject | None] = ContextVar("sansio_client_subject", default=None)


@contextmanager
def about(subject: Subject) -> Iterator[Subject]:
    """Name the calls begun inside the block. For asyncio and trio: a call's first event comes in its own context."""
    token = _SUBJECT.set(subject)
    try:
        yield subject
    finally:
        _SUBJECT.reset(token)


# Callbacks


@dataclass(frozen=True, slots=True)
class RetryDetails:
    """A retry has been scheduled. The names are stamina's `RetryDetails`.

    Attributes:
        name: of the call, `Subject.name`, or else the key of its target.
        call_id: the same in all events of a call.
        retry_num: 1 for the first retry, which is the second attempt.
        max_attempts: of the call; 0 when that is not known.
        wait_for: seconds until it may be sent; it may still have to wait for a slot or for the breaker.
        waited_so_far: seconds of all such waits of this call before this one.
        caused_by: why the attempt before failed: what the caller knows of it, or the name of the verdict.

    """

    name: str
    call_id: int
    retry_num: int
    max_attempts: int
    wait_for: float
    waited_so_far: float
    caused_by: str


@dataclass(frozen=True, slots=True)
class EndDetails:
    """A call that was not over at its first attempt, or not sent at all, has ended.

    Attributes:
        name: of the call.
        call_id: the same in all events of a call.
        attempts: how many were sent.
        max_attempts: of the call; 0 when that is not known.
        reason: a word of `sansio_client.call.REASONS`.
        caused_by: why the last attempt failed; empty for a good end, or when there was none.

    """

    name: str
    call_id: int
    attempts: int
    max_attempts: int
    reason: str
    caused_by: str


class _Followed:
    __slots__ = ("name", "subject", "verdict", "waited")

    def __init__(self, name: str, subject: Subject | None) -> None:
        self.name = name
        self.subject = subject
        self.verdict = ""
        self.waited = 0.0

    @property
    def cause(self) -> str:
        known = self.subject.cause if self.subject is not None else ""
        return known or ("" if self.verdict == "ok" else self.verdict)

    @property
    def max_attempts(self) -> int:
        return self.subject.max_attempts if self.subject is not None else 0


class Hooks:
    """A listener that calls back, with all that is known of the moment in one frozen object.

    Args:
        on_retry: a retry has been scheduled.
        on_end: a call is over that took more than one attempt, or failed.
        on_breaker: the key of a target, and the state its breaker moved to (a word of `breaker.STATE_NAMES`).
        on_wait: a call waits: its name, and for what: "slot", "breaker" or "pace".

    """

    def __init__(
        self,
        *,
        on_retry: Callable[[RetryDetails], None] | None = None,
        on_end: Callable[[EndDetails], None] | None = None,
        on_breaker: Callable[[str, str], None] | None = None,
        on_wait: Callable[[str, str], None] | None = None,
    ) -> None:
        self._on_retry = on_retry
        self._on_end = on_end
        self._on_breaker = on_breaker
        self._on_wait = on_wait
        self._calls: OrderedDict[int, _Followed] = OrderedDict()

    def __call__(self, event: Event) -> None:
        """Hear of one event."""
        _, name, call_id, a, b = event
        if name == names.BREAKER:
            if self._on_breaker is not None:
                self._on_breaker(str(a), str(b))
        elif name == names.START:
            subject = _SUBJECT.get()
            self._calls[call_id] = _Followed(subject.name if subject is not None else str(a), subject)
            if len(self._calls) > MANY_CALLS:
                self._calls.popitem(last=False)
        elif call_id in self._calls:
            self._hear(name, call_id, a, b)

    def _hear(self, name: str, call_id: int, a: object, b: object) -> None:
        call = self._calls[call_id]
        if name == names.ENDED and isinstance(b, int):
            call.verdict = VERDICT_NAMES[b]
        elif name == names.SEND:
            call.verdict = ""
        elif name == names.TIMEOUT:
            call.verdict = "timed-out"
        elif name == names.RETRY and isinstance(a, int) and isinstance(b, float):
            self._tell_retry(call, call_id, a - 1, b)
        elif name == names.FINISH and isinstance(a, int):
            del self._calls[call_id]
            if self._on_end is not None and (a != 1 or b != "ok"):
                cause = "" if b == "ok" or a == 0 else call.cause
                self._on_end(EndDetails(call.name, call_id, a, call.max_attempts, str(b), cause))
        elif name in _WAITS and self._on_wait is not None:
            self._on_wait(call.name, _WAITS[name])

    def _tell_retry(self, call: _Followed, call_id: int, retry_num: int, seconds: float) -> None:
        waited, call.waited = call.waited, call.waited + seconds
        if self._on_retry is not None:
            self._on_retry(RetryDetails(call.name, call_id, retry_num, call.max_attempts, seconds, waited, call.cause))


_WAITS = {names.QUEUE: "slot", names.PARK: "breaker", names.PACE: "pace"}


def fan_out(*listeners: Listener) -> Listener:
    """One listener that tells all of `listeners`, in order; when one fails it is logged, and the others hear of it."""

    def tell(event: Event) -> None:
        for listener in listeners:
            try:
                listener(event)
            except Exception:  # a listener's defect is neither the call's nor the other listeners'
                logging.getLogger("sansio_client").exception("the event listener %r failed at %r", listener, event)

    return tell


# Logging


class CallLog(Hooks):
    """A listener that writes to a logger: retries, calls that had trouble, moves of breakers, waits.

    | level | line |
    |---|---|
    | DEBUG | a call waits for a slot, for the breaker, for its pace; a final no such as 404; a cancelled call |
    | INFO | a retry is scheduled: attempt n of m, why, how long until the next; success after all; breaker moves |
    | WARNING | a call failed; a breaker opened |

    Each record has the facts as attributes too, for JSON formatters: `retry_num`, `caused_by`, `wait_for`,
    `waited_so_far` (stamina's names), `call_id`, `attempts`, `reason`.
    """

    def __init__(self, logger: logging.Logger | str = "sansio_client") -> None:
        super().__init__(on_retry=self._retry, on_end=self._end, on_breaker=self._breaker, on_wait=self._wait)
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger

    def _retry(self, details: RetryDetails) -> None:
        self._logger.info(
            "%s: attempt %s failed (%s), next in %.3f s",
            details.name,
            _of(details.retry_num, details.max_attempts),
            details.caused_by,
            details.wait_for,
            extra={
                "call_id": details.call_id,
                "retry_num": details.retry_num,
                "caused_by": details.caused_by,
                "wait_for": details.wait_for,
                "waited_so_far": details.waited_so_far,
            },
        )

    def _end(self, details: EndDetails) -> None:
        facts = {"call_id": details.call_id, "attempts": details.attempts, "reason": details.reason}
        count = _of(details.attempts, details.max_attempts)
        if details.reason == "ok":
            self._logger.info("%s: succeeded at attempt %s", details.name, count, extra=facts)
        elif details.reason in {"cancelled", "fatal"}:
            why = details.caused_by if details.reason == "fatal" else details.reason
            self._logger.debug("%s: ended at attempt %s (%s)", details.name, count, why, extra=facts)
        elif not details.attempts:
            self._logger.warning("%s: not sent (%s)", details.name, details.reason, extra=facts)
        else:
            self._logger.warning(
                "%s: failed at attempt %s (%s), no more is tried: %s",
                details.name,
                count,
                details.caused_by,
                details.reason,
                extra={**facts, "caused_by": details.caused_by},
            )

    def _breaker(self, key: str, state: str) -> None:
        level = logging.WARNING if state in ("OPEN", "FORCED_OPEN") else logging.INFO
        self._logger.log(level, "%s: circuit breaker is %s", key, state, extra={"breaker": state})

    def _wait(self, name: str, what: str) -> None:
        self._logger.debug("%s: waits for %s", name, what, extra={"waits_for": what})


def _of(number: int, most: int) -> str:
    return f"{number} of {most}" if most else str(number)

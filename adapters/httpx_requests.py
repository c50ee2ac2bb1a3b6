"""What transports and client share: the library itself, whether a request may go out twice, what came of an attempt.

Written against a module, `httpx` or `httpx2`: their classes differ, their names do not. Nothing here waits or sends.
"""

import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol, TypedDict

from sansio_client.errors import ERRORS, BulkheadFull, CallRejected, DeadlineExceeded
from sansio_client.idempotency import header_value, may_repeat, new_key
from sansio_client.outcome import FAILURES, SUCCESS, Outcome, Rejected, classify
from sansio_client.policy import Policy

from .calling import AttemptView, Finished, judge_exception

LIBRARIES = ("httpx", "httpx2")
SHORTEST_TIMEOUT = 0.001  # seconds; a socket takes 0 for "do not wait", and fails in another way
EXTENSION = "resilience"
"""The key in `request.extensions` under which a request may bring `Options` of its own."""

Classifier = Callable[[Any, Exception | None], Outcome | None]
"""A retry condition of the user's: gets the response or the exception of an attempt, and says what it means; None
leaves it to the default. What to return is in `sansio_client.outcome`: SUCCESS, FAILURE, THROTTLE, DEFINITE, and so on.
"""

unpredictable = random.SystemRandom().random  # a key that can be guessed lets others read a stored answer


class Options(TypedDict, total=False):
    """What a request may say for itself, in `request.extensions["resilience"]`.

    `may_repeat`: sending it twice does no harm, or does. `replayable`: its stream gives the same bytes every time.
    `timeout`: seconds for all attempts and waits. `policy`: instead of the transport's or the client's.
    """

    may_repeat: bool
    replayable: bool
    timeout: float
    policy: Policy


class Answered(Protocol):
    """The part of `otel.AttemptSpan` that is used here."""

    def answered(self, status: int, /) -> None:
        """The response has this status."""


class Called(Protocol):
    """The part of `otel.CallSpan` that is used here."""

    def finished(self, attempts: int, reason: str, /) -> None:
        """The call is over."""


class Tracer(Protocol):
    """The part of `otel.Tracing` that is used here."""

    def call(self, name: str, /) -> AbstractContextManager[Called]:
        """Around a call."""

    def attempt(self, method: str, url: str, number: int, headers: Any, /) -> AbstractContextManager[Answered]:
        """Around an attempt, whose `headers` it may add to."""


# The library


def library(module: ModuleType | None = None, transport: object = None) -> ModuleType:
    """`module`, or else the one `transport` is of, or else httpx, or else httpx2.

    Raises:
        ImportError: neither is installed.

    """
    if module is not None:
        return module
    for kind in type(transport).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in LIBRARIES:
            return sys.modules[name]
    for name in LIBRARIES:
        try:
            return import_module(name)
        except ImportError as error:
            if error.name != name:
                raise
    raise ImportError(
        "httpx is required to use adapters.httpx: pip install 'asgi-fault[httpx]'"
        " (or 'asgi-fault[httpx2]', the maintained fork)",
        name="httpx",
    )


class Worlds:
    """The `Resilient` of whichever event loop runs, asyncio's or trio's: made when it is first used there.

    Each world has its own clock, so each has a core of its own.
    """

    def __init__(self, policy: Policy | None, **options: Any) -> None:
        self._policy = policy
        self._options = {name: value for name, value in options.items() if value is not None}
        self._made: dict[str, Any] = {}

    def here(self) -> Any:
        """The one for the code that asks."""
        trio = sys.modules.get("trio")
        name = "trio" if trio is not None and trio.lowlevel.in_trio_task() else "asyncio"
        resilient = self._made.get(name)
        if resilient is None:
            world = import_module(f".{name}", __package__)
            resilient = self._made[name] = world.Resilient(self._policy, **self._options)
        return resilient


# What is sent


def key_of(url: Any) -> str:
    """What a URL shares a breaker, slots and a budget with: `scheme://host:port`."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def is_replayable(module: ModuleType, stream: Any) -> bool:
    """Whether a request's stream gives the same bytes however often it is read.

    So for bytes, text, JSON, forms, lists, and multipart bodies without files. Not for generators and files, nor for
    multipart bodies with a file: they share its position, and httpx goes on from there, or from its beginning where
    the user had put it elsewhere. An iterable of your own says that it can be read again with `replayable = True`.
    """
    if isinstance(stream, module.ByteStream):
        return True
    fields = getattr(stream, "fields", None)
    if type(stream).__name__ == "MultipartStream" and isinstance(fields, list):
        return all(isinstance(getattr(field, "file", ""), str | bytes) for field in fields)
    content = getattr(stream, "_stream", None)  # what `content=` was given, where httpx made the stream of it
    return isinstance(content, list | tuple) or any(getattr(it, "replayable", 0) is True for it in (stream, content))


def options_of(request: Any) -> Options:
    """What the request says for itself.

    Raises:
        TypeError: it says something that is no option.

    """
    options: Any = request.extensions.get(EXTENSION) or {}
    unknown = set(options) - Options.__optional_keys__ if isinstance(options, Mapping) else {repr(options)}
    if unknown:
        known = ", ".join(sorted(Options.__optional_keys__))
        raise TypeError(f"extensions[{EXTENSION!r}] has {', '.join(sorted(unknown))}; it may have {known}")
    return options  # type: ignore[no-any-return]


def give_key(request: Any, key: str | None = None) -> None:
    """Have a request that is not idempotent by its method, nor by a key it has already, carry `key`, or a new one."""
    if key is not None:
        request.headers["Idempotency-Key"] = header_value(key)
    elif not may_repeat(request.method, idempotency_key=request.headers.get("idempotency-key")):
        request.headers["Idempotency-Key"] = header_value(new_key(unpredictable))


def is_repeatable(request: Any) -> bool:
    """Whether sending the request twice does no harm, by its method or its Idempotency-Key.

    An `X-Request-ID` is a name for traces: it makes nothing repeatable.
    """
    return may_repeat(request.method, idempotency_key=request.headers.get("idempotency-key"))


def copy_of(module: ModuleType, request: Any) -> Any:
    """The request for one attempt: its headers are its own, its body is the same stream."""
    return module.Request(
        request.method,
        request.url,
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )


def limit_steps(request: Any, attempt: AttemptView) -> None:
    """Let no step of the request, from connecting to each read, take longer than the attempt has left."""
    left = attempt.seconds_left()
    if left is not None:
        left = max(left, SHORTEST_TIMEOUT)
        steps = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {
            name: left if (value := steps.get(name)) is None else min(value, left)
            for name in ("connect", "read", "write", "pool")
        }


# What came of it

# Names of httpx's exceptions and the failure each is, the special before the general: the first that fits decides.
_FAILURES = (
    ("ConnectTimeout", "connect-timeout"),
    ("PoolTimeout", "pool-timeout"),
    ("TimeoutException", "timeout"),
    ("ConnectError", "connect"),
    ("ProxyError", "connect"),  # the proxy would not connect us, so the request is still here
    ("WriteError", "write"),
    ("NetworkError", "read"),
    ("RemoteProtocolError", "protocol"),
    ("DecodingError", "protocol"),
    ("HTTPError", "unknown"),
    ("InvalidURL", "unknown"),
    ("StreamError", "unknown"),
)


class HttpJudge:
    """Says what a response or an exception means: the user's conditions first, then the core's table of statuses.

    Every `TransportError` that may be another time's success is worth another attempt, connection refused as well as
    closed without a reply. What is no exception of httpx's is judged as anywhere else.
    """

    def __init__(self, module: ModuleType, classify: Classifier | None = None) -> None:
        self._failures = tuple((getattr(module, name), FAILURES[kind]) for name, kind in _FAILURES)
        self._classify = classify

    def __call__(self, response: Any, error: Exception | None) -> Outcome:
        """The outcome; `SUCCESS` itself for what is one."""
        if self._classify is not None:
            outcome = self._classify(response, error)
            if outcome is not None:
                return outcome
        if error is None:
            status = response.status_code
            if 100 <= status < 400:
                return SUCCESS
            return classify(status, response.headers.raw, now_wall=time.time())
        if not isinstance(error, CallRejected):
            for kind, outcome in self._failures:
                if isinstance(error, kind):
                    return outcome
        return judge_exception(None, error)


def cause_of(response: Any, error: BaseException | None) -> str:
    """Why an attempt failed, in a word that holds no secret."""
    return str(response.status_code) if error is None else type(error).__name__


# How it is told to users of httpx


@lru_cache(maxsize=8)
def _refusals(module: ModuleType) -> dict[str, type[CallRejected]]:
    """`ERRORS`, each as a `TransportError` too, so that what catches httpx's exceptions catches ours."""
    made: dict[type[CallRejected], type[CallRejected]] = {}
    for kind, _ in ERRORS.values():
        base = {BulkheadFull: module.PoolTimeout, DeadlineExceeded: module.TimeoutException}.get(
            kind, module.TransportError
        )
        made[kind] = type(kind.__name__, (kind, base), {"__module__": __name__, "__doc__": kind.__doc__})
    return {why: made[kind] for why, (kind, _) in ERRORS.items()}


def response_of(module: ModuleType, request: Any, finished: Finished[Any]) -> Any:
    """The response a call ended with.

    Raises:
        Exception: the last attempt's own, with a note on why there was no other.
        CallRejected: this side ended the call; it is a `TransportError` of `module` as well.

    """
    outcome = finished.outcome
    if finished.error is not None or finished.value is not None:
        return finished.unwrap()
    if not isinstance(outcome, Rejected):
        error = module.ReadTimeout("no answer within the time of an attempt", request=request)
        error.add_note(f"{finished.attempts} attempts; no more: {finished.reason}")
        raise error
    refusal = _refusals(module)[outcome.why](
        ERRORS[outcome.why][1],
        why=outcome.why,
        retry_at=outcome.retry_at,
        last=outcome.last,
        attempts=finished.attempts,
    )
    refusal.request = request  # type: ignore[attr-defined] # the half that is httpx's
    raise refusal

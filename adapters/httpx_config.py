"""The settings of `ResilientClient`, with the names and defaults its users know; they build a `Policy`.

Frozen, checked when made: `SettingError` names field, value and range.
"""

import logging
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from math import inf

from sansio_client.backoff import Backoff, Exponential, NoBackoff, Spread
from sansio_client.breaker import BreakerSettings
from sansio_client.budget import AwsQuota, BudgetSettings
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.checks import check_count, check_number, check_seconds
from sansio_client.errors import SettingError
from sansio_client.policy import Policy

from .httpx_requests import Classifier

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """When and how often to try again.

    Attributes:
        max_attempts: attempts of a call, the first included.
        min_wait_seconds: the shortest wait before a retry.
        max_wait_seconds: the longest, a server's Retry-After apart, which comes on top.
        exponential_base: how much longer each wait may be than the one before.
        jitter: wait anywhere between the shortest and the exponential (`sansio_client.backoff.Spread`); without it wait
            min * base^k exactly, as every other client does that failed in the same moment.
        max_retry_after: seconds; a server that asks for longer is not asked again, and the error says what it wanted.
        classify: retry conditions of your own.

    """

    max_attempts: int = 3
    min_wait_seconds: float = 1.0
    max_wait_seconds: float = 60.0
    exponential_base: float = 2
    jitter: bool = True
    _: KW_ONLY
    max_retry_after: float = 60.0
    classify: Classifier | None = None

    def __post_init__(self) -> None:
        check_count("retry.max_attempts", self.max_attempts, 1, 1000)
        check_seconds("retry.min_wait_seconds", self.min_wait_seconds, 0.0, 1_000_000.0)
        check_seconds("retry.max_wait_seconds", self.max_wait_seconds, self.min_wait_seconds, 1_000_000.0)
        check_number("retry.exponential_base", self.exponential_base, 1.0)
        check_seconds("retry.max_retry_after", self.max_retry_after)
        if self.classify is not None and not callable(self.classify):
            raise SettingError("retry.classify", self.classify, "a function of response and exception, or None")

    def backoff(self) -> Backoff:
        """The law of waits these settings stand for."""
        if self.min_wait_seconds == 0:
            return NoBackoff()
        if self.jitter:
            return Spread(self.min_wait_seconds, self.max_wait_seconds, self.exponential_base)
        # Anything shorter than a millisecond is as good as it.
        shortest = max(self.min_wait_seconds, 0.001)
        return Exponential(shortest, max(self.max_wait_seconds, shortest), self.exponential_base)


@dataclass(frozen=True, slots=True)
class CircuitBreakerConfig:
    """When to stop calling a peer that fails, and for how long. Per host.

    Attributes:
        failure_threshold: failed attempts in a row that open it.
        recovery_timeout: seconds it stays open before one attempt may probe.
        expected_exception: an exception class, or a tuple of them, of this client's tree or httpx's: only such failures
            count. Any other answer shows a healthy peer, any other exception shows nothing.
        retry_on_open: whether a call under way waits for it when its deadline allows; a new call never does.

    """

    failure_threshold: int = 5
    recovery_timeout: float = 30.0
    expected_exception: type[BaseException] | tuple[type[BaseException], ...] | None = None
    _: KW_ONLY
    retry_on_open: bool = True

    def __post_init__(self) -> None:
        check_count("circuit_breaker.failure_threshold", self.failure_threshold, 1)
        check_seconds("circuit_breaker.recovery_timeout", self.recovery_timeout, 0.0, 1_000_000.0)
        kinds: object = self.expected_exception
        for kind in kinds if isinstance(kinds, tuple) else (kinds,):
            if kind is not None and not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise SettingError("circuit_breaker.expected_exception", kind, "an exception class, or a tuple of them")

    def settings(self) -> BreakerSettings:
        """The breaker these settings stand for: failures in a row only, and always open for the same time."""
        return BreakerSettings(
            consecutive_failures=self.failure_threshold,
            window=None,
            open_seconds=self.recovery_timeout,
            open_growth=1.0,
            open_seconds_max=self.recovery_timeout,
            open_jitter=0.0,
        )


@dataclass(frozen=True, slots=True)
class BulkheadConfig:
    """How many attempts may be in flight at once. Per host.

    Attributes:
        max_concurrency: attempts at once; the others wait, first come, first served.
        acquisition_timeout: seconds an attempt waits for its turn.
        queue_limit: how many may wait; one more is refused at once.

    """

    max_concurrency: int = 10
    acquisition_timeout: float = 5.0
    _: KW_ONLY
    queue_limit: int = 1000

    def __post_init__(self) -> None:
        check_count("bulkhead.max_concurrency", self.max_concurrency, 1, 1_000_000)
        check_seconds("bulkhead.acquisition_timeout", self.acquisition_timeout)
        check_count("bulkhead.queue_limit", self.queue_limit)

    def settings(self) -> BulkheadSettings:
        """The bulkhead these settings stand for."""
        return BulkheadSettings(
            limit=self.max_concurrency, queue_limit=self.queue_limit, queue_timeout=self.acquisition_timeout
        )


@dataclass(frozen=True, slots=True)
class TimeoutConfig:
    """Seconds for each step of an attempt, and for the call. None or `inf`: no limit.

    Attributes:
        connect: until the connection is there.
        read: from one piece of the response to the next.
        write: from one piece of the request to the next.
        pool: until the pool has a connection.
        total: the whole call, all attempts and waits together.

    """

    connect: float | None = 5.0
    read: float | None = 30.0
    write: float | None = 30.0
    pool: float | None = 10.0
    _: KW_ONLY
    total: float | None = 120.0

    def __post_init__(self) -> None:
        for name in ("connect", "read", "write", "pool", "total"):
            value = getattr(self, name)
            if value is not None:
                check_seconds(f"timeout.{name}", value)
                if value == 0:
                    raise SettingError(f"timeout.{name}", value, "more than 0 seconds; None for no limit")

    def steps(self) -> dict[str, float | None]:
        """The steps, as httpx's `Timeout` takes them."""
        limits = {"connect": self.connect, "read": self.read, "write": self.write, "pool": self.pool}
        return {name: None if value == inf else value for name, value in limits.items()}


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """Where and from which level on this client writes. See `observe.CallLog` for what, and for what never.

    Attributes:
        level: of the logger, where nobody has set one.
        logger_name: of the logger. Handlers are the application's to add.

    """

    level: str | int = "INFO"
    logger_name: str = "resilient_client"

    def __post_init__(self) -> None:
        known = self.level.upper() in _LEVELS if isinstance(self.level, str) else isinstance(self.level, int)
        if not known or isinstance(self.level, bool):
            raise SettingError("logging.level", self.level, f"one of {', '.join(_LEVELS)}, or a number")
        if not self.logger_name:
            raise SettingError("logging.logger_name", self.logger_name, "a name: the root logger is not ours to set")

    def logger(self) -> logging.Logger:
        """The logger, ready for use."""
        logger = logging.getLogger(self.logger_name)
        if logger.level == logging.NOTSET:
            logger.setLevel(self.level.upper() if isinstance(self.level, str) else self.level)
        if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.addHandler(logging.NullHandler())
        return logger


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """All settings of a `ResilientClient`.

    Attributes:
        base_url: what paths are relative to.
        timeout: of steps and of calls.
        retry: None: one attempt.
        circuit_breaker: None: none.
        bulkhead: None: no limit but the connection pool's.
        logging: None: nothing is written.
        headers: sent with every request.
        idempotency_key: send an `Idempotency-Key` with every request whose method is not idempotent, one per call, so
            that it may be repeated. Only for servers that heed it.
        attempt_header: the field that numbers attempts on the wire, 0 for the first; None: attempts look alike.
        budget: what retries may cost the peer; None: no bound.
        policy: instead of all that `retry`, `circuit_breaker`, `bulkhead`, `budget` and `timeout.total` say.

    """

    base_url: str = ""
    timeout: TimeoutConfig = TimeoutConfig()
    retry: RetryConfig | None = RetryConfig()
    circuit_breaker: CircuitBreakerConfig | None = CircuitBreakerConfig()
    bulkhead: BulkheadConfig | None = BulkheadConfig()
    logging: LoggingConfig | None = LoggingConfig()
    _: KW_ONLY
    headers: Mapping[str, str] | None = field(default=None, repr=False)  # may hold secrets
    idempotency_key: bool = False
    attempt_header: str | None = "Retry-Attempt"
    budget: BudgetSettings | None = AwsQuota()
    policy: Policy | None = None

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not (isinstance(value, kind) or (value is None and name != "timeout")):
                raise SettingError(name, value, kind.__name__)

    def to_policy(self) -> Policy:
        """The policy of all calls."""
        if self.policy is not None:
            return self.policy
        retry = self.retry if self.retry is not None else RetryConfig(max_attempts=1)
        breaker = self.circuit_breaker
        return Policy(
            max_attempts=retry.max_attempts,
            total_timeout=self.timeout.total if self.timeout.total is not None else inf,
            backoff=retry.backoff(),
            max_retry_after=retry.max_retry_after,
            retry_on_open=breaker is None or breaker.retry_on_open,
            breaker=breaker.settings() if breaker is not None else None,
            bulkhead=self.bulkhead.settings() if self.bulkhead is not None else None,
            budget=self.budget,
        )


_KINDS: dict[str, type] = {
    "timeout": TimeoutConfig,
    "retry": RetryConfig,
    "circuit_breaker": CircuitBreakerConfig,
    "bulkhead": BulkheadConfig,
    "logging": LoggingConfig,
    "policy": Policy,
}

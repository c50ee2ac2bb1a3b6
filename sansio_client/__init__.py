"""The decisions of a resilient HTTP client as state machines: no I/O, no clock, no event loop, no dependency.

Nothing here waits, sends or asks what time it is: `now` and randomness are arguments, decisions are return values.

    core = Core(Policy(max_attempts=4), random=random.random)
    call = core.call("api.example.com", clock(), may_repeat=True)
    mask = call.start(clock())
    while not mask & FINISH:
        if mask & SEND:
            mask = call.on_done(call.attempt, send(call.attempt), clock())  # send returns an Outcome
        else:
            sleep_until(call.timer)
            mask = call.on_timer(clock())
    print(call.result, call.reason)

That loop serves one call at a time; `call` says what more is to be driven when there are others (`core.wakeups`) or
when attempts overlap. `adapters` has it all done for asyncio, trio, threads and httpx.
"""

from sansio_client.adaptive import Aimd, Gradient2, Vegas, Windowed
from sansio_client.backoff import (
    Backoff,
    Constant,
    Decorrelated,
    EqualJitter,
    Exponential,
    FullJitter,
    GrpcJitter,
    Linear,
    NoBackoff,
    PollyDecorrelatedV2,
    Spread,
)
from sansio_client.breaker import Breaker, BreakerSettings
from sansio_client.budget import AwsQuota, ConcurrentShare, GrpcThrottle, RatioBudget
from sansio_client.bulkhead import Bulkhead, BulkheadSettings
from sansio_client.call import CANCEL, FINISH, SEND, Attempt, Call
from sansio_client.core import Core
from sansio_client.errors import (
    BulkheadFull,
    CallRejected,
    CircuitOpen,
    DeadlineExceeded,
    LocalProtocolError,
    RateLimited,
    SettingError,
    Throttled,
)
from sansio_client.idempotency import may_repeat, new_key
from sansio_client.outcome import (
    CANCELLATION,
    DEFINITE,
    FAILURE,
    SUCCESS,
    THROTTLE,
    TIMEOUT,
    Outcome,
    Rejected,
    classify,
    classify_failure,
)
from sansio_client.policy import Hedge, Policy
from sansio_client.ratelimit import RateLimit
from sansio_client.target import Target
from sansio_client.throttle import ClientThrottle
from sansio_client.windows import CountWindow, TimeWindow

__all__ = [
    "CANCEL", "CANCELLATION", "DEFINITE", "FAILURE", "FINISH", "SEND", "SUCCESS", "THROTTLE", "TIMEOUT",
    "Aimd", "Attempt", "AwsQuota", "Backoff", "Breaker", "BreakerSettings", "Bulkhead", "BulkheadFull",
    "BulkheadSettings", "Call", "CallRejected", "CircuitOpen", "ClientThrottle", "ConcurrentShare", "Constant", "Core",
    "CountWindow", "DeadlineExceeded", "Decorrelated", "EqualJitter", "Exponential", "FullJitter", "Gradient2",
    "GrpcJitter", "GrpcThrottle", "Hedge", "Linear", "LocalProtocolError", "NoBackoff", "Outcome", "Policy",
    "PollyDecorrelatedV2", "RateLimit", "RateLimited", "RatioBudget", "Rejected", "SettingError", "Spread", "Target",
    "Throttled", "TimeWindow", "Vegas", "Windowed", "classify", "classify_failure", "may_repeat", "new_key",
]  # fmt: skip

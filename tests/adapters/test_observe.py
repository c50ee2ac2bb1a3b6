"""What listeners make of the core's events, and what of a request is never written."""

import logging
from typing import Any

import pytest

from adapters import observe
from adapters.asyncio import Resilient
from adapters.observe import CallLog, EndDetails, Hooks, RetryDetails, Subject, about, bare_url, fan_out, safe_url
from sansio_client.backoff import Constant
from sansio_client.breaker import BreakerSettings
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.errors import CallRejected
from sansio_client.policy import Policy
from sansio_client.ratelimit import RateLimit
from tests.adapters.libraries import World, now

ASYNCIO = World("asyncio")
POLICY = Policy(backoff=Constant(2.0))


class Script:
    """A callable to send: raises or returns what the script says, the last for ever."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)

    async def __call__(self, _: object) -> Any:
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, float):
            return await ASYNCIO.sleep(step)
        if isinstance(step, type):
            raise step("s3cret")
        return step


def watch(listener: Any, *steps: Any, policy: Policy = POLICY, subject: Subject | None = None) -> None:
    """One call, of which `listener` hears."""

    async def main() -> None:
        resilient = Resilient(policy, on_event=listener, clock=now)
        if subject is None:
            await resilient.run(Script(*steps), key="things", may_repeat=True)
        else:
            with about(subject):
                await resilient.run(Script(*steps), key="things", may_repeat=True)

    ASYNCIO.run(main)


class TestHooks:
    def test_a_retry_is_told_with_what_caused_it_and_how_long_it_waits(self) -> None:
        seen: list[RetryDetails] = []
        policy = POLICY.replace(max_attempts=4)
        watch(Hooks(on_retry=seen.append), ConnectionResetError, TimeoutError, EOFError, "good", policy=policy)
        assert seen == [
            RetryDetails("things", 1, 1, 0, 2.0, 0.0, "transient"),
            RetryDetails("things", 1, 2, 0, 2.0, 2.0, "timed-out"),
            RetryDetails("things", 1, 3, 0, 2.0, 4.0, "transient"),
        ]

    def test_the_caller_may_name_the_call_and_the_cause(self) -> None:
        seen: list[RetryDetails] = []
        subject = Subject("GET /things", 3)
        subject.cause = "503"
        watch(Hooks(on_retry=seen.append), ConnectionResetError, "good", subject=subject)
        assert seen == [RetryDetails("GET /things", 1, 1, 3, 2.0, 0.0, "503")]

    def test_a_name_holds_for_its_block_only(self) -> None:
        seen: list[RetryDetails] = []
        hooks = Hooks(on_retry=seen.append)

        async def main() -> None:
            resilient = Resilient(POLICY, on_event=hooks, clock=now)
            with about(Subject("outer")):
                with about(Subject("inner")):
                    await resilient.run(Script(EOFError, "good"), may_repeat=True)
                await resilient.run(Script(EOFError, "good"), may_repeat=True)
            await resilient.run(Script(EOFError, "good"), key="things", may_repeat=True)

        ASYNCIO.run(main)
        assert [details.name for details in seen] == ["inner", "outer", "things"]

    def test_a_deadline_without_an_answer_is_not_blamed_on_the_attempt_before(self) -> None:
        seen: list[EndDetails] = []
        watch(Hooks(on_end=seen.append), EOFError, 100.0, policy=POLICY.replace(total_timeout=9.0))
        assert [(end.attempts, end.reason, end.caused_by) for end in seen] == [(2, "deadline", "timed-out")]

    def test_the_end_is_told_unless_it_was_good_at_once(self) -> None:
        seen: list[EndDetails] = []
        hooks = Hooks(on_end=seen.append)
        watch(hooks, "good")
        assert not seen
        watch(hooks, ConnectionResetError, "good")
        watch(hooks, ConnectionResetError)
        watch(hooks, ZeroDivisionError)
        assert [(end.attempts, end.reason, end.caused_by) for end in seen] == [
            (2, "ok", ""),
            (3, "attempts", "transient"),
            (1, "fatal", "fatal"),
        ]

    def test_an_attempt_that_was_given_up_timed_out(self) -> None:
        seen: list[RetryDetails] = []
        watch(Hooks(on_retry=seen.append), 100.0, "good", policy=POLICY.replace(attempt_timeout=1.0))
        assert [details.caused_by for details in seen] == ["timed-out"]

    def test_breakers_and_waits_are_told(self) -> None:
        moves: list[tuple[str, str]] = []
        waits: list[tuple[str, str]] = []
        policy = POLICY.replace(
            breaker=BreakerSettings(consecutive_failures=1, open_seconds=5.0, open_jitter=0.0),
            bulkhead=BulkheadSettings(limit=1),
        )
        hooks = Hooks(
            on_breaker=lambda key, state: moves.append((key, state)), on_wait=lambda *wait: waits.append(wait)
        )

        async def main() -> None:
            resilient = Resilient(policy, on_event=hooks, clock=now)
            first = Script(1.0, "good")
            await ASYNCIO.together(*[lambda: resilient.run(first, key="things")] * 2)
            await resilient.run(Script(ConnectionResetError, "good"), key="things", may_repeat=True)

        ASYNCIO.run(main)
        assert moves == [("things", "OPEN"), ("things", "HALF_OPEN"), ("things", "CLOSED")]
        assert waits == [("things", "slot"), ("things", "breaker")]

    def test_a_pace_is_a_wait_too(self) -> None:
        waits: list[str] = []
        hooks = Hooks(on_wait=lambda _, what: waits.append(what))

        async def main() -> None:
            resilient = Resilient(POLICY.replace(rate_limit=RateLimit(1.0)), on_event=hooks, clock=now)
            for _ in range(2):
                await resilient.run(Script("good"))

        ASYNCIO.run(main)
        assert waits == ["pace"]

    def test_nothing_is_told_that_nobody_asked_for(self) -> None:
        watch(Hooks(), ConnectionResetError)

    def test_what_is_remembered_of_calls_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(observe, "MANY_CALLS", 3)
        seen: list[Any] = []
        hooks = Hooks(on_retry=seen.append, on_end=seen.append)
        for call_id in range(1, 11):
            hooks((0.0, "start", call_id, "things", 1.0))
        assert list(hooks._calls) == [8, 9, 10]
        hooks((0.0, "retry", 1, 2, 1.0))
        hooks((0.0, "finish", 1, 2, "ok"))
        assert not seen
        for call_id in (8, 9, 10):
            hooks((0.0, "finish", call_id, 2, "ok"))
        assert len(seen) == 3
        assert not hooks._calls

    def test_a_cancelled_call_is_forgotten(self) -> None:
        seen: list[EndDetails] = []
        hooks = Hooks(on_end=seen.append)

        async def main() -> None:
            resilient = Resilient(POLICY, on_event=hooks, clock=now)
            send = Script(ConnectionResetError, 100.0)
            assert await ASYNCIO.within(3.0, lambda: resilient.run(send, may_repeat=True)) is None

        ASYNCIO.run(main)
        assert not hooks._calls
        assert [(end.attempts, end.reason, end.caused_by) for end in seen] == [(2, "cancelled", "")]


class TestFanOut:
    def test_all_hear_in_order_also_when_one_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        heard: list[str] = []

        def fails(_: object) -> None:
            heard.append("fails")
            raise ZeroDivisionError

        tell = fan_out(lambda _: heard.append("first"), fails, lambda _: heard.append("last"))
        tell((0.0, "start", 1, "things", 1.0))
        assert heard == ["first", "fails", "last"]
        assert "failed at (0.0, 'start', 1" in caplog.text


class TestCallLog:
    def lines(self, caplog: pytest.LogCaptureFixture, *steps: Any, policy: Policy = POLICY, most: int = 3) -> list[str]:
        with caplog.at_level("DEBUG", logger="payments"):
            watch(CallLog("payments"), *steps, policy=policy, subject=Subject("pay", most))
        found = [f"{record.levelname} {record.getMessage()}" for record in caplog.records if record.name == "payments"]
        caplog.clear()
        return found

    def test_its_lines(self, caplog: pytest.LogCaptureFixture) -> None:
        assert self.lines(caplog, "good") == []
        assert self.lines(caplog, ConnectionResetError, "good") == [
            "INFO pay: attempt 1 of 3 failed (transient), next in 2.000 s",
            "INFO pay: succeeded at attempt 2 of 3",
        ]
        assert self.lines(caplog, ConnectionResetError, ZeroDivisionError)[1:] == [
            "DEBUG pay: ended at attempt 2 of 3 (fatal)"
        ]
        breaker = BreakerSettings(consecutive_failures=1, open_seconds=1.0, open_jitter=0.0)
        assert self.lines(
            caplog, ConnectionResetError, policy=POLICY.replace(breaker=breaker, max_attempts=2), most=0
        ) == [
            "WARNING things: circuit breaker is OPEN",
            "INFO pay: attempt 1 failed (transient), next in 2.000 s",
            "INFO things: circuit breaker is HALF_OPEN",
            "WARNING things: circuit breaker is OPEN",
            "WARNING pay: failed at attempt 2 (transient), no more is tried: attempts",
        ]

    def test_refusals_waits_and_cancellations(self, caplog: pytest.LogCaptureFixture) -> None:
        policy = POLICY.replace(bulkhead=BulkheadSettings(limit=1, queue_timeout=1.0))

        async def main() -> None:
            resilient = Resilient(policy, on_event=CallLog(logging.getLogger("payments")), clock=now)
            results = await ASYNCIO.together(
                lambda: resilient.run(Script(3.0), timeout=2.0), lambda: resilient.run(Script(3.0))
            )
            with pytest.raises(CallRejected):
                results[1].unwrap()

        with caplog.at_level("DEBUG", logger="payments"):
            ASYNCIO.run(main)
        assert [
            f"{record.levelname} {record.getMessage()}" for record in caplog.records if record.name == "payments"
        ] == [
            "DEBUG default: waits for slot",
            "WARNING default: not sent (queue-timeout)",
            "WARNING default: failed at attempt 1 (timed-out), no more is tried: deadline",
        ]

    def test_the_text_of_an_exception_is_not_written(self, caplog: pytest.LogCaptureFixture) -> None:
        assert "s3cret" not in "".join(self.lines(caplog, ConnectionResetError))

    def test_the_package_has_a_silent_logger(self) -> None:
        handlers = logging.getLogger("sansio_client").handlers
        assert [type(handler) for handler in handlers] == [logging.NullHandler]


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("https://a.example/b?c=d#e", "https://a.example/b"),
            ("https://me:s3cret@a.example:8443/b", "https://a.example:8443/b"),
            ("https://s3cret@[::1]:80/", "https://[::1]:80/"),
            ("/b?token=s3cret", "/b"),
        ],
    )
    def test_a_bare_url_has_no_user_no_query_and_no_fragment(self, url: str, shown: str) -> None:
        assert bare_url(url) == shown

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("https://a/b?c=d&e", "https://a/b?c=d&e"),
            ("https://me:s3cret@a/b", "https://REDACTED:REDACTED@a/b"),
            ("https://s3cret@a/b", "https://REDACTED@a/b"),
            ("https://a/?token=s3cret&x=1", "https://a/?token=REDACTED&x=1"),
            ("https://a/?X-Amz-Signature=s3cret&sig=s3cret", "https://a/?X-Amz-Signature=REDACTED&sig=REDACTED"),
            ("https://a/?API_KEY=s3cret&access%5Ftoken=s3cret", "https://a/?API_KEY=REDACTED&access%5Ftoken=REDACTED"),
            ("https://a/?code=s3cret&auth.code=s3cret", "https://a/?code=REDACTED&auth.code=REDACTED"),
            ("https://a/?to%6Ben=s3cret", "https://a/?to%6Ben=REDACTED"),
            ("https://a/?design=1&zipcode=2#s3cret", "https://a/?design=1&zipcode=2"),
        ],
    )
    def test_a_safe_url_shows_all_but_secrets(self, url: str, shown: str) -> None:
        assert safe_url(url) == shown

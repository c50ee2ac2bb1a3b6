"""What a status, its headers or a failure without a response mean for the call and for the breaker."""

from http import HTTPStatus
from itertools import product
from math import inf
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_client import outcome as module
from sansio_client.errors import ERRORS, LocalProtocolError
from sansio_client.outcome import (
    BREAKER_FAIL,
    BREAKER_IGNORE,
    BREAKER_OK,
    BREAKER_SOFT,
    CANCELLATION,
    CANCELLED,
    DEFINITE,
    FAILURE,
    FAILURES,
    FATAL,
    OK,
    RETRIED_WHEN_ASKED,
    STATUSES,
    SUCCESS,
    THROTTLE,
    THROTTLED,
    TIMED_OUT,
    TIMEOUT,
    TRANSIENT,
    VERDICT_NAMES,
    WHYS,
    Outcome,
    Rejected,
    classify,
    classify_failure,
)
from sansio_client.retry_after import LONGEST_DELAY

RETRIED = (408, 425, 429, 500, 502, 503, 504)
any_text = st.text(max_size=50) | st.binary(max_size=50).map(lambda raw: raw.decode("latin-1"))
names = st.sampled_from(
    ["Retry-After", "Date", "RateLimit", "retry-after-ms", "x-should-retry", "Stripe-Should-Retry", "Server"]
)


def seen(outcome: Outcome) -> tuple[int, int, float | None, bool, int]:
    return outcome.verdict, outcome.effect, outcome.retry_after, outcome.unsent, outcome.status


# --- statuses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_its_verdict_and_effect(status: int) -> None:
    if status < 400:
        expected = (OK, BREAKER_OK, None, False, 0)
    elif status == 429:
        expected = (THROTTLED, BREAKER_SOFT, None, False, 429)
    elif status == 425:
        expected = (TRANSIENT, BREAKER_OK, None, True, 425)
    elif status in {408, 500, 502, 503, 504}:
        expected = (TRANSIENT, BREAKER_FAIL, None, False, status)
    elif status in {501, 505} or status < 500:
        expected = (FATAL, BREAKER_OK, None, False, status)
    else:
        expected = (FATAL, BREAKER_FAIL, None, False, status)
    assert seen(classify(status)) == expected
    assert seen(classify(status, [("Server", "x"), (b"Content-Type", b"text/plain")])) == expected


@pytest.mark.parametrize("status", [-1, 0, 99, 600, 999, 10**9])
def test_an_invalid_status_counts_as_a_server_error_that_is_not_repeated(status: int) -> None:
    assert seen(classify(status)) == (FATAL, BREAKER_FAIL, None, False, status)


class NotToBeRead(list[tuple[str, str]]):
    def __iter__(self) -> None:  # type: ignore[override]
        raise AssertionError("the headers of a success were read")


@pytest.mark.parametrize("status", [100, 103, 200, 204, HTTPStatus.OK, 302, 399])
def test_a_success_is_the_one_shared_object_and_its_headers_stay_unread(status: int) -> None:
    assert classify(status, NotToBeRead()) is SUCCESS


def test_the_table_cannot_be_changed_by_accident() -> None:
    assert isinstance(STATUSES, MappingProxyType)
    assert isinstance(FAILURES, MappingProxyType)


# --- Retry-After, RateLimit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", range(400, 600))
def test_retry_after_is_kept_for_every_failed_status_and_changes_only_two_verdicts(status: int) -> None:
    plain, asked = classify(status), classify(status, [("Retry-After", "7")])
    assert asked.retry_after == 7.0
    assert asked.verdict == (TRANSIENT if status in {409, 413} else plain.verdict)
    assert (asked.effect, asked.unsent, asked.status) == (plain.effect, plain.unsent, status)


@pytest.mark.parametrize("status", RETRIED_WHEN_ASKED)
def test_only_a_valid_retry_after_makes_a_final_status_temporary(status: int) -> None:
    assert classify(status).verdict == FATAL
    assert classify(status, [("Retry-After", "soon")]).verdict == FATAL
    assert classify(status, [("RateLimit", '"a";r=0;t=5')]).verdict == FATAL
    assert seen(classify(status, [("retry-after-ms", "500")])) == (TRANSIENT, BREAKER_OK, 0.5, False, status)


@pytest.mark.parametrize("status", range(400, 600))
def test_a_used_up_rate_limit_is_a_wait_only_where_another_attempt_is_worth_it(status: int) -> None:
    headers = [("RateLimit", '"a";r=0;t=5')]
    assert classify(status, headers).retry_after == (5.0 if status in RETRIED else None)
    assert classify(status, [*headers, ("Retry-After", "2")]).retry_after == 2.0


def test_a_date_needs_the_response_s_date_or_a_wall_clock() -> None:
    date = ("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")
    assert classify(503, [date]).retry_after is None
    assert classify(503, [date], now_wall=784111770.0).retry_after == 7.0
    assert classify(503, [date, ("Date", "Sun, 06 Nov 1994 08:49:34 GMT")], now_wall=784111770.0).retry_after == 3.0
    assert classify(503, dict([date, ("Date", "Sun, 06 Nov 1994 08:49:34 GMT")])).retry_after == 3.0


def test_a_503_fails_the_breaker_with_and_without_retry_after() -> None:
    assert seen(classify(503)) == (TRANSIENT, BREAKER_FAIL, None, False, 503)
    assert seen(classify(503, [("Retry-After", "1")])) == (TRANSIENT, BREAKER_FAIL, 1.0, False, 503)


# --- the server's hints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "name"), list(product((400, 409, 429, 500, 501, 529), ("x-should-retry", b"Stripe-Should-Retry")))
)
def test_the_server_s_hint_decides_instead_of_its_status(status: int, name: str | bytes) -> None:
    plain = classify(status)
    hinted = classify(status, [(name, b" True")])
    assert hinted.verdict == (TRANSIENT if plain.verdict == FATAL else plain.verdict)
    assert (hinted.effect, hinted.retry_after) == (plain.effect, None)
    refused = classify(status, [(name, b"FALSE"), ("Retry-After", "5")])
    assert (refused.effect, refused.retry_after) == (plain.effect, -1.0)
    if status not in RETRIED_WHEN_ASKED:
        assert refused.verdict == plain.verdict


def test_false_wins_over_true_and_other_words_say_nothing() -> None:
    both = [("x-should-retry", "true"), ("stripe-should-retry", "false")]
    assert classify(503, both).retry_after == -1.0
    assert classify(400, both).verdict == FATAL
    assert classify(503, both[::-1]).retry_after == -1.0
    for word in ("", "1", "yes", "no", "0", "truefalse", "tru\u00e9"):
        assert seen(classify(400, [("x-should-retry", word)])) == seen(classify(400))


def test_a_hint_to_retry_keeps_the_wait() -> None:
    assert seen(classify(400, [("x-should-retry", "true"), ("Retry-After", "3")])) == (
        TRANSIENT, BREAKER_OK, 3.0, False, 400,
    )  # fmt: skip
    assert classify(400, [("x-should-retry", "true"), ("RateLimit", '"a";r=0;t=4')]).retry_after == 4.0


def test_a_refusal_to_be_retried_needs_no_retry_after_and_no_rate_limit_undoes_it() -> None:
    assert classify(503, [("x-should-retry", "false")]).retry_after == -1.0
    assert classify(503, [("x-should-retry", "false"), ("RateLimit", '"a";r=0;t=4')]).retry_after == -1.0
    assert classify(503, [("x-should-retry", "false")]).verdict == TRANSIENT


# --- nothing raises --------------------------------------------------------------------------------------------------


@given(st.integers(), st.lists(st.tuples(names | any_text, any_text)), st.none() | st.floats())
def test_no_response_raises(status: int, headers: list[tuple[str, str]], now_wall: float | None) -> None:
    for fields in (headers, dict(headers)):
        outcome = classify(status, fields, now_wall=now_wall)
        assert outcome.verdict in {OK, TRANSIENT, THROTTLED, FATAL}
        wait = outcome.retry_after
        assert wait is None or wait == -1.0 or 0 <= wait <= LONGEST_DELAY


@given(st.integers(400, 599), st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50))))
def test_no_raw_header_raises(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    assert classify(status, headers).status == status


# --- failures without a response -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "verdict", "effect", "unsent"),
    [
        ("connect", TRANSIENT, BREAKER_FAIL, True),
        ("connect-timeout", TIMED_OUT, BREAKER_FAIL, True),
        ("write", TRANSIENT, BREAKER_FAIL, False),
        ("read", TRANSIENT, BREAKER_FAIL, False),
        ("timeout", TIMED_OUT, BREAKER_FAIL, False),
        ("protocol", TRANSIENT, BREAKER_FAIL, False),
        ("pool-timeout", FATAL, BREAKER_IGNORE, True),
        ("cancelled", CANCELLED, BREAKER_IGNORE, False),
        ("unknown", FATAL, BREAKER_IGNORE, False),
    ],
)
def test_every_kind_of_failure_has_its_outcome(kind: str, verdict: int, effect: int, *, unsent: bool) -> None:
    assert seen(classify_failure(kind)) == (verdict, effect, None, unsent, 0)
    assert classify_failure(kind) is classify_failure(kind)


def test_every_kind_of_failure_is_in_the_table_above() -> None:
    assert set(FAILURES) == {
        "connect", "connect-timeout", "write", "read", "timeout", "protocol", "pool-timeout", "cancelled", "unknown",
    }  # fmt: skip


def test_an_unknown_kind_is_the_adapter_s_mistake_and_names_the_known_ones() -> None:
    with pytest.raises(LocalProtocolError, match="'dns' is no kind of failure; use one of connect, connect-timeout, "):
        classify_failure("dns")


# --- the values ------------------------------------------------------------------------------------------------------


def test_verdicts_and_effects_are_plain_numbers_with_names() -> None:
    verdicts = (OK, TRANSIENT, THROTTLED, FATAL, CANCELLED, TIMED_OUT)
    assert verdicts == tuple(range(6))
    assert [type(verdict) for verdict in verdicts] == [int] * 6
    assert (BREAKER_OK, BREAKER_FAIL, BREAKER_IGNORE, BREAKER_SOFT) == (0, 1, 2, 3)
    assert VERDICT_NAMES == ("ok", "transient", "throttled", "fatal", "cancelled", "timed-out")
    assert set(ERRORS) == set(WHYS), "adapters have an error for each"


def test_the_ready_made_outcomes_carry_nothing() -> None:
    made = {
        SUCCESS: (OK, BREAKER_OK),
        FAILURE: (TRANSIENT, BREAKER_FAIL),
        CANCELLATION: (CANCELLED, BREAKER_IGNORE),
        TIMEOUT: (TIMED_OUT, BREAKER_FAIL),
        THROTTLE: (THROTTLED, BREAKER_SOFT),
        DEFINITE: (FATAL, BREAKER_OK),
    }
    for outcome, (verdict, effect) in made.items():
        assert seen(outcome) == (verdict, effect, None, False, 0)
        assert outcome.value is None


def test_with_value_is_a_copy_that_differs_in_nothing_else() -> None:
    original = Outcome(THROTTLED, BREAKER_SOFT, retry_after=2.0, unsent=True, status=429)
    answer = object()
    copy = original.with_value(answer)
    assert copy.value is answer
    assert original.value is None
    assert seen(copy) == seen(original)
    assert SUCCESS.with_value(answer) is not SUCCESS
    assert SUCCESS.value is None


def test_an_outcome_shows_itself_without_its_value() -> None:
    assert repr(SUCCESS.with_value("secret")) == "<Outcome ok>"
    assert repr(classify(429, [("Retry-After", "2")])) == "<Outcome throttled 429 retry_after=2>"
    assert repr(classify_failure("connect")) == "<Outcome transient unsent>"
    assert repr(Outcome(9, 0)) == "<Outcome 9>"  # a user's classifier may err


def test_a_rejection_knows_when_to_come_back_and_what_the_peer_said_last() -> None:
    assert (Rejected("full").why, Rejected("full").retry_at, Rejected("full").last) == ("full", inf, None)
    last = classify(503)
    rejected = Rejected("open", 12.5, last)
    assert (rejected.why, rejected.retry_at, rejected.last) == ("open", 12.5, last)
    assert repr(rejected) == "<Rejected open retry_at=12.5 last=<Outcome transient 503>>"
    assert repr(Rejected("full")) == "<Rejected full retry_at=inf>"


def test_the_values_have_slots_only() -> None:
    for value in (SUCCESS, Rejected("open")):
        assert not hasattr(value, "__dict__")


def test_everything_a_classifier_of_one_s_own_needs_is_public() -> None:
    def mine(status: int, headers: dict[str, str]) -> Outcome:
        if status == 404 and headers.get("x-stale") == "yes":
            return Outcome(TRANSIENT, BREAKER_OK, retry_after=0.1, status=status)
        return classify(status, headers)

    assert seen(mine(404, {"x-stale": "yes"})) == (TRANSIENT, BREAKER_OK, 0.1, False, 404)
    assert seen(mine(404, {})) == seen(module.classify(404))

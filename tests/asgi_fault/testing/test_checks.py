"""Expectations as a test writes them: what they become, and how they are judged on entries made by hand."""

from typing import Any

import pytest

from asgi_fault.testing.checks import (
    NAMES,
    OVERLAP,
    ExpectationError,
    expectations_of,
    judge,
    skipped_between,
    with_skipped,
)
from tests.asgi_fault.observe.journal_entries import START, attempts_of, entry, shown


def failed(entries: list[dict[str, Any]], skipped: tuple[tuple[float, float], ...] = (), **options: Any) -> list[str]:
    """The names of the checks that fail."""
    return [check.name for check in judge(entries, expectations_of(options), skipped)[1] if not check.ok]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"count": 3}, {"count": {"exactly": 3}}),
        ({"calls": (1, 2)}, {"calls": {"min": 1, "max": 2}}),
        ({"count": {"min": 2}}, {"count": {"min": 2}}),
        ({"max_attempts": 3}, {"attempts": {"max": 3}}),
        ({"attempts": {"min": 2}, "max_attempts": 3}, {"attempts": {"min": 2, "max": 3}}),
        ({"min_gaps": [1, 2.5]}, {"gaps": [{"min_s": 1}, {"min_s": 2.5}]}),
        ({"min_gaps": 1}, {"gaps": {"min_s": 1}}),
        ({"same_key": True, "same_body": False}, {"same_key": True}),
        ({"distinct_connections": False}, {"distinct_connections": False}),
        ({"statuses": (503, 200), "path": "/a"}, {"statuses": [503, 200], "match": {"path": "/a"}}),
        ({"no_unsafe_retry": True}, {"no_unsafe_retry": True, "match": {}}),
        ({"count": 1, "calls": None}, {"count": {"exactly": 1}}),
    ],
)
def test_options_become_expectations(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert expectations_of(options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing is expected; say one of attempts, calls, count"),
        ({"path": "/a"}, "nothing is expected"),
        ({"same_key": False}, "nothing is expected"),
        ({"max_atempts": 3}, "max_atempts: there is no such expectation; there are attempts, call,"),
        ({"count": True}, r"count: .*"),
        ({"count": -1}, r"count.exactly: .* \(got -1\)"),
        ({"count": (3, 1)}, "min is greater than max"),
        ({"min_gaps": ["soon"]}, r"gaps.0.min_s: .* \(got 'soon'\)"),
        ({"statuses": [503, "ok"]}, r"statuses.1: "),
        ({"count": 1, "path": "no-slash"}, "match.path: "),
        ({"count": 1, "path": object()}, "no JSON"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExpectationError, match=message):
        expectations_of(options)


def test_every_expectation_of_the_journal_is_one_of_a_test() -> None:
    assert {"gaps", "order", "distinct_connections", "same_key", "max_attempts", "min_gaps"} <= NAMES


def test_a_post_that_comes_again_is_unsafe() -> None:
    post = {"method": "POST", "target": "/orders", "body": b"{}"}
    assert failed(attempts_of(503, 200, gaps=(1.0,), key="", **post), no_unsafe_retry=True) == ["no_unsafe_retry"]
    assert failed(attempts_of(503, gaps=(), key="", **post), no_unsafe_retry=True) == []


def test_a_post_with_an_idempotency_key_may_come_again() -> None:
    assert failed(attempts_of(503, 200, gaps=(1.0,), key="k", method="POST"), no_unsafe_retry=True) == []


def test_a_post_with_another_request_id_each_time_is_still_the_same_request() -> None:
    entries = shown(
        entry(1, method="POST", headers=(("x-request-id", "a"),)),
        entry(2, at=START + 1, method="POST", headers=(("x-request-id", "b"),)),
    )
    assert failed(entries, no_unsafe_retry=True) == ["no_unsafe_retry"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_an_idempotent_method_may_come_again(method: str) -> None:
    assert failed(attempts_of(503, 200, gaps=(1.0,), key="", method=method), no_unsafe_retry=True) == []


def test_other_requests_are_no_retry() -> None:
    entries = shown(entry(1, method="POST", body=b"1"), entry(2, at=START + 1, method="POST", body=b"2"))
    assert failed(entries, no_unsafe_retry=True) == []


def test_without_arrivals_there_is_nothing_to_judge() -> None:
    assert failed([], no_unsafe_retry=True, max_attempts=3) == ["attempts", "no_unsafe_retry"]


def test_gaps_of_calls_that_overlap_prove_nothing_when_sleeps_were_skipped() -> None:
    def two_calls() -> list[dict[str, Any]]:
        return shown(
            entry(1, at=START, key="a", status=503),
            entry(2, at=START + 0.1, key="b", status=503),
            entry(3, at=START + 5, key="a"),
            entry(4, at=START + 6, key="b"),
        )

    assert failed(two_calls(), min_gaps=1) == []
    assert failed(two_calls(), ((START + 0.05, 4.0),), min_gaps=1) == []
    assert failed(two_calls(), ((START + 0.2, 4.0),), min_gaps=1, count=4) == ["gaps"]
    notes = [check.note for check in judge(two_calls(), expectations_of({"min_gaps": 1}), [(START + 0.2, 4.0)])[1]]
    assert notes == [OVERLAP]


def test_what_was_skipped_is_summed_between_first_and_last() -> None:
    entries = attempts_of(503, 503, 200, gaps=(1.0, 2.0))
    skipped = [(START - 1, 100.0), (START + 0.5, 1.0), (START + 2, 2.0), (START + 9, 100.0)]
    assert skipped_between(entries, skipped) == 3.0
    assert skipped_between([], skipped) == 0.0


def test_a_sleep_between_head_and_body_belongs_to_the_gap() -> None:
    # The client slept 60 s when it had the head; the server read the clock for the end of the answer only then.
    entries = shown(
        entry(1, at=START, took=60.001, key="a", status=503),
        entry(2, at=START + 60.002, key="a", took=0.0, status=503),
        entry(3, at=START + 61, key="a"),
    )
    skipped = [(START + 0.0005, 60.0), (START + 60.5, 0.25)]
    assert [one["gap_s"] for one in with_skipped(entries, skipped)] == [
        None,
        pytest.approx(60.001),
        pytest.approx(0.998),
    ]


def test_the_gap_after_an_attempt_whose_end_is_not_known_stays_unknown() -> None:
    entries = shown(entry(1, took=None, key="a", status=0), entry(2, at=START + 5, key="a"))
    assert [one["gap_s"] for one in with_skipped(entries, [(START + 1, 4.0)])] == [None, None]

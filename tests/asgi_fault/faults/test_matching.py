"""Every condition of a match, alone and in their order."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_fault.faults.matching import CALLS_MAX, Attempts
from tests.asgi_fault.faults.rule_documents import WALL, arrival, hits, rule_set


def test_without_conditions_everything_is_meant() -> None:
    assert hits({}, arrival(), arrival("BREW", "*"), arrival("POST", ""), arrival("GET", "/a/b?")) == [True] * 4
    rules = rule_set({"then": {"status": 500}})
    assert rules.decide(arrival()) is not None


def test_method() -> None:
    assert hits({"method": "POST"}, arrival("POST"), arrival("GET"), arrival("post")) == [True, False, False]
    assert hits({"method": ["GET", "HEAD"]}, arrival("GET"), arrival("HEAD"), arrival("PUT")) == [True, True, False]


def test_path_with_and_without_its_trailing_slash() -> None:
    paths = [arrival(path=path) for path in ("/msg", "/msg/", "/msg//", "/msgs", "/", "*", "")]
    assert hits({"path": "/msg"}, *paths) == [True, True, False, False, False, False, False]
    assert hits({"path": "/msg/"}, *paths) == [True, True, False, False, False, False, False]
    assert hits({"path": "/"}, *paths) == [False, False, False, False, True, False, False]


def test_path_templates_and_globs() -> None:
    paths = [arrival(path=path) for path in ("/users/7", "/users/7/", "/users/7/x", "/users")]
    assert hits({"path": "/users/{id}"}, *paths) == [True, True, False, False]
    assert hits({"path": "/users/**"}, *paths) == [True, True, True, True]
    assert hits({"path": "/*/7"}, *paths) == [True, True, False, False]


def test_headers() -> None:
    blue, red, none = arrival(headers={"X-Tenant": "blue"}), arrival(headers={"X-Tenant": "red"}), arrival()
    twice = arrival(fields=[(b"x-tenant", b"blue"), (b"accept", b"*/*"), (b"x-tenant", b"red")])
    assert hits({"headers": {"x-tenant": "blue"}}, blue, red, none, twice) == [True, False, False, True]
    assert hits({"headers": {"X-TENANT": {"regex": "^r"}}}, blue, red, none, twice) == [False, True, False, True]
    assert hits({"headers": {"x-tenant": {"present": True}}}, blue, red, none, twice) == [True, True, False, True]
    assert hits({"headers": {"x-tenant": {"present": False}}}, blue, red, none, twice) == [False, False, True, False]
    both = {"headers": {"x-tenant": "red", "accept": "*/*"}}
    assert hits(both, blue, red, none, twice) == [False, False, False, True]
    assert hits({"headers": {"x-tenant": "bl\xfce"}}, arrival(headers={"X-Tenant": "bl\xfce"})) == [True]


def test_query() -> None:
    asked = [arrival(query=query) for query in ("q=1", "q=2", "", "q=1&q=2", "q", "q=%C3%BC+x")]
    assert hits({"query": {"q": "2"}}, *asked) == [False, True, False, True, False, False]
    assert hits({"query": {"q": {"present": True}}}, *asked) == [True, True, False, True, True, True]
    assert hits({"query": {"q": {"present": False}}}, *asked) == [False, False, True, False, False, False]
    assert hits({"query": {"q": {"regex": "[12]$"}}}, *asked) == [True, True, False, True, False, False]
    assert hits({"query": {"q": "ü x"}}, *asked) == [False] * 5 + [True]
    assert hits({"query": {"q": "1", "r": {"present": False}}}, arrival(query="q=1"), arrival(query="q=1&r=")) == [
        True,
        False,
    ]


def test_size_of_the_body() -> None:
    sizes = [arrival(body=b"x" * size) for size in (0, 1, 99, 100, 101)]
    assert hits({"body_bytes": {"min": 1, "max": 100}}, *sizes) == [False, True, True, True, False]
    assert hits({"body_bytes": {"min": 1, "max": 1}}, *sizes) == [False, True, False, False, False]
    assert hits({"body_bytes": {"min": 1}}, *sizes) == [False, True, True, True, True]
    assert hits({"body_bytes": {"max": 0}}, *sizes) == [True, False, False, False, False]


def test_times() -> None:
    at = [arrival(now=now) for now in (0.0, 4.999, 5.0, 9.999, 10.0)]
    assert hits({"for_s": 5}, *at) == [True, True, False, False, False]
    assert hits({"between_s": [5, 10]}, *at) == [False, False, True, True, False]
    assert hits({"between_s": [0, 10], "for_s": 5}, *at) == [True, True, False, False, False]


def test_times_begin_when_the_rule_is_set() -> None:
    rules = rule_set()
    rules.put([{"match": {"for_s": 5}, "then": {"status": 503}}], 100.0, wall=WALL, wire=False)
    assert rules.decide(arrival(now=104.9)) is not None
    assert rules.decide(arrival(now=105.0)) is None


def test_ordinals() -> None:
    six = [arrival(ordinal=n) for n in range(1, 7)]
    assert hits({"nth": 3}, *six) == [n == 3 for n in range(1, 7)]
    assert hits({"nth": [1, 5]}, *six) == [n in (1, 5) for n in range(1, 7)]
    assert hits({"every": 2}, *six) == [n % 2 == 0 for n in range(1, 7)]
    assert hits({"first": 2}, *six) == [n <= 2 for n in range(1, 7)]
    assert hits({"every": 2, "first": 4}, *six) == [n in (2, 4) for n in range(1, 7)]
    assert hits({"every": 2, "nth": [3, 4]}, *six) == [n == 4 for n in range(1, 7)]


def test_only_what_fits_the_rest_is_counted() -> None:
    mixed = [arrival(method) for method in ("GET", "POST", "GET", "GET", "POST")]
    assert hits({"method": "POST", "nth": 2}, *mixed) == [False, False, False, False, True]
    late = [arrival(now=now) for now in (1.0, 6.0, 7.0)]
    assert hits({"between_s": [5, 10], "nth": 1}, *late) == [False, True, False]


def test_probability() -> None:
    thousand = [arrival(ordinal=n) for n in range(1, 1001)]
    assert hits({"probability": 0}, *thousand) == [False] * 1000
    assert hits({"probability": 1}, *thousand) == [True] * 1000
    assert 150 < sum(hits({"probability": 0.2}, *thousand)) < 250


def test_what_probability_leaves_out_has_been_counted() -> None:
    found = hits({"probability": 0.5, "first": 100}, *(arrival(ordinal=n) for n in range(1, 201)))
    assert any(found[:100])
    assert not any(found[100:])


def keyed(name: str, value: str, **options: Any) -> Any:
    return arrival(headers={name: value}, **options)


def test_attempts_are_those_of_one_logical_call() -> None:
    calls = [keyed("Idempotency-Key", key) for key in ("a", "b", "a", "a", "b", "c")]
    assert hits({"attempt": 2}, *calls) == [False, False, True, False, True, False]
    assert hits({"attempt": [1, 3]}, *calls) == [True, True, False, True, False, True]


@pytest.mark.parametrize(
    ("first", "again", "another"),
    [
        (keyed("Idempotency-Key", "k"), keyed("idempotency-key", "k", path="/x"), keyed("Idempotency-Key", "l")),
        (keyed("X-Request-ID", "k"), keyed("X-Request-ID", "k", method="POST"), keyed("X-Request-ID", "l")),
        (keyed("X-Request-ID", "k"), keyed("X-Request-ID", "k"), keyed("amz-sdk-invocation-id", "k")),
        (keyed("amz-sdk-invocation-id", "k"), keyed("amz-sdk-invocation-id", "k"), arrival()),
        (
            arrival(headers={"Idempotency-Key": "k", "X-Request-ID": "1"}),
            arrival(headers={"X-Request-ID": "2", "Idempotency-Key": "k"}),
            keyed("X-Request-ID", "1"),
        ),
        (keyed("X-Request-ID", "k" * 300), keyed("X-Request-ID", "k" * 300), keyed("X-Request-ID", "k" * 299)),
        (keyed("Idempotency-Key", ""), arrival(), arrival("HEAD")),
        (arrival("POST", body=b"1"), arrival("POST", body=b"1"), arrival("POST", body=b"2")),
        (arrival(query="a=1"), arrival(query="a=1"), arrival(query="a=2")),
    ],
)
def test_what_names_a_call(first: Any, again: Any, another: Any) -> None:
    assert hits({"attempt": 2}, first, another, again) == [False, False, True]


def test_a_call_without_a_key_cannot_be_forged_by_one_with_it() -> None:
    plain = arrival()
    inner = hashlib.sha256(b"GET /msg?\n" + hashlib.sha256(b"").digest()).digest()
    assert hits({"attempt": 2}, plain, keyed("Idempotency-Key", inner.decode("latin-1"))) == [False, False]


def test_attempts_count_arrivals_that_no_rule_is_about() -> None:
    rules = rule_set({"match": {"path": "/b", "attempt": 2}, "then": {"status": 503}})
    assert rules.decide(keyed("X-Request-ID", "k", path="/a")) is None
    assert rules.decide(keyed("X-Request-ID", "k", path="/b")) is not None


@given(st.lists(st.integers(0, 30), max_size=120))
def test_attempts_are_counted_right_whatever_the_order(names: list[int]) -> None:
    attempts = Attempts()
    counts = dict.fromkeys(names, 0)
    for name in names:
        counts[name] += 1
        assert attempts.count((b"", b"%d" % name)) == counts[name]


def test_the_call_that_was_silent_longest_is_forgotten() -> None:
    attempts = Attempts()
    for name in range(CALLS_MAX):
        attempts.count((b"", b"%d" % name))
    assert attempts.count((b"", b"0")) == 2
    attempts.count((b"", b"new"))
    assert len(attempts._counts) == CALLS_MAX
    assert attempts.count((b"", b"0")) == 3
    assert attempts.count((b"", b"1")) == 1


def test_whether_the_body_is_needed() -> None:
    def needed(*rules: dict[str, Any]) -> bool:
        return rule_set(*rules).needs_body

    then = {"then": {"status": 503}}
    assert not needed()
    assert not needed({"match": {"path": "/msg", "nth": 1}, **then})
    assert needed(then, {"match": {"body_bytes": {"min": 1}}, **then})
    assert needed({"match": {"attempt": 1}, **then})
    assert needed({"then": {"body": {"template": "{attempt}"}}})
    assert needed({"then": {"status": 200, "forge": {"status": 200, "body": {"template": "{attempt}"}}}})
    assert not needed({"then": {"body": {"template": "{ordinal}"}}})

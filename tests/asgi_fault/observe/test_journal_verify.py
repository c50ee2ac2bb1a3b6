"""Verification: each expectation met and missed, what cannot be judged, and the report against a golden text."""

from typing import Any

import pytest

from asgi_fault.faults.paths import PathPattern, bare
from asgi_fault.observe.journal import Connection
from asgi_fault.observe.report import ROWS_MAX, report
from asgi_fault.observe.verify import LATE, NOTHING, Check, select, verify
from tests.asgi_fault.observe.journal_entries import attempts_of, entry, shown

Entries = list[dict[str, Any]]


def path_test(pattern: str) -> Any:
    compiled = PathPattern(bare(pattern))
    return lambda path: compiled.fits(bare(path))


def judge(entries: Entries, **expectations: Any) -> list[Check]:
    return verify(select(entries, expectations.get("match", {}), path_test), expectations, path_test)


def the(entries: Entries, **expectations: Any) -> Check:
    (check,) = judge(entries, **expectations)
    return check


RETRIES = attempts_of(503, 503, 200, gaps=(0.43, 0.91), method="POST", target="/orders")
MIXED = shown(
    entry(1, target="/a"),
    entry(2, method="POST", target="/b?x=1", status=201, body=b"x"),
    entry(3, target="/users/7", status=404),
    entry(4, target="/a", status=503),
)


@pytest.mark.parametrize(
    ("expected", "ok"),
    [
        ({"exactly": 3}, True),
        ({"exactly": 2}, False),
        ({"exactly": 0}, False),
        ({"min": 3}, True),
        ({"min": 4}, False),
        ({"max": 3}, True),
        ({"max": 2}, False),
        ({"min": 1, "max": 5}, True),
        ({"min": 4, "max": 5}, False),
    ],
)
def test_arrivals_calls_and_attempts_are_counted(expected: dict[str, int], ok: bool) -> None:
    count = the(RETRIES, count=expected)
    assert (count.ok, count.observed, list(count.evidence)) == (ok, 3, [1, 2, 3])
    assert the(RETRIES, attempts=expected).ok is ok
    assert the(shown(entry(1, key="a"), entry(2, key="b"), entry(3, key="c")), calls=expected).ok is ok


@pytest.mark.parametrize(
    ("match", "found"),
    [
        ({}, [1, 2, 3, 4]),
        ({"method": "POST"}, [2]),
        ({"method": ["POST", "GET"]}, [1, 2, 3, 4]),
        ({"status": 404}, [3]),
        ({"status": [200, 201]}, [1, 2]),
        ({"path": "/a"}, [1, 4]),
        ({"path": "/b"}, [2]),
        ({"path": "/users/{id}"}, [3]),
        ({"path": "/**"}, [1, 2, 3, 4]),
        ({"path": "/*"}, [1, 2, 4]),
        ({"path": "/a", "status": 503}, [4]),
        ({"call": "nobody"}, []),
    ],
)
def test_a_filter_selects(match: dict[str, Any], found: list[int]) -> None:
    assert list(the(MIXED, count={**match, "min": 0}).evidence) == found
    assert list(the(MIXED, match=match, count={"min": 0}).evidence) == found


def test_several_counts_are_several_checks() -> None:
    checks = judge(MIXED, count=[{"path": "/a", "exactly": 2}, {"method": "DELETE", "exactly": 0}, {"min": 9}])
    assert [check.ok for check in checks] == [True, True, False]


def test_statuses_are_compared_in_order_of_arrival() -> None:
    assert the(RETRIES, statuses=[503, 503, 200]).ok
    for wrong, evidence in [([503, 200, 503], [2, 3]), ([503, 503], [3]), ([503, 503, 200, 200], [])]:
        check = the(RETRIES, statuses=wrong)
        assert not check.ok
        assert list(check.evidence) == evidence
        assert check.observed == [503, 503, 200]
    assert the([], statuses=[]).ok


def test_order_lets_others_lie_between() -> None:
    assert the(MIXED, order=["GET /a", "GET /users/*", "GET /a"]).ok
    assert the(MIXED, order=["* /**", "* /**", "* /**", "* /**"]).ok
    check = the(MIXED, order=["POST /b", "POST /b", "GET /a"])
    assert not check.ok
    assert check.observed == ["POST /b", "GET /a"], "the one that is missing is the second, and only that"
    assert not the(MIXED, order=["GET /users/7", "POST /b"]).ok
    assert not the(MIXED, order=["GET /a", "GET /a", "GET /a"]).ok
    assert not the([], order=["GET /a"]).ok


class TestGaps:
    def test_all_or_one_by_one(self) -> None:
        assert the(RETRIES, gaps={"min_s": 0.4, "max_s": 1}).ok
        assert the(RETRIES, gaps=[{"min_s": 0.4, "max_s": 0.5}, {"min_s": 0.9}]).ok
        assert the(RETRIES, gaps={"min_s": 0.5}).evidence == [2]
        assert the(RETRIES, gaps=[{"min_s": 0.4}, {"min_s": 1}]).evidence == [3]

    @pytest.mark.parametrize("gaps", [[{"min_s": 0.1}], [{"min_s": 0.1}] * 3])
    def test_a_list_is_as_long_as_the_gaps(self, gaps: list[dict[str, float]]) -> None:
        check = the(RETRIES, gaps=gaps)
        assert not check.ok
        assert check.observed == [0.43, 0.91]

    def test_too_early_is_proof_and_the_clock_is_forgiven_5_ms(self) -> None:
        early = the(attempts_of(503, 200, gaps=(1.994,)), gaps={"min_s": 2})
        assert (early.ok, early.proven) == (False, True)
        assert the(attempts_of(503, 200, gaps=(1.996,)), gaps={"min_s": 2}).ok

    def test_too_late_is_none(self) -> None:
        late = the(attempts_of(503, 200, gaps=(30.0,)), gaps={"min_s": 1, "max_s": 2})
        assert (late.ok, late.proven) == (False, False)
        assert late.rows[0].note == LATE
        both = the(attempts_of(503, 503, 200, gaps=(30.0, 0.5)), gaps={"min_s": 1, "max_s": 2})
        assert (both.ok, both.proven) == (False, True), "one of them is too early"

    def test_attempts_that_overlap_are_too_early(self) -> None:
        hedged = shown(entry(1, key="a", took=1.0), entry(2, key="a", at=1000.1))
        assert not the(hedged, gaps={"min_s": 0}).ok

    def test_a_gap_whose_beginning_is_not_known_accuses_nobody(self) -> None:
        left = shown(entry(1, key="a", took=None), entry(2, at=1000.1, key="a"), entry(3, at=1005, key="a"))
        assert the(left, gaps={"min_s": 2}).ok
        alone = the(left[:2], gaps={"min_s": 2})
        assert (alone.ok, alone.note) == (False, NOTHING)


@pytest.mark.parametrize("name", ["gaps", "same_key", "same_body", "distinct_connections", "attempts"])
def test_a_client_that_never_retries_passes_no_test_of_its_retries(name: str) -> None:
    expected = {"gaps": {"min_s": 1}, "attempts": {"max": 3}}.get(name, True)
    entries = [] if name == "attempts" else shown(entry(1, key="a"), entry(2, key="b", target="/b"))
    check = the(entries, **{name: expected})
    assert (check.ok, check.note) == (False, NOTHING)


class TestKeysAndBodies:
    def test_same_key(self) -> None:
        assert the(RETRIES, same_key=True).ok
        fresh = shown(*(entry(i, headers=(("x-request-id", f"id-{i}"),)) for i in range(1, 4)))
        check = the(fresh, same_key=True)
        assert not check.ok
        assert check.observed == [f"x-request-id: id-{i}" for i in range(1, 4)]
        assert list(check.evidence) == [2, 3]
        assert not the(shown(entry(1), entry(2)), same_key=True).ok, "no key at all is not the same key"

    def test_same_body(self) -> None:
        assert the(shown(entry(1, key="a", body=b"x"), entry(2, key="a", body=b"x")), same_body=True).ok
        for changed in (entry(2, key="a", body=b"y"), entry(2, key="a")):
            assert the(shown(entry(1, key="a", body=b"x"), changed), same_body=True).evidence == [2]
        assert not the(shown(entry(1, body=b"x"), entry(2, body=b"y")), same_body=True).ok, "without a key too"


def test_connections() -> None:
    one, other = Connection(1, 0.0), Connection(2, 0.0)
    apart = shown(entry(1, key="a", connection=one), entry(2, key="a", connection=other))
    together = shown(entry(1, key="a", connection=one), entry(2, key="a", connection=one))
    unknown = shown(entry(1, key="a", client=None), entry(2, key="a", client=None))
    assert the(apart, distinct_connections=True).ok
    assert the(together, distinct_connections=False).ok
    assert the(apart, distinct_connections=False).evidence == [2]
    assert the(together, distinct_connections=True).evidence == [2]
    assert not the(unknown, distinct_connections=True).ok
    assert not the(unknown, distinct_connections=False).ok


GOLDEN = """\
FAILED: 3 of 5 checks. 3 arrivals in 1 call
The journal is full: earlier arrivals are forgotten, and not judged.

POST /orders  order-7  |--x 503--0.43s--x 503--0.91s--ok|

ok      count: method POST, path /orders: exactly 3, there were 3
FAILED  count: at most 2, there were 3
FAILED  statuses
          expected  observed  time
          503       503       +0.000s  #1 POST /orders
        ! 200       503       +0.430s  #2 POST /orders
        ! -         200       +1.340s  #3 POST /orders
FAILED  gaps
          expected  observed  time
        ! >= 0.5 s  0.43s     +0.430s  #2 POST /orders; too early
          >= 0.5 s  0.91s     +1.340s  #3 POST /orders
ok      same_key: 3 arrivals
"""


def test_the_report_shows_what_was_expected_beside_what_was_there() -> None:
    count = [{"method": "POST", "path": "/orders", "exactly": 3}, {"max": 2}]
    checks = judge(RETRIES, count=count, statuses=[503, 200], gaps={"min_s": 0.5}, same_key=True)
    assert report(RETRIES, checks, forgotten=True) == GOLDEN


def test_a_late_attempt_is_reported_as_not_proven() -> None:
    entries = attempts_of(503, 200, gaps=(3.0,))
    text = report(entries, judge(entries, gaps={"max_s": 1}), forgotten=False)
    assert "FAILED  gaps (not proven)\n" in text
    assert "too late, but not proven" in text


def test_a_long_comparison_is_shown_around_its_first_difference() -> None:
    entries = attempts_of(*[503] * 500, gaps=(1.0,) * 499)
    text = report(entries, judge(entries, statuses=[503] * 300 + [200] + [503] * 199), forgotten=False)
    assert "! 200       503       +300.000s  #301 GET /msg" in text
    assert len(text.splitlines()) == ROWS_MAX + 7
    assert f"({500 - ROWS_MAX} more)" in text


def test_a_report_is_plain_text_whatever_clients_send() -> None:
    entries = shown(entry(1, target="/%1b[2J%0a\xe9", key="\x1b[31m"), entry(2, target="/%0d", key="\x1b[31m"))
    checks = judge(entries, statuses=[1], same_key=True, order=["GET /x"], count={"path": "/\x1b", "min": 1})
    text = report(entries, checks, forgotten=False)
    assert text.replace("\n", "").isprintable()
    assert text.isascii()

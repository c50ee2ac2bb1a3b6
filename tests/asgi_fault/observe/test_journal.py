"""The journal: bounded, numbered when read, never skipping an entry; its followers are bounded too."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_fault.observe.attempts import Calls, path_of
from asgi_fault.observe.journal import FOLLOWERS_MAX, QUEUE_MAX, Connection, Follower, Journal
from tests.asgi_fault.observe.journal_entries import START, entry, journal_of, shown


def numbers(entries: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(one["ordinal"], one["attempt"]) for one in entries]


def test_an_entry_says_what_was_asked_and_what_was_answered() -> None:
    connection = Connection(7, START)
    written = entry(
        3, at=1000.25, took=0.5, method="POST", target="/~blue/orders?x=1", key="k-1", body=b"hello",
        headers=(("user-agent", "curl/8"), ("x-unknown", "value")), connection=connection, status=503,
        rule="r1", step=0,
    )  # fmt: skip
    assert shown(written) == [
        {
            "ordinal": 3,
            "at": "2023-11-14T22:13:20.250Z",
            "monotonic_s": 1000.25,
            "partition": "blue",
            "connection": {"id": 7, "ordinal": 1, "ended": None},
            "call": "k-1",
            "call_from": "idempotency-key",
            "attempt": 1,
            "gap_s": None,
            "method": "POST",
            "target": "/~blue/orders?x=1",
            "path": "/orders",
            "headers": {"user-agent": "curl/8", "idempotency-key": "k-1"},
            "request_id": "r3",
            "body": {"bytes": 5, "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
            "status": 503,
            "rule": "r1",
            "step": 0,
            "done_monotonic_s": 1000.75,
            "ended": None,
        }
    ]


def test_only_the_last_are_kept() -> None:
    journal = journal_of(*(entry(i) for i in range(1, 6)), size=3)
    assert [one["ordinal"] for one in journal.entries()] == [3, 4, 5]
    assert len(journal) == 3
    assert journal.is_full
    assert journal.clear() == 3
    assert journal.entries() == []
    assert not journal.is_full


class TestCalls:
    @pytest.mark.parametrize(
        "headers",
        [
            (("idempotency-key", "a"), ("x-request-id", "{}")),
            (("x-request-id", "a"), ("amz-sdk-invocation-id", "{}")),
            (("idempotency-key", ""), ("amz-sdk-invocation-id", "a")),
        ],
    )
    def test_the_best_header_names_the_call(self, headers: tuple[tuple[str, str], ...]) -> None:
        entries = shown(
            *(entry(i, headers=tuple((name, value.format(i)) for name, value in headers)) for i in range(1, 4))
        )
        assert [(one["call"], one["attempt"]) for one in entries] == [("a", 1), ("a", 2), ("a", 3)]

    def test_without_a_key_it_is_all_that_ask_the_same(self) -> None:
        entries = shown(
            entry(1, method="POST", body=b"a"),
            entry(2, method="POST", body=b"b"),
            entry(3, method="POST", body=b"a"),
            entry(4, method="PUT", body=b"a"),
            entry(5, method="POST", target="/msg?x", body=b"a"),
        )
        assert [one["attempt"] for one in entries] == [1, 1, 2, 1, 1]
        assert {one["call_from"] for one in entries} == {"request"}

    def test_the_same_value_in_two_headers_names_two_calls(self) -> None:
        entries = shown(entry(1, key="a"), entry(2, headers=(("x-request-id", "a"),)))
        assert [one["attempt"] for one in entries] == [1, 1]

    def test_a_long_key_is_shown_as_its_hash(self) -> None:
        entries = shown(entry(1, key="a" * 5000), entry(2, key="a" * 4999 + "b"))
        assert all(one["call"].startswith("sha256:") and len(one["call"]) < 40 for one in entries)
        assert [one["attempt"] for one in entries] == [1, 1]

    def test_requests_that_differ_in_a_secret_are_two_calls_whose_names_do_not_tell_it(self) -> None:
        first = shown(entry(1, target="/a?token=1"), entry(2, target="/a?token=2"), entry(3, target="/a?token=1"))
        other = shown(entry(1, target="/a?token=3"), entry(2, target="/a?token=4"), entry(3, target="/a?token=3"))
        assert [one["attempt"] for one in first] == [1, 1, 2]
        assert first[0]["call"] == first[2]["call"] != first[1]["call"]
        assert first == other

    def test_they_are_remembered_up_to_a_bound(self) -> None:
        calls = Calls(2)
        facts = [calls.add(entry(i, key=key, client=("10.0.0.1", i))) for i, key in enumerate("abacab", 1)]
        assert [fact.attempt for fact in facts] == [1, 1, 2, 1, 3, 1], "b was unused longest when c came"


class TestGaps:
    def test_a_gap_is_from_the_end_of_the_one_before_to_the_arrival(self) -> None:
        entries = shown(entry(1, at=1000, took=0.5, key="a"), entry(2, at=1001.75, key="b"), entry(3, at=1002, key="a"))
        assert [one["gap_s"] for one in entries] == [None, None, 1.5]

    def test_attempts_that_overlap_have_a_negative_gap(self) -> None:
        hedged, first = entry(2, at=1000.2, took=0.1, key="a"), entry(1, at=1000, took=1, key="a")
        entries = shown(hedged, first)
        assert numbers(entries) == [(1, 1), (2, 2)], "they count as they came, not as they ended"
        assert entries[1]["gap_s"] == pytest.approx(-0.8)

    @pytest.mark.parametrize("left", [{"took": None}, {"took": None, "status": 0}, {"took": 9.0, "status": 0}])
    def test_after_a_client_that_left_there_is_none(self, left: dict[str, Any]) -> None:
        entries = shown(entry(1, key="a", **left), entry(2, at=1005, key="a"))
        assert entries[0]["done_monotonic_s"] is None
        assert entries[1]["gap_s"] is None

    def test_a_rule_that_answers_nothing_has_an_end(self) -> None:
        entries = shown(entry(1, key="a", took=1.0, status=0, rule="r1"), entry(2, at=1003, key="a"))
        assert entries[1]["gap_s"] == 2.0


class TestConnections:
    def test_requests_are_counted_on_each(self) -> None:
        one, other = Connection(1, 0), Connection(2, 0)
        one.ended = "client-fin"
        entries = shown(entry(1, connection=one), entry(2, connection=other), entry(3, connection=one))
        assert [(e["connection"]["id"], e["connection"]["ordinal"]) for e in entries] == [(1, 1), (2, 1), (1, 2)]
        assert [e["connection"]["ended"] for e in entries] == ["client-fin", None, "client-fin"]
        assert [e["ended"] for e in entries] == [None, None, "client-fin"], "only the last on it ended with it"

    def test_without_our_protocol_it_is_the_address(self) -> None:
        entries = shown(entry(1, client=("10.0.0.1", 5)), entry(2, client=("10.0.0.1", 6)), entry(3, client=None))
        assert [e["connection"] and e["connection"]["id"] for e in entries] == ["10.0.0.1:5", "10.0.0.1:6", None]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/msg", "/msg"),
        ("/~blue/msg?x=/~blue/y", "/msg"),
        ("/%7Eblue/a%20b/", "/a b/"),
        ("/~blue", "/"),
        ("/~blue/", "/"),
        ("/mount/~blue/msg", "/msg"),
        ("/~green/msg", "/~green/msg"),
        ("http://h:1/~blue/msg?x", "/msg"),
        ("http://h", "/"),
        ("*", "*"),
    ],
)
def test_a_path_is_that_within_the_partition(target: str, path: str) -> None:
    assert path_of(target, "blue") == path


class TestCursor:
    def test_an_entry_that_came_early_and_ended_late_is_not_skipped(self) -> None:
        journal = journal_of(entry(2), entry(3))
        entries, after = journal.page()
        assert ([one["ordinal"] for one in entries], after) == ([2, 3], 3)
        journal.append(entry(1))
        entries, after = journal.page(after)
        assert ([one["ordinal"] for one in entries], after) == ([1], 1)
        assert journal.page(after) == ([], 1)

    def test_a_page_stands_in_order_of_arrival(self) -> None:
        journal = journal_of(entry(3), entry(1), entry(2))
        entries, after = journal.page(limit=2)
        assert ([one["ordinal"] for one in entries], after) == ([1, 3], 1)
        assert [one["ordinal"] for one in journal.entries()] == [1, 2, 3]

    def test_a_place_that_is_forgotten_means_what_came_later(self) -> None:
        journal = journal_of(*(entry(i) for i in range(1, 9)), size=3)
        assert [one["ordinal"] for one in journal.entries(after=2)] == [6, 7, 8]
        assert journal.page(after=99) == ([], 99)

    def test_one_call_only(self) -> None:
        journal = journal_of(*(entry(i, key="ab"[i % 2]) for i in range(1, 8)))
        entries, after = journal.page(call="a", limit=2)
        assert numbers(entries) == [(2, 1), (4, 2)]
        assert [one["ordinal"] for one in journal.entries(after=after, call="a")] == [6]

    @given(order=st.permutations(range(1, 13)), limit=st.integers(1, 13), arrived=st.lists(st.integers(0, 12)))
    def test_pages_show_each_entry_once_whatever_ends_meanwhile(
        self, order: list[int], limit: int, arrived: list[int]
    ) -> None:
        journal = journal_of()
        waiting = [entry(i) for i in order]
        seen: list[int] = []
        after = 0
        for number in [*arrived, len(waiting)]:
            for one in waiting[:number]:
                journal.append(one)
            del waiting[:number]
            entries, after = journal.page(after, limit)
            assert len(entries) <= limit
            seen += [one["ordinal"] for one in entries]
        for _ in order:
            entries, after = journal.page(after, limit)
            seen += [one["ordinal"] for one in entries]
        assert sorted(seen) == list(range(1, 13))


class TestFollowers:
    def test_nothing_is_missed_between_what_lay_there_and_what_comes(self) -> None:
        journal = journal_of(entry(1, key="a"), entry(2, key="b"))
        following = journal.follow(after=1)
        assert following is not None
        follower, backlog = following
        journal.append(entry(3, key="a", at=1002))
        assert [event.ordinal for event in backlog] == [2]
        event = follower.take()
        assert (event.ordinal, event.call) == (3, "a")
        live = json.loads(event.line)
        assert (live["attempt"], live["gap_s"]) == (2, 2.0), "attempts before the stream count"
        assert live == journal.entries()[2]

    def test_all_are_told_and_nobody_once_they_have_left(self) -> None:
        journal = Journal(10, "blue", 0.0)
        append = journal.append
        followers = [following[0] for _ in range(2) if (following := journal.follow())]
        journal.append(entry(1))
        assert [len(follower) for follower in followers] == [1, 1]
        assert followers[0].take() is followers[1].take(), "it was made readable once"
        for follower in followers:
            journal.unfollow(follower)
            journal.unfollow(follower)
        journal.append(entry(2))
        assert not any(map(len, followers))
        assert journal.append == append, "the hot path is the bare append again"
        assert len(journal) == 2

    def test_there_is_room_for_so_many(self) -> None:
        journal = Journal(10, "blue", 0.0)
        followings = [journal.follow() for _ in range(FOLLOWERS_MAX)]
        assert all(followings)
        assert journal.follow() is None
        assert followings[0] is not None
        journal.unfollow(followings[0][0])
        assert journal.follow() is not None

    def test_a_slow_one_loses_the_oldest_and_can_tell(self) -> None:
        journal = Journal(10, "blue", 0.0)
        following = journal.follow()
        assert following is not None
        follower: Follower = following[0]
        for i in range(1, QUEUE_MAX + 6):
            journal.append(entry(i))
        assert (len(follower), follower.lost) == (QUEUE_MAX, 5)
        assert follower.take().ordinal == 6

    def test_clearing_starts_the_numbers_anew(self) -> None:
        journal = journal_of(entry(1, key="a"))
        following = journal.follow(after=1)
        assert following is not None
        journal.clear()
        journal.append(entry(2, key="a"))
        assert json.loads(following[0].take().line)["attempt"] == 1 == journal.entries()[0]["attempt"]


def test_whatever_order_entries_end_in_they_read_the_same() -> None:
    entries = [entry(i, at=1000 + i, key="abc"[i % 3], client=("h", i % 2)) for i in range(1, 30)]
    expected = shown(*entries)
    for seed in range(5):
        random.Random(seed).shuffle(entries)
        assert shown(*entries) == expected

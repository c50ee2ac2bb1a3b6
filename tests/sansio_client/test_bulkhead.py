"""The bulkhead: slots, the queue, hand-over."""

import sys
from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sansio_client.bulkhead import Bulkhead, BulkheadSettings
from sansio_client.errors import SettingError


def full(limit: int = 1, **options: Any) -> Bulkhead:
    bulkhead = Bulkhead(limit, **({"queue_limit": 1000} | options))
    assert all(bulkhead.acquire() for _ in range(limit))
    return bulkhead


def test_no_more_than_the_limit_get_a_slot() -> None:
    bulkhead = Bulkhead(3)
    assert [bulkhead.acquire() for _ in range(5)] == [True, True, True, False, False]
    assert bulkhead.release() is None
    assert bulkhead.acquire()
    assert not bulkhead.acquire()


def test_p32_waiters_are_served_in_order_of_arrival_minus_those_that_gave_up() -> None:
    bulkhead = full()
    tickets = {name: bulkhead.enqueue(name) for name in "abcde"}
    bulkhead.abandon(tickets["a"])
    bulkhead.abandon(tickets["c"])
    assert [bulkhead.release() for _ in range(4)] == ["b", "d", "e", None]


def test_p32_in_lifo_order_the_last_comes_first() -> None:
    bulkhead = full(lifo=True)
    tickets = {name: bulkhead.enqueue(name) for name in "abcde"}
    bulkhead.abandon(tickets["d"])
    assert [bulkhead.release() for _ in range(5)] == ["e", "c", "b", "a", None]


def test_p32_nobody_overtakes_the_queue() -> None:
    bulkhead = full()
    bulkhead.enqueue("waiting")
    assert bulkhead.release() == "waiting"
    assert not bulkhead.acquire(), "the slot was never free"
    assert bulkhead.used == 1


def test_a_ticket_given_up_twice_or_after_it_was_served_counts_once() -> None:
    bulkhead = full()
    first, second = bulkhead.enqueue("first"), bulkhead.enqueue("second")
    assert first is not None
    assert second is not None
    bulkhead.abandon(second)
    bulkhead.abandon(second)
    assert bulkhead.live == 1
    assert bulkhead.release() == "first"
    bulkhead.abandon(first)
    assert bulkhead.live == 0
    assert bulkhead.release() is None
    assert bulkhead.used == 0


def test_the_queue_has_a_bound() -> None:
    bulkhead = full(queue_limit=2)
    assert bulkhead.enqueue(1)
    ticket = bulkhead.enqueue(2)
    assert ticket
    assert bulkhead.enqueue(3) is None
    bulkhead.abandon(ticket)
    assert bulkhead.enqueue(4)


def test_p33_a_million_expired_waiters_leave_nothing_behind() -> None:
    bulkhead = full(queue_limit=10)
    stays = bulkhead.enqueue("stays")
    largest = 0
    for number in range(1_000_000):
        ticket = bulkhead.enqueue(number)
        assert ticket is not None
        bulkhead.abandon(ticket)
        if not number % 1000:
            largest = max(largest, len(bulkhead._queue or ()))
    assert largest < 100
    assert bulkhead.live == 1
    assert stays is not None
    assert bulkhead.release() == "stays"


def test_p35_shrinking_takes_nothing_away_and_grants_nothing_until_it_fits() -> None:
    bulkhead = full(5)
    for name in "abc":
        bulkhead.enqueue(name)
    assert bulkhead.resize(2) == []
    assert bulkhead.used == 5
    assert [bulkhead.release() for _ in range(3)] == [None, None, None]
    assert bulkhead.used == 2
    assert bulkhead.release() == "a"
    assert not bulkhead.acquire()


def test_growing_serves_those_who_wait() -> None:
    bulkhead = full(1)
    for name in "abc":
        bulkhead.enqueue(name)
    assert bulkhead.resize(3) == ["a", "b"]
    assert bulkhead.used == 3
    assert bulkhead.live == 1


def test_an_idle_bulkhead_is_small() -> None:
    bulkhead = full()
    ticket = bulkhead.enqueue("x")
    assert ticket
    bulkhead.abandon(ticket)
    assert bulkhead._queue is None
    assert sys.getsizeof(bulkhead) < 150


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"limit": 0}, "bulkhead.limit"),
        ({"limit": 1.5}, "bulkhead.limit"),
        ({"limit": True}, "bulkhead.limit"),
        ({"queue_limit": -1}, "bulkhead.queue_limit"),
        ({"queue_timeout": float("nan")}, "bulkhead.queue_timeout"),
        ({"queue_timeout": -0.1}, "bulkhead.queue_timeout"),
        ({"order": "random"}, "bulkhead.order"),
    ],
)
def test_a_bad_setting_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(SettingError, match=field) as caught:
        BulkheadSettings(**changes)
    assert repr(next(iter(changes.values()))) in str(caught.value)


class BulkheadMachine(RuleBasedStateMachine):
    """Against a list and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.bulkhead = Bulkhead(2, queue_limit=5)
        self.limit = 2
        self.holding = 0
        self.waiting: deque[tuple[int, Any]] = deque()
        self.next = 0

    @rule()
    def arrive(self) -> None:
        if self.bulkhead.acquire():
            assert not self.waiting, "it overtook"
            self.holding += 1
            return
        ticket = self.bulkhead.enqueue(self.next)
        assert (ticket is None) == (len(self.waiting) >= 5)
        if ticket is not None:
            self.waiting.append((self.next, ticket))
        self.next += 1

    @precondition(lambda self: self.holding)
    @rule()
    def leave(self) -> None:
        served = self.bulkhead.release()
        self.holding -= 1
        if self.waiting and self.holding < self.limit:
            assert served == self.waiting.popleft()[0]
            self.holding += 1
        else:
            assert served is None

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(list(self.waiting)))
        self.bulkhead.abandon(entry[1])
        self.waiting.remove(entry)

    @rule(limit=st.integers(1, 4))
    def resize(self, limit: int) -> None:
        served = self.bulkhead.resize(limit)
        self.limit = limit
        expected = []
        while self.waiting and self.holding < limit:
            expected.append(self.waiting.popleft()[0])
            self.holding += 1
        assert served == expected

    @invariant()
    def agrees(self) -> None:
        assert self.bulkhead.used == self.holding
        assert self.bulkhead.live == len(self.waiting)
        assert not self.waiting or self.holding >= self.limit


TestBulkheadMachine = BulkheadMachine.TestCase
TestBulkheadMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)

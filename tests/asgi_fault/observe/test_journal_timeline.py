"""Timelines: one line a call, in plain ASCII whatever clients send, of bounded size."""

from typing import Any

import pytest

from asgi_fault.observe.journal import Connection
from asgi_fault.observe.timeline import CALLS_MAX, gap_text, timeline
from tests.asgi_fault.observe.journal_entries import attempts_of, entry, shown


def ended(how: str) -> Connection:
    connection = Connection(1, 0.0)
    connection.ended = how
    return connection


def test_one_line_a_call() -> None:
    entries = attempts_of(503, 503, 200, gaps=(0.43, 0.91), method="POST", target="/~blue/orders?x=1")
    assert timeline(entries) == "POST /orders  order-7  |--x 503--0.43s--x 503--0.91s--ok|"


def test_calls_stand_in_the_order_they_came_in_and_line_up() -> None:
    entries = shown(
        entry(1, at=1000, target="/a"),
        entry(2, at=1000.2, key="k", status=429),
        entry(3, at=1001, target="/a", status=0),
    )
    assert timeline(entries).splitlines() == ["GET /a       |--ok--1.00s--x left|", "GET /msg  k  |--x 429|"]


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ({"status": 200}, "ok"),
        ({"status": 204}, "ok 204"),
        ({"status": 302}, "-> 302"),
        ({"status": 304}, "ok 304"),
        ({"status": 404}, "x 404"),
        ({"status": 0}, "x left"),
        ({"status": 200, "took": None}, "x 200 left"),
        ({"status": 0, "rule": "r"}, "x nothing"),
        ({"status": 0, "rule": "r", "connection": ended("server-reset")}, "x reset"),
        ({"status": 0, "rule": "r", "connection": ended("server-close")}, "x close"),
        ({"status": 0, "rule": "r", "took": None, "connection": ended("client-fin")}, "x left"),
        ({"status": 200, "rule": "r", "connection": ended("server-half-close")}, "x 200 half-close"),
        ({"status": 200, "connection": ended("server-close")}, "ok"),
        ({"status": 200, "rule": "r", "connection": ended("client-fin")}, "ok"),
    ],
)
def test_an_attempt_says_what_came_of_it(outcome: dict[str, Any], text: str) -> None:
    assert timeline(shown(entry(1, **outcome))) == f"GET /msg  |--{text}|"


@pytest.mark.parametrize(
    ("gap", "text"),
    [(None, "?"), (0.0, "0ms"), (0.0123, "12ms"), (0.0996, "0.10s"), (0.43, "0.43s"), (30.0, "30.00s"),
     (-0.2, "overlap 0.20s")],
)  # fmt: skip
def test_a_gap_is_read_at_a_glance(gap: float | None, text: str) -> None:
    assert gap_text(gap) == text


def test_it_stays_small() -> None:
    many = attempts_of(*[503] * 500, gaps=(1.0,) * 499, target="/" + "a" * 3000)
    (line,) = timeline(many).splitlines()
    assert "--(488 more)--" in line
    assert len(line) < 300
    calls = shown(*(entry(i, key=f"k{i}") for i in range(1, 200)))
    lines = timeline(calls).splitlines()
    assert len(lines) == CALLS_MAX + 1
    assert lines[-1] == "... and 149 more calls"


def test_nothing_a_client_sends_can_move_the_cursor() -> None:
    text = timeline(shown(entry(1, target="/%1b[2J%0aok/\xe9", key="\x1b[31m\r")))
    assert text.isascii()
    assert text.isprintable()


def test_of_nothing_there_is_nothing() -> None:
    assert timeline([]) == ""

"""What no schema can say: each contradiction, at the key that has to change."""

from typing import Any

import pytest

from tests.asgi_fault.faults.rule_documents import plan_of, refused, refused_step, rule_set

AT_HEAD = {"how": "reset", "at": "after-head"}
BEFORE = {"how": "reset", "at": "before-head"}
MID = {"how": "reset", "at": "mid-body"}
LAST = {"how": "reset", "at": "after-body"}
FORGED = {"status": 200}


@pytest.mark.parametrize(
    ("step", "loc"),
    [
        ({"silence": True, "status": 503}, ["status"]),
        ({"silence": True, "delay_s": 1}, ["delay_s"]),
        ({"garbage": {"bytes": 1}, "body": {"text": ""}}, ["body"]),
        ({"garbage": {"bytes": 1}, "end": LAST}, ["end"]),
        ({"redirect": {"to": "/x"}, "status": 301}, ["status"]),
        ({"truncate": {"share": 0.5}, "chunked": "plain"}, ["chunked"]),
        ({"truncate": {"share": 0.5}, "content_length": "missing"}, ["content_length"]),
        ({"content_length": "duplicate", "chunked": "plain"}, ["chunked"]),
        ({"forge": FORGED, "truncate": {"bytes": 0}}, ["truncate"]),
        ({"status": 204, "body": {"text": "x"}}, ["body"]),
        ({"status": 304, "body": {"json": 1}}, ["body"]),
        ({"forge": {"status": 204, "body": {"text": "x"}}}, ["forge", "body"]),
        ({"headers": {"Content-Length": "5"}}, ["headers", "Content-Length"]),
        ({"headers": {"Transfer-Encoding": "chunked"}}, ["headers", "Transfer-Encoding"]),
        ({"forge": {"status": 200, "headers": {"content-length": "5"}}}, ["forge", "headers", "content-length"]),
        ({"redirect": {"to": "/x"}, "headers": {"Location": "/y"}}, ["headers", "Location"]),
        ({"retry_after": 1, "headers": {"retry-after": "2"}}, ["headers", "retry-after"]),
        ({"body": {"base64": "A" * 1_398_104}}, ["body", "base64"]),
        ({"body": {"base64": "AA=="}, "truncate": {"bytes": 1}}, ["truncate", "bytes"]),
        ({"body": {"base64": "AAAAAAA="}, "truncate": {"bytes": 5}}, ["truncate", "bytes"]),
        ({"body": {"text": "é" * 600_000}}, ["body", "text"]),
        ({"body": {"json": ["é" * 600_000]}}, ["body", "json"]),
        ({"delay_s": {"uniform": [2, 1]}}, ["delay_s", "uniform"]),
        ({"delay_s": {"histogram": [[2, 1], [2, 1]]}}, ["delay_s", "histogram"]),
        ({"delay_s": {"histogram": [[1, 0], [2, 0]]}}, ["delay_s", "histogram"]),
        ({"retry_after": {"raw": "x", "date_s": 1}}, ["retry_after", "raw"]),
        ({"retry_after": {"form": "asctime"}}, ["retry_after", "form"]),
        ({"informational": [103, 101]}, ["informational", 1]),
        ({"body": {"text": "four"}, "truncate": {"bytes": 4}}, ["truncate", "bytes"]),
        ({"body": {"bytes": 4}, "truncate": {"bytes": 5}}, ["truncate", "bytes"]),
        ({"body": {"text": ""}, "truncate": {"share": 0}}, ["truncate", "share"]),
        ({"status": 204, "truncate": {"share": 0.5}}, ["truncate", "share"]),
        ({"body": {"text": ""}, "stall": {"at": "mid-body", "for_s": 1}}, ["stall", "at"]),
        ({"status": 304, "end": MID}, ["end", "at"]),
        ({"status": 204, "chunked": "plain"}, ["chunked"]),
        ({"body": {"text": "four"}, "content_length": {"add": -5}}, ["content_length", "add"]),
        ({"forge": FORGED, "content_length": "missing"}, ["content_length"]),
        ({"forge": FORGED, "chunked": "no-last-chunk"}, ["chunked"]),
        ({"forge": FORGED, "stall": {"at": "mid-body"}}, ["forge"]),
        ({"end": LAST, "stall": {"at": "before-head"}}, ["end"]),
        ({"end": AT_HEAD, "stall": {"at": "mid-body", "for_s": 1}}, ["stall", "at"]),
        ({"end": BEFORE, "drip": {"bytes_per_s": 1, "head": True}}, ["drip"]),
        ({"end": BEFORE, "truncate": {"share": 0.5}}, ["truncate"]),
        ({"end": BEFORE, "content_length": {"add": 1}}, ["content_length"]),
        ({"end": BEFORE, "chunked": "plain"}, ["chunked"]),
        ({"end": BEFORE, "forge": FORGED}, ["forge"]),
        ({"end": AT_HEAD, "forge": FORGED}, ["forge"]),
        ({"end": AT_HEAD, "truncate": {"share": 0.5}}, ["truncate"]),
        ({"end": AT_HEAD, "drip": {"bytes_per_s": 1}}, ["drip"]),
        ({"end": AT_HEAD, "chunked": "bad-chunk"}, ["chunked"]),
        ({"end": MID, "forge": FORGED}, ["forge"]),
        ({"end": MID, "chunked": "no-last-chunk"}, ["chunked"]),
        ({"end": LAST, "truncate": {"share": 0.5}}, ["end", "at"]),
    ],
)
def test_contradictions_in_a_step(step: dict[str, Any], loc: list[Any]) -> None:
    found = refused_step(step)
    assert [at for at, _ in found] == [loc]
    assert found[0][1].startswith("Value error, ")


@pytest.mark.parametrize(
    "step",
    [
        {"retry_after": 2},
        {"retry_after": {"raw": "soon"}},
        {"delay_s": {"uniform": [1, 1]}},
        {"body": {"template": "x"}, "truncate": {"bytes": 1}},
        {"status": 503, "retry_after": 2, "delay_s": 0.5, "end": BEFORE},
        {"body": {"text": "four"}, "truncate": {"bytes": 3}},
        {"status": 503, "truncate": {"bytes": 3}},
        {"body": {"base64": "AAAAAAA="}, "truncate": {"bytes": 4}},
        {"body": {"template": ""}, "truncate": {"bytes": 3}},
        {"truncate": {"bytes": 10**6}, "end": MID},
        {"stall": {"at": "mid-body", "for_s": 1}, "end": MID},
        {"stall": {"at": "mid-body"}, "truncate": {"share": 0.5}},
        {"end": AT_HEAD, "drip": {"bytes_per_s": 1, "head": True}},
        {"end": MID, "chunked": "bad-chunk"},
        {"forge": FORGED, "content_length": {"add": 50}},
        {"forge": FORGED, "end": LAST},
        {"body": {"text": "four"}, "content_length": {"add": -4}},
        {"garbage": {"bytes": 1}, "delay_s": 1},
        {"informational": [103], "end": BEFORE},
        {"silence": False, "status": 503},
    ],
)
def test_what_only_looks_contradictory(step: dict[str, Any]) -> None:
    plan_of(step)


@pytest.mark.parametrize(
    ("match", "loc"),
    [
        ({"path": "/~blue/msg"}, ["path"]),
        ({"path": "/a**"}, ["path"]),
        ({"path": "/*" * 9}, ["path"]),
        ({"headers": {"a": {"regex": "("}}}, ["headers", "a", "regex"]),
        ({"query": {"a": {"regex": r"(.)\1"}}}, ["query", "a", "regex"]),
        ({"body_bytes": {"min": 2, "max": 1}}, ["body_bytes", "max"]),
        ({"between_s": [5, 5]}, ["between_s"]),
        ({"between_s": [5, 9], "for_s": 5}, ["for_s"]),
        ({"nth": 3, "every": 2}, ["nth"]),
        ({"nth": [4, 6], "first": 3}, ["nth"]),
        ({"every": 3, "first": 2}, ["first"]),
    ],
)
def test_conditions_that_are_never_met(match: dict[str, Any], loc: list[Any]) -> None:
    assert [at for at, _ in refused({"match": match, "then": {}})] == [[0, "match", *loc]]


@pytest.mark.parametrize(
    ("rule", "loc"),
    [
        ({}, []),
        ({"match": {}}, []),
        ({"rate_limit": {"algorithm": "fixed-window", "limit": 1, "window_s": 1}, "then": {}}, ["then"]),
        ({"rate_limit": {"algorithm": "fixed-window", "limit": 1, "window_s": 1}, "script": [{}]}, ["script"]),
        ({"id": "schema", "then": {}}, ["id"]),
        ({"id": "Fail-Count", "then": {}}, ["id"]),
        ({"id": "x-fault", "then": {}}, ["id"]),
    ],
)
def test_rules_that_make_no_sense(rule: dict[str, Any], loc: list[Any]) -> None:
    assert [at for at, _ in refused(rule)] == [[0, *loc]]


def test_an_id_may_not_come_twice_in_one_request() -> None:
    assert [at for at, _ in refused({"id": "a", "then": {}}, {"id": "b", "then": {}}, {"id": "a", "then": {}})] == [
        [2, "id"]
    ]


def test_mistakes_of_both_kinds_and_of_all_rules_come_at_once() -> None:
    found = refused({"then": {"status": 99}}, {"then": {"silence": True, "status": 503}}, 5, {"script": [{}, {"x": 1}]})
    assert [at for at, _ in found] == [[0, "then", "status"], [2], [3, "script", 1, "x"], [1, "then", "status"]]


@pytest.mark.parametrize(
    ("step", "loc"),
    [
        ({"informational": [103]}, ["informational"]),
        ({"drip": {"bytes_per_s": 1, "head": True}}, ["drip", "head"]),
        ({"stall": {"at": "in-head"}}, ["stall", "at"]),
        ({"truncate": {"share": 0.5}}, ["truncate"]),
        ({"content_length": "missing"}, ["content_length"]),
        ({"chunked": "bad-chunk"}, ["chunked"]),
        ({"chunked": "no-last-chunk"}, ["chunked"]),
        ({"end": BEFORE}, ["end"]),
        ({"end": {"how": "half-close", "at": "after-body"}}, ["end"]),
        ({"end": {"how": "close", "at": "mid-body"}}, ["end"]),
        ({"garbage": {"bytes": 1}}, ["garbage"]),
        ({"forge": FORGED}, ["forge"]),
    ],
)
def test_what_needs_the_connection_is_refused_without_it_and_says_where_to_get_it(step: Any, loc: list[Any]) -> None:
    plan_of(step)
    found = refused_step(step, wire=False)
    assert [at for at, _ in found] == [loc]
    assert "asgi-fault serve" in found[0][1]
    assert "--http asgi_fault.faults.wire:HttpTools" in found[0][1]


def test_what_does_not_need_the_connection() -> None:
    rule_set(
        {
            "script": [
                {"end": {"how": "close", "at": "after-body"}},
                {"chunked": "plain"},
                {"drip": {"bytes_per_s": 1, "head": False}},
                {"stall": {"at": "mid-body"}},
                {"silence": True},
            ]
        },
        wire=False,
    )

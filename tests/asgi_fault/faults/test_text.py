"""X-Fault: every key in text, and the same checks as for a rule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_fault.errors import ValidationFailed
from asgi_fault.faults.plan import Plan
from asgi_fault.faults.text import _KEYS, HEADER, QUERY, plan_from_text
from tests.asgi_fault.faults.rule_documents import arrival, plan_of


def plan(text: str, *, wire: bool = True) -> Plan:
    return plan_from_text(text, arrival(prefix="/~p"), 0, "p", wire=wire)


def violations(text: str, *, wire: bool = True) -> list[dict[str, Any]]:
    with pytest.raises(ValidationFailed) as caught:
        plan(text, wire=wire)
    assert isinstance(caught.value.detail, list)
    return caught.value.detail


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("", {}),
        (" ; ;", {}),
        ("status=503", {"status": 503}),
        ("STATUS=503 ; Retry-After = 2;", {"status": 503, "retry_after": 2}),
        ("retry-after=date:2", {"retry_after": {"date_s": 2, "form": "imf-fixdate"}}),
        ("retry-after=rfc850:-2", {"retry_after": {"date_s": -2, "form": "rfc850"}}),
        ("retry-after=asctime:0.5", {"retry_after": {"date_s": 0.5, "form": "asctime"}}),
        ("retry-after=date:soon", {"retry_after": {"raw": "date:soon"}}),
        ("retry-after=day:2", {"retry_after": {"raw": "day:2"}}),
        ("retry-after=soon", {"retry_after": {"raw": "soon"}}),
        ("retry-after=999999999999999999", {"retry_after": 999999999999999999}),
        ("retry-after=1000000000000000000", {"retry_after": {"raw": "1000000000000000000"}}),
        ("retry-after=-1", {"retry_after": {"raw": "-1"}}),
        ("retry-after=1.5", {"retry_after": {"raw": "1.5"}}),
        ("retry-after=", {"retry_after": {"raw": ""}}),
        ("delay=0.5", {"delay_s": 0.5}),
        ("body=a%3Bb", {"body": {"text": "a;b"}}),
        ("json=%7B%22a%22:1}", {"body": {"json": {"a": 1}}}),
        ("html=<p>", {"body": {"html": "<p>"}}),
        ("template={path}", {"body": {"template": "{path}"}}),
        ("base64=AP8=", {"body": {"base64": "AP8="}}),
        ("bytes=3", {"body": {"bytes": 3}}),
        ("header=X-A:1;header=x-b: 2=3;header=X-A:4", {"headers": {"X-A": ["1", "4"], "x-b": "2=3"}}),
        ("redirect=/x", {"redirect": {"to": "/x"}}),
        ("redirect=loop;status=307", {"redirect": {"to": "loop", "status": 307}}),
        ("informational=102, 103", {"informational": [102, 103]}),
        ("drip=10", {"drip": {"bytes_per_s": 10}}),
        ("drip-head=0.5", {"drip": {"bytes_per_s": 0.5, "head": True}}),
        ("stall=mid-body", {"stall": {"at": "mid-body"}}),
        ("stall=in-head:5", {"stall": {"at": "in-head", "for_s": 5}}),
        ("truncate=10", {"truncate": {"bytes": 10}}),
        ("truncate=50%", {"truncate": {"share": 0.5}}),
        ("truncate=0.25", {"truncate": {"share": 0.25}}),
        ("content-length=7", {"content_length": {"value": 7}}),
        ("content-length=+7", {"content_length": {"add": 7}}),
        ("content-length=-7", {"content_length": {"add": -7}}),
        ("content-length=missing", {"content_length": "missing"}),
        ("chunked=bad-chunk", {"chunked": "bad-chunk"}),
        ("close=before-head", {"end": {"how": "close", "at": "before-head"}}),
        ("half-close=after-body", {"end": {"how": "half-close", "at": "after-body"}}),
        ("reset=mid-body", {"end": {"how": "reset", "at": "mid-body"}}),
        ("silence", {"silence": True}),
        ("silence=true", {"silence": True}),
        (' {"status": 503, "forge": {"status": 200}}', {"status": 503, "forge": {"status": 200}}),
    ],
)
def test_keys(text: str, step: dict[str, Any]) -> None:
    expected = plan_of(step, at=arrival(prefix="/~p"))
    found = plan(text)
    assert found.rule_id == "X-Fault"
    assert [(name, getattr(found, name)) for name in Plan.__slots__ if name != "rule_id"] == [
        (name, getattr(expected, name)) for name in Plan.__slots__ if name != "rule_id"
    ]


def test_chance_is_decided_beforehand_here_too() -> None:
    assert plan("delay=0.1..0.5") == plan("delay=0.1..0.5")
    assert 0.1 <= plan("delay=0.1..0.5").delay <= 0.5
    assert len(plan("garbage=32").garbage or b"") == 32


@pytest.mark.parametrize(
    ("text", "loc", "kind"),
    [
        ("status=soon", ["status"], "int_type"),
        ("status=99", ["status"], "greater_than_equal"),
        ("status", ["status"], "missing"),
        ("statsu=503", ["statsu"], "extra_forbidden"),
        ("status=503;status=500", ["status"], "value_error"),
        ("body=a;json=1", ["json"], "value_error"),
        ("close=before-head;reset=before-head", ["reset"], "value_error"),
        ("delay=1..", ["delay_s", "uniform", 1], "float_type"),
        ("stall=mid-body:", ["stall", "for_s"], "float_type"),
        ("truncate=x%", ["truncate", "bytes"], "int_type"),
        ("content-length=many", ["content_length"], "literal_error"),
        ("content-length=-", ["content_length", "add"], "int_type"),
        ("header=a b:x", ["headers", "a b", "[key]"], "string_pattern_mismatch"),
        ("header=a:x%0D%0Ay", ["headers", "a", 0], "string_pattern_mismatch"),
        ("silence;status=503", ["status"], "value_error"),
        ("json={", ["json", 1], "json_invalid"),
        ("{", [1], "json_invalid"),
        ("{} x", [3], "json_invalid"),
        ("status=" + "9" * 3000, [], "string_too_long"),
    ],
)
def test_mistakes(text: str, loc: list[Any], kind: str) -> None:
    assert [(v["loc"], v["type"]) for v in violations(text)] == [(["header", "X-Fault", *loc], kind)]


def test_an_unknown_key_is_told_which_there_are() -> None:
    assert "there are status, header, body" in violations("x=1")[0]["msg"]


def test_where_it_stood() -> None:
    with pytest.raises(ValidationFailed) as caught:
        plan_from_text("status=1", arrival(), 0, "p", wire=True, loc=QUERY)
    assert caught.value.detail[0]["loc"] == ["query", "x-fault", "status"]  # type: ignore[index]
    with pytest.raises(ValidationFailed) as caught:
        plan_from_text("json={", arrival(), 0, "p", wire=True, loc=QUERY)
    assert caught.value.detail[0]["loc"] == ["query", "x-fault", "json", 1]  # type: ignore[index]
    assert HEADER == ("header", "X-Fault")


def test_without_wire() -> None:
    assert violations("reset=before-head", wire=False)[0]["loc"] == ["header", "X-Fault", "end"]
    plan("close=after-body", wire=False)


KEYS = st.sampled_from([*_KEYS, "x"])
VALUES = st.text(max_size=8) | st.sampled_from(
    ["503", "1..2", "mid-body:1", "50%", "+1", "missing", "a:b", "{}", "²", "%"]
)


@given(st.lists(st.builds("{}={}".format, KEYS, VALUES), max_size=4).map(";".join) | st.text(max_size=50))
def test_no_text_makes_it_fail_in_another_way(text: str) -> None:
    try:
        plan(text)
    except ValidationFailed:
        pass

"""Every key of a step and what it becomes in a plan."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from asgi_fault.errors import ValidationFailed
from asgi_fault.faults.plan import Answer, End, Plan, Stall
from tests.asgi_fault.faults.rule_documents import WALL, arrival, plan_of, rule_set, steps

JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; charset=utf-8")
HTML = (b"content-type", b"text/html; charset=utf-8")
BYTES = (b"content-type", b"application/octet-stream")


def answer_of(step: dict[str, Any], **options: Any) -> Answer:
    answer = plan_of(step, **options).answer
    assert answer is not None
    return answer


def test_an_empty_step_leaves_the_real_answer_untouched() -> None:
    assert plan_of({}) == Plan(rule_id="r1")


def test_rule_and_step_are_named() -> None:
    rules = rule_set({"id": "mine", "script": [{}, {"status": 500}], "then": {}})
    plans = [rules.decide(arrival()) for _ in range(4)]
    assert [(plan.rule_id, plan.step) for plan in plans if plan] == [
        ("mine", 0),
        ("mine", 1),
        ("mine", -1),
        ("mine", -1),
    ]


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (503, "Service Unavailable"),
        (413, "Content Too Large"),
        (422, "Unprocessable Content"),
        (599, "Status 599"),
    ],
)
def test_a_status_alone_says_its_phrase(status: int, phrase: str) -> None:
    assert answer_of({"status": status}) == Answer(status, (JSON,), b'{"detail":"%b"}' % phrase.encode())


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_body(status: int) -> None:
    assert answer_of({"status": status}) == Answer(status, (), b"")


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ({"json": {"a": [1, "é"]}}, JSON, '{"a":[1,"é"]}'.encode()),
        ({"json": None}, JSON, b"null"),
        ({"text": "grüß"}, TEXT, "grüß".encode()),
        ({"text": ""}, TEXT, b""),
        ({"html": "<p>"}, HTML, b"<p>"),
        ({"base64": "AP8="}, BYTES, b"\x00\xff"),
        ({"base64": ""}, BYTES, b""),
        ({"bytes": 0}, BYTES, b""),
        ({"bytes": 18}, BYTES, b"0123456789abcdef01"),
        ({"template": "{method} {path} {ordinal} {attempt}"}, TEXT, b"PUT /a{method} 7 1"),
        ({"template": '{"a": {ordinal}, "{b": "{}}'}, TEXT, b'{"a": 7, "{b": "{}}'),
    ],
)
def test_bodies(body: dict[str, Any], content_type: Any, expected: bytes) -> None:
    at = arrival("PUT", "/a{method}", ordinal=7)
    assert answer_of({"body": body}, at=at) == Answer(200, (content_type,), expected)


def test_a_template_shows_the_attempt() -> None:
    rules = rule_set({"then": {"body": {"template": "{attempt}"}}})
    plans = [rules.decide(arrival(headers={"Idempotency-Key": key})) for key in "aab"]
    assert [plan.answer.body for plan in plans if plan and plan.answer] == [b"1", b"2", b"1"]


def test_what_is_filled_in_is_bounded() -> None:
    at = arrival("M" * 100, "/" + "p" * 100_000)
    assert len(answer_of({"body": {"template": "{path}" * 2000 + "{method}"}}, at=at).body) == 2000 * 256 + 32


def test_headers_of_an_answer_and_of_the_real_one() -> None:
    headers = {"X-A": "1", "set-cookie": ["a=1", "b=2"], "x-\u00fc".replace("\u00fc", "u"): "gr\xfc\xdf"}
    fields = ((b"x-a", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-u", b"gr\xfc\xdf"))
    assert answer_of({"status": 503, "headers": headers}).headers == (JSON, *fields)
    assert plan_of({"status": 503, "headers": headers}).headers == ()
    assert plan_of({"headers": headers}).headers == fields
    assert plan_of({"headers": headers}).answer is None


def test_a_content_type_of_ones_own() -> None:
    answer = answer_of({"headers": {"Content-Type": "text/csv"}, "body": {"text": "a,b"}})
    assert answer.headers == ((b"content-type", b"text/csv"),)


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        (2, b"2"),
        (0, b"0"),
        (10**18, b"1000000000000000000"),
        ({"date_s": 2}, b"Tue, 14 Nov 2023 22:13:22 GMT"),
        ({"date_s": 1.5}, b"Tue, 14 Nov 2023 22:13:22 GMT"),
        ({"date_s": -1.5}, b"Tue, 14 Nov 2023 22:13:19 GMT"),
        ({"date_s": 2, "form": "rfc850"}, b"Tuesday, 14-Nov-23 22:13:22 GMT"),
        ({"date_s": 2, "form": "asctime"}, b"Tue Nov 14 22:13:22 2023"),
        ({"raw": "soon"}, b"soon"),
        ({"raw": ""}, b""),
        ({"raw": "-1"}, b"-1"),
    ],
)
def test_retry_after(retry_after: Any, expected: bytes) -> None:
    assert answer_of({"status": 503, "retry_after": retry_after}).headers == (JSON, (b"retry-after", expected))
    assert plan_of({"retry_after": retry_after}).headers == ((b"retry-after", expected),)


def test_a_date_is_the_arrivals() -> None:
    rules = rule_set({"then": {"status": 503, "retry_after": {"date_s": 0}}})
    dates = [rules.decide(arrival(now=now)) for now in (0.0, 60.0)]
    assert [dict(plan.answer.headers)[b"retry-after"][17:25] for plan in dates if plan and plan.answer] == [
        b"22:13:20",
        b"22:14:20",
    ]


@pytest.mark.parametrize(
    ("to", "location"),
    [("/x?a=1", b"/~p/x?a=1"), ("x", b"x"), ("//h/x", b"//h/x"), ("https://h/x", b"https://h/x"), ("/%7E", b"/~p/%7E")],
)
def test_redirects(to: str, location: bytes) -> None:
    answer = answer_of({"redirect": {"to": to}}, at=arrival(prefix="/~p"))
    assert answer == Answer(302, (JSON, (b"location", location)), b'{"detail":"Found"}')
    moved = answer_of({"redirect": {"to": to, "status": 308}, "headers": {"a": "b"}, "body": {"text": "x"}})
    assert moved.status == 308
    assert moved.headers[:2] == (TEXT, (b"a", b"b"))
    assert moved.body == b"x"


@pytest.mark.parametrize(
    ("path", "query", "location"),
    [
        ("/a", "", b"/~p/a?fault_hop=1"),
        ("/a", "fault_hop=1", b"/~p/a?fault_hop=2"),
        ("/a", "x=1&fault_hop=9&y=%20", b"/~p/a?x=1&y=%20&fault_hop=10"),
        ("/a", "fault_hop=999999999", b"/~p/a?fault_hop=1000000000"),
        ("/a", "fault_hop=1000000000", b"/~p/a?fault_hop=1"),
        ("/a", "fault_hop=x", b"/~p/a?fault_hop=1"),
        ("/a", "fault_hop=" + "9" * 50, b"/~p/a?fault_hop=1"),
        ("/a b/é?%", "", b"/~p/a%20b/%C3%A9%3F%25?fault_hop=1"),
        ("/a\r\nx: y", "\r\nx: y", b"/~p/a%0D%0Ax:%20y?%0D%0Ax:%20y&fault_hop=1"),
    ],
)
def test_a_redirect_loop_never_names_the_same_url_twice(path: str, query: str, location: bytes) -> None:
    answer = answer_of({"redirect": {"to": "loop"}}, at=arrival(path=path, query=query, prefix="/~p"))
    assert dict(answer.headers)[b"location"] == location


def delays(form: Any, number: int = 4000) -> list[float]:
    rules = rule_set({"then": {"delay_s": form}})
    plans = [rules.decide(arrival(ordinal=n)) for n in range(1, number + 1)]
    return sorted(plan.delay for plan in plans if plan)


def test_delays() -> None:
    assert plan_of({"delay_s": 2}).delay == 2.0
    uniform = delays({"uniform": [1, 3]})
    assert 1 <= uniform[0] < 1.05
    assert 2.95 < uniform[-1] <= 3
    assert uniform[2000] == pytest.approx(2, abs=0.1)
    lognormal = delays({"lognormal": {"median_s": 0.2, "sigma": 0.5}})
    assert lognormal[2000] == pytest.approx(0.2, rel=0.1)
    assert lognormal[int(4000 * 0.8413)] == pytest.approx(0.2 * 2.718281828**0.5, rel=0.1)
    histogram = delays({"histogram": [[1, 1], [2, 0], [4, 3]]})
    assert Counter("0-1" if d <= 1 else "1-2" if d < 2 else "2-4" for d in histogram)["1-2"] == 0
    assert sum(d <= 1 for d in histogram) == pytest.approx(1000, abs=120)
    assert histogram[2500] == pytest.approx(3, abs=0.15)
    assert max(delays({"lognormal": {"median_s": 86400, "sigma": 10}}, 50)) == 86_400


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"informational": [102, 103]}, {"informational": (102, 103)}),
        ({"drip": {"bytes_per_s": 10}}, {"bytes_per_second": 10.0}),
        ({"drip": {"bytes_per_s": 0.5, "head": True}}, {"bytes_per_second": 0.5, "drip_head": True}),
        ({"stall": {"at": "mid-body", "for_s": 5}}, {"stall": Stall("mid-body", 5.0)}),
        ({"stall": {"at": "in-head"}}, {"stall": Stall("in-head", None)}),
        ({"truncate": {"bytes": 7}}, {"cut": 7}),
        ({"truncate": {"share": 0}}, {"cut": 0.0}),
        ({"truncate": {"share": 0.5}}, {"cut": 0.5}),
        ({"content_length": {"add": -2}}, {"content_length_add": -2}),
        ({"content_length": {"value": 7}}, {"content_length": 7}),
        ({"content_length": "missing"}, {"framing": "missing"}),
        ({"content_length": "duplicate"}, {"framing": "duplicate"}),
        ({"content_length": "conflicting"}, {"framing": "conflicting"}),
        ({"chunked": "plain"}, {"framing": "chunked"}),
        ({"chunked": "bad-chunk"}, {"framing": "bad-chunk"}),
        ({"chunked": "no-last-chunk"}, {"framing": "no-last-chunk"}),
        ({"end": {"how": "half-close", "at": "after-head"}}, {"end": End("half-close", "after-head")}),
        ({"silence": True}, {"silent": True}),
        ({"silence": False}, {}),
        (
            {"forge": {"status": 302, "headers": {"Location": "/evil"}}},
            {"forged": Answer(302, (JSON, (b"location", b"/evil")), b'{"detail":"Found"}')},
        ),
        ({"forge": {"status": 200, "body": {"template": "{path}"}}}, {"forged": Answer(200, (TEXT,), b"/msg")}),
    ],
)
def test_what_goes_to_the_plan_as_it_is(step: dict[str, Any], expected: dict[str, Any]) -> None:
    plan = plan_of(step)
    assert plan == Plan(rule_id="r1", **expected)
    assert [type(value) for value in (plan.cut,)] == [type(expected.get("cut"))]


def test_garbage_is_random_and_exactly_as_long_as_asked() -> None:
    rules = rule_set({"then": {"garbage": {"bytes": 1000}}})
    plans = [rules.decide(arrival(ordinal=n)) for n in (1, 2)]
    assert [len(plan.garbage or b"") for plan in plans if plan] == [1000, 1000]
    assert len({plan.garbage for plan in plans if plan}) == 2


def test_a_plan_that_is_always_the_same_is_made_once() -> None:
    rules = rule_set({"then": {"status": 503, "body": {"text": "x"}}})
    assert rules.decide(arrival(ordinal=1)) is rules.decide(arrival(ordinal=2))


@given(steps)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_accepted_without_wire_never_needs_it_and_every_plan_can_be_written(step: Any) -> None:
    for wire in (False, True):
        try:
            plan = plan_of(step, wire=wire)
        except ValidationFailed:
            continue
        assert wire or not plan.needs_wire
        for answer in (plan.answer, plan.forged):
            if answer is not None:
                assert isinstance(answer.body, bytes)
                assert 200 <= answer.status <= 599
                for name, value in answer.headers:
                    assert name == name.lower()
                    assert not {10, 13, 0} & set(value)
        assert plan.delay >= 0


def test_numbers_that_are_whole_are_taken_as_whole() -> None:
    step = json.loads('{"status": 503.0, "retry_after": 2.0, "truncate": {"bytes": 1.0}, "informational": [103.0]}')
    plan = plan_of(step)
    assert plan.answer is not None
    assert (type(plan.answer.status), type(plan.cut), type(plan.informational[0])) == (int, int, int)
    assert plan.answer.headers[-1] == (b"retry-after", b"2")
    assert WALL

"""Reading JSON strictly: every refusal is a violation, with its place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_fault.errors import ValidationFailed
from asgi_fault.faults.documents import DEPTH_MAX, copy_of, read_json
from tests.asgi_fault.faults.rule_documents import json_values


def violations(body: bytes) -> list[dict[str, Any]]:
    with pytest.raises(ValidationFailed) as caught:
        read_json(body)
    assert isinstance(caught.value.detail, list)
    assert {violation["type"] for violation in caught.value.detail} == {"json_invalid"}
    return caught.value.detail


@pytest.mark.parametrize(
    ("body", "loc", "reason"),
    [
        (b"", ["body", 0], "Expecting value"),
        (b'{"a": }', ["body", 6], "Expecting value"),
        (b'{"a": 1} x', ["body", 9], "Extra data"),
        (b"{'a': 1}", ["body", 1], "Expecting property name enclosed in double quotes"),
        (b'"\xff"', ["body", 1], "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), ["body", 0], "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', ["body", 0], "Unexpected UTF-8 BOM (decode using utf-8-sig)"),
        (b'{"a": [1, NaN]}', ["body", "a", 1], "NaN is no number of JSON"),
        (b'{"a": -Infinity}', ["body", "a"], "-Infinity is no number of JSON"),
        (b'{"a": 1e999}', ["body", "a"], "1e999 is no number of JSON"),
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', ["body", "a", "b"], "the key comes more than once"),
        (b'{"a": "\\ud800"}', ["body", "a"], "half a surrogate pair is no character"),
        (b'{"a": "\\udfff"}', ["body", "a"], "half a surrogate pair is no character"),
        (b'{"\\ud800": 1}', ["body"], "half a surrogate pair is no character"),
        (b"[" * 100_000 + b"]" * 100_000, ["body"], "nested deeper than 32"),
        (b"[" * 100_000, ["body"], "nested deeper than 32"),
    ],
)
def test_what_is_refused_and_where(body: bytes, loc: list[Any], reason: str) -> None:
    found = violations(body)
    assert [(v["loc"], v["ctx"]["error"]) for v in found] == [(loc, reason)]


def test_a_number_with_too_many_digits_is_refused() -> None:
    (found,) = violations(b'{"a": 1' + b"0" * 5000 + b"}")
    assert found["loc"] == ["body", "a"]
    assert len(found["input"]) == 200


def test_all_refusals_come_at_once() -> None:
    assert {tuple(v["loc"]) for v in violations(b'{"a": NaN, "b": [Infinity], "a": NaN}')} == {
        ("body", "a"),
        ("body", "b", 0),
    }


def test_depth_is_counted_exactly() -> None:
    assert read_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    for deeper in (1, 5):
        (found,) = violations(b"[" * (DEPTH_MAX + deeper) + b"]" * (DEPTH_MAX + deeper))
        assert found["loc"] == ["body", *[0] * DEPTH_MAX]


@given(json_values)
def test_everything_else_is_read_as_the_standard_library_reads_it(value: object) -> None:
    assert read_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:0123456789.eE+-\\u truefalsnNI', max_size=40).map(str.encode))
def test_no_bytes_make_it_fail_in_another_way(body: bytes) -> None:
    try:
        value = read_json(body)
    except ValidationFailed:
        return
    assert read_json(json.dumps(value).encode()) == value


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def _well(depth: int) -> list[Any]:
    well: list[Any] = []
    for _ in range(depth):
        well = [well]
    return well


@pytest.mark.parametrize("value", [float("nan"), b"bytes", object(), "\ud800", _circle(), _well(50), _well(50_000), 1j])
def test_what_python_has_and_json_has_not_is_refused(value: object) -> None:
    with pytest.raises(ValidationFailed):
        copy_of({"a": value})


def test_a_copy_shares_nothing() -> None:
    inner: list[Any] = [1]
    copied = copy_of({"a": inner, "b": (1, 2)})
    inner.append(2)
    assert copied == {"a": [1], "b": [1, 2]}

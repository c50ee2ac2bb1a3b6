"""The schema and its interpreter: agreement with the jsonschema library, paths and words of the violations."""

from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema.validators import extend

from asgi_fault.faults.checks import VIOLATIONS_MAX, Findings, check
from asgi_fault.faults.schema import SCHEMA
from tests.asgi_fault.faults.rule_documents import documents, json_values


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Any:
    """`pattern` as ECMA 262 has it, where `$` is the very end; the library takes Python's."""
    return jsonschema.Draft202012Validator.VALIDATORS["pattern"](
        validator, pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern, instance, schema
    )


ORACLE = extend(jsonschema.Draft202012Validator, {"pattern": _pattern})(SCHEMA)


def violations(document: object) -> list[dict[str, Any]]:
    findings = Findings()
    check(document, SCHEMA, (), findings)
    return findings.violations


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def _place(violation: dict[str, Any]) -> tuple[Any, ...]:
    """Where the library would see it: at the object that has a key too many, too few or of a wrong name."""
    loc = tuple(violation["loc"])
    if loc and loc[-1] == "[key]":
        return loc[:-2]
    return loc[:-1] if violation["type"] in ("missing", "extra_forbidden") else loc


@given(documents | json_values)
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
def test_it_finds_what_the_jsonschema_library_finds_and_at_the_same_places(document: object) -> None:
    ours = violations(document)
    theirs = list(ORACLE.iter_errors(document))
    assert bool(ours) == bool(theirs)
    cut_short = any(v["type"] == "too_long" and "max_length" in v["ctx"] for v in ours if "ctx" in v)
    if len(ours) < VIOLATIONS_MAX and not cut_short:
        assert {_place(v) for v in ours} == {tuple(error.absolute_path) for error in theirs}


@pytest.mark.parametrize(
    ("step", "kind", "loc"),
    [
        ({"status": "503"}, "int_type", ["status"]),
        ({"status": 503.5}, "int_from_float", ["status"]),
        ({"status": True}, "int_type", ["status"]),
        ({"status": 199}, "greater_than_equal", ["status"]),
        ({"status": 600}, "less_than_equal", ["status"]),
        ({"delay_s": "1"}, "float_type", ["delay_s"]),
        ({"delay_s": {"uniform": [1]}}, "too_short", ["delay_s", "uniform"]),
        ({"delay_s": {"uniform": [1, 2, 3]}}, "too_long", ["delay_s", "uniform"]),
        ({"delay_s": {"lognormal": {"median_s": 1}}}, "missing", ["delay_s", "lognormal", "sigma"]),
        ({"delay_s": {}}, "too_short", ["delay_s"]),
        ({"delay_s": {"uniform": [0, 1], "histogram": [[1, 1]]}}, "too_long", ["delay_s"]),
        ({"drip": {"bytes_per_s": 0}}, "greater_than", ["drip", "bytes_per_s"]),
        ({"truncate": {"share": 1}}, "less_than", ["truncate", "share"]),
        ({"headers": {"a b": "x"}}, "string_pattern_mismatch", ["headers", "a b", "[key]"]),
        ({"headers": {"a": "x\r\ny"}}, "string_pattern_mismatch", ["headers", "a"]),
        ({"headers": {"a": ["x", "\x00"]}}, "string_pattern_mismatch", ["headers", "a", 1]),
        ({"headers": {"a": "x" * 8193}}, "string_too_long", ["headers", "a"]),
        ({"headers": []}, "dict_type", ["headers"]),
        ({"chunked": "yes"}, "literal_error", ["chunked"]),
        ({"end": {"how": "close", "at": "in-head"}}, "literal_error", ["end", "at"]),
        ({"redirect": {"to": "/x", "status": 300}}, "literal_error", ["redirect", "status"]),
        ({"silence": 1}, "bool_type", ["silence"]),
        ({"informational": 103}, "list_type", ["informational"]),
        ({"body": {"base64": "A"}}, "string_pattern_mismatch", ["body", "base64"]),
        ({"body": {"base64": "AA="}}, "string_pattern_mismatch", ["body", "base64"]),
        ({"body": {"base64": "A\nAA"}}, "string_pattern_mismatch", ["body", "base64"]),
        ({"body": {"text": 1}}, "string_type", ["body", "text"]),
        ({"statsu": 503}, "extra_forbidden", ["statsu"]),
    ],
)
def test_a_violation_has_pydantics_word_and_the_path(step: Any, kind: str, loc: list[Any]) -> None:
    found = violations({"rules": [{"then": {}}, {"script": [{}, step]}]})
    assert [(v["type"], v["loc"]) for v in found] == [(kind, ["rules", 1, "script", 1, *loc])]


def test_the_words_are_pydantics() -> None:
    assert violations({"then": {"chunked": "x", "status": 600, "drip": {}}}) == [
        {
            "type": "literal_error",
            "loc": ["then", "chunked"],
            "msg": "Input should be 'plain', 'bad-chunk' or 'no-last-chunk'",
            "input": "x",
            "ctx": {"expected": "'plain', 'bad-chunk' or 'no-last-chunk'"},
        },
        {
            "type": "less_than_equal",
            "loc": ["then", "status"],
            "msg": "Input should be less than or equal to 599",
            "input": 600,
            "ctx": {"le": 599},
        },
        {"type": "missing", "loc": ["then", "drip", "bytes_per_s"], "msg": "Field required", "input": {}},
    ]


def test_every_mistake_is_found_at_once_but_no_more_than_fifty() -> None:
    assert len(violations({"script": [{"x": 1}] * 50})) == 50
    findings = Findings()
    check({"script": [{"x": 1}] * 1000}, SCHEMA, (), findings)
    assert len(findings.violations) == VIOLATIONS_MAX
    assert findings.full


def test_a_list_that_is_too_long_is_not_read() -> None:
    found = violations({"rules": [{"x": 1}] * 10_000})
    assert [(v["type"], v["loc"]) for v in found] == [("too_long", ["rules"])]
    assert found[0]["ctx"] == {"max_length": 1000, "actual_length": 10_000}
    assert found[0]["input"] == "(10000 items)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [("x" * 5000, "x" * 200), ([1, "x" * 5000], '[1, "' + "x" * 195), (10**4000, "1" + "0" * 199)],
)
def test_a_rejected_value_is_repeated_in_part_only(value: object, shown: str) -> None:
    findings = Findings()
    findings.add("kind", (), "message", value)
    assert findings.violations[0]["input"] == shown

"""Schemas from examples: what an example shows is required, what it cannot show is left open."""

from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from asgi_fault.docs.inference import schema_of

UUID = "6f1d1b1e-0a53-4cf0-9d5c-6d1f3b1f0a11"


def accepts(schema: dict[str, Any], value: Any) -> bool:
    return OAS31Validator(schema, format_checker=OAS31Validator.FORMAT_CHECKER).is_valid(value)


@pytest.mark.parametrize(
    ("example", "schema"),
    [
        (True, {"type": "boolean"}),
        (1, {"type": "integer"}),
        (0.0, {"type": "number"}),
        ("text", {"type": "string"}),
        (UUID, {"type": "string", "format": "uuid"}),
        ("2026-11-21T03:00:00.000Z", {"type": "string", "format": "date-time"}),
        ([], {"type": "array"}),
        ([1, 2], {"type": "array", "items": {"type": "integer"}}),
        ([1, "a", 2], {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}),
        ({"a": 1}, {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
    ],
)
def test_a_value_has_the_type_it_shows(example: Any, schema: dict[str, Any]) -> None:
    assert schema_of(example) == schema
    assert accepts(schema_of(example), example)


def test_a_null_named_for_a_unit_is_a_number_or_null() -> None:
    schema = schema_of({"fail_until_timestamp": None})
    assert accepts(schema, {"fail_until_timestamp": 1.5})
    assert accepts(schema, {"fail_until_timestamp": None})
    assert not accepts(schema, {"fail_until_timestamp": "soon"})
    assert not accepts(schema, {})


def test_any_other_null_says_nothing_about_the_type() -> None:
    schema = schema_of({"owner": None})
    assert accepts(schema, {"owner": "me"})
    assert accepts(schema, {"owner": None})


def test_a_text_that_only_contains_a_uuid_is_text() -> None:
    assert schema_of(f"id {UUID}") == {"type": "string"}


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no form in JSON"):
        schema_of({"a": {1}})

"""Checks a JSON document against `schema`: every mistake at once, in pydantic's vocabulary, with its path in the JSON.

An interpreter of the keywords that `schema` uses. A test holds it against the `jsonschema` library.
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache

from asgi_fault.errors import ValidationFailed
from asgi_fault.faults.schema import SCHEMA, Schema
from asgi_fault.parameters import Violation

VIOLATIONS_MAX = 50
SHOWN_MAX = 200  # characters of a rejected value that an error repeats

Loc = tuple[str | int, ...]

_TYPES = {
    "object": ("dict_type", "dictionary"),
    "array": ("list_type", "list"),
    "string": ("string_type", "string"),
    "boolean": ("bool_type", "boolean"),
    "integer": ("int_type", "integer"),
    "number": ("float_type", "number"),
    "null": ("none_required", "null"),
}
_WORDS = re.compile(r"\^\(([a-z0-9|-]+)\)\$")


class Findings:
    """The violations found so far; the first 50, and whether there were more."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.full = False

    def add(self, kind: str, loc: Loc, message: str, value: object, **ctx: object) -> None:
        """Note that `value`, found at `loc`, is wrong."""
        if len(self.violations) == VIOLATIONS_MAX:
            self.full = True
            return
        violation: Violation = {"type": kind, "loc": list(loc), "msg": message, "input": shown(value)}
        if ctx:
            violation["ctx"] = ctx
        self.violations.append(violation)

    def contradiction(self, loc: Loc, message: str, value: object = None) -> None:
        """Note that what stands at `loc` cannot be, given the rest."""
        self.add("value_error", loc, f"Value error, {message}", value, error=message)

    def raise_any(self) -> None:
        """Raise what was found.

        Raises:
            ValidationFailed: something was.
        """
        if not self.violations:
            return
        if self.full:
            note = f"Only the first {VIOLATIONS_MAX} violations are listed"
            self.violations.append({"type": "too_many_violations", "loc": ["body"], "msg": note, "input": None})
        raise ValidationFailed(self.violations)


def shown(value: object) -> object:
    """`value`, or what there is of it in so many characters."""
    if isinstance(value, str):
        return value[:SHOWN_MAX]
    if isinstance(value, list | dict) and len(value) > SHOWN_MAX:
        return f"({len(value)} items)"
    if value is None or isinstance(value, bool | float):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= SHOWN_MAX else text[:SHOWN_MAX]


def check(value: object, schema: Schema, loc: Loc, findings: Findings) -> None:
    """Add to `findings` whatever `schema` has against `value`."""
    if "if" in schema:
        names_all = isinstance(value, dict) and all(key in value for key in schema["if"]["required"])
        schema = schema["then"] if names_all else schema["else"]
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    types = schema.get("type", [])
    if isinstance(types, str):
        types = [types]
    if types and not any(_is(value, name) for name in types):
        _wrong_type(value, types, loc, findings)
    elif "enum" in schema and (isinstance(value, bool) or value not in schema["enum"]):
        _not_among(value, schema["enum"], loc, findings)
    elif isinstance(value, str):
        _check_text(value, schema, loc, findings)
    elif isinstance(value, list):
        _check_list(value, schema, loc, findings)
    elif isinstance(value, dict):
        _check_object(value, schema, loc, findings)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, schema, loc, findings)


def _is(value: object, name: str) -> bool:
    """Whether `value` is of the JSON Schema type `name`; 2.0 is an integer (section 6.1.1 of the validation draft)."""
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if name == "number":
        return isinstance(value, int | float)
    if name == "null":
        return value is None
    return isinstance(value, {"object": dict, "array": list, "string": str}.get(name, ()))


def _wrong_type(value: object, types: list[str], loc: Loc, findings: Findings) -> None:
    kind = _TYPES[types[0]][0]
    if types == ["integer"] and isinstance(value, float):
        kind = "int_from_float"
    words = " or ".join(f"a valid {_TYPES[name][1]}" for name in types)
    findings.add(kind, loc, f"Input should be {words}", value)


def _not_among(value: object, choices: Iterable[object], loc: Loc, findings: Findings) -> None:
    *most, last = [repr(choice) for choice in choices]
    expected = f"{', '.join(most)} or {last}" if most else last
    findings.add("literal_error", loc, f"Input should be {expected}", value, expected=expected)


def _check_text(value: str, schema: Schema, loc: Loc, findings: Findings) -> None:
    longest = schema.get("maxLength")
    if longest is not None and len(value) > longest:
        message = f"String should have at most {longest} characters"
        findings.add("string_too_long", loc, message, value, max_length=longest)
    pattern = schema.get("pattern")
    if pattern is None or _compiled(pattern).search(value):
        return
    words = _WORDS.fullmatch(pattern)
    if words:
        _not_among(value, words[1].split("|"), loc, findings)
        return
    ctx = {"pattern": pattern}
    if "description" in schema:
        ctx["expected"] = schema["description"]
    findings.add("string_pattern_mismatch", loc, f"String should match pattern '{pattern}'", value, **ctx)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The ECMA pattern as Python's: there `$` is the very end."""
    return re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern)


def _check_number(value: float, schema: Schema, loc: Loc, findings: Findings) -> None:
    for keyword, kind, key, words in (
        ("minimum", "greater_than_equal", "ge", "greater than or equal to"),
        ("exclusiveMinimum", "greater_than", "gt", "greater than"),
        ("maximum", "less_than_equal", "le", "less than or equal to"),
        ("exclusiveMaximum", "less_than", "lt", "less than"),
    ):
        bound = schema.get(keyword)
        if bound is None:
            continue
        holds = {"ge": value >= bound, "gt": value > bound, "le": value <= bound, "lt": value < bound}[key]
        if not holds:
            findings.add(kind, loc, f"Input should be {words} {bound}", value, **{key: bound})


def _check_list(value: list[object], schema: Schema, loc: Loc, findings: Findings) -> None:
    size = len(value)
    low, high = schema.get("minItems", 0), schema.get("maxItems")
    if size < low:
        message = f"List should have at least {low} item{'s' if low > 1 else ''} after validation, not {size}"
        findings.add("too_short", loc, message, value, min_length=low, actual_length=size)
    if high is not None and size > high:
        # What is in a list that is too long is not looked at: there may be no end of it.
        message = f"List should have at most {high} items after validation, not {size}"
        findings.add("too_long", loc, message, value, max_length=high, actual_length=size)
        return
    items = schema.get("items")
    if items is None:
        return
    for index, item in enumerate(value):
        check(item, items, (*loc, index), findings)
        if findings.full:
            return


def _check_object(value: dict[str, object], schema: Schema, loc: Loc, findings: Findings) -> None:
    for key in schema.get("required", ()):
        if key not in value:
            findings.add("missing", (*loc, key), "Field required", value)
    properties: dict[str, Schema] = schema.get("properties", {})
    low, high = schema.get("minProperties", 0), schema.get("maxProperties")
    if len(value) < low or (high is not None and len(value) > high):
        _wrong_size(value, properties, low, high, loc, findings)
    names = schema.get("propertyNames")
    others = schema.get("additionalProperties", True)
    for key, item in value.items():
        if names is not None:
            check(key, names, (*loc, key[:SHOWN_MAX], "[key]"), findings)
        if key in properties:
            check(item, properties[key], (*loc, key), findings)
        elif others is False:
            findings.add("extra_forbidden", (*loc, key[:SHOWN_MAX]), "Extra inputs are not permitted", item)
        elif others is not True:
            check(item, others, (*loc, key[:SHOWN_MAX]), findings)
        if findings.full:
            return


def _wrong_size(
    value: dict[str, object], properties: dict[str, Schema], low: int, high: int | None, loc: Loc, findings: Findings
) -> None:
    if low == high == 1:
        message = f"Exactly one of {', '.join(properties)} is needed, not {len(value)}"
    elif len(value) < low:
        message = f"At least {low} of {', '.join(properties)} is needed"
    else:
        message = f"Dictionary should have at most {high} items after validation, not {len(value)}"
    kind = "too_short" if len(value) < low else "too_long"
    findings.add(kind, loc, message, value, actual_length=len(value))

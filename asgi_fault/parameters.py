"""Declared parameters: one object reads and validates a value, and documents it in OpenAPI.

The violations use pydantic's vocabulary (`type`, `loc`, `msg`, `input`, `ctx`), because that is what clients of the
original services parse.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import parse_qsl

Violation = dict[str, Any]

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DIGITS_MAX = 4300  # CPython's own bound for str -> int, which pydantic reports as int_parsing_size
_SHOWN_MAX = 200  # how much of a rejected value an error repeats


@dataclass(frozen=True, kw_only=True)
class Integer:
    """A whole number in the path or the query.

    Attributes:
        name: as it stands in the URL.
        where: `path` or `query`. A query parameter is optional, and its last value wins when it is repeated.
        low, high: the inclusive range.
        may_be_empty: whoever reads it takes an empty value for none, as forms send it.
    """

    name: str
    where: Literal["path", "query"]
    low: int
    high: int
    description: str
    default: int | None = None
    may_be_empty: bool = False

    def read(self, text: str, violations: list[Violation]) -> int:
        """The number in `text`; anything else adds to `violations` and returns `low`."""
        loc = [self.where, self.name]
        stripped = text.strip(" \t")
        shown = text[:_SHOWN_MAX]
        if not _INTEGER.fullmatch(stripped):
            message = "Input should be a valid integer, unable to parse string as an integer"
            violations.append({"type": "int_parsing", "loc": loc, "msg": message, "input": shown})
            return self.low
        if len(stripped) > _DIGITS_MAX:
            message = "Unable to parse input string as an integer, exceeded maximum size"
            violations.append({"type": "int_parsing_size", "loc": loc, "msg": message, "input": shown})
            return self.low
        number = int(stripped)
        for kind, key, bound, holds in (
            ("greater_than_equal", "ge", self.low, number >= self.low),
            ("less_than_equal", "le", self.high, number <= self.high),
        ):
            if not holds:
                message = f"Input should be {kind.replace('_', ' ').replace('equal', 'or equal to')} {bound}"
                violation = {"type": kind, "loc": loc, "msg": message, "input": shown, "ctx": {key: bound}}
                violations.append(violation)
                return self.low
        return number

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the value."""
        schema: dict[str, Any] = {"type": "integer", "minimum": self.low, "maximum": self.high}
        if self.default is not None:
            schema["default"] = self.default
        return schema


@dataclass(frozen=True, kw_only=True)
class Text:
    """Text in the path, the query or a header.

    Attributes:
        name: as it stands in the URL, or the header's.
        where: a parameter in the path is required, all others are optional.
        pattern: ECMA's, anchored: `$` is the very end.
        default: what its absence means; of a form, what stands in the field.
        example: of a path parameter, a value that leads somewhere in the examples of the documents.
    """

    name: str
    where: Literal["path", "query", "header"]
    pattern: str
    max_length: int
    description: str
    default: str | None = None
    example: str | None = None

    def read(self, text: str, violations: list[Violation]) -> str:
        """`text`; when it is too long or does not match, that adds to `violations`."""
        ctx: dict[str, Any]
        if len(text) > self.max_length:
            kind, ctx = "string_too_long", {"max_length": self.max_length}
            message = f"String should have at most {self.max_length} characters"
        elif not _compiled(self.pattern).search(text):
            kind, ctx = "string_pattern_mismatch", {"pattern": self.pattern}
            message = f"String should match pattern '{self.pattern}'"
        else:
            return text
        shown = text[:_SHOWN_MAX]
        violations.append({"type": kind, "loc": [self.where, self.name], "msg": message, "input": shown, "ctx": ctx})
        return text

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the value."""
        schema: dict[str, Any] = {"type": "string", "pattern": self.pattern, "maxLength": self.max_length}
        if self.default is not None:
            schema["default"] = self.default
        return schema


Parameter = Integer | Text


@lru_cache(maxsize=16)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The ECMA pattern as Python's, whose `$` lets a line end follow."""
    return re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern)


def query_values(query_string: bytes) -> dict[str, str]:
    """The query parameters; the last value wins. Bytes that are not UTF-8 become U+FFFD."""
    pairs = parse_qsl(query_string.decode("utf-8", "replace"), keep_blank_values=True)
    return dict(pairs)

"""Declared parameters: one object reads and validates a value, and documents it in OpenAPI.

The violations use pydantic's vocabulary (`type`, `loc`, `msg`, `input`, `ctx`), because that is what clients of the
original services parse.
"""

import re
from dataclasses import dataclass
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
    """

    name: str
    where: Literal["path", "query"]
    low: int
    high: int
    description: str
    default: int | None = None

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
    """A header or query parameter that is text; documented here, checked by whoever reads it."""

    name: str
    where: Literal["header", "query"]
    pattern: str
    max_length: int
    description: str

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the value."""
        return {"type": "string", "pattern": self.pattern, "maxLength": self.max_length}


Parameter = Integer | Text


def query_values(query_string: bytes) -> dict[str, str]:
    """The query parameters; the last value wins. Bytes that are not UTF-8 become U+FFFD."""
    pairs = parse_qsl(query_string.decode("utf-8", "replace"), keep_blank_values=True)
    return dict(pairs)

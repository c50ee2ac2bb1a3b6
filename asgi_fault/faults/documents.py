"""Reads JSON that people wrote: UTF-8, no key twice, no NaN or infinity, not too deep; mistakes with their path."""

import json
from math import isfinite
from typing import Any, NoReturn

from asgi_fault.errors import ValidationFailed
from asgi_fault.faults.checks import SHOWN_MAX, Findings, Loc

DEPTH_MAX = 32
DIGITS_MAX = 4300  # CPython's own bound for str -> int


class _Repeated(dict[str, Any]):
    """An object of which some keys came more than once."""

    keys_repeated: list[str]


class _NoNumber:
    """What stands where a number should be that JSON, or Python, cannot express."""

    def __init__(self, text: str) -> None:
        self.text = text[:SHOWN_MAX]


def read_json(body: bytes, loc: Loc = ("body",)) -> Any:
    """The value that `body` holds.

    Raises:
        ValidationFailed: it holds none; a `json_invalid` for every reason, and where it is.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_NoNumber,
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError as error:
        _refuse((*loc, error.pos), error.msg)
    except UnicodeDecodeError as error:
        _refuse((*loc, error.start), "not UTF-8")
    except RecursionError:
        _refuse(loc, f"nested deeper than {DEPTH_MAX}")
    findings = Findings()
    _inspect(value, loc, findings)
    findings.raise_any()
    return value


def copy_of(value: object, loc: Loc = ("body",)) -> Any:
    """`value`, which Python code made, as JSON would have it: a deep copy with lists for tuples.

    Raises:
        ValidationFailed: JSON has no form for it, or it is nested too deep.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        _refuse(loc, f"no JSON: {str(error)[:SHOWN_MAX]}")
    return read_json(text, loc)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    repeated = _Repeated(made)
    seen: set[str] = set()
    repeated.keys_repeated = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
    return repeated


def _float(text: str) -> object:
    number = float(text)
    return number if isfinite(number) else _NoNumber(text)


def _int(text: str) -> object:
    return int(text) if len(text) <= DIGITS_MAX else _NoNumber(text)


def _inspect(root: object, loc: Loc, findings: Findings) -> None:
    """Note what the parser let pass but marked, and what is nested too deep; without recursion."""
    waiting: list[tuple[object, Loc, int]] = [(root, loc, 1)]
    while waiting and not findings.full:
        value, at, depth = waiting.pop()
        if isinstance(value, _NoNumber):
            _note(findings, at, f"{value.text} is no number of JSON", value.text)
        elif isinstance(value, str):
            if _has_surrogate(value):
                _note(findings, at, "half a surrogate pair is no character", ascii(value))
        elif isinstance(value, dict | list):
            if depth > DEPTH_MAX:
                _note(findings, at, f"nested deeper than {DEPTH_MAX}", None)
                continue
            if isinstance(value, _Repeated):
                for key in value.keys_repeated:
                    _note(findings, (*at, key[:SHOWN_MAX]), "the key comes more than once", key)
            if isinstance(value, dict) and any(map(_has_surrogate, value)):
                _note(findings, at, "half a surrogate pair is no character", ascii(list(value)))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            # A number or a constant needs no look: most of a large document is such.
            waiting += [
                (item, (*at, key if isinstance(key, int) else key[:SHOWN_MAX]), depth + 1)
                for key, item in items
                if isinstance(item, dict | list | str | _NoNumber)
            ]


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)


def _note(findings: Findings, loc: Loc, reason: str, value: object) -> None:
    findings.add("json_invalid", loc, "JSON decode error", value, error=reason)


def _refuse(loc: Loc, reason: str) -> NoReturn:
    findings = Findings()
    _note(findings, loc, reason, {})
    raise ValidationFailed(findings.violations)

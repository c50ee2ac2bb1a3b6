"""The JSON Schema of an example: what a reply looks like, when the route table shows one instead of describing it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_MEASURES = frozenset({"timestamp", "seconds", "s", "ms", "count", "bytes", "total"})
"""Last words of names that hold a number: our names end in their unit."""

_SCALARS = {bool: "boolean", int: "integer", float: "number"}


def schema_of(example: Any, name: str = "") -> Schema:
    """The schema of every value that looks like `example`.

    It says no more than an example can: no bounds, no closed objects. A null says only that the value may be missing,
    so its type is taken from the unit in `name`, or left open.
    """
    if example is None:
        return {"type": ["number", "null"]} if name.rpartition("_")[2] in _MEASURES else {}
    if type(example) in _SCALARS:
        return {"type": _SCALARS[type(example)]}
    if isinstance(example, str):
        return _schema_of_text(example)
    if isinstance(example, Mapping):
        properties = {key: schema_of(value, key) for key, value in example.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(example, Sequence):
        return _schema_of_array(example, name)
    raise TypeError(f"{type(example).__name__} has no form in JSON, so it cannot be an example.")


def _schema_of_text(example: str) -> Schema:
    if _UUID.fullmatch(example):
        return {"type": "string", "format": "uuid"}
    if _INSTANT.fullmatch(example):
        return {"type": "string", "format": "date-time"}
    return {"type": "string"}


def _schema_of_array(example: Sequence[Any], name: str) -> Schema:
    schemas: list[Schema] = []
    for item in example:
        schema = schema_of(item, name)
        if schema not in schemas:
            schemas.append(schema)
    if not schemas:
        return {"type": "array"}
    return {"type": "array", "items": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}

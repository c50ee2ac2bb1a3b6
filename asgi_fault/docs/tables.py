"""Schemas made readable: what a value may be, in words, and a table of the keys of an object."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from asgi_fault.docs.markup import Markup, element, fragment, inline, prose

Schema = Mapping[str, Any]

COMPONENTS = "#/components/schemas/"
ITEMS = "[]"
_WORDS = re.compile(r"\^\(([a-z0-9|-]+)\)\$")
_BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "more than"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "less than"),
)


def anchor_of(name: str) -> str:
    """The id of the schema `name` on a page."""
    return f"schema-{name}"


def type_of(schema: Schema) -> Markup:
    """What a value may be: `integer, 0 to 30000, default 0`. What has a name of its own is a link."""
    if "$ref" in schema:
        return _link(schema["$ref"])
    kinds = schema.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "const" in schema or "enum" in schema:
        told: list[Markup] = [_choice([json.dumps(value) for value in schema.get("enum", [schema.get("const")])])]
    else:
        told = [_kind(kind, schema, f"{kinds[0]}" if number else "") for number, kind in enumerate(kinds)]
    words = _joined(told, ", or " if any("," in one for one in told) else " or ")
    if "default" not in schema:
        return words
    default = schema["default"]
    return fragment(words, f", default {default if isinstance(default, str) else json.dumps(default)}")


def _kind(kind: str, schema: Schema, before: str) -> Markup:
    """One of the types of a schema with the keywords that are about it; `before` is the first of several."""
    if kind in ("integer", "number"):
        return _joined([Markup(kind), *_bounds(schema)])
    if kind == "string":
        return _string(schema)
    if kind == "array":
        items = schema.get("items", {})
        same = before and _kind(before, schema, "") == type_of(items)
        what = Markup("those") if same else type_of(items)
        return _joined([fragment("list of ", what), *_count(schema, "Items", "items")])
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return fragment("object, each value: ", type_of(schema["additionalProperties"]))
    if kind == "object" and schema.get("minProperties") == schema.get("maxProperties") == 1:
        return Markup("object with one key")
    return fragment(kind)


def _string(schema: Schema) -> Markup:
    words = _WORDS.fullmatch(schema.get("pattern", ""))
    if words:
        return _choice([word or "empty" for word in words[1].split("|")])
    told = [Markup("string"), *_count(schema, "Length", "characters")]
    if "pattern" in schema:
        told.append(fragment("matching ", schema["pattern"]))
    return _joined(told)


def _choice(words: list[str]) -> Markup:
    *most, last = words
    return fragment(f"{', '.join(most)} or {last}" if most else last)


def _bounds(schema: Schema) -> list[Markup]:
    if "minimum" in schema and "maximum" in schema:
        return [fragment(f"{schema['minimum']} to {schema['maximum']}")]
    return [fragment(f"{words} {schema[key]}") for key, words in _BOUNDS if key in schema]


def _count(schema: Schema, suffix: str, what: str) -> list[Markup]:
    low, high = schema.get(f"min{suffix}", 0), schema.get(f"max{suffix}")
    if high is None:
        return [fragment(f"at least {low} {what}")] if low > 1 else []
    if low == high:
        return [fragment(f"{low} {what}")]
    return [fragment(f"{low} to {high} {what}" if low > 1 else f"at most {high} {what}")]


def _joined(told: list[Markup], by: str = ", ") -> Markup:
    return Markup(by.join(told))


def _link(reference: str) -> Markup:
    name = reference.removeprefix(COMPONENTS)
    return element("a", name, href=f"#{anchor_of(name)}")


def reachable(document: Schema, node: Any, found: dict[str, None] | None = None) -> list[str]:
    """The names of the schemas that `node` refers to, directly or through others, in the order of their discovery."""
    found = {} if found is None else found
    if isinstance(node, Mapping):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith(COMPONENTS):
            name = reference.removeprefix(COMPONENTS)
            if name not in found:
                found[name] = None
                reachable(document, document["components"]["schemas"][name], found)
        for value in node.values():
            reachable(document, value, found)
    elif isinstance(node, list):
        for value in node:
            reachable(document, value, found)
    return list(found)


def schema_article(name: str, schema: Schema, *, with_json: bool) -> Markup:
    """One schema of the document: what it is about, its keys, and on request itself."""
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    return element(
        "article",
        element("h3", name),
        prose(schema.get("description", "")),
        _forms(schema),
        key_table(name, schema),
        element("pre", element("code", text), tabindex=0) if with_json else "",
        id=anchor_of(name),
    )


def _forms(schema: Schema) -> Markup:
    """What there is to say of a schema beside its keys."""
    if "if" in schema:
        forms = fragment(type_of(schema["else"]), " or ", type_of(schema["then"]))
    elif schema.get("type") == "object" and "minProperties" not in schema and "properties" in schema:
        return Markup()
    else:
        forms = type_of(schema)
    return element("p", forms, class_="kind")


def key_table(name: str, schema: Schema) -> Markup:
    """The keys of an object, those of objects within it too; nothing for other schemas."""
    rows = [
        element(
            "tr",
            element("th", element("code", path), scope="row"),
            element(
                "td",
                element("span", type_of(one), class_="kind"),
                inline(one.get("description", "")),
                element("span", " required", class_="needed") if required else "",
            ),
        )
        for path, one, required in _keys(schema, "")
    ]
    if not rows:
        return Markup()
    head = element("tr", [element("th", title, scope="col") for title in ("Key", "What")])
    return element("table", element("thead", head), element("tbody", rows), class_="keys", aria_label=f"Keys of {name}")


def _keys(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema, bool]]:
    """Every key as a path, with its schema and whether it has to be there."""
    for key, one in schema.get("properties", {}).items():
        yield prefix + key, one, key in schema.get("required", ())
        yield from _keys(one, f"{prefix}{key}.")
        if "properties" not in one:
            yield from _keys(one.get("items", {}), f"{prefix}{key}{ITEMS}.")

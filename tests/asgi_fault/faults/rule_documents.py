"""What the tests of the rules share: short ways to set and to ask, and documents that hypothesis makes."""

from typing import Any

import pytest
from hypothesis import strategies as st

from asgi_fault.errors import ValidationFailed
from asgi_fault.faults.matching import Arrival
from asgi_fault.faults.plan import Plan
from asgi_fault.faults.rules import RuleSet
from asgi_fault.faults.schema import SCHEMA

WALL = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def arrival(
    method: str = "GET",
    path: str = "/msg",
    *,
    headers: "dict[str, str] | None" = None,
    fields: "list[tuple[bytes, bytes]] | None" = None,
    query: str = "",
    body: bytes = b"",
    now: float = 0.0,
    ordinal: int = 1,
    client: str = "192.0.2.1",
    prefix: str = "",
) -> Arrival:
    if fields is None:
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Arrival(
        method,
        path,
        dict(fields),
        query.encode(),
        body,
        now=now,
        wall=WALL + now,
        ordinal=ordinal,
        client=client,
        prefix=prefix,
        fields=fields,
    )


def rule_set(*documents: Any, wire: bool = True, seed: int = 0, partition: str = "p") -> RuleSet:
    rules = RuleSet(seed, partition)
    if documents:
        rules.put(list(documents), 0.0, wall=WALL, wire=wire)
    return rules


def plan_of(step: dict[str, Any], *, at: "Arrival | None" = None, wire: bool = True) -> Plan:
    plan = rule_set({"then": step}, wire=wire).decide(at or arrival())
    assert plan is not None
    return plan


def hits(match: dict[str, Any], *arrivals: Arrival) -> list[bool]:
    """Which of the arrivals a rule with this `match` is for."""
    rules = rule_set({"match": match, "then": {"status": 503}})
    return [rules.decide(each) is not None for each in arrivals]


def refused(*documents: Any, wire: bool = True) -> list[tuple[list[Any], str]]:
    """Where the violations of `documents` are (behind body, rules), and what they say."""
    rules = RuleSet(0, "p")
    with pytest.raises(ValidationFailed) as caught:
        rules.put(list(documents), 0.0, wall=WALL, wire=wire)
    assert len(rules) == 0
    assert isinstance(caught.value.detail, list)
    for violation in caught.value.detail:
        assert violation["loc"][0] == "body"
    return [(violation["loc"][2:], violation["msg"]) for violation in caught.value.detail]


def refused_step(step: Any, *, wire: bool = True) -> list[tuple[list[Any], str]]:
    """The same for a step that is the `then` of a rule."""
    found = refused({"then": step}, wire=wire)
    assert all(loc[:2] == [0, "then"] for loc, _ in found)
    return [(loc[2:], message) for loc, message in found]


def near(schema: dict[str, Any]) -> "st.SearchStrategy[Any]":
    """Values that fit the schema, or almost."""
    if "$ref" in schema:
        return st.deferred(lambda: near(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]))
    types = schema.get("type", [])
    ways = [_NEAR[name](schema) for name in ([types] if isinstance(types, str) else types)]
    if "enum" in schema:
        ways.append(st.sampled_from(schema["enum"]))
    often = st.one_of(*ways) if ways else json_values
    return st.integers(0, 29).flatmap(lambda n: json_values if n == 0 else often)


def _near_number(schema: dict[str, Any]) -> "st.SearchStrategy[Any]":
    bounds = [schema[key] for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum") if key in schema]
    edges = [bound + d for bound in bounds for d in (-1, -0.5, 0, 0.0, 1)]
    return st.integers(0, 5) | st.sampled_from([*edges, 0.5, 2.0, True])


def _near_string(schema: dict[str, Any]) -> "st.SearchStrategy[Any]":
    ways = [st.text(max_size=3), st.sampled_from(["a\n", "GET", "/msg", "x", "\x80", " x", "é", "*", "/{a}/**"])]
    if "pattern" in schema:
        ways.append(st.from_regex(schema["pattern"].removesuffix("$") + r"\Z"))
    if "maxLength" in schema and schema["maxLength"] < 10_000:
        ways.append(st.integers(-1, 1).map(lambda d: "x" * (schema["maxLength"] + d)))
    return st.one_of(ways)


def _near_array(schema: dict[str, Any]) -> "st.SearchStrategy[Any]":
    low, high = schema.get("minItems", 0), schema.get("maxItems", 10)
    return st.lists(near(schema.get("items", {})), min_size=max(0, low - 1), max_size=min(high + 1, low + 2))


def _near_object(schema: dict[str, Any]) -> "st.SearchStrategy[Any]":
    known = {key: near(value) for key, value in schema.get("properties", {}).items()}
    others = schema.get("additionalProperties")
    extra = near(others) if isinstance(others, dict) else json_values
    names = st.sampled_from(["a", "X-Y", "a b", "then", ""])
    required = {key: known[key] for key in schema.get("required", ())}
    most = 1 if schema.get("maxProperties") == 1 else 4

    def drawn(keys: list[str]) -> "st.SearchStrategy[Any]":
        return st.fixed_dictionaries({key: known[key] for key in {*keys, *required}})

    chosen = st.lists(st.sampled_from(sorted(known)), max_size=most).flatmap(drawn) if known else st.just({})
    some = st.dictionaries(names, extra, max_size=2)
    with_others = (
        some if isinstance(others, dict) else st.integers(0, 19).flatmap(lambda n: some if n == 0 else st.just({}))
    )
    return st.builds(lambda a, b: {**a, **b}, chosen, with_others)


_NEAR = {
    "object": _near_object,
    "array": _near_array,
    "string": _near_string,
    "number": _near_number,
    "integer": _near_number,
    "boolean": lambda _: st.booleans(),
}

documents = near(SCHEMA["$defs"]["rule"]) | near(SCHEMA["$defs"]["rules"])
steps = near(SCHEMA["$defs"]["step"])

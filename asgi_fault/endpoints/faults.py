"""`/faults`: set the rules of a partition, look at them, remove them; and the JSON Schema they are written to.

What `/fail` has set is listed as the two rules it amounts to, and goes when all rules go.
"""

from functools import cache
from typing import Any

from asgi_fault.asgi import Response, json_response, response, to_json
from asgi_fault.errors import NotFound, require_json
from asgi_fault.exchange import Exchange
from asgi_fault.faults.documents import read_json
from asgi_fault.faults.induced import InducedFailures
from asgi_fault.faults.rules import RuleSet
from asgi_fault.faults.schema import SCHEMA

SCHEMA_JSON = (b"content-type", b"application/schema+json")
INDUCED_STEP = {"status": 500, "body": {"json": {"detail": "Induced server failure"}}}
INDUCED_PATH = {"method": ["GET", "HEAD"], "path": "/msg"}


def post_faults(exchange: Exchange) -> Response:
    """Set one rule, or several: all of them, or none."""
    require_json(exchange.headers.get(b"content-type", b""), "Rules")
    document = read_json(exchange.body)
    context, partition = exchange.context, exchange.partition
    rules = partition.rules or RuleSet(context.settings.seed, partition.name)
    made = rules.put_document(document, exchange.arrived_at, wall=context.wall_clock(), wire=exchange.wire is not None)
    partition.rules = rules
    ids = [rule.id for rule in made]
    context.log.info("fault.set", "Rules set", partition=partition.name, rules=len(ids), first=ids[0])
    location = [(b"location", f"{exchange.prefix}/faults/{ids[0]}".encode())] if len(ids) == 1 else []
    return json_response(201, {"rules": [rule.described() for rule in made]}, *location)


def get_faults(exchange: Exchange) -> Response:
    """List the rules with their counters, in the order they are asked."""
    return json_response(200, {"rules": _listed(exchange)})


def get_fault(exchange: Exchange) -> Response:
    """Show one rule."""
    rule_id = exchange.params["id"]
    found = next((document for document in _listed(exchange) if document["id"] == rule_id), None)
    if found is None:
        raise _unknown(exchange)
    return json_response(200, found)


def delete_faults(exchange: Exchange) -> Response:
    """Remove all rules, and what `/fail` has set."""
    partition = exchange.partition
    number = len(_listed(exchange))
    partition.rules = partition.induced = None
    exchange.context.log.info("fault.reset", "Rules removed", partition=partition.name, rules=number)
    return json_response(200, {"deleted": number})


def delete_fault(exchange: Exchange) -> Response:
    """Remove one rule."""
    partition, rule_id = exchange.partition, exchange.params["id"]
    induced = partition.induced
    if induced is not None and any(rule["id"] == rule_id for rule in _induced(induced, exchange.arrived_at)):
        if rule_id == "fail-count":
            induced.fail_count(0)
        else:
            induced.until, induced.until_timestamp = 0.0, None
    elif partition.rules is None or not partition.rules.remove(rule_id):
        raise _unknown(exchange)
    elif not partition.rules:
        # Without rules the hot path is what it was before there were any.
        partition.rules = None
    exchange.context.log.info("fault.reset", "Rule removed", partition=partition.name, rule=rule_id)
    return json_response(200, {"deleted": 1})


def get_schema(exchange: Exchange) -> Response:
    """The JSON Schema of what `POST /faults` takes."""
    return response(200, SCHEMA_JSON, _schema_json())


@cache
def _schema_json() -> bytes:
    return to_json(SCHEMA)


def _listed(exchange: Exchange) -> list[dict[str, Any]]:
    """Every rule of the partition: those set here, then those of `/fail`, which come after all others."""
    rules = exchange.partition.rules
    listed = [] if rules is None else rules.documents(exchange.arrived_at)
    return [*listed, *_induced(exchange.partition.induced, exchange.arrived_at)]


def _induced(induced: InducedFailures | None, now: float) -> list[dict[str, Any]]:
    """What `/fail` has set, as rules: the count is asked first and goes down, then the duration."""
    if induced is None:
        return []
    found: list[dict[str, Any]] = []
    if induced.remaining:
        match = {**INDUCED_PATH, "first": induced.remaining}
        found.append({"id": "fail-count", "match": match, "then": INDUCED_STEP, "set_by": "/fail/count"})
    left = round(induced.seconds_left(now), 3)
    if left:
        match = {**INDUCED_PATH, "for_s": left}
        found.append({"id": "fail-duration", "match": match, "then": INDUCED_STEP, "set_by": "/fail/duration"})
    return found


def _unknown(exchange: Exchange) -> NotFound:
    rule_id = exchange.params["id"][:80]
    return NotFound(f"There is no rule {rule_id!r} in this partition.", details={"id": rule_id})

"""The route table as an OpenAPI 3.1 document."""

from collections.abc import Iterable, Sequence
from typing import Any

from asgi_fault.docs import components
from asgi_fault.docs.inference import schema_of
from asgi_fault.parameters import Integer, Parameter
from asgi_fault.routing import Reply, Route
from asgi_fault.version import __version__

SUMMARY = "A server that fails on command, for testing the clients that have to survive it."

DESCRIPTION = """\
Tell `/fail` to fail, call `/msg`, and see what your client makes of it. `HEAD` is served wherever `GET` is, `OPTIONS` \
everywhere, and every path with and without a trailing slash.

**Partitions.** Tests that run at the same time need not see each other. Put `/~NAME` in front of any path, or send \
`X-Fault-Partition: NAME`, and the request lives in a world of its own: its faults, its idempotency cache and its \
slots are seen by nobody else. The first request that names a partition makes it; idle ones are forgotten. A name is \
1 to 64 letters, digits, dots, hyphens or underscores.

**Ids.** Every answer carries `X-Request-ID` and `X-Correlation-ID`, errors included. Only what the HTTP server itself \
refuses, because it cannot be parsed, carries none.

**Errors.** Every error is the same object, or RFC 9457 when `Accept` asks for `application/problem+json`. An unknown \
path is answered 404, a method that a path does not have 405 with `Allow`.\
"""

TAGS = {
    "msg": "What clients are tested against.",
    "fail": "The failures of `/msg`. Works while the server is failing: it takes no slot and no fault.",
    "observe": "Whether the server lives, and what it has seen.",
    "about": "The server about itself.",
}

NEGOTIATED = {"/": "text/html", "/metrics": "application/openmetrics-text"}
"""The second content type of the paths that look at `Accept`; a row of the table has room for one."""

EXAMPLE_NUMBER = 3


def openapi(routes: Sequence[Route]) -> dict[str, Any]:
    """The document; every route of the table becomes one operation."""
    paths: dict[str, dict[str, Any]] = {}
    taken: set[str] = set()
    for route in routes:
        operation_id = _unique(getattr(route.handler, "__name__", route.tag), taken)
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, operation_id)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asgi-fault",
            "version": __version__,
            "summary": SUMMARY,
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        # Relative to this document: right below a mount point, and below `/~NAME/` too.
        "servers": [{"url": ".", "description": "This server, in the partition this document was read from"}],
        "tags": [_tag(name) for name in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "parameters": {"Partition": components.PARTITION_PARAMETER},
            "headers": components.HEADERS,
            "responses": components.RESPONSES,
            "schemas": components.SCHEMAS,
            "securitySchemes": {"adminToken": components.TOKEN_SCHEME},
        },
    }


def _unique(name: str, taken: set[str]) -> str:
    """`name`, or with a number behind it when another operation has it already."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def _tag(name: str) -> dict[str, str]:
    return {"name": name, "description": TAGS[name]} if name in TAGS else {"name": name}


def _operation(route: Route, operation_id: str) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": operation_id, "tags": [route.tag], "summary": route.summary}
    if route.description:
        operation["description"] = route.description
    parameters = [_parameter(parameter) for parameter in route.parameters]
    if not route.public:
        parameters.append({"$ref": "#/components/parameters/Partition"})
    if parameters:
        operation["parameters"] = parameters
    responses = {str(status): _response(status, reply, route.path) for status, reply in route.replies.items()}
    for status, name in _shared_answers(route):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{name}"})
    operation["responses"] = dict(sorted(responses.items()))
    if _is_guarded(route):
        # The empty requirement: without SERVER_ADMIN_TOKEN no token is asked for.
        operation["security"] = [{}, {"adminToken": []}]
    return operation


def _is_guarded(route: Route) -> bool:
    return route.control and not route.public


def _shared_answers(route: Route) -> Iterable[tuple[int, str]]:
    """What the layers in front of the handler can answer, whatever the route is."""
    yield 400, "BadRequest"
    if _is_guarded(route):
        yield 401, "AuthenticationFailed"
    if route.parameters:
        yield 422, "ValidationFailed"
    yield 431, "HeadTooLarge"
    if route.public:
        return
    yield 408, "TimedOut"
    yield 413, "BodyTooLarge"
    yield 503, "NoRoom" if route.control else "Unavailable"


def _parameter(parameter: Parameter) -> dict[str, Any]:
    documented: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "description": parameter.description,
        "schema": parameter.schema(),
    }
    if isinstance(parameter, Integer) and parameter.default is None:
        documented["example"] = min(max(EXAMPLE_NUMBER, parameter.low), parameter.high)
    return documented


def _response(status: int, reply: Reply, path: str) -> dict[str, Any]:
    documented: dict[str, Any] = {"description": reply.description, "headers": components.headers()}
    if status in (204, 304):  # which have no body (RFC 9110 sections 15.3.5 and 15.4.5)
        return documented
    documented["content"] = {reply.content_type: _media_type(reply)}
    if status >= 400:
        documented["content"][components.PROBLEM] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    elif path in NEGOTIATED:
        documented["content"][NEGOTIATED[path]] = {"schema": {"type": "string"}}
    return documented


def _media_type(reply: Reply) -> dict[str, Any]:
    if reply.schema is not None:
        schema = dict(reply.schema)
    elif reply.example is not None:
        schema = schema_of(reply.example)
    else:
        schema = {} if "json" in reply.content_type else {"type": "string"}
    return {"schema": schema} if reply.example is None else {"schema": schema, "example": reply.example}

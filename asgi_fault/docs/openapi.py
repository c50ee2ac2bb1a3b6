"""The route table as an OpenAPI 3.1 document."""

from collections.abc import Iterable, Sequence
from typing import Any

from asgi_fault.docs import components
from asgi_fault.docs.inference import schema_of
from asgi_fault.parameters import Integer, Parameter
from asgi_fault.routing import Body, Reply, Route
from asgi_fault.version import __version__

SUMMARY = "A server that fails on command, for testing the clients that have to survive it."

DESCRIPTION = """\
Tell `/fail` to fail, or `/faults` how to; call `/msg`, or whatever path your client calls; see in `/journal` what it \
made of it. `HEAD` is served wherever `GET` is, `OPTIONS` \
everywhere, and every path with and without a trailing slash.

**Partitions.** Tests that run at the same time need not see each other. Put `/~NAME` in front of any path, or send \
`X-Fault-Partition: NAME`, and the request lives in a world of its own: its faults, its idempotency cache and its \
slots are seen by nobody else. The first request that names a partition makes it; idle ones are forgotten. A name is \
1 to 64 letters, digits, dots, hyphens or underscores.

**Rules.** `POST /faults` says which requests are answered how: matched by method, path, headers, query, size, order, \
time, attempt or chance; answered with any status and body, late, slowly, cut, or not at all; one step of a script for \
each request. A rule works for every path of the data plane, also for those that do not exist here. Within a named \
partition a request can bring its own fault, as `X-Fault: status=503;retry-after=2;delay=0.5` or `?x-fault=status=503`.

**Journal.** `GET /journal` has what the clients of a partition did: every arrival with its attempt, its gap to the \
attempt before, its connection, and what it was answered. `POST /journal/verify` holds it against what you expect.

**Control plane.** `/fail`, `/faults`, `/journal`, `/health`, `/metrics` and the documents work whatever all else is \
told to do: they take no slot, meet no fault, and are not written down. All but `/health` ask for \
`Authorization: Bearer` with the `SERVER_ADMIN_TOKEN` when the server has one. All else is the data plane; what is \
documented of it is what it answers without a fault.

**Ids.** Every answer carries `X-Request-ID` and `X-Correlation-ID`, errors included. Only what the HTTP server itself \
refuses, because it cannot be parsed, carries none.

**Errors.** Every error is the same object, or RFC 9457 when `Accept` asks for `application/problem+json`. An unknown \
path is answered 404, a method that a path does not have 405 with `Allow`.\
"""

TAGS = {
    "ports": "Ports that belong to a partition: for clients that lose a path prefix, and for what goes wrong before "
    "there is a request. Under `asgi-fault serve` only.",
    "msg": "What clients are tested against.",
    "fail": "The failures of `/msg`. Works while the server is failing: it takes no slot and no fault.",
    "faults": "Rules: which requests of the partition are answered how. They are asked in the order in which they were "
    "set; the first that has a step for a request decides. What `/fail` has set comes last.",
    "journal": "What the clients of the partition did: the last `SERVER_JOURNAL_SIZE` arrivals, without secrets, to "
    "read, to follow, and to hold against expectations.",
    "observe": "Whether the server lives, and what it has seen.",
    "about": "The server about itself.",
}

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
    if route.body is not None:
        operation["requestBody"] = _request_body(route.body)
    responses = {str(status): _response(status, reply) for status, reply in route.replies.items()}
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
    if route.body is not None:
        yield 415, "UnsupportedMediaType"
        yield 422, "BodyInvalid"
    elif any(parameter.where != "path" or isinstance(parameter, Integer) for parameter in route.parameters):
        # Text in a path is a name: one that nothing has is not found.
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
    if isinstance(parameter, Integer) and parameter.may_be_empty:
        documented["allowEmptyValue"] = True
    if isinstance(parameter, Integer) and parameter.default is None:
        documented["example"] = min(max(EXAMPLE_NUMBER, parameter.low), parameter.high)
    elif not isinstance(parameter, Integer) and parameter.example is not None:
        documented["example"] = parameter.example
    return documented


def _request_body(body: Body) -> dict[str, Any]:
    examples = {
        f"example{number}": {"summary": summary, "value": value}
        for number, (summary, value) in enumerate(body.examples.items(), 1)
    }
    media = {"schema": dict(body.schema), "examples": examples}
    return {"description": body.description, "required": True, "content": {components.JSON: media}}


def _response(status: int, reply: Reply) -> dict[str, Any]:
    documented: dict[str, Any] = {"description": reply.description, "headers": components.headers(*reply.headers)}
    if status in (204, 304):  # which have no body (RFC 9110 sections 15.3.5 and 15.4.5)
        return documented
    documented["content"] = {reply.content_type: _media_type(reply)}
    if status >= 400:
        documented["content"][components.PROBLEM] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for content_type, example in reply.also.items():
        # Of a stream OpenAPI 3.1 does not say whether its schema is that of the whole or of each event.
        media: dict[str, Any] = {"schema": {} if content_type == "text/event-stream" else {"type": "string"}}
        documented["content"][content_type] = media if example is None else {**media, "example": example}
    return documented


def _media_type(reply: Reply) -> dict[str, Any]:
    if reply.schema is not None:
        schema = dict(reply.schema)
    elif reply.example is not None:
        schema = schema_of(reply.example)
    else:
        schema = {} if "json" in reply.content_type else {"type": "string"}
    return {"schema": schema} if reply.example is None else {"schema": schema, "example": reply.example}

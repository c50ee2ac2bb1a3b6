"""The OpenAPI document: valid, complete, and true. What it says is held against what the server answers."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from asgi_fault import __version__
from asgi_fault.docs.openapi import NEGOTIATED, TAGS, openapi
from asgi_fault.parameters import Integer
from asgi_fault.routes import ROUTES
from asgi_fault.routing import Reply, Route
from tests.in_process import Answer, World, in_world

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi(ROUTES)))
OPERATIONS = [(method, path) for path, item in DOCUMENT["paths"].items() for method in item]
PROBLEM = ("Accept", "application/problem+json")


def handler(_: Any) -> Any:
    raise NotImplementedError


def other_handler(_: Any) -> Any:
    raise NotImplementedError


def route(path: str = "/thing", **options: Any) -> Route:
    replies = options.pop("replies", {200: Reply(description="Fine")})
    return Route("GET", path, options.pop("handler", handler), "msg", "A thing", replies=replies, **options)


def operation_of(made: Route) -> dict[str, Any]:
    return openapi([made])["paths"][made.path][made.method.lower()]


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    found: Any = DOCUMENT
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return resolved(found)


def violations(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with `value`; references are looked up in the document."""
    validator = OAS31Validator(
        {**schema, "components": DOCUMENT["components"]}, format_checker=OAS31Validator.FORMAT_CHECKER
    )
    return [error.message for error in validator.iter_errors(value)]


def assert_documented(answer: Answer, method: str, template: str) -> None:
    """`answer` has a status, a content type, a body and headers that the document names for the operation."""
    responses = DOCUMENT["paths"][template][method.lower()]["responses"]
    assert str(answer.status) in responses, f"{method} {template} answered {answer.status}"
    response = resolved(responses[str(answer.status)])
    content_type = answer.headers["content-type"].partition(";")[0]
    assert content_type in response["content"]
    value = answer.json if "json" in content_type else answer.body.decode()
    assert violations(response["content"][content_type]["schema"], value) == []
    for name, header in response["headers"].items():
        assert name.lower() in answer.headers
        text = answer.headers[name.lower()]
        schema = resolved(header)["schema"]
        assert violations(schema, int(text) if schema["type"] == "integer" else text) == []


def examples() -> Iterator[Any]:
    """Every example with its schema, the shared ones included."""
    responses = [
        (f"{method} {path} {status}", response)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        for status, response in operation["responses"].items()
        if "$ref" not in response
    ]
    responses += list(DOCUMENT["components"]["responses"].items())
    for name, response in responses:
        for content_type, media in response.get("content", {}).items():
            if "example" in media:
                yield pytest.param(media["schema"], media["example"], id=f"{name} {content_type}")


def test_the_validator_accepts_it() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_route_is_an_operation_with_its_own_id() -> None:
    assert {(method.upper(), path) for method, path in OPERATIONS} == {(one.method, one.path) for one in ROUTES}
    ids = [DOCUMENT["paths"][path][method]["operationId"] for method, path in OPERATIONS]
    assert len(set(ids)) == len(ids) == len(ROUTES)


def test_the_info_names_the_running_version() -> None:
    info = DOCUMENT["info"]
    assert (info["title"], info["version"], info["license"]["name"]) == ("asgi-fault", __version__, "MIT")
    assert "/~NAME" in info["description"]


def test_every_tag_of_the_table_is_described() -> None:
    assert [tag["name"] for tag in DOCUMENT["tags"]] == list(dict.fromkeys(one.tag for one in ROUTES))
    assert {one.tag for one in ROUTES} <= set(TAGS), "give the new tag a sentence in openapi.TAGS"


def test_a_second_content_type_belongs_to_a_path_that_exists() -> None:
    assert set(NEGOTIATED) <= {one.path for one in ROUTES}


@pytest.mark.parametrize(("schema", "example"), list(examples()))
def test_an_example_is_what_its_schema_says(schema: dict[str, Any], example: Any) -> None:
    assert violations(schema, example) == []


@pytest.mark.parametrize("one", ROUTES, ids=lambda one: f"{one.method} {one.path}")
def test_parameters_are_those_of_the_route_and_the_partition(one: Route) -> None:
    documented = [resolved(parameter) for parameter in operation_of(one).get("parameters", ())]
    expected = [(parameter.name, parameter.where, parameter.schema()) for parameter in one.parameters]
    partition = [parameter for parameter in documented if parameter["name"] == "X-Fault-Partition"]
    own = [parameter for parameter in documented if parameter not in partition]
    assert [(parameter["name"], parameter["in"], parameter["schema"]) for parameter in own] == expected
    assert [parameter["required"] for parameter in own] == [parameter["in"] == "path" for parameter in own]
    assert len(partition) == (0 if one.public else 1)


@pytest.mark.parametrize("one", ROUTES, ids=lambda one: f"{one.method} {one.path}")
def test_every_answer_documents_the_two_ids(one: Route) -> None:
    for response in operation_of(one)["responses"].values():
        assert {"X-Request-ID", "X-Correlation-ID"} <= set(resolved(response)["headers"])


def test_a_guarded_route_documents_the_token_as_optional() -> None:
    guarded = operation_of(route(control=True))
    assert guarded["security"] == [{}, {"adminToken": []}]
    assert "401" in guarded["responses"]
    for free in (route(), route(control=True, public=True)):
        assert "security" not in operation_of(free)
        assert "401" not in operation_of(free)["responses"]


def test_422_is_documented_where_there_is_something_to_validate() -> None:
    number = Integer(name="n", where="query", low=0, high=9, description="A digit.")
    assert "422" in operation_of(route(parameters=(number,)))["responses"]
    assert "422" not in operation_of(route())["responses"]


def test_a_reply_of_the_route_wins_over_the_shared_one() -> None:
    documented = operation_of(route(replies={503: Reply(description="Mine", example={"a": 1})}))
    assert documented["responses"]["503"]["description"] == "Mine"


def test_a_schema_of_the_table_wins_over_the_example() -> None:
    reply = Reply(description="Fine", example={"a": 1}, schema={"type": "object"})
    media = operation_of(route(replies={200: reply}))["responses"]["200"]["content"]["application/json"]
    assert media == {"schema": {"type": "object"}, "example": {"a": 1}}


def test_a_204_has_no_content() -> None:
    assert "content" not in operation_of(route(replies={204: Reply(description="Done")}))["responses"]["204"]


def test_two_routes_of_one_handler_get_two_ids() -> None:
    paths = openapi([route("/a"), route("/b"), route("/c", handler=other_handler)])["paths"]
    assert [item["get"]["operationId"] for item in paths.values()] == ["handler", "handler_2", "other_handler"]


def test_the_example_of_a_path_parameter_is_within_its_range() -> None:
    for low, high in ((0, 1), (10, 20), (0, 1000)):
        number = Integer(name="n", where="path", low=low, high=high, description="A number.")
        example = operation_of(route("/thing/{n}", parameters=(number,)))["parameters"][0]["example"]
        assert low <= example <= high


@pytest.mark.parametrize("one", ROUTES, ids=lambda one: f"{one.method} {one.path}")
def test_the_server_answers_what_the_document_says(one: Route) -> None:
    """Each operation with its examples: as it is, with a fault, in an impossible partition, too large."""
    target = one.path
    for parameter in operation_of(one).get("parameters", ()):
        if parameter.get("in") == "path":
            target = target.replace(f"{{{parameter['name']}}}", str(parameter["example"]))

    async def test(world: World) -> list[Answer]:
        async def ask(*headers: tuple[str, str], **options: Any) -> Answer:
            return await world.client.request(one.method, target, headers=headers, **options)

        answers = [await ask(), await ask(("Accept", "text/html, application/openmetrics-text"))]
        await world.client.post("/fail/count/2")
        answers += [await ask(), await ask(PROBLEM)]
        await world.client.post("/fail/duration/60")
        answers += [await ask()]
        await world.client.post("/fail/reset")
        answers += [await ask(("X-Fault-Partition", "no/name")), await ask(("X-Fault-Partition", "no/name"), PROBLEM)]
        answers += [await ask(*[("X-Many", "1")] * 300)]
        answers += [await ask(("Content-Length", "9"), chunks=[b"too large"])]
        return answers

    answers = in_world(test, max_body=8)
    assert answers[0].status == 200
    assert [answer.status for answer in answers[-2:]] == [431, 200 if one.path == "/health" else 413]
    for answer in answers:
        assert_documented(answer, one.method, one.path)


@pytest.mark.parametrize(
    ("method", "template", "target"),
    [
        ("GET", "/msg", "/msg?delay=abc"),
        ("GET", "/msg", "/msg?delay=30001"),
        ("POST", "/fail/count/{n}", "/fail/count/1001"),
        ("POST", "/fail/duration/{s}", "/fail/duration/x"),
    ],
)
def test_a_422_is_as_documented(method: str, template: str, target: str) -> None:
    async def test(world: World) -> list[Answer]:
        return [
            await world.client.request(method, target, headers=headers)
            for headers in ([], [PROBLEM], [("X-Request-ID", "two words")])
        ]

    for answer in in_world(test):
        assert answer.status == 422
        assert_documented(answer, method, template)


def test_a_401_is_as_documented() -> None:
    async def test(world: World) -> list[tuple[Route, Answer]]:
        return [(one, await world.client.request(one.method, one.path.replace("{n}", "1"))) for one in ROUTES]

    for one, answer in in_world(test, admin_token="secret"):
        assert (answer.status == 401) == (one.control and not one.public)
        assert_documented(answer, one.method, one.path)


def test_a_full_queue_is_as_documented() -> None:
    async def test(world: World) -> Answer:
        world.context.partitions.default.slots.free = 0
        return await world.client.get("/msg")

    answer = in_world(test, queue_limit=0)
    assert answer.status == 503
    assert_documented(answer, "GET", "/msg")


def test_a_table_of_partitions_without_room_is_as_documented() -> None:
    async def test(world: World) -> list[tuple[str, Answer]]:
        await world.client.post("/~a/fail/count/1")
        return [(path, await world.client.get(f"/~b{path}")) for path in ("/msg", "/fail/status", "/metrics")]

    for path, answer in in_world(test, partitions_max=2):
        assert answer.status == 503
        assert_documented(answer, "GET", path)

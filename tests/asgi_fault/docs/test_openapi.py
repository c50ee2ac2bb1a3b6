"""The OpenAPI document: valid, complete, and true. What it says is held against what the server answers."""

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from asgi_fault import __version__
from asgi_fault.docs import examples as story
from asgi_fault.docs.openapi import TAGS, openapi
from asgi_fault.docs.shapes import embedded
from asgi_fault.faults.schema import SCHEMA as RULES
from asgi_fault.observe.expectations import SCHEMA as EXPECTATIONS
from asgi_fault.observe.journal import Connection
from asgi_fault.parameters import Integer, Text
from asgi_fault.routes import ROUTES
from asgi_fault.routing import Body, Reply, Route
from tests import in_process
from tests.in_process import Answer, World, in_world

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi(ROUTES)))
OPERATIONS = [(method, path) for path, item in DOCUMENT["paths"].items() for method in item]
PROBLEM = ("Accept", "application/problem+json")
JSON = ("Content-Type", "application/json")


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
    value = answer.json if content_type.endswith(("/json", "+json")) else answer.body.decode()
    assert violations(response["content"][content_type]["schema"], value) == []
    for name, reference in response["headers"].items():
        header = resolved(reference)
        assert name.lower() in answer.headers or not header["required"]
        if name.lower() in answer.headers:
            text = answer.headers[name.lower()]
            assert violations(header["schema"], int(text) if header["schema"].get("type") == "integer" else text) == []


def sent(value: Any) -> dict[str, Any]:
    """The options of a request that has `value` as its JSON body."""
    body = json.dumps(value).encode()
    return {"headers": [JSON, ("Content-Length", str(len(body)))], "chunks": [body]}


def target_of(one: Route) -> str:
    """Its path with the documented examples for the parameters."""
    target = one.path
    for parameter in operation_of(one).get("parameters", ()):
        if parameter.get("in") == "path":
            target = target.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    return target


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
    for method, path in OPERATIONS:
        for media in DOCUMENT["paths"][path][method].get("requestBody", {}).get("content", {}).values():
            for name, example in media["examples"].items():
                yield pytest.param(media["schema"], example["value"], id=f"{method} {path} {name}")
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


def test_further_content_types_are_those_of_the_table() -> None:
    also = {"text/plain": "a", "text/csv": None}
    content = operation_of(route(replies={200: Reply(description="Fine", also=also)}))["responses"]["200"]["content"]
    assert set(content) == {"application/json", *also}
    assert content["text/plain"] == {"schema": {"type": "string"}, "example": "a"}
    assert content["text/csv"] == {"schema": {"type": "string"}}


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
    name = Text(name="id", where="path", pattern="^a$", max_length=1, description="A name.", example="a")
    assert "422" not in operation_of(route("/thing/{id}", parameters=(name,)))["responses"], "that would be a 404"


def test_a_body_is_documented_with_all_that_can_be_wrong_with_it() -> None:
    assert "requestBody" not in operation_of(route())
    assert "415" not in operation_of(route())["responses"]
    body = Body(description="A thing.", schema={"type": "object"}, examples={"One": {"a": 1}, "Two": {"a": 2}})
    documented = operation_of(route(body=body))
    assert documented["requestBody"]["required"]
    assert documented["requestBody"]["description"] == "A thing."
    ((content_type, media),) = documented["requestBody"]["content"].items()
    assert (content_type, media["schema"]) == ("application/json", {"type": "object"})
    assert [(one["summary"], one["value"]) for one in media["examples"].values()] == list(body.examples.items())
    assert documented["responses"]["415"] == {"$ref": "#/components/responses/UnsupportedMediaType"}
    assert documented["responses"]["422"] == {"$ref": "#/components/responses/BodyInvalid"}


def test_headers_of_a_reply_are_documented_beside_the_ids() -> None:
    documented = operation_of(route(replies={201: Reply(description="Made", headers=("Location",))}))
    assert set(documented["responses"]["201"]["headers"]) == {"X-Request-ID", "X-Correlation-ID", "Location"}


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


def test_a_number_that_may_be_empty_says_so() -> None:
    for may_be_empty in (True, False):
        number = Integer(name="n", where="query", low=0, high=9, description="A digit.", may_be_empty=may_be_empty)
        documented = operation_of(route(parameters=(number,)))["parameters"][0]
        assert documented.get("allowEmptyValue", False) == may_be_empty


def test_the_example_of_text_in_a_path_is_what_it_has_to_be() -> None:
    for one in ROUTES:
        for parameter in operation_of(one).get("parameters", ()):
            if parameter.get("in") == "path":
                assert violations(parameter["schema"], parameter["example"]) == []


@pytest.mark.parametrize(("name", "published"), [("Faults", RULES), ("Expectations", EXPECTATIONS)])
@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        story.RULE,
        *story.RULE_BODIES.values(),
        *story.EXPECTATION_BODIES.values(),
        {"rules": []},
        {"rules": [{"then": {"status": 99}}]},
        {"then": {"body": {"text": "a", "html": "b"}}},
        {"match": {"headers": {"a": {"regex": 1}}}},
        {"rate_limit": {"algorithm": "none", "limit": 1, "window_s": 1}},
        {"script": [{"forge": {"status": 200, "headers": {"a b": "c"}}}]},
        {"calls": {"min": -1}},
        {"count": [{"path": "a"}]},
        {"order": ["GET /a", "/b"]},
    ],
)  # fmt: skip
def test_the_published_schema_says_the_same_within_the_document(name: str, published: Any, document: Any) -> None:
    alone = [error.message for error in OAS31Validator(published).iter_errors(document)]
    assert violations({"$ref": f"#/components/schemas/{name}"}, document) == alone


def test_an_embedded_schema_leads_to_its_definitions() -> None:
    schema = {
        "$schema": "x",
        "items": {"$ref": "#/$defs/a_b"},
        "$defs": {"a_b": {"anyOf": [{"$ref": "#/$defs/c"}, {"const": "$ref"}]}, "c": {"type": "null"}},
    }
    assert embedded(schema, "Thing", "Thing") == {
        "Thing": {"items": {"$ref": "#/components/schemas/ThingAB"}},
        "ThingAB": {"anyOf": [{"$ref": "#/components/schemas/ThingC"}, {"const": "$ref"}]},
        "ThingC": {"type": "null"},
    }


@pytest.mark.parametrize("one", ROUTES, ids=lambda one: f"{one.method} {one.path}")
def test_the_server_answers_what_the_document_says(one: Route) -> None:
    """Each operation with its examples: as it is, with a fault, in an impossible partition, too large."""
    target = target_of(one)
    value = next(iter(one.body.examples.values())) if one.body is not None else None
    expected = min(one.replies)
    max_body = max(len(json.dumps(value)), len(json.dumps(story.RULE)))

    async def test(world: World) -> list[Answer]:
        async def ask(*headers: tuple[str, str], **more: Any) -> Answer:
            options = sent(value) if value is not None else {"headers": []}
            return await world.client.request(
                one.method, target, **{**options, "headers": [*options["headers"], *headers], **more}
            )

        if "{id}" in one.path:
            await world.client.post("/faults", **sent(story.RULE))
        answers = [await ask(), await ask(("Accept", "text/html, application/openmetrics-text"))]
        for content_type in one.replies[expected].also:
            leave = asyncio.Event()
            asyncio.get_running_loop().call_later(1, leave.set)
            answers += [await ask(("Accept", content_type), leave=leave)]
            assert answers[-1].headers["content-type"].partition(";")[0] == content_type
        await world.client.post("/fail/count/2")
        answers += [await ask(), await ask(PROBLEM)]
        await world.client.post("/fail/duration/60")
        answers += [await ask()]
        await world.client.post("/fail/reset")
        answers += [await ask(("X-Fault-Partition", "no/name")), await ask(("X-Fault-Partition", "no/name"), PROBLEM)]
        answers += [await ask(*[("X-Many", "1")] * 300)]
        too_large = b"1" * (max_body + 1)
        answers += [await ask(headers=[("Content-Length", str(len(too_large)))], chunks=[too_large])]
        return answers

    answers = in_world(test, max_body=max_body)
    if one.tag == "ports" and (one.method, one.path) not in {("GET", "/ports"), ("DELETE", "/ports")}:
        # No port can be opened without a socket; test_ports has the answers of a server that listens.
        expected = 501 if one.path == "/ports" else 404
    assert answers[0].status == expected
    assert [answer.status for answer in answers[-2:]] == [431, 200 if one.path == "/health" else 413]
    for answer in answers:
        assert_documented(answer, one.method, one.path)


def documented_example(method: str, path: str, status: int, content_type: str = "application/json") -> Any:
    return resolved(DOCUMENT["paths"][path][method.lower()]["responses"][str(status)])["content"][content_type][
        "example"
    ]


def test_the_examples_of_faults_and_journal_are_one_true_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every documented answer of these paths, word for word, on one connection of a server with our protocol."""
    monkeypatch.setattr(in_process, "WALL_TIME", 1_795_230_000.0)
    wire = SimpleNamespace(connection=Connection(1, 1000.0), partition="")

    async def test(world: World) -> None:
        async def ask(method: str, target: str, value: Any = None, **options: Any) -> Answer:
            options = {**(sent(value) if value is not None else {}), **options}
            return await world.client.request(method, target, extensions={"asgi_fault.wire": wire}, **options)

        made = await ask("POST", "/faults", story.RULE)
        assert made.json == documented_example("POST", "/faults", 201)
        assert made.headers["location"] == DOCUMENT["components"]["headers"]["Location"]["example"]
        for pause in (0, 2):
            await asyncio.sleep(pause)
            await ask("GET", "/msg", headers=[("X-Request-ID", "order-17")])
        for path in ("/faults", "/faults/{id}", "/journal"):
            assert (await ask("GET", path.replace("{id}", "r1"))).json == documented_example("GET", path, 200)
        for content_type, target in (
            ("application/x-ndjson", "/journal"),
            ("text/event-stream", "/journal?limit=2"),
        ):
            answer = await ask("GET", target, headers=[("Accept", content_type)])
            assert answer.body.decode() == documented_example("GET", "/journal", 200, content_type)
        verdict = await ask("POST", "/journal/verify", story.EXPECTATIONS)
        assert verdict.json == documented_example("POST", "/journal/verify", 200)
        assert (await ask("DELETE", "/journal")).json == documented_example("DELETE", "/journal", 200)
        assert (await ask("DELETE", "/faults/r1")).json == documented_example("DELETE", "/faults/{id}", 200)

    in_world(test)


def test_the_examples_of_fail_are_what_the_server_answers() -> None:
    async def test(world: World) -> None:
        assert (await world.client.post("/fail/duration/3")).json == documented_example(
            "POST", "/fail/duration/{s}", 200
        )
        assert (await world.client.get("/msg")).json == documented_example("GET", "/msg", 500)
        assert (await world.client.post("/fail/reset")).json == documented_example("POST", "/fail/reset", 200)
        assert (await world.client.post("/fail/count/3")).json == documented_example("POST", "/fail/count/{n}", 200)
        assert (await world.client.get("/fail/status")).json == documented_example("GET", "/fail/status", 200)

    in_world(test)


def without_ids(example: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in example.items() if key != "request_id"}


def test_the_examples_of_errors_are_what_the_server_answers() -> None:
    cases: list[tuple[str, str, str, dict[str, Any], int]] = [
        ("GET", "/faults/{id}", "/faults/r1", {}, 404),
        ("DELETE", "/faults/{id}", "/faults/r1", {}, 404),
        ("POST", "/faults", "/faults", {"headers": [("Content-Type", "text/plain")]}, 415),
        ("POST", "/journal/verify", "/journal/verify", sent({"statuses": [200, "503"]}), 422),
        ("GET", "/msg", "/msg?delay=30001", {}, 422),
    ]

    async def test(world: World) -> None:
        for method, path, target, options, status in cases:
            answer = await world.client.request(method, target, **options)
            assert answer.status == status
            assert without_ids(answer.json) == without_ids(documented_example(method, path, status))
            assert_documented(answer, method, path)

    in_world(test)


def test_a_server_without_a_journal_says_so_as_documented() -> None:
    async def test(world: World) -> None:
        for method, path in (("GET", "/journal"), ("DELETE", "/journal"), ("POST", "/journal/verify")):
            options = sent(story.EXPECTATIONS) if method == "POST" else {}
            answer = await world.client.request(method, path, **options)
            assert answer.status == 404
            assert without_ids(answer.json) == without_ids(documented_example(method, path, 404))
            assert_documented(answer, method, path)

    in_world(test, journal_size=0)


@pytest.mark.parametrize(
    ("one", "value"),
    [
        pytest.param(one, example["value"], id=f"{one.method} {one.path} {example['summary']}")
        for one in ROUTES
        if one.body is not None and one.tag != "ports"  # which need a server that listens: test_ports
        for example in operation_of(one)["requestBody"]["content"]["application/json"]["examples"].values()
    ],
)
def test_an_example_of_a_body_is_taken(one: Route, value: Any) -> None:
    async def test(world: World) -> list[Answer]:
        charset = [("Content-Type", "Application/JSON; charset=utf-8"), sent(value)["headers"][1]]
        return [
            await world.client.request(one.method, one.path, **sent(value)),
            await world.client.request(one.method, one.path, **{**sent(value), "headers": charset}),
        ]

    for answer in in_world(test):
        assert answer.status == min(one.replies)
        assert_documented(answer, one.method, one.path)


BODIES = [one for one in ROUTES if one.body is not None and one.tag != "ports"]


@pytest.mark.parametrize("one", BODIES, ids=lambda one: one.path)
def test_what_is_wrong_with_a_body_is_as_documented(one: Route) -> None:
    async def test(world: World) -> list[Answer]:
        answers = []
        for body in (b"", b"{", b"[]", b"{}", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff"):
            headers = [JSON, ("Content-Length", str(len(body)))]
            for more in ([], [PROBLEM]):
                options: dict[str, Any] = {"headers": [*headers, *more], "chunks": [body]}
                answers.append(await world.client.request(one.method, one.path, **options))
        return answers

    for answer in in_world(test):
        assert answer.status == 422
        assert_documented(answer, one.method, one.path)
        if "detail" in answer.json and isinstance(answer.json["detail"], list):
            assert all(violation["loc"][0] == "body" for violation in answer.json["detail"])


@pytest.mark.parametrize(
    ("method", "template", "target"),
    [
        ("GET", "/msg", "/msg?delay=abc"),
        ("GET", "/msg", "/msg?delay=30001"),
        ("POST", "/fail/count/{n}", "/fail/count/1001"),
        ("POST", "/fail/duration/{s}", "/fail/duration/x"),
        ("GET", "/journal", "/journal?limit=0"),
        ("GET", "/journal", f"/journal?call={'x' * 257}&follow=maybe"),
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

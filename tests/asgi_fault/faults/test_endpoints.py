"""/faults: set, list, show, remove; what is refused, and that it changes nothing; what `/fail` has set is listed."""

import json
from typing import Any

import pytest

from asgi_fault.faults.schema import SCHEMA
from tests.in_process import Answer, World, in_world

JSON = [("content-type", "application/json")]


async def post(world: World, document: Any, target: str = "/faults", headers: Any = JSON) -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return await world.client.post(target, headers=[*headers, ("content-length", str(len(body)))], chunks=[body])


async def statuses(world: World, number: int, target: str = "/msg") -> list[int]:
    return [(await world.client.get(target)).status for _ in range(number)]


def test_a_rule_from_its_birth_to_its_end() -> None:
    async def test(world: World) -> None:
        rule = {"match": {"path": "/msg"}, "script": [{"status": 503}, {"status": 502}]}
        answer = await post(world, rule)
        assert answer.status == 201
        assert answer.json == {"rules": [{"id": "r1", **rule, "set_at": "2023-11-14T22:13:20.000Z"}]}
        assert answer.headers["location"] == "/faults/r1"
        assert await statuses(world, 1) == [503]
        shown = (await world.client.get("/faults/r1")).json
        assert shown == {**answer.json["rules"][0], "age_s": 0.0, "matched": 1, "used": 1, "step": 1}
        assert (await world.client.get("/faults")).json == {"rules": [shown]}
        removed = await world.client.request("DELETE", "/faults/r1")
        assert (removed.status, removed.json) == (200, {"deleted": 1})
        assert await statuses(world, 1) == [200]
        assert (await world.client.get("/faults")).json == {"rules": []}
        assert world.context.partitions.default.rules is None

    in_world(test)


def test_several_rules_and_all_of_them_gone() -> None:
    async def test(world: World) -> None:
        answer = await post(world, {"rules": [{"id": "a", "script": [{"status": 501}]}, {"then": {"status": 502}}]})
        assert [rule["id"] for rule in answer.json["rules"]] == ["a", "r1"]
        assert "location" not in answer.headers
        assert await statuses(world, 2) == [501, 502]
        assert await statuses(world, 1, "/no/such/path") == [502]
        assert (await world.client.request("DELETE", "/faults")).json == {"deleted": 2}
        assert await statuses(world, 1) == [200]
        assert (await world.client.request("DELETE", "/faults")).json == {"deleted": 0}

    in_world(test)


def test_rules_belong_to_their_partition() -> None:
    async def test(world: World) -> None:
        answer = await post(world, {"then": {"status": 503}}, "/~blue/faults")
        assert answer.headers["location"] == "/~blue/faults/r1"
        assert await statuses(world, 1, "/~blue/msg") == [503]
        assert await statuses(world, 1) == [200]
        assert (await world.client.get("/faults")).json == {"rules": []}
        assert len((await world.client.get("/~blue/faults")).json["rules"]) == 1

    in_world(test)


def test_the_control_plane_is_never_matched() -> None:
    async def test(world: World) -> None:
        await post(world, {"then": {"status": 503}})
        for target in ("/faults", "/faults/r1", "/faults/schema", "/fail/status", "/health", "/metrics"):
            assert (await world.client.get(target)).status == 200, target

    in_world(test)


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/json ;x=y"]
)
def test_json_in_any_spelling(content_type: str) -> None:
    async def test(world: World) -> None:
        assert (await post(world, {"then": {}}, headers=[("content-type", content_type)])).status == 201

    in_world(test)


@pytest.mark.parametrize("headers", [[], [("content-type", "text/plain")], [("content-type", "application/jsonp")]])
def test_anything_else_is_a_415_that_names_the_fix(headers: Any) -> None:
    async def test(world: World) -> None:
        answer = await post(world, {"then": {}}, headers=headers)
        assert answer.status == 415
        assert "Content-Type: application/json" in answer.json["detail"]
        assert answer.headers["accept"] == "application/json"
        assert (await world.client.get("/faults")).json == {"rules": []}

    in_world(test)


@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        (b"", ["body", 0], "json_invalid"),
        (b"{", ["body", 1], "json_invalid"),
        (b'{"then": {}, "then": {}}', ["body", "then"], "json_invalid"),
        (b'{"then": {"delay_s": NaN}}', ["body", "then", "delay_s"], "json_invalid"),
        (b'{"then":' + b'{"body":{"json":' * 40 + b"1" + b"}}" * 40 + b"}", None, "json_invalid"),
        (b"[" * 500_000, ["body"], "json_invalid"),
        (b"[]", ["body"], "dict_type"),
        (b"{}", ["body"], "value_error"),
        (b'{"rules": []}', ["body", "rules"], "too_short"),
        (b'{"rules": [{"then": {"status": "x"}}]}', ["body", "rules", 0, "then", "status"], "int_type"),
        (b'{"script": [{}, {"statsu": 503}]}', ["body", "script", 1, "statsu"], "extra_forbidden"),
        (b'{"then": {"body": {"text": "abc"}, "truncate": {"bytes": 3}}}', None, "value_error"),
        (b'{"then": {"end": {"how": "reset", "at": "before-head"}}}', ["body", "then", "end"], "value_error"),
        (b'{"rules": [' + b",".join([b'{"then":{}}'] * 10_000) + b"]}", ["body", "rules"], "too_long"),
    ],
)
def test_every_kind_of_mistake_is_a_422_that_names_its_path_and_sets_nothing(body: bytes, loc: Any, kind: str) -> None:
    async def test(world: World) -> None:
        await post(world, {"id": "kept", "then": {"status": 503}})
        answer = await post(world, body)
        assert answer.status == 422
        assert answer.json["error"] == "ValidationError"
        first = answer.json["detail"][0]
        assert first["type"] == kind
        assert loc is None or first["loc"] == loc
        assert [rule["id"] for rule in (await world.client.get("/faults")).json["rules"]] == ["kept"]

    in_world(test)


def test_ten_megabytes_do_not_get_here() -> None:
    async def test(world: World) -> None:
        assert (await post(world, b" " * 10_000_000)).status == 413

    in_world(test)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_404_names_the_id(method: str) -> None:
    async def test(world: World) -> None:
        for _ in range(2):
            answer = await world.client.request(method, "/faults/nope")
            assert answer.status == 404
            assert "'nope'" in answer.json["message"]
            assert answer.json["details"] == {"id": "nope"}
            await post(world, {"then": {}})

    in_world(test)


def test_the_schema_is_published() -> None:
    async def test(world: World) -> None:
        answer = await world.client.get("/faults/schema")
        assert answer.headers["content-type"] == "application/schema+json"
        assert answer.json == SCHEMA

    in_world(test)


def test_what_fail_has_set_is_listed_as_the_rules_it_is() -> None:
    async def test(world: World) -> None:
        await world.client.post("/fail/count/3")
        await world.client.post("/fail/duration/10")
        await post(world, {"match": {"path": "/other"}, "then": {}})
        await statuses(world, 1)
        step = {"status": 500, "body": {"json": {"detail": "Induced server failure"}}}
        match = {"method": ["GET", "HEAD"], "path": "/msg"}
        listed = (await world.client.get("/faults")).json["rules"]
        assert [rule["id"] for rule in listed] == ["r1", "fail-count", "fail-duration"]
        assert listed[1] == {"id": "fail-count", "match": {**match, "first": 2}, "then": step, "set_by": "/fail/count"}
        assert listed[2]["match"] == {**match, "for_s": 10.0}
        assert (await world.client.get("/faults/fail-count")).json == listed[1]

    in_world(test)


def test_what_they_say_is_what_they_do() -> None:
    async def answers(world: World) -> list[tuple[int, bytes, str]]:
        found = [await world.client.get("/msg") for _ in range(4)]
        return [(a.status, a.body if a.status == 500 else b"", a.headers["content-type"]) for a in found]

    async def test(world: World) -> None:
        await world.client.post("/fail/count/2")
        listed = (await world.client.get("/faults")).json["rules"][0]
        induced = await answers(world)
        await post(world, {"match": listed["match"], "then": listed["then"]})
        assert await answers(world) == induced

    in_world(test)


def test_what_fail_has_set_can_be_removed_here() -> None:
    async def test(world: World) -> None:
        for removed in (["/faults/fail-count", "/faults/fail-duration"], ["/faults"]):
            await world.client.post("/fail/count/3")
            await world.client.post("/fail/duration/10")
            for target in removed:
                assert (await world.client.request("DELETE", target)).status == 200
            assert await statuses(world, 1) == [200]
            status = (await world.client.get("/fail/status")).json
            assert status["currently_failing"] is False
            assert (await world.client.get("/faults")).json == {"rules": []}

    in_world(test)


def test_the_token_guards_it() -> None:
    async def test(world: World) -> None:
        for method, target in (
            ("POST", "/faults"),
            ("GET", "/faults"),
            ("DELETE", "/faults/x"),
            ("GET", "/faults/schema"),
        ):
            assert (await world.client.request(method, target)).status == 401

    in_world(test, admin_token="secret")


def test_setting_is_logged_without_what_was_set() -> None:
    async def test(world: World) -> None:
        await post(world, {"id": "a", "match": {"headers": {"authorization": "Bearer secret"}}, "then": {}})
        await world.client.request("DELETE", "/faults/a")
        events = [
            (line["event"], line.get("rules"), line.get("first")) for line in world.lines if "fault" in line["event"]
        ]
        assert events == [("fault.set", 1, "a"), ("fault.reset", None, None)]
        assert "secret" not in "".join(world.log_text)

    in_world(test)

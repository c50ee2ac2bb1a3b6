"""What every path has in common: 404, 405, HEAD, OPTIONS, trailing slashes, ids, one error shape, body limits, CORS."""

import asyncio
import uuid

import pytest

from asgi_fault.asgi import Response
from asgi_fault.exchange import Exchange
from asgi_fault.routes import ROUTES
from tests.in_process import Answer, World, in_world

PLAIN_GETS = sorted({route.path for route in ROUTES if route.method == "GET" and "{" not in route.path})


def assert_union(answer: Answer, status: int, error: str) -> None:
    """The error object that the clients of all four older systems can read."""
    assert answer.status == status
    body = answer.json
    assert body["error"] == error
    assert body["status_code"] == status
    assert body["message"]
    assert body["detail"] == body["message"] or isinstance(body["detail"], list)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert uuid.UUID(answer.headers["x-correlation-id"]).version == 4
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", PLAIN_GETS)
@pytest.mark.parametrize("slash", ["", "/"])
def test_get_and_head_are_served_with_and_without_a_trailing_slash(path: str, slash: str) -> None:
    async def test(world: World) -> None:
        target = path.rstrip("/") + slash if path != "/" else "/"
        got = await world.client.get(target)
        head = await world.client.request("HEAD", target)
        assert got.status == head.status == 200
        assert got.body
        assert head.body == b""
        assert head.headers["content-type"] == got.headers["content-type"]
        if path not in ("/metrics", "/health"):
            assert head.headers["content-length"] == got.headers["content-length"]

    in_world(test)


@pytest.mark.parametrize(
    "path", ["/nowhere", "/msg/1", "/fail", "/fail/count", "/fail/count/1/2", "/MSG", "//msg", "/fail//reset"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "BREW"])
def test_a_path_that_no_surface_has_is_a_404(path: str, method: str) -> None:
    async def test(world: World) -> None:
        answer = await world.client.request(method, path)
        assert_union(answer, 404, "HTTPException")
        assert answer.json["detail"] == "Not Found"
        assert answer.json["details"]["path"] == path

    in_world(test)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/msg", "GET, HEAD, OPTIONS"),
        ("DELETE", "/health", "GET, HEAD, OPTIONS"),
        ("GET", "/fail/reset", "POST, OPTIONS"),
        ("HEAD", "/fail/count/3", "POST, OPTIONS"),
        ("TRACE", "/msg", "GET, HEAD, OPTIONS"),
        ("BREW", "/msg/", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_a_405_with_the_full_list(method: str, path: str, allow: str) -> None:
    async def test(world: World) -> None:
        answer = await world.client.request(method, path)
        assert answer.status == 405
        assert answer.headers["allow"] == allow
        if method != "HEAD":
            assert_union(answer, 405, "HTTPException")

    in_world(test)


@pytest.mark.parametrize(("path", "allow"), [("/msg", "GET, HEAD, OPTIONS"), ("/fail/count/3", "POST, OPTIONS")])
def test_options_answers_with_what_there_is(path: str, allow: str) -> None:
    async def test(world: World) -> None:
        answer = await world.client.request("OPTIONS", path)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["allow"] == allow
        assert "content-length" not in answer.headers
        assert answer.headers["x-request-id"]

    in_world(test)


def test_options_of_the_server_itself() -> None:
    async def test(world: World) -> None:
        assert (await world.client.request("OPTIONS", "*")).status == 204
        assert (await world.client.request("GET", "*")).status == 404

    in_world(test)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("CONNECT", "example.org:443", 400),
        ("CONNECT", "/msg", 405),
        ("GET", "http://example.org/msg", 200),
        ("GET", "https://example.org:8443/msg/?delay=0", 200),
        ("GET", "http://example.org", 200),
        ("GET", "msg", 400),
        ("GET", "/%zz", 400),
        ("GET", "/m%", 400),
        ("GET", "/msg%2", 400),
        ("GET", "/caf%e9", 400),
        ("GET", "/caf%C3%A9", 404),
        ("GET", "/%6Dsg", 200),
        ("POST", "/fail/count/%zz", 400),
    ],
)
def test_every_form_of_target_is_served_or_clearly_refused(method: str, target: str, status: int) -> None:
    async def test(world: World) -> None:
        answer = await world.client.request(method, target)
        assert answer.status == status
        if status == 400:
            assert_union(answer, 400, "BadRequestError")

    in_world(test)


def test_problem_json_for_those_who_ask() -> None:
    async def test(world: World) -> None:
        wants = [("Accept", "application/problem+json, application/json;q=0.5")]
        missing = await world.client.get("/nowhere", headers=wants)
        assert missing.headers["content-type"] == "application/problem+json"
        assert missing.json["status"] == 404
        assert missing.json["title"] == "Not Found"
        assert missing.json["type"] == "about:blank"
        invalid = await world.client.get("/msg?delay=x", headers=wants)
        assert invalid.json["validation_errors"][0]["type"] == "int_parsing"
        await world.client.post("/fail/count/1")
        induced = await world.client.get("/msg", headers=wants)
        assert induced.json["detail"] == "Induced server failure"
        assert induced.json["status"] == 500

    in_world(test)


def test_a_defect_of_ours_shows_the_client_an_id_and_the_log_everything() -> None:
    def broken(_: Exchange) -> Response:
        raise RuntimeError("secret-driver-text")

    async def test(world: World) -> None:
        world.app._static["/msg"].operations["GET"].handler = broken
        answer = await world.client.get("/msg?delay=0", headers=[("X-Request-ID", "find-me")])
        assert_union(answer, 500, "InternalServerError")
        assert b"secret" not in answer.body
        assert world.context.partitions.default.slots.free == 50
        (line,) = [line for line in world.lines if line["event"] == "request.failed"]
        assert line["request_id"] == "find-me"
        assert "secret-driver-text" in line["exc_info"]
        assert line["level"] == "error"

    in_world(test)


# --- bodies ---


def test_a_body_past_the_limit_is_a_413_whether_it_says_so_or_not() -> None:
    async def test(world: World) -> None:
        declared = await world.client.post("/fail/reset", headers=[("Content-Length", "1001")])
        assert_union(declared, 413, "RequestEntityTooLarge")
        assert declared.headers["connection"] == "close"
        chunked = await world.client.post(
            "/fail/reset", headers=[("Transfer-Encoding", "chunked")], chunks=[b"x" * 400] * 10
        )
        assert_union(chunked, 413, "RequestEntityTooLarge")
        absurd = await world.client.post("/fail/reset", headers=[("Content-Length", "9" * 4000)])
        assert absurd.status == 413
        exact = await world.client.post("/fail/reset", headers=[("Content-Length", "1000")], chunks=[b"x" * 500] * 2)
        assert exact.status == 200

    in_world(test, max_body=1000)


def test_a_body_that_does_not_come_is_a_408() -> None:
    async def test(world: World) -> None:
        async def never() -> None:
            await asyncio.Event().wait()

        received = [{"type": "http.request", "body": b"part", "more_body": True}]
        sent = []

        async def receive() -> dict[str, object]:
            if received:
                return received.pop()
            await never()
            raise AssertionError

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "GET", "path": "/msg", "raw_path": b"/msg", "query_string": b"",
            "headers": [(b"content-length", b"100")],
        }  # fmt: skip
        await world.app(scope, receive, send)
        assert sent[0]["status"] == 408
        assert world.context.clock() == pytest.approx(1030.0)
        assert world.context.partitions.default.slots.free == 50

    in_world(test)


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind() -> None:
    async def test(world: World) -> None:
        leave = asyncio.Event()
        leave.set()
        answer = await world.client.get("/msg", headers=[("Content-Length", "10")], leave=leave)
        assert answer.status == 0
        assert world.context.partitions.default.slots.free == 50

    in_world(test)


def test_a_body_that_came_while_its_request_was_queued_is_read_once() -> None:
    async def test(world: World) -> None:
        inside = asyncio.create_task(world.client.get("/msg?delay=2000"))
        await asyncio.sleep(1)
        queued = asyncio.create_task(
            world.client.get("/msg", headers=[("Transfer-Encoding", "chunked")], chunks=[b"a", b"b", b"c"])
        )
        too_large = asyncio.create_task(
            world.client.get("/msg", headers=[("Transfer-Encoding", "chunked")], chunks=[b"x" * 30] * 3)
        )
        assert (await inside).status == 200
        assert (await queued).status == 200
        assert (await too_large).status == 413

    in_world(test, max_concurrency=1, max_body=50)


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Big", b"x" * 70_000)],
        [(f"X-{i}", b"x" * 1000) for i in range(70)],
        [(f"X-{i}", b"") for i in range(300)],
    ],
)
@pytest.mark.parametrize("path", ["/msg", "/nowhere", "/health"])
def test_a_head_past_the_bound_is_a_431(headers: list[tuple[str, bytes]], path: str) -> None:
    async def test(world: World) -> None:
        answer = await world.client.get(path, headers=headers)
        assert_union(answer, 431, "RequestHeaderFieldsTooLarge")
        assert world.context.partitions.default.slots.free == 50

    in_world(test)


# --- CORS ---

ORIGIN = "http://shop.example"
PREFLIGHT = [("Origin", ORIGIN), ("Access-Control-Request-Method", "POST")]


def test_without_cors_no_answer_speaks_of_it() -> None:
    async def test(world: World) -> None:
        answer = await world.client.get("/msg", headers=[("Origin", ORIGIN)])
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await world.client.request("OPTIONS", "/msg", headers=PREFLIGHT)).status == 204

    in_world(test)


def test_an_allowed_origin_may_read_every_answer() -> None:
    async def test(world: World) -> None:
        origin = [("Origin", ORIGIN)]
        for path in ("/msg", "/nowhere", "/msg?delay=x", "/health"):
            answer = await world.client.get(path, headers=origin)
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert answer.headers["vary"] == "Origin"
            assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
        other = await world.client.get("/msg", headers=[("Origin", "http://evil.example")])
        assert other.status == 200
        assert "access-control-allow-origin" not in other.headers
        assert "access-control-allow-origin" not in (await world.client.get("/msg")).headers

    in_world(test, cors_enabled=True, cors_origins=(ORIGIN, "http://other.example"))


def test_a_star_allows_all_without_credentials() -> None:
    async def test(world: World) -> None:
        answer = await world.client.get("/msg", headers=[("Origin", ORIGIN)])
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers

    in_world(test, cors_enabled=True)


@pytest.mark.parametrize("path", ["/msg", "/fail/reset", "/nowhere"])
def test_a_preflight_is_answered_on_any_path(path: str) -> None:
    async def test(world: World) -> None:
        asked = [*PREFLIGHT, ("Access-Control-Request-Headers", "x-request-id, Content-Type")]
        good = await world.client.request("OPTIONS", path, headers=asked)
        assert (good.status, good.body, good.headers["content-type"]) == (200, b"OK", "text/plain; charset=utf-8")
        assert good.headers["access-control-allow-origin"] == ORIGIN
        assert good.headers["access-control-max-age"] == "600"
        assert "POST" in good.headers["access-control-allow-methods"]
        assert good.headers["x-request-id"]

    in_world(test, cors_enabled=True, cors_origins=(ORIGIN,))


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([("Origin", "http://evil.example"), ("Access-Control-Request-Method", "GET")], b"Disallowed CORS origin"),
        ([("Origin", ORIGIN), ("Access-Control-Request-Method", "BREW")], b"Disallowed CORS method"),
        ([*PREFLIGHT, ("Access-Control-Request-Headers", "X-Evil")], b"Disallowed CORS headers"),
    ],
)
def test_a_preflight_that_asks_for_too_much_is_a_400(headers: list[tuple[str, str]], text: bytes) -> None:
    async def test(world: World) -> None:
        answer = await world.client.request("OPTIONS", "/msg", headers=headers)
        assert (answer.status, answer.body) == (400, text)

    in_world(test, cors_enabled=True, cors_origins=(ORIGIN,))


# --- the token ---


def test_the_control_plane_can_be_guarded() -> None:
    async def test(world: World) -> None:
        guarded = [("POST", "/fail/reset"), ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json")]
        for method, path in guarded:
            for headers in ([], [("Authorization", "Bearer wrong")], [("Authorization", "Basic s3cret")]):
                refused = await world.client.request(method, path, headers=headers)
                assert_union(refused, 401, "AuthenticationError")
                assert refused.headers["www-authenticate"].startswith("Bearer")
            allowed = await world.client.request(method, path, headers=[("Authorization", "bearer s3cret")])
            assert allowed.status == 200
        for path in ("/health", "/msg", "/"):
            assert (await world.client.get(path)).status == 200
        assert "s3cret" not in "".join(world.log_text)

    in_world(test, admin_token="s3cret")


# --- what is not HTTP ---


def test_a_websocket_is_closed_cleanly() -> None:
    async def test(world: World) -> None:
        sent = []

        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        await world.app({"type": "websocket", "path": "/msg", "headers": []}, receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]

    in_world(test)


def test_an_unknown_scope_is_named() -> None:
    async def test(world: World) -> None:
        with pytest.raises(ValueError, match="webtransport"):
            await world.app({"type": "webtransport"}, None, None)  # type: ignore[arg-type]

    in_world(test)


# --- the documents and the switch for them ---


def test_the_pages_can_be_switched_off_and_openapi_stays() -> None:
    async def test(world: World) -> None:
        assert (await world.client.get("/docs")).status == 404
        assert (await world.client.get("/redoc")).status == 404
        openapi = (await world.client.get("/openapi.json")).json
        assert openapi["openapi"].startswith("3.1")
        assert "/docs" not in openapi["paths"]
        assert "/msg" in openapi["paths"]

    in_world(test, enable_docs=False)


def test_the_index_is_html_for_a_browser_and_json_else() -> None:
    async def test(world: World) -> None:
        page = await world.client.get("/", headers=[("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")])
        assert page.headers["content-type"].startswith("text/html")
        assert b"/msg" in page.body
        index = (await world.client.get("/", headers=[("Accept", "*/*")])).json
        listed = {(surface["method"], surface["path"]) for surface in index["surfaces"]}
        assert listed == {(route.method, route.path) for route in ROUTES}

    in_world(test)


def test_health_says_how_it_is() -> None:
    async def test(world: World) -> None:
        await asyncio.sleep(12.345)
        health = (await world.client.get("/health")).json
        assert health["status"] == "healthy"
        assert health["uptime_seconds"] == 12.35 or health["uptime_seconds"] == 12.34
        assert health["timestamp"] == "2023-11-14T22:13:20.000Z"
        assert health["version"]

    in_world(test, health_status="healthy")


def test_the_application_needs_no_lifespan_and_changes_nothing_outside_itself() -> None:
    import logging
    import signal

    before = signal.getsignal(signal.SIGINT), logging.getLogger("uvicorn.access").propagate

    async def test(world: World) -> None:
        assert (await world.client.get("/msg")).status == 200

    in_world(test)
    assert (signal.getsignal(signal.SIGINT), logging.getLogger("uvicorn.access").propagate) == before


def test_health_answers_whatever_the_request_brings() -> None:
    async def test(world: World) -> None:
        await world.client.post("/~only/fail/count/1")
        for headers in (
            [("X-Fault-Partition", "not a name")],
            [("X-Fault-Partition", "there-is-no-room")],
            [("Content-Length", "999999999")],
            [("Transfer-Encoding", "chunked")],
        ):
            assert (await world.client.get("/health", headers=headers)).status == 200, headers
        assert (await world.client.get("/~new/health")).status == 200
        assert len(world.context.partitions) == 2, "a look at the health makes no partition"

    in_world(test, partitions_max=2)


def test_urls_we_write_carry_the_prefix() -> None:
    async def test(world: World) -> None:
        index = (await world.client.get("/api/~blue", root_path="/api")).json
        assert index["docs"] == "/api/~blue/docs"
        assert {surface["path"] for surface in index["surfaces"]} >= {"/api/~blue/msg"}

    in_world(test)

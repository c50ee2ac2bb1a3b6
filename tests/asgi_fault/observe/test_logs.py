"""Log lines: the events of the contract at their levels, valid JSON whatever is in them, and nothing secret."""

import asyncio
import json
from typing import Any

import pytest

from asgi_fault.observe.logs import FLUSH_AFTER, FLUSH_SIZE, Log
from tests.in_process import World, in_world
from tests.virtual_time import run_virtual


def events(world: World) -> list[str]:
    return [line["event"] for line in world.lines]


def test_info_says_when_a_failure_is_set_and_reset_and_no_more() -> None:
    async def test(world: World) -> None:
        await world.client.post("/~p/fail/count/3")
        await world.client.post("/fail/duration/5")
        await world.client.post("/fail/reset")
        await world.client.get("/msg", headers=[("X-Request-ID", "k")])
        assert events(world) == ["fault.set", "fault.set", "fault.reset"]
        first = world.lines[0]
        assert first["message"] == "Failure mode set"
        assert first["level"] == "info"
        assert first["logger"] == "asgi_fault"
        assert first["timestamp"] == "2023-11-14T22:13:20.000Z"
        assert first["partition"] == "p"
        assert first["fail_requests_count"] == 3

    in_world(test)


def test_debug_has_one_line_a_request_with_all_the_contract_names() -> None:
    async def test(world: World) -> None:
        answer = await world.client.get("/~p/msg?delay=1500", headers=[("X-Request-ID", "k")])
        (line,) = [line for line in world.lines if line["event"] == "request.complete"]
        assert line == {
            "message": "HTTP request completed",
            "event": "request.complete",
            "level": "debug",
            "logger": "asgi_fault",
            "timestamp": "2023-11-14T22:13:20.000Z",
            "correlation_id": answer.headers["x-correlation-id"],
            "method": "GET",
            "path": "/msg",
            "status_code": 200,
            "duration_ms": 1500.0,
            "request_id": "k",
        }

    in_world(test, log_level="DEBUG")


def test_debug_follows_a_request_through_its_steps() -> None:
    async def test(world: World) -> None:
        key: dict[str, Any] = {"headers": [("X-Request-ID", "k")]}
        inside = asyncio.create_task(world.client.get("/msg?delay=1000", **key))
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(world.client.get("/msg", **key))
        await asyncio.gather(inside, waiting)
        await world.client.post("/fail/count/1")
        await world.client.get("/msg", **key)
        assert [event for event in events(world) if not event.startswith("request.")] == [
            "cache.miss", "queue.wait", "queue.acquire", "cache.hit", "fault.set", "fault.induced",
        ]  # fmt: skip

    in_world(test, log_level="DEBUG", max_concurrency=1)


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_request_can_forge_a_line(form: str) -> None:
    async def test(world: World) -> None:
        await world.client.request(
            'GE"T\n', '/a%0A{"event":"forged"}%22%5C%01%E2%80%A8', headers=[("X-Request-ID", '"\\')]
        )
        text = "".join(world.log_text)
        assert text.count("\n") == 1
        assert text.endswith("\n")
        if form == "json":
            line = json.loads(text)
            assert line["path"] == '/a\n{"event":"forged"}"\\\x01\u2028'
            assert line["request_id"] == '"\\'

    in_world(test, log_level="DEBUG", log_format=form)


def test_queries_tokens_and_bodies_never_reach_a_line() -> None:
    async def test(world: World) -> None:
        headers = [
            ("Authorization", "Bearer hush-1"),
            ("Cookie", "hush-2"),
            ("X-API-Key", "hush-3"),
            ("Content-Length", "6"),
        ]
        await world.client.get("/msg?token=hush-4", headers=headers, chunks=[b"hush-5"])
        assert world.log_text
        assert "hush" not in "".join(world.log_text)

    in_world(test, log_level="DEBUG")


def test_a_console_line_can_be_read() -> None:
    written: list[str] = []
    log = Log("INFO", "console", written.append, lambda: 0.0)
    log.info("fault.set", "Failure mode set", fail_requests_count=3)
    assert written == ["1970-01-01T00:00:00.000Z INFO    Failure mode set [fault.set] fail_requests_count=3\n"]


@pytest.mark.parametrize(("level", "seen"), [("DEBUG", 4), ("INFO", 3), ("WARNING", 2), ("ERROR", 1)])
def test_a_level_hides_what_is_below_it(level: str, seen: int) -> None:
    written: list[str] = []
    log = Log(level, "json", written.append)
    log.debug("e", "m")
    log.info("e", "m")
    log.warning("e", "m")
    log.failure("e", "m", ValueError())
    assert len(written) == seen


def test_lines_wait_for_a_while_or_for_company_and_none_is_lost() -> None:
    written: list[str] = []

    async def main() -> None:
        log = Log("DEBUG", "json", written.append)
        log.buffer_on(asyncio.get_running_loop())
        log.debug("e", "first")
        assert written == []
        await asyncio.sleep(FLUSH_AFTER + 0.01)
        assert "first" in written[0]
        lines = 0
        while len(written) == 1:
            log.debug("e", "x" * 100)
            lines += 1
        assert lines >= FLUSH_SIZE // 400
        assert written[1].count("\n") == lines
        log.debug("e", "second")
        log.info("e", "an operator should not have to wait")
        assert "second" in written[2]
        log.debug("e", "last")
        log.close()
        assert "last" in written[3]
        log.debug("e", "after the loop")
        assert "after" in written[4]

    run_virtual(main())

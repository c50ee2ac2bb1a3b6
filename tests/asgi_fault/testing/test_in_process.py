"""The handle without a socket, over `httpx.ASGITransport`."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trio

from asgi_fault.testing import FaultApp, RuleError


@pytest.fixture
def app() -> Iterator[FaultApp]:
    with FaultApp("blue") as app:
        yield app


def statuses(app: FaultApp, *paths: str) -> list[int]:
    async def main() -> list[int]:
        async with httpx.AsyncClient(transport=app.transport, base_url=app.url) as client:
            return [(await client.get(path)).status_code for path in paths]

    return asyncio.run(main())


def test_faults_attempts_and_checks_are_those_of_the_server(app: FaultApp) -> None:
    app.scenario("503x2-then-ok")
    assert statuses(app, "/a", "/a", "/a") == [503, 503, 200]
    app.check(statuses=[503, 503, 200], attempts=3)
    assert app.url == "http://fault.test/~blue"
    assert [attempt.path for attempt in app.attempts] == ["/a", "/a", "/a"]
    assert app.pending == 0
    app.reset()
    assert statuses(app, "/msg") == [200]


def test_a_client_comes_ready(app: FaultApp) -> None:
    async def main() -> httpx.Response:
        async with app.client(headers={"idempotency-key": "k"}) as client:
            return await client.post("/orders", json={"a": 1})

    assert asyncio.run(main()).json() == {"ok": True}
    assert app.attempts[0].headers["idempotency-key"] == "k"


@pytest.mark.parametrize("step", [{"delay_s": 1}, {"drip": {"bytes_per_s": 1}}, {"silence": True},
                                  {"stall": {"at": "mid-body"}}])  # fmt: skip
def test_what_takes_time_is_refused(app: FaultApp, step: dict[str, Any]) -> None:
    for documents in ([{"script": [step]}], [{"then": {}}, {"then": step}]):
        with pytest.raises(RuleError, match=f"^{next(iter(step))}: in process .* fixture fault_server"):
            app.rules(documents)
    with pytest.raises(RuleError, match="in process"):
        app.fail(1, **step)
    assert statuses(app, "/") == [200]


@pytest.mark.parametrize("scenario", ["reset", "close", "truncated", "garbage"])
def test_what_needs_the_wire_is_refused(app: FaultApp, scenario: str) -> None:
    with pytest.raises(RuleError, match=r"(?s)asgi-fault serve.*The fixture fault_server, which is a real server"):
        app.scenario(scenario)
    assert statuses(app, "/") == [200]


def test_other_mistakes_are_told_as_they_are(app: FaultApp) -> None:
    for mistake in (7, {"then": 7}, {"script": 7}):
        with pytest.raises(RuleError) as caught:
            app.rules([mistake])  # type: ignore[list-item]
        assert "fault_server" not in str(caught.value)


def test_there_is_no_port(app: FaultApp) -> None:
    with pytest.raises(RuntimeError, match="fault_app has no port: use the fixture fault_server"):
        _ = app.own_port


def test_it_says_that_it_needs_asyncio(app: FaultApp) -> None:
    async def main() -> None:
        async with app.client() as client:
            await client.get("/")

    with pytest.raises(RuntimeError, match="fault_app runs on asyncio only: use the fixture fault_server"):
        trio.run(main)


@pytest.mark.parametrize(("path", "headers"), [("/", {"X-Fault": "silence"}), ("/?x-fault=silence", {})])
def test_a_fault_with_the_request_is_refused(app: FaultApp, path: str, headers: dict[str, str]) -> None:
    async def main() -> None:
        async with app.client(headers=headers) as client:
            await client.get(path)

    with pytest.raises(RuntimeError, match="fault_app takes no X-Fault"):
        asyncio.run(main())


def test_a_url_without_prefix_is_told(app: FaultApp) -> None:
    assert statuses(app, "http://fault.test/orders") == [404]
    assert "GET /orders" in (app.astray() or "")
    assert "own_port" not in (app.astray() or "")


def test_without_httpx_the_message_names_the_extra(app: FaultApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(RuntimeError, match=r"pip install 'asgi-fault\[httpx\]'"):
        _ = app.transport

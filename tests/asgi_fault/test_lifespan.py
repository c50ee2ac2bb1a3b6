"""Start and stop inside one process: what waits is woken, and signals find their way to whoever had them before."""

import asyncio
import gc
import signal
import subprocess
import sys
from typing import Any

import pytest

import asgi_fault
from asgi_fault.application import Application
from tests.in_process import World, in_world, make_world


class Lifespan:
    """The server's side of the lifespan protocol."""

    def __init__(self, app: Any) -> None:
        self.to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.create_task(app({"type": "lifespan"}, self.to_app.get, self.from_app.put))

    async def say(self, kind: str) -> dict[str, Any]:
        await self.to_app.put({"type": f"lifespan.{kind}"})
        return await self.from_app.get()


def test_a_stop_wakes_whatever_waits_with_a_503() -> None:
    async def test(world: World) -> None:
        lifespan = Lifespan(world.app)
        assert (await lifespan.say("startup"))["type"] == "lifespan.startup.complete"
        waiting = [
            asyncio.create_task(world.client.get("/msg?delay=20000", headers=[("X-Request-ID", "k")])),
            asyncio.create_task(world.client.get("/msg", headers=[("X-Request-ID", "k")])),
            asyncio.create_task(world.client.get("/msg")),
        ]
        await asyncio.sleep(1)
        world.context.stopping.begin()
        for task in waiting:
            answer = await task
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
            assert "stopping" in answer.json["message"]
        assert world.context.clock() == pytest.approx(1001.0)
        late = await world.client.get("/msg?delay=5")
        assert late.status == 503, "nobody begins to wait any more"
        assert (await world.client.get("/msg")).status == 200, "what need not wait is still served"
        assert (await lifespan.say("shutdown"))["type"] == "lifespan.shutdown.complete"
        await lifespan.task
        assert [line["event"] for line in world.lines] == ["server.start", "server.stop"]

    in_world(test, max_concurrency=2)


def test_the_owner_of_the_process_chains_the_stop_signals_and_puts_them_back() -> None:
    seen: list[int] = []

    def previous(number: int, _: object) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGTERM, previous)
    try:

        async def test(world: World) -> None:
            app = Application(world.context, owns_process=True)
            lifespan = Lifespan(app)
            await lifespan.say("startup")
            assert signal.getsignal(signal.SIGTERM) is not previous
            signal.raise_signal(signal.SIGTERM)
            assert seen == [signal.SIGTERM], "the server's own handler still has its turn"
            await asyncio.sleep(0)
            assert world.context.stopping.begun
            await lifespan.say("shutdown")
            assert signal.getsignal(signal.SIGTERM) is previous
            await lifespan.task

        in_world(test)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_guest_leaves_the_signals_alone() -> None:
    async def test(world: World) -> None:
        before = signal.getsignal(signal.SIGTERM)
        lifespan = Lifespan(world.app)
        await lifespan.say("startup")
        assert signal.getsignal(signal.SIGTERM) is before
        await lifespan.say("shutdown")
        await lifespan.task

    in_world(test)


def test_two_applications_do_not_share_anything() -> None:
    async def test(world: World) -> None:
        other = await make_world()
        await world.client.post("/fail/count/1")
        assert (await other.client.get("/msg")).status == 200
        assert (await world.client.get("/msg")).status == 500

    in_world(test)


def test_a_bad_setting_refuses_the_start_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_PORT", "eighty")
    app = asgi_fault._LazyApplication()

    async def main() -> None:
        lifespan = Lifespan(app)
        answer = await lifespan.say("startup")
        assert answer["type"] == "lifespan.startup.failed"
        assert "SERVER_PORT=eighty: expected a whole number from 0 to 65535" in answer["message"]
        await lifespan.task
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app({"type": "http"}, None, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 500
        assert b"SERVER_PORT" in sent[1]["body"]

    asyncio.run(main())


def test_the_lazy_application_becomes_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_MAX_CONCURRENCY", "7")
    app: Any = asgi_fault._LazyApplication()
    assert not isinstance(app, Application)
    assert app.context.settings.max_concurrency == 7
    assert isinstance(app, Application)
    gc.collect()
    operation = app._router.unmatched.other
    assert operation.path == "unmatched", "the garbage collector takes nothing that is in use"


def test_importing_the_package_loads_no_server() -> None:
    code = "import sys, asgi_fault; print(sorted({'asyncio', 'uvicorn', 'h11', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

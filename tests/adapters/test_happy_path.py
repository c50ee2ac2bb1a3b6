"""What a call to which nothing happens may cost, in things that can be counted: bytecodes, memory, tasks, timers.

Time is measured by `benchmarks/run.py`; these counts are the same on every machine, so a test can hold them.
"""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

import pytest

from adapters import threads
from adapters.asyncio import Resilient
from sansio_client.policy import Policy
from tests.missing import missing

ROOT = Path(__file__).parent.parent.parent
OURS = (str(ROOT / "adapters"), str(ROOT / "sansio_client"))
LIMITS_ELSEWHERE = Policy(total_timeout=inf)
KEY = "api.example"
CALLS = 2_000
SLACK = 1.05  # a release of Python may compile a line a little differently

# Bytecodes of ours in one call, by minor version of Python; lower them when the way gets shorter.
BYTECODES: dict[str, dict[tuple[int, int], int]] = {
    "asyncio, limits elsewhere": {(3, 11): 137, (3, 12): 129, (3, 13): 129},
    "asyncio, total deadline": {(3, 11): 304, (3, 12): 284, (3, 13): 279},
    "trio, limits elsewhere": {(3, 11): 139, (3, 12): 131, (3, 13): 132},
    "threads, limits elsewhere": {(3, 11): 183, (3, 12): 177, (3, 13): 184},
}


async def nothing(_: object) -> str:
    return "an answer"


def nothing_plain(_: object) -> str:
    return "an answer"


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.timers = 0
        self.callbacks = 0
        self.tasks = 0

    def call_at(self, *args: Any, **kwargs: Any) -> Any:  # call_later calls this one
        self.timers += 1
        return super().call_at(*args, **kwargs)

    def call_soon(self, *args: Any, **kwargs: Any) -> Any:
        self.callbacks += 1
        return super().call_soon(*args, **kwargs)

    def create_task(self, *args: Any, **kwargs: Any) -> Any:
        self.tasks += 1
        return super().create_task(*args, **kwargs)


def on_asyncio(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    with asyncio.Runner() as runner:
        return runner.run(main())


async def repeated(call: Callable[[], Awaitable[object]], calls: int) -> None:
    for _ in range(calls):
        await call()


def caller(resilient: Any) -> Callable[[], Coroutine[Any, Any, object]]:
    return lambda: resilient.run(nothing, key=KEY)


class Traced:
    """While it is active, counts the instructions of `adapters` and `sansio_client`."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._opcode

    def _opcode(self, frame: FrameType, event: str, arg: object) -> Any:
        self.count += event == "opcode"
        return self._opcode


class Monitored:
    """The same since Python 3.12, where asking for opcodes inside a trace function comes too late."""

    TOOL = 4  # coverage, profilers and debuggers have others

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        monitoring = sys.monitoring
        monitoring.use_tool_id(self.TOOL, "happy path")
        monitoring.register_callback(self.TOOL, monitoring.events.INSTRUCTION, self._instruction)
        monitoring.set_events(self.TOOL, monitoring.events.INSTRUCTION)
        return self

    def __exit__(self, *_: object) -> None:
        monitoring = sys.monitoring
        monitoring.set_events(self.TOOL, 0)
        monitoring.register_callback(self.TOOL, monitoring.events.INSTRUCTION, None)
        monitoring.free_tool_id(self.TOOL)

    def _instruction(self, code: CodeType, offset: int) -> None:
        self.count += code.co_filename.startswith(OURS)


Bytecodes = Monitored if sys.version_info >= (3, 12) else Traced


async def bytecodes_of(call: Callable[[], Awaitable[object]]) -> int:
    await repeated(call, 3)  # the first makes the target
    with Bytecodes() as counted:
        await call()
    return counted.count


def asyncio_bytecodes(policy: Policy) -> int:
    async def main() -> int:
        return await bytecodes_of(caller(Resilient(policy)))

    return on_asyncio(main)


def trio_bytecodes() -> int:
    trio = pytest.importorskip("trio")
    from adapters import trio as on_trio

    counted: int = trio.run(bytecodes_of, caller(on_trio.Resilient(LIMITS_ELSEWHERE)))
    return counted


def threads_bytecodes() -> int:
    resilient = threads.Resilient(LIMITS_ELSEWHERE)
    for _ in range(3):
        resilient.run(nothing_plain, key=KEY)
    with Bytecodes() as counted:
        resilient.run(nothing_plain, key=KEY)
    return counted.count


WAYS: dict[str, Callable[[], int]] = {
    "asyncio, limits elsewhere": lambda: asyncio_bytecodes(LIMITS_ELSEWHERE),
    "asyncio, total deadline": lambda: asyncio_bytecodes(Policy()),
    "trio, limits elsewhere": trio_bytecodes,
    "threads, limits elsewhere": threads_bytecodes,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_happy_path_takes_no_more_bytecodes_than_recorded(way: str) -> None:
    counted = WAYS[way]()
    recorded = BYTECODES[way].get(sys.version_info[:2])
    if recorded is None:
        missing(f"nothing is recorded for Python {sys.version_info[0]}.{sys.version_info[1]}; it takes {counted}")
    assert counted <= recorded * SLACK, f"{counted} bytecodes, {recorded} recorded: what has been added to every call?"


def test_the_count_of_bytecodes_sees_the_target_and_the_adapter() -> None:
    assert asyncio_bytecodes(LIMITS_ELSEWHERE) > 50


def test_the_happy_path_makes_no_timer_no_task_and_no_callback() -> None:
    async def main(loop: CountingLoop) -> tuple[int, int, int]:
        call = caller(Resilient(LIMITS_ELSEWHERE))
        await repeated(call, 2)
        before = loop.timers, loop.tasks, loop.callbacks
        await repeated(call, CALLS)
        return loop.timers - before[0], loop.tasks - before[1], loop.callbacks - before[2]

    loop = CountingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(main(loop)) == (0, 0, 0)


def test_a_total_deadline_takes_one_timer_for_all_calls_and_no_task() -> None:
    async def main(loop: CountingLoop) -> tuple[int, int, int]:
        call = caller(Resilient(Policy()))
        await call()  # the long way, with a timer of its own
        before = loop.timers, loop.tasks, loop.callbacks
        await repeated(call, CALLS)
        return loop.timers - before[0], loop.tasks - before[1], loop.callbacks - before[2]

    loop = CountingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        timers, tasks, callbacks = runner.run(main(loop))
    assert timers <= 1
    assert (tasks, callbacks) == (0, 0)


@pytest.mark.parametrize("policy", [LIMITS_ELSEWHERE, Policy()], ids=["limits elsewhere", "total deadline"])
def test_the_happy_path_leaves_no_memory_behind_and_needs_no_garbage_collector(policy: Policy) -> None:
    async def main() -> int:
        call = caller(Resilient(policy))
        await repeated(call, 100)
        gc.collect()
        gc.disable()
        try:
            before = sys.getallocatedblocks()
            await repeated(call, CALLS)
            return sys.getallocatedblocks() - before
        finally:
            gc.enable()

    assert on_asyncio(main) < CALLS // 100


def test_the_happy_path_of_trio_spawns_no_task() -> None:
    trio = pytest.importorskip("trio")
    from adapters import trio as on_trio

    class Spawned(trio.abc.Instrument):
        count = 0

        def task_spawned(self, task: object) -> None:
            self.count += 1

    async def main() -> int:
        call = caller(on_trio.Resilient(LIMITS_ELSEWHERE))
        await repeated(call, 2)
        spawned = Spawned()
        trio.lowlevel.add_instrument(spawned)
        try:
            await repeated(call, 100)
        finally:
            trio.lowlevel.remove_instrument(spawned)
        return spawned.count

    assert trio.run(main) == 0

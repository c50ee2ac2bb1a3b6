"""Sleeps that are recorded and skipped, and those that are not."""

import asyncio
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from time import sleep as sleep_by_name
from types import ModuleType
from typing import Any

import anyio
import pytest
import trio
from anyio import sleep as anyio_sleep_by_name
from anyio._backends import _asyncio as anyio_on_asyncio

from asgi_fault.testing import RecordedSleeps, sleeps

ORIGINALS = {"time": time.sleep, "asyncio": asyncio.sleep, "anyio": anyio.sleep, "trio": trio.sleep}
HOUR = 3600.0


@pytest.fixture
def recorded() -> Iterator[RecordedSleeps]:
    recorded = RecordedSleeps()
    sleeps.start(recorded)
    yield recorded
    sleeps.stop()


def test_a_sleep_is_recorded_and_skipped(recorded: RecordedSleeps) -> None:
    time.sleep(HOUR)
    sleep_by_name(0.25)
    assert recorded == [HOUR, 0.25]
    assert recorded == pytest.approx([HOUR, 0.25])
    assert recorded.total == HOUR + 0.25


def test_asyncio_sleeps_are_recorded(recorded: RecordedSleeps) -> None:
    async def main() -> str:
        await asyncio.sleep(HOUR)
        await asyncio.create_task(asyncio.sleep(delay=2))
        await anyio.sleep(3)
        await anyio_sleep_by_name(delay=4)
        return await asyncio.sleep(5, result="slept")

    assert asyncio.run(main()) == "slept"
    assert recorded == [HOUR, 2, 3, 4, 5]


def test_trio_sleeps_are_recorded(recorded: RecordedSleeps) -> None:
    async def main() -> None:
        await trio.sleep(HOUR)
        await trio.sleep(seconds=2)
        await anyio.sleep(3)

    trio.run(main)
    assert recorded == [HOUR, 2, 3]


def test_a_skipped_sleep_lets_others_run(recorded: RecordedSleeps) -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        task = asyncio.create_task(_append(seen))
        await asyncio.sleep(1)
        await task
        return seen

    async def _append(seen: list[str]) -> None:
        seen.append("ran")

    assert asyncio.run(main()) == ["ran"]


def test_a_skipped_sleep_can_be_cancelled(recorded: RecordedSleeps) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(1)
        assert scope.cancelled_caught

    anyio.run(main, backend="asyncio")
    anyio.run(main, backend="trio")


def test_zero_and_below_are_no_sleep(recorded: RecordedSleeps) -> None:
    time.sleep(0)
    asyncio.run(asyncio.sleep(0))
    asyncio.run(asyncio.sleep(-1))
    with pytest.raises(ValueError, match="non-negative"):
        time.sleep(-1)
    with pytest.raises(TypeError):
        time.sleep("1")  # type: ignore[arg-type]
    assert recorded == []


def test_a_sleep_for_ever_is_no_pause(recorded: RecordedSleeps) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(math.inf)
        assert scope.cancelled_caught

    anyio.run(main, backend="asyncio")
    anyio.run(main, backend="trio")
    assert recorded == []


def test_other_threads_sleep_in_real_time(recorded: RecordedSleeps) -> None:
    called: list[float] = []
    original = time.sleep
    replacement: Any = original
    assert replacement.__wrapped__ is ORIGINALS["time"]
    thread = threading.Thread(target=lambda: called.append(time.sleep(0.001) or 1.0))  # type: ignore[func-returns-value]
    thread.start()
    thread.join()
    assert called == [1.0]
    assert recorded == []


def test_the_standard_library_sleeps_in_real_time(recorded: RecordedSleeps) -> None:
    # `Popen.wait` with a time-out polls with time.sleep.
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.05)"])
    assert process.wait(timeout=60) == 0
    assert recorded == []


def test_the_libraries_themselves_sleep_in_real_time(recorded: RecordedSleeps) -> None:
    # anyio polls with its own name for asyncio's sleep, until all tasks are blocked.
    inside: Any = anyio_on_asyncio
    assert inside.sleep is ORIGINALS["asyncio"]
    assert asyncio.tasks.sleep is ORIGINALS["asyncio"]


def test_the_clock_goes_forward_by_what_was_skipped(recorded: RecordedSleeps) -> None:
    before = sleeps.clock()
    time.sleep(HOUR)
    assert sleeps.clock() - before >= HOUR
    assert sleeps.clock() - before < 2 * HOUR
    ((at, seconds),) = recorded.skipped
    assert (before <= at < before + HOUR, seconds) == (True, HOUR)


def test_clearing_keeps_what_the_gaps_need(recorded: RecordedSleeps) -> None:
    time.sleep(1)
    recorded.clear()
    time.sleep(2)
    assert recorded == [2]
    assert [seconds for _, seconds in recorded.skipped] == [1, 2]


def test_a_client_that_sleeps_for_ever_is_ended(recorded: RecordedSleeps) -> None:
    for _ in range(1000):
        time.sleep(0.5)
    with pytest.raises(RuntimeError, match=r"1000 sleeps were recorded and skipped, the latest of 0.5 s"):
        time.sleep(0.5)
    assert len(recorded) == 1000


def test_everything_is_as_before_afterwards() -> None:
    late = ModuleType("late_for_a_test")
    sys.modules["late_for_a_test"] = late
    try:
        sleeps.start(RecordedSleeps())
        late.sleep = time.sleep  # type: ignore[attr-defined] - as `from time import sleep` in a module imported now
        late.pause = asyncio.sleep  # type: ignore[attr-defined]
        sleeps.stop()
        assert (late.sleep, late.pause) == (ORIGINALS["time"], ORIGINALS["asyncio"])
    finally:
        del sys.modules["late_for_a_test"]
    now = {"time": time.sleep, "asyncio": asyncio.sleep, "anyio": anyio.sleep, "trio": trio.sleep}
    assert now == ORIGINALS
    assert sleep_by_name is ORIGINALS["time"]
    assert anyio_sleep_by_name is ORIGINALS["anyio"]


def test_a_replacement_that_somebody_kept_sleeps_again() -> None:
    recorded = RecordedSleeps()
    sleeps.start(recorded)
    kept, kept_async = time.sleep, asyncio.sleep
    sleeps.stop()
    kept(0.001)
    assert asyncio.run(kept_async(0.001, "slept")) == "slept"
    assert recorded == []


def test_only_one_records_at_a_time(recorded: RecordedSleeps) -> None:
    with pytest.raises(RuntimeError, match="recorded already"):
        sleeps.start(RecordedSleeps())
    time.sleep(1)
    assert recorded == [1]

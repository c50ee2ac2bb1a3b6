"""The demonstration proves itself: every claim holds with our client, and fails with a client that is not as good."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest
from click.testing import CliRunner

from adapters.httpx import APIError, ClientConfig
from asgi_fault import demo
from asgi_fault.cli import main
from asgi_fault.demo import client as chapters
from asgi_fault.demo.claims import DEADLINE, JITTER_SEEN, RATE, SLOW
from asgi_fault.demo.client import BY_NAME, CHAPTERS, Chapter, shown_code
from asgi_fault.demo.evidence import Entries, Evidence, Played, lanes, most_at_once, percentile, stream_strip, ticks
from asgi_fault.demo.layout import WIDTH, Marks, Verdict, closing, opening, summary
from asgi_fault.demo.stage import Stage, StageError
from tests.processes import BOUND, PLAIN, Ended, environment, run_to_end

NAMES = [chapter.name for chapter in CHAPTERS]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
QUICK = ("--chapter", "post", "--chapter", "connection-lost")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as one:
        yield one


def failing(chapter: Chapter, played: Played) -> set[int]:
    """Which claims of the chapter do not hold, by their place."""
    verdict = Verdict(chapter, played, chapter.judge(played))
    return {place for place, claim in enumerate(verdict.claims) if not claim.holds}


# --- every claim holds, and can fail ---


def without(path: str) -> Callable[[Entries], Entries]:
    return lambda entries: [entry for entry in entries if entry["path"] != path]


def twice(path: str) -> Callable[[Entries], Entries]:
    """As if the first arrival at `path` had come once more."""
    return lambda entries: [*entries, next(entry for entry in entries if entry["path"] == path)]


def changed(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Entries], Entries]:
    return lambda entries: [{**entry, **change(entry)} for entry in entries]


def first_only(entries: Entries) -> Entries:
    return [entry for entry in entries if entry["attempt"] == 1]


def one_connection(entry: dict[str, Any]) -> dict[str, Any]:
    return {"connection": {**entry["connection"], "id": 1}}


def own_key(entry: dict[str, Any]) -> dict[str, Any]:
    headers = entry["headers"]
    return {
        "headers": {**headers, "idempotency-key": f"{entry['ordinal']}"} if "idempotency-key" in headers else headers
    }


def too_late(entries: Entries) -> Entries:
    return [*entries[:-1], {**entries[-1], "monotonic_s": entries[0]["monotonic_s"] + DEADLINE}]


def answered(entry: dict[str, Any]) -> dict[str, Any]:
    return {"done_monotonic_s": entry["monotonic_s"] + 0.001}


def sooner(seconds: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda entry: {"monotonic_s": entry["monotonic_s"] - seconds}


def as_slow(path: str, seconds: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda entry: {"done_monotonic_s": entry["monotonic_s"] + seconds} if entry["path"] == path else {}


# By chapter and claim: a journal in which just this is not so.
DOCTORED: dict[str, list[Callable[[Entries], Entries]]] = {
    "retry": [
        lambda entries: [entry for entry in entries if entry["attempt"] < 3],
        changed(lambda entry: {"gap_s": 0.2 + JITTER_SEEN * 0.9 * (entry["ordinal"] % 2)}),
    ],
    "retry-after": [changed(lambda _: {"gap_s": 0.999}), twice("/later")],
    "post": [
        lambda entries: [entry for entry in entries if "idempotency-key" in entry["headers"]],
        changed(lambda entry: {"status": 500} if entry["status"] == 201 else {}),
        changed(own_key),
    ],
    "connection-lost": [changed(lambda entry: {"status": 503}), changed(one_connection)],
    "truncated": [first_only],
    "deadline": [too_late, changed(answered)],
    "breaker": [twice("/outage"), twice("/probe"), without("/after")],
    "bulkhead": [
        changed(lambda entry: {"done_monotonic_s": entry["done_monotonic_s"] + 0.2}),
        lambda entries: entries[1:],
    ],
    "budget": [without("/without"), twice("/with")],
    "hedging": [changed(as_slow("/plain", 0.001)), changed(as_slow("/hedged", 2 * SLOW))],
    "rate-limit": [
        changed(lambda entry: sooner(2 / RATE)(entry) if entry["ordinal"] == 10 else {}),
        changed(lambda entry: {"status": 429} if entry["ordinal"] == 10 else {}),
    ],
    "nested": [twice("/nine"), twice("/three")],
}


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_holds_and_fails_for_a_journal_in_which_it_is_not_so(name: str, stage: Stage) -> None:
    verdict = demo.play(BY_NAME[name], stage)
    chapter, played = verdict.chapter, verdict.played
    assert verdict.holds, closing(verdict, Marks())
    assert len(DOCTORED[name]) == len(verdict.claims), "a claim without a journal that refutes it"
    for place, doctor in enumerate(DOCTORED[name]):
        assert place in failing(chapter, replace(played, entries=doctor(played.entries))), f"claim {place} of {name}"
    assert_readable(verdict)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_journal_proves_nothing(name: str) -> None:
    assert failing(BY_NAME[name], Played([], 0.0, 0.0)), name


# --- a client that is not as good ---


class Naive:
    """A retry loop as it is found everywhere: the status alone, always the same wait, any method, no limit."""

    attempts = 3

    def __init__(self, config: ClientConfig, **_: Any) -> None:
        limits = {"timeout": httpx.Timeout(None, read=0.5), "limits": httpx.Limits(max_connections=20)}
        self._client = httpx.AsyncClient(**{**PLAIN, "base_url": config.base_url, **limits})

    async def get(self, url: str) -> httpx.Response:
        return await self._loop("GET", url, httpx.TimeoutException)

    async def post(self, url: str, *, json: Any, idempotency_key: bool = False) -> httpx.Response:
        return await self._loop("POST", url, httpx.TransportError, json=json)

    async def _loop(self, method: str, url: str, retried: type[Exception], **options: Any) -> httpx.Response:
        cause = ""
        for attempt in range(self.attempts):
            if attempt:
                await asyncio.sleep(0.02)
            try:
                response = await self._client.request(
                    method, url, headers={"X-Request-ID": str(id(options))}, **options
                )
            except retried:
                continue
            except httpx.TransportError as error:
                raise APIError(f"naive: {error}") from error
            if response.status_code < 500 and response.status_code != 429:
                return response
            cause = str(response.status_code)
        raise APIError(f"naive: {cause}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()


# The claims that this client breaks. How far apart its waits lie is the machine's; that a retry is missing is not.
BROKEN_BY_NAIVE = {
    "retry": {0},
    "retry-after": {0, 1},
    "post": {0, 1, 2},
    "connection-lost": {0, 1},
    "truncated": {0},
    "deadline": {0},
    "breaker": {0, 1},
    "bulkhead": {0},
    "budget": {1},
    "hedging": {1},
    "rate-limit": {0},
    "nested": {1},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_finds_a_naive_retry_loop_out(name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chapters, "ResilientClient", Naive)
    monkeypatch.setattr(Naive, "attempts", 2 if name == "retry" else 3)
    verdict = demo.play(BY_NAME[name], stage)
    assert BROKEN_BY_NAIVE[name] <= failing(verdict.chapter, verdict.played), closing(verdict, Marks())


def test_code_that_raises_is_a_claim_that_fails(stage: Stage) -> None:
    async def broken(_: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0, None))
            raise ValueError("no\nclient")

    chapter = replace(BY_NAME["nested"], name="broken", code=broken, judge=lambda _: Evidence([], []))
    verdict = demo.play(chapter, stage)
    assert not verdict.holds
    assert "FAILS   the client's code came to its end; found: ValueError: no client" in plain(closing(verdict, Marks()))


def test_chance_is_seeded_and_left_as_it_was(stage: Stage) -> None:
    import random

    drawn: list[float] = []

    async def draw(_: str) -> None:
        drawn.append(random.random())

    before = random.getstate()
    stage.play("one", [{"then": {"status": 200}}], draw)
    stage.play("one", [{"then": {"status": 200}}], draw)
    stage.play("two", [{"then": {"status": 200}}], draw)
    assert drawn[0] == drawn[1] != drawn[2]
    assert random.getstate() == before


def test_a_rule_that_the_server_refuses_is_a_defect_of_the_chapter(stage: Stage) -> None:
    async def nothing(_: str) -> None: ...

    with pytest.raises(StageError, match="/faults was answered 422"):
        stage.play("mistaken", [{"then": {"status": 99}}], nothing)


# --- what is printed ---


def plain(text: str) -> str:
    return COLOURS.sub("", text)


def test_the_code_that_is_shown_is_the_code_that_runs() -> None:
    shown = shown_code(BY_NAME["bulkhead"].code)
    assert shown == [
        "config = ClientConfig(url, bulkhead=BulkheadConfig(max_concurrency=2))",
        "async with ResilientClient(config) as client:",
        '    await at_once(10, client.get, "/msg")',
    ]
    assert all("noqa" not in line and "type:" not in line for chapter in CHAPTERS for line in shown_code(chapter.code))


def assert_readable(verdict: Verdict) -> None:
    """Everything that is said of a chapter fits a terminal of a hundred columns."""
    broken = replace(verdict, played=replace(verdict.played, error=ValueError("x" * 50 + " y" * 100)))
    head = opening(verdict.chapter, 12, 12)
    told = [head, closing(verdict, Marks()), closing(broken, Marks()), summary([verdict], 7, Marks())]
    assert [line for line in plain("\n".join(told)).splitlines() if len(line) > WIDTH] == []
    assert "..." not in head


def test_drawings() -> None:
    def entry(begin: float, end: float | None) -> dict[str, Any]:
        rest = {"status": 200, "rule": None, "ended": None, "gap_s": None}
        return {"monotonic_s": begin, "done_monotonic_s": end, **rest}

    three = [entry(10.0, 10.5), entry(10.25, 11.0), entry(11.0, 11.5)]
    assert most_at_once(three) == 2
    assert lanes(three)[0] == f"|{'#' * 20}{' ' * 40}|"
    assert lanes(three)[2] == f"|{' ' * 40}{'#' * 20}|"
    assert lanes(three)[3].startswith("0 ")
    assert lanes(three)[3].endswith(" 1.50 s")
    assert lanes([entry(1.0, None)]) == []
    assert stream_strip(three) == "|--ok--overlap 0.25s--ok--0ms--ok|"
    assert ticks([0.0, 0.5, 0.5, 1.0, *[0.25] * 12], 0.0, 1.0) == f"|*{'-' * 14}#{'-' * 14}2{'-' * 28}*|"
    assert [percentile([3, 1, 2], share) for share in (0.5, 0.99)] == [2, 3]
    assert percentile([], 0.5) == 0


# --- the command ---


def asgi_fault(*arguments: str, cwd: Path, **variables: str) -> Ended:
    return run_to_end(("asgi_fault", "demo", "client", *arguments), cwd=cwd, variables=variables)


def test_two_chapters_as_a_command(tmp_path: Path) -> None:
    # A proxy that nobody serves: what goes to this machine does not go through it.
    ended = asgi_fault(
        *QUICK, "--seed", "3", cwd=tmp_path, HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9"
    )
    assert (ended.exit_code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    assert "✓ holds   both had the same key and the same body" in ended.out
    assert re.search(r"journal   GET /msg  \|--x reset--0\.\d\ds--ok\|", ended.out)
    assert (
        ended.out.index("1/2  post") < ended.out.index("2/2  connection-lost") < ended.out.index("arrivals   seconds")
    )
    assert ended.out.endswith("One chapter again:  asgi-fault demo client --chapter connection-lost --seed 3\n")
    assert max(map(len, ended.out.splitlines())) <= WIDTH


def test_the_chapters_are_listed(tmp_path: Path) -> None:
    ended = asgi_fault("--list", cwd=tmp_path)
    assert (ended.exit_code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == NAMES


def test_a_chapter_that_is_not_there_is_refused_with_those_there_are(tmp_path: Path) -> None:
    ended = asgi_fault("--chapter", "retrie", cwd=tmp_path)
    assert (ended.exit_code, ended.out) == (2, "")
    assert "There is no chapter 'retrie'." in ended.err
    assert all(name in ended.err for name in NAMES)


def test_without_httpx_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['httpx'] = sys.modules['httpx2'] = None; from asgi_fault.cli import main; main()"
    ended = run_to_end(("-c", code, "demo", "client", *QUICK), cwd=tmp_path, executable=sys.executable)
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err == "Error: the demo needs httpx: pip install 'asgi-fault[httpx]'\n"


def test_a_terminal_that_knows_no_check_mark_gets_another(tmp_path: Path) -> None:
    ended = asgi_fault("--chapter", "truncated", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (ended.exit_code, ended.err) == (0, "")
    assert "+ holds   the half file was asked for again" in ended.out


def test_ctrl_c_stops_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "asgi_fault", "demo", "client"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("  client "):  # written right before the chapter is played
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=BOUND)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(BOUND)
    assert process.returncode == 130
    assert err == "\nStopped.\n"
    assert "arrivals   seconds" not in out


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")  # the command sets them, and they are to be put back
    monkeypatch.delenv("NO_COLOR", raising=False)
    return CliRunner()


def test_a_claim_that_fails_is_exit_code_1_and_says_how_to_see_it_again(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chapters, "ResilientClient", Naive)
    ended = runner.invoke(main, ["demo", "client", "--chapter", "truncated"])
    assert ended.exit_code == 1, ended.output
    assert "✗ FAILS   the half file was asked for again, and came whole; found: answers: x 200 close" in ended.output
    assert "expected  the first attempt failed" in ended.output
    assert "NOT AS CLAIMED: truncated\n" in ended.output
    assert ended.output.endswith("asgi-fault demo client --chapter truncated --seed 0\n")


@pytest.mark.parametrize(
    ("options", "variables", "coloured"),
    [
        ([], {}, False),  # no terminal
        (["--force-color"], {}, True),
        (["--force-color"], {"NO_COLOR": "1"}, True),
        (["--no-color"], {}, False),
    ],
)
def test_colours_are_there_when_they_are_wanted(
    options: list[str], variables: dict[str, str], coloured: bool, runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "play", lambda chapter, _: Verdict(chapter, Played([], 0.0, 0.0), Evidence([], [])))
    ended = runner.invoke(main, ["demo", "client", "--chapter", "post", *options], env=variables)
    assert ended.exit_code == 0, ended.output
    assert ("\x1b[1m" in ended.output) == coloured


def test_colours_cannot_be_both(runner: CliRunner) -> None:
    ended = runner.invoke(main, ["demo", "client", "--no-color", "--force-color"])
    assert ended.exit_code == 2
    assert "exclude each other" in ended.output


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal")
@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_no_color_is_set(
    tmp_path: Path, variables: dict[str, str], coloured: bool
) -> None:
    import pty

    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "asgi_fault", "demo", "client", "--list"],
            cwd=tmp_path,
            env=environment({"TERM": "xterm", **variables}),
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            told = b""
            with contextlib.suppress(OSError):  # EIO: the other end is closed
                while piece := os.read(ours, 65536):
                    told += piece
            assert process.wait(BOUND) == 0
    finally:
        os.close(ours)
    assert (b"\x1b[1m" in told) == coloured

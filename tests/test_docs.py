"""Every snippet of docs/ run, every link followed, every table, diagram and default held against the code."""

import contextlib
import io
import re
import runpy
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from dataclasses import is_dataclass
from http.client import IncompleteRead, InvalidURL
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sansio_client
from adapters import httpx_config
from asgi_fault.testing.handle import FaultServer
from sansio_client import (
    AwsQuota,
    BreakerSettings,
    ClientThrottle,
    ConcurrentShare,
    CountWindow,
    FullJitter,
    GrpcThrottle,
    Policy,
    RatioBudget,
    adaptive,
    backoff,
    call,
    events,
)

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLE = ROOT / "examples" / "sdk_client.py"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
POLICY_PAGES = [
    "adaptive", "backoff", "breaker", "budget", "bulkhead", "call", "deadlines", "events", "hedging", "idempotency",
    "ratelimit", "retry", "writing-an-adapter",
]  # fmt: skip


class Clock:
    """Virtual seconds, which only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


# The snippets


def snippets() -> list[tuple[str, str, str]]:
    """Page and line, code, and the output shown right below it, if there is one."""
    found = []
    for name, text in PAGES.items():
        blocks = list(BLOCK.finditer(text))
        for block, below in zip_longest(blocks, blocks[1:]):
            if block[1] == "python":
                line = text.count("\n", 0, block.start()) + 1
                adjacent = below is not None and below[1] == "text" and not text[block.end() : below.start()].strip()
                found.append((f"{name}:{line}", block[2], below[2] if below is not None and adjacent else ""))
    return found


ONE_PROGRAM = "adapters.md:"  # its snippets follow on each other, and their waits of a few milliseconds are real
SNIPPETS = [each for each in snippets() if not each[0].startswith(ONE_PROGRAM)]


@pytest.mark.parametrize(("code", "shown"), [each[1:] for each in SNIPPETS], ids=[each[0] for each in SNIPPETS])
def test_a_snippet_runs_and_prints_what_the_page_shows(code: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setitem(sys.modules, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})
    assert printed.getvalue() == shown


def test_the_snippets_of_the_adapters_are_one_program_that_prints_what_the_page_shows() -> None:
    program: dict[str, Any] = {"__name__": "snippet"}
    parts = [each for each in snippets() if each[0].startswith(ONE_PROGRAM)]
    assert len(parts) > 4
    for where, code, shown in parts:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, where, "exec"), program)
        assert printed.getvalue() == shown, where


def test_the_settings_of_the_client_are_shown_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(\w+Config)` \| `(.*)` \|$", PAGES["adapters.md"], re.MULTILINE)
    assert len(rows) == 5
    for name, shown in rows:
        settings = getattr(httpx_config, name)()
        for setting in shown.split(", "):
            field, _, default = setting.partition("=")
            assert repr(getattr(settings, field)) == default, setting


def test_no_output_is_shown_that_nothing_prints() -> None:
    shown = sum(len(re.findall("^```text$", text, re.MULTILINE)) for text in PAGES.values())
    assert shown == len([output for _, _, output in snippets() if output]) + 1, "one more is the picture of the herd"


# What the pages are made of


@pytest.mark.parametrize("name", POLICY_PAGES)
def test_a_page_has_a_snippet_and_says_what_its_subject_does_not_do(name: str) -> None:
    text = PAGES[f"{name}.md"]
    assert "```python" in text
    assert re.search(r"^## What .* (does|do) not do$", text, re.MULTILINE)


def test_the_index_lists_every_page() -> None:
    listed = re.findall(r"^\| \[([\w-]+\.md)\]", PAGES["README.md"], re.MULTILINE)
    assert sorted([*listed, "README.md"]) == sorted(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[name])):
        path = (DOCS / target).resolve() if target else DOCS / name
        assert path.exists(), f"{name} links {target}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{name} links {target}#{anchor}"


def anchors(text: str) -> list[str]:
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("name", PAGES)
def test_lines_are_short_outside_of_tables(name: str) -> None:
    for line in PAGES[name].splitlines():
        assert len(line) <= 120 or line.startswith("|"), line


# The pages against the code


@pytest.mark.parametrize("script", ["diagrams.py", "tables.py", "delays.py"])
def test_what_is_made_from_the_code_is_what_the_code_says(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(DOCS / script), "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_settings_class_has_its_table() -> None:
    public = {name: getattr(sansio_client, name) for name in sansio_client.__all__} | vars(adaptive)
    laws = [kind.__name__ for kind in vars(backoff).values() if hasattr(kind, "delay") and is_dataclass(kind)]
    expected = {name for name, kind in public.items() if isinstance(kind, type) and is_dataclass(kind)} - set(laws)
    tables = re.findall(r"^<!-- settings (\w+) -->$", "\n".join(PAGES.values()), re.MULTILINE)
    assert set(tables) == expected | {"Core"}
    assert len(tables) == len(set(tables))
    in_two_tables = re.findall(r"^\| `(\w+)` \|", PAGES["backoff.md"], re.MULTILINE)
    assert sorted(in_two_tables) == sorted(laws * 2)


def test_the_numbers_in_the_sentences_are_the_defaults() -> None:
    """Where one of these fails, the page that is named says something else in a sentence or a table by hand."""
    assert AwsQuota() == AwsQuota(500, 5, 10, 5, 1), "budget.md, README.md"
    assert GrpcThrottle() == GrpcThrottle(10, 0.1), "budget.md"
    assert RatioBudget() == RatioBudget(0.2, 10.0, 10.0), "budget.md"
    assert ConcurrentShare() == ConcurrentShare(0.2, 3), "budget.md"
    throttle = ClientThrottle()
    assert (throttle.k, throttle.max_drop) == (2.0, 0.75), "ratelimit.md"
    breaker = BreakerSettings()
    assert (breaker.consecutive_failures, breaker.open_seconds, breaker.window) == (5, 1.0, CountWindow()), "breaker.md"
    policy = Policy()
    assert (policy.max_attempts, policy.total_timeout, policy.max_retry_after) == (3, 120.0, 60.0), "retry.md"
    assert policy.attempt_timeout == float("inf"), "retry.md, deadlines.md"
    assert policy.backoff == FullJitter(0.5, 20.0, 2.0), "retry.md, backoff.md"
    assert policy.budget == AwsQuota(), "budget.md"
    assert (policy.hedge, policy.rate_limit, policy.throttle, policy.adaptive) == (None,) * 4, "said to be off"
    assert adaptive.Gradient2().smoothing == 0.2, "adaptive.md"


def test_the_table_of_events_is_the_code() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \|", PAGES["events.md"], re.MULTILINE)) == events.NAMES


def test_the_table_of_reasons_and_that_of_states_are_the_code() -> None:
    _, states, reasons = re.split(r"^## The states$|^## Why a call is over$", PAGES["call.md"], flags=re.MULTILINE)
    assert tuple(re.findall(r"^\| `([\w-]+)` \|", reasons, re.MULTILINE)) == call.REASONS
    assert sorted(re.findall(r"^\| `([A-Z_]+)` \|", states, re.MULTILINE)) == sorted(call.STATE_NAMES)


def test_the_inputs_of_the_contract_are_the_methods_of_a_call() -> None:
    for name, arguments in re.findall(r"^\| `(\w+)\((.*?)\)` \|", PAGES["call.md"], re.MULTILINE):
        code = getattr(call.Call, name).__code__
        assert list(code.co_varnames[1 : code.co_argcount]) == arguments.split(", ")


def test_no_page_tells_of_a_machine_it_was_written_on() -> None:
    for name, text in PAGES.items():
        assert not re.search(r"/(work|home|tmp|opt|root)/|localhost", text), name


# Pitfalls

LISTED = {
    int(number): re.findall(r"\[`(test_\w+)`\]\(\.\./([\w/]+\.py)\)", shown)
    for number, shown in re.findall(r"^\| (\d+) \| .*? \| (.*) \|$", PAGES["pitfalls.md"], re.MULTILINE)
}


def test_the_pitfalls_are_1_to_50() -> None:
    assert list(LISTED) == list(range(1, 51))


@pytest.mark.parametrize("number", range(1, 51))
def test_a_pitfall_names_tests_of_its_own_that_exist(number: int) -> None:
    for name, file in LISTED[number]:
        assert f"p{number}" in name.split("_")
        assert re.search(rf"^ *(?:async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name


def test_no_pitfall_is_without_a_test() -> None:
    assert [number for number, tests in LISTED.items() if not tests] == []


# The example


def client_of(server: FaultServer, clock: Clock, **policy: Any) -> Any:
    host = server.own_port.url.removeprefix("http://")
    settings = Policy(**policy) if policy else None
    made = runpy.run_path(str(EXAMPLE))["Client"]
    return made(host, settings, clock=clock, sleep=clock.sleep, random=lambda: 0.5)


def test_the_example_retries_and_honours_the_retry_after(fault_server: FaultServer) -> None:
    fault_server.scenario("503-retry-after-7-then-reset-then-ok")
    clock = Clock()
    assert client_of(fault_server, clock).request("GET", "/things").status == 200
    assert clock.slept == [7.25, 0.5]


def test_the_example_repeats_a_post_only_with_a_key_and_the_same_one(fault_server: FaultServer) -> None:
    fault_server.fail(1, status=503)
    client = client_of(fault_server, Clock())
    assert client.request("POST", "/orders", b"one").status == 503
    fault_server.check(attempts=1)
    fault_server.reset()
    fault_server.fail(1, status=503)
    assert client.request("POST", "/orders", b"one", idempotency_key="order-7").status == 200
    fault_server.check(attempts=2, same_body=True, same_key=True)


def test_the_example_takes_half_a_body_for_no_answer(fault_server: FaultServer) -> None:
    fault_server.scenario("truncated-then-ok")
    assert client_of(fault_server, Clock()).request("GET", "/things").status == 200
    fault_server.scenario("truncatedx3")
    with pytest.raises(IncompleteRead):
        client_of(fault_server, Clock()).request("GET", "/things")


def test_the_example_returns_the_last_answer_and_gives_its_slot_back(fault_server: FaultServer) -> None:
    fault_server.fail(status=503)
    clock = Clock()
    client = client_of(fault_server, clock)
    assert client.request("GET", "/things").status == 503
    assert clock.slept == [0.25, 0.5]
    with pytest.raises(InvalidURL):
        client.request("GET", "/th\nings")
    assert [target.in_flight for target in client.core.targets.values()] == [0]


def test_the_example_does_not_read_a_body_that_drips_beyond_its_deadline() -> None:
    clock = Clock()
    client = runpy.run_path(str(EXAMPLE))["Client"]("host", clock=clock)

    def read1(_: int) -> bytes:
        clock.sleep(1.0)
        return b"."

    with pytest.raises(TimeoutError):
        client._read(SimpleNamespace(read1=read1, length=1000), 1005.0)
    assert clock.now == 1005.0


def before() -> Any:
    """The loop that the example replaces, out of its docstring."""
    text = re.search(
        r"^    def request.*?(?=^\S|\n\n\S)", EXAMPLE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert text is not None
    code = {"urllib": urllib, "time": time}
    exec(compile(textwrap.dedent(text[0]), "before", "exec"), code)
    return code["request"]


def test_the_loop_before_has_the_bugs_it_is_said_to_have(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    request = before()

    url = fault_server.fail(1, status=503, method="POST")
    request("POST", url, b"order")
    assert len(fault_server.attempts) == 2, "it repeats a POST that may have been processed"

    fault_server.reset()
    fault_server.fail(1, status=429, retry_after=60)
    slept.clear()
    request("GET", url)
    assert slept == [10], "it comes earlier than asked"

    fault_server.reset()
    fault_server.fail(1, status=503, retry_after="Sun, 06 Nov 1994 08:49:37 GMT")
    with pytest.raises(ValueError, match="invalid literal"):
        request("GET", url)

    fault_server.reset()
    fault_server.scenario("truncated")
    with pytest.raises(IncompleteRead):
        request("GET", url)

    fault_server.reset()
    fault_server.fail(status=503)
    slept.clear()
    with pytest.raises(RuntimeError, match="gave up"):
        request("GET", url)
    assert len(slept) == len(fault_server.attempts) == 5, "it sleeps after the last attempt, too"

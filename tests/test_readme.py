"""Every command and every snippet of the README, run against a real server; and its tables against the code."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from asgi_fault.config import Settings, variable_of
from asgi_fault.routes import ROUTES
from tests.processes import running, serve

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Commands that do not end by themselves; each is started by a test of its own.
SERVERS = {
    "asgi-fault serve --proxy http://localhost:9000",
    "make run",
    "asgi-fault serve --port 0 --max-concurrency 10",
    "uvicorn asgi_fault:app",
}


def transcripts() -> list[tuple[str, str]]:
    """The commands of the console blocks with the output that the README shows."""
    found = []
    for language, text in BLOCKS:
        if language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                lines = part.splitlines()
                command = [lines.pop(0)]
                while lines and lines[0].startswith("> "):
                    command.append(lines.pop(0)[2:])
                found.append(("\n".join(command), "\n".join(lines)))
    return found


@pytest.fixture(scope="module")
def readme_server() -> Iterator[str]:
    """Host and port of a running server."""
    with running(serve()) as server:
        yield server.url.removeprefix("http://")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_the_transcripts_are_what_happens(readme_server: str, environment: dict[str, str], tmp_path: Path) -> None:
    commands = [(command, output) for command, output in transcripts() if command not in SERVERS]
    assert len(commands) > 8
    for command, expected in commands:
        done = subprocess.run(
            ["bash", "-c", command.replace("localhost:8000", readme_server)],
            capture_output=True, text=True, timeout=30, cwd=tmp_path, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        if expected:
            assert UUID.sub("<uuid>", done.stdout).rstrip() == expected.rstrip(), command


def test_every_python_snippet_is_a_test() -> None:
    assert [text for language, text in BLOCKS if language == "python"] == TESTS, "nothing else runs them"


def test_the_test_that_finds_a_bug_finds_it(tmp_path: Path) -> None:
    assert run_as_test(FIRST, tmp_path).returncode == 1
    assert "assert 500 == 1000" in run_as_test(FIRST, tmp_path).stdout


def test_the_other_tests_pass_for_a_client_that_does_it_right(tmp_path: Path) -> None:
    second = TESTS[1]
    done = run_as_test(CLIENT + second, tmp_path)
    assert done.returncode == 0, done.stdout
    broken = run_as_test(CLIENT.replace("range(3)", "range(2)") + second, tmp_path)
    assert broken.returncode == 1, "and fail for one that does not"


def test_the_client_and_the_core_do_what_they_say(tmp_path: Path) -> None:
    for text in TESTS[2:4]:
        done = run_as_test(text, tmp_path)
        assert done.returncode == 0, done.stdout
    broken = run_as_test(TESTS[2].replace("503x2", "503x3"), tmp_path)
    assert broken.returncode == 1, "a client that gives up fails the test"


def test_the_middleware_does_what_it_says(tmp_path: Path) -> None:
    done = run_as_test(MIDDLEWARE_IMPORTS + TESTS[4], tmp_path)
    assert done.returncode == 0, done.stdout


TESTS = [text for language, text in BLOCKS if language == "python" and "def test_" in text]
FIRST = TESTS[0]
MIDDLEWARE_IMPORTS = """
import anyio
import httpx

async def order(transport, path):
    rule = {"match": {"path": "/orders"}, "script": [{"status": 503}]}
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return (await client.post(path, json=rule)).status_code

"""
CLIENT = """
import time
import urllib.error
import urllib.request

def my_client_get(url):
    for attempt in range(3):
        try:
            with urllib.request.urlopen(url) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            time.sleep(2**attempt)

"""


def run_as_test(text: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run `text` as a test file of a project that has nothing but the plugin."""
    (folder / "test_snippet.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_snippet.py"]
    variables = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "asgi_fault.pytest_plugin"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)


def test_make_run_and_make_test_are_what_they_say(environment: dict[str, str]) -> None:
    for target, command in (("run", "asgi-fault serve"), ("test", "-m pytest"), ("bench", "benchmarks/run.py")):
        done = subprocess.run(
            ["make", "-n", target], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
        )
        assert command in done.stdout


def test_make_help_lists_every_target(environment: dict[str, str]) -> None:
    listed = subprocess.run(
        ["make", "help"], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    ).stdout
    development = "help install dev run test check soak bench format lint typecheck ci"
    for target in f"{development} docker-build docker-server docker-test".split():
        assert re.search(rf"^ +{target} ", listed, re.MULTILINE), target


def test_the_table_of_settings_is_the_code() -> None:
    rows = dict(re.findall(r"^\| `(SERVER_\w+)` \|([^|]*)\|", README, re.MULTILINE))
    expected = {}
    for setting in fields(Settings):
        value = ",".join(setting.default) if isinstance(setting.default, tuple) else setting.default
        expected[variable_of(setting.name)] = f"{value:g}" if isinstance(value, float) else str(value)
    assert {name: value.strip() for name, value in rows.items()} == expected


def test_the_table_of_surfaces_is_the_code() -> None:
    rows = re.findall(r"^\| (\w+) \| `(/[^`]*)` \|", README, re.MULTILINE)
    assert set(rows) == {(route.method, route.path) for route in ROUTES}


def test_links_lead_somewhere() -> None:
    for page in ROOT.glob("*.md"):
        for link in re.findall(r"\]\(((?!https?:)[^)#]+)", page.read_text()):
            assert (ROOT / link).exists(), f"{page.name} links {link}"

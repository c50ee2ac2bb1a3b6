"""What the README shows first: ten lines that find a real bug in a client that everybody has.

When one of these clients is mended, the test here fails, and the README needs another.
"""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
FIRST_SCREEN = (Path(__file__).parent / "first_screen.py").read_text()

MALFORMED_RETRY_AFTER = """
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry


def test_a_malformed_retry_after_ends_no_call(fault_server):
    url = fault_server.fail(1, status=429, retry_after="1m0s")  # GitHub has sent this
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(3)))
        assert session.get(url).status_code == 200
"""


@pytest.fixture(autouse=True)
def _only_our_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def test_it_has_ten_lines_at_most() -> None:
    lines = FIRST_SCREEN.partition("import shutil")[2].splitlines()
    assert len([line for line in lines if line.strip()]) + 1 <= 10


def test_urllib_takes_half_a_file_for_the_whole(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FIRST_SCREEN)
    result = pytester.runpytest_subprocess("-p", "asgi_fault", "-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * assert 500 == 1000", "*- asgi-fault -*", "GET /  |--x 200 close|"])


def test_urllib_notices_when_it_reads_all_at_once(pytester: pytest.Pytester) -> None:
    mended = FIRST_SCREEN.replace("shutil.copyfileobj(answer, file)", "file.write(answer.read())")
    pytester.makepyfile(mended)
    result = pytester.runpytest_subprocess("-p", "asgi_fault", "-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("E * http.client.IncompleteRead: IncompleteRead(500 bytes read, 500 more expected)")


def test_requests_gives_up_on_a_retry_after_it_cannot_read(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MALFORMED_RETRY_AFTER)
    result = pytester.runpytest_subprocess("-p", "asgi_fault", "-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * requests.exceptions.InvalidHeader: Invalid Retry-After header: 1m0s"])
    result.stdout.fnmatch_lines(["*- asgi-fault -*", "GET /  |--x 429|"])

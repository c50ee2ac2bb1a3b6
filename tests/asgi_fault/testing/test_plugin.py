"""The plugin in the projects of its users: each test here is a pytest run of its own, in a process of its own."""

import re
import subprocess
import sys
import textwrap

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _only_named_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is installed here costs a second a run, and is not what is tested."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


FIRST = """
    import urllib.request

    def statuses(url, number):
        seen = []
        for _ in range(number):
            try:
                with urllib.request.urlopen(url) as answer:
                    seen.append(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    seen.append(error.code)
        return seen
"""
KEPT_ALIVE = """
    import requests

    def requests_of(url, method="GET", number=2, **options):
        with requests.Session() as session:
            return [session.request(method, url, **options).status_code for _ in range(number)]
"""
STRICT = """
    [pytest]
    addopts = --strict-markers --strict-config -p no:cacheprovider {plugins}
    filterwarnings = error
    {more}
"""


def project(
    pytester: pytest.Pytester, *tests: str, plugins: str = "", more: str = "", conftest: str = ""
) -> pytest.Pytester:
    """A project that allows no warning."""
    pytester.makeini(textwrap.dedent(STRICT).format(plugins=_named(plugins), more=more))
    pytester.makepyfile(test_client="\n".join(map(textwrap.dedent, tests)))
    if conftest:
        pytester.makeconftest(textwrap.dedent(conftest))
    return pytester


def _named(plugins: str) -> str:
    return " ".join(f"-p {name}" for name in ["asgi_fault", *plugins.split()])


def masked(lines: list[str], begin: str, end: str) -> str:
    """The lines from the first that contains `begin` to the next that contains `end`, without what differs by run."""
    first = next(place for place, line in enumerate(lines) if begin in line)
    last = next(place for place, line in enumerate(lines) if place > first and end in line)
    text = "\n".join(line.rstrip() for line in lines[first : last + 1])
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    return re.sub(r"\+?\b(\d+\.\d+s|\d+ms) *(?=(--)?)", lambda found: "TIME" if found[2] else "TIME ", text)


# --- imports ---


def test_the_plugin_imports_nothing_that_pytest_has_not_imported() -> None:
    code = """
        import sys, pytest
        before = set(sys.modules)
        import asgi_fault.pytest_plugin
        print(*sorted(set(sys.modules) - before))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["asgi_fault", "asgi_fault.pytest_plugin", "asgi_fault.version"]


def test_a_run_without_our_fixtures_loads_no_server(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    test = """
        import sys

        HEAVY = {"uvicorn", "httpx", "h11", "httptools", "asgi_fault.application", "asgi_fault.testing"}

        def test_nothing_heavy_is_there(request):
            assert request.config.pluginmanager.hasplugin("asgi_fault")
            assert HEAVY & set(sys.modules) == set()
    """
    pytester.makepyfile(test_it=textwrap.dedent(test))
    others = ["no:asyncio", "no:anyio", "no:schemathesis", "no:hypothesispytest"]
    result = pytester.runpytest_subprocess(*(word for name in others for word in ("-p", name)))
    result.assert_outcomes(passed=1)


# --- a test that passes ---


def test_a_server_a_fresh_partition_a_test(pytester: pytest.Pytester) -> None:
    tests = """
        def test_one(fault_server):
            assert statuses(fault_server.scenario("503x2-then-ok"), 3) == [503, 503, 200]
            fault_server.check(statuses=[503, 503, 200], attempts=3)

        def test_another_knows_nothing_of_it(fault_server):
            assert statuses(fault_server.url, 1) == [200]
            assert len(fault_server.attempts) == 1

        def test_all_have_one_server(fault_server, make_fault_server):
            other = make_fault_server("payments")
            assert other.url.rpartition("/~")[0] == fault_server.url.rpartition("/~")[0]
            assert other.url.endswith("/~payments")
            assert statuses(other.fail(1), 2) == [503, 200]

        def test_it_is_named_after_the_test(fault_server):
            assert "/~test_it_is_named_after_the_test-" in fault_server.url
    """
    conftest = """
        import threading

        def pytest_sessionfinish():
            assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
    """
    project(pytester, FIRST, tests, conftest=conftest).runpytest_subprocess().assert_outcomes(passed=4)


def test_sleeps_are_skipped_and_checked(pytester: pytest.Pytester) -> None:
    tests = """
        import pytest, time
        from asgi_fault.testing import FaultServer, RecordedSleeps

        @pytest.mark.asgi_fault(scenario="503x2-then-ok", min_gaps=[60, 120], max_attempts=3)
        def test_sleeps(fault_server: FaultServer, recorded_sleeps: RecordedSleeps):
            while statuses(fault_server.url, 1) == [503]:
                time.sleep(60 * (len(recorded_sleeps) + 1))
            assert recorded_sleeps == pytest.approx([60, 120])
            assert recorded_sleeps.total == 180

        @pytest.mark.asgi_fault(scenario="503")
        def test_for_ever(fault_server, recorded_sleeps):
            while True:
                try:
                    time.sleep(1)
                    raise TimeoutError
                except Exception:
                    pass
    """
    result = project(pytester, FIRST, tests).runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines("*1000 sleeps were recorded and skipped, the latest of 1 s.*")


# --- messages ---


CHECK_GOLDEN = """\
E       AssertionError: asgi-fault FAILED: 2 of 3 checks. 3 arrivals in 1 call
E
E       POST /orders  |--x 503--TIME--x 503--TIME--ok|
E
E       FAILED  attempts
E                 expected   observed  time
E               ! at most 2  3         TIME #1 POST /orders
E       ok      same_body: 3 arrivals
E       FAILED  no_unsafe_retry
E                 expected   observed      time
E                 sent once  sent once     TIME #1 POST /orders
E               ! sent once  sent 2 times  TIME #2 POST /orders
E               ! sent once  sent 3 times  TIME #3 POST /orders
E
E       http://127.0.0.1:PORT/~test_check-ab2b32e3   seed 0"""


def test_a_check_that_fails_is_readable(pytester: pytest.Pytester) -> None:
    tests = """
        def test_check(fault_server):
            fault_server.fail(2)
            requests_of(f"{fault_server.url}/orders", "POST", 3, json={"a": 1})
            fault_server.check(same_body=True, max_attempts=2, no_unsafe_retry=True)
    """
    result = project(pytester, KEPT_ALIVE, tests).runpytest_subprocess()
    result.assert_outcomes(failed=1)
    assert masked(result.outlines, "AssertionError: asgi-fault", "seed") == CHECK_GOLDEN
    result.stdout.no_fnmatch_line("*asgi-fault ---*")  # the timeline is there already
    result.stdout.no_fnmatch_line("*handle.py*")


STORY_GOLDEN = """\
GET /a  |--x 429--TIME--ok|
GET /b  |--ok--TIME--ok|

http://127.0.0.1:PORT/~test_story-f32892cc   seed 7"""


def test_a_test_that_fails_otherwise_gets_the_timeline(pytester: pytest.Pytester) -> None:
    tests = """
        def test_story(fault_server):
            fault_server.fail(1, status=429, path="/a")
            requests_of(f"{fault_server.url}/a")
            assert requests_of(f"{fault_server.url}/b") == [503, 200]
    """
    result = project(pytester, KEPT_ALIVE, tests).runpytest_subprocess("--fault-seed=7")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- asgi-fault -*", "GET /a *"], consecutive=True)
    assert masked(result.outlines, "GET /a ", "seed") == STORY_GOLDEN


MARKER_GOLDEN = """\
asgi-fault FAILED: 1 of 2 checks. 2 arrivals in 1 call

GET /  |--x 503--TIME--ok|

ok      attempts: 1 arrival
FAILED  gaps
          expected  observed  time
        ! >= 5 s    TIME TIME #2 GET /; too early

http://127.0.0.1:PORT/~test_marker-0fd050d5   seed 0"""


def test_expectations_of_the_marker_are_checked_when_the_test_has_passed(pytester: pytest.Pytester) -> None:
    tests = """
        import pytest

        @pytest.mark.asgi_fault(scenario="503-then-ok", max_attempts=3, min_gaps=[5])
        def test_marker(fault_server):
            requests_of(fault_server.url)

        @pytest.mark.asgi_fault(count=7)
        def test_that_fails_is_not_checked(fault_server):
            assert False, "first"

        @pytest.mark.asgi_fault(count=7)
        class TestNearestCounts:
            @pytest.mark.asgi_fault(count=2)
            def test_here(self, fault_server):
                requests_of(fault_server.url)

            def test_without_the_fixture(self):
                pass
    """
    result = project(pytester, KEPT_ALIVE, tests).runpytest_subprocess()
    result.assert_outcomes(passed=3, failed=1, errors=1)
    result.stdout.fnmatch_lines("*ERROR at teardown of test_marker*")
    assert masked(result.outlines, "asgi-fault FAILED", "seed") == MARKER_GOLDEN


ASTRAY_GOLDEN = """\
1 request came without the path prefix of the test's URL: GET /orders.
The client drops the path of its base URL (urljoin does, before a leading slash). A port of the test's own needs no \
prefix: use fault_server.own_port.url, or @pytest.mark.asgi_fault(own_port=True)."""


def test_a_client_that_drops_the_prefix_is_recognised(pytester: pytest.Pytester) -> None:
    tests = """
        import pytest
        from urllib.parse import urljoin

        def test_dropped(fault_server):
            requests_of(urljoin(fault_server.url, "/orders"), number=1)

        def test_own_port(fault_server):
            requests_of(urljoin(fault_server.own_port.url, "/orders"), number=1)
            fault_server.check(count=1, path="/orders")

        @pytest.mark.asgi_fault(own_port=True, scenario="503-then-ok", statuses=[503, 200])
        def test_marker(fault_server):
            requests_of(urljoin(fault_server.url, "/orders"))
    """
    result = project(pytester, KEPT_ALIVE, tests).runpytest_subprocess()
    result.assert_outcomes(passed=3, errors=1)
    assert masked(result.outlines, "1 request came", "own_port.url") == ASTRAY_GOLDEN


def test_a_mistake_in_the_marker_is_told(pytester: pytest.Pytester) -> None:
    tests = """
        import pytest

        @pytest.mark.asgi_fault(scenario="503 x2")
        def test_scenario(fault_server):
            pass

        @pytest.mark.asgi_fault(max_atempts=3)
        def test_name(fault_server):
            pass

        @pytest.mark.asgi_fault(rules=[{"then": {"status": 99}}])
        def test_rule(fault_server):
            pass

        @pytest.mark.asgi_fault("503")
        def test_position(fault_server):
            pass

        @pytest.mark.asgi_fault(own_port=True)
        def test_port(fault_app):
            pass
    """
    result = project(pytester, tests).runpytest_subprocess()
    result.assert_outcomes(errors=5)
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.asgi_fault: '503 x2' is no scenario*",
            "@pytest.mark.asgi_fault: max_atempts: there is no such expectation*",
            "@pytest.mark.asgi_fault: 0.then.status: *",
            "@pytest.mark.asgi_fault takes its arguments by name*",
            "fault_app has no port: own_port needs the fixture fault_server.",
        ]
    )


def test_a_marker_that_nothing_reads_fails(pytester: pytest.Pytester) -> None:
    tests = """
        import pytest

        @pytest.mark.asgi_fault(count=1)
        def test_it():
            pass
    """
    result = project(pytester, tests).runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("The marker asgi_fault does nothing without the fixture fault_server or fault_app.")


def test_the_server_log_is_shown_when_asked_for(pytester: pytest.Pytester) -> None:
    tests = """
        def test_passed(fault_server):
            requests_of(f"{fault_server.url}/earlier")

        def test_failed(fault_server):
            requests_of(f"{fault_server.url}/later")
            assert False
    """
    pytester = project(pytester, KEPT_ALIVE, tests)
    result = pytester.runpytest_subprocess("--fault-server-log=debug")
    result.stdout.fnmatch_lines(["*- asgi-fault server log -*", "*DEBUG * GET /later 200*"])
    result.stdout.no_fnmatch_line("*GET /earlier 200*")
    pytester.runpytest_subprocess().stdout.no_fnmatch_line("*server log*")


# --- options ---


@pytest.mark.parametrize(
    ("arguments", "variable", "ini", "seed"),
    [([], "", "", 0), ([], "", "3", 3), ([], "2", "3", 2), (["--fault-seed=1"], "2", "3", 1)],
)
def test_the_seed_comes_from_the_nearest(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str, ini: str, seed: int
) -> None:
    monkeypatch.setenv("ASGI_FAULT_SEED", variable)
    tests = f"""
        import pytest

        def test_seed(fault_server, fault_app):
            assert (fault_server.seed, fault_app.seed) == ({seed}, {seed})

        @pytest.mark.asgi_fault(seed=9)
        def test_own_seed(fault_server, fault_app):
            assert (fault_server.seed, fault_app.seed) == (9, 9)
    """
    more = f"asgi_fault_seed = {ini}" if ini else ""
    project(pytester, tests, more=more).runpytest_subprocess(*arguments).assert_outcomes(passed=2)


@pytest.mark.parametrize(("name", "value"), [("SEED", "many"), ("SEED", "-1"), ("SERVER_LOG", "loud")])
def test_a_bad_setting_is_told(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ASGI_FAULT_{name}", value)
    result = project(pytester, "def test_it(fault_server): pass").runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(f"*UsageError: the * of asgi-fault is *{value}'")


def test_help_and_markers_name_us(pytester: pytest.Pytester) -> None:
    pytester.runpytest_subprocess("-p", "asgi_fault", "--help").stdout.fnmatch_lines(
        ["asgi-fault: a server that fails on command:", "*--fault-seed=N*", "*asgi_fault_seed (string)*"]
    )
    pytester.runpytest_subprocess("-p", "asgi_fault", "--markers").stdout.fnmatch_lines("@pytest.mark.asgi_fault(*")


def test_the_users_settings_are_left_alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "DEBUG", "SERVER_PORT", "SERVER_MAX_BODY"):
        monkeypatch.setenv(name, "nonsense")
    (pytester.path / ".env").write_text("SERVER_SEED=nonsense\nREDIS_URL=redis://nowhere\n")
    tests = """
        def test_it(fault_server, fault_app):
            assert statuses(fault_server.url, 1) == [200]
            assert fault_server.seed == fault_app.seed == 0
    """
    project(pytester, FIRST, tests).runpytest_subprocess().assert_outcomes(passed=1)


# --- with other plugins ---


def test_xdist_workers_have_a_server_each(pytester: pytest.Pytester) -> None:
    tests = """
        import os, pathlib, pytest

        @pytest.mark.parametrize("number", range(40))
        def test_parallel(fault_server, number, worker_id):
            port = fault_server.url.rpartition("/~")[0].rpartition(":")[2]
            pathlib.Path(os.environ["PORTS"], f"{worker_id}-{port}").touch()
            fault_server.rule({"match": {"probability": 0.5}, "then": {"status": 503}})
            seen = "".join(str(status)[0] for status in statuses(fault_server.url, 8))
            pathlib.Path(os.environ["SEEN"], f"{number}-{seen}").touch()
            fault_server.check(count=8)

        def test_fails(fault_server):
            assert statuses(fault_server.scenario("reset"), 1) == []
    """
    seen = []
    for arguments in (["-n", "2"], ["-n", "0"], ["-n", "2", "--dist=worksteal"]):
        run = len(seen)
        ports, outcomes = pytester.mkdir(f"ports{run}"), pytester.mkdir(f"seen{run}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PORTS", str(ports))
            patch.setenv("SEEN", str(outcomes))
            result = project(pytester, FIRST, tests, plugins="xdist").runpytest_subprocess(*arguments)
        result.assert_outcomes(passed=40, failed=1)
        result.stdout.fnmatch_lines(["*- asgi-fault -*", "GET /  |--x reset|"])
        assert len(list(ports.iterdir())) == (1 if arguments[1] == "0" else 2)
        seen.append(sorted(path.name for path in outcomes.iterdir()))
    # What is random follows from the test, not from the worker, nor from what ran before.
    assert seen[0] == seen[1] == seen[2]
    assert len({name.partition("-")[2] for name in seen[0]}) > 10


ASYNC_TEST = """
        import anyio, asyncio, httpx, pytest

        async def client_of(url, sleep):
            async with httpx.AsyncClient() as client:
                for attempt in range(5):
                    if (await client.get(url)).status_code == 200:
                        return
                    await sleep(30 * (attempt + 1))
"""


def test_in_a_project_that_uses_anyio(pytester: pytest.Pytester) -> None:
    tests = """
        pytestmark = pytest.mark.anyio

        @pytest.mark.asgi_fault(scenario="503x2-then-ok", min_gaps=[30, 60])
        async def test_retries(fault_server, recorded_sleeps, anyio_backend_name):
            await client_of(fault_server.url, anyio.sleep)
            assert recorded_sleeps == pytest.approx([30, 60])

        async def test_sleeps_of_the_backend(fault_server, recorded_sleeps, anyio_backend_name):
            import importlib
            backend = importlib.import_module(anyio_backend_name)
            fault_server.scenario("503-then-ok")
            await client_of(fault_server.url, backend.sleep)
            assert recorded_sleeps == [30]

        async def test_nothing_is_skipped_without_the_fixture(fault_server):
            before = anyio.current_time()
            await anyio.sleep(0.01)
            assert anyio.current_time() > before
    """
    result = project(pytester, ASYNC_TEST, tests, plugins="anyio").runpytest_subprocess()
    result.assert_outcomes(passed=6)


def test_the_backend_of_anyio_is_seen_though_it_is_imported_late(pytester: pytest.Pytester) -> None:
    tests = """
        import pytest, sys

        assert "trio" not in sys.modules

        @pytest.fixture(params=["trio", ("trio", {})])
        def anyio_backend(request):
            return request.param

        def test_sleeps(anyio_backend, recorded_sleeps):
            import trio

            async def main():
                with trio.move_on_after(10):
                    await trio.sleep(3600)

            trio.run(main)
            assert recorded_sleeps == [3600]
    """
    project(pytester, tests).runpytest_subprocess().assert_outcomes(passed=2)


def test_in_a_project_that_uses_pytest_asyncio(pytester: pytest.Pytester) -> None:
    tests = """
        @pytest.mark.asgi_fault(scenario="503x2-then-ok", min_gaps=[30, 60])
        async def test_retries(fault_server, recorded_sleeps):
            await client_of(fault_server.url, asyncio.sleep)
            assert recorded_sleeps == [30, 60]

        @pytest.mark.asgi_fault(scenario="503x2-then-ok", attempts=3)
        async def test_in_process(fault_app):
            async with fault_app.client() as client:
                assert [(await client.get("/a")).status_code for _ in range(3)] == [503, 503, 200]

        async def test_a_rule_that_has_no_place_in_process(fault_app):
            with pytest.raises(ValueError, match="use the fixture fault_server"):
                fault_app.fail(delay_s=1)
    """
    more = "asyncio_mode = auto\n    asyncio_default_fixture_loop_scope = function"
    more = more.replace("\n    ", "\n")
    result = project(pytester, ASYNC_TEST, tests, plugins="asyncio", more=more).runpytest_subprocess()
    result.assert_outcomes(passed=3)


def test_in_a_project_that_uses_neither(pytester: pytest.Pytester) -> None:
    tests = """
        @pytest.mark.parametrize("run", [asyncio.run, lambda main: anyio.run(lambda: main, backend="trio")])
        def test_retries(fault_server, recorded_sleeps, run):
            run(client_of(fault_server.scenario("503x2-then-ok"), anyio.sleep))
            fault_server.check(min_gaps=[30, 60], max_attempts=3)

        def test_no_loop_was_left_behind(fault_server):
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
    """
    project(pytester, ASYNC_TEST, tests).runpytest_subprocess().assert_outcomes(passed=3)

"""The pytest plugin: `fault_server`, `make_fault_server`, `fault_app`, `recorded_sleeps`, the marker `asgi_fault`.

It is loaded in every pytest run of everybody who has installed this, so it imports nothing that pytest has not
imported; the server is imported, and started, by the first test that asks for it.
"""

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from asgi_fault.testing import FaultApp, FaultServer, RecordedSleeps
    from asgi_fault.testing.factory import Factory

SEED_MAX = 2**53  # as `Settings.seed`
LEVELS = ("error", "warning", "info", "debug")
LOG_LINES_MAX = 200
MARKER = (
    "asgi_fault(scenario=None, rules=None, seed=None, own_port=False, **expectations): what fault_server or fault_app "
    "does to this test's client, and what the client has to do; checked when the test has passed."
)

HANDLES = pytest.StashKey["list[FaultServer]"]()
PASSED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; each is an ini value too, and a variable `ASGI_FAULT_...`."""
    group = parser.getgroup("asgi-fault", "asgi-fault: a server that fails on command")
    group.addoption(
        "--fault-seed", type=int, default=None, metavar="N", help="What all randomness of the faults begins with (0)."
    )
    group.addoption(
        "--fault-server-log",
        choices=LEVELS,
        default=None,
        help="Least level of the server's log lines that a failed test shows (warning).",
    )
    parser.addini("asgi_fault_seed", "default of --fault-seed")
    parser.addini("asgi_fault_server_log", "default of --fault-server-log")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that --strict-markers knows it."""
    config.addinivalue_line("markers", MARKER)


# --- fixtures ---


@pytest.fixture(scope="session")
def make_fault_server(request: pytest.FixtureRequest) -> "Iterator[Factory]":
    """Call it for a `FaultServer` more: `make_fault_server("payments")`, `make_fault_server(max_concurrency=1)`.

    With settings it is a server of its own, else another partition of the session's. All end with the session, or
    with their `close()`.
    """
    from asgi_fault.testing.factory import Factory

    factory = Factory(seed=_seed(request.config), log_level=_log_level(request.config))
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture
def fault_server(request: pytest.FixtureRequest, make_fault_server: "Factory") -> "Iterator[FaultServer]":
    """A real server on a free port that does what this test tells it, and remembers what the client did."""
    from asgi_fault.testing.factory import partition_name

    options = _options(request.node)
    seed = options.pop("seed", None)
    own_port = options.pop("own_port", False)
    with make_fault_server(partition_name(request.node.nodeid), seed=seed) as server:
        if own_port:
            server.prefer_own_port()
        with _watched(request.node, server, options):
            yield server


@pytest.fixture
def fault_app(request: pytest.FixtureRequest) -> "Iterator[FaultApp]":
    """The same without a socket, for `httpx.AsyncClient(transport=fault_app.transport, base_url=fault_app.url)`."""
    from asgi_fault.testing.factory import partition_name
    from asgi_fault.testing.in_process import FaultApp

    options = _options(request.node)
    seed = options.pop("seed", None)
    if options.pop("own_port", False):
        pytest.fail("fault_app has no port: own_port needs the fixture fault_server.", pytrace=False)
    seed = _seed(request.config) if seed is None else seed
    level = _log_level(request.config)
    app = FaultApp(partition_name(request.node.nodeid), seed, log_level=level)
    with app, _watched(request.node, app, options):
        yield app


@pytest.fixture
def recorded_sleeps(request: pytest.FixtureRequest) -> "Iterator[RecordedSleeps]":
    """The sleeps of this test's thread, skipped: `assert recorded_sleeps == pytest.approx([1, 2])`."""
    import importlib

    from asgi_fault.testing import sleeps

    if "anyio_backend" in request.fixturenames:
        # Its plugin imports the backend when the test begins: too late to be seen.
        backend = request.getfixturevalue("anyio_backend")
        importlib.import_module("anyio")
        importlib.import_module(backend if isinstance(backend, str) else backend[0])
    recorded = sleeps.RecordedSleeps(too_many=lambda reason: pytest.fail(reason, pytrace=False))
    sleeps.start(recorded)
    try:
        yield recorded
    finally:
        sleeps.stop()


# --- what happens around a test ---


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Refuse a marker that nothing reads: its expectations would never be checked."""
    result = yield
    if any(marker.name == "asgi_fault" for marker in item.own_markers) and HANDLES not in item.stash:
        pytest.fail("The marker asgi_fault does nothing without the fixture fault_server or fault_app.", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell a failed test what its server has seen."""
    report = yield
    if call.when == "call" and HANDLES in item.stash:
        item.stash[PASSED] = report.passed
        if report.failed:
            for handle in item.stash[HANDLES]:
                report.sections += _sections(handle)
    return report


def _sections(handle: "FaultServer") -> Iterator[tuple[str, str]]:
    try:
        if not handle.was_told:
            yield "asgi-fault", handle.story()
        lines = handle.log()
    except Exception as error:  # noqa: BLE001 - the test's own failure has to be reported, whatever else is wrong
        yield "asgi-fault", f"The server cannot be asked: {error!r}"
        return
    if lines:
        yield "asgi-fault server log", "".join(lines[-LOG_LINES_MAX:])


@contextmanager
def _watched(item: pytest.Item, handle: "FaultServer", options: Mapping[str, Any]) -> Iterator[None]:
    """Around a test: faults from its marker first, expectations afterwards, unless the test has failed anyway."""
    from asgi_fault.testing.checks import expectations_of

    expected = dict(options)
    scenario, rules = expected.pop("scenario", None), expected.pop("rules", None)
    try:
        if expected:
            expectations_of(expected)
        if rules is not None:
            handle.rules(rules)
        if scenario is not None:
            handle.scenario(scenario)
    except ValueError as error:
        pytest.fail(f"@pytest.mark.asgi_fault: {error}", pytrace=False)
    item.stash.setdefault(HANDLES, []).append(handle)
    item.stash[PASSED] = False
    try:
        yield
    finally:
        item.stash[HANDLES].remove(handle)
    if item.stash[PASSED]:
        problem = (handle.problem(expected) if expected else None) or handle.astray()
        if problem is not None:
            pytest.fail(problem, pytrace=False)


def _options(node: pytest.Item) -> dict[str, Any]:
    """The arguments of all markers of a test; of one that is given twice the nearest counts."""
    options: dict[str, Any] = {}
    for marker in node.iter_markers("asgi_fault"):
        if marker.args:
            pytest.fail("@pytest.mark.asgi_fault takes its arguments by name: scenario='503x2-then-ok'.", pytrace=False)
        options = {**marker.kwargs, **options}
    return options


def _seed(config: pytest.Config) -> int:
    value = config.getoption("fault_seed")
    text = _setting(config, "seed") if value is None else str(value)
    try:
        seed = int(text or 0)
    except ValueError:
        seed = -1
    if not 0 <= seed <= SEED_MAX:
        raise pytest.UsageError(f"the seed of asgi-fault is a whole number from 0 to 2**53, not {text!r}")
    return seed


def _log_level(config: pytest.Config) -> str:
    """A level of `Settings.log_level`."""
    level = (config.getoption("fault_server_log") or _setting(config, "server_log") or "warning").lower()
    if level not in LEVELS:
        raise pytest.UsageError(f"the log level of asgi-fault is one of {', '.join(LEVELS)}, not {level!r}")
    return level.upper()


def _setting(config: pytest.Config, name: str) -> str:
    """The environment's value, else the ini file's."""
    return os.environ.get(f"ASGI_FAULT_{name.upper()}") or str(config.getini(f"asgi_fault_{name}") or "")

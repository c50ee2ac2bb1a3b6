"""Real server processes on free ports: started, waited for, and always killed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
BOUND = 20.0  # seconds; far beyond what anything here takes, so only a hang meets it
POLL = 0.02  # seconds
PLAIN: dict[str, Any] = {"verify": False, "trust_env": False, "timeout": BOUND}
"""Options of every httpx client here: no proxy, and no time spent on loading certificates."""
LISTENING = re.compile(rb"(https?)://[\w.\[\]:]+?:(\d+)")
DEFECTS = ("Traceback", "was never retrieved", "was never awaited", "Task was destroyed")


@dataclass(frozen=True)
class Runner:
    """A command that serves `asgi_fault:app` on a free port of 127.0.0.1 and writes where to standard error."""

    name: str
    arguments: tuple[str, ...]


ADDRESS = ("--host", "127.0.0.1", "--port", "0")


def serve(*options: str) -> Runner:
    """`asgi-fault serve` with `options`, on a free port."""
    return Runner("serve", ("asgi_fault", "serve", *ADDRESS, *options))


def _matrix() -> dict[str, Runner]:
    runners: dict[str, Runner] = {}
    for http in ("h11", "httptools"):
        for loop in ("asyncio", "uvloop"):
            options = (*ADDRESS, "--http", http, "--loop", loop)
            ours, plain = f"serve-{http}-{loop}", f"uvicorn-{http}-{loop}"
            runners[ours] = Runner(ours, ("asgi_fault", "serve", *options))
            runners[plain] = Runner(plain, ("uvicorn", "asgi_fault:app", *options))
    runners["hypercorn"] = Runner(
        "hypercorn", ("hypercorn", "asgi_fault:app", "--worker-class", "asyncio", "--bind", "127.0.0.1:0")
    )
    return runners


RUNNERS = _matrix()


def eventually(condition: Callable[[], Any], *, within: float = BOUND, what: str = "") -> Any:
    """The first true value of `condition`, asked again and again; fails the test when there is none."""
    give_up_at = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < give_up_at, f"not within {within:g} s: {what or condition}"
        time.sleep(POLL)


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anything that configures a server, and with `variables`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SERVER_", "UVICORN_", "COV_CORE_")) and name not in ("NO_COLOR", "WEB_CONCURRENCY")
    }
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(variables or {})}


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    exit_code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def run_to_end(
    arguments: Sequence[str], *, cwd: Path, variables: Mapping[str, str] | None = None, executable: str | None = None
) -> Ended:
    """Run `python -m <arguments>` (or `executable <arguments>`) until it ends by itself."""
    command = [executable] if executable else [sys.executable, "-m"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=cwd,
        env=environment(variables),
        capture_output=True,
        timeout=BOUND,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ended(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


class Server:
    """A running server process.

    Attributes:
        name: of its runner.
        url: `http://127.0.0.1:port`, without a slash at the end.
        address: the same for a socket.
    """

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.name = name
        self.process = process
        self._folder = folder
        self.url = ""
        self.address = ("", 0)
        self._checked = {"out": 0, "err": 0}

    @property
    def out(self) -> str:
        """Standard output so far."""
        return (self._folder / "out").read_text("utf-8", "replace")

    @property
    def err(self) -> str:
        """Standard error so far."""
        return (self._folder / "err").read_text("utf-8", "replace")

    def wait_until_it_answers(self) -> None:
        """Find out the port, and ask for /health until it answers."""

        def announced() -> "re.Match[bytes] | None":
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.out}{self.err}"
            return LISTENING.search((self._folder / "err").read_bytes())

        scheme, port = eventually(announced, what="the server says where it listens").groups()
        self.address = ("127.0.0.1", int(port))
        self.url = f"{scheme.decode()}://127.0.0.1:{int(port)}"

        def answers() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.out}{self.err}"
            try:
                return httpx.get(self.url + "/health", **PLAIN).status_code < 500
            except httpx.TransportError:
                return False

        eventually(answers, what="GET /health is answered")

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def wait_for_end(self, within: float = BOUND) -> int:
        """The exit code; fails the test when the process goes on."""
        eventually(lambda: self.process.poll() is not None, within=within, what=f"the server ends\n{self.err}")
        return int(self.process.returncode)

    def client(self, partition: str = "", **options: Any) -> httpx.Client:
        """A client for this server that picks `partition` by its URL."""
        base = f"{self.url}/~{partition}" if partition else self.url
        return httpx.Client(base_url=base, **PLAIN, **options)

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        text = httpx.get(self.url + "/metrics", **PLAIN).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found is not None, f"/metrics has no {name}"
        return float(found[1])

    def assert_no_defect(self) -> None:
        """Nothing it wrote since the last check looks like a crash."""
        for stream, text in (("out", self.out), ("err", self.err)):
            new = text[self._checked[stream] :]
            self._checked[stream] = len(text)
            assert not [word for word in DEFECTS if word in new], new[-6000:]


@contextlib.contextmanager
def running(
    runner: Runner,
    *,
    variables: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    wait: bool = True,
) -> Iterator[Server]:
    """`runner` as a process in an empty folder, unless `cwd` is given. It and its children die with the block."""
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", *runner.arguments],
                cwd=cwd or folder,
                env=environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        server = Server(runner.name, process, folder)
        try:
            if wait:
                server.wait_until_it_answers()
            yield server
        finally:
            _kill(process)


class Pool(contextlib.ExitStack):
    """Servers that several tests share: each is started when it is first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._servers: dict[str, Server] = {}

    def __getitem__(self, name: str) -> Server:
        if name not in self._servers:
            self._servers[name] = self.enter_context(running(RUNNERS[name]))
        server = self._servers[name]
        assert server.process.poll() is None, f"{name} has ended:\n{server.out}{server.err}"
        return server


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the whole process group: reloaders and workers have children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

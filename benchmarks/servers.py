"""The servers under measurement: uvicorn processes, all up at once, pinned to one core, gone when the run ends."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO

from benchmarks.cases import Server
from benchmarks.errors import BenchmarkError

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 30.0  # seconds; importing FastAPI on a busy core takes two
STOP_TIMEOUT = 5.0  # seconds until a server that was asked to stop is killed
SETTINGS = ("SERVER_", "UVICORN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
"""Variables that would change what is measured; a run does not hand them on."""


def check_installed(packages: Iterable[str]) -> None:
    """Raises BenchmarkError, naming the remedy, when one of `packages` is missing."""
    missing = [package for package in dict.fromkeys(packages) if find_spec(package) is None]
    if missing:
        raise BenchmarkError(f"not installed: {', '.join(missing)}\nInstall the peers with: pip install -e '.[bench]'")


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child process: without settings of ours, and able to import this source tree."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    return {**environment, **(more or {})}


class RunningServer:
    """One uvicorn process.

    Args:
        core: the core it is pinned to; None leaves it to the system.
        folder: an empty working directory, so that no `.env` is read.
    """

    def __init__(self, server: Server, core: int | None, folder: str) -> None:
        self.name = server.name
        self.port = _free_port()
        command = [sys.executable, "-m", "uvicorn", server.target, "--host", HOST, "--port", str(self.port)]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._process = subprocess.Popen(
            [*command, *server.flags],
            cwd=folder,
            env=clean_environment(server.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for us; we stop the servers ourselves.
        )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})

    def wait_until_ready(self) -> None:
        """Return when the server accepts connections.

        Raises:
            BenchmarkError: it ended, or took too long.
        """
        give_up_at = time.monotonic() + START_TIMEOUT
        while time.monotonic() < give_up_at:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self._errors.seek(0)
        last_words = self._errors.read().decode(errors="replace")[-2000:]
        raise BenchmarkError(f"the server {self.name!r} did not start:\n{last_words}")

    def set_rules(self, number: int) -> None:
        """Give our server `number` rules, each on a route of its own that is not measured."""
        rules = [{"match": {"path": f"/v1/route-{i}"}, "then": {"status": 503}} for i in range(number)]
        body = json.dumps({"rules": rules}).encode()
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}/faults", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=START_TIMEOUT) as answer:
            if answer.status != 201:
                raise BenchmarkError(f"the server {self.name!r} did not take {number} rules: {answer.status}")

    def cpu_ns(self) -> int:
        """CPU time of all its threads so far, user and system, in nanoseconds. Exact only while it is idle."""
        total = 0
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            total += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
        return total

    def ask_to_stop(self) -> None:
        """Begin to stop it; `stop` has to follow."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """Wait until it has stopped, or kill it."""
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


class Fleet:
    """All servers of a run: a context manager that starts them and, whatever happens, stops them."""

    def __init__(self, servers: Iterable[Server], core: int | None) -> None:
        self._servers = tuple(servers)
        self._core = core
        self._folder = tempfile.TemporaryDirectory(prefix="asgi-fault-bench-")
        self._running: dict[str, RunningServer] = {}

    def __enter__(self) -> dict[str, RunningServer]:
        if not Path("/proc/self/task").is_dir():
            raise BenchmarkError("server CPU time is read from /proc: the sockets part needs Linux")
        try:
            for server in self._servers:
                self._running[server.name] = RunningServer(server, self._core, self._folder.name)
            for server in self._servers:
                self._running[server.name].wait_until_ready()
                if server.rules:
                    self._running[server.name].set_rules(server.rules)
        except BaseException:
            self._stop()
            raise
        return self._running

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for running in self._running.values():
            running.ask_to_stop()
        for running in self._running.values():
            running.stop()
        self._folder.cleanup()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port

"""The command line as a user meets it: what it prints, what it refuses, and how its servers start and stop."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_fault import __version__
from tests.missing import missing
from tests.processes import (
    ADDRESS,
    BOUND,
    PLAIN,
    RUNNERS,
    Ended,
    Runner,
    Server,
    environment,
    eventually,
    run_to_end,
    running,
    serve,
)

TOKEN = "correct-horse-battery-staple"
ESCAPE = "\x1b["
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
GUARDED = (
    ("POST", "/fail/count/1"),
    ("POST", "/fail/duration/1"),
    ("POST", "/fail/reset"),
    ("GET", "/fail/status"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/redoc"),
    ("GET", "/openapi.json"),
    ("POST", "/~some/fail/reset"),
)


def asgi_fault(*arguments: str, cwd: Path, **variables: str) -> Ended:
    return run_to_end(("asgi_fault", *arguments), cwd=cwd, variables=variables)


def config(*arguments: str, cwd: Path, **variables: str) -> dict[str, Any]:
    ended = asgi_fault("config-info", "--json", *arguments, cwd=cwd, **variables)
    assert (ended.exit_code, ended.err) == (0, "")
    shown: dict[str, Any] = json.loads(ended.out)
    return shown


class TestWhatItPrints:
    def test_the_module_says_its_version(self, tmp_path: Path) -> None:
        ended = asgi_fault("--version", cwd=tmp_path)
        assert (ended.exit_code, ended.out) == (0, f"asgi-fault, version {__version__}\n")

    def test_the_installed_command_is_the_module(self, tmp_path: Path) -> None:
        command = Path(sys.executable).with_name("asgi-fault")
        ended = run_to_end(("--version",), cwd=tmp_path, executable=str(command))
        assert (ended.exit_code, ended.out) == (0, f"asgi-fault, version {__version__}\n")

    def test_help_names_every_setting_with_its_default(self, tmp_path: Path) -> None:
        ended = asgi_fault("serve", "--help", cwd=tmp_path)
        words = " ".join(ended.out.split())
        assert ended.exit_code == 0
        for variable, value in config(cwd=tmp_path).items():
            assert f"--{variable.removeprefix('SERVER_').lower().replace('_', '-')}" in words
            if variable not in ("SERVER_ADMIN_TOKEN", "SERVER_PROXY", "SERVER_URL"):
                shown = ",".join(value) if isinstance(value, list) else value
                assert f"[default: {shown}]" in words, variable

    def test_port_0_prints_one_url_and_that_answers(self) -> None:
        with running(Runner("serve", ("asgi_fault", "serve", "--port", "0"))) as server:
            urls = set(re.findall(r"https?://[\w.:\[\]]+", server.err + server.out))
            assert len(urls) == 1
            (url,) = urls
            assert not url.endswith(":0")
            assert httpx.get(f"{url}/health", **PLAIN).status_code == 200
            assert "Ctrl-C" in server.err
            server.assert_no_defect()

    def test_the_start_event_has_the_url_and_standard_output_only_log_lines(self) -> None:
        with running(serve()) as server:
            httpx.get(server.url + "/msg", **PLAIN)
            events = [json.loads(line) for line in server.out.splitlines()]
        assert [(event["event"], event["url"]) for event in events] == [("server.start", server.url)]

    def test_debug_has_one_line_a_request_and_info_none(self) -> None:
        with running(serve("--log-level", "debug", "--log-format", "console")) as server:
            httpx.get(server.url + "/msg?delay=1", headers={"X-Request-ID": "look-at-me"}, **PLAIN)
            eventually(lambda: "request_id=look-at-me" in server.out, what="the line of the request is written")
            assert server.out.count("request_id=look-at-me") == 1
            assert re.search(r"GET '?/msg'? 200 .*request_id=look-at-me", server.out)

    def test_the_first_command_it_suggests_works(self) -> None:
        with running(serve()) as server:
            found = re.search(r"curl -X POST (\S+) && curl -i (\S+)", server.err)
            assert found is not None
            assert httpx.post(found[1], **PLAIN).status_code == 200
            assert httpx.get(found[2], **PLAIN).status_code == 500

    @pytest.mark.parametrize("no_color", [False, True])
    def test_no_color_is_obeyed_on_a_terminal(self, no_color: bool, tmp_path: Path) -> None:
        shown = on_a_terminal(("serve", *ADDRESS), cwd=tmp_path, **({"NO_COLOR": "1"} if no_color else {}))
        assert "listens on" in shown
        assert (ESCAPE not in shown) is no_color

    def test_on_an_ipv6_address_the_url_has_brackets(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            missing("this machine has no IPv6")
        with running(Runner("serve", ("asgi_fault", "serve", "--host", "::1", "--port", "0")), wait=False) as server:
            found = eventually(lambda: re.search(r"http://\[::1\]:\d+", server.err), what="the URL")
            eventually(lambda: '"server.start"' in server.out)
            assert httpx.get(found[0] + "/health", **PLAIN).status_code == 200


def on_a_terminal(arguments: tuple[str, ...], *, cwd: Path, **variables: str) -> str:
    """What `asgi-fault` shows on a terminal until its first log line."""
    ours, theirs = pty.openpty()
    shown = b""
    process = subprocess.Popen(
        [sys.executable, "-m", "asgi_fault", *arguments],
        cwd=cwd,
        env={**environment(variables), "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    try:
        os.close(theirs)
        while b"server.start" not in shown:
            piece = os.read(ours, 4096)
            assert piece, shown
            shown += piece
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return shown.decode()


class TestSettings:
    def test_command_line_then_environment_then_dotenv_then_default(self, tmp_path: Path) -> None:
        name = "SERVER_MAX_CONCURRENCY"
        assert config(cwd=tmp_path)[name] == 50
        (tmp_path / ".env").write_text(f'{name}="7"\nSERVER_LOG_LEVEL=debug\n')
        assert config(cwd=tmp_path)[name] == 7
        assert config(cwd=tmp_path, **{name: "8"})[name] == 8
        assert config("--max-concurrency", "9", cwd=tmp_path, **{name: "8"})[name] == 9
        assert config(cwd=tmp_path, **{name: "8"})["SERVER_LOG_LEVEL"] == "DEBUG"

    def test_the_served_application_has_the_same_precedence(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("SERVER_HEALTH_STATUS=dotenv\nSERVER_MAX_BODY=1\n")
        runner = serve("--max-body", "3")
        with running(runner, cwd=tmp_path, variables={"SERVER_HEALTH_STATUS": "environment"}) as server:
            assert httpx.get(server.url + "/health", **PLAIN).json()["status"] == "environment"
            assert httpx.request("GET", server.url + "/msg", content=b"abc", **PLAIN).status_code == 200
            assert httpx.request("GET", server.url + "/msg", content=b"abcd", **PLAIN).status_code == 413

    def test_plain_uvicorn_reads_environment_and_dotenv(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("SERVER_HEALTH_STATUS=dotenv\nSERVER_ENABLE_DOCS=no\n")
        variables = {"SERVER_HEALTH_STATUS": "environment"}
        with running(RUNNERS["uvicorn-h11-asyncio"], cwd=tmp_path, variables=variables) as server:
            assert httpx.get(server.url + "/health", **PLAIN).json()["status"] == "environment"
            assert httpx.get(server.url + "/docs", **PLAIN).status_code == 404

    def test_config_info_for_people_has_name_value_and_range(self, tmp_path: Path) -> None:
        ended = asgi_fault("config-info", cwd=tmp_path, SERVER_QUEUE_LIMIT="17")
        (line,) = [line for line in ended.out.splitlines() if line.startswith("SERVER_QUEUE_LIMIT")]
        assert re.search(r"\b17\b.*from 0 to 100000", line)

    @pytest.mark.parametrize("command", ["serve", "config-info"])
    @pytest.mark.parametrize("source", ["flag", "environment", "dotenv"])
    def test_out_of_range_names_variable_value_and_range(self, tmp_path: Path, command: str, source: str) -> None:
        arguments, variables = [command], {}
        if source == "flag":
            arguments += ["--max-concurrency", "1001"]
        elif source == "environment":
            variables = {"SERVER_MAX_CONCURRENCY": "1001"}
        else:
            (tmp_path / ".env").write_text("SERVER_MAX_CONCURRENCY=1001\n")
        ended = asgi_fault(*arguments, cwd=tmp_path, **variables)
        assert ended.exit_code == 2
        assert "SERVER_MAX_CONCURRENCY=1001: expected a whole number from 1 to 1000" in ended.err
        assert "Traceback" not in ended.text

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PORT", "65536"), ("PORT", "-1"), ("PORT", "http"), ("MAX_CONCURRENCY", "0"),
            ("REQUEST_TIMEOUT", "0.5"), ("REQUEST_TIMEOUT", "nan"), ("QUEUE_TIMEOUT", "inf"), ("CACHE_MAX_SIZE", ""),
            ("CACHE_TTL_SECONDS", "86401"), ("LOG_LEVEL", "LOUD"), ("LOG_FORMAT", "xml"), ("ENABLE_DOCS", "perhaps"),
            ("MAX_BODY", "1e6"),
        ],
    )  # fmt: skip
    def test_every_kind_of_mistake_is_named(self, tmp_path: Path, name: str, value: str) -> None:
        ended = asgi_fault("serve", cwd=tmp_path, **{f"SERVER_{name}": value})
        assert ended.exit_code == 2
        assert f"SERVER_{name}={value}: expected" in ended.err
        assert "Traceback" not in ended.text

    def test_all_mistakes_are_named_at_once(self, tmp_path: Path) -> None:
        ended = asgi_fault("serve", cwd=tmp_path, SERVER_PORT="x", SERVER_QUEUE_LIMIT="-1", SERVER_LOG_FORMAT="xml")
        for name in ("SERVER_PORT=x", "SERVER_QUEUE_LIMIT=-1", "SERVER_LOG_FORMAT=xml"):
            assert name in ended.err

    @pytest.mark.parametrize("name", [name for name in RUNNERS if name.startswith(("uvicorn-h11", "hypercorn"))])
    def test_another_server_ends_with_the_reason_and_without_a_traceback(self, tmp_path: Path, name: str) -> None:
        ended = run_to_end(RUNNERS[name].arguments, cwd=tmp_path, variables={"SERVER_QUEUE_LIMIT": "-1"})
        assert "SERVER_QUEUE_LIMIT=-1: expected a whole number from 0 to 100000" in ended.text
        if name.startswith("uvicorn"):  # hypercorn ends with 0 and a traceback of its own, whatever an application does
            assert ended.exit_code != 0
            assert "Traceback" not in ended.text


class TestWhatItRefuses:
    @pytest.mark.parametrize("extra", [(), ("--workers", "2"), ("--reload",)])
    def test_a_taken_port_is_said_with_the_way_out(self, tmp_path: Path, extra: tuple[str, ...]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ended = asgi_fault("serve", "--host", "127.0.0.1", "--port", port, *extra, cwd=tmp_path)
        assert ended.exit_code not in (0, None)
        assert port in ended.err
        assert "--port" in ended.err
        assert "Traceback" not in ended.text
        assert "listens on" not in ended.text

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (("--host", "203.0.113.1"), "--host"),
            (("--reload", "--workers", "2"), "--workers"),
            (("--workers", "0"), "--workers"),
            (("--http", "http3"), "--http"),
            (("--port", "abc"), "--port"),
            (("--ssl-certfile", "missing.pem"), "missing.pem"),
            (("--max-concurency", "3"), "--max-concurrency"),
        ],
    )
    def test_names_what_is_wrong(self, tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
        ended = asgi_fault("serve", *arguments, cwd=tmp_path)
        assert ended.exit_code != 0
        assert named in ended.err
        assert "Traceback" not in ended.text

    @pytest.mark.parametrize("options", [("--ssl-certfile", "bad.pem"), ("--ssl-keyfile", "bad.pem")])
    def test_an_unusable_certificate_is_said_without_a_traceback(
        self, tmp_path: Path, options: tuple[str, ...]
    ) -> None:
        (tmp_path / "bad.pem").write_text("this is no certificate\n")
        ended = asgi_fault("serve", *ADDRESS, *options, cwd=tmp_path)
        assert ended.exit_code != 0
        assert "--ssl-" in ended.err
        assert "Traceback" not in ended.text
        assert "listens on" not in ended.text


class TestProcesses:
    def test_two_workers_are_warned_about_and_serve_and_stop(self) -> None:
        with running(serve("--workers", "2")) as server:
            assert re.search(r"warning.*2 workers share nothing", server.err)
            eventually(lambda: server.out.count('"server.start"') == 2, what="both workers have started")
            assert {httpx.get(server.url + "/msg", **PLAIN).status_code for _ in range(8)} == {200}
            stop_and_find_the_port_free(server)

    def test_one_worker_is_not_warned_about(self) -> None:
        with running(serve()) as server:
            assert "share nothing" not in server.err

    def test_reload_starts_again_when_the_code_changes_and_stops(self, tmp_path: Path) -> None:
        code = tmp_path / "code.py"
        code.touch()
        newer = count(int(code.stat().st_mtime) + 1)

        def starts_after_a_change() -> int:
            time = next(newer)  # again and again, because what changes before the first look goes unnoticed
            os.utime(code, (time, time))
            return server.out.count('"server.start"')

        with running(serve("--reload"), cwd=tmp_path, variables={"SERVER_HEALTH_STATUS": "fine"}) as server:
            assert server.out.count('"server.start"') == 1
            eventually(lambda: starts_after_a_change() > 1, what="the server has started again")
            assert eventually(lambda: health_word(server)) == "fine"
            stop_and_find_the_port_free(server)

    def test_waiting_clients_of_two_workers_do_not_hold_them_up(self) -> None:
        with running(serve("--workers", "2")) as server:
            eventually(lambda: server.out.count('"server.start"') == 2)
            with socket.create_connection(server.address) as connection:
                connection.sendall(b"GET /msg?delay=30000 HTTP/1.1\r\nhost: h\r\n\r\n")
                server.signal(signal.SIGTERM)
                server.wait_for_end(5.0)
            server.assert_no_defect()


def health_word(server: Server) -> str:
    try:
        return str(httpx.get(server.url + "/health", **PLAIN).json()["status"])
    except httpx.TransportError:
        return ""


def stop_and_find_the_port_free(server: Server) -> None:
    """No child may live on and keep the port."""
    server.signal(signal.SIGINT)
    server.wait_for_end(10.0)
    server.assert_no_defect()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address, timeout=BOUND)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        missing("there is no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "config").write_text(
        "[req]\ndistinguished_name=name\nx509_extensions=more\nprompt=no\n[name]\nCN=localhost\n"
        "[more]\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n"
    )
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -config config -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return str(folder / "cert.pem"), str(folder / "key.pem")


class TestHttps:
    @pytest.mark.parametrize("http", ["h11", "httptools"])
    def test_a_certificate_makes_it_https(self, certificate: tuple[str, str], http: str) -> None:
        certfile, keyfile = certificate
        runner = serve("--ssl-certfile", certfile, "--ssl-keyfile", keyfile, "--http", http)
        with running(runner) as server:
            assert server.url.startswith("https://")
            trusting = ssl.create_default_context(cafile=certfile)
            with httpx.Client(verify=trusting, trust_env=False) as client:
                assert client.get(server.url + "/health").status_code == 200
                assert client.post(server.url + "/~tls/fail/count/1").status_code == 200
                assert client.get(server.url + "/~tls/msg").status_code == 500
            with pytest.raises(httpx.TransportError):
                httpx.get(server.url.replace("https", "http") + "/health", **PLAIN)
            server.signal(signal.SIGINT)
            assert server.wait_for_end() == 0
            server.assert_no_defect()

    def test_one_file_can_hold_certificate_and_key(self, certificate: tuple[str, str], tmp_path: Path) -> None:
        both = tmp_path / "both.pem"
        both.write_text("".join(Path(part).read_text() for part in certificate))
        with running(serve("--ssl-certfile", str(both))) as server:
            assert server.url.startswith("https://")


class TestTheAdminToken:
    @pytest.fixture(params=["serve-httptools-uvloop", "uvicorn-h11-asyncio"])
    def server(self, request: pytest.FixtureRequest) -> Iterator[Server]:
        variables = {"SERVER_ADMIN_TOKEN": TOKEN, "SERVER_LOG_LEVEL": "DEBUG"}
        with running(RUNNERS[request.param], variables=variables) as server:
            yield server
            server.assert_no_defect()

    def test_guards_the_control_plane_and_is_never_shown(self, server: Server) -> None:
        shown: list[str] = []
        with server.client() as client:
            for method, path in GUARDED:
                for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                    reply = client.request(method, path, headers=wrong)
                    assert (reply.status_code, path) == (401, path)
                    assert reply.headers["www-authenticate"].startswith("Bearer")
                    shown += [reply.text, str(reply.headers)]
                reply = client.request(method, path, headers=RIGHT)
                assert (reply.status_code, path) == (200, path)
                shown += [reply.text, str(reply.headers)]
            assert client.get("/health").status_code == 200
            client.post("/fail/reset", headers=RIGHT)
            assert client.get("/msg").status_code == 200
        server.signal(signal.SIGINT)
        server.wait_for_end()
        assert TOKEN not in "".join(shown)
        assert TOKEN not in server.out + server.err

    @pytest.mark.parametrize("arguments", [("config-info",), ("config-info", "--json"), ("serve", "--port", "70000")])
    @pytest.mark.parametrize("source", ["flag", "environment", "dotenv"])
    def test_is_not_in_any_output(self, tmp_path: Path, arguments: tuple[str, ...], source: str) -> None:
        variables = {"SERVER_ADMIN_TOKEN": TOKEN} if source == "environment" else {}
        if source == "dotenv":
            (tmp_path / ".env").write_text(f"SERVER_ADMIN_TOKEN={TOKEN}\n")
        flags = ("--admin-token", TOKEN) if source == "flag" else ()
        ended = asgi_fault(*arguments, *flags, cwd=tmp_path, **variables)
        assert TOKEN not in ended.text
        if arguments[0] == "config-info":
            assert "***" in ended.out

    def test_from_the_command_line_reaches_every_worker(self) -> None:
        with running(serve("--workers", "2", "--admin-token", TOKEN)) as server:
            eventually(lambda: server.out.count('"server.start"') == 2)
            statuses = {httpx.get(server.url + "/metrics", **PLAIN).status_code for _ in range(8)}
            assert statuses == {401}
            assert TOKEN not in server.out + server.err

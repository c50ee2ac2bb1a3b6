"""docker/ is right as far as one can tell without an engine: what it names exists, what it sets is accepted."""

import json
import os
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from asgi_fault.cli import main
from asgi_fault.config import Settings, variable_of

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
COMPOSE_FILE = DOCKER / "compose.yaml"
LOAD_TEST = DOCKER / "load-test.sh"
SETTINGS = {variable_of(setting.name): setting for setting in fields(Settings)}


# --- a Dockerfile, read as the builder reads it ---


@dataclass(frozen=True)
class Instruction:
    word: str
    text: str

    @property
    def flags(self) -> dict[str, str]:
        found = re.match(r"(?:--\S+\s+)*", self.text)
        assert found is not None
        return dict(flag[2:].partition("=")[::2] for flag in found[0].split())

    @property
    def rest(self) -> str:
        return re.sub(r"^(?:--\S+\s+)*", "", self.text)


@dataclass(frozen=True)
class Stage:
    name: str
    base: str
    instructions: list[Instruction]

    def all(self, word: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.word == word]

    def last(self, word: str) -> Instruction:
        found = self.all(word)
        assert found, f"the stage {self.name} has no {word}"
        return found[-1]


def instructions_of(text: str) -> list[Instruction]:
    """Comments and empty lines go, also between continued lines; a line that ends in a backslash continues."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    parts = [line.strip().split(maxsplit=1) for line in whole.splitlines()]
    assert all(len(part) == 2 for part in parts), f"an instruction without arguments: {parts}"
    return [Instruction(word.upper(), rest) for word, rest in parts]


def stages_of(text: str) -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    before: list[Instruction] = []
    current = before
    for instruction in instructions_of(text):
        if instruction.word == "FROM":
            base, _, name = re.split(r"\s+(as)\s+", instruction.rest, maxsplit=1, flags=re.IGNORECASE)
            assert name not in stages, f"two stages are called {name}"
            current = []
            stages[name] = Stage(name, base, current)
        else:
            current.append(instruction)
    assert {instruction.word for instruction in before} <= {"ARG"}, "only ARG may stand before the first FROM"
    return stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stage and those it is built on, the oldest first."""
    stage = stages[name]
    return [*(lineage(stages, stage.base) if stage.base in stages else []), stage]


def environment_of(stages: dict[str, Stage], name: str) -> dict[str, str]:
    return {
        key: value
        for stage in lineage(stages, name)
        for instruction in stage.all("ENV")
        for key, value in re.findall(r"(\w+)=(\S*)", instruction.rest)
    }


def pattern_of(glob: str) -> re.Pattern[str]:
    """A pattern of .dockerignore: `**` is any number of folders, `*` and `?` stay within one name."""
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[[^]]*\]|[^*?\[]+", glob.strip("/"))
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(token) or (token if token[0] == "[" else re.escape(token)) for token in tokens))


def is_ignored(path: str) -> bool:
    """The last line that matches the path or one of its folders decides."""
    ignored = False
    above = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pattern = pattern_of(line.strip().removeprefix("!"))
        if any(pattern.fullmatch(candidate) for candidate in above):
            ignored = not line.startswith("!")
    return ignored


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return stages_of((DOCKER / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def final(stages: dict[str, Stage]) -> Stage:
    """What `docker build` makes when no target is named."""
    return list(stages.values())[-1]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document = yaml.safe_load(COMPOSE_FILE.read_text())
    assert isinstance(document, dict)
    return document


SERVICES = ("test-server", "test-server-dev", "load-test")


def by_default(value: object) -> str:
    """A value of the compose file where no variable of the shell is set."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
    assert "${" not in text, f"{value}: a variable without a default"
    return text


def accepted_command(command: list[str]) -> None:
    """The console script exists, and its options are options."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    program, subcommand, *options = command
    assert scripts[program] == "asgi_fault.cli:main"
    main.commands[subcommand].make_context(subcommand, options)


def accepted_settings(environment: dict[str, str]) -> Settings:
    ours = {name: value for name, value in environment.items() if name.startswith("SERVER_")}
    unknown = ours.keys() - SETTINGS.keys()
    assert not unknown, f"not settings of the server: {sorted(unknown)}"
    return Settings.load(environ=ours, dotenv_path=None)


def run(*command: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


# --- the Dockerfile ---


def test_the_final_stage_runs_as_appuser_whose_id_is_fixed(stages: dict[str, Stage], final: Stage) -> None:
    assert final.last("USER").rest == "appuser"
    runs = " ".join(run.rest for stage in lineage(stages, final.name) for run in stage.all("RUN"))
    assert re.search(r"useradd [^&]*--uid [1-9]\d{3,} [^&]*appuser", runs)


def test_nothing_runs_as_root_after_the_user_is_set(stages: dict[str, Stage]) -> None:
    for target in ("runtime", "dev"):
        words = [instruction.word for instruction in stages[target].instructions]
        assert not {"RUN", "COPY", "ADD"} & set(words[words.index("USER") :])
        assert words.count("USER") == 1


def test_the_final_image_is_multi_stage_and_takes_only_the_environment(stages: dict[str, Stage], final: Stage) -> None:
    assert final.name == "runtime"
    assert [copy.rest for copy in final.all("COPY")] == ["/opt/venv /opt/venv"]
    assert "build" not in {stage.name for stage in lineage(stages, final.name)}


def test_the_healthcheck_asks_health_with_a_curl_that_is_installed(stages: dict[str, Stage], final: Stage) -> None:
    check = final.last("HEALTHCHECK")
    assert check.flags.keys() == {"interval", "timeout", "start-period", "retries"}
    words = check.rest.split()
    assert words[:2] == ["CMD", "curl"]
    assert words[-1].strip('"').endswith("/health")
    runs = " ".join(run.rest for stage in lineage(stages, final.name) for run in stage.all("RUN"))
    assert re.search(r"apt-get install [^&]*\bcurl\b", runs)


def test_variables_of_the_healthcheck_are_set_in_the_image(stages: dict[str, Stage], final: Stage) -> None:
    used = set(re.findall(r"\$\{(\w+)\}", final.last("HEALTHCHECK").rest))
    assert used <= environment_of(stages, final.name).keys()


@pytest.mark.parametrize("target", ["runtime", "dev"])
def test_the_command_is_exec_form_and_the_command_line_accepts_it(stages: dict[str, Stage], target: str) -> None:
    accepted_command(json.loads(stages[target].last("CMD").rest))


@pytest.mark.parametrize("target", ["runtime", "dev"])
def test_the_images_settings_are_settings_and_the_port_is_the_exposed_one(
    stages: dict[str, Stage], target: str
) -> None:
    settings = accepted_settings(environment_of(stages, target))
    assert settings.host == "0.0.0.0"
    assert stages[target].last("EXPOSE").rest == str(settings.port)
    assert stages[target].last("STOPSIGNAL").rest == "SIGTERM"


def test_every_copied_source_exists_and_is_sent_to_the_builder(stages: dict[str, Stage]) -> None:
    copied = [copy for stage in stages.values() for copy in stage.all("COPY")]
    assert not [stage.name for stage in stages.values() if stage.all("ADD")]
    for copy in copied:
        if "from" in copy.flags:
            assert copy.flags["from"] in stages
            continue
        *sources, _target = copy.rest.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not is_ignored(source), f"{source} is excluded by .dockerignore"


def test_what_the_wheel_is_made_of_is_copied(stages: dict[str, Stage]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", project["project"]["readme"], project["project"]["license"]["file"]}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = {source for copy in stages["build"].all("COPY") for source in copy.rest.split()[:-1]}
    assert copied == needed
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        modules = [str(module.relative_to(ROOT)) for module in (ROOT / package).rglob("*.py")]
        assert modules
        assert not [module for module in modules if is_ignored(module)]


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "asgi_fault/.env",
        ".git/config",
        ".venv/bin/python",
        "tests/test_docker.py",
        "dist/asgi_fault-0.1.0-py3-none-any.whl",
        "asgi_fault/__pycache__/cli.cpython-313.pyc",
        "asgi_fault/endpoints/__pycache__/msg.cpython-313.pyc",
    ],
)
def test_what_does_not_belong_into_an_image_is_not_sent(path: str) -> None:
    assert is_ignored(path)


def test_images_come_from_python_slim_at_a_version_that_the_project_supports(stages: dict[str, Stage]) -> None:
    outside = {stage.base for stage in stages.values()} - stages.keys()
    assert outside == {"python:${PYTHON_VERSION}-slim"}
    found = re.search(r"^ARG PYTHON_VERSION=(\S+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert f"Programming Language :: Python :: {found[1]}" in classifiers


# --- the compose file ---


def test_services_and_profiles_are_the_documented_ones(compose: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles") for name, service in compose["services"].items()}
    assert profiles == {"test-server": None, "test-server-dev": ["dev"], "load-test": ["load-test"]}


@pytest.mark.parametrize("service", SERVICES)
def test_every_build_names_a_context_a_dockerfile_and_a_stage_that_exist(
    compose: dict[str, Any], stages: dict[str, Stage], service: str
) -> None:
    build = compose["services"][service]["build"]
    context = (DOCKER / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()
    assert build["target"] in stages


@pytest.mark.parametrize("service", SERVICES)
def test_every_mounted_path_exists_and_is_mounted_read_only(compose: dict[str, Any], service: str) -> None:
    for volume in compose["services"][service].get("volumes", []):
        source, target, mode = volume.split(":")
        assert (DOCKER / source).resolve().exists(), source
        assert target.startswith("/")
        assert mode == "ro"


def test_the_dev_service_mounts_every_package_where_the_dev_stage_looks(
    compose: dict[str, Any], stages: dict[str, Stage]
) -> None:
    path = environment_of(stages, "dev")["PYTHONPATH"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    mounted = {tuple(volume.split(":")[:2]) for volume in compose["services"]["test-server-dev"]["volumes"]}
    assert {(f"../{package}", f"{path}/{package}") for package in packages} <= mounted
    assert stages["dev"].last("WORKDIR").rest == path


@pytest.mark.parametrize("service", SERVICES)
def test_every_server_variable_is_a_setting_whose_value_is_accepted(compose: dict[str, Any], service: str) -> None:
    environment = compose["services"][service].get("environment", {})
    accepted_settings({name: by_default(value) for name, value in environment.items()})


def test_variables_taken_from_the_shell_are_settings_too() -> None:
    used = set(re.findall(r"\$\{(SERVER_\w+)", COMPOSE_FILE.read_text()))
    assert used <= SETTINGS.keys()


def test_the_test_server_shows_the_settings_defaults(compose: dict[str, Any]) -> None:
    environment = compose["services"]["test-server"]["environment"]
    for name, value in environment.items():
        assert name in {"SERVER_HOST", "SERVER_PORT"} or f"${{{name}:-" in value, f"{name}: the shell cannot set it"
    shown = accepted_settings({name: by_default(value) for name, value in environment.items()})
    assert shown == Settings()


@pytest.mark.parametrize("service", ["test-server", "test-server-dev"])
def test_servers_are_asked_for_their_health_on_the_port_they_listen_on(compose: dict[str, Any], service: str) -> None:
    definition = compose["services"][service]
    port = definition["environment"]["SERVER_PORT"]
    check = definition["healthcheck"]["test"]
    assert check[:2] == ["CMD", "curl"]
    assert check[-1] == f"http://127.0.0.1:{port}/health"
    address, _host_port, container_port = by_default(definition["ports"][0]).split(":")
    assert address == "127.0.0.1"
    assert container_port == port


def test_servers_publish_different_ports(compose: dict[str, Any]) -> None:
    published = [by_default(port) for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(published) == len(set(published)) == 2


def test_the_dev_service_reloads(compose: dict[str, Any]) -> None:
    command = compose["services"]["test-server-dev"]["command"]
    accepted_command(command)
    assert "--reload" in command


def test_the_load_test_waits_for_a_healthy_server_and_runs_a_mounted_script(compose: dict[str, Any]) -> None:
    service = compose["services"]["load-test"]
    assert service["depends_on"] == {"test-server": {"condition": "service_healthy"}}
    shell, script = service["command"]
    assert shell == "sh"
    assert [volume for volume in service["volumes"] if volume.split(":")[:2] == [f"./{LOAD_TEST.name}", script]]
    port = compose["services"]["test-server"]["environment"]["SERVER_PORT"]
    assert service["environment"]["LOAD_URL"] == f"http://test-server:{port}/msg"


def test_the_load_tests_variables_are_read_by_its_script(compose: dict[str, Any]) -> None:
    read = set(re.findall(r"\$\{(LOAD_\w+)", LOAD_TEST.read_text()))
    assert compose["services"]["load-test"]["environment"].keys() == read


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_runs_with_the_fewest_rights(compose: dict[str, Any], service: str) -> None:
    definition = compose["services"][service]
    assert definition["cap_drop"] == ["ALL"]
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert definition["init"] is True
    assert "privileged" not in definition
    # pytest writes caches into the dev container.
    assert definition.get("read_only", False) is (service != "test-server-dev")


# --- the load test's script ---


class EveryFifthFails(BaseHTTPRequestHandler):
    """`/msg` answers 200, `/fail` 500 to each fifth request."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    paths: list[str]

    def do_GET(self) -> None:
        with self.lock:
            self.paths.append(self.path)
            failing = self.path == "/fail" and len(self.paths) % 5 == 0
        self.send_response(500 if failing else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Tests are silent."""


@pytest.fixture
def handler() -> type[EveryFifthFails]:
    return type("Handler", (EveryFifthFails,), {"paths": []})


@pytest.fixture
def url(handler: type[EveryFifthFails]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


needs_curl = pytest.mark.skipif(
    "CI" not in os.environ and not (shutil.which("curl") and shutil.which("sh")), reason="no curl, or no sh, here"
)


def load_test(**environment: str) -> "subprocess.CompletedProcess[str]":
    return run("sh", str(LOAD_TEST), environment={"PATH": os.environ["PATH"], **environment})


@pytest.mark.skipif(not shutil.which("sh"), reason="no sh here")
def test_the_script_is_shell_without_mistakes_of_syntax() -> None:
    done = run("sh", "-n", str(LOAD_TEST))
    assert (done.returncode, done.stderr) == (0, "")
    assert LOAD_TEST.read_text().startswith("#!/bin/sh\n")


@needs_curl
def test_the_script_sends_as_many_requests_as_asked_for(url: str, handler: type[EveryFifthFails]) -> None:
    done = load_test(LOAD_URL=f"{url}/msg", LOAD_REQUESTS="40", LOAD_CONCURRENCY="4")
    assert done.stdout.splitlines() == ["status 200: 40", "40 of 40 answered with 200"]
    assert (done.returncode, done.stderr) == (0, "")
    assert handler.paths == ["/msg"] * 40


@needs_curl
def test_the_script_counts_failures_by_status_and_ends_with_1(url: str) -> None:
    done = load_test(LOAD_URL=f"{url}/fail", LOAD_REQUESTS="40", LOAD_CONCURRENCY="4")
    assert done.stdout.splitlines() == ["status 200: 32", "status 500: 8", "32 of 40 answered with 200"]
    assert done.returncode == 1


@needs_curl
def test_the_script_says_when_nobody_answers(url: str) -> None:
    done = load_test(LOAD_URL=url.replace("http:", "no-such-scheme:"), LOAD_REQUESTS="3")
    assert done.stdout.splitlines() == ["status 000: 3", "0 of 3 answered with 200"]
    assert done.returncode == 1


@pytest.mark.skipif(not shutil.which("sh"), reason="no sh here")
def test_the_script_says_that_it_needs_curl(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    done = run(shell, str(LOAD_TEST), environment={"PATH": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "curl is needed and was not found\n")


@needs_curl
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "1]", "100001", "99999999999999999999"])
def test_the_script_refuses_what_is_not_a_bounded_number_of_requests(value: str) -> None:
    done = load_test(LOAD_REQUESTS=value)
    assert done.stderr == f"LOAD_REQUESTS={value}: expected a whole number from 1 to 100000\n"
    assert (done.returncode, done.stdout) == (2, "")

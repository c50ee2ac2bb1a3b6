"""The arrows of ARCHITECTURE.md, read from the imports; and the habits a machine can check."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("asgi_fault", "sansio_client", "adapters")
LONGEST_FUNCTION = 70
LONG_ON_PURPOSE = {("asgi_fault.application", "__call__"), ("asgi_fault.application", "_serve")}  # which say why

# What sansio_client may import of the standard library. HTTP dates have a parser of its own: `email` drags in `socket`.
CORE_MAY_IMPORT = {
    "__future__", "abc", "bisect", "collections", "collections.abc", "dataclasses", "enum", "functools", "heapq",
    "itertools", "math", "operator", "types", "typing",
}  # fmt: skip
# The simulator is the core's own driver: it makes the chance that the core is handed.
SIMULATOR_MAY_IMPORT = CORE_MAY_IMPORT | {"random"}

# A world imports its own library; `httpx` waits through asyncio or trio, whichever runs.
ADAPTERS_OUTSIDE = {"trio": {"trio"}, "otel": {"opentelemetry"}, "httpx": {"httpx", "httpx2"}}

# Who may import whom inside asgi_fault: a layer knows the layers before it, and nothing of its own layer unless listed
# together in one string. `docs` makes documents of the table and is handed it, so it stands below `context`.
LAYERS = (
    {"asgi", "config", "observe", "parameters", "version"},
    {"errors", "requestid"},
    {"tls", "stores", "faults", "admission", "target", "cors", "routing"},
    {"partitions", "ports"},
    {"docs"},
    {"context"},
    {"exchange"},
    {"effects", "endpoints", "lifespan", "refusals"},
    {"routes"},
    {"application"},
    {"gathering"},
    {"guest"},
    {"middleware", "proxy"},
    {"startup"},
    {"testing"},
    {"demo"},
    {"cli"},
    {"__main__", "pytest_plugin"},
)
OUTSIDE = {
    "asgi_fault.cli": {"click", "uvicorn"},
    "asgi_fault.config": {"dotenv"},
    "asgi_fault.faults.wire": {"h11", "uvicorn"},
    "asgi_fault.proxy": {"anyio", "httpx"},
    "asgi_fault.tls": {"cryptography", "trustme"},
    "asgi_fault.pytest_plugin": {"pytest"},
    "asgi_fault.testing.in_process": {"httpx"},
    "asgi_fault.testing.server": {"uvicorn"},
}


def modules() -> dict[str, Path]:
    """Every module of the distribution by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(module: str, *, at_run_time: bool = True) -> set[str]:
    """The modules `module` imports, function-local imports counted, those for type checkers only left out."""
    tree = ast.parse(MODULES[module].read_text())
    if at_run_time:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or module.startswith("adapters"), f"{module} uses a relative import"
            base = node.module or ""
            if node.level:
                package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
                base = ".".join(filter(None, (package, base)))
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in MODULES else base)
    return found


def layer_of(module: str) -> int:
    name = module.split(".")[1] if "." in module else module
    return next((i for i, layer in enumerate(LAYERS) if name in layer), -1)


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("asgi_fault.")])
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    assert layer_of(module) >= 0, f"{module} has no place in LAYERS"
    own_package = ".".join(module.split(".")[:2])
    for imported in imports_of(module):
        if not imported.startswith("asgi_fault.") or imported.startswith(own_package):
            continue
        assert layer_of(imported) < layer_of(module), f"{module} imports {imported}, which is not below it"


def test_endpoints_do_not_know_each_other() -> None:
    for module in MODULES:
        if module.startswith("asgi_fault.endpoints."):
            others = [other for other in imports_of(module) if other.startswith("asgi_fault.endpoints.")]
            assert not others, f"{module} imports {others}"


def test_only_the_listed_modules_import_something_from_outside() -> None:
    for module in MODULES:
        if not module.startswith("asgi_fault"):
            continue
        outside = {name.split(".")[0] for name in imports_of(module)} - set(sys.stdlib_module_names) - set(PACKAGES)
        assert outside <= OUTSIDE.get(module, set()), f"{module} imports {outside}"


def test_the_core_imports_nothing_but_the_allow_list() -> None:
    for module in MODULES:
        if module.startswith("sansio_client"):
            allowed = SIMULATOR_MAY_IMPORT if module.startswith("sansio_client.simulator") else CORE_MAY_IMPORT
            foreign = {name for name in imports_of(module) if not name.startswith("sansio_client")} - allowed
            assert not foreign, f"{module} imports {foreign}"


def test_the_core_does_not_know_its_simulator() -> None:
    for module in MODULES:
        if module.startswith("sansio_client") and not module.startswith("sansio_client.simulator"):
            assert not [name for name in imports_of(module) if name.startswith("sansio_client.simulator")], module


def test_policies_do_not_know_each_other() -> None:
    policies = {"breaker", "bulkhead", "budget", "throttle", "ratelimit", "adaptive", "latency", "backoff"}
    for policy in policies:
        known = {
            name.split(".")[1] for name in imports_of(f"sansio_client.{policy}") if name.startswith("sansio_client.")
        }
        assert not known & policies, f"sansio_client.{policy} imports {known & policies}"


def test_adapters_know_the_core_and_not_the_server() -> None:
    for module in MODULES:
        if module.startswith("adapters"):
            assert not [name for name in imports_of(module) if name.startswith("asgi_fault")], module


def test_an_adapter_imports_only_its_own_library() -> None:
    for module in MODULES:
        if module.startswith("adapters."):
            world = module.split(".")[1].split("_")[0]
            outside = {name.split(".")[0] for name in imports_of(module)} - set(sys.stdlib_module_names) - set(PACKAGES)
            assert outside <= ADAPTERS_OUTSIDE.get(world, set()), f"{module} imports {outside}"


def test_there_is_no_cycle() -> None:
    graph = {module: {name for name in imports_of(module) if name in MODULES} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for imported in graph[module] - {module}:
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_in_a_sentence_what_it_is(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text()))
    assert docstring
    assert docstring.split("\n")[0].rstrip()[-1] in ".?:;,`" or "." in docstring


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_longer_than_a_screen(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if (module, node.name) not in LONG_ON_PURPOSE:
                assert length <= LONGEST_FUNCTION, f"{module}.{node.name} has {length} lines"


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_prints(module: str) -> None:
    calls = [node for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.Call)]
    if module not in {"asgi_fault.cli", "asgi_fault.__main__"}:
        assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_tests_mirror_the_packages() -> None:
    for folder in (ROOT / "tests").rglob("*"):
        if folder.is_dir() and any(folder.glob("test_*.py")):
            assert (folder / "__init__.py").exists(), f"{folder} needs __init__.py, or it hides the package it mirrors"

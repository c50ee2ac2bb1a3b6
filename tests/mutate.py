"""Does any test notice? One-line faults are put into a copy of the core, one at a time, and the core's tests run on it.

    python -m tests.mutate                 all of tests/sansio_client/mutants.py, on all processors
    python -m tests.mutate --only hedge    those whose module or text contains the word
    python -m tests.mutate --verbose       with the test that noticed

Ends with the list of those that nobody noticed, which should be empty, and exits with 1 if it is not. A mutant whose
text no longer occurs exactly once, or that does not compile, is an error too: what cannot be applied proves nothing.

The tests that compare a history with a stored digest are left out. They notice any change at all, and so they would say
nothing about the others.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.sansio_client.mutants import MUTANTS

ROOT = Path(__file__).parent.parent
WALK_STEPS = "60000"  # of the walk's half million
TIME_LIMIT = 120.0  # a fault that makes a loop endless is noticed, too
DIGESTS = "not same_trace_on_every_python and not by_its_seed_on_every_python"
# A lie that importing is slow would hide behind another process's load, and the memory of a million hosts takes long.
SLOW = "and not megabytes and not importing"

Mutant = tuple[str, str, str]


def source(module: str) -> Path:
    return Path("sansio_client") / f"{module}.py"


def misfits() -> Iterator[str]:
    """What is wrong with the list itself."""
    for module, old, new in MUTANTS:
        text = (ROOT / source(module)).read_text()
        if text.count(old) != 1:
            yield f"{module}: occurs {text.count(old)} times: {old!r}"
            continue
        try:
            compile(text.replace(old, new), module, "exec")
        except SyntaxError as error:
            yield f"{module}: does not compile ({error}): {new!r}"


def make_copy(folder: Path) -> Path:
    """What the core's tests need, without compiled files: those of the last mutant might pass for this one's."""
    ignore = shutil.ignore_patterns("__pycache__", ".hypothesis")
    shutil.copytree(ROOT / "sansio_client", folder / "sansio_client", ignore=ignore)
    shutil.copytree(ROOT / "tests" / "sansio_client", folder / "tests" / "sansio_client", ignore=ignore)
    shutil.copy(ROOT / "tests" / "__init__.py", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def stages(module: str) -> list[list[str]]:
    """The test files in the order in which they are likely to notice; each stage is a run of pytest."""
    files = sorted(path.name for path in (ROOT / "tests" / "sansio_client").glob("test_*.py"))
    own = [name for name in files if name in (f"test_{module}.py", "test_found_by_walking.py")]
    walk = ["test_walk.py"]
    return [stage for stage in (own, walk, [name for name in files if name not in own + walk]) if stage]


def run_tests(folder: Path, files: list[str]) -> tuple[bool, str]:
    """Whether the tests in the copy pass, and what says so."""
    command = [
        *(sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no"),
        *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:asgi_fault", "-k", f"{DIGESTS} {SLOW}"),
        *(f"tests/sansio_client/{name}" for name in files),
    ]
    environment = os.environ | {"WALK_STEPS": WALK_STEPS, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    try:
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return False, "the time limit"
    if result.returncode == 0:
        return True, "nobody"
    if result.returncode == 5:  # no test was selected
        return True, "nobody"
    failed = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return False, failed[0].split(" ")[1] if failed else f"{result.stdout[-300:]}{result.stderr[-300:]}"


def noticed_by(folder: Path, mutant: Mutant) -> str:
    """Apply `mutant` to the copy, run the tests, take it back; who noticed, or an empty string."""
    module, old, new = mutant
    path = folder / source(module)
    text = path.read_text()
    path.write_text(text.replace(old, new))
    try:
        for files in stages(module):
            passed, witness = run_tests(folder, files)
            if not passed:
                return witness
        return ""
    finally:
        path.write_text(text)


def in_words(mutant: Mutant) -> str:
    module, old, new = mutant
    return f"{module}: {' '.join(old.split())!r} -> {' '.join(new.split())!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Put faults into the core and see whether its tests notice.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="only mutants that contain this")
    parser.add_argument("--verbose", action="store_true", help="say which test noticed")
    options = parser.parse_args()
    wrong = list(misfits())
    if wrong:
        print("the list does not fit the core:", *wrong, sep="\n  ")
        return 1
    chosen = [mutant for mutant in MUTANTS if any(options.only in part for part in mutant)]
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutate-") as base:
        copies: SimpleQueue[Path] = SimpleQueue()
        folders = [make_copy(Path(base) / str(number)) for number in range(options.jobs)]
        every_file = [name for stage in stages("call") for name in stage]
        passed, witness = run_tests(folders[0], every_file)
        if not passed:
            print(f"without any mutant the tests fail already: {witness}")
            return 1
        for folder in folders:
            copies.put(folder)

        def take_turn(numbered: tuple[int, Mutant]) -> Mutant | None:
            number, mutant = numbered
            folder = copies.get()
            since = time.monotonic()
            witness = noticed_by(folder, mutant)
            copies.put(folder)
            verdict = f"by {witness}" if options.verbose and witness else "noticed" if witness else "SURVIVED"
            seconds = time.monotonic() - since
            print(f"{number:4}/{len(chosen)} {seconds:5.1f} s {verdict}: {in_words(mutant)}", flush=True)
            return None if witness else mutant

        with ThreadPoolExecutor(options.jobs) as pool:
            survivors = [mutant for mutant in pool.map(take_turn, enumerate(chosen, 1)) if mutant is not None]
    print(f"{len(chosen)} mutants in {time.monotonic() - began_at:.0f} s; survivors: {len(survivors)}")
    for mutant in survivors:
        print(f"  {in_words(mutant)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

"""What an import costs: fresh interpreters that import it, less fresh interpreters that import nothing."""

import subprocess
import sys
import tempfile
import time
from statistics import median

from benchmarks.errors import BenchmarkError
from benchmarks.servers import clean_environment

IMPORTS = ("asgi_fault", "asgi_fault.application", "sansio_client")
"""`import asgi_fault` alone is lazy; `asgi_fault.application` is what `uvicorn asgi_fault:app` needs of ours."""


def measure(*, rounds: int) -> dict[str, float]:
    """Milliseconds of each of `IMPORTS`."""
    statements = {"pass": "pass", **{name: f"import {name}" for name in IMPORTS}}
    samples: dict[str, list[float]] = {name: [] for name in statements}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for name, statement in statements.items():
                milliseconds = _run(statement, folder)
                if number:  # the first round fills the caches
                    samples[name].append(milliseconds)
    baseline = median(samples["pass"])
    return {name: median(samples[name]) - baseline for name in IMPORTS}


def _run(statement: str, folder: str) -> float:
    begun_at = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", statement], cwd=folder, env=clean_environment(), capture_output=True, check=False
    )
    milliseconds = (time.perf_counter() - begun_at) * 1000
    if done.returncode:
        raise BenchmarkError(f"`{statement}` failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return milliseconds

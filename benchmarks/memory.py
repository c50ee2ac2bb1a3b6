"""Memory of an idempotency entry: what a fresh process grows by while its cache fills, shared out over the entries."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

from asgi_fault.observe.ids import new_id
from asgi_fault.stores.idempotency import IdempotencyCache
from benchmarks.errors import BenchmarkError
from benchmarks.servers import clean_environment


def measure(entries: int) -> float | None:
    """Bytes per entry in a fresh interpreter; None where resident memory cannot be read."""
    if not can_measure():
        return None
    code = f"from benchmarks.memory import fill; print(fill({entries}))"
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"the memory part failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return float(done.stdout)


def fill(entries: int) -> float:
    """Fill a cache with keys and ids of 36 bytes, as a server does; bytes of resident memory per entry."""
    cache = IdempotencyCache(entries, ttl=3600.0)
    clock = time.monotonic
    cache.put(new_id(), new_id(), clock())
    gc.collect()
    before = resident()
    for _ in range(entries):
        cache.put(new_id(), new_id(), clock())
    gc.collect()
    return (resident() - before) / entries


def can_measure() -> bool:
    """Whether resident memory can be read here."""
    return Path("/proc/self/statm").exists()


def resident() -> int:
    """Bytes of resident memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

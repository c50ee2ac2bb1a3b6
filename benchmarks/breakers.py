"""Memory of a registry with a million keys of which one in a hundred has had a failure: what a fresh process grows by.

The healthy are worth nothing, so all but the last used are dropped; the others are kept while they are unhealthy.
"""

import gc
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.errors import BenchmarkError
from benchmarks.memory import can_measure, resident
from benchmarks.servers import clean_environment
from sansio_client.core import Core
from sansio_client.outcome import FAILURE
from sansio_client.policy import Policy

SHIPPED = "a million keys, 1 % unhealthy, the policy as it ships"
BREAKERS = "the same with breakers alone"

KEYS = 1_000_000
UNHEALTHY_EVERY = 100
WARM_UP_KEYS = 1_000
SECONDS_BETWEEN = 1e-5  # ten seconds for all: no target is forgotten for being idle


def measure() -> Mapping[str, float]:
    """Megabytes of resident memory, by policy; nothing where resident memory cannot be read."""
    return {SHIPPED: _grown("shipped"), BREAKERS: _grown("breakers")} if can_measure() else {}


def _grown(policy: str) -> float:
    code = f"from benchmarks.breakers import fill; print(fill({policy!r}))"
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"the breakers part failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return float(done.stdout)


def fill(policy: str, keys: int = KEYS) -> float:
    """Make one call to each of `keys` targets; megabytes of resident memory."""
    core = Core(Policy() if policy == "shipped" else Policy(bulkhead=None, budget=None), random=lambda: 0.5)
    for number in range(WARM_UP_KEYS):
        _call(Core(core.policy, random=core.common.random), f"https://warm-{number}.example:443", 0.0, fails=True)
    gc.collect()
    before = resident()
    for number in range(keys):
        # The key is a new string, as an adapter makes it from a URL.
        key = f"https://shop-{number:07d}.example:443"
        _call(core, key, number * SECONDS_BETWEEN, fails=number % UNHEALTHY_EVERY == 0)
    gc.collect()
    grown = resident() - before
    unhealthy = sum(not target.pristine for target in core.targets.values())
    if unhealthy != keys // UNHEALTHY_EVERY:
        raise BenchmarkError(f"{unhealthy} targets remember a failure, not {keys // UNHEALTHY_EVERY}")
    return grown / 1e6


def _call(core: Core, key: str, now: float, *, fails: bool) -> None:
    target = core.target(key, now)
    generation = target.enter()
    if fails:
        attempt = core.adopt(target, generation, now, now)
        attempt.call.on_done(attempt, FAILURE, now)
    elif not target.leave(generation):
        target.leave_at(generation, now)

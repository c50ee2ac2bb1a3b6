"""Nanoseconds of one call, for things that need no socket: variants in alternating rounds, the median of each."""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter_ns

Loop = Callable[[int], object]
"""Makes the call that is measured as many times as it is told."""


def nanoseconds(loops: Mapping[str, Loop], *, rounds: int, calls: int) -> dict[str, float]:
    """Nanoseconds per call of each of `loops`."""
    samples: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        loop(calls // 10 + 1)
    for _ in range(rounds):
        for name, loop in loops.items():
            begun_at = perf_counter_ns()
            loop(calls)
            samples[name].append((perf_counter_ns() - begun_at) / calls)
    return {name: median(values) for name, values in samples.items()}

"""Variants of one call in interleaved rounds: CPU nanoseconds of each, compared only within their round.

A round measures every variant for a few milliseconds, in an order drawn from the seed. What is reported is worked out
per round first, so that a round in which the machine was slow is slow for both sides of a ratio. CPU time of this
thread counts, not time on the wall: a neighbour that takes the core away is not charged to whoever ran just then.
"""

import gc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random

from benchmarks.errors import BenchmarkError
from benchmarks.spread import Ratio, spread

Timed = Callable[[int], int]
"""Makes the call that is measured as many times as it is told, and returns the CPU nanoseconds that took."""

WARM_UP_CALLS = 50
CALIBRATION_NS = 1_000_000


@dataclass
class Beside:
    """What a part that measures variants beside each other has found.

    Attributes:
        samples: CPU nanoseconds of a call, by variant: one figure for each round, in order.
        bases: by variant, the one it is measured over; a variant without one is measured by itself.
        missing: by variant, why it could not be measured.
    """

    samples: dict[str, list[float]] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def cost(self, name: str) -> Ratio | None:
        """Nanoseconds of a call."""
        values = self.samples.get(name)
        return spread(values) if values else None

    def overhead(self, name: str) -> Ratio | None:
        """Nanoseconds of a call less those of its base in the same round; None for one that has no base."""
        if name not in self.bases:
            return None
        values = self._over_base(name)
        return spread(values) if values else None

    def ratio(self, over: str, under: str) -> Ratio | None:
        """What one variant costs over its base by what another costs over its own, in the same round."""
        overs, unders = self._over_base(over), self._over_base(under)
        if not overs or not unders:
            return None
        # Overheads as small as the noise, of either sign, make no ratio.
        ratios = [a / b for a, b in zip(overs, unders, strict=True) if b > 0]
        return spread(ratios) if ratios else None

    def share(self, name: str, whole: str) -> Ratio | None:
        """What one variant costs over its base as a share of all of another, in per cent, in the same round."""
        overs, wholes = self._over_base(name), self.samples.get(whole)
        return spread([100 * a / b for a, b in zip(overs, wholes, strict=True)]) if overs and wholes else None

    def _over_base(self, name: str) -> list[float]:
        values, base = self.samples.get(name, []), self.bases.get(name)
        if base is None or not values:
            return values
        return [a - b for a, b in zip(values, self.samples[base], strict=True)] if base in self.samples else []


def measure(variants: Mapping[str, Timed], *, rounds: int, slice_ns: int, seed: int) -> dict[str, list[float]]:
    """Nanoseconds per call of each of `variants` in each of `rounds`, each time for about `slice_ns`."""
    calls = {name: _calls_in(timed, slice_ns) for name, timed in variants.items()}
    slices = {name: partial(_per_call, timed, calls[name]) for name, timed in variants.items()}
    return take_turns(slices, rounds=rounds, seed=seed)


def take_turns(slices: Mapping[str, Callable[[], float]], *, rounds: int, seed: int) -> dict[str, list[float]]:
    """What each of `slices` returns in each of `rounds`."""
    samples: dict[str, list[float]] = {name: [] for name in slices}
    order = list(slices)
    shuffle = Random(seed).shuffle
    gc.collect()
    gc.freeze()  # or every collection below would look at all the libraries again
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                gc.collect()  # nobody pays for the garbage of the one before
                samples[name].append(slices[name]())
    finally:
        gc.unfreeze()
    return samples


def try_to_make(makers: Iterable[tuple[str, Callable[[], Timed]]]) -> tuple[dict[str, Timed], dict[str, str]]:
    """Make and try every variant: those that work, and why each of the others cannot be measured.

    A peer that is not installed, or does not work on this Python, is a line in the table and not the end of the run.
    """
    made, missing = {}, {}
    for name, make in makers:
        try:
            timed = make()
            timed(WARM_UP_CALLS)
        except BenchmarkError:
            raise
        except ImportError as error:
            missing[name] = f"not importable: {error}"
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a peer is what the table says of it
            missing[name] = f"{type(error).__name__}: {error}"
        else:
            made[name] = timed
    return made, missing


def _per_call(timed: Timed, calls: int) -> float:
    return timed(calls) / calls


def _calls_in(timed: Timed, slice_ns: int) -> int:
    """How many calls take about `slice_ns`."""
    calls = WARM_UP_CALLS
    while (nanoseconds := timed(calls)) < CALIBRATION_NS and calls < 1_000_000:
        calls *= 4
    return max(1, calls * slice_ns // max(nanoseconds, 1))

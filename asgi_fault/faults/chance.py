"""Randomness that is decided beforehand: seed, partition, ordinal of the arrival and rule name every number drawn."""

from collections.abc import Callable, Mapping
from hashlib import shake_256
from math import cos, exp, log, pi, sqrt
from random import Random
from typing import Any

DELAY_MAX = 86_400.0  # seconds; a lognormal has no end


class Chance:
    """The random numbers of one arrival at one rule.

    The generator is made with the first number: seeding it takes longer than all other decisions. Only `random()` is
    used, whose sequence for a seed is the same in every version of Python (what the other methods make of it is not).
    """

    __slots__ = ("_draw", "_name")

    def __init__(self, seed: int, partition: str, ordinal: int, rule_id: str) -> None:
        self._name = (seed, partition, ordinal, rule_id)
        self._draw: Callable[[], float] | None = None

    def draw(self) -> float:
        """The next number, from 0 up to but not including 1."""
        if self._draw is None:
            seed, partition, ordinal, rule_id = self._name
            self._draw = Random(f"{seed}/{partition}/{ordinal}/{rule_id}").random  # noqa: S311 - to be repeatable
        return self._draw()

    def bytes(self, size: int) -> bytes:
        """`size` bytes, out of one number."""
        return shake_256(b"%d" % int(self.draw() * 2**53)).digest(size)

    def delay(self, form: "float | Mapping[str, Any]") -> float:
        """Seconds, drawn as `form` (a step's `delay_s`) says.

        Rounded to microseconds, so that a last bit in which two C libraries differ does not show.
        """
        if not isinstance(form, Mapping):
            return float(form)
        if "uniform" in form:
            low, high = form["uniform"]
            seconds = low + (high - low) * self.draw()
        elif "lognormal" in form:
            median, sigma = form["lognormal"]["median_s"], form["lognormal"]["sigma"]
            seconds = median * exp(sigma * self._normal())
        else:
            seconds = self._from_histogram(form["histogram"])
        return round(min(float(seconds), DELAY_MAX), 6)

    def _normal(self) -> float:
        """A number of the standard normal distribution (Box and Muller 1958)."""
        radius = sqrt(-2.0 * log(1.0 - self.draw()))
        return radius * cos(2.0 * pi * self.draw())

    def _from_histogram(self, buckets: "list[list[float]]") -> float:
        """A number that falls into each bucket as often as its count says, and evenly within it."""
        left = self.draw() * sum(count for _, count in buckets)
        low = 0.0
        for high, count in buckets:
            if left < count:
                return low + (high - low) * left / count
            left -= count
            low = high
        return low

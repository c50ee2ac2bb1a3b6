"""How a figure moves from round to round: its median, its quartiles, and whether the two halves of the run agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

HALVES_TOLERANCE = 0.05
ROUNDS_WITH_HALVES = 4  # fewer rounds have no halves to compare


@dataclass(frozen=True)
class Ratio:
    """A figure that was worked out anew in every round, as a rule from two variants of that round.

    Attributes:
        low, high: the quartiles.
        halves: by what fraction the medians of the run's two halves differ; None with too few rounds.
    """

    median: float
    low: float
    high: float
    halves: float | None

    @property
    def steady(self) -> bool:
        """Whether the two halves of the run agree."""
        return self.halves is None or self.halves <= HALVES_TOLERANCE


def spread(values: Sequence[float]) -> Ratio:
    """The distribution of `values`, one of each round, in the order of the rounds; there has to be one."""
    halves = None
    if len(values) >= ROUNDS_WITH_HALVES:
        middle = len(values) // 2
        second = median(values[middle:])
        halves = abs(median(values[:middle]) / second - 1) if second else None
    low, middle_value, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Ratio(middle_value, low, high, halves)

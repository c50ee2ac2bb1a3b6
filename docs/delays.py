"""The table of delays in `backoff.md`, and the picture of a herd: what each law does, worked out with the law itself.

The shortest and the longest delay of retry k are those over all schedules of extreme draws; the mean is over
`SCHEDULES` schedules, whose draws are spread evenly, so no figure depends on luck.
"""

from collections.abc import Iterator
from itertools import product
from math import sqrt

from marked import Makers, main

from sansio_client import (
    Backoff,
    Constant,
    Decorrelated,
    EqualJitter,
    Exponential,
    FullJitter,
    GrpcJitter,
    Linear,
    NoBackoff,
    PollyDecorrelatedV2,
    Spread,
)

RETRIES = 7
SCHEDULES = 4096
HIGHEST = 1 - 2**-53  # of the draws, which are below 1
PRIMES = (2, 3, 5, 7, 11, 13, 17)

LAWS: tuple[Backoff, ...] = (
    FullJitter(), EqualJitter(), Decorrelated(), GrpcJitter(), PollyDecorrelatedV2(), Exponential(), Linear(),
    Constant(), NoBackoff(), Spread(),
)  # fmt: skip
HERD: tuple[Backoff, ...] = (
    Exponential(0.5, 20.0), Exponential(0.5, 20.0, jitter=0.25), GrpcJitter(0.5, 20.0), EqualJitter(0.5, 20.0),
    FullJitter(0.5, 20.0), PollyDecorrelatedV2(0.5, 20.0), Decorrelated(0.5, 20.0), Spread(0.5, 20.0),
)  # fmt: skip
BARS = " ▁▂▃▄▅▆▇█"
COLUMNS, COLUMN_SECONDS = 40, 0.2


def schedule(law: Backoff, draws: tuple[float, ...]) -> Iterator[float]:
    """The delays of one call, one for each draw."""
    previous = waited = 0.0
    for k, u in enumerate(draws):
        previous = law.delay(k, u, previous, waited)
        waited += previous
        yield previous


def even_draws(retries: int) -> Iterator[tuple[float, ...]]:
    """Draws of `SCHEDULES` calls: multiples of irrational steps, which fill the unit cube evenly (Kronecker)."""
    steps = [sqrt(prime) for prime in PRIMES[:retries]]
    for i in range(SCHEDULES):
        yield tuple((i + 0.5) * step % 1.0 for step in steps)


def figures(law: Backoff) -> list[tuple[float, float, float]]:
    """Shortest, mean and longest delay for each retry."""
    extremes = [list(schedule(law, draws)) for draws in product((0.0, HIGHEST), repeat=RETRIES)]
    sums = [0.0] * RETRIES
    for draws in even_draws(RETRIES):
        for k, delay in enumerate(schedule(law, draws)):
            sums[k] += delay
    columns = list(zip(*extremes, strict=True))
    return [(min(columns[k]), sums[k] / SCHEDULES, max(columns[k])) for k in range(RETRIES)]


def delays() -> str:
    """A line for each law with its defaults: shortest / mean / longest delay in seconds before retry k."""
    rows = [f"| law | {' | '.join(f'k = {k}' for k in range(RETRIES))} |", "|---" * (RETRIES + 1) + "|"]
    for law in LAWS:
        cells = [" / ".join(short(value) for value in three) for three in figures(law)]
        rows.append(f"| `{type(law).__name__}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def short(seconds: float) -> str:
    """Two digits, three from ten on; below half a millisecond it is nothing."""
    if seconds < 0.0005:
        return "0"
    return f"{seconds:.3g}" if seconds >= 10 else f"{float(f'{seconds:.2g}'):g}"


def herd() -> str:
    """How many of the clients that failed together come back when, for their fourth attempt."""
    width = max(len(repr_of(law)) for law in HERD)
    lines = ["```text", f"{'':{width}}  |0 s{'4 s':>{COLUMNS // 2}}{'8 s|':>{COLUMNS // 2 - 2}}"]
    for law in HERD:
        counts = [0] * COLUMNS
        for draws in even_draws(3):
            *_, last = schedule(law, draws)
            column = int(last / COLUMN_SECONDS)
            if column < COLUMNS:
                counts[column] += 1
        # The same scale everywhere: a full bar is an eighth of the herd or more.
        bars = "".join(BARS[min(8, -(-count * 64 // SCHEDULES))] for count in counts)
        lines.append(f"{repr_of(law):{width}}  |{bars}|")
    return "\n".join([*lines, "```"])


def repr_of(law: Backoff) -> str:
    """The law as one would write it."""
    jitter = getattr(law, "jitter", 0.0)
    return f"{type(law).__name__}(0.5, 20.0{f', jitter={jitter}' if jitter else ''})"


MAKERS: Makers = {"delays": delays, "herd": herd}

if __name__ == "__main__":
    main(MAKERS)

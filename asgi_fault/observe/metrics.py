"""Counters that are plain integers while requests run, and become Prometheus text only when somebody scrapes.

Labels are bounded: the route template, never the raw path; a known method or `other`. The bounds of the latency
histogram are those of the reference application.
"""

import os
import platform
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds of the latency buckets, in seconds; the last bucket, +Inf, has none."""

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Traffic:
    """What was counted of one operation.

    Attributes:
        started: requests that began; those in progress are `started` less the finished ones.
        quick: requests that ended with 200 within the first of `BOUNDS`. Nearly all do, so the hot path counts them
            here itself and calls `finish` for the others; `quick` is not in `statuses` and `buckets`.
        statuses: finished requests by status; 0 is a client that left before its answer.
        buckets: finished requests by latency, not cumulative, one for each of `BOUNDS` and one beyond.
        seconds: the sum of the latencies.
    """

    __slots__ = ("buckets", "quick", "seconds", "started", "statuses")

    def __init__(self) -> None:
        self.started = 0
        self.quick = 0
        self.statuses: defaultdict[int, int] = defaultdict(int)
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def finish(self, status: int, seconds: float) -> None:
        """Count one request that ended with `status` after `seconds`; all but the sum, which is the caller's."""
        self.statuses[status] += 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1


@dataclass(frozen=True)
class Family:
    """One metric with its samples, ready to be written.

    Attributes:
        name: without the `_total` of a counter.
        samples: suffix, labels, value.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    samples: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, suffix: str = "", /, **labels: str) -> None:
        """Add one sample."""
        self.samples.append((suffix, labels, value))


def http_families(operations: Iterable[tuple[str, str, Traffic]]) -> list[Family]:
    """The request metrics of all `(method, endpoint, traffic)` that have seen a request."""
    requests = Family("http_requests", "counter", "Requests answered, by route template; status 0: the client left.")
    latency = Family("http_request_duration_seconds", "histogram", "Seconds from arrival to the last byte handed over.")
    progress = Family("http_requests_in_progress", "gauge", "Requests that have arrived and are not answered.")
    for method, endpoint, traffic in operations:
        if not traffic.started:
            continue
        labels = {"method": method, "endpoint": endpoint}
        finished = 0
        statuses = Counter({200: traffic.quick}) + Counter(traffic.statuses)
        for status, count in sorted(statuses.items()):
            requests.add(count, "_total", **labels, status=str(status))
            finished += count
        progress.add(traffic.started - finished, **labels)
        cumulative = traffic.quick
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), traffic.buckets, strict=True):
            cumulative += count
            latency.add(cumulative, "_bucket", **labels, le=bound)
        latency.add(cumulative, "_count", **labels)
        latency.add(traffic.seconds, "_sum", **labels)
    return [requests, latency, progress]


def process_families() -> list[Family]:
    """What the process itself uses; the usual names of Prometheus clients. Memory and descriptors on Linux only."""
    times = os.times()
    cpu = Family("process_cpu_seconds", "counter", "User and system CPU time spent.")
    cpu.add(times.user + times.system, "_total")
    python = Family("python", "info", "The interpreter.")
    python.add(1, "_info", implementation=platform.python_implementation(), version=platform.python_version())
    families = [cpu, python]
    if sys.platform == "linux":
        resident = Family("process_resident_memory_bytes", "gauge", "Resident memory.")
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - one read of a kernel file
            resident.add(int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        families.append(resident)
    return families


def render(families: Iterable[Family], *, openmetrics: bool) -> bytes:
    """The families as Prometheus text 0.0.4, or as OpenMetrics 1.0 (which ends in `# EOF`)."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            lines.extend(_lines(family, openmetrics=openmetrics))
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    name, kind = family.name, family.kind
    if not openmetrics and kind == "counter":
        name += "_total"
    if not openmetrics and kind == "info":
        name, kind = name + "_info", "gauge"
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {kind}"
    for suffix, labels, value in family.samples:
        inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        yield f"{family.name}{suffix}{{{inside}}} {value}" if inside else f"{family.name}{suffix} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

"""Everything one run has found out, in the shape in which `--json` writes it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.paired import Beside
from benchmarks.sockets import Slice, ratio
from benchmarks.spread import Ratio


@dataclass
class Results:
    """Figures by part; a part that did not run is empty.

    Attributes:
        machine, options: where and how.
        in_process, ids: nanoseconds of a call.
        imports: milliseconds.
        entry_bytes: of an idempotency entry.
        breakers: megabytes of a registry of targets.
        client, http_client, simulation: CPU nanoseconds of a call, a request, an event, beside others.
    """

    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    slices: list[Slice] = field(default_factory=list)
    in_process: Mapping[str, float] = field(default_factory=dict)
    ids: Mapping[str, float] = field(default_factory=dict)
    imports: Mapping[str, float] = field(default_factory=dict)
    entry_bytes: float | None = None
    breakers: Mapping[str, float] = field(default_factory=dict)
    client: Beside = field(default_factory=Beside)
    http_client: Beside = field(default_factory=Beside)
    simulation: Beside = field(default_factory=Beside)

    def ratio(self, over: str, under: str, connections: int) -> Ratio | None:
        """CPU per request of one case by that of another, see `sockets.ratio`."""
        return ratio(self.slices, over, under, connections)

    @property
    def bad(self) -> int:
        """Answers that were not the expected ones; has to be 0."""
        return sum(each.bad for each in self.slices)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

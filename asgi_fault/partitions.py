"""Partitions: one client's own world. Its faults, its idempotency cache and its slots are seen by nobody else.

A partition is made by the first request that names it. Their number is bounded: when there is no room, the one that
was used longest ago makes way, unless it holds a fault or a request; those stay for their idle time.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable

from asgi_fault.admission import Slots
from asgi_fault.config import Settings
from asgi_fault.errors import BadRequest, Unavailable
from asgi_fault.faults.induced import InducedFailures
from asgi_fault.faults.rules import RuleSet
from asgi_fault.observe.journal import Journal
from asgi_fault.stores.idempotency import IdempotencyCache

DEFAULT = "default"
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
RESCAN_AFTER = 1.0  # seconds until a full table is searched again for room


class Partition:
    """The state of one partition.

    Attributes:
        arrivals: how many requests have come, the control plane's not counted; the ordinal of the latest.
        rules: the fault rules; None when there are none.
        journal: the last arrivals; None when none are kept.
        induced: the failures that `/fail` has set; None when there were none since the last reset.
        requests: how many requests are under way; not counted for the default partition, which is never forgotten.
        used_at: the arrival of its latest request, seconds of the server's clock.
    """

    __slots__ = ("arrivals", "cache", "induced", "journal", "name", "requests", "rules", "slots", "used_at")

    def __init__(self, name: str, settings: Settings, now: float, wall_offset: float) -> None:
        self.name = name
        self.arrivals = 0
        self.rules: RuleSet | None = None
        self.journal = Journal(settings.journal_size, name, wall_offset) if settings.journal_size else None
        self.slots = Slots(settings.max_concurrency)
        self.induced: InducedFailures | None = None
        self.cache = IdempotencyCache(settings.cache_max_size, settings.cache_ttl_seconds)
        self.requests = 0
        self.used_at = now

    def holds_fault(self, now: float) -> bool:
        """Whether somebody still relies on a failure set here."""
        return bool(self.rules) or (self.induced is not None and self.induced.is_active(now))


class Partitions:
    """All partitions of one server, least recently used first.

    Attributes:
        default: the partition of requests that name none.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float], wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._wall_offset = wall_clock() - clock()
        self._named: OrderedDict[str, Partition] = OrderedDict()
        self._full_until = 0.0
        self.default = Partition(DEFAULT, settings, clock(), self._wall_offset)

    def __len__(self) -> int:
        return len(self._named) + 1

    def __contains__(self, name: str) -> bool:
        return name == DEFAULT or name in self._named

    def get(self, name: str, now: float) -> Partition:
        """The partition `name`, made when it does not exist.

        Raises:
            BadRequest: `name` is not 1 to 64 letters, digits, dots, hyphens or underscores.
            Unavailable: there are `partitions_max` partitions and all are needed.
        """
        if name == DEFAULT:
            return self.default
        partition = self._named.get(name)
        if partition is None:
            if not NAME.fullmatch(name):
                raise BadRequest(
                    "A partition's name is 1 to 64 letters, digits, dots, hyphens or underscores.",
                    details={"partition": name[:80]},
                )
            self._make_room(now)
            partition = self._named[name] = Partition(name, self._settings, now, self._wall_offset)
        else:
            self._named.move_to_end(name)
            partition.used_at = now
        return partition

    def _make_room(self, now: float) -> None:
        """Forget what is idle, oldest first, and one more when that is not enough."""
        idle_since = now - self._settings.partition_idle_seconds
        named = self._named
        while named:
            oldest = next(iter(named.values()))
            if oldest.used_at > idle_since or oldest.requests:
                break
            del named[oldest.name]
        if len(named) + 1 < self._settings.partitions_max:
            return
        # Searching a table full of busy partitions takes a millisecond: not for every request that asks in vain.
        if now >= self._full_until:
            for partition in named.values():
                if not partition.requests and not partition.holds_fault(now):
                    del named[partition.name]
                    return
            self._full_until = now + RESCAN_AFTER
        raise Unavailable(
            f"All {self._settings.partitions_max} partitions are in use; SERVER_PARTITIONS_MAX raises the bound.",
            retry_after=1,
        )

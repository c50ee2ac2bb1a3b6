"""The keyed registry of targets, and where calls are made: what an adapter holds one of.

Targets are made on first use. One that is as good as new is worth nothing, so of those only the last used are kept; one
that remembers trouble is kept until it has been idle for long.
"""

from collections import deque
from collections.abc import Callable
from math import inf

from sansio_client.call import Attempt, Call
from sansio_client.checks import check_count, check_seconds
from sansio_client.events import Event
from sansio_client.policy import Policy
from sansio_client.target import Common, Target, Waiter

LOOKS_WHEN_CROWDED = 8  # a bound on the work of one call


class Core:
    """Targets by key under one policy. Belongs to one thread; the thread adapter has a lock around decisions.

    Args:
        policy: of all calls and targets; see `reconfigure`.
        random: a source of numbers from 0 to below 1, `random.Random(seed).random` say.
        events: a list to append to what is decided (see `events`), or None. Whoever hands it in empties it.
        spare_targets: how many healthy, idle targets are kept, 1 or more.
        idle_seconds: after so long without an attempt an idle target is forgotten, whatever it remembers.
        max_targets: how many there may be; beyond it idle ones go that remember trouble, too. Those in use never go.

    Attributes:
        targets: by key; for looking up on the happy path. Use `target` where one may be missing.
        wakeups: calls which another call's input has just unblocked: after each input, take them out and have
            `on_wakeup` called on each, in order.

    """

    __slots__ = (
        "_recent", "_troubled", "common", "idle_seconds", "last_id", "max_targets", "policy", "spare_targets",
        "targets", "wakeups",
    )  # fmt: skip

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        random: Callable[[], float],
        events: list[Event] | None = None,
        spare_targets: int = 1024,
        idle_seconds: float = 600.0,
        max_targets: int = 100_000,
    ) -> None:
        check_count("spare_targets", spare_targets, 1)
        check_seconds("idle_seconds", idle_seconds)
        check_count("max_targets", max_targets, spare_targets)
        self.policy = policy if policy is not None else Policy()
        self.common = Common(random, events)
        self.spare_targets = spare_targets
        self.idle_seconds = idle_seconds
        self.max_targets = max_targets
        self.targets: dict[str, Target] = {}
        self.wakeups: list[Waiter] = self.common.wakeups
        self.last_id = 0
        # Every key is once in one of these. Those found in use or in trouble go to the second, so that a thousand of
        # them do not stand in the way of dropping the healthy.
        self._recent: deque[str] = deque()
        self._troubled: deque[str] = deque()

    def target(self, key: str, now: float) -> Target:
        """The target of `key`, made if need be."""
        target = self.targets.get(key)
        if target is None:
            if len(self._recent) >= self.spare_targets:
                self._forget_one_healthy(now)
            self._forget_one_troubled(now)
            target = self.targets[key] = Target(key, self.policy, self.common)
            target.last_used_at = now
            self._recent.append(key)
        return target

    def call(
        self,
        key: str,
        now: float,
        *,
        may_repeat: bool = False,
        replayable: bool = True,
        deadline: float = inf,
        policy: Policy | None = None,
        max_attempts: int | None = None,
    ) -> Call:
        """One logical request to `key`, to be driven as `call` says.

        Args:
            key: of the target, the host and port for instance.
            now: monotonic seconds, the same clock as all later inputs.
            may_repeat: sending it twice does no harm.
            replayable: its body can be sent again.
            deadline: an instant on top of the policy's `total_timeout`, for one handed down by a caller.
            policy: instead of the target's, for what is read per call (attempts, times, back-off, hedge).
            max_attempts: fewer than the policy's; 1 inside another call that does the retrying.

        """
        target = self.target(key, now)
        if policy is None:
            policy = target.policy
        self.last_id += 1
        return Call(
            self.last_id,
            target,
            policy,
            may_repeat=may_repeat,
            replayable=replayable,
            deadline=deadline,
            max_attempts=policy.max_attempts if max_attempts is None else min(max_attempts, policy.max_attempts),
            random=self.common.random,
        )

    def adopt(
        self,
        target: Target,
        generation: int,
        started_at: float,
        now: float,
        *,
        may_repeat: bool = False,
        replayable: bool = True,
        deadline: float = inf,
        max_attempts: int | None = None,
    ) -> Attempt:
        """Go on the long way with an attempt of `target.enter`: it is in flight as the first of a new call, `.call`."""
        policy = target.policy
        self.last_id += 1
        call = Call(
            self.last_id,
            target,
            policy,
            may_repeat=may_repeat,
            replayable=replayable,
            deadline=deadline,
            max_attempts=policy.max_attempts if max_attempts is None else min(max_attempts, policy.max_attempts),
            random=self.common.random,
        )
        return call.adopt(generation, started_at, now)

    def reconfigure(self, policy: Policy, now: float) -> None:
        """Another policy for all targets, present and future. Calls under way keep the one they began with."""
        self.policy = policy
        for target in self.targets.values():
            target.reconfigure(policy, now)

    def _forget_one_healthy(self, now: float) -> None:
        key = self._recent.popleft()
        target = self.targets[key]
        target.tell_quiet(now)
        if target.pristine:
            del self.targets[key]
        else:
            self._troubled.append(key)

    def _forget_one_troubled(self, now: float) -> None:
        """Look at the one that was not looked at for longest; with too many of them, until an idle one is found."""
        troubled = self._troubled
        crowded = len(self.targets) >= self.max_targets
        for _ in range(min(len(troubled), LOOKS_WHEN_CROWDED if crowded else 1)):
            key = troubled.popleft()
            target = self.targets[key]
            target.tell_quiet(now)
            idle = not target.calls and not target.in_flight
            if target.pristine or (idle and (crowded or abs(now - target.last_used_at) >= self.idle_seconds)):
                del self.targets[key]
                return
            troubled.append(key)

"""The failures that `/fail/*` induces: the next N requests, or all for S seconds. Pure: `now` is an argument."""


class InducedFailures:
    """How many requests of one partition still fail, and until when.

    The two modes are OR-ed. While the duration runs the count goes down as well: a request that fails for both
    reasons uses up one of the count.

    Attributes:
        remaining: how many further requests fail.
        until: the instant (seconds, the server's monotonic clock) before which every request fails.
        until_timestamp: the same instant as Unix seconds, for display; None until a duration is set, and kept after
            it has passed until `reset`.
    """

    __slots__ = ("remaining", "until", "until_timestamp")

    def __init__(self) -> None:
        self.remaining = 0
        self.until = 0.0
        self.until_timestamp: float | None = None

    def fail_count(self, count: int) -> None:
        """Fail the next `count` requests; replaces an earlier count."""
        self.remaining = count

    def fail_until(self, until: float, timestamp: float) -> None:
        """Fail every request that arrives before `until`."""
        self.until = until
        self.until_timestamp = timestamp

    def strikes(self, now: float) -> bool:
        """Whether the request that arrived at `now` fails. A True uses up one of the count: ask once a request."""
        if self.remaining:
            self.remaining -= 1
            return True
        return now < self.until

    def is_active(self, now: float) -> bool:
        """Whether a request that arrived at `now` would fail; uses nothing up."""
        return self.remaining > 0 or now < self.until

    def seconds_left(self, now: float) -> float:
        """How long the duration still runs, in seconds; 0.0 when it does not."""
        return max(0.0, self.until - now)

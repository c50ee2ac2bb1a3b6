"""The idempotency cache against a model that keeps everything in a list."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asgi_fault.stores.idempotency import IdempotencyCache

KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
MAX_SIZE = 3
TTL = 100.0


class CacheMachine(RuleBasedStateMachine):
    """Exact LRU and exact time to live, whatever the order of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = IdempotencyCache(MAX_SIZE, TTL)
        self.model: list[tuple[bytes, bytes, float]] = []  # least recently used first
        self.now = 0.0
        self.made = 0

    @rule(seconds=st.sampled_from([0.0, 1.0, 49.5, 50.0, 100.0, 100.5]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=KEYS)
    def look_up_and_store_what_is_missing(self, key: bytes) -> None:
        found = self.cache.get(key, self.now)
        entry = next((entry for entry in self.model if entry[0] == key), None)
        alive = entry is not None and self.now - entry[2] <= TTL
        if entry is not None:
            self.model.remove(entry)
            if alive:
                self.model.append(entry)
        assert found == (entry[1] if entry is not None and alive else None)
        if found is None:
            self.made += 1
            answer = b"%d" % self.made
            self.cache.put(key, answer, self.now)
            # The sweep may have removed expired entries before; room is only made for what is alive.
            self.model = [entry for entry in self.model if self.cache._entries.get(entry[0])]
            self.model.append((key, answer, self.now))
            del self.model[:-MAX_SIZE]

    @invariant()
    def nothing_else_is_kept(self) -> None:
        assert list(self.cache._entries) == [entry[0] for entry in self.model]
        assert len(self.cache) <= MAX_SIZE


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_the_sweep_removes_what_has_expired_and_nothing_else() -> None:
    cache = IdempotencyCache(1000, 20.0)
    for number in range(100):
        cache.put(b"%d" % number, b"x", float(number))
    cache.put(b"last", b"x", 130.0)
    assert len(cache) == 1, "those from 80 on are older than 20 seconds as well"
    assert cache.get(b"last", 130.0) == b"x"


def test_hits_and_misses_are_counted() -> None:
    cache = IdempotencyCache(2, 20.0)
    assert cache.get(b"k", 0.0) is None
    cache.put(b"k", b"x", 0.0)
    assert cache.get(b"k", 20.0) == b"x"
    assert cache.get(b"k", 20.1) is None
    assert (cache.hits, cache.misses) == (1, 2)

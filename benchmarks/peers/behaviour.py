"""What the peers answer: induced failures and idempotent ids, kept the way such an application usually does."""

import asyncio
import time
import uuid
from collections import OrderedDict

CACHE_SIZE = 1000
CACHE_TTL = 300.0


class Failures:
    """How many requests still have to fail, and until when; nothing is set in these measurements."""

    def __init__(self) -> None:
        self.count = 0
        self.until = 0.0
        self._lock = asyncio.Lock()

    async def strikes(self) -> bool:
        """Whether this request fails."""
        async with self._lock:
            if self.count > 0:
                self.count -= 1
                return True
            return time.time() < self.until


class Ids:
    """Message ids by the client's key: least recently used goes first, and none lives longer than `CACHE_TTL`."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def get(self, key: str) -> str | None:
        """The id stored under `key`."""
        async with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if time.time() - entry[0] > CACHE_TTL:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return entry[1]

    async def put(self, key: str, message_id: str) -> None:
        """Store `message_id` under `key`."""
        async with self._lock:
            self._entries[key] = (time.time(), message_id)
            while len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)


class Messages:
    """`GET /msg` without its framework."""

    def __init__(self) -> None:
        self.failures = Failures()
        self.ids = Ids()

    async def answer(self, key: str | None, delay_ms: int) -> str | None:
        """The message id; None is an induced failure."""
        if await self.failures.strikes():
            return None
        if key and (cached := await self.ids.get(key)) is not None:
            return cached
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)
        message_id = str(uuid.uuid4())
        if key:
            await self.ids.put(key, message_id)
        return message_id

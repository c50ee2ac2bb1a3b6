"""Responses that may be retried: their bodies are read, so that no connection is held through a back-off.

A pool of a hundred connections is empty after a hundred calls that wait with a 503 in hand, and closing a response
whose body was not read costs its connection. What is read here is handed on unchanged if no retry follows after all.
"""

from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

HELD_BYTES = 65536
"""How much of a body is read at most; of a longer one the rest stays on its connection."""


async def hold(module: ModuleType, response: Any) -> None:
    """Read the body if it is short, and free the connection; leave the response as good as it was."""
    stream = response.stream
    if isinstance(stream, module.ByteStream):
        return
    pieces: list[bytes] = []
    rest: AsyncIterator[bytes] = aiter(stream)
    failure: Exception | None = None
    size = 0
    try:
        while size <= HELD_BYTES:
            piece = await anext(rest, None)
            if piece is None:
                break
            pieces.append(piece)
            size += len(piece)
    except module.TransportError as error:
        failure = error
    except BaseException:
        await stream.aclose()
        raise
    if failure is None and size <= HELD_BYTES:
        await stream.aclose()
        response.stream = module.ByteStream(b"".join(pieces))
    else:
        response.stream = _held_kinds(module)[0](pieces, rest, failure, stream)


def hold_sync(module: ModuleType, response: Any) -> None:
    """`hold`, without waiting for an event loop."""
    stream = response.stream
    if isinstance(stream, module.ByteStream):
        return
    pieces: list[bytes] = []
    rest: Iterator[bytes] = iter(stream)
    failure: Exception | None = None
    size = 0
    try:
        while size <= HELD_BYTES:
            piece = next(rest, None)
            if piece is None:
                break
            pieces.append(piece)
            size += len(piece)
    except module.TransportError as error:
        failure = error
    except BaseException:
        stream.close()
        raise
    if failure is None and size <= HELD_BYTES:
        stream.close()
        response.stream = module.ByteStream(b"".join(pieces))
    else:
        response.stream = _held_kinds(module)[1](pieces, rest, failure, stream)


class _Held:
    """A body of which the beginning has been read: it goes on where that ended, with the failure if it was one."""

    def __init__(self, pieces: list[bytes], rest: Any, failure: Exception | None, stream: Any) -> None:
        self.pieces = pieces
        self.rest = rest
        self.failure = failure
        self.stream = stream


class _AsyncHeld(_Held):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.failure is not None:
            raise self.failure
        async for piece in self.rest:
            yield piece

    async def aclose(self) -> None:
        if hasattr(self.rest, "aclose"):
            await self.rest.aclose()
        await self.stream.aclose()


class _SyncHeld(_Held):
    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.failure is not None:
            raise self.failure
        yield from self.rest

    def close(self) -> None:
        if hasattr(self.rest, "close"):
            self.rest.close()
        self.stream.close()


@lru_cache(maxsize=8)
def _held_kinds(module: ModuleType) -> tuple[type[_AsyncHeld], type[_SyncHeld]]:
    """The two above as streams of `module`, whose clients want subclasses of their own."""
    return (
        type("AsyncHeld", (_AsyncHeld, module.AsyncByteStream), {}),
        type("SyncHeld", (_SyncHeld, module.SyncByteStream), {}),
    )

"""Request, correlation and message ids: version 4 UUIDs, made 256 at a time.

`uuid.uuid4()` costs 3.5 us and every response needs two or three. Here one `urandom` call feeds a batch: the version
and variant bits of all ids are set with two operations on one big integer, and the hexadecimal digits are laid out by
strided slices, so an id costs about 120 ns (`python benchmarks/run.py --only ids`).
"""

import os

BATCH = 256
_LENGTH = 36  # xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx
_HYPHENS = (8, 13, 18, 23)
# RFC 9562 section 5.4: four bits of version (0100), two of variant (10); the other 122 are random.
_KEEP = int.from_bytes(bytes.fromhex("ffffffffffff0fff3fffffffffffffff") * BATCH)
_SET = int.from_bytes(bytes.fromhex("00000000000040008000000000000000") * BATCH)
_BLANK = (b"-" * _LENGTH + b" ") * BATCH
_DIGITS = [(place, digit) for digit, place in enumerate(p for p in range(_LENGTH) if p not in _HYPHENS)]

_pool: list[bytes] = []

take = _pool.pop
"""`new_id` without the Python call, for the hot path: raises IndexError when a new batch is due, then call `new_id`."""


def new_id() -> bytes:
    """A fresh random version 4 UUID, as 36 ASCII bytes in lower case."""
    if not _pool:
        _refill()
    return _pool.pop()


def _refill() -> None:
    size = 16 * BATCH
    random_bits = int.from_bytes(os.urandom(size))
    digits = (random_bits & _KEEP | _SET).to_bytes(size).hex().encode()
    text = bytearray(_BLANK)
    for place, digit in _DIGITS:
        text[place :: _LENGTH + 1] = digits[digit::32]
    _pool.extend(bytes(text).split())


# A forked worker must not hand out its parent's ids. (Windows has no fork.)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)

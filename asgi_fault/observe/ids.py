"""Request, correlation and message ids: version 4 UUIDs, made 256 at a time.

`uuid.uuid4()` costs microseconds and every response needs two or three. Here one `urandom` call feeds a batch, and
strided slices lay the hexadecimal digits of all its ids out at once, so an id costs about 100 ns (`python
benchmarks/run.py --only ids`).
"""

import os

BATCH = 256
# xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx (RFC 9562 section 5.4): the version is 4, the variant's two upper bits are 10.
_LENGTH = 36
_HYPHENS = (8, 13, 18, 23)
_VERSION, _VARIANT = 14, 19
_VARIANT_DIGITS = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)
_DIGITS = [
    (place, digit)
    for digit, place in enumerate(place for place in range(_LENGTH) if place not in _HYPHENS)
    if place not in (_VERSION, _VARIANT)
]
_BLANK = (b"-" * _VERSION + b"4" + b"-" * (_LENGTH - _VERSION - 1) + b" ") * BATCH

_pool: list[bytes] = []

take = _pool.pop
"""`new_id` without the Python call, for the hot path: raises IndexError when a new batch is due, then call `new_id`."""


def new_id() -> bytes:
    """A fresh random version 4 UUID, as 36 ASCII bytes in lower case."""
    if not _pool:
        _refill()
    return _pool.pop()


def _refill() -> None:
    digits = os.urandom(16 * BATCH).hex().encode()
    text = bytearray(_BLANK)
    text[_VARIANT :: _LENGTH + 1] = digits[16::32].translate(_VARIANT_DIGITS)
    for place, digit in _DIGITS:
        text[place :: _LENGTH + 1] = digits[digit::32]
    _pool.extend(bytes(text).split())


# A forked worker must not hand out its parent's ids. (Windows has no fork.)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)

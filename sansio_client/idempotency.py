"""Which requests may be sent twice, and the Idempotency-Key that makes a POST one of them."""

from collections.abc import Callable

from sansio_client.errors import SettingError

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""The methods RFC 9110 section 9.2.2 defines so: the safe ones, PUT and DELETE. POST, PATCH and CONNECT are not."""

LONGEST_KEY = 255
"""Characters of a key, Stripe's limit; the draft names none."""


def may_repeat(method: str, *, idempotency_key: str | None = None) -> bool:
    """Whether sending the request a second time has the effect of sending it once.

    So for `IDEMPOTENT_METHODS` (methods are case-sensitive, but HTTP libraries make upper case of `get`), and for any
    other method that carries an idempotency key; an empty key is none. An unknown method is not idempotent.
    """
    return bool(idempotency_key) or (method.isascii() and method.upper() in IDEMPOTENT_METHODS)


def new_key(random: Callable[[], float]) -> str:
    """A version 4 UUID (RFC 9562 section 5.4) made of three `random()` (0 <= u < 1): one per call, not per attempt.

    122 bits are random, so any two of 10^9 keys are equal with a probability of 10^-19, provided that `random` has that
    much entropy: generators with one seed make the same keys, and so do processes forked after seeding. A key that
    must not be guessed (others could read the stored answer) needs `random.SystemRandom().random`.
    """
    # 48 of the 53 bits of a float each; the middle call's are 12 for the third group, 14 for the fourth, 22 left over.
    first, middle, last = (int(random() * 0x1_0000_0000_0000) for _ in range(3))
    third = 0x4000 | middle >> 36
    fourth = 0x8000 | middle >> 22 & 0x3FFF
    return f"{first >> 16:08x}-{first & 0xFFFF:04x}-{third:04x}-{fourth:04x}-{last:012x}"


def header_value(key: str, *, quoted: bool = True) -> str:
    """The value of the `Idempotency-Key` field for `key`, the same on every attempt of a call.

    A structured-field string in quotes, as draft-ietf-httpapi-idempotency-key-header-07 section 2.1 wants it; with
    `quoted=False` the bare key, as Stripe's libraries send it. A server that compares the raw field takes the two for
    different keys, so do not change the form between attempts.
    Raises `SettingError` (a `ValueError`) unless `key` is 1 to `LONGEST_KEY` visible ASCII characters.
    """
    if not 1 <= len(key) <= LONGEST_KEY or not all("!" <= character <= "~" for character in key):
        shown = key if len(key) <= LONGEST_KEY else f"{key[:20]}... ({len(key)} characters)"
        raise SettingError("idempotency_key", shown, f"1 to {LONGEST_KEY} visible ASCII characters (0x21 to 0x7E)")
    if not quoted:
        return key
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

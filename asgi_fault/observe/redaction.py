"""What of a request may be written down: values that look like secrets never are, and what is long is cut."""

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_to_bytes

HIDDEN = "***"
PRESENT = "present"
"""What stands in place of the value of a secret header: that there was one."""

VALUE_MAX = 256  # characters of a header value that are kept
TARGET_MAX = 2048  # characters of a request target

_SECRET = re.compile(
    rb"pass(?:w|phrase|code)|pwd|secret|token|key|credential|private|auth(?!or(?!i))|cookie|session|signature|jwt|bearer"
    rb"|(?:^|[-_.])sig$",
    re.IGNORECASE,
)
_USERINFO = re.compile(rb"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")

SHOWN = frozenset({
    b"content-type", b"content-length", b"transfer-encoding", b"accept", b"range", b"if-none-match", b"user-agent",
    b"expect", b"via", b"traceparent", b"x-request-id", b"idempotency-key",
    # How clients in the wild number or name their attempts.
    b"x-stainless-retry-count", b"retry-attempt", b"amz-sdk-request", b"amz-sdk-invocation-id",
    b"x-ms-client-request-id",
})  # fmt: skip
"""The headers whose values are kept. Of all others nothing is, but for secret ones that they were there."""


def shown_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that tell retries apart, by name in lower case; values of a repeated one joined with a comma."""
    shown: dict[str, str] = {}
    for name, value in headers:
        if name in SHOWN:
            text = cut(value.decode("latin-1"), VALUE_MAX)
            key = name.decode("latin-1")
            shown[key] = cut(f"{shown[key]}, {text}", VALUE_MAX) if key in shown else text
        elif _is_secret(name):
            shown[cut(name.decode("latin-1"), VALUE_MAX)] = PRESENT
    return shown


@lru_cache(maxsize=1024)
def _is_secret(name: bytes) -> bool:
    return _SECRET.search(name) is not None


def shown_target(target: bytes) -> str:
    """The request target without user information, and with `***` for every value whose name is a secret's."""
    if b"@" in target:
        target = _USERINFO.sub(rb"\1", target)
    path, mark, query = target.partition(b"?")
    if b"=" in path:
        path = b"/".join(map(_without_secrets, path.split(b"/")))
    if mark:
        query = b"&".join(map(_without_secrets, query.split(b"&")))
    return cut((path + mark + query).decode("latin-1"), TARGET_MAX)


def _without_secrets(piece: bytes) -> bytes:
    """`piece` up to its first secret value. A `;` may begin another pair or be part of a value: nobody can know."""
    start = 0
    for pair in piece.split(b";"):
        name, mark, _ = pair.partition(b"=")
        if mark and _is_secret(unquote_to_bytes(name.replace(b"+", b" "))):
            return piece[: start + len(name) + 1] + HIDDEN.encode()
        start += len(pair) + 1
    return piece


def cut(text: str, length: int) -> str:
    """`text`, or its beginning and three dots when it is longer than `length`."""
    return text if len(text) <= length else text[: length - 3] + "..."

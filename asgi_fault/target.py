"""The request target: from whatever form the client sent to our path, its partition and the prefix of our URLs.

Servers differ: for `GET http://h/msg` httptools leaves `/msg`, h11 the whole URL. All forms of RFC 9112 section 3.2 but
CONNECT's are reduced to a path here.
"""

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from asgi_fault.asgi import Scope
from asgi_fault.errors import BadRequest

PARTITION_MARK = "/~"


class Target(NamedTuple):
    """A request target taken apart: path within the partition, partition if the path names one, prefix of our URLs."""

    path: str
    partition: str | None
    prefix: str


def split_target(scope: Scope) -> Target:
    """Take the target of `scope` apart.

    Raises:
        BadRequest: it is neither a path, nor an absolute URL, nor `*`, or its percent-encoding is broken.
    """
    path: str = scope["path"]
    _check_encoding(scope.get("raw_path") or b"")
    if not path.startswith("/"):
        scheme, mark, rest = path.partition("://")
        if mark and scheme.isalpha():
            _, slash, rest = rest.partition("/")
            path = slash + rest or "/"
        elif path not in ("*", "") and scope["method"] != "CONNECT":
            raise BadRequest("The request target must begin with a slash.", details={"target": path[:200]})
    root_path: str = scope.get("root_path") or ""
    prefix = ""
    if root_path and (path == root_path or path.startswith(root_path + "/")):
        path, prefix = path[len(root_path) :] or "/", root_path
    if not path.startswith(PARTITION_MARK):
        return Target(path, None, prefix)
    name, slash, rest = path[len(PARTITION_MARK) :].partition("/")
    return Target(slash + rest or "/", name, f"{prefix}{PARTITION_MARK}{name}")


def _check_encoding(raw_path: bytes) -> None:
    """Refuse what must have been meant otherwise: `%` without two hexadecimal digits, bytes that are not UTF-8."""
    if b"%" not in raw_path and raw_path.isascii():
        return
    for piece in raw_path.split(b"%")[1:]:
        if len(piece) < 2 or not _is_hex(piece[:2]):
            raise BadRequest("The path has a % that is not followed by two hexadecimal digits.")
    try:
        unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("The path is not UTF-8 once its percent-encoding is undone.") from None


def _is_hex(digits: bytes) -> bool:
    return all(digit in b"0123456789abcdefABCDEF" for digit in digits)

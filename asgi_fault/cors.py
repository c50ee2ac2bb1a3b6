"""Cross-origin requests (the CORS protocol of the Fetch standard, section 3.2): which origins may read our answers."""

from asgi_fault.asgi import TEXT, Header, Response, response

METHODS = "GET, POST, PUT, DELETE, PATCH, OPTIONS"
ALLOW_HEADERS = (
    "Accept, Accept-Language, Authorization, Cache-Control, Content-Language, Content-Type, DNT, Idempotency-Key, "
    "Origin, User-Agent, X-API-Key, X-Fault-Partition, X-Request-ID, X-Requested-With"
)
EXPOSE_HEADERS = (
    "Retry-After, X-Correlation-ID, X-Request-ID, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
)
MAX_AGE = 600  # seconds a browser may remember a preflight

VARY: Header = (b"vary", b"Origin")


class Cors:
    """What cross-origin headers an answer gets.

    Args:
        origins: allowed origins; `*` allows all, and then without credentials, as the protocol demands.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.encode("ascii", "replace") for origin in origins)
        self._allowed_headers = frozenset(name.strip().lower() for name in ALLOW_HEADERS.encode().split(b","))

    def headers(self, origin: bytes) -> list[Header]:
        """For an answer to a request from `origin`: without allow-origin when it is not allowed."""
        if self._any:
            return [
                (b"access-control-allow-origin", b"*"),
                (b"access-control-expose-headers", EXPOSE_HEADERS.encode()),
            ]
        if origin not in self._origins:
            return [VARY]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", EXPOSE_HEADERS.encode()),
            VARY,
        ]

    def preflight(self, headers: dict[bytes, bytes]) -> Response:
        """The answer to an OPTIONS request with `Access-Control-Request-Method`; allow-origin is added by `headers`."""
        wrong: list[str] = []
        if not self._any and headers[b"origin"] not in self._origins:
            wrong.append("origin")
        if headers[b"access-control-request-method"].decode("latin-1") not in METHODS.split(", "):
            wrong.append("method")
        asked = headers.get(b"access-control-request-headers", b"").lower().split(b",")
        if not {name.strip() for name in asked if name.strip()} <= self._allowed_headers:
            wrong.append("headers")
        if wrong:
            return response(400, TEXT, b"Disallowed CORS " + ", ".join(wrong).encode())
        return response(
            200,
            TEXT,
            b"OK",
            (b"access-control-allow-methods", METHODS.encode()),
            (b"access-control-allow-headers", ALLOW_HEADERS.encode()),
            (b"access-control-max-age", b"%d" % MAX_AGE),
        )

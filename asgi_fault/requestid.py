"""`X-Request-ID`: the client's name for a logical request, which is also the idempotency key of `/msg`.

Well formed is 1 to 256 visible ASCII characters, sent once, or more than once with the same value. What is not well
formed is never echoed and never stored.
"""

from asgi_fault.parameters import Text, Violation

LENGTH_MAX = 256
_VISIBLE = bytes(range(0x21, 0x7F))


def is_well_formed(value: bytes) -> bool:
    """Whether `value` can serve as an id: one that cannot must not reach a header, a log line or the cache."""
    return 0 < len(value) <= LENGTH_MAX and not value.translate(None, _VISIBLE)


class RequestIdHeader(Text):
    """The header as a declared parameter."""

    def violation(self, values: list[bytes]) -> Violation:
        """What is wrong with `values`, in pydantic's vocabulary."""
        loc = [self.where, self.name]
        if len(set(values)) > 1:
            return {
                "type": "repeated_header",
                "loc": loc,
                "msg": "Header should be sent once, or every time with the same value",
                "input": [_shown(value) for value in values[:8]],
            }
        if len(values[0]) > LENGTH_MAX:
            return {
                "type": "string_too_long",
                "loc": loc,
                "msg": f"String should have at most {LENGTH_MAX} characters",
                "input": _shown(values[0]),
                "ctx": {"max_length": LENGTH_MAX},
            }
        return {
            "type": "string_pattern_mismatch",
            "loc": loc,
            "msg": f"String should match pattern '{self.pattern}'",
            "input": _shown(values[0]),
            "ctx": {"pattern": self.pattern},
        }


def _shown(value: bytes) -> str:
    return value[:LENGTH_MAX].decode("latin-1")


REQUEST_ID = RequestIdHeader(
    name="X-Request-ID",
    where="header",
    pattern=r"^[\x21-\x7e]*$",
    max_length=LENGTH_MAX,
    description="Names the logical request: the same id gets the same answer. Echoed. Empty is the same as absent.",
)

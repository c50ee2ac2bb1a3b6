"""A plan: what is done to one exchange, every choice made. `rules` makes plans, `effects` carries them out."""

from dataclasses import dataclass
from typing import Literal

from asgi_fault.asgi import Header

Place = Literal["before-head", "in-head", "after-head", "mid-body", "after-body"]
Ending = Literal["close", "half-close", "reset"]
Framing = Literal["missing", "duplicate", "conflicting", "chunked", "bad-chunk", "no-last-chunk"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer that a rule gives in place of the handler's.

    Attributes:
        headers: without content-length and without ids; those are added where the answer is written.
    """

    status: int
    headers: tuple[Header, ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Stall:
    """A silence in the middle of an answer, of `seconds`; None lasts until the client leaves or the server stops."""

    at: Place
    seconds: float | None


@dataclass(frozen=True, slots=True)
class End:
    """How the connection ends, and after which part of the answer."""

    how: Ending
    at: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to one exchange. All defaults together leave the real answer untouched.

    Attributes:
        rule_id: the rule that made it; `X-Fault` for a plan that came with the request.
        step: index of the step in the rule's script; -1 for `then` or a rate limit.
        delay: seconds before anything else happens.
        answer: the answer to give; None leaves it to the handler.
        headers: added to the answer, whoever gives it.
        informational: 1xx statuses sent before the answer.
        bytes_per_second: the pace of the body (and of the head with `drip_head`); None writes it at once.
        stall: a silence on the way.
        cut: body bytes after which the answer breaks off; a float below 1 is a share of the body. None writes all.
        content_length: what the head says instead of the body's length; None says the truth.
        framing: a way of framing other than one true content-length.
        end: how the connection ends; None keeps it.
        garbage: bytes written in place of an answer.
        forged: a second answer right behind the first.
        silent: no answer at all.
    """

    rule_id: str
    step: int = -1
    delay: float = 0.0
    answer: Answer | None = None
    headers: tuple[Header, ...] = ()
    informational: tuple[int, ...] = ()
    bytes_per_second: float | None = None
    drip_head: bool = False
    stall: Stall | None = None
    cut: int | float | None = None
    content_length: int | None = None
    content_length_add: int = 0
    framing: Framing | None = None
    end: End | None = None
    garbage: bytes | None = None
    forged: Answer | None = None
    silent: bool = False

    @property
    def needs_wire(self) -> bool:
        """Whether only a server whose connection we hold can carry it out."""
        return (
            bool(self.informational)
            or self.drip_head
            or (self.stall is not None and self.stall.at == "in-head")
            or self.cut is not None
            or self.content_length is not None
            or self.content_length_add != 0
            or self.framing not in (None, "chunked")
            or (self.end is not None and (self.end.how, self.end.at) != ("close", "after-body"))
            or self.garbage is not None
            or self.forged is not None
        )

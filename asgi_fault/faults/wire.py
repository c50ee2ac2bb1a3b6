"""Below HTTP: uvicorn's two HTTP/1 protocols with what the application cannot do itself: refuse a head that never ends.

h11 stops at 64 KiB but answers 400, httptools reads on for ever. Here both answer 431 (RFC 6585 section 5) and close.
A head that is complete but too large reaches the application, which answers 431 itself under every server.
`asgi-fault serve` uses these protocols; with plain uvicorn: `--http asgi_fault.faults.wire:HttpTools` or `:H11`.

uvicorn is imported when a protocol is asked for (PEP 562), because only a process that listens needs it.
"""

import sys
from typing import TYPE_CHECKING, Any

from asgi_fault.errors import HEAD_MAX

if TYPE_CHECKING:
    from asyncio import Protocol

    H11: type[Protocol]
    HttpTools: type[Protocol]

_REASON = b"The request head is larger than 64 KiB."
ANSWER_431 = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_REASON), _REASON)
)


class BoundedH11:
    """Mixin for uvicorn's h11 protocol: says 431 where h11 has found the head too long."""

    transport: Any
    cycle: Any

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused; called while its exception, which carries the status, is being handled."""
        from h11 import LocalProtocolError

        try:
            if getattr(sys.exception(), "error_status_hint", 400) == 431:
                self.transport.write(ANSWER_431)
            else:
                super().send_400_response(msg)  # type: ignore[misc]
        except LocalProtocolError:
            # A broken body came while its request was being answered: the answer cannot be taken back.
            pass
        self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True


class BoundedHttpTools:
    """Mixin for uvicorn's httptools protocol: counts the packets of a head that has not ended."""

    transport: Any
    _in_head = False
    _head_size = 0

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a head that is past the bound and still has not ended.

        Counts the packets after the one in which the head began: what of that one belongs to an earlier request, the
        parser does not say. So the bound is late by a packet, 256 KiB, at most.
        """
        had_begun = self._in_head
        super().data_received(data)  # type: ignore[misc]
        if had_begun and self._in_head:
            self._head_size += len(data)
            if self._head_size > HEAD_MAX and not self.transport.is_closing():
                self.transport.write(ANSWER_431)
                self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        self._head_size = 0
        super().on_message_begin()  # type: ignore[misc]

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._in_head = False
        super().on_headers_complete()  # type: ignore[misc]


def __getattr__(name: str) -> Any:
    """Make the protocol class `H11` or `HttpTools` on first use."""
    if name == "H11":
        from uvicorn.protocols.http.h11_impl import H11Protocol

        made: type = type("H11", (BoundedH11, H11Protocol), {})
    elif name == "HttpTools":
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        made = type("HttpTools", (BoundedHttpTools, HttpToolsProtocol), {})
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made

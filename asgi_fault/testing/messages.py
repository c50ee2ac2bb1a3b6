"""What a test that failed is told: the timeline of its attempts, what the server was asked to do, what went astray."""

from collections.abc import Sequence
from typing import Any

from asgi_fault.errors import ValidationFailed
from asgi_fault.observe.redaction import cut
from asgi_fault.observe.timeline import plain, timeline
from asgi_fault.observe.verify import Shown

SHOWN_MAX = 3  # requests that went astray
LABEL_MAX = 60
ASTRAY_BODY = (
    "This request came without the path prefix /~NAME that fault_server.url ends with: the client has dropped it. "
    "Give it fault_server.own_port.url, which needs no prefix.\n"
)


def explained(error: ValidationFailed, without: Sequence[str]) -> str:
    """The mistakes in a document, one a line; `without` is what their paths begin with and the user never wrote."""
    lines = []
    violations: Any = error.detail
    for violation in violations:
        loc = [str(part) for part in violation["loc"]]
        if tuple(loc[: len(without)]) == tuple(without):
            loc = loc[len(without) :]
        given = violation["input"]
        if violation["type"] == "json_invalid":
            given = violation["ctx"]["error"]
        lines.append(f"{'.'.join(loc) or 'document'}: {violation['msg']}{'' if given is None else f' (got {given!r})'}")
    return "\n".join(lines)


def of_test(*, entries: Sequence[Shown], notes: Sequence[str]) -> str:
    """The text of the section that a failed test gets."""
    return "\n".join([timeline(entries) if entries else "No request has arrived.", "", *notes])


def notes(*, url: str, seed: int, skipped: float, pending: int) -> list[str]:
    """What has to be known to read a timeline, and to see it again."""
    lines = []
    if pending:
        number = "1 request is" if pending == 1 else f"{pending} requests are"
        lines.append(f"{number} still under way: no answer has ended it, and its client has not closed the connection.")
    if skipped:
        lines.append(f"{skipped:g} s of sleeps were skipped; the gaps contain them.")
    lines.append(f"{url}   seed {seed}")
    return lines


def about_astray(astray: Sequence[Shown], advice: str) -> str:
    """That a client drops the path prefix, and what to do."""
    shown = [cut(plain(f"{entry['method']} {entry['path']}"), LABEL_MAX) for entry in astray[:SHOWN_MAX]]
    more = f" and {len(astray) - SHOWN_MAX} more" if len(astray) > SHOWN_MAX else ""
    number = "1 request" if len(astray) == 1 else f"{len(astray)} requests"
    return (
        f"{number} came without the path prefix of the test's URL: {', '.join(shown)}{more}.\n"
        f"The client drops the path of its base URL (urljoin does, before a leading slash). {advice}\n"
    )

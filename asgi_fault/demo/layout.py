"""The text of a demonstration: chapters, verdicts and the table at the end, for a terminal of 100 columns.

Colours are ANSI sequences that the command line takes out where they are not wanted; no word depends on them.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from asgi_fault.demo.client import CHAPTERS, Chapter, shown_code
from asgi_fault.demo.evidence import Claim, Evidence, Played, count

WIDTH = 100
NOTE = """\
The journal is what the server saw, not what the client says. In the code, url is the base URL, and
at_once(n, call, path) makes n calls side by side."""
MARGIN = "  "
LABEL = 10  # columns, of what stands left of a block

BOLD, DIM, GREEN, RED = "1", "2", "32", "31"


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands before a claim that holds, and before one that does not."""

    good: str = "\N{CHECK MARK}"
    bad: str = "\N{BALLOT X}"


ASCII_MARKS = Marks("+", "x")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a chapter."""

    chapter: Chapter
    played: Played
    evidence: Evidence

    @property
    def claims(self) -> list[Claim]:
        """The chapter's own, and that its code came to its end."""
        error = self.played.error
        if error is None:
            return self.evidence.claims
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        found = f"{type(error).__name__}: {error}"
        return [*self.evidence.claims, Claim("the client's code came to its end", holds=False, found=found)]

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(claim.holds for claim in self.claims)


def styled(text: str, style: str) -> str:
    """`text` in a colour or weight."""
    return f"\x1b[{style}m{text}\x1b[0m"


def greeting(url: str, seed: int, chapters: int) -> str:
    """What stands above everything."""
    return (
        f"{styled('The client against the server', BOLD)}: {count(chapters, 'chapter')}, real sockets at {url}, "
        f"seed {seed}\n{styled(NOTE, DIM)}\n"
    )


def opening(chapter: Chapter, place: int, places: int) -> str:
    """What is to be read while the chapter is played."""
    lines = [f"{styled(f'{place:>2}/{places}  {chapter.name}', BOLD)}: {chapter.title}"]
    lines += wrap(chapter.purpose, WIDTH, initial_indent=MARGIN, subsequent_indent=MARGIN)
    lines.append("")
    lines += _block("fault", [f"POST /~{chapter.name}/faults", *map(_one_line, chapter.rules)])
    lines += _block("client", shown_code(chapter.code))
    return "\n".join(lines)


def closing(verdict: Verdict, marks: Marks) -> str:
    """What the journal shows, and whether the claims hold."""
    lines = _block("journal", [_cut(line) for line in verdict.evidence.lines] or ["nothing arrived"])
    lines += _block("see" if verdict.holds else "expected", wrap(verdict.chapter.see, WIDTH - LABEL - len(MARGIN)))
    lines += [_claim_line(claim, marks) for claim in verdict.claims]
    return "\n".join([*lines, ""])


def summary(verdicts: Sequence[Verdict], seed: int, marks: Marks) -> str:
    """The table at the end, and how to see one chapter again."""
    lines = [styled(f"{'chapter':<17}{'claims':<16}{'arrivals':>10}{'seconds':>10}", BOLD)]
    for verdict in verdicts:
        held = sum(claim.holds for claim in verdict.claims)
        told = f"{held} of {len(verdict.claims)} hold"
        mark = styled(f"{marks.good} ", GREEN) if verdict.holds else styled(f"{marks.bad} ", RED)
        lines.append(
            f"{verdict.chapter.name:<17}{mark}{told:<14}{len(verdict.played.entries):>10}{verdict.played.seconds:>10.1f}"
        )
    failed = [verdict.chapter.name for verdict in verdicts if not verdict.holds]
    if failed:
        lines.append(f"\n{styled('NOT AS CLAIMED', RED)}: {', '.join(failed)}")
    else:
        lines.append(f"\n{styled('All as claimed', GREEN)}: {count(len(verdicts), 'chapter')}.")
    if verdicts:
        again = failed[0] if failed else verdicts[-1].chapter.name
        lines.append(f"One chapter again:  {again_command([again], seed)}")
    return "\n".join(lines)


def again_command(names: Sequence[str], seed: int) -> str:
    """The command that plays chapters with the same chances."""
    options = [word for name in names for word in ("--chapter", name)]
    return shlex.join(["asgi-fault", "demo", "client", *options, "--seed", str(seed)])


def listing() -> str:
    """The chapters, one a line."""
    width = max(len(chapter.name) for chapter in CHAPTERS)
    return "\n".join(f"{styled(chapter.name.ljust(width), BOLD)}  {chapter.title}" for chapter in CHAPTERS)


def _block(label: str, lines: Sequence[str]) -> list[str]:
    """Lines with a label at the left of the first."""
    labels = [styled(f"{label:<{LABEL}}", DIM)] + [" " * LABEL] * (len(lines) - 1)
    return [f"{MARGIN}{left}{line}".rstrip() for left, line in zip(labels, lines, strict=True)]


def _claim_line(claim: Claim, marks: Marks) -> str:
    if claim.holds:
        return f"{MARGIN}{styled(f'{marks.good} holds'.ljust(LABEL), GREEN)}{claim.text}"
    found = " ".join(claim.found.split())
    lines = wrap(f"{claim.text}; found: {found}", WIDTH - LABEL - len(MARGIN))
    lines[0] = f"{MARGIN}{styled(f'{marks.bad} FAILS'.ljust(LABEL), RED)}{lines[0]}"
    return f"\n{MARGIN}{' ' * LABEL}".join(lines)


def _one_line(rule: Mapping[str, Any]) -> str:
    text = json.dumps(rule)
    return text if len(text) <= WIDTH - LABEL - len(MARGIN) else json.dumps(rule, separators=(",", ":"))


def _cut(line: str) -> str:
    room = WIDTH - LABEL - len(MARGIN)
    return line if len(line) <= room else line[: room - 3] + "..."

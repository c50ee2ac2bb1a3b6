"""Demonstrations: the client's patterns walked through against the server, with the server's journal as the witness.

`client` has the chapters, `stage` plays them, `evidence` reads the journal, `layout` makes the text. Nothing prints:
the command line hands in what writes.
"""

from collections.abc import Callable, Sequence

from adapters.httpx_requests import library
from asgi_fault.demo.client import BY_NAME, CHAPTERS, Chapter
from asgi_fault.demo.layout import ASCII_MARKS, Marks, Verdict, closing, greeting, listing, opening, summary
from asgi_fault.demo.stage import Stage

__all__ = ["ASCII_MARKS", "CHAPTERS", "Marks", "UnknownChapterError", "chosen", "listing", "perform", "play"]


class UnknownChapterError(LookupError):
    """There is no such chapter; the text names those there are."""


def chosen(names: Sequence[str]) -> list[Chapter]:
    """The chapters of these names, each once and in this order; all of them without any.

    Raises:
        UnknownChapterError: one of the names is none.
    """
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise UnknownChapterError(f"There is no chapter {unknown[0]!r}. There are: {', '.join(BY_NAME)}.")
    return [BY_NAME[name] for name in dict.fromkeys(names)] or list(CHAPTERS)


def play(chapter: Chapter, stage: Stage) -> Verdict:
    """Play one chapter and hold its claims against the journal."""
    played = stage.play(chapter.name, chapter.rules, chapter.code)
    return Verdict(chapter, played, chapter.judge(played))


def perform(chapters: Sequence[Chapter], seed: int, write: Callable[[str], object], marks: Marks) -> bool:
    """Play chapters, writing as it goes; whether all their claims hold.

    Raises:
        ImportError: neither httpx nor httpx2 is installed; the text says how it is.
    """
    library()
    verdicts = []
    with Stage(seed) as stage:
        write(greeting(stage.url, seed, len(chapters)))
        for place, chapter in enumerate(chapters, 1):
            write(opening(chapter, place, len(chapters)))
            verdicts.append(play(chapter, stage))
            write(closing(verdicts[-1], marks))
    write(summary(verdicts, seed, marks))
    return all(verdict.holds for verdict in verdicts)

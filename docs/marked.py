"""Puts what the scripts beside it make between the markers of the pages.

    <!-- WORD ARGUMENTS -->
    what is made of the arguments
    <!-- /WORD -->

`python docs/marked.py --write` renews all pages, `--check` says which are not what the code says, and the same options
of `diagrams.py`, `tables.py`, `delays.py` and `pitfalls.py` do it for their own words.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

PAGES = Path(__file__).parent
PART = re.compile(r"<!-- (?P<word>\w+)(?P<arguments>(?: [^>]*?)?) -->\n(?P<text>.*?)<!-- /(?P=word) -->", re.DOTALL)

Makers = Mapping[str, Callable[..., str]]


def renewed(text: str, makers: Makers) -> str:
    """The text of a page with its marked parts made anew; those of unknown words stay."""

    def made(part: re.Match[str]) -> str:
        maker = makers.get(part["word"])
        if maker is None:
            return part[0]
        made_anew = maker(*part["arguments"].split())
        return f"<!-- {part['word']}{part['arguments']} -->\n\n{made_anew}\n\n<!-- /{part['word']} -->"

    return PART.sub(made, text)


def main(makers: Makers) -> None:
    """Write or check the pages; without an option print what would be between the markers."""
    parser = argparse.ArgumentParser(description=f"Makes these parts of the pages: {', '.join(sorted(makers))}.")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--write", action="store_true", help="put them into the pages")
    group.add_argument("--check", action="store_true", help="fail when a page has something else")
    options = parser.parse_args()
    stale = []
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        new = renewed(text, makers)
        if options.write and new != text:
            page.write_text(new, encoding="utf-8")
        elif options.check and new != text:
            stale.append(page.name)
        elif not (options.write or options.check):
            for part in PART.finditer(new):
                if part["word"] in makers:
                    sys.stdout.write(f"{page.name}: {part['word']}{part['arguments']}\n{part['text']}\n")
    if stale:
        sys.exit(f"not what the code says: {', '.join(stale)}; run `python docs/{Path(sys.argv[0]).name} --write`")


if __name__ == "__main__":
    from delays import MAKERS as DELAYS
    from diagrams import MAKERS as DIAGRAMS
    from pitfalls import MAKERS as PITFALLS
    from tables import MAKERS as TABLES

    main({**DELAYS, **DIAGRAMS, **PITFALLS, **TABLES})

"""Path patterns of rules: `/users/{id}` (one segment), `/v1/*` (within one), `/v1/**` (any number of them).

They become regular expressions that cannot backtrack far: what stands between two wildcards is taken where it first
fits (atomic groups), which is right for wildcards and takes linear time.
"""

import re

WILDCARDS_MAX = 8  # the more there are, the longer a pattern takes to compile
_WILDCARDS = re.compile(r"(\*\*?|\{\w+\})")
_ANY_SEGMENTS = "(?:[^/]*/)*"


class PathPattern:
    """A compiled path.

    Attributes:
        literal: the path itself when it has no wildcard.
        first_segment: the first segment when that one has no wildcard; a pattern is looked for by it.
    """

    __slots__ = ("_regex", "first_segment", "literal")

    def __init__(self, text: str) -> None:
        text = bare(text)
        segments = text[1:].split("/")
        self.literal = None if _WILDCARDS.search(text) else text
        self.first_segment = None if _WILDCARDS.search(segments[0]) else segments[0]
        self._regex = re.compile(_translate(segments), re.DOTALL)

    def fits(self, path: str) -> bool:
        """Whether `path`, without a trailing slash, is one of those meant."""
        return self._regex.match(path[1:] + "/") is not None


def bare(path: str) -> str:
    """`path` without the trailing slash: every path is served with and without."""
    return path[:-1] if len(path) > 1 and path[-1] == "/" else path


def mistake_in(text: str) -> str | None:
    """What no pattern can express, when `text` asks for it."""
    segments = text.split("/")
    if any("**" in segment and segment != "**" for segment in segments):
        return "** stands for whole segments; write /**/*.json for the end of a name"
    if len(segments) > 1 and segments[1].startswith("~"):
        return "paths are those within the partition: leave /~NAME out and set the rule in the partition"
    if len(_WILDCARDS.findall(text)) > WILDCARDS_MAX:
        return f"a path has at most {WILDCARDS_MAX} wildcards"
    return None


def _translate(segments: list[str]) -> str:
    """A pattern over the path with a slash behind every segment."""
    groups: list[list[str]] = [[]]
    for segment in segments:
        if segment == "**":
            groups.append([])
        else:
            groups[-1].append(_segment(segment) + "/")
    first, *rest = ["".join(group) for group in groups]
    if not rest:
        return first + r"\Z"
    *middle, last = rest
    between = "".join(f"(?>{_ANY_SEGMENTS}?{group})" for group in middle)
    return first + between + _ANY_SEGMENTS + (f"?{last}" if last else "") + r"\Z"


def _segment(text: str) -> str:
    """One segment: a literal behind a wildcard is taken where it first fits, the one at the end only there."""
    head, *rest = _WILDCARDS.split(text)
    pattern = re.escape(head)
    low = 0
    for i in range(0, len(rest), 2):
        wildcard, literal = rest[i], rest[i + 1]
        low += wildcard != "*"
        if i + 2 == len(rest):
            pattern += f"[^/]{{{low},}}" + (re.escape(literal) + "(?=/)" if literal else "")
        elif literal:
            pattern += f"(?>[^/]{{{low},}}?{re.escape(literal)})"
            low = 0
    return pattern

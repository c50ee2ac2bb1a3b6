"""Regular expressions in linear time: a pattern from a request must not be able to stop the event loop.

The pattern becomes a program of a few instructions, and all its threads advance together, one character a step
(Thompson 1968), so the time is at most the length of the program times that of the subject. Groups, classes, repeats,
`|`, `^`, `$`, `.` and a leading `(?i)`; no back-references and no look-around, which need another kind of machine.
What one character may be is left to `re`.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

SUBJECT_MAX = 1024  # characters; a longer subject matches nothing
PROGRAM_MAX = 250  # instructions
REPEAT_MAX = 100

Test: TypeAlias = Callable[[str], Any]
Node: TypeAlias = "tuple[Any, ...]"
"""("char", test) | ("all", nodes) | ("any", nodes) | ("repeat", node, low, high or None) | ("start",) | ("end",)"""

_COUNTS = re.compile(r"\{([0-9]{1,9})(,([0-9]{1,9})?)?\}", re.ASCII)
_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_SET_OPERATIONS = re.compile(r"\\.|[\[&~|]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[dDwWsStnrfv]|[^0-9A-Za-z])", re.DOTALL)


class PatternError(ValueError):
    """The pattern makes no sense, or needs what this engine does not have; the text says which."""


class Instruction(NamedTuple):
    """`char` eats one character that `test` accepts; `split` goes on at every target; the rest look or end."""

    kind: Literal["char", "split", "start", "end", "found"]
    test: Test | None = None
    targets: tuple[int, ...] = ()


class Pattern:
    """A compiled pattern.

    Raises:
        PatternError: on a pattern that cannot be compiled.
    """

    __slots__ = ("_program",)

    def __init__(self, text: str) -> None:
        self._program = _Writer().write(_Reader(text).read())

    def search(self, subject: str) -> bool:
        """Whether the pattern is found anywhere in `subject`."""
        size = len(subject)
        if size > SUBJECT_MAX:
            return False
        program = self._program
        waiting: list[int] = []
        for position in range(size + 1):
            waiting.append(0)  # a match may begin anywhere
            ready = self._follow(waiting, at_start=position == 0, at_end=position == size)
            if ready is None:
                return True
            if position < size:
                char = subject[position]
                waiting = [at + 1 for at in ready if program[at].test(char)]  # type: ignore[misc]
        return False

    def _follow(self, waiting: list[int], *, at_start: bool, at_end: bool) -> list[int] | None:
        """Where the threads `waiting` come to before the next character; None when one has found the pattern."""
        program = self._program
        seen: set[int] = set()
        ready: list[int] = []
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            kind = program[at].kind
            if kind == "char":
                ready.append(at)
            elif kind == "split":
                waiting += program[at].targets
            elif kind == "found":
                return None
            elif at_start if kind == "start" else at_end:
                waiting.append(at + 1)
        return ready


class _Reader:
    """Parses a pattern by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._flags = 0
        if text.startswith("(?i)"):
            self._text, self._flags = text[4:], re.IGNORECASE
        self._at = 0

    def read(self) -> Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise PatternError("there is a ) without its (")
        return node

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _alternatives(self) -> Node:
        branches = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            branches.append(self._sequence())
        return ("any", branches) if len(branches) > 1 else branches[0]

    def _sequence(self) -> Node:
        nodes: list[Node] = []
        while self._next() not in ("", "|", ")"):
            nodes.append(self._repeated(self._atom()))
        return ("all", nodes)

    def _repeated(self, node: Node) -> Node:
        bounds: tuple[int, int | None] | None = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._next())
        counts = _COUNTS.match(self._text, self._at)
        if bounds is not None:
            self._at += 1
        elif counts is not None:
            low = int(counts[1])
            high = low if counts[2] is None else int(counts[3]) if counts[3] else None
            if max(low, high or 0) > REPEAT_MAX or (high is not None and low > high):
                raise PatternError(f"{counts[0]} is no range up to {REPEAT_MAX}")
            bounds = low, high
            self._at = counts.end()
        else:
            return node
        if node[0] in ("start", "end"):
            raise PatternError("^ and $ cannot be repeated")
        if self._next() == "?":  # lazy: what is found is not asked here, only whether
            self._at += 1
        if self._next() in ("*", "+", "?") or _COUNTS.match(self._text, self._at):
            raise PatternError("a repeat is repeated; put ( ) around the inner one")
        return ("repeat", node, *bounds)

    def _atom(self) -> Node:
        char = self._next()
        if char in "*+?":
            raise PatternError(f"there is nothing for {char} to repeat")
        if char == "(":
            return self._group()
        if char == "[":
            return ("char", _test(self._class(), self._flags))
        if char == "\\":
            escape = _ESCAPE.match(self._text, self._at)
            if escape is None:
                raise PatternError(f"{self._text[self._at : self._at + 2]} is not supported")
            self._at = escape.end()
            return ("char", _test(escape[0], self._flags))
        self._at += 1
        if char in "^$":
            return ("start",) if char == "^" else ("end",)
        return ("char", _test("." if char == "." else re.escape(char), self._flags))

    def _group(self) -> Node:
        self._at += 1
        if self._next() == "?":
            if not self._text.startswith("?:", self._at):
                raise PatternError(f"({self._text[self._at : self._at + 2]} is not supported")
            self._at += 2
        node = self._alternatives()
        if self._next() != ")":
            raise PatternError("there is a ( without its )")
        self._at += 1
        return node

    def _class(self) -> str:
        """The class that begins here, with what `re` reserves for set operations escaped."""
        found = _CLASS.match(self._text, self._at)
        if found is None:
            raise PatternError("there is a [ without its ]")
        self._at = found.end()
        inner = found[0][1:-1]
        if "--" in inner:
            raise PatternError("-- in a class is ambiguous; write \\-")
        return f"[{_SET_OPERATIONS.sub(_escaped, inner)}]"


def _escaped(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) > 1 else "\\" + found[0]


@lru_cache(maxsize=256)
def _test(piece: str, flags: int) -> Test:
    """Whether a character is one that `piece`, which stands for exactly one, allows."""
    try:
        return re.compile(piece, flags).match
    except re.error as error:
        raise PatternError(f"{piece}: {error.msg}") from None


class _Writer:
    """Writes the program of a parsed pattern."""

    def __init__(self) -> None:
        self._program: list[Instruction] = []
        self._work = 0

    def write(self, node: Node) -> list[Instruction]:
        self._node(node)
        self._program.append(Instruction("found"))
        return self._program

    def _node(self, node: Node) -> None:
        # Counted apart from the instructions: a repeated nothing writes none and takes as long.
        self._work += 1
        if self._work > 4 * PROGRAM_MAX or len(self._program) > PROGRAM_MAX:
            raise PatternError("the pattern is too large once its repeats are written out")
        kind = node[0]
        if kind == "char":
            self._program.append(Instruction("char", node[1]))
        elif kind == "all":
            for part in node[1]:
                self._node(part)
        elif kind == "any":
            self._any(node[1])
        elif kind == "repeat":
            self._repeat(*node[1:])
        else:
            self._program.append(Instruction(kind))

    def _any(self, branches: list[Node]) -> None:
        program = self._program
        fork = self._placeholder()
        starts, ends = [], []
        for branch in branches:
            starts.append(len(program))
            self._node(branch)
            ends.append(self._placeholder())
        program[fork] = Instruction("split", targets=tuple(starts))
        for end in ends:
            program[end] = Instruction("split", targets=(len(program),))

    def _repeat(self, node: Node, low: int, high: int | None) -> None:
        program = self._program
        for _ in range(low):
            self._node(node)
        if high is None:
            fork = self._placeholder()
            self._node(node)
            program.append(Instruction("split", targets=(fork,)))
            program[fork] = Instruction("split", targets=(fork + 1, len(program)))
            return
        forks = []
        for _ in range(high - low):
            forks.append(self._placeholder())
            self._node(node)
        for fork in forks:
            program[fork] = Instruction("split", targets=(fork + 1, len(program)))

    def _placeholder(self) -> int:
        self._program.append(Instruction("split"))
        return len(self._program) - 1

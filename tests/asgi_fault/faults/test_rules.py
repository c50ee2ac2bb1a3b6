"""The set of rules: order, counting, replacing, all or nothing, bounds, threads; a state machine against a model."""

import json
import sys
import threading
import time
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asgi_fault.errors import ValidationFailed
from asgi_fault.faults.rules import REGEXES_MAX, SIZE_MAX, STEPS_MAX, RuleSet
from asgi_fault.faults.schema import RULES_MAX
from tests.asgi_fault.faults.rule_documents import WALL, arrival, documents, json_values, refused, rule_set


def statuses(rules: RuleSet, *arrivals: Any) -> list[int]:
    """The status each arrival gets, 0 for the real answer."""
    plans = [rules.decide(each) for each in arrivals]
    return [plan.answer.status if plan is not None and plan.answer is not None else 0 for plan in plans]


def gets(number: int, path: str = "/msg") -> list[Any]:
    return [arrival(path=path, ordinal=n) for n in range(1, number + 1)]


def put(rules: RuleSet, *documents: Any, now: float = 0.0) -> list[str]:
    return [made.id for made in rules.put(list(documents), now, wall=WALL + now, wire=True)]


def test_a_script_is_played_once_and_then_the_rest() -> None:
    script = [{"status": 503}, {}, {"status": 500}]
    assert statuses(rule_set({"script": script}), *gets(5)) == [503, 0, 500, 0, 0]
    assert statuses(rule_set({"script": script, "then": {"status": 404}}), *gets(5)) == [503, 0, 500, 404, 404]


def test_the_first_rule_that_has_a_step_decides() -> None:
    rules = rule_set(
        {"id": "a", "match": {"path": "/msg"}, "script": [{"status": 501}]},
        {"id": "b", "script": [{"status": 502}, {}]},
        {"id": "c", "match": {"path": "/**"}, "then": {"status": 503}},
    )
    assert statuses(rules, *gets(5)) == [501, 502, 0, 503, 503]
    assert statuses(rules, *gets(1, "/other")) == [503]


def test_a_rule_counts_only_what_reaches_it() -> None:
    rules = rule_set({"script": [{"status": 501}]}, {"match": {"nth": 2}, "then": {"status": 502}})
    assert statuses(rules, *gets(4)) == [501, 0, 502, 0]


def test_order_holds_among_literals_templates_and_globs() -> None:
    patterns = ["/a/b", "/a/{x}", "/*/b", "/a/**", None, "/a/b"]
    rules = rule_set()
    for number, path in enumerate(patterns):
        put(rules, {"match": {} if path is None else {"path": path}, "script": [{"status": 500 + number}]})
    assert statuses(rules, *gets(7, "/a/b")) == [500, 501, 502, 503, 504, 505, 0]
    assert statuses(rules, *gets(1, "/a/c/")) == [0]
    rules = rule_set(*({"match": {"path": p}, "then": {"status": 500 + n}} for n, p in enumerate(patterns) if p))
    for path, status in (
        ("/a/b/", 500),
        ("/a/c", 501),
        ("/x/b", 502),
        ("/a", 503),
        ("/a/b/c", 503),
        ("/x", 0),
        ("*", 0),
    ):
        assert statuses(rules, arrival(path=path)) == [status], path


def test_ids_are_given_in_order_never_twice_and_never_somebody_elses() -> None:
    rules = rule_set()
    assert put(rules, {"then": {}}, {"id": "r2", "then": {}}, {"then": {}}) == ["r1", "r2", "r3"]
    rules.remove("r3")
    assert put(rules, {"then": {}}) == ["r4"]
    rules.clear()
    assert put(rules, {"then": {}}) == ["r5"]


def test_the_same_id_replaces_in_place_and_begins_anew() -> None:
    rules = rule_set({"id": "a", "script": [{"status": 501}] * 2}, {"id": "b", "then": {"status": 502}})
    assert statuses(rules, *gets(1)) == [501]
    put(rules, {"id": "c", "then": {}}, {"id": "a", "script": [{"status": 503}]})
    assert [each.id for each in rules.rules] == ["a", "b", "c"]
    assert statuses(rules, *gets(2)) == [503, 502]
    put(rules, {"id": "a", "script": [{"status": 503}]})
    assert statuses(rules, *gets(2)) == [503, 502]


def test_remove_and_clear() -> None:
    rules = rule_set({"id": "a", "then": {"status": 501}}, {"id": "b", "then": {"status": 502}})
    assert rules.remove("a")
    assert not rules.remove("a")
    assert statuses(rules, *gets(1)) == [502]
    assert rules.find("b") is rules.rules[0]
    assert rules.find("a") is None
    assert rules.clear() == 1
    assert (len(rules), rules.clear()) == (0, 0)
    assert statuses(rules, *gets(1)) == [0]


def test_it_tells_what_became_of_each_rule() -> None:
    rules = rule_set({"match": {"first": 3}, "script": [{"status": 503}] * 2}, {"match": {"path": "/x"}, "then": {}})
    statuses(rules, *gets(5))
    first, second = rules.documents(7.5)
    assert first == {
        "id": "r1",
        "match": {"first": 3},
        "script": [{"status": 503}] * 2,
        "set_at": "2023-11-14T22:13:20.000Z",
        "age_s": 7.5,
        "matched": 3,
        "used": 2,
        "step": None,
    }
    assert (second["matched"], second["used"], second["step"]) == (0, 0, None)
    rules = rule_set({"script": [{}, {}]})
    assert rules.documents(0.0)[0]["step"] == 0
    statuses(rules, *gets(1))
    assert rules.documents(0.0)[0]["step"] == 1


def test_what_the_caller_keeps_is_not_what_we_keep() -> None:
    mine: dict[str, Any] = {"script": [{"status": 503}]}
    rules = rule_set(mine)
    mine["script"].append({"status": 500})
    assert rules.documents(0.0)[0]["script"] == [{"status": 503}]


def test_one_mistake_and_nothing_is_set() -> None:
    rules = rule_set({"id": "a", "script": [{"status": 501}] * 3})
    statuses(rules, *gets(1))
    before = rules.documents(0.0)
    for bad in ({"then": {"status": 99}}, {"then": {"silence": True, "status": 500}}, {}, 5):
        with pytest.raises(ValidationFailed):
            put(rules, {"id": "a", "then": {}}, {"then": {}}, bad)
    assert rules.documents(0.0) == before
    assert put(rules, {"then": {}}) == ["r1"]


def test_the_number_of_rules_is_bounded() -> None:
    assert refused(*[{"then": {}}] * 10_000) == [
        ([], "List should have at most 1000 items after validation, not 10000")
    ]
    rules = rule_set(*[{"then": {}}] * RULES_MAX)
    with pytest.raises(ValidationFailed) as caught:
        put(rules, {"then": {}})
    assert caught.value.detail[0]["msg"] == "A partition has at most 1000 rules, not 1001"  # type: ignore[index]
    put(rules, {"id": "r7", "then": {"status": 500}})
    assert len(rules) == RULES_MAX


def test_the_number_of_steps_is_bounded() -> None:
    assert refused({"script": [{}] * 1001})[0][0] == [0, "script"]
    rules = rule_set(*[{"script": [{}] * 1000}] * 10)
    with pytest.raises(ValidationFailed) as caught:
        put(rules, {"then": {}})
    assert caught.value.detail[0]["ctx"] == {"max_length": STEPS_MAX, "actual_length": STEPS_MAX + 1}  # type: ignore[index]
    put(rules, {"id": "r1", "then": {}})


def test_the_number_of_regular_expressions_is_bounded() -> None:
    searched = {"headers": {f"x-{n}": {"regex": "a"} for n in range(20)}, "query": {"q": {"regex": "a"}}}
    rules = rule_set(*[{"match": searched, "then": {}}] * 4)
    with pytest.raises(ValidationFailed) as caught:
        put(rules, {"match": searched, "then": {}})
    assert caught.value.detail[0]["ctx"] == {"max_length": REGEXES_MAX, "actual_length": 105}  # type: ignore[index]


def test_the_size_of_all_rules_is_bounded() -> None:
    rules = RuleSet(0, "p")
    document = {"then": {"body": {"text": "x" * 1_000_000}}}
    for _ in range(8):
        put(rules, document)
    with pytest.raises(ValidationFailed) as caught:
        put(rules, document)
    assert caught.value.detail[0]["ctx"]["max_length"] == SIZE_MAX  # type: ignore[index]
    assert len(rules) == 8


@pytest.mark.parametrize(
    "document", [None, 5, "x", [], [{"then": {}}], {}, {"rules": []}, {"rules": {}}, {"rules": [[]]}]
)
def test_what_is_no_rule(document: Any) -> None:
    with pytest.raises(ValidationFailed):
        RuleSet(0, "p").put_document(document, 0.0, wall=WALL, wire=True)


def test_one_rule_has_its_mistakes_at_the_top() -> None:
    with pytest.raises(ValidationFailed) as caught:
        RuleSet(0, "p").put_document({"script": [{}, {"garbage": {"bytes": 1}}]}, 0.0, wall=WALL, wire=False)
    assert [violation["loc"] for violation in caught.value.detail] == [["body", "script", 1, "garbage"]]  # type: ignore[attr-defined]


@given(documents | json_values)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_json_is_set_or_refused_and_what_is_set_decides(document: Any) -> None:
    rules = RuleSet(7, "p")
    refusal: Any = None
    try:
        made = rules.put_document(document, 0.0, wall=WALL, wire=True)
    except ValidationFailed as error:
        refusal = error.detail
    if refusal is not None:
        assert len(rules) == 0
        assert 1 <= len(refusal) <= 51
        json.dumps(refusal)
        return
    assert len(rules) == len({each.id for each in made}) >= 1
    for ordinal in range(1, 4):
        each = arrival("POST", "/a/b", headers={"X-A": "1"}, query="a=1", body=b"x", ordinal=ordinal)
        rules.decide(each)
    json.dumps(rules.documents(1.0))


# Threads.


def in_threads(number: int, work: Any) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)


class HandingOver(list[Any]):
    """A list that lets the other threads go on in the worst moment: when an item has been chosen, but not yet taken."""

    def __getitem__(self, index: Any) -> Any:
        time.sleep(0)
        return super().__getitem__(index)


class HandingOverDict(OrderedDict[Any, Any]):
    """The same between reading a count and writing it."""

    def get(self, key: Any, default: Any = None) -> Any:
        found = super().get(key, default)
        time.sleep(0)
        return found


def test_eight_threads_advance_a_script_and_lose_no_step() -> None:
    rules = rule_set(*({"id": f"s{n}", "script": [{}] * 1000} for n in range(9)), {"id": "rest", "then": {}})
    for each in rules.rules:
        each._script = HandingOver(each._script)
    found: list[list[tuple[str, int]]] = [[] for _ in range(8)]

    def advance(number: int) -> None:
        for ordinal in range(5000):
            plan = rules.decide(arrival(ordinal=ordinal))
            assert plan is not None
            found[number].append((plan.rule_id, plan.step))

    in_threads(8, advance)
    everything = [each for one in found for each in one]
    assert len(everything) == 40_000
    scripted = sorted(each for each in everything if each[0] != "rest")
    assert scripted == [(f"s{n}", step) for n in range(9) for step in range(1000)]
    assert rules.documents(0.0)[-1]["used"] == 31_000
    assert rules.documents(0.0)[0]["matched"] == 40_000


def test_eight_threads_number_every_attempt_once() -> None:
    rules = rule_set({"then": {"body": {"template": "{attempt}"}}})
    rules._attempts._counts = HandingOverDict()
    found: list[list[int]] = [[] for _ in range(8)]

    def ask(number: int) -> None:
        for _ in range(1000):
            plan = rules.decide(arrival(headers={"Idempotency-Key": "k"}))
            assert plan is not None
            assert plan.answer is not None
            found[number].append(int(plan.answer.body))

    in_threads(8, ask)
    assert sorted(attempt for one in found for attempt in one) == list(range(1, 8001))


def test_rules_may_change_while_others_decide() -> None:
    rules = rule_set({"id": "keep", "match": {"path": "/msg"}, "then": {"status": 503}})
    done = threading.Event()

    def change(number: int) -> None:
        for n in range(300):
            put(rules, {"id": f"t{number}", "match": {"path": f"/{n}/**"}, "then": {}})
            rules.remove(f"t{number}")
        done.set()

    def ask(number: int) -> None:
        if number:
            change(number)
            return
        while not done.is_set():
            assert statuses(rules, arrival()) == [503]

    in_threads(3, ask)
    assert [each.id for each in rules.rules] == ["keep"]


# A model.


class Model:
    """A rule as the issue tells it, without an index, a lock or a compiled step."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.fitted = self.next = 0

    def status(self, path: str) -> int | None:
        match = self.document["match"]
        if match.get("path") not in (None, path) and not (match["path"] == "/{x}" and path.count("/") == 1):
            return None
        self.fitted += 1
        if self.fitted % match.get("every", 1) or self.fitted > match.get("first", 10**9):
            return None
        if self.next < len(self.document["script"]):
            self.next += 1
            return int(self.document["script"][self.next - 1]["status"])
        return int(self.document["then"]["status"]) if "then" in self.document else None


step = st.integers(500, 599).map(lambda status: {"status": status})
simple_rules = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["a", "b", "c", "d"]),
        "match": st.fixed_dictionaries(
            {},
            optional={
                "path": st.sampled_from(["/x", "/y", "/{x}"]),
                "every": st.integers(1, 3),
                "first": st.integers(3, 6),
            },
        ),
        "script": st.lists(step, min_size=1, max_size=3),
    },
    optional={"then": step},
)


class RulesAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rules = RuleSet(0, "p")
        self.models: dict[str, Model] = {}
        self.ordinal = 0

    @rule(documents=st.lists(simple_rules, min_size=1, max_size=3))
    def set_some(self, documents: list[dict[str, Any]]) -> None:
        ids = [document["id"] for document in documents]
        if len(set(ids)) < len(ids):
            with pytest.raises(ValidationFailed):
                put(self.rules, *documents)
            return
        assert put(self.rules, *documents) == ids
        self.models.update((document["id"], Model(document)) for document in documents)

    @rule(document=simple_rules, where=st.sampled_from(["match", "then"]))
    def set_nonsense(self, document: dict[str, Any], where: str) -> None:
        with pytest.raises(ValidationFailed):
            put(self.rules, document | {"id": "z"}, {**document, where: {"nonsense": 1}})

    @rule(rule_id=st.sampled_from(["a", "b", "c", "d"]))
    def remove(self, rule_id: str) -> None:
        assert self.rules.remove(rule_id) == (self.models.pop(rule_id, None) is not None)

    @rule(path=st.sampled_from(["/x", "/y", "/z", "/x/y"]))
    def arrive(self, path: str) -> None:
        self.ordinal += 1
        found = (model.status(path) for model in self.models.values())
        expected = next((status for status in found if status is not None), 0)
        assert statuses(self.rules, arrival(path=path, ordinal=self.ordinal)) == [expected]

    @invariant()
    def the_same_rules_in_the_same_order(self) -> None:
        assert [each.id for each in self.rules.rules] == list(self.models)


TestRulesAgainstModel = RulesAgainstModel.TestCase
TestRulesAgainstModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

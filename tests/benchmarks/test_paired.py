"""The arithmetic of the parts that measure variants beside each other; and one broken peer is not the end of a run."""

from statistics import median

import pytest

from benchmarks import client, goals, paired, report, simulation
from benchmarks.errors import BenchmarkError
from benchmarks.goals import judge
from benchmarks.paired import Beside
from benchmarks.results import Results
from benchmarks.spread import spread

ABOUT = {
    "date": "today", "processor": "any", "cores": 2, "system": "Linux", "load_before": 0, "load_after": 0,
    "pinning": "none", "versions": {},
}  # fmt: skip
OPTIONS = {"rounds": 15, "slice": 0.5, "seed": 1, "only": ["client"]}


def results(**parts: Beside) -> Results:
    return Results(ABOUT, OPTIONS, **parts)


def test_a_ratio_is_taken_in_each_round_and_over_each_ones_own_base() -> None:
    # The second round is ten times slower for everybody: the ratio of medians would be another one.
    beside = Beside(
        samples={"bare": [10.0, 100.0], "plain": [5.0, 50.0], "ours": [20.0, 200.0], "peer": [45.0, 450.0]},
        bases={"ours": "bare", "peer": "plain"},
    )
    ratio = beside.ratio("peer", "ours")
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == (4.0, 4.0, 4.0)
    over = beside.overhead("ours")
    assert over is not None
    assert over.median == median([10.0, 100.0])
    share = beside.share("ours", "peer")
    assert share is not None
    assert share.median == pytest.approx(100 * 10 / 45)


def test_a_base_is_measured_by_itself() -> None:
    beside = Beside(samples={"ours": [2.0], "peer": [6.0]})
    assert beside.overhead("ours") is None
    ratio = beside.ratio("peer", "ours")
    assert ratio is not None
    assert ratio.median == 3.0


def test_rounds_in_which_noise_ate_the_overhead_make_no_ratio() -> None:
    beside = Beside({"bare": [10.0, 10.0], "ours": [9.0, 12.0], "peer": [30.0, 30.0]}, {"ours": "bare", "peer": "bare"})
    ratio = beside.ratio("peer", "ours")
    assert ratio is not None
    assert ratio.median == 10.0


def test_what_is_missing_has_no_figures() -> None:
    beside = Beside({"bare": [1.0], "peer": [2.0]}, {"ours": "bare", "peer": "bare"}, {"ours": "not importable"})
    assert beside.cost("ours") is beside.overhead("ours") is beside.ratio("peer", "ours") is None
    assert beside.share("ours", "peer") is None


def test_halves_that_differ_are_told() -> None:
    assert spread([1.0, 1.0, 1.0, 1.0]).steady
    assert not spread([1.0, 1.0, 1.2, 1.2]).steady
    assert spread([1.0, 9.0]).steady  # too few to say


def test_a_peer_that_cannot_be_imported_or_does_not_work_is_left_out_with_its_reason() -> None:
    def absent() -> paired.Timed:
        raise ModuleNotFoundError("No module named 'peer'")

    def broken(_: int) -> int:
        raise AttributeError("module 'asyncio' has no attribute 'coroutine'")

    made, missing = paired.try_to_make([("absent", absent), ("broken", lambda: broken), ("good", lambda: lambda n: n)])
    assert list(made) == ["good"]
    assert missing == {
        "absent": "not importable: No module named 'peer'",
        "broken": "AttributeError: module 'asyncio' has no attribute 'coroutine'",
    }


def test_a_wrong_answer_ends_the_run() -> None:
    def wrong(_: int) -> int:
        raise BenchmarkError("a call returned the wrong thing")

    with pytest.raises(BenchmarkError):
        paired.try_to_make([("wrong", lambda: wrong)])


def test_every_variant_is_measured_in_every_round_with_its_own_number_of_calls() -> None:
    asked: list[int] = []

    def timed(calls: int) -> int:
        asked.append(calls)
        return calls * 1000

    samples = paired.measure({"a": timed, "b": timed}, rounds=3, slice_ns=5_000_000, seed=1)
    assert samples == {"a": [1000.0] * 3, "b": [1000.0] * 3}
    assert asked[-6:] == [5000] * 6


def test_the_report_has_a_row_for_each_variant_and_a_line_for_what_is_missing() -> None:
    beside = Beside(
        {client.BARE: [50.0], client.VALUE: [250.0], client.HYX: [4050.0]},
        {client.VALUE: client.BARE, client.HYX: client.BARE, "aiobreaker": client.BARE},
        {"aiobreaker": "not importable: No module named 'aiobreaker'"},
    )
    found = results(client=beside)
    text = report.tables(found)
    row = next(line for line in text.splitlines() if line.startswith(f"| {client.HYX}"))
    assert [cell.strip() for cell in row.split("|")[2:6]] == ["4050", "4000", "4000 to 4000", "20.00"]
    assert "Not measurable: aiobreaker: not importable: No module named 'aiobreaker'." in text
    verdict = next(each for each in judge(found) if each.goal.text.startswith("hyx"))
    assert (verdict.measured, verdict.word) == ("20.0x (20.0 to 20.0)", "met")


def test_a_goal_whose_part_did_not_run_is_not_measured() -> None:
    assert {verdict.word for verdict in judge(results())} == {"not measured"}
    assert len(judge(results())) == len(goals.GOALS)


@pytest.mark.filterwarnings("ignore")  # of the peers
def test_the_client_part_measures_ours_and_any_peer_that_is_there() -> None:
    found = client.measure(rounds=1, slice_ns=20_000, seed=1)
    for name in (client.BARE, client.OURS, client.VALUE, client.DEADLINE):
        assert found.samples[name], found.missing
    assert set(found.samples) | set(found.missing) == {client.BARE, client.BARE_PLAIN, *found.bases}


def test_the_simulation_part_sees_the_same_attempts_in_all_three_worlds() -> None:
    pytest.importorskip("trio")
    found = simulation.measure(rounds=1, seed=1)
    assert set(found.samples) == {simulation.OURS, simulation.ASYNCIO, simulation.TRIO}, found.missing

"""The goals of this part of the benchmarks, as a table, and whether a run met them.

Gates are ratios wherever a peer can be measured beside us in the same run: absolute figures move with the machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks import breakers, client, http_client, simulation
from benchmarks.results import Results
from benchmarks.spread import Ratio

Measurement = Callable[[Results], "Ratio | float | None"]


@dataclass(frozen=True)
class Goal:
    """One promise.

    Attributes:
        gate: the least, or with `at_most` the greatest, figure that keeps it.
        unit: how the figure is written behind the number.
    """

    text: str
    gate: float
    unit: str
    measurement: Measurement
    at_most: bool = False
    digits: int = 2

    @property
    def gate_text(self) -> str:
        """The gate as it stands in the table."""
        return f"{'<=' if self.at_most else '>='} {self.gate:g}{self.unit}"


@dataclass(frozen=True)
class Verdict:
    """What became of one goal. `word` is `met`, `not met`, `unsteady` or `not measured`."""

    goal: Goal
    measured: str
    word: str


def judge(results: Results) -> list[Verdict]:
    """Every goal's verdict."""
    return [_judge(goal, goal.measurement(results)) for goal in GOALS]


def _judge(goal: Goal, figure: "Ratio | float | None") -> Verdict:
    if figure is None:
        return Verdict(goal, "", "not measured")
    value = figure.median if isinstance(figure, Ratio) else figure
    measured = f"{value:.{goal.digits}f}{goal.unit}"
    if isinstance(figure, Ratio):
        measured += f" ({figure.low:.{goal.digits}f} to {figure.high:.{goal.digits}f})"
        if not figure.steady:
            return Verdict(goal, measured, "unsteady")
    met = value <= goal.gate if goal.at_most else value >= goal.gate
    return Verdict(goal, measured, "met" if met else "not met")


def _cpu(over: str, under: str, connections: int = 16) -> Measurement:
    return lambda results: results.ratio(over, under, connections)


def _ids(results: Results) -> float | None:
    return results.ids["uuid.uuid4()"] / results.ids["new_id()"] if results.ids else None


def _call_ns(name: str) -> Measurement:
    return lambda results: results.client.overhead(name)


def _call_ratio(over: str, under: str = client.VALUE) -> Measurement:
    return lambda results: results.client.ratio(over, under)


def _event_ratio(over: str) -> Measurement:
    return lambda results: results.simulation.ratio(over, simulation.OURS)


def _request_share(name: str) -> Measurement:
    return lambda results: results.http_client.share(name, http_client.GET)


def _registry_mb(results: Results) -> float | None:
    return results.breakers.get(breakers.SHIPPED)


def _generator_us(results: Results) -> float | None:
    figures = [
        each.generator_cpu_ns / each.requests / 1000
        for each in results.slices
        if each.case == "bare" and each.connections == 64
    ]
    return median(figures) if figures else None


GOALS = (
    Goal("/msg without key, share of the ceiling", 0.92, "", _cpu("bare", "msg"), digits=3),
    Goal("/msg, a new key each (insert and evict), share", 0.86, "", _cpu("bare-key", "msg-new-key"), digits=3),
    Goal("/msg, cached keys, share", 0.91, "", _cpu("bare-key", "msg-cached-key"), digits=3),
    Goal("/msg with our JSON access log, share", 0.80, "", _cpu("bare", "msg-logging"), digits=3),
    Goal("/msg with the journal on, share", 0.85, "", _cpu("bare", "msg-journal"), digits=3),
    Goal("100 rules on other routes, of the same without", 0.98, "", _cpu("msg", "msg-rules"), digits=3),
    Goal("no flags at all, of `--no-access-log`", 0.97, "", _cpu("msg", "msg-default"), digits=3),
    Goal("the original's stack, 16 connections", 40, "x", _cpu("original", "msg"), digits=1),
    Goal("the original's stack, 64 connections", 60, "x", _cpu("original", "msg", 64), digits=1),
    Goal("FastAPI without middleware, 16 connections", 5, "x", _cpu("fastapi", "msg")),
    Goal("Starlette, 16 connections", 2.2, "x", _cpu("starlette", "msg")),
    Goal("`new_id()` beside `uuid.uuid4()`", 5, "x", _ids),
    Goal("an idempotency entry, of a million", 385, " B", lambda r: r.entry_bytes, at_most=True, digits=0),
    Goal(
        "a resilient call, time limits left to the transport",
        300,
        " ns",
        _call_ns(client.VALUE),
        at_most=True,
        digits=0,
    ),
    Goal("a resilient call with a total deadline", 1000, " ns", _call_ns(client.DEADLINE), at_most=True, digits=0),
    Goal("hyx with three policies, of our call's cost", 12, "x", _call_ratio(client.HYX), digits=1),
    Goal("tenacity, of our call's cost", 70, "x", _call_ratio(client.TENACITY), digits=0),
    Goal("the original client's pipeline, of our call's cost", 200, "x", _call_ratio(client.ORIGINAL), digits=0),
    Goal("a resilient call, share of an httpx request", 0.1, " %", _request_share(client.OURS), at_most=True, digits=3),
    Goal("asyncio in virtual time, of a simulated event", 6, "x", _event_ratio(simulation.ASYNCIO), digits=1),
    Goal("trio with MockClock, of a simulated event", 20, "x", _event_ratio(simulation.TRIO), digits=1),
    Goal("a million breaker keys, 1 % unhealthy", 5, " MB", _registry_mb, at_most=True, digits=1),
    Goal("`import asgi_fault`", 20, " ms", lambda r: r.imports.get("asgi_fault"), at_most=True, digits=1),
    Goal("`import sansio_client`", 30, " ms", lambda r: r.imports.get("sansio_client"), at_most=True, digits=1),
    Goal("our load generator, a request, 64 connections", 15, " us", _generator_us, at_most=True, digits=1),
)

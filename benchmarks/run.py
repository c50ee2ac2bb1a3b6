"""The benchmarks of this project: `python benchmarks/run.py`, see benchmarks/README.md.

Exit status: 0 all is well; 1 a gate is not met or the run is invalid (never with --quick); 2 it could not be measured;
130 interrupted.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # `python benchmarks/run.py` puts this folder on the path; its parent is the one with the packages.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import (
    breakers,
    client,
    http_client,
    ids,
    imports,
    in_process,
    machine,
    memory,
    report,
    simulation,
    sockets,
)
from benchmarks.cases import CASES, SERVERS, Case
from benchmarks.errors import BenchmarkError
from benchmarks.goals import judge
from benchmarks.results import Results
from benchmarks.servers import Fleet, RunningServer, check_installed

PARTS = ("sockets", "in-process", "ids", "client", "http-client", "simulation", "imports", "memory")
RED, GREEN, PLAIN = "\033[31m", "\033[32m", "\033[0m"


@dataclass(frozen=True)
class Effort:
    """How long everything takes; the full one about three minutes, the quick one half of one."""

    rounds: int
    slice: float  # seconds
    connections: tuple[int, ...]
    call_rounds: int
    calls: int
    import_rounds: int
    entries: int
    paired_rounds: int
    paired_slice_ns: int
    simulations: int


FULL = Effort(15, 0.5, (16, 64), 15, 30_000, 15, 1_000_000, 61, 3_000_000, 21)
QUICK = Effort(4, 0.15, (16, 64), 5, 10_000, 5, 1_000_000, 11, 2_000_000, 4)


def parse(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, Effort]:
    """The command line, and the effort it asks for."""
    cases = [case.name for case in CASES]
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py",
        description="Measure asgi-fault, sansio_client and its adapters beside their peers, in one run.",
        epilog=f"Names: {', '.join(PARTS)}; or a case of the sockets part: {', '.join(cases)}.",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=(*PARTS, *cases), help="these parts or cases")
    parser.add_argument("--quick", action="store_true", help="a look in half a minute; proves nothing, gates nothing")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds of slices (default {FULL.rounds})")
    parser.add_argument("--slice", type=float, metavar="SECONDS", help=f"one slice (default {FULL.slice})")
    parser.add_argument("--connections", type=int, nargs="+", metavar="N", help="keep-alive connections (16 64)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the slices (default 1)")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured, slice by slice")
    options = parser.parse_args(arguments)
    if options.write and (options.only or options.quick):
        parser.error("--write wants a whole run: leave out --only and --quick")
    base = QUICK if options.quick else FULL
    effort = Effort(
        options.rounds or base.rounds,
        options.slice or base.slice,
        tuple(options.connections or base.connections),
        *(base.call_rounds, base.calls, base.import_rounds, base.entries),
        *(base.paired_rounds, base.paired_slice_ns, base.simulations),
    )
    if effort.rounds < 1 or effort.slice <= 0 or min(effort.connections) < 1:
        parser.error("--rounds, --slice and --connections have to be positive")
    return options, effort


def progress(text: str) -> None:
    """Say on standard error what is being measured; on a terminal the line is written over."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}" if text else "\r\033[K")
    elif text and not text.startswith("round"):
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def measure(parts: set[str], options: argparse.Namespace, effort: Effort) -> Results:
    """Run `parts`, the sockets last: the servers take the longest."""
    cases = chosen_cases(parts)
    servers = [server for server in SERVERS if any(case.server == server.name for case in cases)]
    if servers:
        check_installed(["uvicorn", *(package for server in servers for package in server.packages)])
    pinned = machine.cores()
    if pinned is not None:
        os.sched_setaffinity(0, {pinned[1]})
    where = "servers and generator share the cores" if pinned is None else "servers on one core, generator on another"
    about = {**machine.describe(), "load_before": machine.load_average(), "pinning": where}
    shown = {
        "rounds": effort.rounds,
        "slice": effort.slice,
        "seed": options.seed,
        "quick": options.quick,
        "only": options.only,
    }
    results = Results(about, shown)
    if "ids" in parts:
        progress("ids")
        results.ids = ids.measure(rounds=effort.call_rounds, calls=effort.calls)
    if "in-process" in parts:
        progress("in process")
        results.in_process = in_process.measure(rounds=effort.call_rounds, calls=effort.calls)
    measure_core(parts, results, effort, options.seed, pinned[0] if pinned else None)
    if "imports" in parts:
        progress("imports")
        results.imports = imports.measure(rounds=effort.import_rounds)
    if "memory" in parts:
        progress(f"memory: {effort.entries} entries")
        results.entry_bytes = memory.measure(effort.entries)
        progress(f"memory: {breakers.KEYS} keys")
        results.breakers = breakers.measure()
    if servers:
        progress("sockets: starting the servers")
        with Fleet(servers, pinned[0] if pinned else None) as running:
            results.slices = measure_sockets(running, cases, options.seed, effort)
    about["load_after"] = machine.load_average()
    progress("")
    return results


def measure_core(parts: set[str], results: Results, effort: Effort, seed: int, server_core: int | None) -> None:
    """The parts about the client core and its adapters."""
    paired = {"rounds": effort.paired_rounds, "slice_ns": effort.paired_slice_ns, "seed": seed}
    if "client" in parts:
        progress("client")
        results.client = client.measure(**paired)
    if "http-client" in parts:
        progress("http-client")
        results.http_client = http_client.measure(**paired, core=server_core)
    if "simulation" in parts:
        progress("simulation")
        results.simulation = simulation.measure(rounds=effort.simulations, seed=seed)


def chosen_cases(parts: set[str]) -> list[Case]:
    """The cases to measure: all with `sockets`, else the named ones with what they are compared with."""
    if "sockets" in parts:
        return list(CASES)
    named = [case for case in CASES if case.name in parts]
    wanted = {name for case in named for name in (case.name, case.ceiling, "msg", "bare")}
    return [case for case in CASES if case.name in wanted]


def measure_sockets(
    running: dict[str, RunningServer], cases: list[Case], seed: int, effort: Effort
) -> list[sockets.Slice]:
    """Measure `cases` on a uvloop of our own."""
    import uvloop  # a peer like the others: the other parts do without it

    plan = sockets.plan(cases, effort.connections)
    progress(f"sockets: {effort.rounds} rounds of {len(plan)} slices")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            sockets.measure(running, plan, rounds=effort.rounds, seconds=effort.slice, seed=seed, progress=progress)
        )


def coloured(text: str) -> str:
    """The report for a terminal that wants colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    for word, colour in (("not met", RED), ("unsteady", RED), ("INVALID", RED), ("met", GREEN)):
        for before in ("| ", "is "):
            text = text.replace(f"{before}{word} ", f"{before}{colour}{word}{PLAIN} ")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    options, effort = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # So that a kill stops the servers, too.
    try:
        results = measure(set(options.only or PARTS), options, effort)
        text = report.tables(results)
        print(coloured(text), end="")
        if options.json:
            options.json.write_text(json.dumps(results.as_dict(), indent=1) + "\n", encoding="utf-8")
        if options.write:
            report.write_readme(text)
    except BenchmarkError as error:
        progress("")
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        progress("")
        print("benchmarks: interrupted, the servers are stopped", file=sys.stderr)
        return 130
    missed = any(verdict.word in ("not met", "unsteady") for verdict in judge(results))
    return int(not options.quick and (missed or bool(report.doubts(results))))


if __name__ == "__main__":
    sys.exit(main())

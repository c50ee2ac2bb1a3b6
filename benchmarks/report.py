"""The results as Markdown tables: on the terminal, and between the markers of `benchmarks/README.md`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks import client, http_client, simulation
from benchmarks.cases import CASES
from benchmarks.errors import BenchmarkError
from benchmarks.goals import Verdict, judge
from benchmarks.paired import Beside
from benchmarks.results import Results
from benchmarks.sockets import Slice
from benchmarks.spread import HALVES_TOLERANCE, ROUNDS_WITH_HALVES, Ratio

README = Path(__file__).resolve().parent / "README.md"
BEGIN = "<!-- results: begin -->"
END = "<!-- results: end -->"


def tables(results: Results) -> str:
    """The whole report."""
    parts = [
        _heading(results),
        _goals([each for each in judge(results) if each.measured or not results.options["only"]]),
        *(_sockets(results, load) for load in sorted({each.connections for each in results.slices})),
        _figures("In process, without a socket", "ns a request", results.in_process),
        _figures("Ids", "ns an id", results.ids),
        _beside("A call that nothing happens to", "call", results.client, client.VALUE),
        _beside("A request through httpx", "request", results.http_client, http_client.OURS, http_client.GET),
        _beside("A simulated event", "event", results.simulation, simulation.OURS),
        _figures("Memory of the registry", "MB", results.breakers, digits=1),
        _figures("Imports", "ms", results.imports, digits=1),
        _validity(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def doubts(results: Results) -> list[str]:
    """Why the run must not be believed; empty when it may."""
    reasons = []
    if results.bad:
        reasons.append(f"{results.bad} bad answers")
    for load in sorted({each.connections for each in results.slices}):
        for case in CASES:
            share = results.ratio(case.ceiling, case.name, load)
            if share is not None and share.halves is not None and not share.steady:
                reasons.append(f"{case.name} at {load} connections: the halves differ by {share.halves:.1%}")
    return reasons


def write_readme(report: str) -> None:
    """Put `report` in the place of the last one."""
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchmarkError(f"README.md has no {BEGIN} and {END} any more: there is no place for the results")
    README.write_text(f"{before}{BEGIN}\n{report}{END}{after}", encoding="utf-8")


def _heading(results: Results) -> str:
    machine, options = results.machine, results.options
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['date']}; {machine['processor']}, {machine['cores']} cores, {machine['system']}; "
        f"load average {machine['load_before']} before, {machine['load_after']} after; {machine['pinning']}.\n"
        f"{versions}.\n"
        f"{options['rounds']} rounds, slices of {options['slice']:g} s, seed {options['seed']}."
    )


def _goals(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    rows = [(each.goal.text, each.goal.gate_text, each.measured, each.word) for each in verdicts]
    return "### Goals\n\n" + _table(("goal", "gate", "measured (quartiles)", "verdict"), rows)


def _sockets(results: Results, load: int) -> str:
    rows = []
    for case in CASES:
        slices = [each for each in results.slices if each.case == case.name and each.connections == load]
        if slices:
            share = results.ratio(case.ceiling, case.name, load)
            rows.append((case.title, *_medians(slices), *_share(share), str(sum(each.bad for each in slices))))
    names = ("case", "CPU us", "requests/s", "p50 ms", "p99 ms", "share of ceiling", "quartiles", "halves", "bad")
    return f"### Server CPU a request, {load} connections\n\n" + _table(names, rows)


def _medians(slices: Sequence[Slice]) -> tuple[str, str, str, str]:
    return (
        f"{median(each.cpu_us for each in slices):.1f}",
        f"{median(each.requests / each.seconds for each in slices):.0f}",
        f"{median(each.p50_ms for each in slices):.2f}",
        f"{median(each.p99_ms for each in slices):.2f}",
    )


def _share(share: Ratio | None) -> tuple[str, str, str]:
    if share is None:
        return "", "", ""
    halves = "" if share.halves is None else f"{share.halves:.1%}"
    return f"{share.median:.3f}", f"{share.low:.3f} to {share.high:.3f}", halves


def _figures(title: str, unit: str, figures: Mapping[str, float], digits: int = 0) -> str:
    if not figures:
        return ""
    rows = [(name, f"{value:.{digits}f}") for name, value in figures.items()]
    return f"### {title}\n\n" + _table(("", unit), rows)


def _beside(title: str, unit: str, found: Beside, ours: str, whole: str | None = None) -> str:
    """Variants by cost, over what each is measured over, as a multiple of ours; then what could not be measured."""
    rows = []
    for name in found.samples:
        cost, over, times = found.cost(name), found.overhead(name), found.ratio(name, ours)
        share = found.share(name, whole) if whole is not None and over is not None else None
        compared = found.bases.get(name) == found.bases.get(ours)
        row = (
            name,
            f"{cost.median:.0f}" if cost else "",
            *((f"{over.median:.0f}", f"{over.low:.0f} to {over.high:.0f}") if over else ("", "")),
            f"{times.median:.2f}" if times and compared else "",
            f"{share.median:.3f} %" if share else "",
        )
        rows.append(row if whole is not None else row[:-1])
    names = ("", f"ns a {unit}", "over the bare one", "quartiles", "of ours", f"share of {whole}")
    parts = [_table(names if whole is not None else names[:-1], rows)] if rows else []
    parts += [f"Not measurable: {name}: {why.splitlines()[0] if why else why}." for name, why in found.missing.items()]
    return f"### {title}\n\n" + "\n\n".join(parts) if parts else ""


def _validity(results: Results) -> str:
    if not results.slices:
        return ""
    reasons = doubts(results)
    if not reasons and results.options["rounds"] < ROUNDS_WITH_HALVES:
        return "No bad answer; too few rounds to say whether the run is valid."
    if not reasons:
        return f"The run is valid: no bad answer, and the halves of no case differ by more than {HALVES_TOLERANCE:.0%}."
    return "**The run is INVALID and has to be repeated on a quieter machine:** " + "; ".join(reasons) + "."


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (names, *rows)) for column in range(len(names))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(names), rule, *(line(row) for row in rows)])

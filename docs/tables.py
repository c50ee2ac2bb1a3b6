"""The tables of settings, statuses and failures in the pages, made from the code.

A setting's meaning is what the docstring of its class says under "Attributes" or "Args"; `MEANINGS` has it for classes
whose docstring describes all of them in one sentence.
"""

import inspect
import re
from dataclasses import MISSING, fields
from typing import Any

from marked import Makers, main

import sansio_client
from sansio_client import adaptive, outcome
from sansio_client.outcome import FAILURES, STATUSES, VERDICT_NAMES, Outcome, classify

EFFECT_NAMES = {
    outcome.BREAKER_OK: "success",
    outcome.BREAKER_FAIL: "failure",
    outcome.BREAKER_IGNORE: "nothing",
    outcome.BREAKER_SOFT: "failure in the rate",
}

MEANINGS = {
    "CountWindow": {
        "size": "results it holds, 1 to 4096",
        "idle_seconds": "seconds without a failed or slow result after which it is forgotten",
    },
    "TimeWindow": {
        "seconds": "length, 0.01 to 86 400",
        "buckets": "parts that expire one by one, 2 to 120",
    },
    "AwsQuota": {
        "capacity": "tokens when full",
        "retry_cost": "tokens for a retry after a failure, and for a hedge",
        "timeout_cost": "tokens for a retry after a timeout",
        "throttle_cost": "tokens for a retry after a 429",
        "success_gain": "tokens that the success of a first attempt brings",
    },
    "GrpcThrottle": {
        "max_tokens": "tokens when full, 1 to 1000; above half of them retries pass",
        "token_ratio": "tokens that a success brings; a failure takes one",
    },
    "RatioBudget": {
        "ratio": "retries per request, 0 to 1000",
        "window_seconds": "seconds that are looked back on, 1 to 60",
        "reserve_per_second": "retries a second on top of the ratio",
    },
    "ConcurrentShare": {
        "share": "share of the attempts under way that may be retries, 0 to 1",
        "minimum": "retries under way that are always allowed",
    },
    "RateLimit": {
        "rate_per_second": "attempts a second in the long run",
        "burst": "attempts at once after a pause",
    },
    "Aimd": {
        "initial_limit": "limit to begin with",
        "min_limit": "the least",
        "max_limit": "the most",
        "backoff_ratio": "factor at a drop, 0.5 to 0.999",
        "drop_above_seconds": "a success slower than this is a drop; `inf` for never",
    },
    "Vegas": {
        "initial_limit": "limit to begin with",
        "min_limit": "the least",
        "max_limit": "the most",
        "probe_multiplier": "successes per unit of the limit, at most, until the fastest round trip is measured anew",
    },
    "Gradient2": {
        "initial_limit": "limit to begin with",
        "min_limit": "the least",
        "max_limit": "the most",
        "smoothing": "weight of the newest step, above 0 to 1",
        "queue_size": "attempts that may queue at the target",
        "rtt_tolerance": "how many times the long-term average a round trip may take, 1 or more",
        "long_window": "samples of the long-term average",
    },
    "Windowed": {
        "algorithm": "what is fed with one sample a window",
        "window_seconds": "length of a window, 0.1 or more",
        "minimum_samples": "samples a window needs before it ends, 10 or more",
        "drop_share": "share of drops that makes a window a drop, above 0 to 1",
    },
}  # fmt: skip


def settings(name: str, *only: str) -> str:
    """The settings of a class: all, or those named, in the order of the code."""
    described = meanings(name)
    rows = [f"| `{name}` | default | |", "|---|---|---|"]
    for setting, default in defaults(name).items():
        if not only or setting in only:
            rows.append(f"| `{setting}` | {default} | {described[setting]} |")
    if only and len(rows) != 2 + len(only):
        raise SystemExit(f"{name} has no setting of this name: {', '.join(set(only) - set(defaults(name)))}")
    return "\n".join(rows)


def defaults(name: str) -> dict[str, str]:
    """The default of each setting, as it is shown."""
    kind = class_of(name)
    if name == "Core":
        parameters = list(inspect.signature(kind).parameters.values())
        return {each.name: shown(each.default, each.default is inspect.Parameter.empty) for each in parameters}
    return {each.name: shown(each.default, each.default is MISSING) for each in fields(kind) if each.init}


def class_of(name: str) -> type:
    """A class of the package, public or beside those."""
    found: type = getattr(sansio_client, name, None) or getattr(adaptive, name)
    return found


def shown(value: Any, missing: bool = False) -> str:  # noqa: FBT001, FBT002
    """A default as short as it can be said."""
    if missing:
        return "required"
    kind = type(value)
    if kind.__module__.startswith("sansio_client"):
        return f"`{kind.__name__}()`" if value == kind() else f"`{value!r}`"
    return f"`{value}`" if not isinstance(value, str) else f'`"{value}"`'


def meanings(name: str) -> dict[str, str]:
    """What each setting means, from the docstring where it says so."""
    said = in_docstring(inspect.getdoc(class_of(name)) or "")
    if said and name in MEANINGS:
        raise SystemExit(f"the docstring of {name} describes its settings, so its entry in MEANINGS is to be removed")
    return said or MEANINGS[name]


def in_docstring(text: str) -> dict[str, str]:
    """The entries of "Attributes" or "Args": a name, a colon, and lines that go on further to the right."""
    found: dict[str, str] = {}
    section = re.search(r"^(?:Attributes|Args):\n((?:    .*\n|\n)*)", text + "\n", re.MULTILINE)
    for entry in re.split(r"^    (?=\w)", section[1] if section else "", flags=re.MULTILINE)[1:]:
        name, _, meaning = entry.partition(":")
        words = " ".join(meaning.split()).rstrip(".")
        found[name] = words if words.startswith("None ") else words[0].lower() + words[1:]
    return found


def statuses() -> str:
    """What `classify` makes of each status that differs from its class, and of the classes."""
    rows = ["| status | verdict | in the breaker | |", "|---|---|---|---|"]
    for status in [200, *sorted([*STATUSES, *(each for each in (409, 413) if each not in STATUSES)])]:
        name = "100 to 399" if status == 200 else str(status)
        rows.append(row(name, classify(status), classify(status, {"Retry-After": "1"})))
    rows.append(row("other 4xx", classify(418), classify(418, {"Retry-After": "1"})))
    rows.append(row("any other", classify(599), classify(599, {"Retry-After": "1"})))
    return "\n".join(rows)


def failures() -> str:
    """What `classify_failure` makes of each kind."""
    rows = ["| kind | verdict | in the breaker | |", "|---|---|---|---|"]
    return "\n".join([*rows, *(row(f"`{kind}`", made, made) for kind, made in FAILURES.items())])


def row(name: str, made: Outcome, with_retry_after: Outcome) -> str:
    """A line of either table."""
    notes = ["provably not processed"] if made.unsent else []
    if made.verdict != with_retry_after.verdict:
        notes.append(f"{VERDICT_NAMES[with_retry_after.verdict]} with a Retry-After")
    cells = [name, VERDICT_NAMES[made.verdict], EFFECT_NAMES[made.effect], ", ".join(notes)]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


MAKERS: Makers = {"settings": settings, "statuses": statuses, "failures": failures}

if __name__ == "__main__":
    main(MAKERS)

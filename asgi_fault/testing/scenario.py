"""Scenarios: a fault script in a few readable words, `503x2-then-ok`.

    scenario := part ("-then-" part)*
    part     := what ["x" times] ["-retry-after-" seconds] ["-delay-" seconds]
    what     := 200..599 | ok | reset | close | silence | garbage | truncated

A part counts once, or as often as `x` says; the last part goes on for ever when it has no `x`. Behind a last part that
has one, and for `ok`, the server answers as it would without a scenario.

* `reset`, `close`: the connection ends so in place of an answer
* `silence`: no answer at all
* `garbage`: bytes that are no HTTP, then the end of the connection
* `truncated`: 200 and half of the 1000 bytes that were announced
"""

import re
from typing import Any

_PART = re.compile(
    r"(?P<what>[0-9]{3}|[a-z]+)(x(?P<times>[1-9][0-9]{0,3}))?"
    r"(?P<more>((-retry-after-[0-9]+)|(-delay-[0-9]+(\.[0-9]+)?))*)"
)
_WORDS: dict[str, dict[str, Any]] = {
    "reset": {"end": {"how": "reset", "at": "before-head"}},
    "close": {"end": {"how": "close", "at": "before-head"}},
    "silence": {"silence": True},
    "garbage": {"garbage": {"bytes": 64}},
    "truncated": {"status": 200, "body": {"bytes": 1000}, "truncate": {"share": 0.5}},
}
SCRIPT_MAX = 1000


def parse(scenario: str, ok: dict[str, Any]) -> dict[str, Any]:
    """The rule, but for its `match`, that `scenario` says; `ok` is the step of an undisturbed answer.

    Raises:
        ValueError: it says none; the text names the part and what could stand there.
    """
    script: list[dict[str, Any]] = []
    rule: dict[str, Any] = {}
    parts = scenario.split("-then-")
    for place, part in enumerate(parts):
        match = _PART.fullmatch(part)
        what = match["what"] if match else ""
        if match is None or not (what in _WORDS or what == "ok" or what.isdigit()):
            raise ValueError(
                f"{scenario!r} is no scenario: {part!r} should be a status, {', '.join(['ok', *_WORDS])}, and may have "
                "a number of times, -retry-after-SECONDS and -delay-SECONDS behind it: 503x2-retry-after-1-then-ok"
            )
        step: dict[str, Any] = (
            dict(ok) if what == "ok" else {"status": int(what)} if what.isdigit() else dict(_WORDS[what])
        )
        for name, seconds in re.findall(r"-(retry-after|delay)-([0-9.]+)", match["more"]):
            if name == "delay":
                step["delay_s"] = float(seconds)
            else:
                step["retry_after"] = int(seconds)
        is_last = place == len(parts) - 1
        if is_last and match["times"] is None:
            if part != "ok":
                rule["then"] = step
        else:
            script += [step] * int(match["times"] or 1)
    if len(script) > SCRIPT_MAX:
        raise ValueError(f"{scenario!r} has more than {SCRIPT_MAX} steps.")
    return {"script": script, **rule} if script else rule

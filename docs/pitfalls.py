"""The table of `pitfalls.md`: what goes wrong in the field, and the tests of ours that show it does not here.

The tests are found by their names: `test_p13_...`, and `test_p24_p49_...` for one that shows two.
"""

import re
from pathlib import Path

from marked import Makers, main

TESTS = Path(__file__).parent.parent / "tests"
TEST = re.compile(r"^ *(?:async )?def (test_((?:p\d+_)+)\w*)", re.MULTILINE)
SHOWN = 2  # tests named for each; `pytest -k` finds the others

PITFALLS = {
    1: "A half-open breaker lets every waiting call through at once.",
    2: "A probe that never reports leaves the breaker half-open for ever.",
    3: "An attempt from before the breaker opened reports late, and closes or opens it.",
    4: "A probe that was cancelled counts as a success and closes the breaker.",
    5: "Callers that give up count as failures of the peer.",
    6: "Failures that come in after the opening open it again, and announce it again.",
    7: "A lock held around the call lets one call through at a time.",
    8: "A decorator for functions put on a coroutine function sees every call succeed.",
    9: "A keyboard interrupt counts as a failure, or comes out as another exception.",
    10: "One exception object is raised again and again, and its traceback grows.",
    11: "Waits by the wall clock: the clock is set, and a call waits for hours, or tokens go below zero.",
    12: "A timer rings a few milliseconds early, and the retry comes before the Retry-After is over.",
    13: "The delay is clamped after the jitter: at the cap everybody waits the same.",
    14: "A budget's ratio is truncated to whole numbers: 60 % becomes 100 %.",
    15: "A budget that was drained never fills again.",
    16: "A retry's price is given back twice, or for the wrong attempt, or two take the last token.",
    17: "A hedge without budget makes the whole call fail.",
    18: "A maximum or a jitter shortens the Retry-After.",
    19: "Retry-After is ignored unless it is a plain integer.",
    20: "A body that was read once is sent again, empty.",
    21: "The answer breaks off in its body, and nobody retries, or half of it is taken for the whole.",
    22: "A POST is repeated by default.",
    23: "The default that is documented as retrying all errors retries none.",
    24: "A back-off object keeps state, so calls that run at the same time disturb each other.",
    25: "Off by one: the first delay is skipped, or attempts and retries are mixed up.",
    26: "Jitter takes a delay above its maximum.",
    27: "A call sleeps into a timeout that is certain, or sends after its deadline.",
    28: "A cancellation is swallowed, or retried like an error.",
    29: "A waiter gives up in the moment it is granted a slot, and the slot is lost.",
    30: "Timeouts of one length look like a steady peer, and the adaptive limit rises.",
    31: "A slot is given back twice.",
    32: "Waiters are served out of order, or a newcomer overtakes them.",
    33: "A wait in the queue outlasts the deadline, or waiters that gave up stay in memory.",
    34: "A call holds the probe's permit while it waits for a slot.",
    35: "Making the bulkhead smaller blocks, or its count goes below zero.",
    36: "The first answer of two hedged attempts wins even when it is an error.",
    37: "With no latency seen yet, every call is hedged at once.",
    38: "The attempt that lost is never cancelled, or its response never closed.",
    39: "Client-side throttling counts a request when it ends, so requests that hang count as none.",
    40: "A throttle or breaker that lets nothing through never sees the recovery.",
    41: "A listener called under the lock calls back, and deadlocks.",
    42: "Retries go around the breaker: one admission, many attempts.",
    43: "Layers of retries multiply.",
    44: "A refusal of this side counts as a failure of the peer, or is retried in a loop.",
    45: "The caller sees that the circuit is open, and not the 503 that opened it.",
    46: "At high attempt counts the delay overflows, or is negative.",
    47: "A sleep of one event loop is used in another.",
    48: "Every host ever seen keeps its breaker.",
    49: "An object that is shared by calls keeps something of one of them.",
    50: "Two failures out of two calls are a rate of 100 %; a window that saw no call all night still counts.",
}


def tests() -> dict[int, list[tuple[str, Path]]]:
    """The tests of each number with their files: the core's first, then in the order of files and lines."""
    found: dict[int, list[tuple[str, Path]]] = {}
    for file in sorted(TESTS.rglob("test_*.py"), key=lambda file: (file.parent.name != "sansio_client", file)):
        for test in TEST.finditer(file.read_text(encoding="utf-8")):
            for number in re.findall(r"\d+", test[2]):
                found.setdefault(int(number), []).append((test[1], file))
    return found


def pitfalls() -> str:
    """A line for each pitfall."""
    found = tests()
    rows = ["| | what goes wrong | shown by |", "|---|---|---|"]
    for number, what in PITFALLS.items():
        shown = [f"[`{name}`](../{file.relative_to(TESTS.parent).as_posix()})" for name, file in found.get(number, [])]
        rows.append(f"| {number} | {what} | {'<br>'.join(shown[:SHOWN])} |")
    return "\n".join(rows)


MAKERS: Makers = {"pitfalls": pitfalls}

if __name__ == "__main__":
    main(MAKERS)

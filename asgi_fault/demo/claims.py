"""What each chapter of `asgi-fault demo client` claims, held against the server's journal.

Claims are counts, orders and least durations: how long something took at most is the machine's, so it is shown and,
where it can be helped, not claimed.
"""

from asgi_fault.demo import evidence
from asgi_fault.demo.evidence import Claim, Entries, Evidence, Played, count, seconds_text
from asgi_fault.observe.timeline import outcome_text, strip

DEADLINE = 0.5  # seconds, of the chapter on deadlines
SLOW = 0.3  # seconds, of the slow answers of the chapter on hedging
RATE = 20  # a second, of the chapter on pace
JITTER_SEEN = 0.2  # seconds that twenty draws from 0 to 0.5 lie apart at least, but for one seed in a million


def judge_retry(played: Played) -> Evidence:
    """Each call got there, and they did not come back together."""
    found = evidence.calls(played.entries)
    recovered = sum(evidence.statuses(attempts) == [503, 503, 200] for attempts in found)
    waits = [attempts[1]["gap_s"] for attempts in found if len(attempts) > 1 and attempts[1]["gap_s"] is not None]
    spread = max(waits) - min(waits) if waits else 0.0
    span = max((entry["monotonic_s"] for entry in played.entries), default=played.began_at) - played.began_at
    lines = evidence.call_strips(played.entries)
    for number, which in ((1, "first"), (2, "second"), (3, "third")):
        instants = [entry["monotonic_s"] for entry in played.entries if entry["attempt"] == number]
        lines.append(f"{which + ' attempts':<16} {evidence.ticks(instants, played.began_at, span)}")
    lines.append(f"{'':<16} {evidence.axis(span)}")
    return Evidence(
        lines,
        [
            Claim("each of the 20 calls got 503, 503, 200", recovered == len(found) == 20, f"{recovered} did"),
            Claim(
                f"the first waits lie {JITTER_SEEN:g} s apart or more",
                spread >= JITTER_SEEN,
                f"they lie {seconds_text(spread)} apart",
            ),
        ],
    )


def judge_retry_after(played: Played) -> Evidence:
    """Never earlier than asked, and not at all where it was asked for too much."""
    soon, later = evidence.at(played.entries, "/soon"), evidence.at(played.entries, "/later")
    waits = evidence.gaps(soon)
    return Evidence(
        evidence.call_strips(played.entries),
        [
            Claim(
                "asked to wait 1 s, it came back after 1 s or more",
                len(soon) == 2 and len(waits) == 1 and waits[0] >= 1.0,
                f"waits: {', '.join(map(seconds_text, waits)) or 'none'}",
            ),
            Claim("asked to wait an hour, it did not come back", len(later) == 1, count(len(later), "arrival")),
        ],
    )


def judge_post(played: Played) -> Evidence:
    """Nothing that may have been taken was sent again, unless the server can tell."""
    without = [entry for entry in played.entries if "idempotency-key" not in entry["headers"]]
    keyed = [entry for entry in played.entries if "idempotency-key" in entry["headers"]]
    keys = [entry["headers"]["idempotency-key"] for entry in keyed]
    bodies = [entry["body"]["sha256"] for entry in keyed]
    lines = [f"without a key  {line}" for line in evidence.call_strips(without)]
    lines += [f"with a key     {line}" for line in evidence.call_strips(keyed)]
    lines += [f"               attempt {place}: Idempotency-Key: {key}" for place, key in enumerate(keys, 1)]
    return Evidence(
        lines,
        [
            Claim("without a key the order was sent once", len(without) == 1, f"{len(without)} times"),
            Claim(
                "with a key it was sent again, and the second was answered",
                evidence.statuses(keyed) == [0, 201],
                f"answers: {_listed(keyed)}",
            ),
            Claim(
                "both had the same key and the same body",
                len(keyed) == 2 and len(set(keys)) == len(set(bodies)) == 1,
                f"{count(len(set(keys)), 'key')}, {len(set(bodies))} different bodies",
            ),
        ],
    )


def judge_connection_lost(played: Played) -> Evidence:
    """A reset is a failed attempt."""
    entries = played.entries
    connections = {entry["connection"]["id"] for entry in entries if entry["connection"]}
    return Evidence(
        [*evidence.call_strips(entries), f"{count(len(connections), 'connection')}"],
        [
            Claim(
                "the first attempt was reset, the second was answered",
                [outcome_text(entry) for entry in entries] == ["x reset", "ok"],
                f"answers: {_listed(entries)}",
            ),
            Claim(
                "the second came on a new connection",
                len(entries) == len(connections) == 2,
                f"{count(len(entries), 'arrival')} on {count(len(connections), 'connection')}",
            ),
        ],
    )


def judge_truncated(played: Played) -> Evidence:
    """A body that breaks off is a failed attempt."""
    return Evidence(
        evidence.call_strips(played.entries),
        [
            Claim(
                "the half file was asked for again, and came whole",
                [outcome_text(entry) for entry in played.entries] == ["x 200 close", "ok"],
                f"answers: {_listed(played.entries)}",
            )
        ],
    )


def judge_deadline(played: Played) -> Evidence:
    """Nothing begins when the time is over, and nothing is left hanging."""
    entries = played.entries
    latest = entries[-1]["monotonic_s"] - entries[0]["monotonic_s"] if entries else 0.0
    left = bool(entries) and entries[-1]["done_monotonic_s"] is None
    return Evidence(
        [*evidence.call_strips(entries), f"the caller had its error after {seconds_text(played.seconds)}"],
        [
            Claim(
                f"no attempt began {DEADLINE:g} s after the first, or later",
                bool(entries) and latest < DEADLINE,
                f"the last began {seconds_text(latest)} after it",
            ),
            Claim("the attempt that hung was given up by the client", left, "it was answered, or there was none"),
        ],
    )


def judge_breaker(played: Played) -> Evidence:
    """Refuses in an outage, lets one probe, and closes."""
    outage, probe, after = (evidence.at(played.entries, path) for path in ("/outage", "/probe", "/after"))
    lines = [
        f"{path:<8} {made} calls, {count(len(entries), 'arrival'):<11} {evidence.stream_strip(entries)}"
        for path, made, entries in (("/outage", 20, outage), ("/probe", 50, probe))
    ]
    lines.append(f"/after   10 calls, {count(len(after), 'arrival'):<11}")
    return Evidence(
        lines,
        [
            Claim("5 of the 20 calls reached the server in the outage", len(outage) == 5, f"{len(outage)} did"),
            Claim("exactly 1 of 50 concurrent callers probed", len(probe) == 1, f"{len(probe)} did"),
            Claim(
                "after the probe's success all 10 calls went through",
                evidence.statuses(after) == [200] * 10,
                f"{len(after)} did",
            ),
        ],
    )


def judge_bulkhead(played: Played) -> Evidence:
    """So many at once, and the others in turn."""
    most = evidence.most_at_once(played.entries)
    return Evidence(
        evidence.lanes(played.entries),
        [
            Claim("never more than 2 requests were inside the server", most <= 2, f"{most} were"),
            Claim(
                "all 10 callers were served in the end",
                evidence.statuses(played.entries) == [200] * 10,
                f"answers: {_listed(played.entries)}",
            ),
        ],
    )


def judge_budget(played: Played) -> Evidence:
    """The load of an outage, with and without."""
    without, budgeted = (len(evidence.at(played.entries, path)) for path in ("/without", "/with"))
    lines = [
        f"{name:<15} 100 calls, {arrivals} arrivals: {arrivals / 100:.2f} times the load  {'#' * (arrivals // 20)}"
        for name, arrivals in (("without budget", without), ("with budget", budgeted))
    ]
    return Evidence(
        lines,
        [
            Claim("without a budget the outage is hit three times as hard", without == 300, f"{without} arrivals"),
            Claim("with it 10 retries were sent, and no more", budgeted == 110, f"{budgeted} arrivals"),
        ],
    )


def judge_hedging(played: Played) -> Evidence:
    """The slowest answers, with and without."""
    lines, p99s = [], []
    for path in ("/plain", "/hedged"):
        entries = evidence.at(played.entries, path)
        found = evidence.calls(entries)
        times = [seconds for attempts in found if (seconds := evidence.answered_after(attempts)) is not None]
        p50, p99 = (evidence.percentile(times, share) for share in (0.5, 0.99))
        p99s.append(p99)
        lines.append(
            f"{path:<8} p50 {seconds_text(p50):>6}   p99 {seconds_text(p99):>6}   "
            f"{count(len(found), 'call')}, {count(len(entries), 'arrival')}"
        )
        if path == "/hedged":
            lines += [f"a hedged call  {strip(list(one))}" for one in found if len(one) > 1][:1]
    plain, hedged = p99s
    return Evidence(
        lines,
        [
            Claim("without hedges the p99 is that of the slow answers", plain >= SLOW, seconds_text(plain)),
            Claim("with hedges it is less than that", 0 < hedged < SLOW, seconds_text(hedged)),
        ],
    )


def judge_rate_limit(played: Played) -> Evidence:
    """No request before its turn."""
    instants = [entry["monotonic_s"] for entry in played.entries]
    span = (instants[-1] if instants else played.began_at) - played.began_at
    early = [place for place, instant in enumerate(instants) if instant < played.began_at + place / RATE]
    refused = evidence.statuses(played.entries).count(429)
    return Evidence(
        [
            evidence.ticks(instants, played.began_at, span),
            evidence.axis(span),
            f"{count(len(instants), 'arrival')}, {refused} of them refused with 429",
        ],
        [
            Claim(f"no request came before its turn at {RATE} a second", not early, f"{len(early)} did"),
            Claim(
                "all 10 callers were served in the end",
                evidence.statuses(played.entries).count(200) == 10,
                f"answers: {_listed(played.entries)}",
            ),
        ],
    )


def judge_nested(played: Played) -> Evidence:
    """Attempts multiply, and do not."""
    nine, three = (evidence.at(played.entries, path) for path in ("/nine", "/three"))
    return Evidence(
        [*evidence.call_strips(nine), *evidence.call_strips(three)],
        [
            Claim("two layers that know nothing of each other sent 9", len(nine) == 9, f"{len(nine)} arrivals"),
            Claim("where the outer one repeats, the inner one sent once: 3", len(three) == 3, f"{len(three)} arrivals"),
        ],
    )


def _listed(entries: Entries) -> str:
    return ", ".join(map(outcome_text, entries)) or "none"

"""One-line faults of the core, each of which some test must notice: `python -m tests.mutate` tries them.

`(module, what is there, what is put in its place)`; what is there occurs exactly once. Many are bugs that libraries of
this field have had (the P in the comments is a row of the table of pitfalls), or that this core had. Faults that change
nothing anybody can see are not in the list: the copy of an instant that is not read again, a check made twice.
"""

# ruff: noqa: E501 - what is quoted is as long as it is

MUTANTS: tuple[tuple[str, str, str], ...] = (
    # The call: entering
    ("call", "min(self.deadline, now + self.policy.total_timeout)", "now + self.policy.total_timeout"),
    ("call", "started_at = min(started_at, now)  #", "started_at = max(started_at, now)  #"),
    (
        "call",
        'if now >= self.deadline:\n            return self._end_without("deadline", now)',
        "if False:\n            return 0",
    ),
    ("call", "limiter.reserve(now, self.deadline - now)", "limiter.reserve(now, inf)"),  # P27
    ("call", "self._permit_at, self._permit_of = now + seconds, limiter", "pass"),
    (
        "call",
        "if target.breaker_refuses(now):\n            return self._wait",
        "if False:\n            return self._wait",
    ),
    (
        "call",
        "            self.target.give_slot_back(now)\n            return self._wait_for_breaker(now)",
        "            return self._wait_for_breaker(now)",
    ),
    ("call", "hopeless = breaker.retry_at >= self.deadline", "hopeless = breaker.retry_at > self.deadline + 1"),
    ("call", "if self.last is None or not self.policy.retry_on_open or hopeless:", "if self.last is None or hopeless:"),
    ("call", "if self.last is None or not self.policy.retry_on_open", "if not self.policy.retry_on_open"),  # P44
    ("call", "target.throttle.sent(now)", "pass"),  # P39
    ("call", "        self._permit_of = None\n        self._waits_until = inf\n", "        self._waits_until = inf\n"),
    ("call", "if target.budget is not None and self.attempts == 1:", "if target.budget is not None:"),
    ("call", "timeout = settings.queue_timeout if settings is not None else inf", "timeout = inf"),  # P33
    # The call: what became of an attempt
    ("call", "decided = self.state != FINISHED and was == FLYING", "decided = self.state != FINISHED"),
    ("call", "if attempt.state == DONE:\n            return 0", "if False:\n            return 0"),  # P31
    ("call", "        if was != ABANDONED:\n            effect", "        if True:\n            effect"),
    ("call", "if decided else (BREAKER_IGNORE, CANCELLED)", "if True else (BREAKER_IGNORE, CANCELLED)"),  # P38
    ("call", "        target.give_slot_back(now)\n        return self._judge", "        return self._judge"),
    (
        "call",
        "if verdict == CANCELLED:\n            return self._finish(outcome",
        "if False:\n            return self._finish(outcome",
    ),  # P28
    (
        "call",
        "if self.state == COMMITTED:\n            return self._finish",
        "if False:\n            return self._finish",
    ),  # P21
    (
        "call",
        "if any(other.state == FLYING for other in self.flying):\n            #",
        "if False:\n            #",
    ),  # P36
    ("call", "self._hedge_at = inf if self._told_to_stop else max(now, self._not_before)", "self._hedge_at = now"),
    ("call", "at = max(now, self._not_before) + delay", "at = now + delay"),  # P18, P19
    (
        "call",
        "at = max(now, self._not_before) + delay",
        "at = max(now + delay, self._not_before)",
    ),  # a fleet in one instant
    ("call", "policy.backoff.delay(self._retries, ", "policy.backoff.delay(self.attempts, "),  # P25
    (
        "call",
        'if at >= self.deadline:\n            return self._finish(outcome, "deadline", now)',
        "if False:\n            return 0",
    ),  # P27
    ("call", "if not self._pay(outcome, now):", "if self._pay(outcome, now) is None:"),
    ("call", "        self._retries += 1\n", ""),
    ("call", "        self._previous_delay = delay\n", ""),
    ("call", "        self._waited += delay\n", ""),
    ("call", "if self.attempts >= self.max_attempts:", "if self.attempts > self.max_attempts:"),
    ("call", "if not (self.may_repeat or outcome.unsent):", "if not self.may_repeat:"),
    ("call", "if not (self.may_repeat or outcome.unsent):", "if False:"),  # P22
    ("call", 'if not self.replayable:\n            return "body"', 'if False:\n            return "body"'),  # P20
    ("call", "elif retry_after > self.policy.max_retry_after:", "elif False:"),  # P18
    ("call", "timed_out=verdict == TIMED_OUT", "timed_out=False"),
    ("call", "throttled=verdict == THROTTLED", "throttled=False"),
    ("call", "target.bulkhead.used + target.bulkhead.live", "target.bulkhead.used"),
    ("call", "cost = attempt.cost if attempt.payer is self.target.budget else 0", "cost = attempt.cost"),
    ("call", "elapsed = max(0.0, now - attempt.started_at)", "elapsed = now - attempt.started_at + 1.0"),
    # The short way written out in the call
    ("call", "if bulkhead.used < target.gate:", "if bulkhead.used <= target.gate:"),
    ("call", "attempt.generation == target.clean:", "target.clean:"),  # P3
    (
        "call",
        "outcome.verdict == OK and outcome.effect == BREAKER_OK and not attempt.cost",
        "outcome.verdict == OK and not attempt.cost",
    ),
    ("call", "if decided and unpaid_success and", "if unpaid_success and"),
    # The call: timers and hedges
    ("call", "if now < self.timer:\n            return 0", "if False:\n            return 0"),  # P12
    ("call", "attempt.state == FLYING and attempt.deadline <= now", "attempt.deadline <= now"),
    (
        "call",
        "self._abandon(attempt, now)\n                return CANCEL",
        "attempt.state = ABANDONED\n                return CANCEL",
    ),
    ("call", "            and self.attempts < self.max_attempts\n", ""),
    ("call", "            self.may_repeat\n            and self.replayable", "            self.replayable"),
    ("call", "if attempt.state == FLYING]) < parallel", "if attempt.state == FLYING]) <= parallel"),
    (
        "call",
        "or target.breaker_refuses(now):\n            return self._set_timer()",
        "or False:\n            return self._set_timer()",
    ),
    ("call", "return at if at > now else inf", "return at"),
    ("call", "if not (paced and self._pay(None, now)):", "if not paced:"),
    (
        "call",
        "target.limiter.cancel(now, due_at=now)\n            target.give_slot_back(now)",
        "target.limiter.cancel(now, due_at=now)",
    ),  # P17
    ("call", "        self._hedge_at = inf  # of an attempt that has ended", "        # of an attempt that has ended"),
    (
        "call",
        "elif attempt.state == LOST:\n                timer = self._now",
        "elif False:\n                timer = self._now",
    ),
    ("call", "                other.state = LOST\n", "                pass\n"),  # P38
    ("call", "            loser.state = LOSING\n", ""),
    ("call", "self.attempt.hedge = True", "pass"),
    (
        "call",
        "if target.throttle is not None and not target.throttle.admit(now, self._random()):\n            target.give",
        "if False:\n            target.give",
    ),
    # The call: waiting, giving up, the end
    ("call", "            self._ticket = None\n            self._waits_until = inf", "            self._ticket = None"),
    (
        "call",
        'return self._launch(now) if now < self.deadline else self._refuse_granted("deadline", now)',
        "return self._launch(now)",
    ),
    (
        "call",
        "elif self.state == GRANTED:\n            self.target.give_slot_back(now)",
        "elif self.state == GRANTED:\n            pass",
    ),  # P29
    (
        "call",
        "        elif self.state == PARKED:\n            self.target.unpark(self)\n        return self._finish",
        "        return self._finish",
    ),
    ("call", "        if state == PARKED:\n            self.target.unpark(self)\n", ""),
    ("call", "payer.refund(self._paid, now)", "pass"),  # P16
    ("call", "self._permit_of.cancel(now, due_at=self._permit_at)", "pass"),
    ("call", "self._permit_of.cancel(now, due_at=self._permit_at)", "target.limiter and target.limiter.cancel(now)"),
    ("call", "            self._permit_at -= back\n", ""),
    ("call", "        target.calls -= 1\n", ""),
    ("call", "target.offer_probe(now)  # it may have been woken for that", "pass"),
    (
        "call",
        "if self.last is not None:\n            return self._finish(self.last",
        "if False:\n            return self._finish(self.last",
    ),  # P45
    ("call", "            self.deadline -= back\n", ""),  # P11
    ("call", "            self._not_before -= back\n", ""),
    ("call", "                attempt.deadline -= back\n", ""),
    ("call", "                attempt.started_at -= back\n", ""),
    # The call: what the walk found
    (
        "call",
        "self.target.hedge_delay(hedge)\n\n    def _may",
        "self.target.hedge_delay(self.target.policy.hedge or hedge)\n\n    def _may",
    ),
    ("call", "self._told_to_stop = self._told_to_stop or", "self._told_to_stop = '' and"),
    ("call", "self._not_before = max(self._not_before, now + retry_after)", "self._not_before = now + retry_after"),
    ("call", "if self.state == COMMITTED and any(attempt.state == LOST for attempt in self.flying):", "if False:"),
    # The target
    ("target", "if generation == self.clean:", "if self.clean:"),  # P3
    (
        "target",
        "        self.give_slot_back(now)\n\n    def leave_unproved",
        "        self.refresh()\n\n    def leave_unproved",
    ),
    (
        "target",
        "self.breaker.record(generation, BREAKER_IGNORE, now)",
        "self.breaker.record(generation, BREAKER_OK, now)",
    ),  # P4
    (
        "target",
        "        if self.quiet:\n            self.tell_quiet(now)\n        breaker = self.breaker\n",
        "        breaker = self.breaker\n",
    ),
    ("target", "self.budget.failure(now)", "pass"),
    ("target", "self.budget.settle(cost, verdict == OK, now)", "self.budget.settle(0, verdict == OK, now)"),
    ("target", "if self.throttle is not None and effect == BREAKER_OK:", "if self.throttle is not None:"),
    ("target", "if self.latency is not None and effect == BREAKER_OK:", "if False:"),
    ("target", "dropped = verdict in (THROTTLED, TIMED_OUT)", "dropped = False"),  # P30
    ("target", "self.offer_probe(now)  # the permit is free again", "pass  # the permit is free again"),
    (
        "target",
        "            self._grant(waiter, now)\n        self.refresh()",
        "            pass\n        self.refresh()",
    ),
    (
        "target",
        "or breaker.state != HALF_OPEN or self.breaker_refuses(now):",
        "or self.breaker_refuses(now):\n            pass\n        if False:",
    ),
    ("target", "popitem(last=False)", "popitem(last=True)"),
    ("target", "self._era = before + 1\n", "pass\n"),
    ("target", "self.breaker.generation = self._era + 1", "self.breaker.generation = 1"),  # P3
    ("target", "            self._wake_all(now)\n            self.refresh()\n", "            self.refresh()\n"),
    ("target", "self.clean = 0 if bulkhead.live else self.generation", "self.clean = self.generation"),
    ("target", "self.budget.successes(count, now)", "pass"),
    ("target", "count, self.quiet = self.quiet, 0", "count = self.quiet"),
    (
        "call",
        "        if target.quiet:\n            target.tell_quiet(now)\n        self._payer",
        "        self._payer",
    ),
    ("target", "            or (self.budget is not None and self.budget.eager)\n", ""),
    ("target", "self.breaker.record_successes(count, now)", "pass"),
    ("target", 'self.bulkhead.lifo = settings is not None and settings.order == "lifo"', "pass"),
    # The breaker
    ("breaker", "return now >= self.retry_at", "return True"),
    ("breaker", "return self._probes_out < self.settings.probes", "return True"),  # P1
    ("breaker", "if self._probes_out and now >= self._probe_until:", "if False:"),  # P2
    (
        "breaker",
        "if generation != self.generation:\n            return False",
        "if False:\n            return False",
    ),  # P3
    ("breaker", "        if effect == BREAKER_IGNORE:\n            return\n", ""),  # P4
    (
        "breaker",
        "elif effect != BREAKER_IGNORE and self.state in (CLOSED, METRICS_ONLY):",
        "elif self.state in (CLOSED, METRICS_ONLY):",
    ),  # P5
    ("breaker", "            self._probes_out -= 1\n", "            pass\n"),
    ("breaker", "if effect != BREAKER_OK or self._is_slow(elapsed):", "if effect != BREAKER_OK:"),
    ("breaker", "if self._probes_ok >= self.settings.probe_successes:", "if True:"),
    ("breaker", "self._probe_until = now + self.settings.probe_life_seconds", "pass"),
    (
        "breaker",
        "        if effect == BREAKER_FAIL:\n            self.consecutive += 1",
        "        if True:\n            self.consecutive += 1",
    ),
    (
        "breaker",
        "        if effect == BREAKER_OK:\n            self.consecutive = 0\n",
        "        if effect == BREAKER_OK:\n",
    ),
    ("breaker", "        if self.state != CLOSED:\n            return\n", ""),
    (
        "breaker",
        "self.consecutive >= settings.consecutive_failures",
        "self.consecutive > settings.consecutive_failures",
    ),
    ("breaker", "window.total < settings.minimum_calls", "window.total <= settings.minimum_calls"),  # P50
    (
        "breaker",
        "window.failures + ROUNDING >= settings.failure_rate",
        "window.failures - ROUNDING >= settings.failure_rate",
    ),
    ("breaker", "            seconds *= settings.open_growth\n", ""),
    ("breaker", "seconds = min(seconds, settings.open_seconds_max)", "pass"),
    ("breaker", "(1.0 - settings.open_jitter * self._random())", "(1.0 + settings.open_jitter * self._random())"),
    ("breaker", "        self._forget()\n        self.openings = 0\n", "        self.openings = 0\n"),
    ("breaker", "        self._forget()\n        self.openings = 0\n", "        self._forget()\n"),
    ("breaker", "        self.state = state\n        self.generation += 1\n", "        self.state = state\n"),
    ("breaker", "            self.retry_at -= self._now - now\n", ""),  # P11
    ("breaker", "            self._probe_until -= self._now - now\n", ""),
    ("breaker", "self.retry_at = min(self.retry_at, now + settings.open_seconds_max)", "pass"),
    # The bulkhead
    (
        "bulkhead",
        "if self.used < self.limit:\n            self.used += 1\n            return True",
        "if self.used <= self.limit:\n            self.used += 1\n            return True",
    ),
    ("bulkhead", "if self.live >= self.queue_limit:", "if self.live > self.queue_limit:"),
    ("bulkhead", "if self.used > self.limit or not self.live:", "if not self.live:"),  # P35
    ("bulkhead", "        if ticket.waiter is None:\n            return\n", ""),
    (
        "bulkhead",
        "        ticket.waiter = None\n        self.live -= 1\n        if",
        "        ticket.waiter = None\n        if",
    ),
    (
        "bulkhead",
        "queue.pop() if self.lifo else queue.popleft()",
        "queue.popleft() if self.lifo else queue.pop()",
    ),  # P32
    ("bulkhead", "while self.live and self.used < self.limit:", "while False:"),
    ("bulkhead", "len(self._queue) > 2 * self.live + SWEEP_FROM", "False"),  # P33
    # The registry
    ("core", "            self._recent.append(key)\n", ""),  # P48
    ("core", "            troubled.append(key)\n", ""),
    ("core", "idle = not target.calls and not target.in_flight", "idle = True"),
    (
        "core",
        "if max_attempts is None else min(max_attempts, policy.max_attempts),\n            random=self.common.random,\n        )\n\n    def adopt",
        "if max_attempts is None else max_attempts,\n            random=self.common.random,\n        )\n\n    def adopt",
    ),
    # The parts
    (
        "backoff",
        "return u * _grown(self.base_seconds, self.multiplier, k, self.cap_seconds)",
        "return min(self.cap_seconds, 2 * u * self.base_seconds * self.multiplier**k)",
    ),
    (
        "backoff",
        "return (0.8 + 0.4 * u) * _grown(self.base_seconds, self.multiplier, k, self.cap_seconds)",
        "return min(self.cap_seconds, (0.8 + 0.4 * u) * _grown(self.base_seconds, self.multiplier, k, self.cap_seconds))",
    ),  # P13
    ("backoff", "3.0 * max(self.base_seconds, previous)", "3.0 * previous"),
    ("backoff", "return min(cap, base * power)", "return base * power"),  # P26
    ("backoff", "* self.base_seconds / 1.4 - waited", "* self.base_seconds / 1.4"),
    ("budget", "if cost > self._tokens:\n            return 0", "if cost > self._tokens + 1:\n            return 0"),
    ("budget", "self._put(cost or self._settings.success_gain)", "self._put(self._settings.success_gain)"),
    ("budget", "min(self._settings.capacity, self._tokens + count)", "self._tokens + count"),  # P16
    ("budget", "max(0, self._thousandths - 1000)", "self._thousandths - 1000"),
    (
        "budget",
        "return 1 if 2 * self._thousandths > self._most else 0",
        "return 1 if 2 * self._thousandths >= self._most else 0",
    ),
    ("budget", "if self._left() < 1:", "if self._left() < 0:"),
    ("budget", "        if self._active >= max(", "        if self._active > max("),
    (
        "windows",
        "self._failed = (self._failed << 1 | failed) & settings.ones",
        "self._failed = self._failed << 1 | failed",
    ),
    (
        "windows",
        "        if age < 0.0:\n            self._started_at = now\n",
        "        if age < 0.0:\n            pass\n",
    ),  # P11
    ("windows", "totals[kind] -= counts[at + kind]", "pass"),
    ("ratelimit", "elif wait > timeout_seconds:", "elif False:"),
    (
        "ratelimit",
        "        self._level = level\n        if elapsed > 0.0:\n            self._at = now\n        return wait",
        "        self._level = level\n        self._at = now\n        return wait",
    ),
    ("adaptive", "        if dropped or rtt_seconds > self._drop_above:", "        if dropped:"),
    ("adaptive", "elif limit < self._max and 2 * in_flight >= limit:", "elif limit < self._max:"),
    (
        "adaptive",
        "            return self._move(estimate * (1.0 - 0.5 * self._smoothing))",
        "            return self._move(estimate)",
    ),  # P30
    ("throttle", "return u >= self.drop_probability(now)", "return u > 1.0"),
    ("latency", "self.value = value + deviation * self._up", "self.value = value + deviation * self._down"),
    ("outcome", "429: (THROTTLED, BREAKER_SOFT)", "429: (THROTTLED, BREAKER_FAIL)"),
    ("outcome", "425: (TRANSIENT, BREAKER_OK)", "425: (TRANSIENT, BREAKER_FAIL)"),
    ("outcome", "unsent=status == 425", "unsent=False"),
    (
        "outcome",
        "CANCELLATION = Outcome(CANCELLED, BREAKER_IGNORE)",
        "CANCELLATION = Outcome(CANCELLED, BREAKER_OK)",
    ),  # P5
    ("outcome", "if 100 <= status < 400:", "if 100 <= status < 500:"),
    ("outcome", "            retry_after = -1.0\n", "            pass\n"),
    (
        "idempotency",
        '{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}',
        '{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST"}',
    ),  # P22
)

"""The decisions of a resilient HTTP client as state machines: no I/O, no clock, no event loop, no dependency.

Nothing here waits, sends or asks what time it is: `now` and randomness are arguments, decisions are return values.
"""

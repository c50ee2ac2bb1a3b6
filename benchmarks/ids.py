"""What an id costs: `observe.ids.new_id` beside `uuid.uuid4`."""

import uuid

from asgi_fault.observe.ids import new_id
from benchmarks.timing import nanoseconds


def measure(*, rounds: int, calls: int) -> dict[str, float]:
    """Nanoseconds per id, by way of making it."""
    return nanoseconds(
        {"new_id()": _new_id, "uuid.uuid4()": _uuid4, "str(uuid.uuid4()).encode()": _uuid4_text},
        rounds=rounds,
        calls=calls,
    )


def _new_id(calls: int) -> None:
    for _ in range(calls):
        new_id()


def _uuid4(calls: int) -> None:
    uuid4 = uuid.uuid4
    for _ in range(calls):
        uuid4()


def _uuid4_text(calls: int) -> None:
    uuid4 = uuid.uuid4
    for _ in range(calls):
        str(uuid4()).encode()

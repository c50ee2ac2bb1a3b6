"""Ids: real version 4 UUIDs, never the same twice, and not those of a parent process."""

import os
import uuid

import pytest

from asgi_fault.observe import ids


def test_ten_thousand_ids_are_version_4_and_different() -> None:
    made = [ids.new_id().decode() for _ in range(10_000)]
    assert len(set(made)) == 10_000
    for text in made:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)


def test_every_random_bit_is_random() -> None:
    numbers = [uuid.UUID(ids.new_id().decode()).int for _ in range(2000)]
    fixed = 0xF << 76 | 0x3 << 62  # version and variant
    for bit in range(128):
        share = sum(number >> bit & 1 for number in numbers) / len(numbers)
        if fixed >> bit & 1:
            assert share in (0.0, 1.0)
        else:
            assert 0.4 < share < 0.6, f"bit {bit}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_ids_of_its_own() -> None:
    ids.new_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"".join(ids.new_id() for _ in range(50)))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        theirs = pipe.read()
    assert len(theirs) == 50 * 36
    ours = {ids.new_id() for _ in range(300)}
    assert not ours & {theirs[start : start + 36] for start in range(0, len(theirs), 36)}

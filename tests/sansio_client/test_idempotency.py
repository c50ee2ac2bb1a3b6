"""Which requests may be sent twice, and keys that make it so."""

import random
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_client.errors import SettingError
from sansio_client.idempotency import IDEMPOTENT_METHODS, header_value, may_repeat, new_key

LAST_BELOW_ONE = 1 - 2**-53
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


def test_p22_a_post_without_a_key_may_not_be_repeated() -> None:
    for method in ("POST", "post", "PATCH", "CONNECT", "LOCK", "", "GETS", " GET"):
        assert not may_repeat(method)
        assert not may_repeat(method, idempotency_key=None)
        assert not may_repeat(method, idempotency_key="")
        assert may_repeat(method, idempotency_key="k")


def test_the_idempotent_methods_are_those_of_rfc_9110() -> None:
    assert sorted(IDEMPOTENT_METHODS) == ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"]
    for method in IDEMPOTENT_METHODS:
        assert may_repeat(method)
        assert may_repeat(method.lower())
        assert may_repeat(method.title(), idempotency_key="k")


def test_a_method_that_only_becomes_idempotent_in_upper_case_of_another_alphabet_is_not() -> None:
    method = "opt\u0131ons"  # a dotless i
    assert method.upper() == "OPTIONS"
    assert not may_repeat(method)


@given(st.text())
def test_no_method_raises(method: str) -> None:
    if may_repeat(method):
        assert method.lower() in {"get", "head", "options", "trace", "put", "delete"}


@given(st.lists(st.floats(0, LAST_BELOW_ONE), min_size=3, max_size=3))
def test_a_new_key_is_a_version_4_uuid_whatever_is_drawn(draws: list[float]) -> None:
    key = new_key(iter(draws).__next__)  # three draws, no more
    parsed = uuid.UUID(key)
    assert str(parsed) == key
    assert parsed.version == 4
    assert parsed.variant == uuid.RFC_4122


def test_the_extremes_of_random_keep_the_form() -> None:
    assert new_key(lambda: 0.0) == "00000000-0000-4000-8000-000000000000"
    assert new_key(lambda: LAST_BELOW_ONE) == "ffffffff-ffff-4fff-bfff-ffffffffffff"


def test_all_122_bits_of_a_key_are_drawn() -> None:
    draw = random.Random(7).random
    ones = zeros = 0
    for _ in range(200):
        bits = uuid.UUID(new_key(draw)).int
        ones |= bits
        zeros |= ~bits
    fixed = 0xF << 76 | 0b11 << 62  # version and variant
    assert ones & zeros & (2**128 - 1) == (2**128 - 1) & ~fixed


def test_keys_are_distinct_and_the_same_for_the_same_seed() -> None:
    draw, again = random.Random(1).random, random.Random(1).random
    keys = [new_key(draw) for _ in range(2000)]
    assert len(set(keys)) == 2000
    assert [new_key(again) for _ in range(2000)] == keys


def test_the_bits_of_the_draws_stand_in_the_key_in_order() -> None:
    # By hand: fed is the third group's; the fourth's are the first 14 bits of cba9, 0x32ea, on 0x8000.
    draws = iter([0x0123456789AB, 0xFEDCBA987654, 0x13579BDF0246])
    assert new_key(lambda: next(draws) / 2**48) == "01234567-89ab-4fed-b2ea-13579bdf0246"


def test_the_field_is_a_quoted_string_and_bare_on_request() -> None:
    key = "8e03978e-40d5-43e8-bc93-6894a57f9324"  # the draft's example
    assert header_value(key) == f'"{key}"'
    assert header_value(key, quoted=False) == key
    assert header_value('a"b\\c') == '"a\\"b\\\\c"'
    assert header_value('a"b\\c', quoted=False) == 'a"b\\c'


@given(visible)
def test_the_quoted_field_reads_back_as_the_key(key: str) -> None:
    value = header_value(key)
    assert re.fullmatch(r'"(?:[^"\\]|\\["\\])*"', value)
    assert re.sub(r"\\(.)", r"\1", value[1:-1]) == key


@pytest.mark.parametrize("key", ["", "a b", "a\n", "\x7f", "ä", "\u2028", "k" * 256, "k" * 100_000, "a\r\nX-Evil: 1"])
def test_a_key_that_is_no_field_value_is_refused_with_the_range(key: str) -> None:
    for quoted in (True, False):
        with pytest.raises(SettingError, match=r"idempotency_key is .*1 to 255 visible ASCII characters") as caught:
            header_value(key, quoted=quoted)
        assert isinstance(caught.value, ValueError)
        assert len(str(caught.value)) < 1000


def test_the_ends_of_the_range_are_in_it() -> None:
    for key in ("!", "~", "k" * 255):
        assert header_value(key, quoted=False) == key

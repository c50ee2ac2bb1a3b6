"""How settings are held against their ranges: one place, so every message names field, value and range alike."""

from math import inf
from typing import TypeGuard

from sansio_client.errors import SettingError


def check_seconds(field: str, value: object, low: float = 0.0, high: float = inf) -> None:
    """Raise `SettingError` unless `value` is a number of seconds in [low, high]; `inf` only where `high` is."""
    if not (_is_number(value) and low <= value <= high):
        raise SettingError(field, value, f"seconds, {_range(low, high)}")


def check_count(field: str, value: object, low: int = 0, high: float = inf) -> None:
    """Raise `SettingError` unless `value` is an integer in [low, high]."""
    if not (_is_number(value) and isinstance(value, int) and low <= value <= high):
        raise SettingError(field, value, f"an integer, {_range(low, high)}")


def check_number(field: str, value: object, low: float, high: float = inf) -> None:
    """Raise `SettingError` unless `value` is a finite number in [low, high]."""
    if not (_is_number(value) and low <= value <= high and value != inf):
        raise SettingError(field, value, f"a number, {_range(low, high)}")


def check_share(field: str, value: object, *, above_zero: bool = True) -> None:
    """Raise `SettingError` unless `value` is a share of one: in (0, 1], or in [0, 1]."""
    if not (_is_number(value) and 0 <= value <= 1 and (value > 0 or not above_zero)):
        raise SettingError(field, value, f"a share, {'above 0' if above_zero else 'from 0'} to 1")


def _is_number(value: object) -> TypeGuard[float]:
    """An int or a float; True is neither here. A NaN passes, and fails every comparison."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(low: float, high: float) -> str:
    return f"{low:g} to {high:g}" if high != inf else f"{low:g} or more"

"""Retry-After, its relatives in milliseconds, HTTP dates and the RateLimit fields, to seconds; nothing here raises.

Rules, in the order they are applied by `delay_from_headers`:

1. A value that is malformed is as if absent. At most `LONGEST_VALUE` characters of a value are read.
2. The wait is a floor, so of several valid values the longest counts: of a repeated `Retry-After` (also when a proxy or
   a mapping has joined the lines with commas), and of `Retry-After` beside the forms in milliseconds that clouds send.
3. No wait is longer than `LONGEST_DELAY`, so `now + delay` stays a usable instant; a date in the past is 0.
4. Only without any of these: the window of a `RateLimit` whose quota is used up, since "the Retry-After field MUST take
   precedence" (draft-ietf-httpapi-ratelimit-headers-11, section 7).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

Headers: TypeAlias = Iterable[tuple[str | bytes, str | bytes]] | Mapping[str, str]
"""Header fields as HTTP libraries hand them out: pairs in any letter case (bytes are Latin-1), or a mapping of text."""

LONGEST_VALUE = 1024
"""Characters of one field value that are looked at; a date has at most 33, a RateLimit list some hundreds."""

LONGEST_DELAY = 2147483648.0
"""Seconds (68 years) every longer wait is cut to: what RFC 9111 section 1.2.2 makes of a number too large to hold. It
is above any sensible `max_retry_after`, so the caller stops instead of waiting."""

IN_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after")
"""Stainless SDKs and Azure know the first, Cosmos DB sends the second, AWS the third (retry mode standard 2.1)."""

DELAY_FIELDS = ("retry-after", "date", "ratelimit", *IN_MILLISECONDS)
"""The names `delay_from_headers` looks for."""

_DAYS = frozenset({"mon", "tue", "wed", "thu", "fri", "sat", "sun"})
_LONG_DAYS = frozenset({"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"})
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_MONTH_DAYS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY_SECONDS = 86400
_YEAR_SECONDS = 31556952  # the mean Gregorian year, 365.2425 days
_END_OF_9999 = 253402300799.0  # the last second a four-digit year can name


class RateLimit(NamedTuple):
    """What is left of one quota (`"default";r=50;t=30`); a hint, never a promise (the draft's section 8.3).

    `reset_seconds` is None where the quota has no window. `partition` is the `pk` parameter as sent, still in base64;
    None without one.
    """

    name: str
    remaining: int
    reset_seconds: float | None
    partition: str | None


class RateLimitPolicy(NamedTuple):
    """A quota as the server defines it (`"default";q=100;w=10`); `unit` is "requests" unless the server says more."""

    name: str
    quota: int
    window_seconds: float | None
    unit: str
    partition: str | None


def delay_from_headers(headers: Headers, now_wall: float | None = None) -> float | None:
    """Seconds (0 or more) the peer asks to wait by the rules of this module, or None when it does not say.

    `now_wall` (Unix seconds) gives a date its meaning only when the response has no `Date` of its own.
    """
    found = fields_of(headers, DELAY_FIELDS)
    asked = asked_delay(found, now_wall)
    return quota_delay(found) if asked is None else asked


def fields_of(headers: Headers, names: Iterable[str]) -> dict[str, list[str]]:
    """The values of the fields called `names` (lower case), in order of arrival; those absent have no entry."""
    wanted = tuple(names)
    found: dict[str, list[str]] = {}
    pairs: Iterable[tuple[str | bytes, str | bytes]] = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        field = (name.decode("latin-1") if isinstance(name, bytes) else name).lower()
        if field in wanted:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            found.setdefault(field, []).append(text)
    return found


def asked_delay(found: Mapping[str, list[str]], now_wall: float | None = None) -> float | None:
    """The longest valid wait of `Retry-After` and its relatives among the fields `fields_of` has found, or None."""
    dates = found.get("date")
    date = dates[0] if dates else None
    longest: float | None = None
    for value in found.get("retry-after", ()):
        for member in _members(value[:LONGEST_VALUE]):
            longest = _longer(longest, parse_retry_after(member, date=date, now_wall=now_wall))
    for name in IN_MILLISECONDS:
        for value in found.get(name, ()):
            milliseconds = _decimal(value[:LONGEST_VALUE].strip(" \t"))
            longest = _longer(longest, None if milliseconds is None else milliseconds / 1000)
    return longest


def quota_delay(found: Mapping[str, list[str]]) -> float | None:
    """The longest window of a quota that is used up (`r=0;t=30`) in the `RateLimit` fields found, or None."""
    longest: float | None = None
    # Lines of a list are one list (RFC 9651 section 4.2).
    for limit in parse_rate_limit(", ".join(found.get("ratelimit", ()))):
        if limit.remaining == 0:
            longest = _longer(longest, limit.reset_seconds)
    return longest


def _longer(one: float | None, other: float | None) -> float | None:
    return one if other is None or (one is not None and one >= other) else other


def _members(text: str) -> list[str]:
    """Take joined lines apart: `5, Sun, 06 Nov 1994 08:49:37 GMT` has two members, a date's first comma is its own."""
    members = []
    day = ""
    for piece in text.split(","):
        name = piece.strip(" \t").lower()
        if name in _DAYS or name in _LONG_DAYS:
            day = piece + ","
        else:
            members.append(day + piece)
            day = ""
    return members


# --- Retry-After -----------------------------------------------------------------------------------------------------


def parse_retry_after(value: str, *, date: str | None = None, now_wall: float | None = None) -> float | None:
    """Seconds from 0 to `LONGEST_DELAY` of one `Retry-After` value, None when malformed (RFC 9110 section 10.2.3).

    Digits are seconds; signs, other alphabets' digits and units (`1m0s`) are malformed. A decimal fraction (`0.493`, as
    SpaceTraders sends) is malformed by the RFC and read all the same: it is no less clear, and ignored it would be
    followed by a retry that is too early.
    A date counts from `date`, the response's own `Date` field, which no clock skew touches; else from `now_wall` in
    Unix seconds; with neither it says nothing and the result is None.
    """
    text = value[:LONGEST_VALUE].strip(" \t")
    seconds = _decimal(text)
    if seconds is not None:
        return seconds
    reference = None if date is None else parse_http_date(date, now_wall=now_wall)
    if reference is None:
        reference = _instant(now_wall)
    if reference is None:
        return None
    at = parse_http_date(text, now_wall=reference)
    return None if at is None else min(max(0.0, at - reference), LONGEST_DELAY)


def _decimal(text: str) -> float | None:
    """`120` or `0.493` as a number of at most `LONGEST_DELAY`; None for anything else."""
    whole, point, fraction = text.partition(".")
    if not (_is_digits(whole) and (not point or _is_digits(fraction))):
        return None
    return min(float(text), LONGEST_DELAY)  # of too many digits `float` makes infinity, where `int` raises


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()  # str.isdigit alone accepts superscripts


# --- HTTP dates ------------------------------------------------------------------------------------------------------


def parse_http_date(text: str, *, now_wall: float | None = None) -> float | None:
    """Unix seconds of a date in one of the three forms of RFC 9110 section 5.6.7, or None when it is none of them.

    `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`. Robust as the section
    encourages: letter case, the number of spaces and leading zeros are free, the day's name may be the wrong one, UTC
    is GMT, second 60 is the next minute's first. Dates that do not exist are malformed.
    A year of two digits is the latest that is at most 50 (mean) years after `now_wall`, the rule of that section;
    without `now_wall` 69 to 99 are the years from 1969, as in POSIX `strptime`.
    """
    if len(text) > LONGEST_VALUE or not text.isascii():
        return None
    words = text.lower().replace(",", " ").replace("-", " ").split()
    if len(words) == 6 and words[5] in {"gmt", "utc"}:
        name, day, month, year, clock = words[:5]
    elif len(words) == 5:
        name, month, day, clock, year = words
    else:
        return None
    seconds = _clock_seconds(clock)
    number = _MONTHS.get(month)
    if number is None or seconds is None or (name not in _DAYS and name not in _LONG_DAYS):
        return None
    if not (_is_digits(day) and _is_digits(year) and len(day) <= 2 and len(year) in {2, 4}):
        return None
    if len(year) == 2:
        return _in_near_century(int(year), number, int(day), seconds, _instant(now_wall))
    return _unix(int(year), number, int(day), seconds)


def _in_near_century(two_digits: int, month: int, day: int, seconds: int, now_wall: float | None) -> float | None:
    """The Unix seconds of a date whose century is to be guessed."""
    if now_wall is None:
        return _unix(two_digits + (1900 if two_digits >= 69 else 2000), month, day, seconds)
    # One year more than asked for, as mean years begin hours away from the calendar's; the seconds below decide.
    last = 1970 + int(now_wall // _YEAR_SECONDS) + 51
    year = last - (last - two_digits) % 100
    if _days(year, month, day) * _DAY_SECONDS + seconds - now_wall > 50 * _YEAR_SECONDS:
        year -= 100
    return _unix(year, month, day, seconds)


def _clock_seconds(text: str) -> int | None:
    """Seconds since midnight of `08:49:37`."""
    parts = text.split(":")
    if len(parts) != 3 or not all(_is_digits(part) and len(part) <= 2 for part in parts):
        return None
    hour, minute, second = int(parts[0]), int(parts[1]), int(parts[2])
    return hour * 3600 + minute * 60 + second if hour < 24 and minute < 60 and second <= 60 else None


def _unix(year: int, month: int, day: int, seconds: int) -> float | None:
    """Unix seconds of a date and the seconds since its midnight; None for a day the calendar does not have."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    length = 29 if month == 2 and leap else _MONTH_DAYS[month]
    return float(_days(year, month, day) * _DAY_SECONDS + seconds) if year >= 1 and 1 <= day <= length else None


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar.

    The year is counted from March, so that the leap day is its last and (153 m + 2) / 5 days lie before its month m;
    719468 days lie between March 1 of year 0 and the Unix epoch (Hinnant, "chrono-Compatible Low-Level Date
    Algorithms").
    """
    march_year = year if month > 2 else year - 1
    march_month = (month + 9) % 12
    before = 365 * march_year + march_year // 4 - march_year // 100 + march_year // 400
    return before + (153 * march_month + 2) // 5 + day - 1 - 719468


def _instant(now_wall: float | None) -> float | None:
    """`now_wall` when it is a time from 1970 to 9999; None when unknown, infinite or not a number."""
    return now_wall if now_wall is not None and 0 <= now_wall <= _END_OF_9999 else None


# --- RateLimit, RateLimit-Policy -------------------------------------------------------------------------------------
#
# Both are lists of strings with parameters (RFC 9651 section 4.2.1). Unknown parameters are comments and may be of any
# type, so every bare item is parsed; an inner list cannot be a valid member here and so needs no parser.

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset("0123456789")
_LETTERS = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_KEY = _LOWER | _DIGITS | frozenset("_-.*")
_TOKEN = _LETTERS | _DIGITS | frozenset("!#$%&'*+-.^_`|~:/")
_BASE64 = _LETTERS | _DIGITS | frozenset("+/=")
_DISPLAY = _TOKEN | frozenset(" (),;<=>?@[\\]{}")  # what a display string is made of, its %-escapes unread

_Item: TypeAlias = tuple[str, str]  # the type's name and the text: "string", "integer", "decimal", "token", ...


class _MalformedError(Exception):
    """A structured field is not one; caught before it leaves the module."""


def parse_rate_limit(value: str) -> tuple[RateLimit, ...]:
    """The quotas of a `RateLimit` field, () when it is malformed as a whole or in any member (section 7: ignored).

    `r` is required and `t` optional, both integers of 0 or more (draft-ietf-httpapi-ratelimit-headers-11, section 4.1).
    """
    try:
        return tuple(
            RateLimit(name, _required(parameters, "r"), _seconds(parameters, "t", 0), _partition(parameters))
            for name, parameters in _string_list(value)
        )
    except _MalformedError:
        return ()


def parse_rate_limit_policy(value: str) -> tuple[RateLimitPolicy, ...]:
    """The quotas of a `RateLimit-Policy` field, () when it is malformed as a whole or in any member.

    `q` is required, 0 or more; `w` is 1 or more; `qu` is a string (section 3.1 of the same draft).
    """
    try:
        return tuple(
            RateLimitPolicy(
                name,
                _required(parameters, "q"),
                _seconds(parameters, "w", 1),
                _typed(parameters, "qu", "string") or "requests",
                _partition(parameters),
            )
            for name, parameters in _string_list(value)
        )
    except _MalformedError:
        return ()


def _typed(parameters: Mapping[str, _Item], key: str, kind: str) -> str | None:
    """The text of a parameter that must be of `kind` when it is there."""
    found = parameters.get(key)
    if found is None:
        return None
    if found[0] != kind:
        raise _MalformedError(key)
    return found[1]


def _required(parameters: Mapping[str, _Item], key: str) -> int:
    text = _typed(parameters, key, "integer")
    if text is None or int(text) < 0:
        raise _MalformedError(key)
    return int(text)


def _seconds(parameters: Mapping[str, _Item], key: str, low: int) -> float | None:
    text = _typed(parameters, key, "integer")
    if text is None:
        return None
    if int(text) < low:
        raise _MalformedError(key)
    return min(float(text), LONGEST_DELAY)


def _partition(parameters: Mapping[str, _Item]) -> str | None:
    return _typed(parameters, "pk", "bytes")


def _string_list(value: str) -> list[tuple[str, dict[str, _Item]]]:
    """The members of a list that holds only strings, with their parameters; `_MalformedError` for anything else."""
    if len(value) > LONGEST_VALUE:
        raise _MalformedError(value[:20])  # half a list would be another list
    text = value.strip(" ")
    members = []
    at = 0
    while at < len(text):
        (kind, name), at = _bare_item(text, at)
        if kind != "string":
            raise _MalformedError(kind)
        parameters, at = _parameters(text, at)
        members.append((name, parameters))
        at = _skip(text, at, " \t")
        if at == len(text):
            break
        if text[at] != ",":
            raise _MalformedError(text[at])
        at = _skip(text, at + 1, " \t")
        if at == len(text):
            raise _MalformedError(",")
    return members


def _parameters(text: str, at: int) -> tuple[dict[str, _Item], int]:
    parameters: dict[str, _Item] = {}
    while text[at : at + 1] == ";":
        start = _skip(text, at + 1, " ")
        at = _skip(text, start, _KEY)
        key = text[start:at]
        if not key or not (key[0] in _LOWER or key[0] == "*"):
            raise _MalformedError(key)
        item: _Item = ("boolean", "1")
        if text[at : at + 1] == "=":
            item, at = _bare_item(text, at + 1)
        parameters[key] = item  # the last of a repeated key counts
    return parameters, at


def _bare_item(text: str, at: int) -> tuple[_Item, int]:
    """One value and where it ends (RFC 9651 section 4.2.3.1)."""
    first = text[at : at + 1]
    if first == '"':
        return _string(text, at + 1)
    if first in _LETTERS or first == "*":
        end = _skip(text, at, _TOKEN)
        return ("token", text[at:end]), end
    if first in _DIGITS or first == "-":
        return _number(text, at)
    if first == ":":
        return _enclosed("bytes", text, at + 1, _BASE64, ":")
    if text[at : at + 2] == '%"':
        return _enclosed("display string", text, at + 2, _DISPLAY, '"')
    return _boolean_or_date(text, at)


def _enclosed(kind: str, text: str, start: int, characters: frozenset[str], close: str) -> tuple[_Item, int]:
    end = _skip(text, start, characters)
    if text[end : end + 1] != close:
        raise _MalformedError(kind)
    return (kind, text[start:end]), end + 1


def _boolean_or_date(text: str, at: int) -> tuple[_Item, int]:
    if text[at : at + 2] in {"?0", "?1"}:
        return ("boolean", text[at + 1]), at + 2
    if text[at : at + 1] == "@":
        (kind, number), end = _number(text, at + 1)
        if kind == "integer":
            return ("date", number), end
    raise _MalformedError(text[at : at + 1])


def _string(text: str, at: int) -> tuple[_Item, int]:
    """The rest of a string whose opening quote is read."""
    content: list[str] = []
    while at < len(text):
        character = text[at]
        if character == '"':
            return ("string", "".join(content)), at + 1
        if character == "\\":
            at += 1
            character = text[at : at + 1]
            if character not in {'"', "\\"}:
                raise _MalformedError(character)
        if not " " <= character <= "~":
            raise _MalformedError(character)
        content.append(character)
        at += 1
    raise _MalformedError('"')


def _number(text: str, at: int) -> tuple[_Item, int]:
    """An integer of at most 15 digits, or a decimal of 12 before and 3 after the point."""
    start = at
    if text[at : at + 1] == "-":
        at += 1
    end = _skip(text, at, _DIGITS)
    whole = end - at
    if text[end : end + 1] != ".":
        if not 1 <= whole <= 15:
            raise _MalformedError(text[start:end])
        return ("integer", text[start:end]), end
    last = _skip(text, end + 1, _DIGITS)
    if not 1 <= whole <= 12 or not 1 <= last - end - 1 <= 3:
        raise _MalformedError(text[start:last])
    return ("decimal", text[start:last]), last


def _skip(text: str, at: int, characters: str | frozenset[str]) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at

"""Retry-After, HTTP dates and the RateLimit fields: what they are worth in seconds, and that no text raises."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sansio_client.retry_after import (
    LONGEST_DELAY,
    LONGEST_VALUE,
    RateLimit,
    RateLimitPolicy,
    delay_from_headers,
    fields_of,
    parse_http_date,
    parse_rate_limit,
    parse_rate_limit_policy,
    parse_retry_after,
)

SEEN = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 section 5.6.7
IMF = "Sun, 06 Nov 1994 08:49:37 GMT"
RFC_850 = "Sunday, 06-Nov-94 08:49:37 GMT"
ASCTIME = "Sun Nov  6 08:49:37 1994"

whole_seconds = st.integers(0, 4133980799).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))  # 1970 to 2100
any_text = st.text() | st.binary().map(lambda raw: raw.decode("latin-1"))
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def unix(year: int, month: int, day: int) -> float:
    return datetime(year, month, day, tzinfo=UTC).timestamp()


def rfc_850(moment: datetime) -> str:
    """RFC 850's form, which the standard library does not write; strftime would ask the locale for names."""
    clock = f"{moment.hour:02}:{moment.minute:02}:{moment.second:02}"
    day, month = DAYS[moment.weekday()], MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02}-{month}-{moment.year % 100:02} {clock} GMT"


# --- Retry-After -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("007", 7.0),
        ("\t42 ", 42.0),  # optional whitespace around a field value belongs to no one
        ("1.0", 1.0),  # malformed by the letter, read: the wait is only a floor
        ("0.493", 0.493),
        ("0" * 100 + "5", 5.0),
        (IMF, 60.0),
        (RFC_850, 60.0),
        (ASCTIME, 60.0),
        (f" {IMF}\t", 60.0),
        ("Sun, 06 Nov 1994 08:48:37 GMT", 0.0),  # the very moment
        ("Sun, 06 Nov 1994 08:48:36 GMT", 0.0),  # past
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_DELAY),
        ("2147483647", 2147483647.0),
        ("2147483649", LONGEST_DELAY),
        ("99999999999", LONGEST_DELAY),
        ("9" * 401, LONGEST_DELAY),
        ("9" * 401 + ".5", LONGEST_DELAY),
        ("9" * 100_000, LONGEST_DELAY),  # int() would refuse it
        *(
            (malformed, None)
            for malformed in ("", " ", "-1", "+1", "²", "٣", "1m0s", "1,5", "1 2", "1e3", "0x10", "1_0")
        ),
        *(
            (malformed, None)
            for malformed in (".5", "5.", "1.5.0", "1.-5", ".", "soon", "inf", "nan", "5s", "\x0042", "5\n")
        ),
    ],
)
def test_p19_retry_after_is_read_in_every_form_and_ignored_in_every_other(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, date="Sun, 06 Nov 1994 08:48:37 GMT") == seconds


def test_p19_of_a_repeated_retry_after_the_longest_valid_one_counts() -> None:
    date = ("Date", "Sun, 06 Nov 1994 08:48:37 GMT")
    assert delay_from_headers([("Retry-After", "5"), ("retry-after", "7"), ("Retry-After", "6")]) == 7.0
    assert delay_from_headers([("Retry-After", "soon"), ("Retry-After", "6"), ("Retry-After", "-9")]) == 6.0
    assert delay_from_headers([("Retry-After", "5"), ("Retry-After", IMF), date]) == 60.0
    assert delay_from_headers([("Retry-After", "soon"), ("Retry-After", "-9")]) is None


@pytest.mark.parametrize(
    ("joined", "seconds"),
    [
        ("5, 7, 6", 7.0),
        ("5,soon", 5.0),
        (f"5, {IMF}", 60.0),
        (f"{IMF}, 90", 90.0),
        (f"{RFC_850} , 1", 60.0),
        (f"1,{ASCTIME}", 60.0),
        ("Sun, 5", None),  # a member that is no date
        (",", None),
        ("5,", 5.0),
        ("Sun,", None),
    ],
)
def test_a_retry_after_whose_lines_were_joined_is_taken_apart(joined: str, seconds: float | None) -> None:
    assert delay_from_headers({"Retry-After": joined, "Date": "Sun, 06 Nov 1994 08:48:37 GMT"}) == seconds


def test_a_date_counts_from_the_response_s_own_date_before_any_clock_of_this_side() -> None:
    assert parse_retry_after(IMF, date="Sun, 06 Nov 1994 08:49:27 GMT", now_wall=0.0) == 10.0
    assert parse_retry_after(IMF, now_wall=SEEN - 2.5) == 2.5
    assert parse_retry_after(IMF, date="yesterday", now_wall=SEEN - 2.5) == 2.5
    assert parse_retry_after(IMF, date="yesterday") is None
    assert parse_retry_after(IMF) is None
    assert parse_retry_after(IMF, now_wall=float("nan")) is None
    assert parse_retry_after(IMF, now_wall=float("inf")) is None
    assert parse_retry_after(IMF, now_wall=-1e300) is None


def test_the_forms_in_milliseconds_are_read_and_the_longest_of_all_counts() -> None:
    assert delay_from_headers([("retry-after-ms", "1500")]) == 1.5
    assert delay_from_headers([("X-MS-Retry-After-MS", "250")]) == 0.25
    assert delay_from_headers([("x-amz-retry-after", "1234.5")]) == 1.2345
    assert delay_from_headers([("Retry-After", "1"), ("retry-after-ms", "300")]) == 1.0
    assert delay_from_headers([("Retry-After", "1"), ("retry-after-ms", "1300")]) == 1.3
    assert delay_from_headers([("x-ms-retry-after-ms", "00:00:00.033"), ("retry-after-ms", "-5")]) is None
    assert delay_from_headers([("retry-after-ms", IMF), ("Date", IMF)]) is None
    assert delay_from_headers([("retry-after-ms", "\t9 ")]) == 0.009


def test_headers_are_pairs_of_bytes_or_text_in_any_case_or_a_mapping() -> None:
    date = "Sun, 06 Nov 1994 08:49:07 GMT"
    assert delay_from_headers([(b"RETRY-after", IMF.encode()), (b"Date", date.encode())]) == 30.0
    assert delay_from_headers({"Retry-After": IMF, "Date": date}) == 30.0
    mixed: list[tuple[str | bytes, str | bytes]] = [("retry-after", IMF), (b"dAtE", date)]
    assert delay_from_headers(iter(mixed)) == 30.0
    assert delay_from_headers({"Retry-After": IMF}, SEEN - 4) == 4.0
    assert delay_from_headers([(b"retry-after", b"\xb2")]) is None
    assert delay_from_headers([]) is None
    assert delay_from_headers({}) is None
    assert fields_of([("A", "1"), ("b", "2"), (b"a", b"\xff")], ("a", "c")) == {"a": ["1", "\xff"]}


# --- HTTP dates ------------------------------------------------------------------------------------------------------


@given(whole_seconds)
@example(datetime(2000, 2, 29, 23, 59, 59, tzinfo=UTC))
@example(datetime(2000, 3, 1, tzinfo=UTC))
@example(datetime(2100, 3, 1, tzinfo=UTC))
def test_dates_agree_with_the_standard_library(moment: datetime) -> None:
    written = format_datetime(moment, usegmt=True)
    assert parse_http_date(written) == parsedate_to_datetime(written).timestamp() == moment.timestamp()
    assert parse_http_date(time.asctime(moment.timetuple())) == moment.timestamp()


@given(whole_seconds, st.integers(-50 * 365 * 86400, 50 * 365 * 86400))
def test_a_year_of_two_digits_is_within_fifty_years_of_now(now: datetime, away: int) -> None:
    moment = now + timedelta(seconds=away)
    assert parse_http_date(rfc_850(moment), now_wall=now.timestamp()) == moment.timestamp()


def test_more_than_fifty_years_ahead_is_the_past_century() -> None:
    now = unix(2026, 11, 21)
    assert parse_http_date("Friday, 20-Nov-76 00:00:00 GMT", now_wall=now) == unix(2076, 11, 20)
    assert parse_http_date("Tuesday, 23-Nov-76 00:00:00 GMT", now_wall=now) == unix(1976, 11, 23)
    assert parse_http_date("Monday, 01-Jun-05 00:00:00 GMT", now_wall=unix(2099, 6, 1)) == unix(2105, 6, 1)
    assert parse_http_date("Saturday, 01-Jan-52 00:00:00 GMT", now_wall=unix(2102, 1, 1)) == unix(2152, 1, 1)
    assert parse_retry_after("Tuesday, 23-Nov-76 00:00:00 GMT", now_wall=now) == 0.0
    assert parse_retry_after(RFC_850, date=IMF) == 0.0
    ahead = parse_retry_after("Wednesday, 20-Nov-75 00:00:00 GMT", date="Sat, 21 Nov 2026 00:00:00 GMT")
    assert ahead == unix(2075, 11, 20) - now


def test_without_now_a_year_of_two_digits_is_posix_s() -> None:
    assert parse_http_date("Wednesday, 01-Jan-69 00:00:00 GMT") == unix(1969, 1, 1)
    assert parse_http_date("Sunday, 01-Jan-68 00:00:00 GMT") == unix(2068, 1, 1)
    assert parse_http_date(RFC_850) == SEEN


@pytest.mark.parametrize(
    "text",
    [
        "sun, 06 nov 1994 08:49:37 gmt",
        "SUN, 06 NOV 1994 08:49:37 UTC",
        "Sun,  6 Nov 1994  8:49:37 GMT",
        "Mon, 06 Nov 1994 08:49:37 GMT",  # it was a Sunday
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun Nov 06 08:49:37 1994",
    ],
)
def test_small_liberties_in_a_date_are_forgiven(text: str) -> None:
    assert parse_http_date(text) == SEEN


def test_a_leap_second_is_the_next_minute_s_first() -> None:
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == unix(2017, 1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 PST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 08:49:37:00 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08:49:037 GMT",
        "Sun, 06 Nov 1994 08:49:+7 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 006 Nov 1994 08:49:37 GMT",
        "Tue, 29 Feb 2100 00:00:00 GMT",
        "Wed, 29 Feb 2023 00:00:00 GMT",
        "Sun, 06 Brumaire 1994 08:49:37 GMT",
        "Sun, 06 11 1994 08:49:37 GMT",
        "Sol, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 194 08:49:37 GMT",
        "Sun, 06 Nov 19940 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 199² 08:49:37 GMT",
        "Sun, 0६ Nov 1994 08:49:37 GMT",
        "Sun,\xa006 Nov 1994 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37 GMT" + " " * LONGEST_VALUE,
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_http_date(text) is None
    assert parse_http_date(text, now_wall=SEEN) is None


# --- RateLimit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        # The examples of draft-ietf-httpapi-ratelimit-headers-11, section 4.2.
        ('"default";r=50;t=30', (RateLimit("default", 50, 30.0, None),)),
        ('"default";r=999;pk=:dHJpYWwxMjEzMjM=:', (RateLimit("default", 999, None, "dHJpYWwxMjEzMjM="),)),
        ('"default";r=300000000;t=60;pk=:QXBwLTk5OQ==:', (RateLimit("default", 300000000, 60.0, "QXBwLTk5OQ=="),)),
        ('"a";r=0;t=1,\t"b";r=2', (RateLimit("a", 0, 1.0, None), RateLimit("b", 2, None, None))),
        ('"a";r=0;t=0', (RateLimit("a", 0, 0.0, None),)),
        (' "a";r=1 ', (RateLimit("a", 1, None, None),)),
        ('"q\\"\\\\";r=1', (RateLimit('q"\\', 1, None, None),)),
        ('"a";r=1;r=2', (RateLimit("a", 2, None, None),)),
        ('"a";r=1;t=999999999999999', (RateLimit("a", 1, LONGEST_DELAY, None),)),
        # Other parameters are comments, of any type.
        ('"a"; r=1;*x_-.9;y=?0;z=-1.25;w=*t/:k;v="s";u=:Zg==:;s=@-5;p=%"%c3%bc (x)"', (RateLimit("a", 1, None, None),)),
        ("", ()),
        *(
            (malformed, ())
            for malformed in (
                '"a"',  # r is required
                '"a";r',
                '"a";r=-1',
                '"a";r=1.0',
                '"a";r="1"',
                '"a";r=1;t=-1',
                '"a";r=1;t=?1',
                '"a";r=1;pk="x"',
                '"a";r=1;pk=:x',
                '"a";r=1;pk=:x y:',
                "a;r=1",  # a token is not a string
                "1;r=1",
                '"a";r=1,',
                ',"a";r=1',
                '"a";r=1 "b";r=1',
                '"a";r=1x"b";r=1',
                '"a";r=1;-x=1',
                '"a";r=1, "b"',  # one bad member spoils the field
                '"a;r=1',
                '"a\\b";r=1',
                '"ä";r=1',
                '"a\n";r=1',
                '"a";\tr=1',
                '"a";R=1',
                '"a";r=1;=2',
                '"a";r=1;x=',
                '"a";r=1;x=?2',
                '"a";r=1;x=@1.5',
                '"a";r=1;x=%"',
                '"a";r=1;x=1.',
                '"a";r=1;x=1.2345',
                '"a";r=1;x=1234567890123.1',
                '"a";r=1;x=-',
                '"a";r=1234567890123456',
                '("a" "b");r=1',
                "limit=100, remaining=50, reset=50",  # draft 07's form
                '"a";r=1;x="' + "y" * LONGEST_VALUE + '"',
            )
        ),
    ],
)
def test_a_rate_limit_is_a_list_of_strings_with_r_or_ignored(value: str, limits: tuple[RateLimit, ...]) -> None:
    assert parse_rate_limit(value) == limits


def test_a_rate_limit_policy_names_quota_window_and_unit() -> None:
    assert parse_rate_limit_policy('"burst";q=100;w=60,"daily";q=1000;w=86400') == (
        RateLimitPolicy("burst", 100, 60.0, "requests", None),
        RateLimitPolicy("daily", 1000, 86400.0, "requests", None),
    )
    peruser = parse_rate_limit_policy('"peruser";q=65535;qu="content-bytes";w=10;pk=:sdfjLJUOUH==:')
    assert peruser == (RateLimitPolicy("peruser", 65535, 10.0, "content-bytes", "sdfjLJUOUH=="),)
    for malformed in ('"a";w=1', '"a";q=1;w=0', '"a";q=1;qu=token', '"a";q=-1', "a;q=1"):
        assert parse_rate_limit_policy(malformed) == ()


def test_retry_after_takes_precedence_over_a_used_up_rate_limit() -> None:
    used_up = ("RateLimit", '"a";r=0;t=30')
    assert delay_from_headers([used_up]) == 30.0
    assert delay_from_headers([used_up, ("Retry-After", "2")]) == 2.0
    assert delay_from_headers([used_up, ("Retry-After", "0")]) == 0.0
    assert delay_from_headers([used_up, ("retry-after-ms", "20")]) == 0.02
    assert delay_from_headers([used_up, ("Retry-After", "soon")]) == 30.0


def test_only_quotas_that_are_used_up_make_a_wait_and_the_longest_counts() -> None:
    assert delay_from_headers([("RateLimit", '"a";r=1;t=30')]) is None
    assert delay_from_headers([("RateLimit", '"a";r=0')]) is None
    assert delay_from_headers([("RateLimit", '"a";r=0;t=5, "b";r=1;t=99'), ("RateLimit", '"c";r=0;t=7')]) == 7.0
    assert delay_from_headers([("RateLimit", '"a";r=0;t=5'), ("RateLimit", "broken;")]) is None  # one list, malformed


# --- nothing raises --------------------------------------------------------------------------------------------------


@given(any_text, st.none() | any_text, st.none() | st.floats())
@example("9" * 5000, None, None)
@example("Sunday, 29-Feb-00 00:00:00 GMT", None, 0.0)
def test_no_text_raises_and_every_wait_is_finite(value: str, date: str | None, now_wall: float | None) -> None:
    for wait in (
        parse_retry_after(value, date=date, now_wall=now_wall),
        parse_retry_after(IMF, date=value, now_wall=now_wall),
        delay_from_headers(
            [(name, value) for name in ("Retry-After", "Date", "RateLimit", "retry-after-ms")], now_wall
        ),
        delay_from_headers({"Retry-After": value, "Date": date or ""}, now_wall),
    ):
        assert wait is None or 0 <= wait <= LONGEST_DELAY
    parse_http_date(value, now_wall=now_wall)
    for limit in parse_rate_limit(value):
        assert limit.remaining >= 0
    parse_rate_limit_policy(value)


structured = st.lists(
    st.sampled_from(
        [
            '"a"',
            ";r=1",
            ";t=2",
            ";pk=:Zg==:",
            ";q=1",
            ";w=9",
            ";x",
            '="',
            "\\",
            ",",
            " ",
            "\t",
            "?1",
            "@",
            '%"',
            ":",
            "-",
            "1.5",
        ]
    )
).map("".join)


@given(structured)
def test_no_almost_structured_field_raises(value: str) -> None:
    for limit in parse_rate_limit(value):
        assert limit.remaining >= 0
        assert limit.reset_seconds is None or 0 <= limit.reset_seconds <= LONGEST_DELAY
    parse_rate_limit_policy(value)


almost_dates = st.lists(
    st.sampled_from(
        ["Sun,", "Sunday,", "Sun", "06", "6", "31", "Feb", "-Feb-", "1994", "00", "08:49:37", "23:59:60", "GMT"]
    ),
    min_size=4,
    max_size=7,
).map(" ".join)


@given(almost_dates, st.none() | st.floats(0, 253402300799))
def test_no_almost_date_raises(text: str, now_wall: float | None) -> None:
    at = parse_http_date(text, now_wall=now_wall)
    assert at is None or abs(at) < 1e12

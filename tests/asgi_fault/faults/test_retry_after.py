"""HTTP-dates against the standard library's."""

import time
from email.utils import formatdate, parsedate_to_datetime

from hypothesis import given
from hypothesis import strategies as st

from asgi_fault.faults.retry_after import http_date

INSTANTS = st.integers(-62_135_596_800, 253_402_300_799)  # years 1 to 9999


@given(INSTANTS)
def test_imf_fixdate(instant: int) -> None:
    text = http_date(instant)
    if time.gmtime(instant).tm_year >= 1000:  # the library does not pad a year
        assert text == formatdate(instant, usegmt=True)
    if time.gmtime(instant).tm_year >= 100:  # and reads a short one as of this century
        assert parsedate_to_datetime(text).timestamp() == instant
    assert len(text) == 29


@given(INSTANTS)
def test_asctime(instant: int) -> None:
    expected = time.asctime(time.gmtime(instant))
    year = time.gmtime(instant).tm_year
    assert http_date(instant, "asctime") == f"{expected.rpartition(' ')[0]} {year:04}"


@given(INSTANTS)
def test_rfc_850(instant: int) -> None:
    at = time.gmtime(instant)
    date = f"{time.strftime('%A, %d-%b-', at)}{at.tm_year % 100:02}{time.strftime(' %H:%M:%S GMT', at)}"
    assert http_date(instant, "rfc850") == date


def test_the_examples_of_the_rfc() -> None:
    assert http_date(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(784_111_777, "rfc850") == "Sunday, 06-Nov-94 08:49:37 GMT"
    assert http_date(784_111_777, "asctime") == "Sun Nov  6 08:49:37 1994"
    assert http_date(951_782_400) == "Tue, 29 Feb 2000 00:00:00 GMT"

"""HTTP-dates in the three forms of RFC 9110 section 5.6.7, by arithmetic: no locale, no time zone, no `email`."""

from typing import Literal

Form = Literal["imf-fixdate", "rfc850", "asctime"]

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(unix_seconds: int, form: Form = "imf-fixdate") -> str:
    """The instant as an HTTP-date; recipients must read all forms, servers send only the first."""
    days, seconds = divmod(unix_seconds, 86_400)
    year, month, day = _civil(days)
    weekday = _DAYS[(days + 3) % 7]  # 1970-01-01 was a Thursday
    name = _MONTHS[month - 1]
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if form == "rfc850":
        return f"{weekday}, {day:02}-{name}-{year % 100:02} {clock} GMT"
    if form == "asctime":
        return f"{weekday[:3]} {name} {day:2} {clock} {year:04}"
    return f"{weekday[:3]}, {day:02} {name} {year:04} {clock} GMT"


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days since 1970-01-01.

    Counted in years that begin in March, so that a leap day comes last; 400 of them have 146 097 days.
    """
    days += 719_468  # from 0000-03-01
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * day_of_year + 2) // 153  # 0 is March
    day = day_of_year - (153 * march_month + 2) // 5 + 1
    month = march_month + 3 if march_month < 10 else march_month - 9
    return year_of_era + era * 400 + (month <= 2), month, day

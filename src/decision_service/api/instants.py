"""RFC 3339 instants to integer milliseconds UTC and back.

An offset is required. Fractions beyond a millisecond are cut off; a leap second counts as the first second of
the next minute. Nothing before 1970 or after 9999 is an instant here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

INSTANT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # fmt: skip
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def parse_instant(text: str) -> int:
    """`2026-11-21T03:12:09+08:00` -> ms UTC. Raises ValueError that says what is expected."""
    match = INSTANT.fullmatch(text)
    if match is None:
        raise ValueError("must be an instant with offset such as 2026-11-21T03:12:09+08:00")
    day, minute, second, fraction, offset = match.groups()
    leap = second == "60"
    try:
        whole = datetime.fromisoformat(
            f"{day}T{minute}:{'59' if leap else second}{'+00:00' if offset in 'Zz' else offset}"
        )
        ms = (whole - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        raise ValueError("is not an instant of the calendar") from None
    if ms < 0:
        raise ValueError("must not lie before 1970")
    return ms + (1_000 if leap else 0) + (int(fraction.ljust(3, "0")[:3]) if fraction else 0)


def format_instant(ms: int) -> str:
    """Milliseconds UTC as RFC 3339 with milliseconds and `Z`."""
    return (_EPOCH + ms * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")

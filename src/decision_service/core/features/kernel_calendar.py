"""Local dates: whether a day is in a calendar, and how many days ago something was.

A calendar stands in consecutive registers: first day covered, last day covered, then its days ascending, all as local
day numbers (days since 1970-01-01).
"""

from __future__ import annotations

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_function
from decision_service.core.limits import DAY_MS

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"


@kernel_function
def in_calendar(row, reg, start, count):
    """1 if the local date of the decision is one of the calendar's `count` days, null outside what it covers."""
    day = (row[q.T_MS] + row[q.UTC_OFFSET_MS]) // DAY_MS
    if day < reg[start] or day > reg[start + 1]:
        return np.nan
    low = start + 2
    high = low + count
    while low < high:
        middle = (low + high) >> 1
        if reg[middle] < day:
            low = middle + 1
        else:
            high = middle
    return 1.0 if low < start + 2 + count and reg[low] == day else 0.0


@kernel_function
def days_since(days, at, h):
    """Local days from position `at` to the request, which stands at `h`."""
    return float(days[h] - days[at])

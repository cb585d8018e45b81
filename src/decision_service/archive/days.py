"""Days: the UTC days of an archive's folders, as text (2026-11-22), as instants and as numbers since 1970-01-01."""

from __future__ import annotations

from datetime import date
from typing import Final

from decision_service.core.limits import DAY_MS

LATEST_MS: Final = 253_402_300_799_999  # of the last day there is, 9999-12-31
_EPOCH: Final = date(1970, 1, 1)


def number_of(day: str) -> int:
    """Days since 1970-01-01. ValueError for what is no day."""
    return (date.fromisoformat(day) - _EPOCH).days


def instant_of(day: str) -> int:
    """The first instant of a day, ms UTC. ValueError for what is no day."""
    return number_of(day) * DAY_MS


def day_numbered(number: int) -> str:
    """The day so many days after 1970-01-01."""
    return date.fromordinal(_EPOCH.toordinal() + number).isoformat()

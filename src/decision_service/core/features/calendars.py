"""Declared calendars: versioned lists of local dates, such as a country's public holidays.

    calendars:
      cn_public_holidays: {from: 2025-01-01, until: 2026-12-31, version: "...", days: [2025-01-01, 2025-01-28, ...]}

Outside `from` to `until` (both included) a calendar knows nothing, and what asks it is null: an old file never says
that next year has no holidays. Days are numbers since 1970-01-01, ascending.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Final

from decision_service.core.limits import CALENDAR_DAYS_MAX
from decision_service.core.source import Findings, MappingNode, Scalar, SequenceNode, nearest_name

_KEYS: Final = ("from", "until", "version", "days")
_EPOCH: Final = date(1970, 1, 1)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EXPECTED: Final = "a date such as 2026-10-01"


@dataclass(frozen=True, slots=True)
class Calendar:
    """One calendar; `first` and `last` are the first and the last day it covers."""

    name: str
    version: str
    first: int
    last: int
    days: tuple[int, ...]


def read_calendars(items: Iterable[tuple[Scalar, object]], findings: Findings) -> dict[str, Calendar]:
    """The calendars of all `calendars` sections by name; what is wrong is left out and reported."""
    calendars: dict[str, Calendar] = {}
    for key, node in items:
        if not isinstance(node, MappingNode):
            findings.error(key.place, f"calendar `{key.text}` is not a row", expected="{from, until, version, days}")
            continue
        if key.text in calendars:
            findings.error(key.place, f"calendar `{key.text}` is defined twice", length=len(key.text))
        calendar = _read(key, node, findings)
        if calendar is not None:
            calendars[key.text] = calendar
    return calendars


def _read(key: Scalar, node: MappingNode, findings: Findings) -> Calendar | None:
    for name, _ in node.items:
        if name.text not in _KEYS:
            findings.error(name.place, f"unknown key `{name.text}`", expected=", ".join(_KEYS),
                           nearest=nearest_name(name.text, _KEYS), length=len(name.text))  # fmt: skip
    missing = next((name for name in _KEYS if node.get(name) is None), None)
    if missing is not None:
        findings.error(key.place, f"calendar `{key.text}` has no `{missing}`", expected=f"{missing}: ...",
                       length=len(key.text))  # fmt: skip
        return None
    version, days = node.get("version"), node.get("days")
    first, last = (_day(node.get(end), findings) for end in ("from", "until"))
    if not isinstance(days, SequenceNode) or not isinstance(version, Scalar):
        findings.error(node.place, "`days` is a list of dates and `version` a text", expected="days: [2026-10-01]")
        return None
    numbers = [_day(item, findings) for item in days]
    known = tuple(day for day in numbers if day is not None)
    if first is None or last is None or len(known) < len(numbers):
        return None
    return _checked(Calendar(key.text, version.text, first, last, known), days, findings)


def _checked(calendar: Calendar, node: SequenceNode, findings: Findings) -> Calendar | None:
    if len(calendar.days) > CALENDAR_DAYS_MAX:
        findings.error(node.place, f"{len(calendar.days)} days, at most {CALENDAR_DAYS_MAX}")
        return None
    if any(a >= b for a, b in pairwise(calendar.days)):
        findings.error(node.place, "the days of a calendar ascend", expected="each day once, the earliest first")
        return None
    if calendar.days and not calendar.first <= calendar.days[0] <= calendar.days[-1] <= calendar.last:
        findings.error(node.place, "a day lies outside `from` to `until`")
        return None
    return calendar


def _day(node: object, findings: Findings) -> int | None:
    if not isinstance(node, Scalar):
        return None
    try:
        if _DATE.fullmatch(node.text):
            return (date.fromisoformat(node.text) - _EPOCH).days
        raise ValueError
    except ValueError:
        findings.error(node.place, f"`{node.text}` is no date", expected=_EXPECTED, length=len(node.text))
        return None

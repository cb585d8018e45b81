"""Durations as analysts type them: `10m`, `1h`, `24h`, `7d`, `48h`; `life` reaches back to the first event."""

from __future__ import annotations

import re
from typing import Final

from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

LIFE_MS: Final = 2**61  # longer than any history, small enough never to overflow t - W
EXPECTED: Final = "a duration such as 10m, 24h, 30d, or life"
_UNITS: Final = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_NOTHING: Final = re.compile(r"0(ms|s|m|h|d)")
_PATTERN: Final = re.compile(r"([1-9][0-9]{0,8})(ms|s|m|h|d)")


def duration_ms(text: str) -> int | None:
    """Milliseconds of a duration, or None if it is not one."""
    if text == "life":
        return LIFE_MS
    match = _PATTERN.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] if match else None


def delay_ms(text: str) -> int | None:
    """Milliseconds of a delay, which may be nothing and never a life; None if it is not one."""
    if _NOTHING.fullmatch(text):
        return 0
    return None if text == "life" else duration_ms(text)

"""A business time zone as two arrays, so that local hours and days cost a lookup and no library call.

`transitions_utc_ms[i]` is the first instant at which `offsets_ms[i]` holds; the first entry holds since ever. Built
once at load time from the system's tz database for the years 1990 to 2100; outside them the nearest offset is used.
Local time is `t + offset_at(t)`: an instant has exactly one local time, also in the repeated hour of autumn.
"""

from __future__ import annotations

import zoneinfo
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.compiled import kernel_function
from decision_service.core.errors import SettingInvalid
from decision_service.core.limits import DAY_MS

SINCE_EVER_MS: Final = -(2**62)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY: Final = (datetime(1990, 1, 1, tzinfo=UTC) - _EPOCH).days
_LAST_DAY: Final = (datetime(2101, 1, 1, tzinfo=UTC) - _EPOCH).days


@kernel_function  # type: ignore[untyped-decorator]
def place_of(transitions: npt.NDArray[np.int64], t_ms: int) -> int:
    """The transition that holds at a UTC instant; for the kernel."""
    low = 0
    high = transitions.shape[0]
    while high - low > 1:
        middle = (low + high) >> 1
        if transitions[middle] <= t_ms:
            low = middle
        else:
            high = middle
    return low


@kernel_function  # type: ignore[untyped-decorator]
def offset_of(transitions: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], t_ms: int) -> int:
    """Milliseconds to add to a UTC instant for local time; for the kernel."""
    return offsets[place_of(transitions, t_ms)]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Zone:
    """A named zone. Both arrays are int64, of equal length, and read-only."""

    name: str
    transitions_utc_ms: npt.NDArray[np.int64]
    offsets_ms: npt.NDArray[np.int64]
    _starts: list[int] = field(init=False, repr=False, compare=False)
    _offsets: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", self.transitions_utc_ms.tolist())
        object.__setattr__(self, "_offsets", self.offsets_ms.tolist())

    def offset_at(self, t_ms: int) -> int:
        """Milliseconds to add to `t_ms` (UTC) for local time."""
        return self._offsets[bisect_right(self._starts, t_ms) - 1]


def _offset_ms(info: zoneinfo.ZoneInfo, t_ms: int) -> int:
    offset = (_EPOCH + timedelta(milliseconds=t_ms)).astimezone(info).utcoffset()
    assert offset is not None
    return round(offset.total_seconds() * 1_000)


def _first_ms_with_other_offset(info: zoneinfo.ZoneInfo, low: int, high: int) -> int:
    """The transition in (low, high]: offsets at the two ends differ."""
    before = _offset_ms(info, low)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_ms(info, middle) == before:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=16)
def zone_named(name: str) -> Zone:
    """Build a zone from the tz database. Raises SettingInvalid for a name it does not know."""
    try:
        info = zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as problem:
        raise SettingInvalid(
            "DECISION_SERVICE_TIME_ZONE", f"unknown time zone {name!r}: an IANA name such as Asia/Shanghai"
        ) from problem
    transitions, offsets = [SINCE_EVER_MS], [_offset_ms(info, _FIRST_DAY * DAY_MS)]
    for day in range(_FIRST_DAY, _LAST_DAY):
        if _offset_ms(info, (day + 1) * DAY_MS) != offsets[-1]:
            at = _first_ms_with_other_offset(info, day * DAY_MS, (day + 1) * DAY_MS)
            transitions.append(at)
            offsets.append(_offset_ms(info, at))
    arrays = np.array(transitions, np.int64), np.array(offsets, np.int64)
    for array in arrays:
        array.setflags(write=False)
    return Zone(name, *arrays)

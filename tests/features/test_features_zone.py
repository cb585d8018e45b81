"""Local offsets are those of the tz database, at every transition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from decision_service.core.errors import SettingInvalid
from decision_service.core.zone import offset_of, zone_named

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.fault("D15")
@pytest.mark.parametrize("name", ["Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_offsets_agree_with_the_database(name: str) -> None:
    """One millisecond before, at and after every transition, and every 100 days between."""
    zone, info = zone_named(name), ZoneInfo(name)
    instants = [int(t) + d for t in zone.transitions_utc_ms[1:] for d in (-1, 0, 1)]
    instants += [631_152_000_000 + 100 * 86_400_000 * k for k in range(400)]
    for t in instants:
        expected = (EPOCH + timedelta(milliseconds=t)).astimezone(info).utcoffset()
        assert expected is not None
        assert zone.offset_at(t) == expected.total_seconds() * 1_000
        assert offset_of(zone.transitions_utc_ms, zone.offsets_ms, t) == zone.offset_at(t)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "Asia"])
def test_unknown_zones_are_refused(name: str) -> None:
    """A name the database does not know is a wrong setting."""
    with pytest.raises(SettingInvalid):
        zone_named(name)

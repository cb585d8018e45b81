"""What a log forgets, checked against a plain list of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_cases import record

from decision_service.core.event import EMPTY_LOG, TRIMMED_NOTHING, header, read_header, unpack
from decision_service.core.limits import EVENTS_PER_CUSTOMER_MAX, EVENTS_TRIM_SLACK, RETENTION_MS
from decision_service.core.retention import trim

NOW = 1_800_000_000_000


def log_of(ages_ms: list[int], base_seq: int = 0, trimmed_through_ms: int = TRIMMED_NOTHING) -> bytes:
    records = b"".join(record(n, NOW - age) for n, age in enumerate(ages_ms))
    return header(base_seq, trimmed_through_ms) + records


def numbers(log: bytes) -> list[int]:
    return [unpack(log[at : at + 64]).amount_minor for at in range(64, len(log), 64)]


def test_retention_leaves_a_young_short_log() -> None:
    """Nothing is trimmed while there is room and nothing is old."""
    assert trim(EMPTY_LOG, 1_000, NOW, RETENTION_MS, 4_096, 256) is None
    assert trim(log_of([RETENTION_MS] * 100), 1, NOW, RETENTION_MS, 101, 10) is None


@pytest.mark.fault("B19")
def test_retention_full_log_makes_room_for_many() -> None:
    """One record too many trims down to the slack, so that the next trim is far away."""
    log = log_of([5_000 - n for n in range(4_096)], 7)
    trimmed = trim(log, 1, NOW, RETENTION_MS, EVENTS_PER_CUSTOMER_MAX, EVENTS_TRIM_SLACK)
    assert trimmed is not None
    assert read_header(trimmed) == (7 + 257, NOW - 5_000 + 256)
    assert numbers(trimmed) == list(range(257, 4_096))
    assert len(trimmed) // 64 - 1 + 1 == EVENTS_PER_CUSTOMER_MAX - EVENTS_TRIM_SLACK


def test_retention_waits_until_ageing_is_worth_it() -> None:
    """Records past their age stay until an eighth of the log can go at once."""
    ages = [RETENTION_MS + 1] * 9 + [0] * 71
    assert trim(log_of(ages), 1, NOW, RETENTION_MS, 4_096, 256) is None
    trimmed = trim(log_of([RETENTION_MS + 1, *ages]), 1, NOW, RETENTION_MS, 4_096, 256)
    assert trimmed is not None
    assert read_header(trimmed) == (10, NOW - RETENTION_MS - 1)


def test_retention_forgets_a_log_that_is_all_old() -> None:
    """A log of nothing but old records becomes empty and remembers what it lost."""
    trimmed = trim(log_of([RETENTION_MS + 9, RETENTION_MS + 5], 3), 1, NOW, RETENTION_MS, 4_096, 256)
    assert trimmed == header(5, NOW - RETENTION_MS - 5)


@given(
    st.lists(st.integers(-10, 200), max_size=60),
    st.integers(0, 40),
    st.integers(1, 150),
    st.integers(1, 60),
    st.integers(0, 20),
    st.integers(0, 1_000),
)
def test_retention_only_cuts_the_front(
    ages: list[int], adding: int, retention: int, events_max: int, slack: int, base_seq: int
) -> None:
    """What remains is a suffix with its sequence numbers, it fits, and the mark covers everything cut."""
    log = log_of(ages, base_seq, NOW - 150)
    trimmed = trim(log, adding, NOW, retention, events_max, slack)
    kept = numbers(log if trimmed is None else trimmed)
    assert kept == list(range(len(ages) - len(kept), len(ages)))
    assert not kept or len(kept) + adding <= events_max
    if trimmed is not None:
        gone = ages[: len(ages) - len(kept)]
        assert gone
        assert read_header(trimmed) == (base_seq + len(gone), max(NOW - 150, NOW - min(gone)))
        assert len(ages) + adding > events_max or all(age > retention for age in gone)

"""What a log says about earlier changes, beside a brute-force reading of the same events."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcome_cases import unhurried

from decision_service.core.event import (
    APPROVED,
    BOOKED,
    EMPTY_LOG,
    FAILED,
    KINDS,
    LIMIT_CHANGE,
    STATUSES,
    TRIMMED_NOTHING,
    Event,
    code_key,
    facility_key,
    header,
    words_of,
)
from decision_service.core.facility import Facility
from decision_service.core.limits import AMOUNT_MINOR_MAX, DAY_MS
from decision_service.core.standing import LimitHistory, Standing, TierInForce

T_MS = 1_000 * DAY_MS
LINE = Facility("f-1", "c-1", "revolver", "CNY", 1_000_00, 200_00, 0, 1_800, "active", 0)
RATE_CHANGE, OTHER = KINDS["rate_change"], KINDS["other"]
YEAR_MS = 365 * DAY_MS


def standing(*events: Event, trimmed_through_ms: int = TRIMMED_NOTHING, t_ms: int = T_MS) -> Standing:
    """What a log of these events says about the line."""
    log = header(0, trimmed_through_ms) + b"".join(event.pack() for event in events)
    return Standing(words_of(log), LINE, t_ms)


def limit(at_ms: int, yuan: float, after_minor: int = 0, status: int = BOOKED, facility: str = "f-1") -> Event:
    """A change of the limit by so many yuan."""
    return Event(1, LIMIT_CHANGE, status, at_ms, after_minor, yuan, facility=facility_key(facility))


def tier(at_ms: int, rank: float, status: int = BOOKED) -> Event:
    """A warning tier asserted, or lowered by a person."""
    return Event(1, OTHER, status, at_ms, value=rank, code=code_key("warning_tier"))


# --- the definition, one event at a time ------------------------------------------------------------------------------


def those_that_stand(events: list[Event], kind: int) -> list[Event]:
    """Booked ones, and approved ones for which no later record that is not an approval says the same."""
    here = facility_key("f-1")
    nameless = [e for e in events if e.facility == 0 and e.status in (BOOKED, APPROVED)]
    ours = [e for e in events if e.kind == kind and (e.facility == here or e in nameless)]
    told = [False] * len(ours)
    for i, e in enumerate(ours):
        if e.status == APPROVED:
            continue
        for j in range(i - 1, -1, -1):  # it tells the newest approval before it that nobody told yet
            same = (ours[j].amount_minor, repr(ours[j].value)) == (e.amount_minor, repr(e.value))
            if ours[j].status == APPROVED and same and not told[j]:
                told[j] = True
                break
    return [e for e, t in zip(ours, told, strict=True) if e.status == BOOKED or (e.status == APPROVED and not t)]


def brute_force(events: list[Event], trimmed_ms: int) -> LimitHistory:
    """The limit history by its definition."""
    changes = those_that_stand(events, LIMIT_CHANGE)
    raises = [e for e in changes if not e.value <= 0]
    cuts = [e for e in changes if not e.value > 0]
    recent = [e for e in raises if e.occurred_at_ms > T_MS - YEAR_MS]
    raised: int | None = sum(round(e.value * 100) for e in recent if e.value * 100 <= AMOUNT_MINOR_MAX)
    before = LINE.limit_minor
    if trimmed_ms > T_MS - YEAR_MS or any(not e.value * 100 <= AMOUNT_MINOR_MAX for e in recent):
        raised = None
    elif recent:
        first = min(recent, key=lambda e: e.occurred_at_ms)
        assert raised is not None
        before = first.amount_minor - round(first.value * 100) if first.amount_minor else LINE.limit_minor - raised
    return LimitHistory(
        max([trimmed_ms, *(e.occurred_at_ms for e in raises)]),
        max([trimmed_ms, *(e.occurred_at_ms for e in cuts)]),
        raised,
        max(0, before),
    )


INSTANTS = st.sampled_from(
    [T_MS, T_MS - 1, T_MS + DAY_MS, T_MS - YEAR_MS, T_MS - YEAR_MS + 1, T_MS - DAY_MS, T_MS - 400 * DAY_MS]
)
CHANGES = st.builds(
    Event,
    st.just(1),
    st.sampled_from([LIMIT_CHANGE, LIMIT_CHANGE, RATE_CHANGE, OTHER]),
    st.sampled_from(sorted(STATUSES.values())),
    INSTANTS,
    st.sampled_from([0, 1_200_00, 1_500_00]),
    st.sampled_from([200.0, 300.01, -100.0, 0.0, math.nan, 1.0, 2.0, 5.0, math.inf, 1e300]),
    facility=st.sampled_from([facility_key("f-1"), facility_key("f-1"), facility_key("f-2"), 0]),
    code=st.sampled_from([code_key("warning_tier"), 0]),
)
TRIMMED = st.sampled_from([TRIMMED_NOTHING, T_MS - 500 * DAY_MS, T_MS - YEAR_MS, T_MS - 10 * DAY_MS])


@unhurried
@given(st.lists(CHANGES, max_size=12), TRIMMED)
def test_the_history_of_a_line_is_what_its_records_say_one_by_one(events: list[Event], trimmed_ms: int) -> None:
    """Raises, cuts, the year's raises and the last change of the price agree with the definition."""
    read = standing(*events, trimmed_through_ms=trimmed_ms)
    assert read.limit_history() == brute_force(events, trimmed_ms)
    rates = [e.occurred_at_ms for e in those_that_stand(events, RATE_CHANGE)]
    assert read.last_price_change_ms() == max([trimmed_ms, *rates])


@unhurried
@given(st.lists(CHANGES, max_size=12))
def test_the_tier_in_force_is_the_newest_recorded(events: list[Event]) -> None:
    """By instant, then in recorded order; only whole ranks up to red that happened and are not ahead of the instant."""
    force = TierInForce()
    for e in events:
        is_rank = e.value in (0.0, 1.0, 2.0, 3.0, 4.0) and e.code == code_key("warning_tier") and e.kind == OTHER
        if is_rank and e.status in (APPROVED, BOOKED) and force.asserted_ms <= e.occurred_at_ms <= T_MS:
            force = TierInForce(int(e.value), e.occurred_at_ms)
    assert standing(*events).tier() == force


# --- by example -------------------------------------------------------------------------------------------------------


def test_an_empty_log_tells_of_no_change() -> None:
    """Everything was long ago, nothing was raised, no tier is in force."""
    read = Standing(words_of(EMPTY_LOG), LINE, T_MS)
    assert read.limit_history() == LimitHistory(TRIMMED_NOTHING, TRIMMED_NOTHING, 0, 1_000_00)
    assert (read.last_price_change_ms(), read.tier()) == (TRIMMED_NOTHING, TierInForce())


def test_a_raise_that_both_sides_recorded_counts_once() -> None:
    """What this service approved and core banking booked with the same limit and change is one raise."""
    ours, theirs = limit(T_MS - 9, 200, 1_200_00, APPROVED), limit(T_MS - 5, 200, 1_200_00)
    history = standing(ours, theirs).limit_history()
    assert (history.raised_minor, history.limit_before_minor, history.last_raise_ms) == (200_00, 1_000_00, T_MS - 5)
    assert standing(ours, replace(theirs, amount_minor=1_400_00)).limit_history().raised_minor == 400_00


def test_a_raise_that_core_banking_could_not_book_is_none() -> None:
    """A record of it that failed takes back what this service had approved."""
    history = standing(limit(T_MS - 9, 200, 1_200_00, APPROVED), limit(T_MS - 5, 200, 1_200_00, FAILED)).limit_history()
    assert history == LimitHistory(TRIMMED_NOTHING, TRIMMED_NOTHING, 0, 1_000_00)


@pytest.mark.parametrize(("yuan", "raised", "cut"), [(200, True, False), (-200, False, True), (math.nan, True, True)])
def test_the_sign_of_a_change_is_its_direction_and_unknown_is_both(yuan: float, raised: bool, cut: bool) -> None:
    """Unknown is never the lenient one of two."""
    history = standing(limit(T_MS - 5, yuan)).limit_history()
    assert (history.last_raise_ms == T_MS - 5, history.last_cut_ms == T_MS - 5) == (raised, cut)


def test_a_freeze_counts_as_a_cut() -> None:
    """It is recorded as a change of nothing."""
    assert standing(limit(T_MS - 5, 0, 1_000_00, APPROVED)).limit_history().last_cut_ms == T_MS - 5


def test_a_raise_that_names_no_facility_may_have_been_on_this_one() -> None:
    """It counts for every line of the customer; what failed on a line that is not named takes nothing back."""
    nameless = replace(limit(T_MS - 5, 200, 1_200_00), facility=0)
    assert standing(nameless).limit_history().last_raise_ms == T_MS - 5
    ours = limit(T_MS - 9, 200, 1_200_00, APPROVED)
    assert standing(ours, replace(nameless, status=FAILED)).limit_history().last_raise_ms == T_MS - 9


def test_what_was_trimmed_may_have_been_anything() -> None:
    """The latest instant trimmed is the latest possible raise, and a year that reaches into it is unknown."""
    history = standing(limit(T_MS - 5, 200), trimmed_through_ms=T_MS - 100 * DAY_MS).limit_history()
    assert (history.last_raise_ms, history.last_cut_ms, history.raised_minor) == (T_MS - 5, T_MS - 100 * DAY_MS, None)


def test_a_borrowers_lines_count_together_in_one_currency_and_while_open() -> None:
    """The line asked about counts as it is now, not as it is among the stored ones."""
    others = [
        replace(LINE, limit_minor=9),
        replace(LINE, facility_id="f-2", limit_minor=500_00),
        replace(LINE, facility_id="f-3", limit_minor=70_00, status="frozen"),
        replace(LINE, facility_id="f-4", currency="USD"),
        replace(LINE, facility_id="f-5", status="closed"),
    ]
    assert Standing(words_of(EMPTY_LOG), LINE, T_MS, others).customer_limit_minor() == 1_570_00


def test_a_full_log_is_read_whole() -> None:
    """The first and the last of 4,096 records count alike."""
    filler = [limit(T_MS - 7, 1, 0, facility="f-2") for _ in range(4_094)]
    events = [tier(T_MS - 9, 3), *filler, limit(T_MS - 3, 200)]
    read = standing(*events)
    assert (read.tier(), read.limit_history().last_raise_ms) == (TierInForce(3, T_MS - 9), T_MS - 3)

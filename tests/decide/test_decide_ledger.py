"""The position of a facility: outstanding, reserved and available, derived from snapshot and log."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_service.core.event import (
    APPROVED,
    BOOKED,
    CANCELLED,
    DRAWDOWN,
    EMPTY_LOG,
    FAILED,
    HELD,
    REPAYMENT,
    Event,
    facility_key,
    words_of,
)
from decision_service.core.facility import Facility, Position
from decision_service.core.ledger import position_of

LINE = Facility("f-1", "c-1", "revolver", "CNY", 1_000_00, 200_00, 1_000, 1_800, "active", 0)
KEY = facility_key("f-1")
TIMEOUT_MS = 10_000


def draw(key: int, status: int, at: int, amount: int, **more: int) -> Event:
    """A drawdown event on the line."""
    return Event(key, DRAWDOWN, status, at, amount_minor=amount, facility=KEY, **more)


def position(*events: Event, t_ms: int = 5_000, line: Facility = LINE) -> Position:
    """The line's position after these events."""
    log = EMPTY_LOG + b"".join(event.pack() for event in events)
    return position_of(line, words_of(log), t_ms, TIMEOUT_MS)


def brute_force(events: list[Event], t_ms: int, line: Facility) -> Position:
    """The definition, one drawdown at a time."""

    def status_of(drawdown: Event, cutoff: int) -> tuple[int, int]:
        said = [
            (e.occurred_at_ms, i, e.status)
            for i, e in enumerate(events)
            if e.settles == drawdown.key and e.kind == DRAWDOWN and e.occurred_at_ms <= cutoff
        ]
        if not said:
            return drawdown.status, drawdown.occurred_at_ms
        at, _, status = max(said)
        return status, at

    outstanding, reserved = line.outstanding_minor, 0
    for e in events:
        if e.facility != KEY:
            continue
        if e.kind == REPAYMENT and e.status == BOOKED and e.occurred_at_ms > line.as_of_ms:
            outstanding -= e.amount_minor
        if e.kind != DRAWDOWN or e.settles:
            continue
        now, at = status_of(e, 2**62)
        then, then_at = status_of(e, line.as_of_ms)
        booked_then = then == BOOKED and then_at <= line.as_of_ms
        outstanding += e.amount_minor * ((now == BOOKED) - booked_then)
        if now == APPROVED and t_ms - at < TIMEOUT_MS:
            reserved += e.amount_minor
    outstanding = max(outstanding, 0)
    return Position(outstanding, reserved, line.limit_minor - outstanding - reserved)


def test_a_snapshot_without_events_is_the_position() -> None:
    """With an empty log the derived position is the snapshot's."""
    assert position() == Position(200_00, 0, 800_00)


def test_an_approved_drawdown_reserves_until_the_time_out() -> None:
    """An approved, unsettled drawdown reserves its amount while it is younger than the time-out, and no longer."""
    approved = draw(1, APPROVED, 2_000, 100_00)
    assert position(approved, t_ms=2_000 + TIMEOUT_MS - 1).reserved_minor == 100_00
    assert position(approved, t_ms=2_000 + TIMEOUT_MS).reserved_minor == 0


@pytest.mark.fault("D10")
def test_a_back_dated_decision_sees_reservations_made_later() -> None:
    """A limit is not lent twice by dating the second request before the first."""
    assert position(draw(1, APPROVED, 4_000, 100_00), t_ms=3_000).available_minor == 700_00


def test_a_drawdown_we_decided_reserves_from_the_decision() -> None:
    """However far back a request is dated, its approval reserves for the whole time-out from when it was decided."""
    dated_back = draw(1, APPROVED, -10 * TIMEOUT_MS, 100_00, decided_at_ms=2_000)
    assert position(dated_back, t_ms=2_000 + TIMEOUT_MS - 1).reserved_minor == 100_00
    assert position(dated_back, t_ms=2_000 + TIMEOUT_MS).reserved_minor == 0


@pytest.mark.fault("D08")
@pytest.mark.parametrize("status", [FAILED, CANCELLED])
def test_an_undone_drawdown_neither_reserves_nor_owes(status: int) -> None:
    """A drawdown that failed or was cancelled leaves nothing behind."""
    undone = Event(2, DRAWDOWN, status, 3_000, facility=KEY, settles=1)
    assert position(draw(1, APPROVED, 2_000, 100_00), undone) == position()


@pytest.mark.fault("D09")
def test_a_booking_is_counted_once_whether_before_or_after_the_snapshot() -> None:
    """What the snapshot already holds is not added again."""
    booked = Event(2, DRAWDOWN, BOOKED, 2_500, facility=KEY, settles=1)
    approved = draw(1, APPROVED, 2_000, 100_00)
    assert position(approved, booked).outstanding_minor == 300_00
    assert position(approved, booked, line=replace(LINE, as_of_ms=2_500)).outstanding_minor == 200_00


def test_a_reversal_after_the_snapshot_takes_back_what_the_snapshot_holds() -> None:
    """A drawdown booked before as_of and failed after it is subtracted."""
    events = (draw(1, BOOKED, 500, 50_00), Event(2, DRAWDOWN, FAILED, 2_000, facility=KEY, settles=1))
    assert position(*events).outstanding_minor == 150_00


@pytest.mark.fault("D09")
def test_settlements_count_by_their_instant_and_not_by_their_arrival() -> None:
    """Two settlements of one drawdown mean the same in either order of arrival, and however often they come."""
    approved = draw(1, APPROVED, 2_000, 100_00)
    booked = Event(2, DRAWDOWN, BOOKED, 2_500, facility=KEY, settles=1)
    failed = Event(3, DRAWDOWN, FAILED, 2_700, facility=KEY, settles=1)
    assert position(approved, booked, failed) == position(approved, failed, booked) == position()


@pytest.mark.fault("D09")
def test_a_settlement_recorded_before_its_drawdown_counts() -> None:
    """In what order the two became known changes nothing, near or far apart."""
    approved = draw(1, APPROVED, 2_000, 100_00)
    booked = Event(2, DRAWDOWN, BOOKED, 2_500, facility=KEY, settles=1)
    others = [draw(10 + k, HELD, 2_000, 5_00) for k in range(500)]
    assert position(booked, approved) == position(approved, booked)
    assert position(booked, *others, approved) == position(approved, *others, booked)


def test_a_held_drawdown_is_no_exposure_until_somebody_books_it() -> None:
    """A hold reserves nothing; releasing and booking it owes it."""
    held = draw(1, HELD, 2_000, 100_00)
    assert position(held) == position()
    assert position(held, Event(2, DRAWDOWN, BOOKED, 2_500, facility=KEY, settles=1)).outstanding_minor == 300_00


@pytest.mark.fault("D09")
def test_a_booking_confirmed_again_after_the_snapshot_is_not_added_again() -> None:
    """A drawdown that the snapshot holds stays counted once however often its booking is reported later."""
    events = (draw(1, BOOKED, 500, 50_00), Event(2, DRAWDOWN, BOOKED, 2_000, facility=KEY, settles=1))
    assert position(*events) == position()


def test_the_other_facilities_of_a_customer_do_not_count() -> None:
    """Draws and repayments of another line leave this one alone."""
    other = Event(1, DRAWDOWN, APPROVED, 2_000, amount_minor=100_00, facility=facility_key("f-2"))
    assert position(other) == position()


STATUS = st.sampled_from([BOOKED, APPROVED, HELD, FAILED, CANCELLED])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_kernel_equals_the_definition(data: st.DataObject) -> None:
    """On random histories (late, repeated, out of order, many settlements) the kernel equals the brute force."""
    count = data.draw(st.integers(0, 25))
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    events: list[Event] = []
    for i in range(count):
        at = rng.randrange(0, 6_000, 250)
        earlier = [e.key for e in events if e.kind == DRAWDOWN and not e.settles]
        sort = rng.random()
        if sort < 0.5 and earlier:
            status = data.draw(STATUS)
            events.append(Event(1_000 + i, DRAWDOWN, status, at, facility=KEY, settles=rng.choice(earlier)))
        elif sort < 0.65:
            events.append(
                Event(1_000 + i, REPAYMENT, data.draw(STATUS), at, amount_minor=rng.randrange(9_000), facility=KEY)
            )
        else:
            facility = rng.choice([KEY, KEY, facility_key("f-2")])
            events.append(
                Event(1_000 + i, DRAWDOWN, data.draw(STATUS), at, amount_minor=rng.randrange(9_000), facility=facility)
            )
    assert position(*events) == brute_force(events, 5_000, LINE)


def test_long_distances_between_a_drawdown_and_its_settlement_change_nothing() -> None:
    """2,000 drawdowns settled only after the last of them (the hashed path) come out as settled one by one."""
    draws = [draw(10 + i, APPROVED, 2_000 + i, 7) for i in range(2_000)]
    bookings = [Event(10_000 + i, DRAWDOWN, BOOKED, 4_500, facility=KEY, settles=10 + i) for i in range(2_000)]
    near = [event for pair in zip(draws, bookings, strict=True) for event in pair]
    assert position(*draws, *bookings) == position(*near)
    assert position(*draws, *bookings).outstanding_minor == 200_00 + 7 * 2_000

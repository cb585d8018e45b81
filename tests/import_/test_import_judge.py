"""Judging many rows at once says what judging each by itself says."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_service.core.event import APPROVED, BOOKED, DRAWDOWN, EMPTY_LOG, KINDS, RECORD, Event, facility_key
from decision_service.core.facility import Facility
from decision_service.core.state import CustomerState
from decision_service.judge import ACCEPTED, Known, is_plain, judge

LINE = Facility("f-1", "c-1", "revolver", "CNY", 0, 0, 0, 0, "active", 0)
CURRENCIES = ("CNY", "USD", None)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Purchases, drawdowns, settlements and labels over few keys, so that they meet."""
    key = draw(st.integers(1, 8))
    sort = draw(st.sampled_from(["purchase", "drawdown", "settlement", "label"]))
    if sort == "label":
        return Event(key, KINDS["label"], BOOKED, 1_000, settles=draw(st.integers(1, 8)))
    facility = draw(st.sampled_from([0, facility_key("f-1"), facility_key("f-2")]))
    at_ms, amount = draw(st.sampled_from([1_000, 9_000_000])), draw(st.sampled_from([0, 5_00]))
    if sort == "settlement":
        return Event(key, DRAWDOWN, BOOKED, at_ms, amount, facility=facility, settles=draw(st.integers(1, 8)))
    kind, status = (DRAWDOWN, APPROVED) if sort == "drawdown" else (KINDS["purchase"], BOOKED)
    return Event(key, kind, status, at_ms, amount, facility=facility)


@settings(max_examples=300, deadline=None)
@given(st.lists(events(), max_size=4, unique_by=lambda e: e.key), st.data())
def test_a_plain_row_is_one_that_is_accepted_whatever_comes_before_it(logged: list[Event], data: st.DataObject) -> None:
    """Every row that is plain is accepted unchanged by the judge, and taking the plain rows as accepted without telling
    the judge of them changes nothing about the others."""
    rows = data.draw(st.lists(st.tuples(events(), st.sampled_from(CURRENCIES)), min_size=1, max_size=8))
    state = CustomerState(1, EMPTY_LOG + b"".join(event.pack() for event in logged), {"f-1": LINE}, {})
    records = np.frombuffer(b"".join(event.pack() for event, _ in rows), RECORD)
    told, untold = Known(state), Known(state)
    currencies = [currency or "CNY" for _, currency in rows]
    plain = is_plain(records, currencies, untold)
    for (event, currency), is_so in zip(rows, plain.tolist(), strict=True):
        outcome, record = judge(event, currency, told)
        if record is not None:
            told.add(event.key, record)
        if is_so:
            assert (outcome, record) == (ACCEPTED, event.pack())
            continue
        assert judge(event, currency, untold) == (outcome, record)
        if record is not None:
            untold.add(event.key, record)


def test_a_row_like_any_other_is_plain() -> None:
    """New events with different keys, which concern nothing, are all plain."""
    records = [Event(key, KINDS["purchase"], BOOKED, key, 5_00, facility=facility_key("f-1")) for key in range(1, 9)]
    state = CustomerState(1, EMPTY_LOG, {"f-1": LINE}, {})
    packed = np.frombuffer(b"".join(event.pack() for event in records), RECORD)
    assert is_plain(packed, ["CNY"] * 8, Known(state)).all()
    assert not is_plain(packed, ["USD"] * 8, Known(state)).any()

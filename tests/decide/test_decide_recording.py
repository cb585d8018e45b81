"""Recording events: exactly once, with a clear word on each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from decision_service.core.decision import Decision
from decision_service.core.event import (
    APPROVED,
    BOOKED,
    CHANNELS,
    DRAWDOWN,
    EMPTY_LOG,
    HELD,
    KINDS,
    Event,
    code_key,
    counterparty_key,
    device_key,
    drawdown_key,
    event_key,
    facility_key,
    header,
    read_header,
    unpack,
    words_of,
)
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.request import DRAWDOWN_SCENE, PostedEvent
from decision_service.core.state import CustomerState
from decision_service.decision_records import drawdown_record, left_in
from decision_service.judge import EventOutcome
from decision_service.recording import EventBatch, Retention
from decision_service.warm import REQUEST

KEEP_ALL = Retention(400 * DAY_MS, 4_096, 256)


def posted(index: int, event_id: str, *, at: int = 1_000, amount: int = 5_00, **more: object) -> PostedEvent:
    """A posted repayment, or what `more` makes of it."""
    settles = int(more.pop("settles", 0))  # type: ignore[call-overload]
    kind = KINDS["drawdown"] if settles else KINDS["repayment"]
    event = Event(event_key(event_id), kind, BOOKED, at, amount_minor=amount, settles=settles)
    return PostedEvent(index, event_id, "c-1", "d1" if settles else None, event, b"{}")


def apply(
    state: CustomerState, *events: PostedEvent, retention: Retention = KEEP_ALL
) -> tuple[EventBatch, CustomerState]:
    """Judge a batch against a state; the batch and the state after its commit."""
    batch = EventBatch("c-1", events, retention, lambda: b"id")
    commit = batch.plan(state)
    if commit is None:
        return batch, state
    log = (state.log if commit.trimmed_log is None else commit.trimmed_log) + commit.records
    return batch, CustomerState(state.version + 1, log)


@pytest.mark.fault("D11")
def test_an_event_counts_once_however_often_it_is_sent() -> None:
    """The second sending of an event, in the same call or a later one, is a duplicate and appends nothing."""
    first, state = apply(CustomerState(), posted(0, "e-1"), posted(1, "e-1"))
    assert [o.status for o in first.outcomes.values()] == ["accepted", "duplicate"]
    second, after = apply(state, posted(0, "e-1"))
    assert second.outcomes[0].status == "duplicate"
    assert after is state


@pytest.mark.fault("D03")
def test_an_event_id_cannot_name_two_events() -> None:
    """The same id with another amount is rejected, and names the field."""
    _, state = apply(CustomerState(), posted(0, "e-1"))
    batch, _ = apply(state, posted(0, "e-1", amount=6_00))
    assert batch.outcomes[0] == EventOutcome("rejected", "event_id", "already used for an event with other content")


@pytest.mark.fault("D11")
def test_events_of_a_lost_attempt_come_back_as_accepted() -> None:
    """A batch planned again after its first commit turned out to have happened tells its events as accepted."""
    batch = EventBatch("c-1", [posted(0, "e-1")], KEEP_ALL, lambda: b"id")
    commit = batch.plan(CustomerState())
    assert commit is not None
    assert batch.plan(CustomerState(1, EMPTY_LOG + commit.records)) is None
    assert batch.outcomes[0].status == "accepted"


def test_a_settlement_must_name_a_drawdown_of_this_customer() -> None:
    """A booking of an unknown decision is rejected at decision_id."""
    batch, _ = apply(CustomerState(), posted(0, "e-1", settles=77, amount=0))
    assert (batch.outcomes[0].status, batch.outcomes[0].field) == ("rejected", "decision_id")


def test_a_settlement_takes_facility_and_amount_from_its_drawdown() -> None:
    """A booking without amount is of the approved amount; one with another amount is rejected."""
    drawdown = Event(77, DRAWDOWN, APPROVED, 500, amount_minor=9_00, facility=facility_key("f-1"))
    state = CustomerState(1, EMPTY_LOG + drawdown.pack())
    batch, after = apply(state, posted(0, "e-1", settles=77, amount=0), posted(1, "e-2", settles=77, amount=8_00))
    assert [o.status for o in batch.outcomes.values()] == ["accepted", "rejected"]
    assert batch.outcomes[1].field == "amount"
    booked = unpack(after.log[-64:])
    assert (booked.amount_minor, booked.facility, booked.settles) == (9_00, facility_key("f-1"), 77)


@pytest.mark.fault("D09")
def test_a_settlement_before_its_drawdown_is_rejected() -> None:
    """A booking dated an hour before the draw is a mistake; one a clock's difference before it counts from the draw."""
    drawdown = Event(77, DRAWDOWN, APPROVED, HOUR_MS, amount_minor=9_00, facility=facility_key("f-1"))
    state = CustomerState(1, EMPTY_LOG + drawdown.pack())
    batch, after = apply(
        state, posted(0, "e-1", at=0, settles=77), posted(1, "e-2", at=HOUR_MS - 1, settles=77, amount=0)
    )
    assert (batch.outcomes[0].field, batch.outcomes[1].status) == ("occurred_at", "accepted")
    assert unpack(after.log[-64:]).occurred_at_ms == HOUR_MS


def test_money_of_another_currency_than_the_facility_is_rejected() -> None:
    """A repayment in KWD of a line in CNY names the currency and records nothing."""
    line = Facility("f-1", "c-1", "revolver", "CNY", 1_000_00, 0, 0, 1_800, "active", 0)
    event = Event(event_key("e-1"), KINDS["repayment"], BOOKED, 1_000, amount_minor=5_000, facility=facility_key("f-1"))
    sent = PostedEvent(0, "e-1", "c-1", None, event, b"{}", "KWD")
    batch, after = apply(CustomerState(1, EMPTY_LOG, {"f-1": line}), sent)
    assert (batch.outcomes[0].status, batch.outcomes[0].field) == ("rejected", "currency")
    assert after.log == EMPTY_LOG


@pytest.mark.fault("B19")
def test_a_full_log_is_trimmed_from_the_front_and_says_so() -> None:
    """Beyond the cap the oldest records go, sequence numbers stay, and the header tells since when they are gone."""
    small = Retention(400 * DAY_MS, 8, 2)
    _, state = apply(CustomerState(), *(posted(i, f"e-{i}", at=1_000 + i) for i in range(8)), retention=small)
    _, after = apply(state, posted(0, "e-8", at=2_000), retention=small)
    base_seq, through_ms = read_header(after.log)
    assert base_seq + len(words_of(after.log)) - 1 == 9
    assert through_ms == 1_000 + base_seq - 1


def test_replayed_history_is_kept_as_it_was() -> None:
    """Retention counts back from the newest event, so events of long ago are not trimmed by today's clock."""
    _, state = apply(CustomerState(), posted(0, "e-1", at=1_000), posted(1, "e-2", at=1_000 + 399 * DAY_MS))
    assert len(words_of(state.log)) == 3


def test_a_settlement_cannot_move_a_drawdown_to_another_facility() -> None:
    """A booking that names another facility than was drawn on is rejected at facility_id; the right one, or none, is
    accepted."""
    drawdown = Event(55, DRAWDOWN, APPROVED, 1_000, amount_minor=5_00, facility=facility_key("f-1"))
    state = CustomerState(1, EMPTY_LOG + drawdown.pack())

    def booking(index: int, facility: int) -> PostedEvent:
        event = Event(index + 100, DRAWDOWN, BOOKED, 1_001, settles=55, facility=facility)
        return PostedEvent(index, f"s-{index}", "c-1", "d1", event, b"{}")

    batch, _ = apply(state, booking(0, facility_key("f-2")), booking(1, facility_key("f-1")), booking(2, 0))
    assert batch.outcomes[0] == EventOutcome("rejected", "facility_id", "is not the facility that was drawn on")
    assert [batch.outcomes[i].status for i in (1, 2)] == ["accepted", "accepted"]


@pytest.mark.parametrize("events", [0, 1, 100, 126, 127, 128, 2_000])
def test_what_a_decision_left_is_found_in_logs_of_any_length(events: int) -> None:
    """First, in the middle, last, and with the highest bit set; not what merely looks like it in another column."""
    decision_id = "0" * 20 + "f0e1d2c3b4a59687"
    key = drawdown_key(decision_id)
    asked = replace(REQUEST, scene=DRAWDOWN_SCENE)
    others = [Event(key=n + 1, kind=DRAWDOWN, status=APPROVED, occurred_at_ms=n).pack() for n in range(events)]
    own = Event(key=key, kind=DRAWDOWN, status=APPROVED, occurred_at_ms=7).pack()
    like = Event(key=5, kind=DRAWDOWN, status=APPROVED, occurred_at_ms=7, counterparty=key).pack()
    assert not left_in(header() + b"".join(others) + like, asked, decision_id)
    for at in {0, events // 2, events}:
        assert left_in(header() + b"".join([*others[:at], own, *others[at:]]), asked, decision_id)


@pytest.mark.parametrize("approved_minor", [0, 4_990_00])
@pytest.mark.parametrize("known", [True, False])
def test_the_record_of_a_drawdown_is_laid_out_as_an_event(known: bool, approved_minor: int) -> None:
    """It is packed by itself, for every decision; the record's layout has one definition for all that."""
    asked = REQUEST if known else replace(
        REQUEST, channel=None, device_id=None, counterparty_id=None, purpose=None, geo=None
    )  # fmt: skip
    decision = Decision(
        "d" + 35 * "7", "r", "c", "f", "approve", approved_minor, "CNY", None, None, None, None, (), (), (), (), {},
        "p", "label", "full", (), 6_000,
    )  # fmt: skip
    event = unpack(drawdown_record(asked, decision, 5_000))
    assert event == Event(
        drawdown_key(decision.decision_id), DRAWDOWN, APPROVED if approved_minor else HELD, 5_000,
        approved_minor or asked.amount_minor, event.value, CHANNELS[asked.channel] if asked.channel else 0,
        facility_key(asked.facility_id), device_key(asked.device_id) if asked.device_id else 0,
        counterparty_key(asked.counterparty_id) if asked.counterparty_id else 0,
        code_key(asked.purpose) if asked.purpose else 0, asked.geo, 0, decision.decided_at_ms,
    )  # fmt: skip
    assert event.pack() == drawdown_record(asked, decision, 5_000)

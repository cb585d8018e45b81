"""Loans of a portfolio: which drawdowns repayments have settled, and which of them arrears concern."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from decision_service.core.event import KINDS, STATUSES
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.portfolio import CustomerHistory, Portfolio, PortfolioPlan, event_table, generate
from decision_service.portfolio.history import Line
from decision_service.portfolio.loans import LABELS, loan_arrears, loan_labels, loans_of

NOW_MS = 1_793_462_400_000  # 2026-11-01T00:00:00+08:00
DAY0_MS = NOW_MS - 120 * DAY_MS


def at(day: int, hour: float = 12.0) -> int:
    """An instant, local time."""
    return DAY0_MS + day * DAY_MS + round(hour * HOUR_MS)


def event(kind: str, day: int, hour: float = 12.0, status: str = "booked", **columns: Any) -> event_table.Rows:
    """One event of customer 0; amounts in fen."""
    return event_table.rows([0], [at(day, hour)], KINDS[kind], STATUSES[status], **columns)


EVENTS = [
    event("drawdown", 0, amount=40_00),  # Z, on top of 300 from before
    event("drawdown", 2, amount=100_00),  # A
    event("drawdown", 5, amount=200_00),  # B
    event("due", 10, 9, amount=64_00),
    event("repayment", 10, 10, amount=60_00),
    event("drawdown", 10, 15, amount=50_00),  # C
    event("drawdown", 12, amount=80_00),  # D
    event("drawdown", 13, status="failed", amount=999_00),
    event("drawdown", 40, 3, amount=70_00),  # E, on the day of the bill
    event("due", 40, 9, amount=71_00),
    event("overdue", 41, 0.2, amount=71_00, value=1.0),
    event("repayment", 50, amount=390_00),
    event("overdue", 70, 0.2, amount=71_00, value=30.0),
]
Z, A, B, C, D, E = 0, 1, 2, 5, 6, 8


@pytest.fixture
def history() -> CustomerHistory:
    """A customer of one line: 300 outstanding before the first day, then EVENTS."""
    table = event_table.in_order(EVENTS)
    days = np.full(120, 340_00, np.int64)
    line = Line("f-1001", "c-1001", "p", 1_800, DAY0_MS - 20 * DAY_MS, NOW_MS, DAY0_MS, days, days, 0 * days)
    return CustomerHistory(0, "c-1001", line, line.facility_at(NOW_MS), b"", table, "bad", "", None)


def test_repayments_settle_the_oldest_first(history: CustomerHistory) -> None:
    """Of 450 repaid, 300 go to what was there before, 40 to Z, 100 to A, and 10 to B."""
    loans = loans_of(history.line, history.table)
    assert loans.row.tolist() == [Z, A, B, C, D, E]
    assert loans.unpaid_fen(at(4)).tolist() == [40_00, 100_00, 0, 0, 0, 0]
    assert loans.unpaid_fen(at(49)).tolist() == [40_00, 100_00, 200_00, 50_00, 80_00, 70_00]
    assert loans.unpaid_fen(at(50)).tolist() == [0, 0, 190_00, 50_00, 80_00, 70_00]


def test_arrears_concern_what_was_billed_and_is_unpaid(history: CustomerHistory) -> None:
    """Not E, which was drawn on the day of the bill; later not Z and A, which were repaid meanwhile."""
    assert loan_arrears(history, 1).row.tolist() == [Z, A, B, C, D]
    found = loan_arrears(history, 30)
    assert found.row.tolist() == [B, C, D]
    assert set(found.at_ms.tolist()) == {at(70, 0.2)}
    assert len(loan_arrears(history, 60)) == 0


def test_a_label_names_its_drawdown_in_the_form_of_the_api(history: CustomerHistory) -> None:
    """One for each loan, with the name and days of the arrears."""
    first, *others = loan_labels(history, "overdue_30")
    assert first == {
        "event_id": "e-1001-2-overdue_30", "customer_id": "c-1001", "facility_id": "f-1001", "kind": "label",
        "status": "booked", "category": "overdue_30", "occurred_at": "2026-09-11T16:12:00.000Z", "value": 30.0,
        "about_event_id": "e-1001-2",
    }  # fmt: skip
    assert [label["about_event_id"] for label in others] == ["e-1001-5", "e-1001-6"]
    assert LABELS["overdue_30"] == 30


@pytest.fixture(scope="module")
def portfolio() -> Portfolio:
    """250 customers over 240 days."""
    return generate(PortfolioPlan(customers=250, now_ms=NOW_MS, seed=8, days=240, per_pattern=0))


def test_unpaid_loans_and_what_is_left_from_before_make_the_balance(portfolio: Portfolio) -> None:
    """At every midnight of every customer: nothing is lost between the line's balance and its loans."""
    compared = 0
    for history in portfolio:
        loans = loans_of(history.line, history.table)
        if not len(loans):
            continue
        opening = int(loans.owed_fen[0] - loans.amount_fen[0])
        for day in range(0, 240, 7):
            midnight = history.line.day0_ms + (day + 1) * DAY_MS - 1
            left = max(opening - loans.repaid_fen(midnight), 0)
            assert left + loans.unpaid_fen(midnight).sum() == history.line.outstanding_fen[day]
            compared += 1
    assert compared > 5_000


def test_arrears_of_loans_are_those_of_their_line(portfolio: Portfolio) -> None:
    """They begin with an overdue event of so many days; some loans of customers in arrears are in none."""
    concerned, spared = 0, 0
    for history in portfolio:
        table, found = history.table, loan_arrears(history, 30)
        notices = table["at_ms"][(table["kind"] == KINDS["overdue"]) & (table["value"] == 30)]
        assert set(found.at_ms.tolist()) <= set(notices.tolist())
        assert len(set(found.row.tolist())) == len(found)
        concerned += len(found)
        spared += len(loans_of(history.line, table)) - len(found) if len(notices) else 0
    assert min(concerned, spared) > 20

"""Drawdowns as loans: what of each is unpaid, and which of them are in arrears when their customer is.

A generated customer has one balance, and their bills and arrears are the line's. Here the balance is taken apart:

    repayments   settle the oldest first: what was outstanding before the first day, then drawdown by drawdown
    a bill       asks for a part of everything drawn before its local day and not yet repaid
    arrears      of a bill concern the loans that it asked for and that are still unpaid: their principal is unpaid
                 beyond its due date. What was drawn on the day of the bill or later is not theirs.

    opening │ loan 1 │ loan 2 │ loan 3 ┊ loan 4         in order of drawing, each as long as its amount
    ────────┴───┬────┴────────┴────────┊────────
      repaid    │      in arrears      ┊ drawn since the bill

So a customer's arrears are those of all their loans from the oldest unpaid one to the newest billed one. They reach the
customer's history as `label` events `overdue_<days>` about the drawdown (`about_event_id`), one for each loan, the
first time that it is so many days past due, at the instant of the line's own `overdue` event. They are labels because
an `overdue` event names a loan only by the decision on it, and no service decided these drawdowns; and because they
leave everything that features count as it was. Nobody has them but who asks: they are no part of a customer's table or
log. Nothing here is random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.event import BOOKED, DRAWDOWN, KINDS, REPAYMENT
from decision_service.core.limits import DAY_MS
from decision_service.portfolio.event_table import Rows, event_id, rfc3339
from decision_service.portfolio.history import CustomerHistory, Line
from decision_service.portfolio.simulation import OVERDUE_NOTICES_D, UTC_OFFSET_MS

Ints = npt.NDArray[np.int64]

LABELS: Final[Mapping[str, int]] = {f"overdue_{days}": days for days in OVERDUE_NOTICES_D}
_DUE, _OVERDUE = KINDS["due"], KINDS["overdue"]


@dataclass(frozen=True, slots=True)
class Loans:
    """The booked drawdowns of one customer, oldest first: an entry each."""

    row: Ints  # in the customer's table
    drawn_at_ms: Ints
    amount_fen: Ints
    owed_fen: Ints  # with everything that was drawn before it, repaid or not
    paid_at_ms: Ints  # of each repayment
    paid_fen: Ints  # up to that repayment

    def __len__(self) -> int:
        return len(self.row)

    def repaid_fen(self, at_ms: int) -> int:
        """Everything repaid on the line up to an instant."""
        repayments = int(np.searchsorted(self.paid_at_ms, at_ms, side="right"))
        return int(self.paid_fen[repayments - 1]) if repayments else 0

    def unpaid_fen(self, at_ms: int) -> Ints:
        """Of each loan, the principal that is unpaid at an instant; 0 before it was drawn."""
        unpaid: Ints = np.clip(self.owed_fen - self.repaid_fen(at_ms), 0, self.amount_fen)
        return np.where(self.drawn_at_ms <= at_ms, unpaid, 0)

    def concerned(self, billed_at_ms: int, at_ms: int) -> Ints:
        """The loans that a bill asked for and that are unpaid at a later instant."""
        before_ms = (billed_at_ms + UTC_OFFSET_MS) // DAY_MS * DAY_MS - UTC_OFFSET_MS
        return np.flatnonzero((self.drawn_at_ms < before_ms) & (self.unpaid_fen(at_ms) > 0))


def loans_of(line: Line, table: Rows) -> Loans:
    """The loans in a customer's table of events, which is in order of time."""
    row = np.flatnonzero(_booked(table, DRAWDOWN))
    repayments = table[_booked(table, REPAYMENT)]
    drawn = table["amount"][row]
    return Loans(
        row, table["at_ms"][row], drawn, _opening_fen(line, table) + np.cumsum(drawn),
        repayments["at_ms"], np.cumsum(repayments["amount"]),
    )  # fmt: skip


def _booked(table: Rows, kind: int) -> npt.NDArray[np.bool_]:
    booked: npt.NDArray[np.bool_] = (table["kind"] == kind) & (table["status"] == BOOKED)
    return booked


def _opening_fen(line: Line, table: Rows) -> int:
    """What was outstanding before the first day: its closing balance without what moved on it."""
    first = table[table["at_ms"] < line.day0_ms + DAY_MS]
    drawn, repaid = (int(first["amount"][_booked(first, kind)].sum()) for kind in (DRAWDOWN, REPAYMENT))
    return int(line.outstanding_fen[0]) - drawn + repaid


@dataclass(frozen=True, slots=True)
class LoanArrears:
    """When loans of one customer were first so many days past due, an entry a loan, in order of time."""

    at_ms: Ints
    row: Ints  # of the drawdown in the customer's table
    days: int

    def __len__(self) -> int:
        return len(self.row)


def loan_arrears(history: CustomerHistory, days: int) -> LoanArrears:
    """The loans that were `days` past due, one of OVERDUE_NOTICES_D, up to the portfolio's instant."""
    table, first = history.table, dict[int, int]()  # row of the loan -> instant
    loans = loans_of(history.line, table)
    billed_at_ms = table["at_ms"][table["kind"] == _DUE]
    notices = table["at_ms"][(table["kind"] == _OVERDUE) & (table["value"] == days)]
    for at_ms in notices.tolist():
        bills = int(np.searchsorted(billed_at_ms, at_ms, side="right"))
        concerned = loans.concerned(int(billed_at_ms[bills - 1]), at_ms) if bills else ()
        for i in concerned:
            first.setdefault(int(loans.row[i]), at_ms)
    return LoanArrears(np.array([*first.values()], np.int64), np.array([*first], np.int64), days)


def loan_labels(history: CustomerHistory, label: str) -> list[dict[str, Any]]:
    """The labels of this name (one of LABELS) in the form `POST /v1/events` takes."""
    found = loan_arrears(history, LABELS[label])
    return [
        {
            "event_id": label_id(history.number, row, label), "customer_id": history.customer_id,
            "facility_id": history.line.facility_id, "kind": "label", "status": "booked", "category": label,
            "occurred_at": rfc3339(at_ms), "value": float(found.days), "about_event_id": event_id(history.number, row),
        }
        for at_ms, row in zip(found.at_ms.tolist(), found.row.tolist(), strict=True)
    ]  # fmt: skip


def label_id(number: int, row: int, label: str) -> str:
    """The id of the label about the drawdown in this row of a customer's table."""
    return f"{event_id(number, row)}-{label}"

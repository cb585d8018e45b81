"""Outcomes: what became of a customer after a decision, from the events of their log.

A scorecard's target says what it is the probability of: being so many days past due within so many days, or a label of
some name. As training does, an event counts if it occurred after the instant the decision is about and no later than
the end of the window:

    overdue   kind `overdue`, value (days past due) at least `bad_dpd`
    label     kind `label`, category the label's name

A failed or cancelled event never counts. Of a loan only the events tell that name the decision's drawdown, as in
training; arrears of the line that name none are nobody's.

    bad        such an event is there; known as soon as it is, so a bad outcome is final before the window ends
    good       the window is over, none is there, and the log still reaches back to the decision
    immature   the window is not over and none is there yet
    unknown    the window is over, none is there, but retention has trimmed the log beyond the decision

Only *matured* decisions, those whose window is over, make a bad rate; a bad one that is early is told apart, because
among immature decisions only the bad ones are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.event import (
    CANCELLED,
    FAILED,
    FLAG_LOAN,
    FLAG_SETTLES,
    KINDS,
    LABEL,
    RECORD,
    code_key,
    drawdown_key,
    read_header,
)
from decision_service.core.limits import DAY_MS, RECORD_BYTES
from decision_service.core.scorecards.manifest import Target

OVERDUE: Final = KINDS["overdue"]
TARGET_DEFAULT: Final = Target(performance_d=90, bad_dpd=30)  # of a manifest that says none


class Outcome(IntEnum):
    """What became of a decision. EARLY_BAD: went bad, and the window is not over."""

    GOOD = 0
    BAD = 1
    IMMATURE = 2
    EARLY_BAD = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class CustomerOutcomes:
    """One customer's log as far as a target looks at it."""

    at_ms: npt.NDArray[np.int64]  # of the events that are bad, rising
    loan: npt.NDArray[np.uint64]  # the drawdown each names, 0 for none
    trimmed_through_ms: int
    target: Target
    by_loan: bool

    def of(self, decision_id: str, asked_at_ms: int, until_ms: int) -> Outcome:
        """What became of a decision by an instant. Events later than that are not looked at."""
        ends_ms = asked_at_ms + self.target.performance_d * DAY_MS
        first, last = np.searchsorted(self.at_ms, [asked_at_ms, min(ends_ms, until_ms)], side="right")
        bad = last > first
        if bad and self.by_loan:
            bad = bool(np.any(self.loan[first:last] == drawdown_key(decision_id)))
        if ends_ms > until_ms:
            return Outcome.EARLY_BAD if bad else Outcome.IMMATURE
        if bad:
            return Outcome.BAD
        return Outcome.UNKNOWN if self.trimmed_through_ms > asked_at_ms else Outcome.GOOD


def outcomes_in(log: bytes, target: Target, by_loan: bool) -> CustomerOutcomes:
    """What a log says of a target. `by_loan`: of each loan, not of the customer."""
    _, trimmed_through_ms = read_header(log)
    records = np.frombuffer(log, RECORD, offset=RECORD_BYTES)
    bad = _is_bad(records, target) & (records["status"] != FAILED) & (records["status"] != CANCELLED)
    found = records[bad]
    found = found[np.argsort(found["occurred_at_ms"], kind="stable")]
    names_loan = (found["flags"] & (FLAG_LOAN | FLAG_SETTLES)) != 0
    loan = np.where(names_loan, found["counterparty"], np.uint64(0))
    return CustomerOutcomes(found["occurred_at_ms"].copy(), loan, trimmed_through_ms, target, by_loan)


def _is_bad(records: npt.NDArray[np.void], target: Target) -> npt.NDArray[np.bool_]:
    if target.bad_dpd is not None:
        return np.asarray((records["kind"] == OVERDUE) & (records["value"] >= target.bad_dpd))
    assert target.label is not None, "a target is of days past due or of a label"
    return np.asarray((records["kind"] == LABEL) & (records["code"] == code_key(target.label)))

"""Soundness: whether a decision of the store is whole.

Frame, outbox entry and log record of a decision are written by one script, so they are there together or not at all.
What is not whole was damaged afterwards: by hand, by a bad disk, by a restore of some keys and not of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from decision_service.api.instants import parse_instant
from decision_service.core.event import (
    APPROVED,
    RECORD,
    drawdown_key,
    holds_key,
    read_header,
    words_of,
)
from decision_service.core.money import SCALES
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.decision_log import Frame, decode
from decision_service.reconcile.restoring import RECONSTRUCTED

NO_RECORD: Final = "its record is not in the customer's log"


@dataclass(frozen=True, slots=True)
class Told:
    """What a frame says. `asked_at_ms` is the instant of its log record."""

    answer: dict[str, Any]
    approved_minor: int
    asked_at_ms: int
    decided_at_ms: int

    @property
    def customer_id(self) -> str:
        """Whose decision it is."""
        return str(self.answer["customer_id"])

    def short(self) -> dict[str, Any]:
        """The part that a caller acts on."""
        names = ("decision", "approved_amount", "currency", "facility_id", "decided_at", "rung")
        return {name: self.answer[name] for name in names}


def told_in(decision_id: str, frame: bytes) -> Told:
    """What a frame says. ValueError if it cannot be read, or says it is another decision's."""
    try:
        return _told(decision_id, decode(frame))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its frame lacks something: {error!r}") from None


def _told(decision_id: str, frame: Frame) -> Told:
    answer = orjson.loads(frame.answer)
    if answer["decision_id"] != decision_id:
        raise ValueError("its frame is that of another decision")
    occurred_at = orjson.loads(frame.request).get("occurred_at")
    decided_at_ms = parse_instant(answer["decided_at"])
    asked_at_ms = decided_at_ms if occurred_at is None else parse_instant(occurred_at)
    return Told(answer, round(answer["approved_amount"] * SCALES[answer["currency"]]), asked_at_ms, decided_at_ms)


def missing_in(log: bytes, told: Told) -> str:
    """What the log of its customer lacks of a decision, or nothing. What retention has trimmed is not missed."""
    if told.answer.get("scene", DRAWDOWN_SCENE) != DRAWDOWN_SCENE:
        return ""
    try:
        _, trimmed_through_ms = read_header(log)
    except ValueError:
        return "the customer's log is none"
    key = drawdown_key(told.answer["decision_id"])
    if not holds_key(log, key):
        left_none = told.approved_minor == 0 and RECONSTRUCTED in told.answer["tags"]
        return "" if left_none or told.asked_at_ms <= trimmed_through_ms else NO_RECORD
    if told.approved_minor == 0:
        return ""
    records = words_of(log)[1:].view(RECORD).reshape(-1)
    own = records[records["key"] == key][0]
    if own["status"] != APPROVED or own["amount_minor"] != told.approved_minor:
        return "its record in the customer's log says another amount"
    return ""

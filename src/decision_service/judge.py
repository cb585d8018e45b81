"""Judging an event against what is known of its customer: accepted, a duplicate, or rejected with the reason.

An event is found again by its key in the log itself. The same id with the same content is a duplicate; with other
content it is rejected, for one of the two is wrong and the log cannot tell which. A settlement must name a drawdown of
this customer that the log still holds, and must not change its facility or amount: core banking pays out exactly what
was approved.

These rules hold for every event, whichever way it comes: one of an API call (`recording.EventBatch`), or one of the
rows of a file (`imports/chunk.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from decision_service.core.event import DRAWDOWN, FLAG_LOAN, FLAG_SETTLES, Event, facility_key, unpack, words_of
from decision_service.core.limits import CLOCK_AHEAD_MAX_MS, RECORD_BYTES
from decision_service.core.state import CustomerState


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """What became of one event; a rejected one names the field and the reason."""

    status: Literal["accepted", "duplicate", "rejected"]
    field: str | None = None
    reason: str | None = None


ACCEPTED = EventOutcome("accepted")
DUPLICATE = EventOutcome("duplicate")


class Known:
    """The records of a customer's log by key, and the currencies of the facilities."""

    def __init__(self, state: CustomerState) -> None:
        log = state.log
        self.currencies = {facility_key(name): line.currency for name, line in state.facilities.items()}
        self.keys = words_of(log)[1:, 1].view("u8")
        self._at: Mapping[int, int] = {key: i + 1 for i, key in enumerate(self.keys.tolist())}
        self._log = log
        self._added: dict[int, bytes] = {}

    def add(self, key: int, record: bytes) -> None:
        """A record that is about to be appended."""
        self._added[key] = record

    def currency_of(self, facility: int) -> str | None:
        """The currency of a facility by its key; None if the customer has no such facility (yet)."""
        return self.currencies.get(facility)

    def record(self, key: int) -> bytes | None:
        """The record under a key."""
        row = self._at.get(key)
        if row is None:
            return self._added.get(key)
        return self._log[row * RECORD_BYTES : (row + 1) * RECORD_BYTES]

    def event(self, key: int) -> Event | None:
        """The event under a key."""
        record = self.record(key)
        return None if record is None else unpack(record)


def judge(event: Event, currency: str | None, known: Known) -> tuple[EventOutcome, bytes | None]:
    """What is to become of an event, whose amount is in `currency`; with an accepted one the record to append."""
    if event.kind == DRAWDOWN and event.settles:
        drawdown = known.event(event.settles)
        if drawdown is None or drawdown.kind != DRAWDOWN or drawdown.settles:
            return _rejected("decision_id", "no drawdown of this customer was decided under this id"), None
        if event.facility not in (0, drawdown.facility):
            return _rejected("facility_id", "is not the facility that was drawn on"), None
        if event.occurred_at_ms < drawdown.occurred_at_ms - CLOCK_AHEAD_MAX_MS:
            return _rejected("occurred_at", "lies before the drawdown that it settles"), None
        if event.amount_minor not in (0, drawdown.amount_minor):
            return _rejected("amount", "a settlement books exactly what was approved"), None
        event = _settlement(event, drawdown)
    known_currency = known.currency_of(event.facility)
    if known_currency is not None and currency not in (None, known_currency):
        return _rejected("currency", f"the facility is in {known_currency}"), None
    record = event.pack()
    stored = known.record(event.key)
    if stored is None:
        return ACCEPTED, record
    if stored != record:
        return _rejected("event_id", "already used for an event with other content"), None
    return DUPLICATE, None


def _settlement(event: Event, drawdown: Event) -> Event:
    """A settlement is of its drawdown's facility and amount, whether or not the caller repeats them, and (clocks
    differing a little) not before it."""
    at_ms = max(event.occurred_at_ms, drawdown.occurred_at_ms)
    return replace(event, facility=drawdown.facility, amount_minor=drawdown.amount_minor, occurred_at_ms=at_ms)


def _rejected(field: str, reason: str) -> EventOutcome:
    return EventOutcome("rejected", field, reason)


def is_plain(records: npt.NDArray[np.void], currencies: Sequence[str], known: Known) -> npt.NDArray[np.bool_]:
    """Where in an array of records (`core.event.RECORD`) `judge` could only say accepted, and change nothing: the key
    is new and occurs once, nothing refers to it or from it, and the facility is not known in another currency.

    For files: most rows are plain, and looking at thousands of them at once costs what judging three does.
    """
    keys = records["key"]
    order = np.argsort(keys, kind="stable")
    twice = np.zeros(len(keys), bool)
    same = keys[order][1:] == keys[order][:-1]
    twice[order[1:][same]] = twice[order[:-1][same]] = True
    refers = records["flags"] & (FLAG_SETTLES | FLAG_LOAN) != 0
    plain: npt.NDArray[np.bool_] = ~(twice | refers | np.isin(keys, known.keys))
    if refers.any():
        plain &= ~np.isin(keys, records["counterparty"][refers])
    for facility, currency in known.currencies.items():
        elsewhere = (records["facility"] == facility) & (np.asarray(currencies) != currency)
        plain &= ~elsewhere
    return plain

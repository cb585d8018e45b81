"""A generated portfolio as the service would know it just before a question: the customer's log up to then, the
facility as core banking last reported it, the logs of the device and payee that the question names; and what became of
the customer.

A question is a drawdown of the simulated customer, decided on what had been recorded before it, or a neutral one (100,
nothing else said) that is asked only for its score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from decision_service.core.event import CHANNEL_NAMES, DRAWDOWN, KINDS, RECORD, Geo
from decision_service.core.limits import DAY_MS, RECORD_BYTES
from decision_service.core.links import LINKS_PER_ENTITY_MAX, Links, customer_key, entity_header
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.portfolio import CustomerHistory
from decision_service.portfolio.event_table import CATEGORIES, CURRENCY, device_id, payee_id

BAD_DPD, PERFORMANCE_D = 30, 90
NEUTRAL_MINOR = 10_000
_OWNER_OFFSET = 48  # word 6 of a record: the customer, in an entity's log

Words = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, what is known then, and whether the customer is BAD_DPD days past due within PERFORMANCE_D."""

    request: DecisionRequest
    state: CustomerState
    at_ms: int
    bad: bool


class Book:
    """All customers of a portfolio."""

    def __init__(self, histories: Sequence[CustomerHistory]) -> None:
        self.histories = histories
        self._payees = _payee_logs(histories)

    def drawdowns(self, i: int, begin_ms: int, end_ms: int) -> Iterator[Question]:
        """Every drawdown that the customer asked for in `[begin_ms, end_ms)`, whatever came of it."""
        history, table = self.histories[i], self.histories[i].table
        asked = (table["kind"] == DRAWDOWN) & (table["at_ms"] >= begin_ms) & (table["at_ms"] < end_ms)
        for k in np.flatnonzero(asked):
            row, at_ms = table[k], int(table["at_ms"][k])
            placed = int(row["accuracy"])
            request = DecisionRequest(
                request_id=f"draw-{i}-{k}", customer_id=history.customer_id, facility_id=history.facility.facility_id,
                amount_minor=int(row["amount"]), currency=CURRENCY, occurred_at_ms=at_ms,
                channel=CHANNEL_NAMES[int(row["channel"])], device_id=device_id(i, int(row["device"])),
                counterparty_id=payee_id(int(row["payee"])), purpose=CATEGORIES[int(row["category"])],
                geo=Geo(int(row["lat_e6"]), int(row["lon_e6"]), placed) if placed else None,
                term_months=None, facility=None, fingerprint=bytes(16), body=b"",
            )  # fmt: skip
            links = Links(self._device_log(i, int(k)), self._payees[int(row["payee"])].before(at_ms), None)
            yield Question(request, self._state(i, int(k), at_ms, links), at_ms, self._goes_bad(i, at_ms))

    def neutral(self, i: int, at_ms: int) -> Question:
        """A question that says nothing, for the score at an instant."""
        history = self.histories[i]
        request = DecisionRequest(
            request_id=f"score-{i}", customer_id=history.customer_id, facility_id=history.facility.facility_id,
            amount_minor=NEUTRAL_MINOR, currency=CURRENCY, occurred_at_ms=at_ms, channel=None, device_id=None,
            counterparty_id=None, purpose=None, geo=None, term_months=None, facility=None, fingerprint=bytes(16),
            body=b"",
        )  # fmt: skip
        known = int(np.searchsorted(history.table["at_ms"], at_ms, side="right"))
        return Question(request, self._state(i, known, at_ms, Links(None, None, None)), at_ms, self._goes_bad(i, at_ms))

    def performing(self, i: int, at_ms: int, days_on_book_min: int, days_past_due_max: int) -> bool:
        """Whether a customer belongs to those a scorecard was made for."""
        line = self.histories[i].line
        if at_ms <= line.day0_ms or at_ms - line.granted_at_ms < days_on_book_min * DAY_MS:
            return False
        return (line.facility_at(at_ms).days_past_due or 0) <= days_past_due_max

    def _state(self, i: int, records: int, at_ms: int, links: Links) -> CustomerState:
        history = self.histories[i]
        log = history.log[: RECORD_BYTES * (1 + records)]
        return CustomerState(
            version=records, log=log, facilities={history.facility.facility_id: history.line.facility_at(at_ms)},
            links=links,
        )  # fmt: skip

    def _goes_bad(self, i: int, at_ms: int) -> bool:
        table = self.histories[i].table
        edges = [at_ms, at_ms + PERFORMANCE_D * DAY_MS]
        low, high = np.searchsorted(table["at_ms"], edges, side="right")
        window = table[low:high]
        return bool(np.any((window["kind"] == KINDS["overdue"]) & (window["value"] >= BAD_DPD)))

    def _device_log(self, i: int, k: int) -> bytes:
        """What was done before record `k` with its device, which nobody else has."""
        history = self.histories[i]
        same = np.flatnonzero(history.table["device"][:k] == history.table["device"][k])[-LINKS_PER_ENTITY_MAX:]
        records = _records(history)[same].copy()
        _own(records, history)
        return entity_header("device") + records.tobytes()


@dataclass(frozen=True, slots=True)
class EntityLog:
    """Everything that is ever done with one entity, in order of time."""

    grain: str
    at_ms: Words
    records: npt.NDArray[np.uint8]  # (n, RECORD_BYTES)

    def before(self, at_ms: int) -> bytes:
        """The log as the service keeps it: the newest records, and a header that says what is forgotten."""
        end = int(np.searchsorted(self.at_ms, at_ms, side="left"))
        begin = max(end - LINKS_PER_ENTITY_MAX, 0)
        head = entity_header(self.grain) if begin == 0 else entity_header(
            self.grain, begin, int(self.at_ms[begin - 1])
        )  # fmt: skip
        return head + self.records[begin:end].tobytes()


def _payee_logs(histories: Sequence[CustomerHistory]) -> list[EntityLog]:
    """The log of every payee by number; 0 is none."""
    payee, at_ms, records = [], [], []
    for history in histories:
        named = np.flatnonzero(history.table["payee"])
        own = _records(history)[named].copy()
        _own(own, history)
        payee.append(history.table["payee"][named].astype(np.int64))
        at_ms.append(history.table["at_ms"][named])
        records.append(own)
    all_payees, all_at, all_records = map(np.concatenate, (payee, at_ms, records))
    order = np.lexsort((all_at, all_payees))
    all_payees, all_at, all_records = all_payees[order], all_at[order], all_records[order]
    bounds = np.searchsorted(all_payees, np.arange(int(all_payees.max()) + 2))
    return [EntityLog("payee", all_at[a:b], all_records[a:b]) for a, b in pairwise(bounds)]


def _records(history: CustomerHistory) -> npt.NDArray[np.uint8]:
    return np.frombuffer(history.log, np.uint8)[RECORD_BYTES:].reshape(-1, RECORD_BYTES)


def _own(records: npt.NDArray[np.uint8], history: CustomerHistory) -> None:
    """Write whose records they are where an entity's log has it."""
    key = customer_key(history.customer_id).to_bytes(8, "little")
    records[:, _OWNER_OFFSET : _OWNER_OFFSET + 8] = np.frombuffer(key, np.uint8)


assert RECORD.fields is not None
assert RECORD.fields["facility"][1] == _OWNER_OFFSET

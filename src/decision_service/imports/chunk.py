"""The next events of one customer: judged against the log they meet, then appended in one atomic commit.

A chunk has as many rows as a call of the API has events, and retention is asked as for such a call, so a log becomes
what it would have become had the events been posted. Which rows a chunk has follows from the file alone.

A row from before the instant through which the log has been trimmed, and not in it, is skipped: it may be one of those
that were trimmed, and nobody can tell any more. So a second run appends nothing again, and finds each log as the first
left it. For the same reason a settlement that stands in the file before the drawdown it settles is refused whether or
not that drawdown is in the log by now.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.event import (
    DRAWDOWN,
    FLAG_LOAN,
    FLAG_SETTLES,
    RECORD,
    TRIMMED_NOTHING,
    read_header,
    unpack,
)
from decision_service.core.limits import EVENTS_PER_CALL_MAX
from decision_service.core.links import LINK_GRAINS
from decision_service.core.state import CustomerState
from decision_service.imports.account import Account
from decision_service.imports.slices import CURRENCIES, History, Rows
from decision_service.judge import ACCEPTED, EventOutcome, Known, is_plain, judge
from decision_service.recording import Retention
from decision_service.store import Commit

PLAIN_MIN: Final = 4  # with fewer rows each is judged by itself
_CURRENCIES: Final = np.array(CURRENCIES, object)
Mask = npt.NDArray[np.bool_]


class Chunk:
    """Some rows of a customer's history. `account` tells of the last `plan`."""

    def __init__(self, customer_id: str, rows: Rows, early: Mask, retention: Retention) -> None:
        """`early` marks settlements that stand before the drawdown they settle."""
        self.customer_id, self.rows = customer_id, rows
        self.account = Account()
        self.records = np.ascontiguousarray(rows["record"])  # as judged
        self.taken = np.zeros(len(rows), bool)  # rows whose event is in the log, or was
        self._early = early
        self._retention = retention
        self._sent: set[int] = set()  # keys of an attempt whose outcome was unknown or lost the race

    def plan(self, state: CustomerState) -> Commit | None:
        """What to append, given the customer's log; fills `account`, `records` and `taken`."""
        self.account = Account()
        known = Known(state)
        plain = self._plain(known)
        _, through_ms = read_header(state.log)
        forgotten = self._forgotten(known, through_ms)
        accepted = plain & ~forgotten
        for i in np.flatnonzero(~plain & ~forgotten).tolist():
            accepted[i] = self._judge(i, known)
        self.taken |= accepted | forgotten
        self.account.counts["skipped"] += int(np.count_nonzero(forgotten))
        self.account.counts["accepted"] += int(np.count_nonzero(accepted))
        return self._commit(state, accepted)

    def _plain(self, known: Known) -> Mask:
        if len(self.rows) < PLAIN_MIN:
            return np.zeros(len(self.rows), bool)
        currencies = _CURRENCIES[self.rows["currency"]]
        return is_plain(self.rows["record"], currencies, known) & ~self._early

    def _forgotten(self, known: Known, through_ms: int) -> Mask:
        if through_ms == TRIMMED_NOTHING:
            return np.zeros(len(self.rows), bool)
        old: Mask = self.rows["record"]["occurred_at_ms"] <= through_ms
        return old & ~np.isin(self.rows["record"]["key"], known.keys)

    def _judge(self, i: int, known: Known) -> bool:
        """Judge one row; whether it is accepted. One that is not goes to the account."""
        row = self.rows[i]
        event = unpack(row["record"].tobytes())
        outcome, record = (
            _EARLY if self._early[i] else judge(event, CURRENCIES[row["currency"]] or None, known)
        )  # fmt: skip
        if outcome.status == "rejected":
            self.account.refuse(int(row["row"]), outcome.field or "", outcome.reason or "")
            return False
        self.taken[i] = True
        if record is not None:
            known.add(event.key, record)
            self.records[i] = np.frombuffer(record, RECORD)[0]
        recorded = outcome is not ACCEPTED and event.key in self._sent
        self.account.counts["duplicate"] += outcome is not ACCEPTED and not recorded
        self.account.counts["accepted"] += recorded
        return outcome is ACCEPTED

    def _commit(self, state: CustomerState, accepted: Mask) -> Commit | None:
        if not accepted.any():
            return None
        added = self.records[accepted].tobytes()
        self._sent |= set(self.records["key"][accepted].tolist())
        trimmed = self._retention.trimmed(state.log, added)
        if trimmed is not None:
            self.account.trimmed = read_header(trimmed)[0] - read_header(state.log)[0]
        return Commit(self.customer_id, state.version, records=added, trimmed_log=trimmed, origin="import")


_EARLY: Final[tuple[EventOutcome, bytes | None]] = (
    EventOutcome("rejected", "decision_id", "stands in the file before the drawdown that it settles"), None,
)  # fmt: skip


def chunks_of(history: History, retention: Retention) -> Iterator[Chunk]:
    """A customer's history in chunks, in recorded order."""
    rows, early = _with_entities(history.rows), _early(history.rows)
    for start in range(0, len(rows), EVENTS_PER_CALL_MAX):
        part = slice(start, start + EVENTS_PER_CALL_MAX)
        yield Chunk(history.customer_id, rows[part], early[part], retention)


def _early(rows: Rows) -> Mask:
    records = rows["record"]
    settles = (records["flags"] & FLAG_SETTLES != 0) & (records["kind"] == DRAWDOWN)
    early = np.zeros(len(rows), bool)
    if settles.any():
        first = {key: i for i, key in reversed(list(enumerate(records["key"].tolist())))}
        for i in np.flatnonzero(settles).tolist():
            early[i] = first.get(int(records["counterparty"][i]), -1) > i
    return early


def _with_entities(rows: Rows) -> Rows:
    """The rows, in which a settlement or label that names no entity has those of the event that it concerns, where the
    file has both."""
    records = rows["record"]
    concerning = np.flatnonzero(records["flags"] & (FLAG_SETTLES | FLAG_LOAN) != 0)
    if not len(concerning):
        return rows
    at: dict[int, Any] = {key: i for i, key in enumerate(rows["event"].tolist())}
    at |= {key: i for i, key in enumerate(records["key"].tolist())}
    rows = rows.copy()
    for i in concerning.tolist():
        of = at.get(int(records["counterparty"][i]), i)
        if not rows["named"][i]:
            rows["named"][i] = rows["named"][of]
            for grain in LINK_GRAINS:
                rows[grain][i] = rows[grain][of]
    return rows

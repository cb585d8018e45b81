"""Recording events: each accepted event counts exactly once, in one atomic append per customer.

What is accepted is for `judge.py` to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from decision_service.core.limits import RECORD_BYTES
from decision_service.core.request import PostedEvent
from decision_service.core.retention import trim
from decision_service.core.state import CustomerState
from decision_service.judge import ACCEPTED, DUPLICATE, EventOutcome, Known, judge
from decision_service.store import Commit


@dataclass(frozen=True, slots=True)
class Retention:
    """How much history a log keeps. Ages count back from the newest of the events that arrive, not from the clock, so
    that replayed history is kept as it was."""

    retention_ms: int
    events_max: int
    slack: int

    def trimmed(self, log: bytes, records: bytes) -> bytes | None:
        """The log to put in place of `log` before `records` are appended, or None."""
        starts = range(0, len(records), RECORD_BYTES)
        newest_ms = max(int.from_bytes(records[start : start + 8], "little", signed=True) for start in starts)
        return trim(log, len(records) // RECORD_BYTES, newest_ms, self.retention_ms, self.events_max, self.slack)


class EventBatch:
    """The events of one call that belong to one customer, judged against the state they meet."""

    def __init__(self, customer_id: str, events: Sequence[PostedEvent], retention: Retention) -> None:
        self.customer_id = customer_id
        self.events = events
        self.outcomes: dict[int, EventOutcome] = {}
        self._retention = retention
        self._sent: set[int] = set()  # keys of an attempt whose outcome was unknown or lost the race

    def plan(self, state: CustomerState) -> Commit | None:
        """What to append, given the customer's log; fills `outcomes`."""
        known = Known(state)
        records, bodies = [], []
        for posted in self.events:
            outcome, record = judge(posted.event, posted.currency, known)
            recorded = outcome is DUPLICATE and posted.event.key in self._sent  # by this call, when it tried before
            self.outcomes[posted.index] = ACCEPTED if recorded else outcome
            if record is not None:
                known.add(posted.event.key, record)
                records.append(record)
                bodies.append({b"kind": b"event", b"customer": self.customer_id.encode(), b"event": posted.body})
        self._sent |= {int.from_bytes(record[8:16], "little") for record in records}
        if not records:
            return None
        added = b"".join(records)
        return Commit(
            self.customer_id, state.version, records=added, trimmed_log=self._retention.trimmed(state.log, added),
            outbox=bodies,
        )  # fmt: skip

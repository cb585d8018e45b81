"""Recording events: each accepted event counts exactly once, in one atomic append per customer.

What is accepted is for `judge.py` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from decision_service.core.event import DRAWDOWN, KINDS
from decision_service.core.limits import RECORD_BYTES
from decision_service.core.links import about_name, customer_key, pack_links
from decision_service.core.request import PostedEvent
from decision_service.core.retention import trim
from decision_service.core.state import CustomerState
from decision_service.judge import ACCEPTED, DUPLICATE, EventOutcome, Known, judge
from decision_service.store import Commit
from decision_service.store.keys import digest_in_decision_id

LABEL: Final = KINDS["label"]
_INSTANT: Final = Struct(f"<q{RECORD_BYTES - 8}x")  # of a record: when it happened, ms


@dataclass(frozen=True, slots=True)
class Retention:
    """How much history a log keeps. Ages count back from the newest of the events that arrive, not from the clock, so
    that replayed history is kept as it was."""

    retention_ms: int
    events_max: int
    slack: int

    def trimmed(self, log: bytes, records: bytes) -> bytes | None:
        """The log to put in place of `log` before `records` are appended, or None."""
        (newest_ms,) = max(_INSTANT.iter_unpack(records))
        return trim(log, len(records) // RECORD_BYTES, newest_ms, self.retention_ms, self.events_max, self.slack)


class EventBatch:
    """The events of one call that belong to one customer, judged against the state they meet."""

    def __init__(
        self, customer_id: str, events: Sequence[PostedEvent], retention: Retention, new_links_id: Callable[[], bytes]
    ) -> None:
        self.customer_id = customer_id
        self.events = events
        self.outcomes: dict[int, EventOutcome] = {}
        self.planned: Commit | None = None  # what the last `plan` said
        self._retention = retention
        self._new_links_id = new_links_id
        self._sent: set[int] = set()  # keys of an attempt whose outcome was unknown or lost the race

    def plan(self, state: CustomerState) -> Commit | None:
        """What to append, given the customer's log; fills `outcomes` and `planned`."""
        known = Known(state)
        records, bodies, links = [], [], []
        for posted in self.events:
            outcome, record = judge(posted.event, posted.currency, known)
            recorded = outcome is DUPLICATE and posted.event.key in self._sent  # by this call, when it tried before
            self.outcomes[posted.index] = ACCEPTED if recorded else outcome
            if record is not None:
                known.add(posted.event.key, record)
                records.append(record)
                links.append(links_of(posted, record))
                bodies.append(posted.body)
        self._sent |= {int.from_bytes(record[8:16], "little") for record in records}
        self.planned = self._commit(state, b"".join(records), bodies, b"".join(links)) if records else None
        return self.planned

    def _commit(self, state: CustomerState, added: bytes, bodies: Sequence[bytes], links: bytes) -> Commit:
        return Commit(
            self.customer_id, state.version, records=added, trimmed_log=self._retention.trimmed(state.log, added),
            events=bodies, links=(self._new_links_id(), links) if links else (b"", b""),
        )  # fmt: skip


def links_of(posted: PostedEvent, record: bytes) -> bytes:
    """The links of an accepted event: to the entities that it names, and to those of the decision that it settles or,
    as a label, concerns."""
    names = posted.names
    if posted.decision_id is not None and posted.event.kind in (DRAWDOWN, LABEL):
        digest = digest_in_decision_id(posted.decision_id)
        if digest is not None:
            names = (*names, about_name(digest))
    return pack_links(names, record, customer_key(posted.customer_id)) if names else b""

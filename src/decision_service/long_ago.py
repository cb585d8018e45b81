"""Decided long ago: a question that comes again after its frame has left the store.

The archive has every decision before the store lets its frame expire. So a repeat of a `request_id` is answered from
there, byte for byte, if the archive answers before the deadline; else it is refused as it always was, and never decided
twice.

What tells that a question was decided before is the record that the decision left in the customer's log. A review that
changed nothing left none, so a review whose frame is gone would be decided anew. So a review is looked for in the
archive's index first, unless it says that it is of the last hours (`occurred_at`): then its frame would still be there.
That takes half a millisecond where there is nothing. If the archive does not answer, or no compaction has indexed it,
or its customer was erased within the day, such a review is decided anew: it lends nothing.

Of drawdowns the record tells for as long as the log has it: 400 days or 4,096 events (`retention_days`,
`events_per_customer_max`), and one dated further back than `request_age_max_ms` is refused in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import orjson

from decision_service.answer import Answer
from decision_service.core.errors import ArchiveUnavailable, Conflict, RequestIdReused
from decision_service.core.limits import HOUR_MS
from decision_service.core.request import DRAWDOWN_SCENE, DecisionRequest

if TYPE_CHECKING:
    from decision_service.archive.archived_decisions import ArchivedDecisions
    from decision_service.archive.schema import Row

REVIEW_BUDGET: Final = 0.25  # of the time left: what a review may wait for the archive
FRESH_MS: Final = 12 * HOUR_MS  # frames are kept for a day at the least
_GONE: Final = "this request_id was decided long ago; its answer is no longer kept"


class DecidedLongAgo(Exception):
    """A question left its records in the log, and its decision is gone: it is not decided again."""


class LongAgo:
    """Answers of decisions that the store has no more; `archived` is None where no archive is configured."""

    def __init__(
        self, archived: ArchivedDecisions | None, now_ms: Callable[[], int], monotonic: Callable[[], float]
    ) -> None:
        self._archived = archived
        self._now_ms = now_ms
        self._clock = monotonic

    async def answer(self, request: DecisionRequest, decision_id: str, deadline: float) -> Answer:
        """The archived answer to a question that was decided long ago. Conflict, RequestIdReused."""
        if self._archived is not None:
            try:
                row = await self._archived.answer(decision_id, deadline - self._clock())
            except ArchiveUnavailable:
                raise Conflict(
                    "this request_id was decided long ago; the archive did not give its answer in time: ask again with "
                    "a longer deadline_ms, or GET the decision"
                ) from None
            if (answer := _told(row, request, decision_id)) is not None:
                return answer
        raise Conflict(_GONE)

    async def review(self, request: DecisionRequest, decision_id: str, left_s: float) -> Answer | None:
        """The archived answer to a review, or None if it is to be decided. Conflict if the answer was erased or its
        retention is over; RequestIdReused."""
        if self._archived is None or not request.is_review or self._is_fresh(request):
            return None
        try:
            row = await self._archived.answer(decision_id, left_s * REVIEW_BUDGET, indexed_only=True)
        except ArchiveUnavailable:
            return None
        if (answer := _told(row, request, decision_id)) is None and row is not None:
            raise Conflict(_GONE)
        return answer

    def _is_fresh(self, request: DecisionRequest) -> bool:
        at_ms = request.occurred_at_ms
        return at_ms is not None and self._now_ms() - at_ms < FRESH_MS


def _told(row: Row | None, request: DecisionRequest, decision_id: str) -> Answer | None:
    """An archived answer, byte for byte; None if there is none, or none any more. RequestIdReused."""
    if row is None or row.answer is None:
        return None
    if row.fingerprint and row.fingerprint != request.fingerprint:
        raise RequestIdReused("this request_id was already used with other content")
    head = orjson.loads(row.answer)
    return Answer(row.answer, True, decision_id, head["decision"], head["rung"], head.get("scene", DRAWDOWN_SCENE))

"""Search over all decisions: those of the archive, and those that wait in the outbox to be archived."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from decision_service.api.instants import format_instant
from decision_service.archive.search import Question
from decision_service.archive.told import summary_of
from decision_service.archive.waiting import waiting_decisions
from decision_service.core.errors import ArchiveUnavailable

if TYPE_CHECKING:
    from decision_service.archive.archived_decisions import ArchivedDecisions
    from decision_service.policies.active_policy import ActivePolicy
    from decision_service.store import Store

STORE_TIMEOUT_S: Final = 2.0
ARCHIVE_TIMEOUT_S: Final = 20.0  # a day is looked through to its end, however many decisions it has


class DecisionSearch:
    """Searches for one worker; `archived` is None where no archive is configured."""

    def __init__(
        self, store: Store, active: ActivePolicy, archived: ArchivedDecisions | None, partitions: int,
        now_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._store = store
        self._active = active
        self._archived = archived
        self._partitions = partitions
        self._now_ms = now_ms

    async def page(self, question: Question) -> dict[str, Any]:
        """One page, newest first, and what it covers. ArchiveUnavailable, StoreError."""
        if self._archived is None:
            raise ArchiveUnavailable("no archive is configured here: decisions are found by their id only")
        places = question.places(self._partitions)
        # What waits is read first: an entry that is archived in between is found twice, and never not at all.
        waiting = await waiting_decisions(
            self._store, places, self._now_ms(), self._active.description, STORE_TIMEOUT_S
        )
        page = await self._archived.search(question, waiting.rows, ARCHIVE_TIMEOUT_S)
        return {
            "decisions": [summary_of(row) for row in page.rows],
            "after": None if page.after is None else str(page.after),
            "searched_from": format_instant(page.searched_from_ms),
            "archived_through": format_instant(waiting.archived_through_ms),
            "includes_waiting": waiting.all_told,
        }

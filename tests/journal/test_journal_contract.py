"""What every journal promises, on the disk and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journal_cases import T0_MS, decision_id, row, run_local, run_memory, told

from decision_service.journal import Conflict, Journal

RunJournal = Callable[..., Any]


@pytest.fixture(params=[run_local, run_memory], ids=["local", "memory"])
def run_journal(request: pytest.FixtureRequest) -> RunJournal:
    """Run a coroutine function with an empty journal."""
    return request.param  # type: ignore[no-any-return]


def test_rows_are_found_and_told_in_order(run_journal: RunJournal, tmp_path: Path) -> None:
    """What is written is pending, found by its id and its customer, and told oldest first until it is removed."""

    async def test(journal: Journal) -> None:
        assert journal.pending == 0
        for n, customer in enumerate(("c-1", "c-2", "c-1")):
            written = await journal.write(row(n, customer))
            assert written is not None
            assert written.frame == row(n).frame
        assert journal.pending == 3
        found = journal.find(decision_id(1))
        assert found is not None
        assert found._replace(seq=0) == row(1, "c-2")
        assert journal.find(decision_id(9)) is None
        assert told(journal.of_customer("c-1")) == [decision_id(0), decision_id(2)]
        rows = await journal.oldest(0, 2)
        assert told(rows) == [decision_id(0), decision_id(1)]
        assert told(await journal.oldest(rows[-1].seq, 2)) == [decision_id(2)]
        assert await journal.remove([decision_id(0), decision_id(1), decision_id(7)]) == 2
        assert journal.pending == 1
        assert await journal.remove([decision_id(2)]) == 1
        assert journal.pending == 0

    run_journal(tmp_path, test)


def test_the_first_row_under_an_id_stays(run_journal: RunJournal, tmp_path: Path) -> None:
    """A second answer to one question is not written: what comes back is the first, at once or one after another."""

    async def test(journal: Journal) -> None:
        first, second = await asyncio.gather(journal.write(row(1)), journal.write(row(1, frame=b"other")))
        assert first is not None
        assert second is not None
        assert first.frame == second.frame == b"frame 1"
        again = await journal.write(row(1, frame=b"third"))
        assert again is not None
        assert again.frame == b"frame 1"
        assert journal.pending == 1

    run_journal(tmp_path, test)


def test_a_customer_has_one_approval_at_a_time(run_journal: RunJournal, tmp_path: Path) -> None:
    """A second approval is refused while the first waits, not a hold and not another customer's; then there is room."""

    async def test(journal: Journal) -> None:
        both = await asyncio.gather(journal.write(row(1, approved=100)), journal.write(row(2, approved=100)))
        assert [one is None for one in both] == [False, True]
        assert await journal.write(row(3)) is not None
        assert await journal.write(row(4, "c-2", approved=100)) is not None
        again = await journal.write(row(1, approved=100))
        assert again is not None, "the approval itself is no other"
        assert journal.pending == 3
        await journal.remove([decision_id(1)])
        assert await journal.write(row(2, approved=100)) is not None

    run_journal(tmp_path, test)


def test_a_conflict_takes_its_row_away_once(run_journal: RunJournal, tmp_path: Path) -> None:
    """A conflict is kept with both answers; keeping it again keeps nothing."""

    async def test(journal: Journal) -> None:
        await journal.write(row(1))
        conflict = Conflict("differs", decision_id(1), "c-1", 0, T0_MS, b"frame 1", b"stored")
        assert await journal.keep_conflict(conflict) is True
        assert await journal.keep_conflict(conflict) is False
        assert await journal.conflicts() == [conflict]
        assert (journal.pending, journal.find(decision_id(1))) == (0, None)

    run_journal(tmp_path, test)


def test_doubt_is_remembered(run_journal: RunJournal, tmp_path: Path) -> None:
    """A row may be doubted and trusted again."""

    async def test(journal: Journal) -> None:
        await journal.write(row(1))
        for _ in range(2):
            await journal.doubt(decision_id(1))
            found = journal.find(decision_id(1))
            assert found is not None
            assert found.doubtful
            assert await journal.trust(found)
            assert journal.find(decision_id(1)) == found._replace(doubtful=False)

    run_journal(tmp_path, test)


def test_only_a_doubtful_row_is_dropped(run_journal: RunJournal, tmp_path: Path) -> None:
    """A row is trusted or dropped, whichever comes first; and only that very row, not a later one of the same id."""

    async def test(journal: Journal) -> None:
        first = await journal.write(row(1, approved=5)._replace(doubtful=True))
        assert first is not None
        assert first.doubtful
        assert await journal.drop(first)
        assert (journal.pending, journal.find(decision_id(1))) == (0, None)
        assert not await journal.trust(first)
        assert not await journal.drop(first)
        second = await journal.write(row(1, approved=5)._replace(doubtful=True))
        assert second is not None
        assert not await journal.trust(first)
        assert not await journal.drop(first)
        assert await journal.trust(second)
        assert not await journal.drop(second), "it may have been told by now"
        assert journal.find(decision_id(1)) == second._replace(doubtful=False)
        assert journal.pending == 1

    run_journal(tmp_path, test)

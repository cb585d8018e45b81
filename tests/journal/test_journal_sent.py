"""The sent table: what any worker of a host has marked is marked, whoever asks, dead or alive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_cases import decision_id

from decision_service.core.errors import JournalUnavailable
from decision_service.core.limits import DAY_MS
from decision_service.journal import SentTable
from decision_service.journal.memory import MemorySentTable
from decision_service.journal.sent import SETS, WORDS, SentTables, approval_key


def two_on_disk(directory: Path) -> tuple[SentTable, SentTable]:
    """Tables of two workers of one host."""
    return SentTables(directory), SentTables(directory)


def two_in_memory(_directory: Path) -> tuple[SentTable, SentTable]:
    """The same in memory."""
    shared: list[set[str]] = []
    return MemorySentTable(shared), MemorySentTable(shared)


@pytest.mark.parametrize("make", [two_on_disk, two_in_memory])
def test_a_mark_is_seen_by_all_and_taken_back_by_its_maker(make: object, tmp_path: Path) -> None:
    """Each worker has its own marks; an id is held as long as one of them has it."""
    one, other = make(tmp_path)  # type: ignore[operator]
    assert not one.holds(decision_id(1))
    assert one.mark(decision_id(1)) is True
    assert one.mark(decision_id(1)) is False
    assert other.holds(decision_id(1))
    assert other.mark(decision_id(1)) is True
    one.unmark(decision_id(1))
    assert one.holds(decision_id(1)), "the other worker's mark is still there"
    other.unmark(decision_id(1))
    assert not one.holds(decision_id(1))
    assert not other.holds(decision_id(2))


@pytest.mark.parametrize("make", [two_on_disk, two_in_memory])
def test_a_mark_that_is_kept_is_not_taken_back(make: object, tmp_path: Path) -> None:
    """The store has a decision under the id: an attempt that marked it before, and fails, leaves the mark."""
    one, other = make(tmp_path)  # type: ignore[operator]
    assert one.mark(decision_id(1)) is True
    one.keep(decision_id(1))
    one.unmark(decision_id(1))
    assert other.holds(decision_id(1))
    assert (one.kept(decision_id(1)), other.kept(decision_id(1)), one.kept(decision_id(2))) == (True, False, False)


@pytest.mark.parametrize("make", [two_on_disk, two_in_memory])
def test_an_approval_is_marked_by_customer_and_day(make: object, tmp_path: Path) -> None:
    """What is approved to a customer is held under the key of that customer and day, and under no other."""
    one, other = make(tmp_path)  # type: ignore[operator]
    one.mark_approval("c-1", 20 * DAY_MS + 5)
    assert other.holds(approval_key("c-1", 21 * DAY_MS - 1))
    assert not any(other.holds(approval_key(*key)) for key in (("c-1", 21 * DAY_MS), ("c-2", 20 * DAY_MS)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_leaves_no_table_that_the_service_cannot_read(tmp_path: Path) -> None:
    """`reconcile` run as root makes files beside those of the service: they are the service's."""
    os.chown(tmp_path, 4_321, 4_321)
    SentTables(tmp_path).close()
    assert [(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.glob("sent-*.map")] == [(4_321, 4_321)]


@pytest.mark.fault("D07", "H01")
def test_marks_of_a_dead_worker_stay(tmp_path: Path) -> None:
    """A worker that is killed leaves its marks; the next one takes its table over, and both are seen."""
    code = (
        "import os, sys, pathlib\n"
        "from decision_service.journal.sent import SentTables\n"
        "table = SentTables(pathlib.Path(sys.argv[1]))\n"
        "table.mark(sys.argv[2])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    living = SentTables(tmp_path)
    subprocess.run([sys.executable, "-c", code, str(tmp_path), decision_id(1)], check=False)
    assert living.holds(decision_id(1))
    heir = SentTables(tmp_path)
    assert heir.holds(decision_id(1))
    assert heir.mark(decision_id(1)) is False
    assert sorted(path.name for path in tmp_path.glob("sent-*.map")) == ["sent-0.map", "sent-1.map"]


def test_a_full_set_forgets_its_oldest(tmp_path: Path) -> None:
    """A set holds 15 ids; a further one takes the place of the oldest."""
    table = SentTables(tmp_path)
    same_set = [f"d000{n << 33 | 7:016x}{n:016x}" for n in range(1, WORDS + 1)]
    for one in same_set:
        table.mark(one)
    assert [table.holds(one) for one in same_set] == [False] + [True] * (WORDS - 1)


@settings(max_examples=20, deadline=None)
@given(ids=st.lists(st.integers(0, 2**128 - 1), unique=True, max_size=200))
def test_it_agrees_with_a_set(ids: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Marks of a few hundred ids are all there, and no others."""
    table = SentTables(tmp_path_factory.mktemp("sent"))
    told = [f"d001{one:032x}" for one in ids]
    places = {(one & (SETS - 1), one >> 97) for one in ids}
    for one in told[::2]:
        table.mark(one)
    assert all(table.holds(one) for one in told[::2])
    if len(places) == len(ids):
        held = [one for one in told[1::2] if table.holds(one)]
        assert len(held) <= len(ids) // 2
    for one in told[::2]:
        table.unmark(one)
    assert not any(table.holds(one) for one in told)
    table.close()


@pytest.mark.fault("H08")
def test_a_table_taken_away_is_made_again_with_its_marks(tmp_path: Path) -> None:
    """Files deleted underneath come back with what the living workers marked; nothing is forgotten meanwhile."""
    one, other = SentTables(tmp_path), SentTables(tmp_path)
    one.mark(decision_id(1))
    other.mark(decision_id(2))
    assert one.holds(decision_id(2))
    for path in tmp_path.glob("sent-*.map"):
        path.unlink()
    one.restore()
    other.restore()
    third = SentTables(tmp_path)
    for table in (one, other, third):
        assert table.holds(decision_id(1))
        assert table.holds(decision_id(2))
    one.mark(decision_id(3))
    assert third.holds(decision_id(3))


def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """No table, no static answers: it says so."""
    with pytest.raises(JournalUnavailable):
        SentTables(tmp_path / "nowhere")

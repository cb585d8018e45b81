"""Compaction: many segments become one, whatever happens meanwhile, and no row is lost, doubled or brought back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from archive_cases import NOON_MS, PARTITION, chained_rows, decision_id
from made_archives import DAY_MS, TOMORROW_MS, made, put

from decision_service.archive.chain import GENESIS, erased, problem_of
from decision_service.archive.compacting import compact_once
from decision_service.archive.compaction import Compacted, compact
from decision_service.archive.files import Archive
from decision_service.archive.index_files import IndexFiles
from decision_service.archive.lookup import Lookup
from decision_service.archive.schema import Row
from decision_service.archive.segments import Segment
from decision_service.archive.tables import rows_of
from decision_service.core.errors import ArchiveDamaged
from decision_service.settings import Settings

DAY = "2026-11-22"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def compacted(archive: Archive, now_ms: int = TOMORROW_MS, grace_ms: int = 0, day: str | None = None) -> Compacted:
    (told,) = compact(archive, [PARTITION], now_ms, day, grace_ms)
    return told


def rows_in(archive: Archive) -> list[Row]:
    """All rows as a reader sees them, their chain verified."""
    rows = [row for segment in archive.segments(places=[PARTITION]) for row in rows_of(archive.read(segment))]
    position, previous = 0, GENESIS
    for row in rows:
        assert not problem_of(row, position, previous)
        position, previous = row.position, row.hash or b""
    return rows


def test_a_closed_day_becomes_one_segment_with_the_same_rows(archive: Archive) -> None:
    """Nine segments of three days become three, today's stay, and the chain does not notice."""
    rows = made(archive, days=4, parts=3)
    done = compacted(archive, NOON_MS)
    assert (done.merged, done.into, done.removed, done.indexed, done.problems) == (9, 3, 9, 36, ())
    segments = archive.segments(places=[PARTITION])
    assert [(s.day, s.first, s.last) for s in segments][:3] == [
        ("2026-11-19", 1, 12), ("2026-11-20", 13, 24), ("2026-11-21", 25, 36),
    ]  # fmt: skip
    assert len(segments) == 6
    assert rows_in(archive) == rows
    assert archive.hashes(segments[1]) == (rows[11].hash, rows[23].hash)
    with archive.open(segments[0]) as file:
        assert file.metadata.num_row_groups == 1
    assert compacted(archive, NOON_MS) == Compacted(PARTITION)


def test_rows_that_come_late_are_merged_in_time(archive: Archive) -> None:
    """A day that was merged before takes further rows; an open day is merged when it is named."""
    rows = made(archive, days=1)
    assert compacted(archive, NOON_MS).into == 0
    assert len(archive.segments()) == 3
    assert compacted(archive, NOON_MS, day=DAY).into == 1
    late = chained_rows(4, len(rows), rows[-1].hash or b"")
    put(archive, late, rows[-1].hash or b"")
    assert compacted(archive).into == 1
    (segment,) = archive.segments()
    assert (segment.first, segment.last) == (1, 16)
    assert rows_in(archive) == rows + late
    found = Lookup(archive).decision(decision_id(15))
    assert found is not None
    assert found.row == late[2]
    assert [(i.first, i.last, len(i)) for i in IndexFiles(archive).of(PARTITION)] == [(1, 16, 16)]


def test_who_listed_before_may_still_read(archive: Archive) -> None:
    """Merged segments stay, unseen, until the one has been there for the time of grace."""
    rows = made(archive, days=1)
    before = archive.segments()
    assert compacted(archive, grace_ms=1 << 60).removed == 0
    assert [row for segment in before for row in rows_of(archive.read(segment))] == rows == rows_in(archive)
    assert len(archive.segments_on(PARTITION, DAY)) == 4
    assert len(archive.segments()) == 1
    assert compacted(archive, grace_ms=1 << 60).removed == 0  # the merged one is younger
    assert compacted(archive).removed == 3
    assert archive.segments_on(PARTITION, DAY) == archive.segments()


def test_a_gap_is_not_closed(archive: Archive) -> None:
    """Segments that do not follow each other stay apart, and are told; so does one of another chain."""
    rows = chained_rows(12)
    put(archive, rows[:4], GENESIS)
    put(archive, rows[8:], rows[7].hash or b"")
    done = compacted(archive)
    assert done.into == 0
    assert "does not follow" in done.problems[0]
    assert len(archive.segments()) == 2
    assert [(i.first, i.last) for i in IndexFiles(archive).of(PARTITION)] == [(1, 4)]
    put(archive, chained_rows(4, 4, b"x" * 32), b"x" * 32)  # in the gap, of another chain
    assert compacted(archive).into == 0
    assert len(archive.segments()) == 3


def test_a_merged_segment_that_does_not_read_back_is_taken_away(archive: Archive) -> None:
    """The parts are as they were, and nothing is removed."""
    rows = made(archive, days=1)

    class Flips(Archive):
        """Writes other rows than it was given."""

        def write(self, path: str, content: bytes) -> None:
            if "-c1-" in path:
                segment = super().segments()[0]
                content = super().read_bytes(segment.path)
            super().write(path, content)

    with pytest.raises(ArchiveDamaged, match="does not read back as it was written"):
        compacted(Flips(archive.url))
    assert rows_in(archive) == rows
    assert len(archive.segments()) == 3


def test_what_is_erased_while_it_is_merged_stays_erased(archive: Archive) -> None:
    """An erasure that writes a part anew after it was read is in the merged segment, too."""
    rows = made(archive, days=1)
    first = archive.segments()[0]

    class Erasing(Archive):
        """Erases row 2 just before the merged segment is written for the first time."""

        erased = False

        def write(self, path: str, content: bytes) -> None:
            if "-c1-" in path and not self.erased:
                self.erased = True
                some = [erased(row, NOON_MS) if row.position == 2 else row for row in rows[:4]]
                assert put(archive, some, GENESIS) == first
            super().write(path, content)

    compacted(Erasing(archive.url))
    told = rows_in(archive)
    assert [row.position for row in told if row.customer_id is None] == [2]
    assert len(told) == 12


@pytest.mark.parametrize("calls", range(6))
def test_killed_at_any_point_it_goes_on(archive: Archive, calls: int) -> None:
    """Killed before its n-th change of the archive it leaves every row readable once; the next run finishes."""
    rows = made(archive, days=2)
    script = f"""
import os, signal, sys
from decision_service.archive.compaction import compact
from decision_service.archive.files import Archive
class Killed(Archive):
    left = {calls}
    def _spend(self):
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
    def write(self, path, content):
        self._spend()
        super().write(path, content)
    def remove(self, path):
        self._spend()
        super().remove(path)
list(compact(Killed(sys.argv[1]), [{PARTITION}], {TOMORROW_MS}, None, 0))
"""
    ended = subprocess.run([sys.executable, "-c", script, archive.url], check=False, capture_output=True)
    assert ended.returncode == -9, ended.stderr
    assert rows_in(archive) == rows
    found = Lookup(archive).decision(decision_id(3))
    assert found is not None
    assert found.row == rows[2]
    compacted(archive)
    assert rows_in(archive) == rows
    assert len(archive.segments()) == 2
    assert len(archive.segments_on(PARTITION, DAY)) == 1
    assert len(IndexFiles(archive).of(PARTITION)) == 1


def test_a_purged_front_is_no_gap(archive: Archive) -> None:
    """A place whose first days were taken away by retention is indexed from where it begins."""
    made(archive, days=3)
    for segment in archive.segments_on(PARTITION, "2026-11-20"):
        archive.remove(segment.path)
    assert compacted(archive).indexed == 36
    assert Lookup(archive).decision(decision_id(13)) is not None
    assert Lookup(archive).decision(decision_id(3)) is None
    assert isinstance(archive.segments()[0], Segment)


@pytest.mark.anyio
async def test_a_service_has_closed_days_compacted(archive: Archive, tmp_path: Path) -> None:
    """By a process of its own, with the settings it has."""
    rows = made(archive, days=2)
    settings = Settings(redis_url="memory://", data_dir=tmp_path, archive_url=archive.url, partitions=PARTITION + 1)
    assert await compact_once(settings) == 0
    assert len(archive.segments_on(PARTITION, "2026-11-21")) == 4  # the merged one, and its parts for a while
    assert len(archive.segments(until_ms=NOON_MS - DAY_MS)) == 1
    assert rows_in(archive) == rows

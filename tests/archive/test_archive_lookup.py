"""Look-up: a decision by its id, with and without an index, while files are merged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_cases import NOON_MS, PARTITION, decision_id, frame
from made_archives import TOMORROW_MS, appended, made, put, shadow_row

from decision_service.archive.archived_decisions import ArchivedDecisions
from decision_service.archive.chain import GENESIS, erased
from decision_service.archive.compaction import compact
from decision_service.archive.files import Archive
from decision_service.archive.index import (
    Entry,
    Index,
    IndexDamaged,
    Range,
    index_of,
    merged,
    outermost,
    range_of,
    to_merge,
    uncovered_from,
)
from decision_service.archive.index_files import IndexFiles
from decision_service.archive.lookup import Archived, Lookup
from decision_service.archive.schema import Row
from decision_service.archive.segments import without_covered
from decision_service.core.errors import ArchiveUnavailable

pytestmark = pytest.mark.anyio
DAY = "2026-11-22"
UNKNOWN = f"d{PARTITION:03x}" + "0" * 32


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


@pytest.fixture(params=["local", "memory"])
def any_archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    if request.param == "local":
        yield Archive(tmp_path / "archive")
        return
    import fsspec

    yield Archive(f"memory://{tmp_path.name}-lookup")
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}-lookup", recursive=True)


def compacted(archive: Archive, now_ms: int = TOMORROW_MS, grace_ms: int = 0) -> None:
    for _ in compact(archive, [PARTITION], now_ms, grace_ms=grace_ms):
        pass


def told(found: Archived | None) -> int | None:
    return None if found is None else found.row.position


# --- the index --------------------------------------------------------------------------------------------------


def test_an_index_finds_what_a_dictionary_finds() -> None:
    """Of 2,000 random ids, some with several rows, all are found with day and position, and no others."""
    drawn = random.Random(7)
    ids = [f"d0a3{drawn.getrandbits(128):032x}" for _ in range(2_000)]
    rows = [(ids[drawn.randrange(len(ids))], 20_000 + n // 500, n + 1) for n in range(3_000)]
    index = Index.from_bytes(index_of(1, 3_000, rows).to_bytes())
    for decision in ids:
        expected = sorted(Entry(day, position) for one, day, position in rows if one == decision)
        assert index.find(int(decision[4:20], 16)) == expected
    assert index.find(5) == []
    assert index.last_day == 20_005
    assert (index.first, index.last) == (1, 3_000)


def test_an_index_is_read_whole_or_not_at_all() -> None:
    """Every byte that changes, and every byte that is missing, shows."""
    whole = index_of(1, 3, [(decision_id(n), 20_000, n) for n in (1, 2, 3)]).to_bytes()
    for at in range(len(whole)):
        with pytest.raises(IndexDamaged):
            Index.from_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(IndexDamaged):
            Index.from_bytes(whole[:at])


def test_indexes_that_follow_each_other_become_one() -> None:
    """Merged they find what each found; with a gap between them they are not merged."""
    one, two = (index_of(a, a + 9, [(decision_id(n), 20_000, n) for n in range(a, a + 10)]) for a in (1, 11))
    both = merged([one, two])
    assert (both.first, both.last, len(both)) == (1, 20, 20)
    key = int(decision_id(13)[4:20], 16)
    assert both.find(key) == two.find(key) != []
    with pytest.raises(ValueError, match="positions 11 to 29 are in neither"):
        merged([one, index_of(30, 30, [])])


def test_a_place_has_few_indexes_however_long_it_lives() -> None:
    """Ten years of equal days leave a handful of indexes, and no entry is written more than 20 times."""
    sizes: list[int] = []
    written = 0
    for _ in range(3_650):
        count = to_merge(sizes, 100)
        merged_size = sum(sizes[len(sizes) - count :]) + 100
        sizes = [*sizes[: len(sizes) - count], merged_size]
        written += merged_size
    assert len(sizes) < 10
    assert written / sum(sizes) < 20


def test_ranges_tell_what_is_covered() -> None:
    """Those inside others do not count, and a gap ends what is covered."""
    ranges = outermost([Range(1, 10), Range(1, 4), Range(5, 10), Range(11, 30), Range(12, 20), Range(40, 50)])
    assert ranges == [Range(1, 10), Range(11, 30), Range(40, 50)]
    assert uncovered_from(ranges) == 31
    assert range_of("000000000001-000000000010.idx") == Range(1, 10)
    assert range_of("000000000001-000000000010.parquet") is None
    assert range_of(".x.idx.7") is None


# --- look-up ----------------------------------------------------------------------------------------------------


def test_a_decision_is_found_with_its_frame_whether_indexed_or_not(any_archive: Archive) -> None:
    """Before any compaction, after one, and with days since: every decision is there, byte for byte."""
    rows = made(any_archive, days=3)
    lookup = Lookup(any_archive)
    for n in range(1, len(rows) + 1):
        found = lookup.decision(decision_id(n))
        assert found is not None
        assert told(found) == n
        assert found.frame() == frame(n)
    compacted(any_archive, NOON_MS)  # all but the last day
    assert [index.last for index in IndexFiles(any_archive).of(PARTITION)] == [24]
    for n in range(1, len(rows) + 1):
        found = lookup.decision(decision_id(n))
        assert found is not None
        assert told(found) == n
        assert found.frame() == frame(n)
    assert lookup.decision(UNKNOWN) is None
    assert lookup.decision("d0a4" + "0" * 32) is None
    with pytest.raises(ValueError, match="is not the id of a decision"):
        lookup.decision("c-1")


def test_the_index_alone_tells_of_closed_days(archive: Archive) -> None:
    """What is asked of the index only is found in compacted days, and not in later ones."""
    made(archive, days=2)
    lookup = Lookup(archive)
    assert lookup.answer(decision_id(3), indexed_only=True) is None
    compacted(archive, NOON_MS)
    row = lookup.answer(decision_id(3), indexed_only=True)
    assert row is not None
    assert row.fingerprint == b"f" * 16
    assert (row.answer or b"") in frame(3)
    assert lookup.answer(decision_id(20), indexed_only=True) is None
    assert lookup.answer(decision_id(20)) is not None


def test_a_hint_of_the_day_looks_nowhere_else(archive: Archive) -> None:
    """What no index reaches is looked for on the day of the hint."""
    made(archive, days=3)
    lookup = Lookup(archive)
    assert told(lookup.decision(decision_id(30), DAY)) == 30
    assert lookup.decision(decision_id(2), DAY) is None
    assert told(lookup.decision(decision_id(2), "2026-11-20")) == 2


def test_what_shadows_said_comes_with_the_decision(archive: Archive) -> None:
    """Their row is told beside the decision's, wherever it stands behind it."""
    rows = made(archive, days=1)
    appended(archive, rows, shadow_row(5, NOON_MS + 1_000))
    for _ in range(2):
        found = Lookup(archive).decision(decision_id(5))
        assert found is not None
        assert found.row.position == 5
        assert found.shadows is not None
        assert found.shadows == {"behaviour": {"2": {"points": 600}}}
        assert Lookup(archive).decision(decision_id(6)) is not None
        compacted(archive)


def test_two_decisions_may_share_a_key(archive: Archive) -> None:
    """The whole id decides: one whose first eight bytes are another's is not taken for it."""
    rows = made(archive, days=1)
    twin = decision_id(4)[:20] + "f" * 16
    appended(archive, rows, rows[3]._replace(decision_id=twin, at_ms=NOON_MS + 1_000))
    compacted(archive)
    assert told(Lookup(archive).decision(decision_id(4))) == 4
    assert told(Lookup(archive).decision(twin)) == 13


def test_an_erased_decision_tells_what_remains(archive: Archive) -> None:
    """Outcome, reasons, instants and the tombstone are told; the frame is not, nor whose it was."""
    rows = made(archive, days=1, parts=1)
    put(archive, [erased(row, NOON_MS + 5) if row.position == 2 else row for row in rows], GENESIS)
    found = Lookup(archive).decision(decision_id(2))
    assert found is not None
    assert found.erased
    assert found.remains["decision"] == "hold"
    assert found.remains["reasons"] == ["RC10", "RC11"]
    assert found.remains["tombstone"]["erased_at"] == "2026-11-22T12:00:00.005Z"
    assert found.remains["tombstone"]["personal_sha"] == (rows[1].personal_sha or b"").hex()
    assert "customer_id" not in found.remains
    assert "c-1" not in str(found.remains)
    with pytest.raises(ValueError, match="is erased"):
        found.frame()


def test_a_damaged_index_is_not_believed(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out and told; the decision is found by reading the column, and a compaction writes it again."""
    made(archive, days=2)
    compacted(archive)
    (name,) = archive.names(f"index/p={PARTITION:03x}")
    path = f"index/p={PARTITION:03x}/{name}"
    good = archive.read_bytes(path)
    archive.write(path, good[:40] + b"x" + good[41:])
    assert told(Lookup(archive).decision(decision_id(7))) == 7
    assert "is not used: an index of which something was changed" in caplog.text
    compacted(archive)
    assert archive.read_bytes(path) == good


def test_a_decision_is_found_while_its_files_are_merged(archive: Archive) -> None:
    """A listing that is out of date when its files are read is made again."""
    made(archive, days=1)

    class Late(Archive):
        """Merges everything between the first listing and the reading."""

        late = True

        def open(self, segment: object) -> object:
            if self.late:
                self.late = False
                compacted(archive)
                assert len(archive.segments_on(PARTITION, DAY)) == 1
            return super().open(segment)  # type: ignore[arg-type]

    assert told(Lookup(Late(archive.url)).decision(decision_id(9))) == 9


def test_a_reader_gives_up_when_files_are_always_gone(archive: Archive) -> None:
    """It says so instead of answering that there is no such decision."""
    made(archive, days=1)

    class Gone(Archive):
        def open(self, segment: object) -> object:
            raise FileNotFoundError

    with pytest.raises(ArchiveUnavailable, match="gone whenever they are listed"):
        Lookup(Gone(archive.url)).decision(decision_id(9))


# --- beside a service -------------------------------------------------------------------------------------------


async def test_a_worker_asks_without_waiting_longer_than_it_may(archive: Archive) -> None:
    """Found in time it is told; an archive that hangs is given up, and does not keep other questions."""
    made(archive, days=1)
    archived = ArchivedDecisions(lambda: archive, 256)
    archived.start()
    found = await archived.decision(decision_id(2), 10.0)
    assert found is not None
    assert found.row.position == 2
    assert await archived.decision(UNKNOWN, 10.0) is None
    with pytest.raises(ArchiveUnavailable, match="no time is left"):
        await archived.answer(decision_id(2), 0.0)
    hanging = ArchivedDecisions(lambda: _hang(archive), 256)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ArchiveUnavailable, match="did not answer within 20 ms"):
        await hanging.answer(decision_id(2), 0.02)
    assert asyncio.get_running_loop().time() - began < 0.25
    archived.close()
    hanging.close()


def _hang(archive: Archive) -> Archive:
    import time

    time.sleep(0.3)
    return archive


def test_rows_of_other_sorts_are_no_decisions(archive: Archive) -> None:
    """A change without a decision, and an entry that could not be read, are not found as one."""
    rows = appended(
        archive, [],
        Row(PARTITION, at_ms=NOON_MS, customer_id="c-1"),
        Row(PARTITION, at_ms=NOON_MS, at_n=1, kind="unreadable", decision_id=decision_id(50)),
    )  # fmt: skip
    assert len(rows) == 2
    assert Lookup(archive).decision(decision_id(50)) is None
    assert len(without_covered(archive.segments_on(PARTITION, DAY))) == 1

"""Files: complete or absent, on a local folder and on what fsspec opens."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_cases import NOON_MS, PARTITION, chained_rows

from decision_service.archive.chain import GENESIS
from decision_service.archive.files import Archive
from decision_service.archive.schema import ACCESS, LISTS, POLICY, Row, arrow_schema
from decision_service.archive.segments import (
    Segment,
    day_of,
    place_name,
    place_of,
    published_path,
    segment_at,
    segment_path,
    staged_path,
)
from decision_service.archive.tables import parquet_of, rows_of, table_of
from decision_service.core.errors import ArchiveDamaged, ArchiveUnavailable

DAY = "2026-11-22"
DAY_MS = 86_400_000


@pytest.fixture(params=["local", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """An empty archive of each sort."""
    if request.param == "local":
        yield Archive(tmp_path / "archive")
        return
    import fsspec

    yield Archive(f"memory://{tmp_path.name}")
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def kept(archive: Archive, rows: list[Row], writer: str = "7", previous: bytes = GENESIS) -> Segment:
    """Stage and publish rows."""
    assert rows[-1].hash is not None
    path = segment_path(
        rows[0].partition, day_of(rows[0].at_ms), rows[0].position, rows[-1].position, writer, rows[-1].hash
    )
    archive.stage(path, parquet_of(table_of(rows), previous))
    assert archive.publish(path)
    segment = segment_at(path)
    assert segment is not None
    return segment


def test_what_is_staged_cannot_be_seen_until_it_is_published(archive: Archive) -> None:
    """A staged segment is in no listing; published it is, with all its rows, and no longer in staging."""
    rows = chained_rows(5)
    path = segment_path(PARTITION, DAY, 1, 5, "7", rows[-1].hash or b"")
    archive.stage(path, parquet_of(table_of(rows), GENESIS))
    assert archive.segments() == []
    assert [staged for staged, _ in archive.staged()] == [path]
    assert not archive.is_published(path)
    assert archive.publish(path)
    assert archive.segments() == [Segment(PARTITION, DAY, 1, 5, path)]
    assert rows_of(archive.read(archive.segments()[0])) == rows
    assert archive.staged() == []
    assert archive.is_published(path)


def test_publishing_again_does_no_harm(archive: Archive) -> None:
    """Two may publish the same segment; what was never staged cannot be."""
    segment = kept(archive, chained_rows(2))
    assert archive.publish(segment.path)
    assert len(archive.segments()) == 1
    assert not archive.publish(segment_path(PARTITION, DAY, 3, 4, "7", GENESIS))


def test_segments_are_told_in_chain_order_by_place_and_day(archive: Archive) -> None:
    """Whichever was published first; days and places can be chosen."""
    second = kept(archive, chained_rows(2, position=3, day=1))
    first = kept(archive, chained_rows(3))
    other = kept(archive, [row._replace(partition=LISTS) for row in chained_rows(1)])
    third = kept(archive, chained_rows(1, position=5, day=2))
    assert archive.segments() == [other, first, second, third]
    assert archive.segments(since_ms=NOON_MS + DAY_MS) == [second, third]
    assert archive.segments(until_ms=NOON_MS + DAY_MS) == [other, first, second]
    assert archive.segments(places=[LISTS, ACCESS]) == [other]
    assert archive.segments(since_ms=NOON_MS + DAY_MS, until_ms=NOON_MS + DAY_MS, places=[PARTITION]) == [second]


def test_what_a_compaction_merged_is_told_once(archive: Archive) -> None:
    """While the merged segment and those it is made of are there, the merged one counts."""
    rows = chained_rows(6)
    kept(archive, rows[:2])
    kept(archive, rows[2:4], previous=rows[1].hash or b"")
    last = kept(archive, rows[4:], previous=rows[3].hash or b"")
    merged = kept(archive, rows[:4], writer="c1")
    assert archive.segments() == [merged, last]
    assert archive.is_published(segment_path(PARTITION, DAY, 3, 4, "9", GENESIS))


def test_only_some_columns_and_the_hashes_of_a_segment(archive: Archive) -> None:
    """What is not asked for is not read; the metadata tell how the segment follows the one before."""
    rows = chained_rows(3)
    segment = kept(archive, rows[1:], previous=rows[0].hash or b"")
    assert archive.read(segment, ["decision_id", "at_ms"]).column_names == ["decision_id", "at_ms"]
    assert archive.hashes(segment) == (rows[0].hash, rows[2].hash)
    with archive.open(segment) as file:
        assert file.metadata.num_rows == 2


def test_what_is_gone_and_what_is_no_segment(archive: Archive) -> None:
    """A segment that was merged away is FileNotFoundError, so that a reader lists again; another file is damaged."""
    path = segment_path(PARTITION, DAY, 1, 2, "7", GENESIS)
    missing = Segment(PARTITION, DAY, 1, 2, path)
    with pytest.raises(FileNotFoundError):
        archive.read(missing)
    archive.write(path, b"PAR1 no parquet")
    with pytest.raises(ArchiveDamaged, match="000000000001"):
        archive.read(missing)


def test_documents_are_written_whole_and_over_earlier_ones(archive: Archive) -> None:
    """`write`, `read_bytes`, `exists`, `names`, `size`, `remove`."""
    assert archive.names("policies") == []
    archive.write("policies/p1.json", b"{}")
    archive.write("policies/p1.json", b'{"a":1}')
    archive.write("policies/deep/er.json", b"")
    assert archive.read_bytes("policies/p1.json") == b'{"a":1}'
    assert (archive.size("policies/p1.json"), archive.exists("policies/p1.json")) == (7, True)
    assert "p1.json" in archive.names("policies")
    archive.remove("policies/p1.json")
    archive.remove("policies/p1.json")
    assert not archive.exists("policies/p1.json")
    with pytest.raises(FileNotFoundError):
        archive.read_bytes("policies/p1.json")


def test_an_orphan_can_be_discarded(archive: Archive) -> None:
    """What lost the race is listed with its age, and goes."""
    path = segment_path(POLICY, DAY, 1, 1, "3", GENESIS)
    archive.stage(path, b"x")
    [(found, age_ms)] = archive.staged()
    assert found == path
    assert 0 <= age_ms < 60_000
    archive.discard(path)
    archive.discard(path)
    assert archive.staged() == []


def test_a_failing_disk_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A root that cannot be written names itself and the file; nothing half is left beside it."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ArchiveUnavailable, match=r"policies/p1\.json"):
        Archive(tmp_path / "file").write("policies/p1.json", b"{}")
    archive = Archive(tmp_path / "archive")
    archive.write("policies/p1.json", b"before")
    (tmp_path / "archive" / "policies" / "p2.json").mkdir()
    with pytest.raises(ArchiveUnavailable, match=r"p2\.json"):
        archive.write("policies/p2.json", b"{}")
    assert archive.names("policies") == ["p1.json", "p2.json"]
    assert not [name for name in os.listdir(tmp_path / "archive" / "policies") if name.startswith(".")]  # noqa: PTH208


def test_a_disk_that_fills_up_leaves_nothing_half(tmp_path: Path) -> None:
    """A write that fails in the middle is an error, the file before it stays, and it goes on when there is room."""
    archive = Archive(tmp_path / "archive")
    archive.write("policies/p1.json", b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        with pytest.raises(ArchiveUnavailable, match="p1"):
            archive.write("policies/p1.json", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert archive.read_bytes("policies/p1.json") == b"before"
    assert os.listdir(tmp_path / "archive" / "policies") == ["p1.json"]  # noqa: PTH208
    archive.write("policies/p1.json", bytes(100_000))
    assert archive.size("policies/p1.json") == 100_000


def test_a_url_that_nothing_opens_says_so() -> None:
    """An unknown scheme is an error that names the URL."""
    with pytest.raises(ArchiveUnavailable, match="nosuch://x"):
        Archive("nosuch://x")


def test_names_of_places_and_paths() -> None:
    """Each goes both ways; what is neither is refused."""
    for place in (0, 0x0A3, 4_095, POLICY, LISTS, ACCESS):
        assert place_of(place_name(place)) == place
    for place in (4_096, -4):
        with pytest.raises(ValueError, match="no place"):
            place_name(place)
    path = "records/day=2026-11-22/p=0a3/000000000001-000000000456-7-9f2c51d0.parquet"
    assert segment_path(0x0A3, DAY, 1, 456, "7", bytes.fromhex("9f2c51d0") + bytes(28)) == path
    assert staged_path(path) == "staging/2026-11-22_0a3_000000000001-000000000456-7-9f2c51d0.parquet"
    assert published_path(staged_path(path)) == path
    assert segment_at(path) == Segment(0x0A3, DAY, 1, 456, path)
    for other in ("records/day=x/p=0a3/x.parquet", path + ".tmp", path.replace("p=0a3", "p=zzz")):
        assert segment_at(other) is None
    assert day_of(NOON_MS) == DAY
    assert day_of(NOON_MS + DAY_MS // 2 - 1) == DAY
    assert day_of(NOON_MS + DAY_MS // 2) == "2026-11-23"


def test_a_table_has_the_schema_of_the_archive() -> None:
    """Rows go through it unchanged, the erased and the empty among them."""
    rows = [*chained_rows(2), Row(ACCESS, 1, 5, 0, "access", audit_sha=b"a", personal_sha=b"b", hash=b"c")]
    table = table_of(rows)
    assert table.schema == arrow_schema()
    assert rows_of(table) == rows
    assert table_of([]).num_rows == 0
    with pytest.raises(ValueError, match="hash"):
        rows_of(table.drop_columns(["hash"]))

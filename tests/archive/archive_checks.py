"""What must hold of an archive and its store, whatever happened to the consumers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from archive_cases import FACILITY, RECORD, frame

from decision_service.archive.chain import GENESIS, problem_of
from decision_service.archive.files import Archive
from decision_service.archive.rows import frame_of
from decision_service.archive.schema import Row
from decision_service.archive.tables import rows_of
from decision_service.archive.writer import Limits, Writer
from decision_service.store import Commit, Store
from decision_service.store.keys import decision_id_of, partition_of

PARTITIONS = 4
TIMEOUT_S = 5.0


class Counted:
    """Meters that remember."""

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}
        self.files = 0
        self.failed: list[str] = []
        self.lag_s = 0.0
        self.backlog = 0

    def archive_wrote(self, kinds: Iterable[tuple[str, int]], file_bytes: int) -> None:
        """See `Told`."""
        assert file_bytes > 0
        self.files += 1
        for kind, number in kinds:
            self.kinds[kind] = self.kinds.get(kind, 0) + number

    def archive_failed(self, code: str) -> None:
        """See `Meters`."""
        self.failed.append(code)

    def set_archive(self, lag_s: float, backlog: int) -> None:
        """See `Meters`."""
        self.lag_s, self.backlog = lag_s, backlog


async def decide(store: Store, customer: int, requests: Iterable[int]) -> list[str]:
    """Commit decisions of one customer; their ids."""
    customer_id, ids = f"c-{customer}", []
    for n in requests:
        decision_id = decision_id_of(customer_id, f"r-{n}", PARTITIONS)
        state = await store.read(customer_id, None, TIMEOUT_S)
        stored = frame(n, decision_id=decision_id, customer_id=customer_id)
        await store.commit(
            Commit(
                customer_id, state.version, records=RECORD, decision=(decision_id, stored),
                facilities={"f-1": FACILITY} if n % 3 == 0 else {},
            ),
            TIMEOUT_S,
        )  # fmt: skip
        ids.append(decision_id)
    return ids


def writer_on(store: Store, folder: Path, owner: str = "a", rows_max: int = 10, told: Counted | None = None) -> Writer:
    """A writer of small segments."""
    return Writer(store, Archive(folder), owner, Limits(rows_max, 60_000), told or Counted())


async def drained(writer: Writer, places: Iterable[int] = range(PARTITIONS)) -> int:
    """Write everything that waits; how many rows."""
    rows = 0
    for place in places:
        while written := await writer.write(place):
            rows += written
    return rows


def rows_in(folder: Path) -> dict[int, list[Row]]:
    """All rows by place, their chain checked: positions without gaps, hashes whole, metadata agreeing."""
    archive = Archive(folder)
    rows: dict[int, list[Row]] = {}
    for segment in archive.segments():
        before = rows.setdefault(segment.place, [])
        previous = before[-1].hash if before else GENESIS
        found = rows_of(archive.read(segment))
        assert archive.hashes(segment) == (previous, found[-1].hash)
        assert (segment.first, segment.last) == (found[0].position, found[-1].position)
        for row in found:
            assert previous is not None
            assert problem_of(row, len(before), previous) == ""
            assert row.partition == segment.place
            previous = row.hash
            before.append(row)
    return rows


def check_exactly_once(folder: Path, decision_ids: Iterable[str]) -> None:
    """Each decision is in the archive once, with its frame, in its partition, and versions of a customer follow."""
    by_place = rows_in(folder)
    found = [row for rows in by_place.values() for row in rows]
    assert sorted(row.decision_id or "" for row in found) == sorted(decision_ids)
    versions: dict[str, int] = {}
    for row in found:
        assert row.kind == "change"
        assert row.customer_id is not None
        assert row.partition == partition_of(row.customer_id, PARTITIONS)
        assert row.version == versions.get(row.customer_id, 0) + 1
        versions[row.customer_id] = row.version
        number = int((row.request_id or "").removeprefix("r-"))
        assert frame_of(row) == frame(number, decision_id=row.decision_id, customer_id=row.customer_id)


async def waiting_place(store: Store) -> int:
    """A place where something waits."""
    for place in range(PARTITIONS):
        if (await store.outbox_state(place, TIMEOUT_S)).waiting:
            return place
    raise AssertionError("nothing waits")

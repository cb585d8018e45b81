"""What the journal does when its disk, its files or its neighbours fail: nothing unsynced is told, and it recovers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from journal_cases import decision_id, row, run_local, told

from decision_service.core.errors import JournalUnavailable
from decision_service.journal.keeping import Keeping
from decision_service.journal.local import FILE, LocalJournal

HERE = Path(__file__).parent
FAILING_FSYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) { const char *name = getenv("FSYNC_FAILS"); return name && access(name, F_OK) == 0; }
int fsync(int fd) {
    static int (*real)(int); if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (fails()) { errno = EIO; return -1; } return real(fd);
}
int fdatasync(int fd) {
    static int (*real)(int); if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (fails()) { errno = EIO; return -1; } return real(fd);
}
"""


@contextlib.contextmanager
def another(directory: Path, what: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Another process at the same journal; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "journal_writer.py"), str(directory), what],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )  # fmt: skip
    assert process.stdout is not None
    with process, process.stdout:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> IO[str]:
    """What a process says."""
    assert process.stdout is not None
    return process.stdout


def take_away(directory: Path, names: str) -> None:
    """Delete files."""
    for path in directory.glob(names):
        path.unlink()


async def all_rows(journal: LocalJournal) -> list[str]:
    """The ids of all rows."""
    return told(await journal.oldest(0, 1_000_000))


@pytest.mark.fault("H01", "H06")
@pytest.mark.parametrize("said", [1, 30, 200])
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, said: int) -> None:
    """A process that is killed while it writes has lost nothing it was told is durable; what it left behind it is
    counted, and the next one writes on."""
    with another(tmp_path, "write") as process:
        acknowledged = [line.split()[0] for line, _ in zip(lines(process), range(said), strict=False)]
        process.kill()

    async def test(journal: LocalJournal) -> None:
        ids = await all_rows(journal)
        assert set(acknowledged) <= set(ids)
        assert journal.pending == len(ids)
        assert await journal.write(row(10**6, "c-new")) is not None
        assert journal.pending == len(ids) + 1

    run_local(tmp_path, test)


@pytest.mark.fault("H06")
@pytest.mark.parametrize("cut", ["cut", "garbage"])
def test_a_torn_end_is_forgotten(tmp_path: Path, cut: str) -> None:
    """A torn or garbled end of the file that is written to costs nothing before it."""
    with another(tmp_path, "write") as process:
        acknowledged = [line.split()[0] for line, _ in zip(lines(process), range(20), strict=False)]
        process.send_signal(signal.SIGSTOP)
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in (FILE, f"{FILE}-wal"):
            shutil.copy(tmp_path / name, copy / name)
    wal = copy / f"{FILE}-wal"
    if cut == "garbage":
        with wal.open("ab") as file:
            file.write(os.urandom(10_000))
    else:  # the end of a row that was being written: one more frame, but not all of it
        with wal.open("ab") as file:
            file.write(wal.read_bytes()[-4_120:][:3_000])

    async def test(journal: LocalJournal) -> None:
        assert set(acknowledged) <= set(await all_rows(journal))
        assert await journal.write(row(10**6, "c-new")) is not None

    run_local(copy, test)


@pytest.mark.fault("H05")
def test_a_full_disk_refuses_and_then_goes_on(tmp_path: Path) -> None:
    """While there is no room nothing is told to be written; it is known before it is needed, and heals by itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def test(journal: LocalJournal) -> None:
        acknowledged, refused = [], 0
        await journal.write(row(0))
        room = (tmp_path / f"{FILE}-wal").stat().st_size + 10_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            for n in range(1, 100):
                try:
                    await journal.write(row(n, frame=os.urandom(3_000)))
                    acknowledged.append(decision_id(n))
                except JournalUnavailable:
                    refused += 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
            await journal.settle()
            problem, write_s = journal.problem, journal.write_s
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert refused > 0
        assert (bool(problem), write_s) == (True, math.inf)
        await journal.settle()
        ids = await all_rows(journal)
        assert set(acknowledged) <= set(ids)
        assert (journal.pending, journal.problem) == (len(ids), "")
        assert await journal.write(row(101)) is not None

    run_local(tmp_path, test)


@pytest.mark.fault("H07")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_what_was_not_synced_is_not_told(tmp_path: Path) -> None:
    """While fsync fails every write is refused; after that it writes on, and all it ever told is there."""
    library, switch, directory = tmp_path / "fsync.so", tmp_path / "fails", tmp_path / "data"
    source = tmp_path / "fsync.c"
    source.write_text(FAILING_FSYNC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    directory.mkdir()
    with another(directory, "write", LD_PRELOAD=str(library), FSYNC_FAILS=str(switch)) as process:
        acknowledged = [next(lines(process)).strip() for _ in range(10)]
        switch.touch()
        while not (line := next(lines(process))).startswith("refused"):
            acknowledged.append(line.strip())
        settled = [next(lines(process)) for _ in range(20)]
        assert all(line.startswith("refused") for line in settled[8:]), "eight were under way at most"
        acknowledged += [line.strip() for line in settled if not line.startswith("refused")]
        switch.unlink()
        while (line := next(lines(process))).startswith("refused"):
            pass
        acknowledged += [line.strip()] + [line.strip() for line, _ in zip(lines(process), range(10), strict=False)]
        process.kill()
    acknowledged = [line for line in acknowledged if line and not line.startswith("refused")]

    async def test(journal: LocalJournal) -> None:
        assert set(acknowledged) <= set(await all_rows(journal))

    run_local(directory, test)


@pytest.mark.fault("H08")
@pytest.mark.parametrize("names", [FILE, f"{FILE}*", "journal.*"])
def test_a_neighbour_finds_what_went_along(tmp_path: Path, names: str) -> None:
    """The file is deleted underneath two workers; one notices. What either told before and after is found by both."""

    async def test(journal: LocalJournal) -> None:
        other = LocalJournal(tmp_path)
        try:
            await journal.write(row(1, "c-1"))
            await other.write(row(2, "c-2"))
            assert journal.find(decision_id(1)) is not None
            assert other.find(decision_id(1)) is not None
            take_away(tmp_path, names)
            assert journal.find(decision_id(2)) is not None, "nobody has noticed"
            await journal.write(row(3, "c-3"))
            for n in (1, 2, 3):
                assert journal.find(decision_id(n)) is not None
                assert other.find(decision_id(n)) is not None
            await other.write(row(4, "c-4"))
            assert set(await all_rows(journal)) == {decision_id(n) for n in (1, 2, 3, 4)}
        finally:
            await other.close()

    run_local(tmp_path, test)


@pytest.mark.fault("H08")
@pytest.mark.parametrize("how", ["deleted", "file alone", "replaced", "all deleted"])
def test_a_file_taken_away_is_made_again_with_its_rows(tmp_path: Path, how: str) -> None:
    """When the journal's file is deleted or replaced underneath, what was in it goes along into the one at the path."""
    other = tmp_path / "other"

    async def fill(journal: LocalJournal) -> None:
        await journal.write(row(50, "c-50"))

    run_local(other, fill)

    async def test(journal: LocalJournal) -> None:
        await journal.write(row(1, "c-1"))
        assert journal.find(decision_id(1)) is not None
        take_away(tmp_path, {"all deleted": "journal.*", "file alone": FILE}.get(how, f"{FILE}*"))
        if how == "replaced":
            shutil.copy(other / FILE, tmp_path / FILE)
        await journal.write(row(2, "c-2"))
        found = set(await all_rows(journal))
        assert found == {decision_id(n) for n in ((1, 2, 50) if how == "replaced" else (1, 2))}
        assert journal.pending == len(found)
        assert journal.find(decision_id(1)) is not None
        assert journal.find(decision_id(2)) is not None

    run_local(tmp_path, test)
    run_local(tmp_path, fill)


def test_a_frozen_neighbour_is_not_waited_for(tmp_path: Path) -> None:
    """A process that stands still with the lock makes writes fail soon; when it is gone they work again."""

    async def test(journal: LocalJournal) -> None:
        await journal.write(row(1))
        with another(tmp_path, "lock") as process:
            assert next(lines(process)) == "locked\n"
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(JournalUnavailable):
                await asyncio.wait_for(journal.write(row(2)), 30)
            assert journal.find(decision_id(1)) is not None, "looking waits for nobody"
        assert await journal.write(row(2)) is not None

    run_local(tmp_path, test)


def test_a_count_that_is_too_high_is_put_right(tmp_path: Path) -> None:
    """A process that dies between counting and writing leaves the count too high, never too low; it is counted anew."""

    async def test(journal: LocalJournal) -> None:
        await journal.write(row(1))
        journal._pending.words[0] += 5
        await journal.settle()
        assert journal.pending == 1

    run_local(tmp_path, test)


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """A file in a format that this version does not know is not touched."""
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(JournalUnavailable, match="newer"):
        run_local(tmp_path, lambda _journal: asyncio.sleep(0))


def test_a_directory_that_cannot_be_used_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping starts without a journal, says so, and has one as soon as the directory can be used."""
    monkeypatch.setattr("decision_service.journal.keeping.RETRY_S", 0.05)
    blocked = tmp_path / "data"
    blocked.write_text("a file where the directory should be")

    async def go() -> None:
        kept: list[LocalJournal] = []
        keeping = Keeping(blocked, lambda journal, _sent: kept.append(journal), lambda: 0)  # type: ignore[arg-type,func-returns-value]
        await keeping.start()
        assert (keeping.journal, kept) == (None, [])
        assert [family.samples[0].value for family in keeping.collect()] == [0.0]
        blocked.unlink()
        for _ in range(1_000):
            if keeping.journal is not None:
                break
            await asyncio.sleep(0.02)
        assert kept == [keeping.journal]
        assert next(iter(keeping.collect())).samples[0].value == 1.0
        await keeping.close()

    asyncio.run(go())

"""The journal's file: SQLite in WAL mode with an fsync for every commit. Everything here blocks; `local.py` calls it
from a thread of its own (`Writing`) and, for looking up, from the event loop (`Looking`).

    answers      one row a static answer, oldest first (`StaticRow`); at most one of a customer approves
    conflicts    what the store contradicts (`Conflict`)
    beat         one row, written to find out whether writing works

The write lock of SQLite is the lock of the host: `Pending` is changed only under it, and raised before a commit makes
rows visible. A neighbour that holds it and does not go on (it was frozen) is waited for LOCK_WAIT_S, then the write is
refused. After any failure of a commit nothing is assumed of it: the connection is closed and what was not acknowledged
is not told. SQLite itself forgets a torn end of the WAL; what was synced before it stays.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from decision_service.core.errors import JournalUnavailable
from decision_service.journal import Conflict, StaticRow
from decision_service.journal.pending import Pending
from decision_service.journal.shared_file import inode_of, open_shared

LOG = logging.getLogger("decision_service.journal")
FORMAT: Final = 1
LOCK_WAIT_S: Final = 0.25
LOCK_PAUSE_S: Final = 0.000_3
WAL_PAGES_MAX: Final = 16_384  # 64 MB: beyond, a commit also brings the WAL into the file
WAL_PAGES_IDLE: Final = 256  # beyond, it is brought in when nothing waits

_COLUMNS: Final = (
    "decision_id, customer_id, approved_minor, written_at_ms, frame, record, facility, links, doubtful"
)  # fmt: skip
_PLACES: Final = f"({', '.join('?' * 9)})"
_SELECT: Final = f"SELECT {_COLUMNS}, seq FROM answers"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, decision_id TEXT NOT NULL UNIQUE, customer_id TEXT NOT NULL,
    approved_minor INTEGER NOT NULL, written_at_ms INTEGER NOT NULL, frame BLOB NOT NULL, record BLOB NOT NULL,
    facility BLOB NOT NULL, links BLOB NOT NULL, doubtful INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS of_customer ON answers (customer_id);
CREATE UNIQUE INDEX IF NOT EXISTS one_approval ON answers (customer_id) WHERE approved_minor > 0;
CREATE TABLE IF NOT EXISTS conflicts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, decision_id TEXT NOT NULL UNIQUE,
    customer_id TEXT NOT NULL, approved_minor INTEGER NOT NULL, found_at_ms INTEGER NOT NULL, frame BLOB NOT NULL,
    found BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS beat (one INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT;
"""

T = TypeVar("T")


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that there is."""
    there = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(
        there, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=128, uri=True
    )


def _make(path: Path) -> None:
    """Make the file if there is none. The WAL of one that was taken away alone goes as well: a new file that shared it
    would spoil both it and the view of those who still have the old one open, and rows would be lost that they could
    bring along. OSError."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # for two who find it gone at once
        if not inode_of(path):
            for end in ("-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            os.close(open_shared(path))
    finally:
        os.close(directory)


@contextmanager
def _refusing() -> Iterator[None]:
    """Errors of SQLite and of the disk as JournalUnavailable."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JournalUnavailable(f"the journal failed: {error}") from error


def _row(values: tuple[Any, ...]) -> StaticRow:
    row = StaticRow(*values)
    return row._replace(doubtful=bool(row.doubtful))


class Writing:
    """The writing connection of one worker; one thread at a time uses it. Everything raises JournalUnavailable."""

    def __init__(self, path: Path, pending: Pending) -> None:
        self._path = path
        self._pending = pending
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._wal_pages = 0
        self.opened = 0  # how often it was opened
        self.oldest_ms = 0  # when the oldest row was written, and how many conflicts there are, by the last beat
        self.conflicts_kept = 0

    def open(self) -> None:
        """Open the file, made if there is none, and count its rows."""
        if self._db is None:
            with _refusing():
                self._db = self._opened()
                self.opened += 1
            try:
                self.recount()
            except BaseException:
                self.close()
                raise

    def _opened(self) -> sqlite3.Connection:
        _make(self._path)
        db = _connect(self._path)
        try:
            self._patiently(lambda: self._prepare(db))
            self._inode = inode_of(self._path)
            return db
        except BaseException:
            db.close()
            raise

    def _prepare(self, db: sqlite3.Connection) -> None:
        if db.execute("PRAGMA user_version").fetchone()[0] not in (0, FORMAT):
            raise JournalUnavailable("the journal was written by a newer version")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {FORMAT}")
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file; `open` opens it again."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    # --- transactions -------------------------------------------------------------------------------------------

    @staticmethod
    def _patiently(try_: Callable[[], T]) -> T:
        """What `try_` returns, once no other process is in the way; at most LOCK_WAIT_S later."""
        until = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                return try_()
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > until:
                    raise
            time.sleep(LOCK_PAUSE_S)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection under the write lock; durable when the block is left. After a failure it is opened anew."""
        self._follow()
        db = self._db
        assert db is not None
        try:
            self._patiently(lambda: db.execute("BEGIN IMMEDIATE"))
            yield db
            db.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            if not _is_busy(error):
                self.close()
            if isinstance(error, sqlite3.Error | OSError):
                raise JournalUnavailable(f"the journal failed: {error}") from error
            raise

    def _follow(self) -> None:
        """See that the file written to is the one at the path: what was in one that was taken away goes along."""
        if self._db is not None and inode_of(self._path) != self._inode:
            before, self._db = self._db, None
            try:
                self.open()
                self._bring_along(before)
            finally:
                before.close()
        if self._pending.replaced:
            with _refusing():
                self._pending.reopen()
            self.open()
            self.recount()
        self.open()

    def _bring_along(self, before: sqlite3.Connection) -> None:
        db = self._db
        assert db is not None
        with _refusing():
            rows = before.execute(f"SELECT {_COLUMNS} FROM answers ORDER BY seq").fetchall()
            kept = before.execute(f"SELECT {_KEPT} FROM conflicts ORDER BY seq").fetchall()
        with self._transaction() as db:
            self._pending.words[0] += len(rows)
            db.executemany(f"INSERT OR IGNORE INTO answers ({_COLUMNS}) VALUES {_PLACES}", rows)
            db.executemany(f"INSERT OR IGNORE INTO conflicts ({_KEPT}) VALUES (?, ?, ?, ?, ?, ?, ?)", kept)
        self.recount()
        LOG.error("the journal's file was taken away or replaced: %d undelivered answers went along into the new one",
                  len(rows))  # fmt: skip

    # --- rows ---------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[StaticRow]) -> list[StaticRow | None]:
        """See `Journal.write`; all of them in one commit."""
        with self._transaction() as db:
            self._pending.words[0] += len(rows)
            values: list[Any] = [value for row in rows for value in row[:9]]
            places = ", ".join([_PLACES] * len(rows))
            statement = f"INSERT INTO answers ({_COLUMNS}) VALUES {places} ON CONFLICT DO NOTHING"
            missed = len(rows) - db.execute(statement, values).rowcount
            written: list[StaticRow | None] = list(rows)
            self._pending.words[0] -= missed
            if missed or any(row.doubtful for row in rows):  # whoever trusts a row or drops it needs its place
                written = [self._found(db, row.decision_id) for row in rows]
        self._tend()
        return written

    @staticmethod
    def _found(db: sqlite3.Connection, decision_id: str) -> StaticRow | None:
        found = db.execute(f"{_SELECT} WHERE decision_id = ?", (decision_id,)).fetchone()
        return None if found is None else _row(found)

    def doubt(self, decision_id: str) -> None:
        """See `Journal.doubt`."""
        with self._transaction() as db:
            db.execute("UPDATE answers SET doubtful = 1 WHERE decision_id = ?", (decision_id,))

    def trust(self, row: StaticRow) -> bool:
        """See `Journal.trust`."""
        statement = "UPDATE answers SET doubtful = 0 WHERE decision_id = ? AND seq = ?"
        with self._transaction() as db:
            return db.execute(statement, (row.decision_id, row.seq)).rowcount > 0

    def drop(self, row: StaticRow) -> bool:
        """See `Journal.drop`."""
        statement = "DELETE FROM answers WHERE decision_id = ? AND seq = ? AND doubtful"
        with self._transaction() as db:
            gone = db.execute(statement, (row.decision_id, row.seq)).rowcount
            self._pending.words[0] = max(0, self._pending.words[0] - gone)
        return gone > 0

    def remove(self, decision_ids: Sequence[str]) -> int:
        """See `Journal.remove`."""
        with self._transaction() as db:
            gone = self._take_away(db, decision_ids)
        self._tend()
        return gone

    def _take_away(self, db: sqlite3.Connection, decision_ids: Sequence[str]) -> int:
        statement = "DELETE FROM answers WHERE decision_id IN (SELECT value FROM json_each(?))"
        gone = db.execute(statement, (orjson.dumps(decision_ids).decode(),)).rowcount
        words = self._pending.words
        words[0] = max(0, words[0] - gone)
        return gone

    def oldest(self, after_seq: int, limit: int) -> list[StaticRow]:
        """See `Journal.oldest`."""
        self._follow()
        assert self._db is not None
        with _refusing():
            found = self._db.execute(f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)).fetchall()
        return [_row(values) for values in found]

    def keep_conflict(self, conflict: Conflict) -> bool:
        """See `Journal.keep_conflict`."""
        with self._transaction() as db:
            gone = self._take_away(db, [conflict.decision_id])
            if gone:
                db.execute(f"INSERT OR IGNORE INTO conflicts ({_KEPT}) VALUES (?, ?, ?, ?, ?, ?, ?)", conflict)
        return gone > 0

    def conflicts(self) -> list[Conflict]:
        """See `Journal.conflicts`."""
        self._follow()
        assert self._db is not None
        with _refusing():
            return [Conflict(*kept) for kept in self._db.execute(f"SELECT {_KEPT} FROM conflicts ORDER BY seq")]

    def recount(self) -> None:
        """Count the rows anew."""
        with self._transaction() as db:
            self._pending.words[0] = db.execute("SELECT count(*) FROM answers").fetchone()[0]

    def beat(self) -> None:
        """Write something, to find out whether writing works and how long it takes; count everything anew."""
        with self._transaction() as db:
            db.execute("INSERT INTO beat VALUES (1, 1) ON CONFLICT DO UPDATE SET n = n + 1")
            self._pending.words[0] = db.execute("SELECT count(*) FROM answers").fetchone()[0]
            oldest = db.execute("SELECT written_at_ms FROM answers ORDER BY seq LIMIT 1").fetchone()
            self.oldest_ms = 0 if oldest is None else oldest[0]
            self.conflicts_kept = db.execute("SELECT count(*) FROM conflicts").fetchone()[0]
        self._tend()

    # --- the WAL ------------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        """Bring a long WAL into the file, lest it fill the disk."""
        if self._db is not None:
            with suppress(OSError):
                self._wal_pages = (self._path.with_name(self._path.name + "-wal").stat().st_size) // 4_096
            if self._wal_pages > WAL_PAGES_MAX:
                self._checkpoint()

    def rest(self) -> None:
        """What is done when nothing waits: bring the WAL into the file, and give back room on the disk."""
        if self._db is not None and self._wal_pages > WAL_PAGES_IDLE:
            self._checkpoint()

    def _checkpoint(self) -> None:
        assert self._db is not None
        with suppress(sqlite3.Error):
            if not self._pending.words[0]:
                self._db.execute("PRAGMA incremental_vacuum").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._wal_pages = 0


_KEPT: Final = "kind, decision_id, customer_id, approved_minor, found_at_ms, frame, found"


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Looking:
    """A connection that only reads; nothing that others write makes it wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._inode = 0

    def find(self, decision_id: str) -> StaticRow | None:
        """See `Journal.find`."""
        found = self._ask(f"{_SELECT} WHERE decision_id = ?", decision_id)
        return _row(found[0]) if found else None

    def of_customer(self, customer_id: str) -> list[StaticRow]:
        """See `Journal.of_customer`."""
        return [_row(values) for values in self._ask(f"{_SELECT} WHERE customer_id = ? ORDER BY seq", customer_id)]

    def _ask(self, statement: str, name: str) -> list[Any]:
        try:
            now = inode_of(self._path)
            if now not in (0, self._inode):  # another worker made a new file, and brought the rows along
                self.close()
            if self._db is None:
                self._db, self._inode = _connect(self._path), now
            return self._db.execute(statement, (name,)).fetchall()
        except sqlite3.Error as error:
            self.close()
            raise JournalUnavailable(f"the journal cannot be read: {error}") from None

    def close(self) -> None:
        """Close it; the next look opens it again."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

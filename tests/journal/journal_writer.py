"""A process that writes rows to a journal, for tests to kill and starve: `journal_writer.py <directory> <what>`.

write   rows one after another, `<id>` to standard output as each is durable
lock    takes the journal's write lock and says `locked`
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import sys
import time
from pathlib import Path

from journal_cases import row

from decision_service.core.errors import JournalUnavailable
from decision_service.journal.local import FILE, LocalJournal

TIME_S = 60.0  # after which it ends by itself


async def write(directory: Path) -> None:
    """Write eight at a time until killed."""
    journal = LocalJournal(directory)
    until = time.monotonic() + TIME_S
    numbers = itertools.count(1)

    async def one() -> None:
        while time.monotonic() < until:
            n = next(numbers)
            try:
                written = await journal.write(row(n, f"c-{n}"))
            except JournalUnavailable:
                print(f"refused {n}", flush=True)
                await asyncio.sleep(0.01)
                continue
            assert written is not None
            print(written.decision_id, flush=True)

    await asyncio.gather(*(one() for _ in range(8)))


def lock(directory: Path) -> None:
    """Hold the lock."""
    db = sqlite3.connect(directory / FILE, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    time.sleep(TIME_S)


if __name__ == "__main__":
    if sys.argv[2] == "lock":
        lock(Path(sys.argv[1]))
    else:
        asyncio.run(write(Path(sys.argv[1])))

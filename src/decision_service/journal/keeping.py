"""Keeping: a worker's journal from start to end: opened, delivered from, told in `/metrics`.

A directory that cannot be used does not stop the service: it decides as long as the store is there, gives no static
answers (503 then), says so in the log and in `decision_service_journal_usable`, and tries again every RETRY_S. What is
sent in the meantime is not marked, so a retry of it may later be answered anew; the log says that as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily

from decision_service.core.errors import JournalUnavailable
from decision_service.journal.delivery import LOCK_FILE, Deliverer, Delivery
from decision_service.journal.local import LocalJournal
from decision_service.journal.sent import SentTables

LOG = logging.getLogger("decision_service.journal")
RETRY_S: Final = 5.0
PREFIX: Final = "decision_service_journal_"

Keep = Callable[[LocalJournal, SentTables], Delivery]


class Keeping:
    """The journal of one worker in a directory of its host."""

    def __init__(self, directory: Path, keep: Keep, now_ms: Callable[[], int]) -> None:
        """`keep` is given the journal when it is open, and returns what delivers from it."""
        self.journal: LocalJournal | None = None
        self.problem = "not opened yet"
        self._directory = directory
        self._keep = keep
        self._now_ms = now_ms
        self._sent: SentTables | None = None
        self._deliverer: Deliverer | None = None
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the journal, now or as soon as that is possible."""
        if not await self._open():
            LOG.error("no static answers are given until the journal works: %s", self.problem)
            self._opening = asyncio.create_task(self._try_again())

    async def _open(self) -> bool:
        """Open everything; whether that worked. Opening waits for the disk, once, before anything is served."""
        sent = journal = None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            sent = SentTables(self._directory)
            journal = LocalJournal(self._directory)
        except (JournalUnavailable, OSError) as error:
            self.problem = str(error)
            if sent is not None:
                sent.close()
            return False
        self.problem = ""
        self._sent, self.journal = sent, journal
        delivery = self._keep(journal, sent)
        self._deliverer = Deliverer(delivery, journal, self._directory / LOCK_FILE, journal, sent.restore)
        self._deliverer.start()
        return True

    async def _try_again(self) -> None:
        opened = False
        while not opened:
            await asyncio.sleep(RETRY_S)
            opened = await self._open()
        LOG.warning("the journal works: static answers are given from now on; what was sent until now is not known")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What `/metrics` says of it: of the host, as this worker sees it."""
        journal = self.journal
        usable = journal is not None and not journal.problem
        yield _gauge("usable", "Whether this worker can write static answers to the journal", float(usable))
        if journal is None:
            return
        oldest_s = max(0.0, (self._now_ms() - journal.oldest_ms) / 1_000) if journal.pending else 0.0
        yield _gauge("pending", "Static answers of this host that are not yet in the store", journal.pending)
        yield _gauge("oldest_seconds", "Age of the oldest of them", oldest_s)
        yield _gauge("conflicts", "Static answers of this host that the store contradicts", journal.conflicts_kept)
        yield _gauge("write_seconds", "Time that is kept free for a write to the journal", journal.write_s)

    async def close(self) -> None:
        """Stop delivering; what is left stays for the next start, or for the other workers."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._deliverer is not None:
            await self._deliverer.close()
        if self.journal is not None:
            await self.journal.close()
        if self._sent is not None:
            self._sent.close()


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)

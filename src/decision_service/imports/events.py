"""A file of events into the store: read and dealt out by customer, judged and committed, then the entity logs.

The account of a slice is kept in the store once all its customers are done. A later run on a file of the same content
passes over the slices it finds there; where they have links and the entity logs are not done yet, it goes through them
again for the links, and their first account stands. A slice in which anything was rejected is not kept, for that may be
right next time (a facility that is known by then); nor is any trusted while the file has rows wrong in themselves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from decision_service.core.limits import EVENTS_PER_CALL_MAX
from decision_service.imports.account import Account, total_of, unpack_account
from decision_service.imports.chunk import chunks_of
from decision_service.imports.crew import Crew, change_patiently
from decision_service.imports.links import LinksByEntity, deliver, links_of
from decision_service.imports.refused import RefusedRows, bad_rows
from decision_service.imports.slices import SLICES, History, Slices, deal, histories
from decision_service.imports.terms import TIMEOUT_S, Terms, import_id_of
from decision_service.tables.events import open_events, read_events
from decision_service.tables.file import TableFile

DELIVERED: Final = SLICES  # kept beside the accounts of the slices: that the entity logs are written
COMPLETE: Final = SLICES + 1  # the account of the whole file, when every row of it is in the store
DELIVERIES_MAX: Final = 4
FORMAT: Final = "events1"  # of the slices; another one would not find the customers where it left them


async def import_events(path: Path, terms: Terms, refused: RefusedRows) -> Account:
    """Import a file; what became of its rows. InvalidInput, StoreError; then it may simply be run again."""
    file = open_events(path)
    import_id = import_id_of(path, FORMAT)
    kept = {} if terms.again else await terms.store.read_import(import_id, TIMEOUT_S)
    with tempfile.TemporaryDirectory(prefix="import-") as directory:
        return await _EventImport(file, import_id, terms, refused, Path(directory), kept).run()


@dataclass(slots=True)
class _Slice:
    """A slice whose customers are under way."""

    number: int
    left: int
    account: Account = field(default_factory=Account)


class _EventImport:
    """One run over one file."""

    def __init__(
        self, file: TableFile, import_id: str, terms: Terms, refused: RefusedRows, directory: Path,
        kept: Mapping[int, bytes],
    ) -> None:  # fmt: skip
        self._file, self._import_id, self._terms, self._refused = file, import_id, terms, refused
        self._done = {number: unpack_account(stored) for number, stored in kept.items()}
        self._accounts: dict[int, Account] = {}
        self._slices = Slices(directory, terms.memory_bytes_max)
        self._links = LinksByEntity(directory, terms.memory_bytes_max)
        self._dealt = self._recorded = 0

    async def run(self) -> Account:
        """All of it, or what an earlier run left."""
        if (complete := self._done.get(COMPLETE)) is not None:
            complete.earlier = complete.rows
            return complete
        wrong = self._read()
        if wrong:  # by now some may be right, and be of any slice
            self._done.clear()
        await self._record_all()
        await self._deliver_all()
        total = total_of(self._accounts.values())
        for bad in bad_rows(self._file, total.refusals):
            self._refused.write(self._file.path, bad)
        total.counts["rejected"] += wrong
        total.earlier = total_of(self._done.values()).rows
        if not wrong:
            await self._keep(DELIVERED, Account())
            await self._keep(COMPLETE, total)
        return total

    def _wanted(self, number: int) -> bool:
        done = self._done.get(number)
        return done is None or (done.links > 0 and DELIVERED not in self._done)

    def _read(self) -> int:
        """Deal out the rows; how many are wrong in themselves."""
        wrong = read = 0
        for batch in read_events(self._file, self._terms.clock, decided=True):
            self._refused.write(self._file.path, batch.bad)
            wrong += len(batch.bad)
            deal(batch.events, self._slices)
            self._dealt += len(batch.events)
            read += len(batch.events) + len(batch.bad)
            self._terms.watch("events read", read, self._file.row_count)
        self._terms.watch("events read", read, read)
        return wrong

    async def _record_all(self) -> None:
        async with Crew() as crew:
            for number in range(SLICES):
                blocks = self._slices.take(number)
                if not self._wanted(number):
                    self._accounts[number] = self._done[number]
                    continue
                found = histories(blocks)
                slice_ = _Slice(number, len(found))
                for history in found:
                    await crew.start(self._record(history, slice_), self._weight(history))
        self._terms.watch("events recorded", self._recorded, self._recorded)

    def _weight(self, history: History) -> int:
        """Records on their way at one time: a chunk, and where there are several perhaps the log rewritten."""
        rows = len(history.rows)
        return rows if rows <= EVENTS_PER_CALL_MAX else EVENTS_PER_CALL_MAX + self._terms.retention.events_max

    async def _record(self, history: History, slice_: _Slice) -> None:
        """Record one customer's history; with the last customer of a slice the slice is done."""
        for chunk in chunks_of(history, self._terms.retention):
            await change_patiently(self._terms.store, chunk.customer_id, chunk.plan)
            links = links_of(chunk.customer_id, chunk.rows[chunk.taken], chunk.records[chunk.taken])
            self._links.add(links)
            slice_.account.add(chunk.account)
            slice_.account.links += len(links)
            self._recorded += len(chunk.rows)
            self._terms.watch("events recorded", self._recorded, self._dealt)
        slice_.left -= 1
        if not slice_.left:
            await self._finish(slice_)

    async def _finish(self, slice_: _Slice) -> None:
        number = slice_.number
        self._accounts[number] = self._done.get(number, slice_.account)  # the first stands: now all are duplicates
        if number not in self._done:
            await self._keep(number, slice_.account)

    async def _deliver_all(self) -> None:
        """Write the entity logs."""
        delivered = 0
        async with Crew(tasks_max=DELIVERIES_MAX) as crew:
            for number in range(SLICES) if self._links.rows else ():
                found = self._links.take(number)
                await crew.start(deliver(self._terms.store, found, self._terms.links_kept))
                delivered += sum(map(len, found.values()))
                self._terms.watch("links delivered", delivered, self._links.rows)

    async def _keep(self, number: int, account: Account) -> None:
        if not account.counts["rejected"]:
            await self._terms.store.save_import(self._import_id, number, account.packed(), TIMEOUT_S)

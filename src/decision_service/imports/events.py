"""A file of events into the store: read and dealt out by customer, judged and committed, then the entity logs.

The account of a slice is kept in the store once all its customers are done. A later run on a file of the same content
passes over the slices it finds there; where they have links and the entity logs are not done yet, it goes through them
again for the links, and their first account stands.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from decision_service.api.parse import Clock
from decision_service.change import change_customer
from decision_service.core.limits import EVENTS_PER_CALL_MAX
from decision_service.imports.account import Account, total_of, unpack_account
from decision_service.imports.chunk import chunks_of
from decision_service.imports.crew import Crew
from decision_service.imports.links import LinksByEntity, LinksKept, deliver, links_of
from decision_service.imports.refused import RefusedRows, bad_rows
from decision_service.imports.slices import SLICES, History, Slices, deal, histories
from decision_service.recording import Retention
from decision_service.store import Store
from decision_service.tables.events import open_events, read_events
from decision_service.tables.file import TableFile

BUDGET_S: Final = 60.0  # of one commit: nobody waits for it, and a server may be busy
TIMEOUT_S: Final = 30.0
MEMORY_BYTES_MAX: Final = 256 * 1_048_576  # of rows held; beyond, they go to files in the temporary directory
DELIVERED: Final = SLICES  # kept when the entity logs are written: with the account of rows wrong in themselves
DELIVERIES_MAX: Final = 4
FORMAT: Final = "events1"  # of the slices; another one would not find the customers where it left them


class Watch(Protocol):
    """Is told how far the work is."""

    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What an import works with."""

    store: Store
    clock: Clock
    retention: Retention
    links_kept: LinksKept
    watch: Watch
    again: bool = False  # whether to go through what an earlier run finished
    memory_bytes_max: int = MEMORY_BYTES_MAX


def import_id_of(path: Path, sort: str) -> str:
    """The id under which the import of a file's content is kept."""
    with path.open("rb") as file:
        return f"{sort}:{hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()}"


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
        self._accounts = {number: account for number, account in self._done.items() if number < SLICES}
        self._slices = Slices(directory, terms.memory_bytes_max)
        self._links = LinksByEntity(directory, terms.memory_bytes_max)
        self._dealt = self._recorded = 0

    async def run(self) -> Account:
        """All of it, or what an earlier run left."""
        earlier = total_of(self._accounts.values()).rows
        wrong = Account()
        if len(self._done) <= SLICES:
            wrong = self._read()
            await self._record_all()
            await self._deliver_all()
            await self._keep(DELIVERED, wrong)
            wrong.refusals.clear()  # told already
        total = total_of([*self._accounts.values(), self._done.get(DELIVERED, wrong)])
        for bad in bad_rows(self._file, total.refusals):
            self._refused.write(self._file.path, bad)
        total.earlier = earlier
        return total

    def _wanted(self, number: int) -> bool:
        done = self._done.get(number)
        return done is None or (done.links > 0 and DELIVERED not in self._done)

    def _read(self) -> Account:
        """Deal out the rows; the account of those that are wrong in themselves."""
        wrong, read = Account(), 0
        wanted = np.array([self._wanted(number) for number in range(SLICES)])
        for batch in read_events(self._file, self._terms.clock, decided=True):
            self._refused.write(self._file.path, batch.bad)
            wrong.refuse_all(batch.bad)
            self._dealt += deal(batch.events, self._slices, wanted)
            read += len(batch.events) + len(batch.bad)
            self._terms.watch("events read", read, self._file.row_count)
        self._terms.watch("events read", read, read)
        return wrong

    async def _record_all(self) -> None:
        async with Crew() as crew:
            for number in filter(self._wanted, range(SLICES)):
                found = histories(self._slices.take(number))
                slice_ = _Slice(number, len(found))
                for history in found:
                    await crew.start(self._record(history, slice_), self._weight(history))
                if not found:
                    await self._finish(slice_)
        self._terms.watch("events recorded", self._recorded, self._recorded)

    def _weight(self, history: History) -> int:
        """Records on their way at one time: a chunk, and where there are several perhaps the log rewritten."""
        rows = len(history.rows)
        return rows if rows <= EVENTS_PER_CALL_MAX else EVENTS_PER_CALL_MAX + self._terms.retention.events_max

    async def _record(self, history: History, slice_: _Slice) -> None:
        """Record one customer's history; with the last customer of a slice the slice is done."""
        for chunk in chunks_of(history, self._terms.retention):
            await change_customer(self._terms.store, chunk.customer_id, chunk.plan, BUDGET_S)
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
        if slice_.number not in self._done:  # the first account stands: in a second all would be duplicates
            self._accounts[slice_.number] = slice_.account
            await self._keep(slice_.number, slice_.account)

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
        if account.keepable:
            await self._terms.store.save_import(self._import_id, number, account.packed(), TIMEOUT_S)

"""A world to archive and replay: the real service over a store in memory, with its policy files, journal and clock, and
everything it left in its outbox brought into an archive."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson

from decision_service.answer import instant
from decision_service.api.parse import Clock, parse_attributes, parse_decision, parse_event, parse_facility, read_events
from decision_service.archive.files import Archive
from decision_service.archive.policies import PolicyKeeper
from decision_service.archive.rows import read_entry, row_of
from decision_service.archive.schema import Row
from decision_service.core.errors import StoreUnavailable
from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS
from decision_service.core.state import CustomerState
from decision_service.customers import Customers
from decision_service.journal.delivery import Deliverer
from decision_service.journal.memory import MemoryJournal, MemorySentTable
from decision_service.linker import Linker
from decision_service.policies.active_policy import ActivePolicy
from decision_service.recording import Retention
from decision_service.service import DecisionService
from decision_service.store import Commit, LinkReads
from decision_service.store.memory import MemoryStore
from decision_service.telemetry import Meters
from decision_service.warm import warm
from written_archive import write_rows

PARTITIONS = 4
START_MS = 1_795_348_800_000  # 2026-11-22T12:00:00Z
BUDGET_MS = 60_000


class WorldStore(MemoryStore):
    """A store that may be away, or slow with entity logs."""

    def __init__(self, clock: WorldClock) -> None:
        super().__init__(partitions=PARTITIONS, now_ms=clock)
        self.away = False
        self.links_late = False

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """See `Store.read`."""
        if self.away:
            raise StoreUnavailable("away")
        return await super().read(customer_id, decision_id, timeout_s)

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """See `Store.commit`."""
        if self.away:
            raise StoreUnavailable("away")
        return await super().commit(commit, timeout_s)

    def read_links(self, names: Any, timeout_s: float) -> LinkReads:
        """See `Store.read_links`."""
        return LinkReads([]) if self.links_late else super().read_links(names, timeout_s)


class WorldClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms

    def bounds(self) -> Clock:
        """What instants of callers are held against."""
        return Clock(self.ms, 5 * MINUTE_MS, 30 * DAY_MS)


class World:
    """One worker and what it lives on. Bodies are those of the API."""

    def __init__(
        self, store: WorldStore, clock: WorldClock, active: ActivePolicy, decisions: DecisionService,
        customers: Customers, linker: Linker, deliverer: Deliverer, rules: Path,
    ) -> None:  # fmt: skip
        self.store, self.clock, self.active = store, clock, active
        self.decisions, self.customers, self.linker = decisions, customers, linker
        self._deliverer = deliverer
        self._rules = rules

    def later(self, ms: int) -> None:
        """Let time pass."""
        self.clock.ms += ms

    async def put_facility(self, facility_id: str, **body: Any) -> None:
        """PUT /v1/facilities/{facility_id}."""
        await self.customers.put_facility(parse_facility(orjson.dumps(body), facility_id, self.clock.bounds()))

    async def put_attributes(self, customer_id: str, **values: Any) -> None:
        """PUT /v1/customers/{customer_id}/attributes, as of now."""
        body = {name: {"value": value, "as_of": instant(self.clock.ms)} for name, value in values.items()}
        await self.customers.put_attributes(customer_id, parse_attributes(orjson.dumps(body), self.clock.bounds()))

    async def post_events(self, *bodies: dict[str, Any]) -> None:
        """POST /v1/events; what is refused is left out."""
        sent = read_events(orjson.dumps({"events": bodies}))
        posted = [parse_event(body, index, self.clock.bounds()) for index, body in enumerate(sent)]
        await self.customers.record_events(posted)
        await self.linker.flush()

    async def decide(self, body: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/decisions; the answer."""
        request, _ = parse_decision(orjson.dumps(body), self.clock.bounds())
        answer = await self.decisions.decide(request, BUDGET_MS, perf_counter())
        if not self.store.away:
            await self.linker.flush()
        told: dict[str, Any] = orjson.loads(answer.body)
        return told

    async def change_list(self, name: str, value: str, present: bool = True) -> None:
        """PUT or DELETE /v1/lists/{name}/{value}, live at once."""
        await self.customers.change_list(name, value, present)
        await self.active._in_force.follow_lists()

    async def publish(self, files: Mapping[str, str]) -> None:
        """Put other rules in force."""
        await self.active.publish(files, "test", force=True)
        warm(self.active.policy)

    async def deliver(self) -> None:
        """Bring what the journal holds into the store."""
        await self._deliverer.round()

    async def archive(self, archive: Archive, first_place: int = 0) -> list[Row]:
        """Bring everything into an archive; the rows. Several worlds have places of their own, from `first_place`."""
        await self.active._in_force.catch_up()
        archived: list[Row] = []
        for place in range(PARTITIONS):
            rows = []
            for at, entry in await self.store.read_outbox(place, b"", 1_000_000, 1.0):
                read = read_entry(at, entry)
                frame = await self.store.read_decision(read.decision_id, 1.0) if read.decision_id else None
                rows.append(row_of(first_place + place, read, frame))
            archived += write_rows(archive, rows)
        policy_ids = {row.policy_id for row in archived if row.policy_id}
        assert not await PolicyKeeper(self.store, archive).keep(sorted(policy_ids))
        return archived


@asynccontextmanager
async def world(folder: Path, rules: Path | Mapping[str, str], models: Path | None = None) -> AsyncIterator[World]:
    """A world in `folder`. `rules` and `models` are copied."""
    _lay_out(folder, rules, models)
    clock = WorldClock()
    store, meters = WorldStore(clock), Meters(folder / "meters")
    active = ActivePolicy(
        folder / "rules", folder / "models", "Asia/Shanghai", 24 * HOUR_MS, store, clock, lambda *_: None,
        scores_watched=0,
    )  # fmt: skip
    await active.start()
    warm(active.policy)
    retention = Retention(400 * DAY_MS, 48, 8)
    linker = Linker(store, meters, clock, PARTITIONS, 64, 400 * DAY_MS)
    decisions = DecisionService(store, active, meters, PARTITIONS, retention, linker, 1_000, clock)
    journal = MemoryJournal()
    deliverer = Deliverer(decisions.keep_journal(journal, MemorySentTable()), journal)
    try:
        customers = Customers(store, active, retention, linker, clock)
        yield World(store, clock, active, decisions, customers, linker, deliverer, folder / "rules")
    finally:
        await asyncio.shield(active.close())
        await linker.close()
        meters.close()


def _lay_out(folder: Path, rules: Path | Mapping[str, str], models: Path | None) -> None:
    if isinstance(rules, Path):
        shutil.copytree(rules, folder / "rules")
    else:
        for name, text in rules.items():
            path = folder / "rules" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    (folder / "models").mkdir(exist_ok=True)
    if models is not None:
        shutil.copytree(models, folder / "models", dirs_exist_ok=True)
    (folder / "meters").mkdir()

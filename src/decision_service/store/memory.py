"""The store in this process's memory: the same promises as Redis but for durability. For tests and the
command line.

Reads and commits give way to other tasks once before they start, so that callers race as they do over a
server; then every method runs without waiting, so each is atomic in its event loop. Outboxes are in
`memory_outbox.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from decision_service.core.errors import StoreDamaged, VersionMoved
from decision_service.core.event import EMPTY_LOG, TRIMMED_NOTHING, read_header
from decision_service.core.limits import PARTITIONS, POLICIES_KEPT_MAX, RECORD_BYTES
from decision_service.core.links import EMPTY_ENTITY_LOGS
from decision_service.core.retention import trim_front
from decision_service.store import (
    WORKER_SILENT_MS,
    Commit,
    CustomerState,
    FleetNumbers,
    LinkCounts,
    LinkReads,
    WorkerStatus,
    keys,
)
from decision_service.store.changes import apply, change_of, pack
from decision_service.store.link_reads import Read
from decision_service.store.memory_outbox import MemoryOutboxes, wall_ms
from decision_service.store.outbox import LISTS, POLICY
from decision_service.store.records import encode_attribute


class MemoryStore(MemoryOutboxes):
    """`Store` in memory."""

    def __init__(self, *, partitions: int = PARTITIONS, now_ms: Callable[[], int] = wall_ms) -> None:
        """`now_ms` dates the entries of outboxes, and what lapses or expires."""
        super().__init__(now_ms)
        self._partitions = partitions
        self._customers: dict[str, CustomerState] = {}
        self._shadow_published: tuple[int, bytes, bytes] | None = None
        self._shadow_numbers = 0
        self._owners: dict[str, str] = {}
        self._lists: dict[str, set[str]] = {}
        self._lists_version = 0
        self._reload = 0
        self._published: dict[int, tuple[bytes, bytes]] = {}
        self._policies: dict[str, bytes] = {}
        self._sources: dict[str, bytes] = {}  # empty: archived
        self._policy_serial = 0
        self._workers: dict[str, WorkerStatus] = {}
        self._imports: dict[str, dict[int, bytes]] = {}
        self._waiting: dict[int, dict[bytes, bytes]] = {}
        self._entities: dict[bytes, bytes] = {}
        self._tallies: dict[tuple[str, int], dict[bytes, int]] = {}
        self._watches: dict[str, bytes] = {}

    def lose_history(self) -> None:
        """Become as empty as a server after FLUSHALL; for tests."""
        self.__init__(partitions=self._partitions, now_ms=self._now_ms)  # type: ignore[misc]
        self._lost = True

    async def accept_history(self, timeout_s: float) -> str:
        """See `Store.accept_history`."""
        self._lost = False
        return "memory"

    @property
    def partitions(self) -> int:
        """How many partitions customers are spread over."""
        return self._partitions

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """See `Store.read`."""
        await asyncio.sleep(0)
        self._refuse_lost()
        self._forget_expired()
        state = self._customers.get(customer_id, CustomerState())
        if decision_id is None:
            return state
        keys.customer_decision_key(keys.partition_of(customer_id, self._partitions), decision_id)
        return state._replace(decision=self._decisions.get(decision_id))

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """See `Store.commit`."""
        await asyncio.sleep(0)
        self._refuse_lost()
        self._forget_expired()
        state = self._customers.get(commit.customer_id, CustomerState())
        self._refuse(commit, state)
        partition = keys.partition_of(commit.customer_id, self._partitions)
        change = change_of(commit)
        after = apply(state, change)
        if commit.trimmed_log not in (None, after.log[: len(after.log) - len(commit.records)]):
            raise ValueError("a log is only ever trimmed from the front")
        entry = pack(change)
        self._customers[commit.customer_id] = after
        if commit.decision is not None:
            self._decisions[commit.decision[0]] = commit.decision[1]
            self._expire_at_ms.pop(commit.decision[0], None)
        if commit.links[0]:
            self._waiting.setdefault(partition, {})[commit.links[0]] = commit.links[1]
        self._append(partition, entry)
        return state.version + 1

    def _refuse(self, commit: Commit, state: CustomerState) -> None:
        """Raise for everything that a commit must not do, before anything changes."""
        if commit.decision is not None:
            partition = keys.partition_of(commit.customer_id, self._partitions)
            keys.customer_decision_key(partition, commit.decision[0])
        for attribute in commit.attributes.values():
            encode_attribute(attribute)
        if state.version != commit.expected_version or (
            commit.decision is not None and commit.decision[0] in self._decisions
        ):
            raise VersionMoved("the customer's state changed since it was read")
        if len(commit.records) % RECORD_BYTES or len(commit.trimmed_log or EMPTY_LOG) % RECORD_BYTES:
            raise StoreDamaged("a log is whole records of 64 bytes")

    async def read_decision(self, decision_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_decision`."""
        self._refuse_lost()
        self._forget_expired()
        return self._decisions.get(decision_id)

    def together_decisions(self, decision_ids: Iterable[str]) -> Sequence[Sequence[str]]:
        """See `Store.together_decisions`."""
        ids = list(decision_ids)
        for decision_id in ids:
            keys.partition_of_kept(decision_id)
        return [ids] if ids else []

    async def save_shadows(self, records: Mapping[str, bytes], timeout_s: float) -> int:
        """See `Store.save_shadows`."""
        new = [decision_id for decision_id in records if decision_id not in self._shadows]
        for decision_id in new:
            self._shadows[decision_id] = records[decision_id]
            entry = {b"kind": b"shadow", b"id": decision_id.encode(), b"scores": records[decision_id]}
            self._append(keys.partition_of_kept(decision_id), entry)
        return len(new)

    async def read_shadows(self, decision_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_shadows`."""
        self._forget_expired()
        return self._shadows.get(decision_id)

    async def save_shadow_policy(self, records: Mapping[str, bytes], timeout_s: float) -> int:
        """See `Store.save_shadow_policy`."""
        new = [decision_id for decision_id in records if decision_id not in self._shadow_policies]
        for decision_id in new:
            self._shadow_policies[decision_id] = records[decision_id]
            entry = {b"kind": b"shadow_policy", b"id": decision_id.encode(), b"body": records[decision_id]}
            self._append(keys.partition_of_kept(decision_id), entry)
        return len(new)

    async def read_shadow_policy(self, decision_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_shadow_policy`."""
        self._forget_expired()
        return self._shadow_policies.get(decision_id)

    def read_links(self, names: Iterable[bytes], timeout_s: float) -> LinkReads:
        """See `Store.read_links`."""
        loop = asyncio.get_running_loop()
        reads: list[Read] = []
        for name in names:
            future: asyncio.Future[Any] = loop.create_future()
            future.set_result(self._entities.get(name))
            reads.append((name[0], future))
        return LinkReads(reads)

    def together(self, names: Iterable[bytes]) -> Sequence[Sequence[bytes]]:
        """See `Store.together`."""
        return [list(names)]

    async def append_links(
        self, records: Mapping[bytes, bytes], records_max: int, kept_ms: int, timeout_s: float,
        left_out_ms: Mapping[bytes, int] = MappingProxyType({}),
    ) -> LinkCounts:  # fmt: skip
        """See `Store.append_links`; here nothing is forgotten by age."""
        counts = []
        for name, some in records.items():
            log = self._entities.get(name, EMPTY_ENTITY_LOGS[name[0]])
            if len(some) % RECORD_BYTES:
                counts.append(LinkCounts(refused=len(some) // RECORD_BYTES))
                continue
            self._entities[name], added = _linked(log, some, records_max, left_out_ms.get(name, TRIMMED_NOTHING))
            counts.append(added)
        return LinkCounts(*map(sum, zip(*counts, strict=True)))

    async def waiting_links(
        self, partition: int, cursor: int, timeout_s: float
    ) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
        """See `Store.waiting_links`."""
        return 0, list(self._waiting.get(partition, {}).items())

    async def forget_links(self, ids: Mapping[int, Sequence[bytes]], timeout_s: float) -> None:
        """See `Store.forget_links`."""
        for partition, some in ids.items():
            for links_id in some:
                self._waiting.get(partition, {}).pop(links_id, None)

    async def claim_facility(self, facility_id: str, customer_id: str, timeout_s: float) -> str:
        """See `Store.claim_facility`."""
        self._refuse_lost()
        return self._owners.setdefault(facility_id, customer_id)

    async def facility_owner(self, facility_id: str, timeout_s: float) -> str | None:
        """See `Store.facility_owner`."""
        return self._owners.get(facility_id)

    async def read_lists(self, known_version: int, timeout_s: float) -> tuple[int, Mapping[str, frozenset[str]] | None]:
        """See `Store.read_lists`."""
        if known_version == self._lists_version:
            return known_version, None
        lists = {name: frozenset(values) for name, values in self._lists.items() if values}
        return self._lists_version, lists

    async def change_list(self, name: str, value: str, present: bool, timeout_s: float, by: str = "") -> bool:
        """See `Store.change_list`."""
        values = self._lists.setdefault(name, set())
        if (value in values) == present:
            return False
        (values.add if present else values.remove)(value)
        self._lists_version += 1
        told = (b"list", name.encode(), value.encode(), b"%d" % present, b"%d" % self._lists_version, by.encode())
        self._append(LISTS, dict(zip((b"kind", b"list", b"value", b"present", b"version", b"by"), told, strict=True)))
        return True

    async def publish_reload(self, timeout_s: float) -> int:
        """See `Store.publish_reload`."""
        self._reload += 1
        return self._reload

    async def read_fleet(self, timeout_s: float) -> FleetNumbers:
        """See `Store.read_fleet`."""
        shadow = 0 if self._shadow_published is None else self._shadow_published[0]
        return FleetNumbers(self._reload, max(self._published, default=0), shadow)

    async def publish_policy(self, expected: int, head: bytes, bundle: bytes, timeout_s: float, serial: int = 0) -> int:
        """See `Store.publish_policy`."""
        newest = max(self._published, default=0)
        if newest != expected:
            raise VersionMoved("another policy was published meanwhile")
        self._published[newest + 1] = (head, bundle)
        self._append(POLICY, {b"kind": b"policy", b"number": b"%d" % (newest + 1), b"head": head})
        self._policy_serial = max(self._policy_serial, serial)
        self._published.pop(newest + 1 - POLICIES_KEPT_MAX, None)
        return newest + 1

    async def policy_serial(self, timeout_s: float) -> int:
        """See `Store.policy_serial`."""
        return self._policy_serial

    async def published_heads(self, timeout_s: float) -> Mapping[int, bytes]:
        """See `Store.published_heads`."""
        return {number: head for number, (head, _) in sorted(self._published.items(), reverse=True)}

    async def read_bundle(self, number: int, timeout_s: float) -> bytes | None:
        """See `Store.read_bundle`."""
        found = self._published.get(number)
        return None if found is None else found[1]

    async def publish_shadow(self, head: bytes, bundle: bytes, timeout_s: float) -> int:
        """See `Store.publish_shadow`."""
        self._shadow_numbers += 1
        self._shadow_published = self._shadow_numbers, head, bundle
        return self._shadow_numbers

    async def stop_shadow(self, timeout_s: float) -> bool:
        """See `Store.stop_shadow`."""
        was, self._shadow_published = self._shadow_published, None
        return was is not None

    async def read_shadow(self, timeout_s: float) -> tuple[int, bytes, bytes] | None:
        """See `Store.read_shadow`."""
        return self._shadow_published

    async def save_policy(self, policy_id: str, document: bytes, timeout_s: float) -> None:
        """See `Store.save_policy`."""
        self._policies.setdefault(policy_id, document)

    async def read_policy(self, policy_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_policy`."""
        return self._policies.get(policy_id)

    async def save_source(self, name: str, document: bytes, timeout_s: float) -> None:
        """See `Store.save_source`."""
        self._sources[name] = document

    async def missing_sources(self, names: Sequence[str], timeout_s: float) -> frozenset[str]:
        """See `Store.missing_sources`."""
        return frozenset(names) - self._sources.keys()

    async def read_source(self, name: str, timeout_s: float) -> bytes | None:
        """See `Store.read_source`."""
        return self._sources.get(name)

    async def shed_source(self, name: str, known_ms: int, timeout_s: float) -> None:
        """See `Store.shed_source`: that it is archived is known for as long as this store is."""
        self._sources[name] = b""

    async def announce_worker(self, status: WorkerStatus, timeout_s: float) -> None:
        """See `Store.announce_worker`."""
        silent_before_ms = status.seen_at_ms - WORKER_SILENT_MS
        for worker_id in [w.worker_id for w in self._workers.values() if w.seen_at_ms < silent_before_ms]:
            del self._workers[worker_id]
        self._workers[status.worker_id] = status

    async def workers(self, now_ms: int, timeout_s: float) -> Sequence[WorkerStatus]:
        """See `Store.workers`."""
        lately = (w for w in self._workers.values() if w.seen_at_ms >= now_ms - WORKER_SILENT_MS)
        return sorted(lately, key=lambda w: w.worker_id)

    async def read_import(self, import_id: str, timeout_s: float) -> Mapping[int, bytes]:
        """See `Store.read_import`."""
        return dict(self._imports.get(import_id, {}))

    async def save_import(self, import_id: str, slice_number: int, account: bytes, timeout_s: float) -> None:
        """See `Store.save_import`."""
        self._imports.setdefault(import_id, {})[slice_number] = account

    async def outbox_decisions(
        self, partition: int, since_ms: int, until_ms: int, after: bytes, timeout_s: float
    ) -> tuple[bytes, Sequence[str]]:
        """See `Store.outbox_decisions`; there is no clock here, so all are told."""
        return b"", [entry[b"id"].decode() for entry in self.outbox(partition) if entry.get(b"kind") == b"decision"]

    async def read_decisions(
        self, partition: int, decision_ids: Sequence[str], timeout_s: float
    ) -> Sequence[bytes | None]:
        """See `Store.read_decisions`."""
        self._forget_expired()
        for decision_id in decision_ids:
            keys.customer_decision_key(partition, decision_id)
        return [self._decisions.get(decision_id) for decision_id in decision_ids]

    async def add_tally(
        self, series: str, day: int, increments: Mapping[bytes, int], kept_days: int, timeout_s: float
    ) -> None:
        """See `Store.add_tally`."""
        counts = self._tallies.setdefault((series, day), {})
        for name, count in increments.items():
            counts[name] = counts.get(name, 0) + count
        for old in [key for key in self._tallies if key[1] < day - kept_days]:
            del self._tallies[old]

    async def tally_days(self, timeout_s: float) -> Mapping[str, Sequence[int]]:
        """See `Store.tally_days`."""
        days: dict[str, list[int]] = {}
        for series, day in sorted(self._tallies):
            days.setdefault(series, []).append(day)
        return days

    async def read_tally(self, series: str, day: int, timeout_s: float) -> Mapping[bytes, int]:
        """See `Store.read_tally`."""
        return dict(self._tallies.get((series, day), {}))

    async def save_watch(self, name: str, document: bytes, timeout_s: float) -> None:
        """See `Store.save_watch`."""
        self._watches[name] = document

    async def read_watches(self, timeout_s: float) -> Mapping[str, bytes]:
        """See `Store.read_watches`."""
        return dict(self._watches)

    async def check(self) -> Sequence[str]:
        """See `Store.check`: nothing here outlives the process, and that is what it is for."""
        return ("the store is empty though it was in use: it lost its history",) if self._lost else ()

    async def close(self) -> None:
        """See `Store.close`."""


def _linked(log: bytes, records: bytes, records_max: int, left_out_ms: int) -> tuple[bytes, LinkCounts]:
    """An entity's log with records appended and trimmed as `scripts/link.lua` does it."""
    known = {_identity(log, at) for at in range(RECORD_BYTES, len(log), RECORD_BYTES)}
    _, through_ms = read_header(log)
    fresh, duplicate, old = [], 0, 0
    for at in range(0, len(records), RECORD_BYTES):
        identity = _identity(records, at)
        if identity in known:
            duplicate += 1
        elif int.from_bytes(records[at : at + 8], "little", signed=True) <= through_ms:
            old += 1
        else:
            known.add(identity)
            fresh.append(records[at : at + RECORD_BYTES])
    if left_out_ms > through_ms:
        log = log[:16] + left_out_ms.to_bytes(8, "little", signed=True) + log[24:]
    log += b"".join(fresh)
    held = len(log) // RECORD_BYTES - 1
    if fresh and held > records_max + records_max // 4:
        log = trim_front(log, held - records_max)
    return log, LinkCounts(len(fresh), duplicate, old)


def _identity(log: bytes, at: int) -> tuple[bytes, bytes]:
    """Key and customer of a record, which together know it."""
    return log[at + 8 : at + 16], log[at + 48 : at + 56]

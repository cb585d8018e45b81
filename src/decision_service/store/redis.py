"""The store on Redis or Valkey: standalone, Sentinel or Cluster. Keys are drawn in `keys.py`, scripts are in
`scripts/`.

Every method is one command, so it is atomic by itself, and is sent once. The only re-sends are those where
the server said that nothing ran: an unknown script goes again with its source, a moved slot goes to its new
node.

The number of partitions is written into a store when it is first used and may never change, because a
customer's keys could not be found again; it is checked before the first command. So is the store's history
(`epoch.py`), again after every new connection and about once a second: while that is missing, what concerns customers
is refused as StoreUnsafe, and everything else goes on.
"""

from __future__ import annotations

from asyncio import Future, ensure_future, gather
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from time import monotonic
from types import MappingProxyType
from typing import Any, Final

import orjson

from decision_service.core.errors import (
    NotReplicated,
    StoreDamaged,
    StoreUnavailable,
    StoreUnsafe,
)
from decision_service.core.limits import DAY_MS, PARTITIONS, POLICIES_KEPT_MAX, RECORD_BYTES
from decision_service.core.links import EMPTY_ENTITY_LOGS, LINK_GRAINS, entity_header
from decision_service.store import (
    TALLY_AT_ONCE,
    WORKER_SILENT_MS,
    Commit,
    CustomerState,
    FleetNumbers,
    LinkCounts,
    LinkReads,
    WorkerStatus,
    keys,
    scripts,
)
from decision_service.store.commands import (
    Place,
    append_command,
    commit_command,
    ends_read,
    entity_read,
    log_arguments,
    place_of,
    plain_read,
    read_command,
)
from decision_service.store.epoch import EpochMemory
from decision_service.store.held_customers import HeldCustomers, decoded, read_anew
from decision_service.store.held_logs import HeldLogs, HeldReads
from decision_service.store.history import History
from decision_service.store.lane import pack
from decision_service.store.link_reads import Read
from decision_service.store.noticed import Nobody, Noticed
from decision_service.store.pieces import ARCHIVED, COUNT_FIELD, cut, joined
from decision_service.store.redis_outbox import RedisOutboxes
from decision_service.store.replication import REPLICAS_DEFAULT, Replicas
from decision_service.store.replies import ErrorReply, refuse_errors
from decision_service.store.resends import RESENDS_SHARE
from decision_service.store.suitability import ASK_CONFIGURATION, Profile, configuration_problems, server_problems
from decision_service.store.topology import Topology

CHECK_TIMEOUT_S: Final = 2.0
LOGS_AT_ONCE: Final = 32  # entity logs one script touches: about 1 ms of the server's time if all are full
SHADOWS_AT_ONCE: Final = 64  # decisions whose shadow scores one script keeps: about 0.3 ms of the server's time
WAITING_AT_ONCE: Final = 200  # waiting links read or forgotten at once
OUTBOX_AT_ONCE: Final = 500  # entries of an outbox read at once

_NO_SCRIPT: Final = pack(("EVALSHA", "0" * 40, 0))  # what nobody loaded: answered NOSCRIPT by whoever may run scripts
_KeyOf = Callable[[int, str], bytes]  # of a partition and a decision id
_KNOWN_WORDS: Final = 3  # of the reply to a read of a customer that is known


class RedisStore(RedisOutboxes):
    """`Store` over a topology. `profile` says how durable the server must be configured for `check` to be
    content."""

    def __init__(
        self, topology: Topology, *, partitions: int = PARTITIONS, profile: Profile = "safe",
        replicas: Replicas = REPLICAS_DEFAULT, memory: EpochMemory | None = None, noticed: Noticed | None = None,
        reconciling: bool = False, held: HeldLogs | None = None,
    ) -> None:  # fmt: skip
        """`replicas` are what the topology waits for in the profile `replicated`. `reconciling` uses a store whatever
        became of its history, and leaves no trace of having used it."""
        self._topology = topology
        self._partitions = partitions
        self._profile = profile
        self._replicas = replicas if profile == "replicated" else None
        self._resends = topology.resends
        self._held = HeldLogs() if held is None else held
        self._customers = HeldCustomers()
        topology.on_change(self._forget_held)
        self._history = History(
            topology,
            self._run,
            partitions,
            memory or EpochMemory(None, ""),
            noticed or Nobody(),
            reconciling=reconciling,
        )

    def _forget_held(self) -> None:
        self._held.forget_all()
        self._customers.forget_all()

    @property
    def partitions(self) -> int:
        """How many partitions customers are spread over."""
        return self._partitions

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """See `Store.read`."""
        place = place_of(customer_id, self._partitions)
        if not self._history.admitted:
            timeout_s = await self._history.safe_within(timeout_s)
        until = monotonic() + timeout_s
        read = await self._read_plainly(customer_id, place, decision_id, timeout_s)
        if read is None:
            read = await self._read_at_once(place, decision_id, until)
        if not self._history.admitted:  # a new connection was made for it
            await self._history.safe_within(until - monotonic())
        if read.decision is not None and self._replicas is not None:
            await self._fence(place.key, until - monotonic())
        return read

    async def _read_plainly(
        self, customer_id: str, place: Place, decision_id: str | None, timeout_s: float
    ) -> CustomerState | None:
        """The state by plain commands; None if it cannot be had so, or changes meanwhile."""
        customers = self._customers
        held, generation = customers.get(customer_id), customers.generation
        if held is not None and len(held.log) == RECORD_BYTES:
            held = None  # no record yet, so none to go on from
        commands, count = plain_read(place, decision_id, 0 if held is None else len(held.log))
        self._resends.earned += RESENDS_SHARE
        asked = self._topology.ask(place.key, commands, count, timeout_s)
        if asked is None:
            return None
        replies = await asked
        frame = None if decision_id is None else replies[-1]
        read = None if type(frame) is ErrorReply else read_anew(held, replies)
        if read is None:
            return None
        customers.keep(customer_id, read, generation)
        return read.state(frame)

    async def _read_at_once(self, place: Place, decision_id: str | None, until: float) -> CustomerState:
        """The state by a script: whatever is there, as one state."""
        command = read_command(place, decision_id)
        self._resends.earned += RESENDS_SHARE
        reply = await self._topology.call(place.key, command, until - monotonic(), write=False)
        if type(reply) is ErrorReply:
            reply = await self._after_error(reply, scripts.READ, place.key, command, until)
        if len(reply) > _KNOWN_WORDS and reply[_KNOWN_WORDS] != self._history.epoch:
            self._history.doubt()
            raise StoreUnsafe("the store lost its history: who is unknown to it need not be new")
        return decoded(reply[0], reply[1]).state(reply[2])

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """See `Store.commit`."""
        place = place_of(commit.customer_id, self._partitions)
        if not self._history.admitted:
            timeout_s = await self._history.safe_within(timeout_s)
        command = commit_command(place, commit, self._history.epoch)
        until = monotonic() + timeout_s
        self._resends.earned += RESENDS_SHARE
        reply = await self._topology.call(place.key, command, timeout_s, write=True)
        if type(reply) is ErrorReply:
            reply = await self._after_error(reply, scripts.COMMIT, place.key, command, until)
        version: int = reply
        return version

    async def read_decision(self, decision_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_decision`."""
        partition = keys.partition_of_decision(decision_id)
        if partition is None or partition >= self._partitions:
            return None
        if not self._history.admitted:
            timeout_s = await self._history.safe_within(timeout_s)
        until = monotonic() + timeout_s
        key = keys.decision_key(partition, decision_id)
        command = ("MGET", key, keys.marker_key(partition))
        frame: bytes | None
        frame, marker = await self._call(key, command, timeout_s, write=False)
        if frame is None and marker != self._history.epoch:
            self._history.doubt()
            raise StoreUnsafe("the store lost its history: a decision that it does not know may have been made")
        if frame is not None and self._replicas is not None:
            await self._fence(key, until - monotonic())
        return frame

    def together_decisions(self, decision_ids: Iterable[str]) -> Sequence[Sequence[str]]:
        """See `Store.together_decisions`."""
        by_slot: dict[int, list[str]] = defaultdict(list)
        for decision_id in decision_ids:
            by_slot[self._slot(keys.partition_of_kept(decision_id))].append(decision_id)
        return [
            some[start : start + SHADOWS_AT_ONCE]
            for some in by_slot.values()
            for start in range(0, len(some), SHADOWS_AT_ONCE)
        ]

    async def save_shadows(self, records: Mapping[str, bytes], timeout_s: float) -> int:
        """See `Store.save_shadows`."""
        return await self._save_said(records, keys.shadow_key, (b"shadow", b"scores"), timeout_s)

    async def read_shadows(self, decision_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_shadows`."""
        return await self._read_said(decision_id, keys.shadow_key, timeout_s)

    async def save_shadow_policy(self, records: Mapping[str, bytes], timeout_s: float) -> int:
        """See `Store.save_shadow_policy`."""
        return await self._save_said(records, keys.shadow_policy_key, (b"shadow_policy", b"body"), timeout_s)

    async def read_shadow_policy(self, decision_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_shadow_policy`."""
        return await self._read_said(decision_id, keys.shadow_policy_key, timeout_s)

    async def _save_said(
        self, records: Mapping[str, bytes], key_of: _KeyOf, entry: tuple[bytes, bytes], timeout_s: float
    ) -> int:
        """`entry`: the kind of the outbox entries, and their field that holds what was said."""
        names: list[bytes] = []
        arguments = [*entry]
        for decision_id, said in records.items():
            partition = keys.partition_of_kept(decision_id)
            names += (key_of(partition, decision_id), keys.outbox_key(partition))
            arguments += (decision_id.encode(), said)
        return int(await self._run(scripts.SHADOW, names, tuple(arguments), timeout_s)) if names else 0

    async def _read_said(self, decision_id: str, key_of: _KeyOf, timeout_s: float) -> bytes | None:
        partition = keys.partition_of_decision(decision_id)
        if partition is None or partition >= self._partitions:
            return None
        key = key_of(partition, decision_id)
        said: bytes | None = await self._call(key, ("GET", key), timeout_s, write=False)
        return said

    def read_links(self, names: Iterable[bytes], timeout_s: float) -> LinkReads:
        """See `Store.read_links`."""
        reads: list[Read] = []
        known: list[tuple[bytes, bytes | None]] = []
        for name in names:
            log = self._held.get(name)
            asked = None if log is None else self._read_ends(name, len(log), timeout_s)
            if asked is None:
                log, asked = None, self._read_link(name, timeout_s)
            reads.append((name[0], asked))
            known.append((name, log))
        return HeldReads(reads, known, self._held, lambda name: self._read_link(name, timeout_s))

    def _read_ends(self, name: bytes, held_bytes: int, timeout_s: float) -> Future[Any] | None:
        """Of a log that is held: the end of it, from the last record held on, and then its header."""
        key, start, rest = ends_read(name, self._partitions)
        try:
            offset = b"%d" % (held_bytes - RECORD_BYTES)
            return self._topology.ask(key, b"%b$%d\r\n%b\r\n%b" % (start, len(offset), offset, rest), 2, timeout_s)
        except StoreUnavailable:
            return None

    def _read_link(self, name: bytes, timeout_s: float) -> Future[Any] | None:
        key, command = entity_read(name, self._partitions)
        if not self._history.known:
            return ensure_future(self._call(key, ("GET", key), timeout_s, write=False))
        try:
            return ensure_future(self._topology.call(key, command, timeout_s, write=False))
        except StoreUnavailable:
            return None

    def together(self, names: Iterable[bytes]) -> Sequence[Sequence[bytes]]:
        """See `Store.together`."""
        by_slot: dict[int, list[bytes]] = defaultdict(list)
        for name in names:
            by_slot[self._slot(keys.partition_of_entity(name, self._partitions))].append(name)
        return [
            some[start : start + LOGS_AT_ONCE]
            for some in by_slot.values()
            for start in range(0, len(some), LOGS_AT_ONCE)
        ]

    def _slot(self, partition: int) -> int:
        """Partitions with the same number may be touched by one script: all of them but on a cluster."""
        return partition if self._topology.sharded else 0

    async def append_links(
        self, records: Mapping[bytes, bytes], records_max: int, kept_ms: int, timeout_s: float,
        left_out_ms: Mapping[bytes, int] = MappingProxyType({}),
    ) -> LinkCounts:  # fmt: skip
        """See `Store.append_links`."""
        names, logs = list(records), []
        for name, some in records.items():
            grain = name[0]
            marked = name in left_out_ms
            empty = entity_header(LINK_GRAINS[grain], 0, left_out_ms[name]) if marked else EMPTY_ENTITY_LOGS[grain]
            logs.append(log_arguments(empty, some, self._held.without(name, some)))
        command = append_command(names, self._partitions, records_max, kept_ms, logs)
        told = await self._send(scripts.LINK, entity_read(names[0], self._partitions)[0], command, timeout_s)
        return LinkCounts(*(sum(told[i :: len(LinkCounts._fields)]) for i in range(len(LinkCounts._fields))))

    async def waiting_links(
        self, partition: int, cursor: int, timeout_s: float
    ) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
        """See `Store.waiting_links`."""
        key = keys.waiting_key(partition)
        cursor, found = await self._call(key, ("HSCAN", key, cursor, "COUNT", WAITING_AT_ONCE), timeout_s, write=False)
        pairs = iter(found)
        return int(cursor), list(zip(pairs, pairs, strict=True))

    async def forget_links(self, ids: Mapping[int, Sequence[bytes]], timeout_s: float) -> None:
        """See `Store.forget_links`."""
        by_slot: dict[int, list[tuple[bytes, Sequence[bytes]]]] = defaultdict(list)
        for partition, some in ids.items():
            for start in range(0, len(some), WAITING_AT_ONCE):
                part = keys.waiting_key(partition), some[start : start + WAITING_AT_ONCE]
                by_slot[self._slot(partition)].append(part)
        for parts in by_slot.values():
            names = [key for key, _ in parts]
            arguments = [word for _, some in parts for word in (b"%d" % len(some), *some)]
            await self._run(scripts.LINKED, names, tuple(arguments), timeout_s)

    async def claim_facility(self, facility_id: str, customer_id: str, timeout_s: float) -> str:
        """See `Store.claim_facility`."""
        if not self._history.admitted:
            timeout_s = await self._history.safe_within(timeout_s)
        key = keys.owner_key(facility_id, self._partitions)
        command = ("SET", key, customer_id, "NX", "GET")
        owner = await self._call(key, command, timeout_s, write=True)
        return customer_id if owner is None else owner.decode()

    async def facility_owner(self, facility_id: str, timeout_s: float) -> str | None:
        """See `Store.facility_owner`."""
        key = keys.owner_key(facility_id, self._partitions)
        owner = await self._call(key, ("GET", key), timeout_s, write=False)
        return None if owner is None else owner.decode()

    async def read_lists(self, known_version: int, timeout_s: float) -> tuple[int, Mapping[str, frozenset[str]] | None]:
        """See `Store.read_lists`."""
        names = [keys.LISTS_VERSION, keys.LISTS_ENTRIES]
        version, entries = await self._run(scripts.LISTS, names, (b"%d" % known_version,), timeout_s)
        return int(version), None if entries is None else _lists(entries)

    async def change_list(self, name: str, value: str, present: bool, timeout_s: float, by: str = "") -> bool:
        """See `Store.change_list`."""
        names = [keys.LISTS_VERSION, keys.LISTS_ENTRIES, keys.outbox_key(keys.LISTS)]
        told = name.encode(), value.encode(), by.encode()
        arguments = (f"{name}\0{value}".encode(), b"1" if present else b"0", *told)
        return bool(await self._run(scripts.CHANGE_LIST, names, arguments, timeout_s))

    async def publish_reload(self, timeout_s: float) -> int:
        """See `Store.publish_reload`."""
        return int(await self._call(keys.RELOAD, ("INCR", keys.RELOAD), timeout_s, write=True))

    async def read_fleet(self, timeout_s: float) -> FleetNumbers:
        """See `Store.read_fleet`."""
        command = ("MGET", keys.RELOAD, keys.PUBLISHED, keys.SHADOW)
        return FleetNumbers(
            *(int(told or 0) for told in await self._call(keys.RELOAD, command, timeout_s, write=False))
        )

    async def publish_policy(self, expected: int, head: bytes, bundle: bytes, timeout_s: float, serial: int = 0) -> int:
        """See `Store.publish_policy`."""
        names = [
            keys.PUBLISHED, keys.PUBLISHED_HEADS, keys.PUBLISHED_BUNDLES, keys.PUBLISHED_SERIAL,
            keys.outbox_key(keys.POLICY),
        ]  # fmt: skip
        arguments = (b"%d" % expected, head, bundle, b"%d" % POLICIES_KEPT_MAX, b"%d" % serial)
        return int(await self._run(scripts.PUBLISH, names, arguments, timeout_s))

    async def policy_serial(self, timeout_s: float) -> int:
        """See `Store.policy_serial`."""
        key = keys.PUBLISHED_SERIAL
        return int(await self._call(key, ("GET", key), timeout_s, write=False) or 0)

    async def published_heads(self, timeout_s: float) -> Mapping[int, bytes]:
        """See `Store.published_heads`."""
        key = keys.PUBLISHED_HEADS
        pairs = iter(await self._call(key, ("HGETALL", key), timeout_s, write=False))
        heads = {int(number): head for number, head in zip(pairs, pairs, strict=True)}
        return dict(sorted(heads.items(), reverse=True))

    async def read_bundle(self, number: int, timeout_s: float) -> bytes | None:
        """See `Store.read_bundle`."""
        key = keys.PUBLISHED_BUNDLES
        bundle: bytes | None = await self._call(key, ("HGET", key, number), timeout_s, write=False)
        return bundle

    async def publish_shadow(self, head: bytes, bundle: bytes, timeout_s: float) -> int:
        """See `Store.publish_shadow`."""
        names = [keys.SHADOW, keys.SHADOW_HEAD, keys.SHADOW_BUNDLE, keys.SHADOW_LAST]
        return int(await self._run(scripts.PUBLISH_SHADOW, names, (head, bundle), timeout_s))

    async def stop_shadow(self, timeout_s: float) -> bool:
        """See `Store.stop_shadow`."""
        command = ("DEL", keys.SHADOW, keys.SHADOW_HEAD, keys.SHADOW_BUNDLE)
        return bool(await self._call(keys.SHADOW, command, timeout_s, write=True))

    async def read_shadow(self, timeout_s: float) -> tuple[int, bytes, bytes] | None:
        """See `Store.read_shadow`."""
        command = ("MGET", keys.SHADOW, keys.SHADOW_HEAD, keys.SHADOW_BUNDLE)
        number, head, bundle = await self._call(keys.SHADOW, command, timeout_s, write=False)
        return None if number is None else (int(number), head, bundle)

    async def save_policy(self, policy_id: str, document: bytes, timeout_s: float) -> None:
        """See `Store.save_policy`."""
        key = keys.policy_key(policy_id)
        await self._call(key, ("SET", key, document, "NX"), timeout_s, write=True)

    async def read_policy(self, policy_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_policy`."""
        key = keys.policy_key(policy_id)
        document: bytes | None = await self._call(key, ("GET", key), timeout_s, write=False)
        return document

    async def save_source(self, name: str, document: bytes, timeout_s: float) -> None:
        """See `Store.save_source`."""
        key, pieces = keys.source_key(name), cut(document)
        for number, piece in enumerate(pieces[:-1]):
            await self._call(key, ("HSET", key, number, piece), timeout_s, write=True)
        last = len(pieces) - 1
        await self._call(key, ("HSET", key, last, pieces[last], COUNT_FIELD, len(pieces)), timeout_s, write=True)

    async def missing_sources(self, names: Sequence[str], timeout_s: float) -> frozenset[str]:
        """See `Store.missing_sources`."""
        wanted = [(name, keys.source_key(name)) for name in names]
        asked = (self._call(key, ("HGET", key, COUNT_FIELD), timeout_s, write=False) for _, key in wanted)
        counts = await gather(*asked)
        return frozenset(name for (name, _), count in zip(wanted, counts, strict=True) if count is None)

    async def read_source(self, name: str, timeout_s: float) -> bytes | None:
        """See `Store.read_source`."""
        key = keys.source_key(name)
        count = await self._call(key, ("HGET", key, COUNT_FIELD), timeout_s, write=False)
        if count is None or count == ARCHIVED:
            return None if count is None else b""
        pieces = [
            await self._call(key, ("HGET", key, number), timeout_s, write=False) for number in range(int(count))
        ]  # fmt: skip
        try:
            return joined(pieces)
        except ValueError as error:
            count = await self._call(key, ("HGET", key, COUNT_FIELD), timeout_s, write=False)
            if count == ARCHIVED:  # meanwhile, by another
                return b""
            raise StoreDamaged(f"{name}: {error}") from None

    async def shed_source(self, name: str, known_ms: int, timeout_s: float) -> None:
        """See `Store.shed_source`. Killed on the way it leaves some pieces behind, which nobody reads."""
        key = keys.source_key(name)
        count = await self._call(key, ("HGET", key, COUNT_FIELD), timeout_s, write=False)
        await self._call(key, ("HSET", key, COUNT_FIELD, ARCHIVED), timeout_s, write=True)
        if known_ms:
            await self._call(key, ("PEXPIRE", key, known_ms), timeout_s, write=True)
        if int(count or 0):
            await self._call(key, ("HDEL", key, *range(int(count))), timeout_s, write=True)

    async def announce_worker(self, status: WorkerStatus, timeout_s: float) -> None:
        """See `Store.announce_worker`."""
        told = (
            status.worker_id,
            status.policy_id,
            status.policy_label,
            status.seen_at_ms,
            status.problem,
            status.bundle,
        )
        arguments = (
            status.worker_id.encode(),
            orjson.dumps(told),
            b"%d" % status.seen_at_ms,
            b"%d" % (status.seen_at_ms - WORKER_SILENT_MS),
        )
        names = [keys.WORKERS_STATUS, keys.WORKERS_SEEN]
        await self._run(scripts.ANNOUNCE, names, arguments, timeout_s)

    async def workers(self, now_ms: int, timeout_s: float) -> Sequence[WorkerStatus]:
        """See `Store.workers`."""
        key = keys.WORKERS_STATUS
        told = await self._call(key, ("HVALS", key), timeout_s, write=False)
        heard = (_worker_status(one) for one in told)
        lately = (one for one in heard if one is not None and one.seen_at_ms >= now_ms - WORKER_SILENT_MS)
        return sorted(lately, key=lambda one: one.worker_id)

    async def read_import(self, import_id: str, timeout_s: float) -> Mapping[int, bytes]:
        """See `Store.read_import`."""
        key = keys.import_key(import_id)
        pairs = iter(await self._call(key, ("HGETALL", key), timeout_s, write=False))
        return {int(number): account for number, account in zip(pairs, pairs, strict=True)}

    async def save_import(self, import_id: str, slice_number: int, account: bytes, timeout_s: float) -> None:
        """See `Store.save_import`."""
        key = keys.import_key(import_id)
        await self._call(key, ("HSET", key, slice_number, account), timeout_s, write=True)

    async def outbox_decisions(
        self, partition: int, since_ms: int, until_ms: int, after: bytes, timeout_s: float
    ) -> tuple[bytes, Sequence[str]]:
        """See `Store.outbox_decisions`."""
        key = keys.outbox_key(partition)
        command = ("XRANGE", key, b"(" + after if after else b"%d" % max(since_ms, 0), b"%d" % max(until_ms, 0),
                   "COUNT", OUTBOX_AT_ONCE)  # fmt: skip
        entries = await self._call(key, command, timeout_s, write=False)
        told = (dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in entries)
        ids = [one[b"id"].decode() for one in told if one.get(b"kind") == b"decision"]
        return (entries[-1][0] if len(entries) == OUTBOX_AT_ONCE else b""), ids

    async def read_decisions(
        self, partition: int, decision_ids: Sequence[str], timeout_s: float
    ) -> Sequence[bytes | None]:
        """See `Store.read_decisions`."""
        if not decision_ids:
            return ()
        names = [keys.customer_decision_key(partition, decision_id) for decision_id in decision_ids]
        frames: list[bytes | None] = await self._call(names[0], ("MGET", *names), timeout_s, write=False)
        return frames

    async def add_tally(
        self, series: str, day: int, increments: Mapping[bytes, int], kept_days: int, timeout_s: float
    ) -> None:
        """See `Store.add_tally`."""
        names = [keys.tally_key(series, day), keys.WATCH_DAYS]
        member = f"{series}\0{day}".encode()
        head = (member, b"%d" % day, b"%d" % (day - kept_days), b"%d" % (kept_days * DAY_MS))
        words = [word for name, count in increments.items() for word in (name, b"%d" % count)]
        for start in range(0, len(words), 2 * TALLY_AT_ONCE):
            some = words[start : start + 2 * TALLY_AT_ONCE]
            await self._run(scripts.TALLY, names, (*head, *some), timeout_s)

    async def tally_days(self, timeout_s: float) -> Mapping[str, Sequence[int]]:
        """See `Store.tally_days`."""
        key = keys.WATCH_DAYS
        days: dict[str, list[int]] = defaultdict(list)
        for member in await self._call(key, ("ZRANGE", key, 0, -1), timeout_s, write=False):
            series, _, day = member.decode().rpartition("\0")
            days[series].append(int(day))
        return days

    async def read_tally(self, series: str, day: int, timeout_s: float) -> Mapping[bytes, int]:
        """See `Store.read_tally`."""
        key = keys.tally_key(series, day)
        pairs = iter(await self._call(key, ("HGETALL", key), timeout_s, write=False))
        return {name: int(count) for name, count in zip(pairs, pairs, strict=True)}

    async def save_watch(self, name: str, document: bytes, timeout_s: float) -> None:
        """See `Store.save_watch`."""
        key = keys.WATCH_LAST
        await self._call(key, ("HSET", key, name, document), timeout_s, write=True)

    async def read_watches(self, timeout_s: float) -> Mapping[str, bytes]:
        """See `Store.read_watches`."""
        key = keys.WATCH_LAST
        pairs = iter(await self._call(key, ("HGETALL", key), timeout_s, write=False))
        return {name.decode(): document for name, document in zip(pairs, pairs, strict=True)}

    async def check(self) -> Sequence[str]:
        """See `Store.check`. Asks every primary."""
        problems: list[str] = []
        for told in await self._topology.call_all(pack(("INFO",)), CHECK_TIMEOUT_S):
            problems += server_problems(refuse_errors(told, write=False), self._replicas)
        for told in await self._topology.call_all(ASK_CONFIGURATION, CHECK_TIMEOUT_S):
            problems += configuration_problems(told, self._profile, self._replicas)
        for told in await self._topology.call_all(_NO_SCRIPT, CHECK_TIMEOUT_S):
            if isinstance(told, ErrorReply) and told.code != "NOSCRIPT":
                problems.append(f"does not let this user run scripts: {told.text[:100]}")
        problems += await self._history.problems()
        return tuple(dict.fromkeys(problems))

    async def accept_history(self, timeout_s: float) -> str:
        """See `Store.accept_history`."""
        return await self._history.accept(timeout_s)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._history.close()
        await self._topology.close()

    async def _call(self, key: bytes, command: tuple[Any, ...], timeout_s: float, *, write: bool) -> Any:
        if not self._history.known:
            timeout_s = await self._history.known_within(timeout_s)
        self._resends.earned += RESENDS_SHARE
        reply = await self._topology.call(key, pack(command), timeout_s, write=write)
        return refuse_errors(reply, write=write)

    async def _fence(self, key: bytes, timeout_s: float) -> None:
        """Return once everything that the server of a key holds now is replicated. NotReplicated, OutcomeUnknown."""
        try:
            await self._call(key, ("SET", keys.fence_key(key), b""), timeout_s, write=True)
        except StoreUnavailable as error:
            raise NotReplicated(error.message) from None

    def _run(
        self, script: scripts.Script, names: list[bytes], arguments: tuple[bytes, ...], timeout_s: float
    ) -> Coroutine[Any, Any, Any]:
        command = pack((b"EVALSHA", script.sha, b"%d" % len(names), *names, *arguments))
        return self._send(script, names[0], command, timeout_s)

    async def _send(self, script: scripts.Script, key: bytes, command: bytes, timeout_s: float) -> Any:
        """The reply to a packed command that runs a script."""
        if not self._history.known:
            timeout_s = await self._history.known_within(timeout_s)
        until = monotonic() + timeout_s
        self._resends.earned += RESENDS_SHARE
        reply = await self._topology.call(key, command, timeout_s, write=script.writes)
        if isinstance(reply, ErrorReply):
            reply = await self._after_error(reply, script, key, command, until)
        return reply

    async def _after_error(
        self, reply: ErrorReply, script: scripts.Script, key: bytes, command: bytes, until: float
    ) -> Any:
        """The reply to the same command with the script's source, if the server had forgotten the script; any
        other error is raised."""
        if reply.code == "NOSCRIPT":
            self._resends.take()
            command = command.replace(script.by_sha, script.by_source, 1)
            reply = await self._topology.call(key, command, until - monotonic(), write=script.writes)
        if isinstance(reply, ErrorReply) and reply.code == "EPOCH":
            self._history.doubt()
        return refuse_errors(reply, write=script.writes)


def _lists(entries: list[bytes]) -> dict[str, frozenset[str]]:
    lists: dict[str, list[str]] = {}
    for entry in entries:
        name, _, value = entry.decode().partition("\0")
        lists.setdefault(name, []).append(value)
    return {name: frozenset(values) for name, values in lists.items()}


def _worker_status(told: bytes) -> WorkerStatus | None:
    """What a worker says of itself; None if this version cannot read it, as of a newer worker during a rollout."""
    try:
        status = WorkerStatus(*orjson.loads(told))
    except (ValueError, TypeError):
        return None
    return status if isinstance(status.seen_at_ms, int) else None

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

import asyncio
import logging
import re
from asyncio import Future, ensure_future
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, Literal

import orjson

from decision_service.core.errors import (
    NotReplicated,
    OutcomeUnknown,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    StoreUnsafe,
)
from decision_service.core.event import EMPTY_LOG, HEADER_MAGIC
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import DAY_MS, PARTITIONS, POLICIES_KEPT_MAX, RECORD_BYTES
from decision_service.core.links import EMPTY_ENTITY_LOGS, LINK_GRAINS, entity_header
from decision_service.store import (
    EVICTS,
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
from decision_service.store.commands import commit_command, entity_read, place_of, read_command
from decision_service.store.epoch import (
    AFTER_FIELD,
    BEAT_S,
    EPOCH_FIELD,
    MARKED_FIELD,
    PARTITIONS_FIELD,
    EpochMemory,
    new_epoch,
    told_by,
)
from decision_service.store.lane import pack
from decision_service.store.noticed import Nobody, Noticed
from decision_service.store.records import decode_attribute, decode_facility
from decision_service.store.replication import REPLICAS_DEFAULT, Replicas
from decision_service.store.replies import ErrorReply, refuse_errors
from decision_service.store.resends import RESENDS_SHARE
from decision_service.store.topology import Topology

Profile = Literal["fast", "safe", "replicated"]
VERSION_MIN: Final = (7, 0)  # of Redis; Valkey answers as Redis 7.2. Scripts need flags, SET needs NX with GET
WAITAOF_VERSION_MIN: Final = (7, 2)
REPLICA_LAG_MAX_S: Final = 10  # since a replica was last heard of by its primary
CHECK_TIMEOUT_S: Final = 2.0
DOUBT_PAUSE_S: Final = 0.02  # doubts about the history make it looked at at most this often
LOGS_AT_ONCE: Final = 32  # entity logs one script touches: about 1 ms of the server's time if all are full
SHADOWS_AT_ONCE: Final = 64  # decisions whose shadow scores one script keeps: about 0.3 ms of the server's time
WAITING_AT_ONCE: Final = 200  # waiting links read or forgotten at once
OUTBOX_AT_ONCE: Final = 500  # entries of an outbox read at once

LOG = logging.getLogger("decision_service.store")

_CONFIGURATION: Final = pack(
    ("CONFIG", "GET", "maxmemory-policy", "appendonly", "appendfsync", "min-replicas-to-write")
)
_NO_SCRIPT: Final = pack(("EVALSHA", "0" * 40, 0))  # what nobody loaded: answered NOSCRIPT by whoever may run scripts
_KNOWN_WORDS: Final = 3  # of the reply to a read of a customer that is known
_FACILITY_START: Final = len(keys.FACILITY_FIELD)
_ATTRIBUTE_START: Final = len(keys.ATTRIBUTE_FIELD)
_FACILITY_BYTE: Final = keys.FACILITY_FIELD[0]
_ATTRIBUTE_BYTE: Final = keys.ATTRIBUTE_FIELD[0]


class RedisStore:
    """`Store` over a topology. `profile` says how durable the server must be configured for `check` to be
    content."""

    def __init__(
        self, topology: Topology, *, partitions: int = PARTITIONS, profile: Profile = "safe",
        replicas: Replicas = REPLICAS_DEFAULT, memory: EpochMemory | None = None, noticed: Noticed | None = None,
        reconciling: bool = False,
    ) -> None:  # fmt: skip
        """`replicas` are what the topology waits for in the profile `replicated`. `reconciling` uses a store whatever
        became of its history, and leaves no trace of having used it."""
        self._topology = topology
        self._partitions = partitions
        self._profile = profile
        self._replicas = replicas if profile == "replicated" else None
        self._resends = topology.resends
        self._noticed = noticed or Nobody()
        self._memory = memory or EpochMemory(None, "")
        self._reconciling = reconciling
        self._known = False  # the partitions are ours
        self._admitted = False  # and nothing is missing, as far as is known
        self._lost = ""  # what is wrong with the history
        self._epoch = b""
        self._beat = 0
        self._admitting: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._doubt = asyncio.Event()
        if not topology.sharded:
            topology.on_reconnect(self._doubt_history)
        else:
            topology.on_reconnect(self._doubt.set)

    @property
    def partitions(self) -> int:
        """How many partitions customers are spread over."""
        return self._partitions

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """See `Store.read`."""
        place = place_of(customer_id, self._partitions)
        command = read_command(place, decision_id)
        if not self._admitted:
            timeout_s = await self._safe_within(timeout_s)
        until = monotonic() + timeout_s
        self._resends.earned += RESENDS_SHARE
        reply = await self._topology.call(place.key, command, timeout_s, write=False)
        if type(reply) is ErrorReply:
            reply = await self._after_error(reply, scripts.READ, place.key, command, until)
        if len(reply) > _KNOWN_WORDS and reply[_KNOWN_WORDS] != self._epoch:
            self._doubt.set()
            self._doubt_history()
            raise StoreUnsafe("the store lost its history: who is unknown to it need not be new")
        if not self._admitted:  # a new connection was made for it
            await self._safe_within(until - monotonic())
        state = _state(reply[0], reply[1], reply[2])
        if state.decision is not None and self._replicas is not None:
            await self._fence(place.key, until - monotonic())
        return state

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """See `Store.commit`."""
        place = place_of(commit.customer_id, self._partitions)
        if not self._admitted:
            timeout_s = await self._safe_within(timeout_s)
        command = commit_command(place, commit, self._epoch)
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
        if not self._admitted:
            timeout_s = await self._safe_within(timeout_s)
        until = monotonic() + timeout_s
        key = keys.decision_key(partition, decision_id)
        command = ("MGET", key, keys.marker_key(partition))
        frame: bytes | None
        frame, marker = await self._call(key, command, timeout_s, write=False)
        if frame is None and marker != self._epoch:
            self._doubt.set()
            self._doubt_history()
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
        names: list[bytes] = []
        arguments: list[bytes] = []
        for decision_id, scores in records.items():
            partition = keys.partition_of_kept(decision_id)
            names += (keys.shadow_key(partition, decision_id), keys.outbox_key(partition))
            arguments += (decision_id.encode(), scores)
        return int(await self._run(scripts.SHADOW, names, tuple(arguments), timeout_s)) if names else 0

    async def read_shadows(self, decision_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_shadows`."""
        partition = keys.partition_of_decision(decision_id)
        if partition is None or partition >= self._partitions:
            return None
        key = keys.shadow_key(partition, decision_id)
        scores: bytes | None = await self._call(key, ("GET", key), timeout_s, write=False)
        return scores

    def read_links(self, names: Iterable[bytes], timeout_s: float) -> LinkReads:
        """See `Store.read_links`."""
        return LinkReads([(name[0], self._read_link(name, timeout_s)) for name in names])

    def _read_link(self, name: bytes, timeout_s: float) -> Future[Any] | None:
        key, command = entity_read(name, self._partitions)
        if not self._known:
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
        names = [keys.entity_key(name, self._partitions) for name in records]
        arguments = [b"%d" % records_max, b"%d" % kept_ms]
        for name, some in records.items():
            grain = name[0]
            marked = name in left_out_ms
            arguments += (
                entity_header(LINK_GRAINS[grain], 0, left_out_ms[name]) if marked else EMPTY_ENTITY_LOGS[grain], some
            )  # fmt: skip
        told = await self._run(scripts.LINK, names, tuple(arguments), timeout_s)
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
        if not self._admitted:
            timeout_s = await self._safe_within(timeout_s)
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

    async def change_list(self, name: str, value: str, present: bool, timeout_s: float) -> bool:
        """See `Store.change_list`."""
        names = [keys.LISTS_VERSION, keys.LISTS_ENTRIES]
        arguments = (f"{name}\0{value}".encode(), b"1" if present else b"0")
        return bool(await self._run(scripts.CHANGE_LIST, names, arguments, timeout_s))

    async def publish_reload(self, timeout_s: float) -> int:
        """See `Store.publish_reload`."""
        return int(await self._call(keys.RELOAD, ("INCR", keys.RELOAD), timeout_s, write=True))

    async def read_fleet(self, timeout_s: float) -> FleetNumbers:
        """See `Store.read_fleet`."""
        command = ("MGET", keys.RELOAD, keys.PUBLISHED)
        return FleetNumbers(
            *(int(told or 0) for told in await self._call(keys.RELOAD, command, timeout_s, write=False))
        )

    async def publish_policy(self, expected: int, head: bytes, bundle: bytes, timeout_s: float, serial: int = 0) -> int:
        """See `Store.publish_policy`."""
        names = [keys.PUBLISHED, keys.PUBLISHED_HEADS, keys.PUBLISHED_BUNDLES, keys.PUBLISHED_SERIAL]
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

    async def save_policy(self, policy_id: str, document: bytes, timeout_s: float) -> None:
        """See `Store.save_policy`."""
        key = keys.policy_key(policy_id)
        await self._call(key, ("SET", key, document, "NX"), timeout_s, write=True)

    async def read_policy(self, policy_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_policy`."""
        key = keys.policy_key(policy_id)
        document: bytes | None = await self._call(key, ("GET", key), timeout_s, write=False)
        return document

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
            problems += _server_problems(refuse_errors(told, write=False), self._replicas)
        for told in await self._topology.call_all(_CONFIGURATION, CHECK_TIMEOUT_S):
            problems += _configuration_problems(told, self._profile, self._replicas)
        for told in await self._topology.call_all(_NO_SCRIPT, CHECK_TIMEOUT_S):
            if isinstance(told, ErrorReply) and told.code != "NOSCRIPT":
                problems.append(f"does not let this user run scripts: {told.text[:100]}")
        try:
            await self._admit(CHECK_TIMEOUT_S)
            if self._lost:
                problems.append(self._lost)
            elif gone := await self._unmarked():
                problems.append(f"{gone} of {self._partitions} partitions lost their history")
        except (StoreUnsafe, StoreUnavailable) as error:
            problems.append(error.message)
        return tuple(dict.fromkeys(problems))

    async def accept_history(self, timeout_s: float) -> str:
        """See `Store.accept_history`."""
        until = monotonic() + timeout_s
        meta = await self._meta(timeout_s)
        before = {told_by(meta).epoch, None if (here := self._memory.here) is None else here.epoch} - {None}
        epoch = new_epoch()
        fields = [(EPOCH_FIELD, epoch), (PARTITIONS_FIELD, meta.get(PARTITIONS_FIELD, self._partitions))]
        fields += [(AFTER_FIELD + str(old).encode(), b"1") for old in before]
        words = [word for field in fields for word in field]
        await self._ask(("HSET", keys.META, *words), until - monotonic(), write=True)
        self._memory.remember(epoch, 0)
        self._admitted = False
        await self._admit(until - monotonic())
        return epoch

    async def close(self) -> None:
        """See `Store.close`."""
        for task in (self._beating, self._admitting):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._topology.close()

    async def _call(self, key: bytes, command: tuple[Any, ...], timeout_s: float, *, write: bool) -> Any:
        if not self._known:
            timeout_s = await self._admit_within(timeout_s)
        self._resends.earned += RESENDS_SHARE
        reply = await self._topology.call(key, pack(command), timeout_s, write=write)
        return refuse_errors(reply, write=write)

    async def _fence(self, key: bytes, timeout_s: float) -> None:
        """Return once everything that the server of a key holds now is replicated. NotReplicated, OutcomeUnknown."""
        try:
            await self._call(key, ("SET", keys.fence_key(key), b""), timeout_s, write=True)
        except StoreUnavailable as error:
            raise NotReplicated(error.message) from None

    async def _run(
        self, script: scripts.Script, names: list[bytes], arguments: tuple[bytes, ...], timeout_s: float
    ) -> Any:
        if not self._known:
            timeout_s = await self._admit_within(timeout_s)
        until = monotonic() + timeout_s
        self._resends.earned += RESENDS_SHARE
        command = pack((b"EVALSHA", script.sha, b"%d" % len(names), *names, *arguments))
        reply = await self._topology.call(names[0], command, timeout_s, write=script.writes)
        if isinstance(reply, ErrorReply):
            reply = await self._after_error(reply, script, names[0], command, until)
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
        return refuse_errors(reply, write=script.writes)

    async def _admit_within(self, timeout_s: float) -> float:
        """Admit, and say how much of the caller's time is left."""
        until = monotonic() + timeout_s
        await self._admit(timeout_s)
        return until - monotonic()

    async def _safe_within(self, timeout_s: float) -> float:
        """Admit, refuse a store whose history is missing, and say how much of the caller's time is left."""
        if not self._lost:
            timeout_s = await self._admit_within(timeout_s)
        if self._lost:
            raise StoreUnsafe(self._lost)
        return timeout_s

    async def _admit(self, timeout_s: float) -> None:
        """Look at partitions and history. Callers share one look, and each waits for it as long as it may."""
        if self._admitting is None:
            self._admitting = asyncio.create_task(self._look())
            self._admitting.add_done_callback(self._looked)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._admitting)
        except TimeoutError:
            raise StoreUnavailable("the store did not tell its history in time") from None

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._admitting = None
        if not task.cancelled():
            task.exception()  # those who waited have it

    async def _look(self) -> None:
        """Refuse a store that was started with another number of partitions; judge its history; start one that is
        new."""
        meta = await self._meta(CHECK_TIMEOUT_S)
        self._refuse_partitions(meta)
        told = told_by(meta)
        if not self._reconciling:
            problem, forgotten = await asyncio.to_thread(self._memory.judge, told)
            if problem and problem != self._lost:
                LOG.error("%s", problem)
            self._lost = problem
            self._noticed.store_history(bool(problem), forgotten)
            if not problem and forgotten:
                LOG.warning("the store forgot about the last %d s before it was reached again", forgotten)
                self._memory.set_back(told.epoch or "", told.beat)
        if not self._lost:
            if told.epoch is None or PARTITIONS_FIELD not in meta:
                meta = await self._begin()
            await self._mark(meta)
            self._epoch, self._beat = meta[EPOCH_FIELD], told.beat
            if not self._reconciling:
                await asyncio.to_thread(self._memory.remember, self._epoch.decode(), self._beat)
        self._known, self._admitted = True, not self._lost
        if self._beating is None and not self._reconciling:
            self._beating = asyncio.create_task(self._keep_beat())

    def _refuse_partitions(self, meta: Mapping[bytes, bytes]) -> None:
        found = int(meta.get(PARTITIONS_FIELD, self._partitions))
        if found != self._partitions:
            raise StoreUnsafe(
                f"this store was first started with {found} partitions and cannot be used with "
                f"{self._partitions}: customers would not be found"
            )

    async def _begin(self) -> Mapping[bytes, bytes]:
        """Give a new store what it has from its first start on; whoever is first decides."""
        for name, value in ((PARTITIONS_FIELD, self._partitions), (EPOCH_FIELD, new_epoch())):
            await self._ask(("HSETNX", keys.META, name, value), CHECK_TIMEOUT_S, write=True)
        meta = await self._meta(CHECK_TIMEOUT_S)
        self._refuse_partitions(meta)
        return meta

    async def _mark(self, meta: Mapping[bytes, bytes]) -> None:
        """Put the epoch into every partition, once in the life of an epoch: a marker that is gone later stays gone."""
        epoch = meta[EPOCH_FIELD]
        if meta.get(MARKED_FIELD) == epoch:
            return
        names = [keys.marker_key(partition) for partition in range(self._partitions)]
        together = [[name] for name in names] if self._topology.sharded else [names]
        asked = (
            self._ask(("MSET", *(word for name in some for word in (name, epoch))), CHECK_TIMEOUT_S, key=some[0],
                      write=True)
            for some in together
        )  # fmt: skip
        await asyncio.gather(*asked)
        await self._ask(("HSET", keys.META, MARKED_FIELD, epoch), CHECK_TIMEOUT_S, write=True)

    async def _unmarked(self) -> int:
        """How many partitions lack their marker."""
        names = [keys.marker_key(partition) for partition in range(self._partitions)]
        together = [[name] for name in names] if self._topology.sharded else [names]
        asked = (self._ask(("MGET", *some), CHECK_TIMEOUT_S, key=some[0], write=False) for some in together)
        return sum(marker != self._epoch for markers in await asyncio.gather(*asked) for marker in markers)

    async def _meta(self, timeout_s: float) -> Mapping[bytes, bytes]:
        pairs = iter(await self._ask(("HGETALL", keys.META), timeout_s, write=False))
        return dict(zip(pairs, pairs, strict=True))

    def _doubt_history(self) -> None:
        """Look at the history before anything rests on it: a marker is missing, or there is a new connection, behind
        which may be a server that was emptied or set back."""
        self._admitted = False
        self._doubt.set()

    async def _keep_beat(self) -> None:
        """Count on, remember how far the store came, and look again where there is doubt."""
        due = monotonic() + BEAT_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(due - monotonic(), DOUBT_PAUSE_S)):
                    await self._doubt.wait()
            doubted = self._doubt.is_set() or not self._admitted
            self._doubt.clear()
            with suppress(StoreError):
                if doubted:
                    await self._admit(CHECK_TIMEOUT_S)
                elif monotonic() >= due:
                    await self._count_on()
            if monotonic() >= due:
                await self._topology.follow()
                due = monotonic() + BEAT_S
            await asyncio.sleep(DOUBT_PAUSE_S)

    async def _count_on(self) -> None:
        arguments = (self._epoch, b"%d" % self._beat)
        epoch, beat = await self._run(scripts.BEAT, [keys.META], arguments, CHECK_TIMEOUT_S)
        if epoch != self._epoch or int(beat) < self._beat:
            self._admitted = False
            await self._admit(CHECK_TIMEOUT_S)
            return
        self._beat = int(beat)
        await asyncio.to_thread(self._memory.remember, self._epoch.decode(), self._beat)

    async def _ask(self, command: tuple[Any, ...], timeout_s: float, *, write: bool, key: bytes = keys.META) -> Any:
        """One step of admission. It may be repeated at will, so a lost reply is no unknown outcome."""
        try:
            reply = await self._topology.call(key, pack(command), timeout_s, write=write)
            return refuse_errors(reply, write=write)
        except OutcomeUnknown as error:
            raise StoreUnavailable(error.message) from None


def _state(meta: list[bytes], log: bytes | None, decision: bytes | None) -> CustomerState:
    """StoreDamaged for what is not as this service writes it."""
    version = 0
    facilities: dict[str, Facility] = {}
    attributes: dict[str, Attribute] = {}
    pairs = iter(meta)
    try:
        for name, value in zip(pairs, pairs, strict=True):
            sort = name[0]
            if sort == _FACILITY_BYTE:
                facilities[name[_FACILITY_START:].decode()] = decode_facility(value)
            elif sort == _ATTRIBUTE_BYTE:
                attributes[name[_ATTRIBUTE_START:].decode()] = decode_attribute(value)
            elif name == keys.VERSION_FIELD:
                version = int(value)
    except (ValueError, TypeError):
        raise StoreDamaged("a facility or an attribute of this customer cannot be read") from None
    if log is None:
        return CustomerState(version, EMPTY_LOG, facilities, attributes, decision)
    if len(log) % RECORD_BYTES or log[:8] != HEADER_MAGIC:
        raise StoreDamaged("the event log of this customer is torn or none of ours")
    return CustomerState(version, log, facilities, attributes, decision)


def _lists(entries: list[bytes]) -> dict[str, frozenset[str]]:
    lists: dict[str, list[str]] = {}
    for entry in entries:
        name, _, value = entry.decode().partition("\0")
        lists.setdefault(name, []).append(value)
    return {name: frozenset(values) for name, values in lists.items()}


def _server_problems(info: bytes, replicas: Replicas | None) -> list[str]:
    """What INFO says that rules a server out."""
    told = dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
    problems = []
    version = tuple(int(n) for n in re.findall(r"\d+", told.get("redis_version", "0.0"))[:2])
    if version < VERSION_MIN:
        needed = ".".join(map(str, VERSION_MIN))
        problems.append(f"version {told.get('redis_version')} is older than {needed}")
    if told.get("role") != "master":
        problems.append("this is a replica: it takes no writes")
    if told.get("loading") == "1":
        problems.append("still loading its data")
    if replicas is None:
        return problems
    if replicas.on_disk and version < WAITAOF_VERSION_MIN:
        problems.append(f"version {told.get('redis_version')} has no WAITAOF, which replicas_on_disk asks for")
    linked = sum(_linked_replica(line) for name, line in told.items() if re.fullmatch(r"slave\d+", name))
    if linked < replicas.number:
        problems.append(f"{linked} replicas are linked and up to date: profile replicated wants {replicas.number}")
    return problems


def _linked_replica(line: str) -> bool:
    """Whether a replica, as INFO describes it, has all data and was heard of lately."""
    told = dict(part.split("=", 1) for part in line.split(",") if "=" in part)
    return told.get("state") == "online" and 0 <= int(told.get("lag", "-1")) <= REPLICA_LAG_MAX_S


def _configuration_problems(reply: Any, profile: Profile, replicas: Replicas | None) -> list[str]:
    """What CONFIG says that a durability profile does not allow."""
    if isinstance(reply, ErrorReply):
        return [f"cannot see its configuration: {reply.text[:100]}"]
    pairs = iter(reply)
    told = {name.decode(): value.decode() for name, value in zip(pairs, pairs, strict=True)}
    problems = []
    if told.get("maxmemory-policy") != "noeviction":
        problems.append(f"{EVICTS} is {told.get('maxmemory-policy')}, it would evict: want noeviction")
    if told.get("appendonly") != "yes":
        problems.append("appendonly is off: a restart would lose everything")
    wanted = ("always", "everysec") if profile == "fast" else ("always",)
    if told.get("appendfsync") not in wanted:
        problems.append(f"appendfsync is {told.get('appendfsync')}: profile {profile} wants {' or '.join(wanted)}")
    writing = int(told.get("min-replicas-to-write") or 0)
    if replicas is not None and writing < replicas.number:
        problems.append(
            f"min-replicas-to-write is {writing}: profile replicated wants {replicas.number}, or a primary that was "
            "replaced takes writes that will be lost"
        )
    return problems


def _worker_status(told: bytes) -> WorkerStatus | None:
    """What a worker says of itself; None if this version cannot read it, as of a newer worker during a rollout."""
    try:
        status = WorkerStatus(*orjson.loads(told))
    except (ValueError, TypeError):
        return None
    return status if isinstance(status.seen_at_ms, int) else None

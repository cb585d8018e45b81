"""The linker: brings every accepted event and decided drawdown into the logs of the entities that it names.

    commit ──▶ links wait in the store, beside the customer, since the very commit (core/links.py, store/keys.py)
       └─ take ──▶ in memory, at most QUEUE_MAX commits
                      └─ every ROUND_S ──▶ append to the entity logs ──▶ forget the waiting links

Nothing can be lost: what waits in the store is forgotten only after every log it names has acknowledged it. Nothing can
be doubled: an entity's log takes each record once, whoever brings it and however often (`Store.append_links`). So the
linker may die at any point, and two may do the same work.

A worker links what it committed itself, from memory. What is left by a worker that died, by a commit whose reply was
lost, or for want of room, is found by the *sweep*: every worker looks through all partitions, one after another, once
quickly after its start and then once in SWEEP_S, and links what has waited for longer than STALE_MS. That is
`partitions / SWEEP_S` commands a second and worker: 26 with 256 partitions, SWEPT_AT_ONCE of them together.

Links that concern a decision (settlements, labels) go to the entities that its request named: the decision is read back
from its frame. A link whose entity's log is no log, or whose decision is not this customer's, is counted and dropped,
for it could never be appended; one that cannot be read (a newer version wrote it) is counted and left.

The linker never holds up a decision: it works in small pieces, gives way after each, and waits longer and longer while
the store fails.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from asyncio import gather
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import orjson

from decision_service.core.errors import StoreError
from decision_service.core.limits import SECOND_MS
from decision_service.core.links import ABOUT, LINK_GRAINS, customer_key, log_names, unpack_links
from decision_service.decision_log import request_in
from decision_service.store import Commit, LinkCounts, Store
from decision_service.store.keys import decision_id_in, partition_of
from decision_service.telemetry import Meters

LOG = logging.getLogger("decision_service.linker")
ROUND_S: Final = 0.05  # commits of this time are linked together
ENTRIES_AT_ONCE: Final = 64  # commits taken up before others get a turn: about 1 ms
QUEUE_MAX: Final = 20_000  # commits kept in memory; further ones are left to the sweep
STALE_MS: Final = 3 * SECOND_MS  # what has waited for longer is nobody's any more
SWEEP_S: Final = 10.0  # once through all partitions
SWEPT_AT_ONCE: Final = 8  # partitions that are asked together: a timer and a write to the store for all of them
FIRST_SWEEP_S: Final = 2.0
STORE_TIMEOUT_S: Final = 2.0
BACKOFF_S: Final = (0.1, 5.0)  # first and longest wait after a failure of the store
CLOSE_S: Final = 1.0  # for what is still in memory when the worker stops
_INSTANT_BYTES: Final = 8
_CUSTOMER_AT: Final = 48  # of the customer in a record of an entity's log


class Waiting(NamedTuple):
    """The links of one commit, in the partition of its customer."""

    partition: int
    links_id: bytes
    links: bytes

    @property
    def since_ms(self) -> int:
        """When the commit was made."""
        return int.from_bytes(self.links_id[:_INSTANT_BYTES], "big")


_Link = tuple[int, bytes, bytes]  # partition of the customer, name of the entity's log (or ABOUT), record


class _Asked(NamedTuple):
    """What a link needs to know of a decision's request."""

    customer: int
    names: tuple[bytes, ...]


def _links_of(entry: Waiting) -> list[_Link] | None:
    """The links of a commit; None if they were written by a version that knows more than this one, or are damaged."""
    partition, links = entry.partition, []
    try:
        for name, record in unpack_links(entry.links):
            if name[0] >= len(LINK_GRAINS) and name[0] != ABOUT:
                return None
            links.append((partition, name, record))
    except ValueError:
        return None
    return links


def _customer_in(record: bytes) -> int:
    return int.from_bytes(record[_CUSTOMER_AT : _CUSTOMER_AT + 8], "little")


class Linker:
    """One worker's linker. `take` what was committed; `start` and `close` it with the worker."""

    def __init__(
        self, store: Store, meters: Meters, now_ms: Callable[[], int], partitions: int, records_max: int, kept_ms: int
    ) -> None:
        """Entity logs keep `records_max` records, and are forgotten when nothing was added for `kept_ms`."""
        self._store = store
        self._meters = meters
        self._now_ms = now_ms
        self._partitions = partitions
        self._bounds = (records_max, kept_ms)
        self._worker = secrets.token_bytes(8)
        self._ids = 0
        self._queue: deque[Waiting] = deque()
        self._filled = asyncio.Event()
        self._swept_lag_ms = 0
        self._tasks: list[asyncio.Task[None]] = []

    def new_id(self) -> bytes:
        """An id for the links of a commit: when it is made, by whom, and a number. No two are the same."""
        self._ids += 1
        return self._now_ms().to_bytes(_INSTANT_BYTES, "big") + self._worker + self._ids.to_bytes(4, "big")

    def take(self, commit: Commit) -> None:
        """Link a commit that has been made. Waits for nothing."""
        links_id, links = commit.links
        if not links_id:
            return
        if len(self._queue) >= QUEUE_MAX:
            self._meters.count_links("left", 1)
            return
        if not self._queue:  # else whoever works on the queue comes to this one, too
            self._filled.set()
        self._queue.append(Waiting(partition_of(commit.customer_id, self._partitions), links_id, links))

    def start(self) -> None:
        """Begin to link and to sweep."""
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._sweep())]

    async def close(self) -> None:
        """Stop; what is in memory is linked if the store is quick about it, and otherwise waits in the store."""
        for task in self._tasks:
            task.cancel()
        await gather(*self._tasks, return_exceptions=True)
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.flush()

    async def flush(self) -> None:
        """Link everything taken so far. StoreError if the store fails; then the rest is still there."""
        while self._queue:
            entries = [self._queue.popleft() for _ in range(min(len(self._queue), ENTRIES_AT_ONCE))]
            try:
                await self.link(entries)
            except BaseException:
                self._queue.extendleft(reversed(entries))
                raise
            await asyncio.sleep(0)

    async def link(self, entries: Sequence[Waiting]) -> None:
        """Append the links of some commits, then forget them. StoreError as soon as the store fails: nothing is
        forgotten then, and doing it all again does no harm. What cannot be read is left as it is."""
        links: list[_Link] = []
        ids: dict[int, list[bytes]] = defaultdict(list)
        for entry in entries:
            if (found := _links_of(entry)) is None:
                self._meters.count_links("unreadable", 1)
                continue
            links += found
            ids[entry.partition].append(entry.links_id)
        records = await self._records(links)
        for names in self._store.together(records):
            portion = {name: b"".join(records[name]) for name in names}
            self._count(await self._store.append_links(portion, *self._bounds, STORE_TIMEOUT_S))
        await self._store.forget_links(ids, STORE_TIMEOUT_S)

    async def _records(self, links: Sequence[_Link]) -> Mapping[bytes, list[bytes]]:
        """What is to be appended to each entity's log."""
        concerned = {(partition, name) for partition, name, _ in links if name[0] == ABOUT}
        asked = dict(zip(concerned, await gather(*(self._asked(*one) for one in concerned)), strict=True))
        records: dict[bytes, list[bytes]] = defaultdict(list)
        for partition, name, record in links:
            if name[0] != ABOUT:
                records[name].append(record)
            elif (request := asked[partition, name]) is None or request.customer != _customer_in(record):
                self._meters.count_links("unresolved", 1)
            else:
                for entity in request.names:
                    records[entity].append(record)
        return records

    async def _asked(self, partition: int, name: bytes) -> _Asked | None:
        """Whose request a decision was about, and which entities it named; None if there is no such decision."""
        decision_id = decision_id_in(partition, name[1:])
        frame = await self._store.read_decision(decision_id, STORE_TIMEOUT_S)
        if frame is None:
            return None
        body = orjson.loads(request_in(frame))
        names = log_names(body.get("device_id"), body.get("counterparty_id"), body.get("ip"))
        return _Asked(customer_key(body["customer_id"]), names)

    def _count(self, counts: LinkCounts) -> None:
        for result, number in zip(LinkCounts._fields, counts, strict=True):
            if number:
                self._meters.count_links(result, number)
        if counts.refused:
            LOG.error("%d links were dropped: what is stored for their entity is no log", counts.refused)

    async def _work(self) -> None:
        """Link what was taken, a round at a time."""
        pause_s = 0.0
        while True:
            await self._filled.wait()
            await asyncio.sleep(ROUND_S + pause_s)
            self._filled.clear()
            self._tell()
            try:
                await self.flush()
                pause_s = 0.0
            except Exception as error:
                pause_s = self._wait_longer(pause_s, error)
                self._filled.set()
            self._tell()

    def _wait_longer(self, pause_s: float, error: Exception) -> float:
        """The next pause after a failure. A mistake of ours must not end the linker either: it is told, and seen in the
        lag."""
        if isinstance(error, StoreError):
            self._meters.count_store_error(error.code)
        else:
            LOG.error("links could not be appended", exc_info=error)
        first_s, longest_s = BACKOFF_S
        return min(longest_s, max(first_s, 2 * pause_s))

    def _tell(self) -> None:
        """How much is still to be linked, and since when."""
        lag_ms = self._swept_lag_ms
        if self._queue:
            lag_ms = max(lag_ms, self._now_ms() - self._queue[0].since_ms)
        self._meters.set_links_waiting(len(self._queue), lag_ms / SECOND_MS)

    async def _sweep(self) -> None:
        """Look for what others left, for ever."""
        pass_s, pause_s = FIRST_SWEEP_S, 0.0
        first = secrets.randbelow(self._partitions)  # workers that start together do not sweep in step
        while True:
            lag_ms = 0
            for start in range(0, self._partitions, SWEPT_AT_ONCE):
                numbers = range(self._partitions)[start : start + SWEPT_AT_ONCE]
                some = [(first + number) % self._partitions for number in numbers]
                await asyncio.sleep(pass_s * len(some) / self._partitions + pause_s)
                some_lag_ms, failed = await self._sweep_partitions(some)
                lag_ms, pause_s = (
                    max(lag_ms, some_lag_ms),
                    0.0 if failed is None else self._wait_longer(pause_s, failed),
                )
                self._swept_lag_ms = max(lag_ms, self._swept_lag_ms)
                self._tell()
            self._swept_lag_ms = lag_ms
            self._tell()
            pass_s = SWEEP_S

    async def _sweep_partitions(self, partitions: Sequence[int]) -> tuple[int, Exception | None]:
        """As `sweep_partition` for some, and an error if one of them failed: a node of a cluster may be away."""
        lag_ms, failed = 0, None
        pages = await gather(*map(self._first_page, partitions), return_exceptions=True)
        for partition, page in zip(partitions, pages, strict=True):
            try:
                if isinstance(page, BaseException):
                    raise page
                lag_ms = max(lag_ms, await self._link_left(partition, *page))
            except Exception as error:
                failed = error
        return lag_ms, failed

    async def sweep_partition(self, partition: int) -> int:
        """Link what has waited too long in a partition; the age of the oldest of it in ms, 0 if there was none."""
        return await self._link_left(partition, *await self._first_page(partition))

    async def _first_page(self, partition: int) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
        return await self._store.waiting_links(partition, 0, STORE_TIMEOUT_S)

    async def _link_left(self, partition: int, cursor: int, found: Sequence[tuple[bytes, bytes]]) -> int:
        """The same, its first page read already."""
        oldest_ms = 0
        while True:
            now_ms = self._now_ms()
            waiting = [Waiting(partition, links_id, links) for links_id, links in found]
            stale = sorted(entry for entry in waiting if self._is_stale(entry, now_ms))
            if stale:
                oldest_ms = max(oldest_ms, now_ms - stale[0].since_ms)
                self._swept_lag_ms = max(self._swept_lag_ms, oldest_ms)
                for start in range(0, len(stale), ENTRIES_AT_ONCE):
                    await self.link(stale[start : start + ENTRIES_AT_ONCE])
                    await asyncio.sleep(0)
            if cursor == 0:
                return oldest_ms
            cursor, found = await self._store.waiting_links(partition, cursor, STORE_TIMEOUT_S)

    def _is_stale(self, entry: Waiting, now_ms: int) -> bool:
        """Whether nobody seems to care for an entry. Our own are in the queue, if it is not empty."""
        mine = bool(self._queue) and entry.links_id[_INSTANT_BYTES : _INSTANT_BYTES + 8] == self._worker
        return not mine and now_ms - entry.since_ms > STALE_MS

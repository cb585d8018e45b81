"""The history of a store, as one worker knows it: looked at before the first command, after every new connection, and
about once a second.

    known      the partitions are ours: what concerns no customer may be asked
    admitted   and nothing of the history is missing, as far as is known: customers may be read and changed
    problem    what is missing; until an operator accepts the history, customers are refused as StoreUnsafe

`epoch.py` says how the history is judged. A doubt (a marker is missing, a connection is new) takes `admitted` back, so
that the next command looks first. One node of a cluster is not the store: there the look is made beside the commands,
and markers alone guard its customers meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from decision_service.core.errors import OutcomeUnknown, StoreError, StoreUnavailable, StoreUnsafe
from decision_service.store import keys, scripts
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
from decision_service.store.noticed import Noticed
from decision_service.store.replies import refuse_errors
from decision_service.store.topology import Topology

LOG = logging.getLogger("decision_service.store")
LOOK_TIMEOUT_S: Final = 2.0
DOUBT_PAUSE_S: Final = 0.02  # doubts about the history make it looked at at most this often

RunScript = Callable[[scripts.Script, list[bytes], tuple[bytes, ...], float], Awaitable[Any]]


class History:
    """What a worker knows of its store's history. `run` sends a script to a store that is known."""

    def __init__(
        self, topology: Topology, run: RunScript, partitions: int, memory: EpochMemory, noticed: Noticed, *,
        reconciling: bool,
    ) -> None:  # fmt: skip
        """`reconciling` admits a store whatever became of its history, and leaves no trace of having used it."""
        self.known = False
        self.admitted = False
        self.problem = ""
        self.epoch = b""
        self._topology = topology
        self._run = run
        self._partitions = partitions
        self._memory = memory
        self._noticed = noticed
        self._reconciling = reconciling
        self._beat = 0
        self._admitting: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._doubt = asyncio.Event()
        topology.on_reconnect(self.doubt)

    def doubt(self) -> None:
        """Look at the history before anything rests on it."""
        if not self._topology.sharded:
            self.admitted = False
        self._doubt.set()

    async def problems(self) -> list[str]:
        """What is wrong with the history, also of single partitions."""
        try:
            await self.admit(LOOK_TIMEOUT_S)
            if self.problem:
                return [self.problem]
            gone = await self._unmarked()
        except (StoreUnsafe, StoreUnavailable) as error:
            return [error.message]
        return [f"{gone} of {self._partitions} partitions lost their history"] if gone else []

    async def accept(self, timeout_s: float) -> str:
        """Begin an epoch that follows the one in the store and the one remembered of it here; the new epoch."""
        until = monotonic() + timeout_s
        meta = await self._meta(timeout_s)
        before = {told_by(meta).epoch, None if (here := self._memory.here) is None else here.epoch} - {None}
        epoch = new_epoch()
        fields = [(EPOCH_FIELD, epoch), (PARTITIONS_FIELD, meta.get(PARTITIONS_FIELD, self._partitions))]
        fields += [(AFTER_FIELD + str(old).encode(), b"1") for old in before]
        words = [word for field in fields for word in field]
        await self._ask(("HSET", keys.META, *words), until - monotonic(), write=True)
        self._memory.remember(epoch, 0)
        self.admitted = False
        if self._admitting is not None:  # a look that began before may not have seen it
            await asyncio.wait([self._admitting], timeout=max(0.0, until - monotonic()))
        await self.admit(until - monotonic())
        return epoch

    async def close(self) -> None:
        """Look no more."""
        for task in (self._beating, self._admitting):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    async def known_within(self, timeout_s: float) -> float:
        """Admit, and say how much of the caller's time is left."""
        until = monotonic() + timeout_s
        await self.admit(timeout_s)
        return until - monotonic()

    async def safe_within(self, timeout_s: float) -> float:
        """Admit, refuse a store whose history is missing, and say how much of the caller's time is left."""
        if not self.problem:
            timeout_s = await self.known_within(timeout_s)
        if self.problem:
            raise StoreUnsafe(self.problem)
        return timeout_s

    async def admit(self, timeout_s: float) -> None:
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
        meta = await self._meta(LOOK_TIMEOUT_S)
        self._refuse_partitions(meta)
        told = told_by(meta)
        if not self._reconciling:
            problem, forgotten = await asyncio.to_thread(self._memory.judge, told)
            if problem and problem != self.problem:
                LOG.error("%s", problem)
            self.problem = problem
            self._noticed.store_history(bool(problem), forgotten)
            if not problem and forgotten:
                LOG.warning("the store forgot about the last %d s before it was reached again", forgotten)
                self._memory.set_back(told.epoch or "", told.beat)
        if not self.problem:
            if told.epoch is None or PARTITIONS_FIELD not in meta:
                meta = await self._begin()
            await self._mark(meta)
            self.epoch, self._beat = meta[EPOCH_FIELD], told.beat
            if not self._reconciling:
                await asyncio.to_thread(self._memory.remember, self.epoch.decode(), self._beat)
        self.known, self.admitted = True, not self.problem
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
            await self._ask(("HSETNX", keys.META, name, value), LOOK_TIMEOUT_S, write=True)
        meta = await self._meta(LOOK_TIMEOUT_S)
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
            self._ask(("MSET", *(word for name in some for word in (name, epoch))), LOOK_TIMEOUT_S, key=some[0],
                      write=True)
            for some in together
        )  # fmt: skip
        await asyncio.gather(*asked)
        await self._ask(("HSET", keys.META, MARKED_FIELD, epoch), LOOK_TIMEOUT_S, write=True)

    async def _unmarked(self) -> int:
        """How many partitions lack their marker."""
        names = [keys.marker_key(partition) for partition in range(self._partitions)]
        together = [[name] for name in names] if self._topology.sharded else [names]
        asked = (self._ask(("MGET", *some), LOOK_TIMEOUT_S, key=some[0], write=False) for some in together)
        return sum(marker != self.epoch for markers in await asyncio.gather(*asked) for marker in markers)

    async def _meta(self, timeout_s: float) -> Mapping[bytes, bytes]:
        pairs = iter(await self._ask(("HGETALL", keys.META), timeout_s, write=False))
        return dict(zip(pairs, pairs, strict=True))

    async def _keep_beat(self) -> None:
        """Count on, remember how far the store came, and look again where there is doubt."""
        due = monotonic() + BEAT_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(due - monotonic(), DOUBT_PAUSE_S)):
                    await self._doubt.wait()
            doubted = self._doubt.is_set() or not self.admitted
            self._doubt.clear()
            with suppress(StoreError):
                if doubted:
                    await self.admit(LOOK_TIMEOUT_S)
                elif monotonic() >= due:
                    await self._count_on()
            if monotonic() >= due:
                await self._topology.follow()
                due = monotonic() + BEAT_S
            await asyncio.sleep(DOUBT_PAUSE_S)

    async def _count_on(self) -> None:
        arguments = (self.epoch, b"%d" % self._beat)
        epoch, beat = await self._run(scripts.BEAT, [keys.META], arguments, LOOK_TIMEOUT_S)
        if epoch != self.epoch or int(beat) < self._beat:
            self.admitted = False
            await self.admit(LOOK_TIMEOUT_S)
            return
        self._beat = int(beat)
        await asyncio.to_thread(self._memory.remember, self.epoch.decode(), self._beat)

    async def _ask(self, command: tuple[Any, ...], timeout_s: float, *, write: bool, key: bytes = keys.META) -> Any:
        """One step of admission. It may be repeated at will, so a lost reply is no unknown outcome."""
        try:
            reply = await self._topology.call(key, pack(command), timeout_s, write=write)
            return refuse_errors(reply, write=write)
        except OutcomeUnknown as error:
            raise StoreUnavailable(error.message) from None

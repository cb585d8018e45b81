"""Topology: which lane a command takes, for one server and for a cluster.

A `Road` is one server: a lane for reads and one for writes, so that a slow fsync never stands in front of a
read, each opened when first needed, and each with a breaker of its own: a way that fails is probed after a pause that
doubles from PAUSE_MIN_S to PAUSE_MAX_S with jitter; until a probe is answered callers are told StoreUnavailable at once
instead of piling up and losing their time.

`Standalone` has one road (Sentinel too: each connection asks where the primary is). `Cluster` has one a node
and the table slot -> node, learnt from CLUSTER SLOTS. MOVED, ASK and TRYAGAIN say that nothing ran, so the
command is sent again, where the reply says (at most REDIRECTS_MAX times) or a little later, inside the caller's time.
A node that fails makes the table be read anew, from those that did not; only calls to a node that failed wait for that.
"""

from __future__ import annotations

import asyncio
import random
from array import array
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable
from decision_service.store.client import Address, Endpoint, open_lane, primary_address
from decision_service.store.keys import fence_key, slot_of
from decision_service.store.lane import Lane, pack
from decision_service.store.noticed import READS, WRITES, Nobody, Noticed
from decision_service.store.replication import Replicas, ReplicatedLane
from decision_service.store.replies import ELSEWHERE, ErrorReply
from decision_service.store.resends import Resends

PAUSE_MIN_S: Final = 0.02
PAUSE_MAX_S: Final = 1.0
PROBE_TIMEOUT_S: Final = 1.0
STEADY_S: Final = 1.0  # a lane, or a closed breaker, that lasted so long was well
LOST_MAX: Final = 3  # lanes in a row that were lost as soon as they were open
REDIRECTS_MAX: Final = 8
TRYAGAIN_PAUSE_S: Final = 0.005
TRYAGAIN_SPARE_S: Final = 2 * TRYAGAIN_PAUSE_S  # with less time left a last try could end as an unknown outcome
LEARN_TIMEOUT_S: Final = 1.0  # for one node to tell the slots
LEARN_PAUSE_S: Final = 0.1  # doubts about the table make it read anew at most this often
SLOTS: Final = 16_384

_PING: Final = pack(("PING",))
_ASKING: Final = pack(("ASKING",))
_CLUSTER_SLOTS: Final = pack(("CLUSTER", "SLOTS"))


class Topology(Protocol):
    """Where commands go. Where it is `sharded`, the keys of one command must share a slot."""

    sharded: bool

    @property
    def resends(self) -> Resends:
        """The budget for what is sent again."""
        ...

    def call(self, key: bytes, command: bytes, timeout_s: float, *, write: bool) -> Awaitable[Any]:
        """The reply to a packed command on `key` and others of its slot; error replies are values."""
        ...

    def ask(self, key: bytes, commands: bytes, count: int, timeout_s: float) -> Future[Any] | None:
        """What yields the replies to packed commands on `key` that write nothing, carried out in their order on one
        connection; None if it is not open, or not known to be the right one. Error replies are values; a slot that
        moved is told by one. StoreUnavailable."""
        ...

    async def call_all(self, command: bytes, timeout_s: float) -> list[Any]:
        """The replies of every primary to a reading command."""
        ...

    async def follow(self) -> None:
        """Look where the primary is, about once a second: one that was replaced may not know it for long, and takes
        writes meanwhile that will be lost."""
        ...

    def on_reconnect(self, told: Callable[[], None]) -> None:
        """Have `told` called whenever a lane that was lost is open again, before anything is sent on it."""
        ...

    def on_change(self, told: Callable[[], None]) -> None:
        """The same, and whenever keys turn out to be on another node: what was read before may not be what is there."""
        ...

    async def close(self) -> None:
        """Close every lane."""
        ...


def _heard(task: asyncio.Task[Any]) -> None:
    """Take note of a failure that every waiting caller gave up on before it came."""
    if not task.cancelled():
        task.exception()


class _Way:
    """One lane of a road, opened when needed and opened again when lost, behind a breaker.

        closed ── silent, cannot be opened, or lost LOST_MAX times at once ──▶ open ── a probe is answered ──▶ closed

    Open means that callers are told StoreUnavailable at once. Meanwhile one probe at a time, a command of our own, goes
    out after a pause; more only while somebody asks for the lane. A lane that fell silent is kept while it is probed,
    so that replies which come late still find their places, and a server that merely stood still is back at once.
    """

    def __init__(self, road: Road, way: int) -> None:
        self.lane: Lane | None = None  # if it is open, and its breaker is closed
        self.address: Address = ("", 0)  # where the latest lane leads
        self.key = b""  # some key that this way was asked for
        self._road = road
        self._way = way
        self._held: Lane | None = None  # being opened or probed
        self._trying: asyncio.Task[Lane] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._broken = False
        self._wanted = False
        self._opened = 0  # how often a lane was opened
        self._opened_at = self._closed_at = -STEADY_S
        self._lost_at_once = 0
        self._failures = 0

    async def ready(self, timeout_s: float) -> Lane:
        """The open lane, waiting at most `timeout_s` for it to open. StoreUnavailable."""
        if self.lane is not None:
            return self.lane
        if self._broken:
            self._wanted = True
            if self._trying is not None or self._timer is not None:
                raise StoreUnavailable("the store does not answer and is left alone for a moment")
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._try())
        except TimeoutError:
            raise StoreUnavailable("no connection to the store in time") from None

    def _try(self) -> asyncio.Task[Lane]:
        self._timer = None
        if self._trying is None:
            self._trying = asyncio.create_task(self._open_or_probe())
            self._trying.add_done_callback(_heard)
        return self._trying

    async def _open_or_probe(self) -> Lane:
        try:
            lane = self._held or await self._open()
            if self._broken:
                write = self._way == WRITES and bool(self.key)
                await lane.call(_probe(self.key) if write else _PING, PROBE_TIMEOUT_S, write=write)
        except (StoreUnavailable, OutcomeUnknown) as error:
            self._trying = None
            self._break()
            raise StoreUnavailable(error.message) from None
        finally:
            self._trying = None
        self._held, self.lane = None, lane
        self._mend()
        return lane

    async def _open(self) -> Lane:
        lane = await open_lane(self._road.endpoint, self._road.address, self._make)
        self._held = lane
        self._opened += 1
        self._opened_at = _now()
        if self._opened > 1:
            self._road.common.told_reconnect()
            self._road.common.told_change()
        return lane

    def _make(self, address: Address) -> Lane:
        self.address = address
        replicas = self._road.common.replicas
        return Lane(self) if replicas is None or self._way != WRITES else ReplicatedLane(self, replicas)

    def _break(self) -> None:
        """Turn callers away until a probe is answered."""
        if not self._broken:
            self._broken = True
            if _now() - self._closed_at > STEADY_S:
                self._failures = 0  # it was well for a while
            self._road.common.noticed.store_breaker(self._road.number, self._way, True)
        elif not self._wanted:
            return  # nobody cares now: whoever comes next probes
        self._wanted = False
        pause_s = min(PAUSE_MAX_S, PAUSE_MIN_S * 2**self._failures) * random.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, 16)
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._try)

    def _mend(self) -> None:
        if self._broken:
            self._broken = False
            self._closed_at = _now()
            self._road.common.noticed.store_breaker(self._road.number, self._way, False)

    def silent(self, lane: Lane) -> None:
        """See `LaneOwner`."""
        if lane is self.lane:
            self.lane, self._held = None, lane
            self._break()

    def lost(self, lane: Lane) -> None:
        """See `LaneOwner`."""
        if lane is self._held:
            self._held = None
        if lane is not self.lane:
            return
        self.lane = None
        self._lost_at_once = self._lost_at_once + 1 if _now() - self._opened_at < STEADY_S else 0
        if self._lost_at_once >= LOST_MAX:
            self._lost_at_once = 0
            self._break()

    def elsewhere(self) -> None:
        """See `LaneOwner`."""
        self._road.renew()

    def renew(self) -> None:
        """Open a new lane next time; the present one finishes what is under way."""
        lane, self.lane = self.lane, None
        if lane is not None:
            lane.retire()

    async def close(self) -> None:
        """Close the lane, and stop opening one."""
        if self._timer is not None:
            self._timer.cancel()
        self._broken = True
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
        for lane in (self.lane, self._held):
            if lane is not None:
                lane.drop("the store is closed")
        if self._timer is not None:
            self._timer.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _probe(key: bytes) -> bytes:
    return pack(("SET", fence_key(key), b""))


class Common:
    """What all roads of a store share."""

    def __init__(self, replicas: Replicas | None, noticed: Noticed) -> None:
        self.replicas = replicas
        self.noticed = noticed
        self.resends = Resends(noticed)
        self.told_reconnect: Callable[[], None] = lambda: None
        self.told_change: Callable[[], None] = lambda: None
        self.roads = 0


class Road:
    """One server: a way for reads and a way for writes."""

    def __init__(self, endpoint: Endpoint, address: Address, common: Common) -> None:
        self.endpoint = endpoint
        self.address = address
        self.common = common
        self.number = common.roads
        common.roads += 1
        self._reads = _Way(self, READS)
        self._writes = _Way(self, WRITES)

    def call(
        self, key: bytes, command: bytes, timeout_s: float, *, write: bool, preface: bytes = b""
    ) -> Awaitable[Any]:
        """Send to this server, whatever the key; what is returned yields the reply."""
        way = self._writes if write else self._reads
        if way.lane is None:
            way.key = way.key or key
            return self._call_when_open(way, command, timeout_s, write, preface)
        return way.lane.call(command, timeout_s, write=write, preface=preface)

    def ask(self, key: bytes, commands: bytes, count: int, timeout_s: float) -> Future[Any] | None:
        """See `Topology.ask`."""
        lane = self._reads.lane
        return None if lane is None else lane.call(commands, timeout_s, write=False, replies=count)

    async def _call_when_open(self, way: _Way, command: bytes, timeout_s: float, write: bool, preface: bytes) -> Any:
        until = _now() + timeout_s
        lane = await way.ready(timeout_s)
        return await lane.call(command, until - _now(), write=write, preface=preface)

    def renew(self) -> None:
        """Connect anew: the server turned out not to be the primary."""
        self._reads.renew()
        self._writes.renew()

    async def close(self) -> None:
        """Close both ways."""
        await self._reads.close()
        await self._writes.close()


class Standalone(Road):
    """One server, whether named or found by Sentinel."""

    sharded = False

    def __init__(self, endpoint: Endpoint, common: Common) -> None:
        super().__init__(endpoint, endpoint.addresses[0], common)

    @property
    def resends(self) -> Resends:
        return self.common.resends

    def on_reconnect(self, told: Callable[[], None]) -> None:
        self.common.told_reconnect = told

    def on_change(self, told: Callable[[], None]) -> None:
        self.common.told_change = told

    async def follow(self) -> None:
        if self.endpoint.kind != "sentinel":
            return
        address = await primary_address(self.endpoint)
        for way in (self._reads, self._writes):
            if address is not None and way.lane is not None and way.address != address:
                way.renew()

    async def call_all(self, command: bytes, timeout_s: float) -> list[Any]:
        return [await self.call(b"", command, timeout_s, write=False)]


class Cluster:
    """The primaries of a cluster and the table of slots."""

    sharded = True

    def __init__(self, endpoint: Endpoint, common: Common) -> None:
        self._endpoint = endpoint
        self._common = common
        self._roads: dict[Address, Road] = {}
        self._addresses: list[Address] = []
        self._table = array("h", [-1]) * SLOTS  # slot -> index into _addresses, -1 not covered
        self._doubted = True
        self._suspects: set[Address] = set()  # nodes that failed since the table was learnt
        self._learnt_at: float | None = None
        self._learning: asyncio.Task[None] | None = None

    async def call(self, key: bytes, command: bytes, timeout_s: float, *, write: bool) -> Any:
        slot = slot_of(key)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        if self._doubted:
            await self._learn_for(slot, timeout_s)
        address, preface, redirects = self._address_of(slot), b"", 0
        while True:
            reply = await self._call_node(address, key, command, until - loop.time(), write, preface)
            code = reply.code if isinstance(reply, ErrorReply) else ""
            if code == "TRYAGAIN" and loop.time() + TRYAGAIN_SPARE_S < until:
                self._common.resends.take()
                await asyncio.sleep(TRYAGAIN_PAUSE_S)
            elif code in ("MOVED", "ASK") and redirects < REDIRECTS_MAX:
                self._common.resends.take()
                redirects += 1
                address = _redirect(reply, address)
                preface = _ASKING if code == "ASK" else b""
                if code == "MOVED":
                    self._moved(slot, address)
            else:
                return reply

    def ask(self, key: bytes, commands: bytes, count: int, timeout_s: float) -> Future[Any] | None:
        index = -1 if self._doubted else self._table[slot_of(key)]
        road = None if index < 0 else self._roads.get(self._addresses[index])
        return None if road is None else road.ask(key, commands, count, timeout_s)

    async def _call_node(
        self, address: Address, key: bytes, command: bytes, timeout_s: float, write: bool, preface: bytes
    ) -> Any:
        try:
            reply = await self._road(address).call(key, command, timeout_s, write=write, preface=preface)
        except StoreUnavailable:
            self._suspect(address)  # perhaps the node is gone and another took over
            raise
        if isinstance(reply, ErrorReply) and reply.code in ELSEWHERE:
            self._suspect(address)
        return reply

    def _suspect(self, address: Address) -> None:
        self._doubted = True
        self._suspects.add(address)

    @property
    def resends(self) -> Resends:
        return self._common.resends

    async def follow(self) -> None:
        """Nodes say themselves where a slot went."""

    def on_reconnect(self, told: Callable[[], None]) -> None:
        self._common.told_reconnect = told

    def on_change(self, told: Callable[[], None]) -> None:
        self._common.told_change = told

    async def call_all(self, command: bytes, timeout_s: float) -> list[Any]:
        await self._learn(timeout_s)
        primaries = [self._addresses[i] for i in sorted(set(self._table)) if i >= 0]
        return [await self._road(a).call(b"", command, timeout_s, write=False) for a in primaries]

    def _road(self, address: Address) -> Road:
        road = self._roads.get(address)
        if road is None:
            road = self._roads[address] = Road(self._endpoint, address, self._common)
        return road

    def _address_of(self, slot: int) -> Address:
        index = self._table[slot]
        if index < 0:
            self._doubted = True
            raise StoreUnavailable("no node of the cluster serves this slot")
        return self._addresses[index]

    def _index(self, address: Address) -> int:
        if address not in self._addresses:
            self._addresses.append(address)
        return self._addresses.index(address)

    def _moved(self, slot: int, address: Address) -> None:
        self._table[slot] = self._index(address)
        self._doubted = True  # where one slot went, others went too
        self._common.told_change()

    async def _learn_for(self, slot: int, timeout_s: float) -> None:
        """Read the table anew, and wait for it if the doubts are about the node of this slot: calls to other nodes go
        on by the present table."""
        index = self._table[slot]
        if index < 0 or self._addresses[index] in self._suspects:
            await self._learn(timeout_s)
        else:
            self._begin_to_learn()

    async def _learn(self, timeout_s: float) -> None:
        """Read the table of slots, unless that was just done. Callers that come meanwhile share one reading."""
        learning = self._begin_to_learn()
        if learning is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(learning)
        except TimeoutError:
            raise StoreUnavailable("the cluster did not tell its slots in time") from None

    def _begin_to_learn(self) -> asyncio.Task[None] | None:
        """The reading under way; None if one has just ended."""
        if self._learnt_at is not None and asyncio.get_running_loop().time() < self._learnt_at + LEARN_PAUSE_S:
            return None
        if self._learning is None:
            self._learning = asyncio.create_task(self._read_table())
            self._learning.add_done_callback(_heard)
        return self._learning

    async def _read_table(self) -> None:
        try:
            known = dict.fromkeys([*self._addresses, *self._endpoint.addresses])
            for address in sorted(known, key=self._suspects.__contains__):  # those first that did not fail
                try:
                    reply = await self._road(address).call(b"", _CLUSTER_SLOTS, LEARN_TIMEOUT_S, write=False)
                except StoreUnavailable:
                    continue
                if isinstance(reply, list) and reply:
                    self._take_table(reply, address)
                    return
            raise StoreUnavailable("no node of the cluster tells its slots")
        finally:
            self._learning = None

    def _take_table(self, ranges: list[Any], told_by: Address) -> None:
        table = array("h", [-1]) * SLOTS
        for first, last, primary, *_ in ranges:
            host = primary[0].decode() if primary[0] else told_by[0]
            index = self._index((host or told_by[0], int(primary[1])))
            table[first : last + 1] = array("h", [index]) * (last + 1 - first)
        if table != self._table:
            self._common.told_change()
        self._table = table
        self._doubted = False
        self._suspects.clear()
        self._learnt_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
        for road in self._roads.values():
            await road.close()


def _redirect(reply: ErrorReply, asked: Address) -> Address:
    """`MOVED 1234 host:port`; an empty host means the one that was asked."""
    host, _, port = reply.text.split(" ")[2].rpartition(":")
    return host or asked[0], int(port)


def open_topology(endpoint: Endpoint, replicas: Replicas | None = None, noticed: Noticed | None = None) -> Topology:
    """The topology for an endpoint; nothing is connected yet. With `replicas` its writes wait for them."""
    common = Common(replicas, noticed or Nobody())
    return Cluster(endpoint, common) if endpoint.kind == "cluster" else Standalone(endpoint, common)

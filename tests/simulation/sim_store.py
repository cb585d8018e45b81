"""The store of a simulated world: one server that can be hurt, and what each worker sees of it over a bad network.

    worker ── SimStore ──▶ network (drawn fate of every call) ──▶ Server ──▶ the real `MemoryStore`

What a call means is for the real `MemoryStore` to say; what may become of it is here:

  * its request may be lost, late, doubled, or overtaken by another; so may its reply; the connection may be reset
    before or after the server ran it; the server may refuse it (nothing is written);
  * the server may be *frozen*: what arrives is run when it thaws, long after the caller gave up;
  * it may be *killed* (what it ran is kept) and lose *power*: in the profile `fast` it then forgets what it ran after
    its last fsync, as `appendfsync everysec` does; in `safe` nothing, for there the fsync comes before the reply;
  * it may lose its *history* (FLUSHALL, an empty restore): it then says StoreUnsafe until the history is back.

A read that fails is StoreUnavailable, a write whose reply does not come is OutcomeUnknown, as `Store` promises.

Every call that the server ran is kept in `Server.ran`, in its order, with what came of it: that is what is compared
with a real server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple

from sim_loop import Handle, Loop, World

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable, StoreUnsafe
from decision_service.store import Commit, CustomerState, LinkReads
from decision_service.store.memory import MemoryStore

FATES: Final = ("lose_request", "lose_reply", "late_request", "late_reply", "double", "reset_before", "reset_after",
                "refuse")  # fmt: skip
WRITES: Final = frozenset({"commit", "claim_facility", "append_links", "forget_links"})


class Ran(NamedTuple):
    """A call that the server ran, and what came of it: a value or an exception."""

    at: float
    name: str
    arguments: tuple[Any, ...]
    outcome: Any


@dataclass(slots=True)
class Network:
    """How bad the network is: how often a call meets a fate that is not the usual one, and which."""

    chance: float = 0.0
    fates: tuple[str, ...] = ()
    latency_s: float = 0.000_2  # the most of each way, in ordinary times
    late_s: float = 0.05  # the most that a late message is late
    cut: set[str] = field(default_factory=set)  # workers that reach nothing


class Server:
    """The one store server."""

    def __init__(self, world: World, partitions: int, profile: str, tell: Callable[..., None]) -> None:
        self.world = world
        self.memory = MemoryStore(partitions=partitions)
        self.profile = profile
        self.up = True
        self.frozen = False
        self.history_lost = False
        self.ran: list[Ran] = []
        self.commits: list[tuple[float, Commit, CustomerState]] = []  # made, with the state each one left
        self.forgotten: list[Commit] = []  # made, and lost with the power: the loss that `fast` admits
        self._tell = tell
        self._waiting: list[Callable[[], None]] = []  # that arrived while it was frozen
        self._connected: list[Callable[[], None]] = []  # callers to be told that the connection broke
        self._synced: tuple[MemoryStore, int] | None = None

    # --- what it does ---------------------------------------------------------------------------------------------

    def arrive(self, name: str, arguments: tuple[Any, ...], reply: Callable[[Any], None]) -> None:
        """A call comes in."""
        if not self.up:
            return
        if self.frozen:
            self._waiting.append(lambda: self.arrive(name, arguments, reply))
            return
        reply(self.run(name, arguments))

    def run(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Run a call now; its value or its exception."""
        if self.history_lost:
            return StoreUnsafe("the store lost its history")
        try:
            outcome = (
                self.memory._entities.get(arguments[0]) if name == "read_link"
                else driven(getattr(self.memory, name)(*arguments, 1.0))
            )  # fmt: skip
        except Exception as error:
            outcome = error
        self.ran.append(Ran(self.world.now, name, arguments, outcome))
        if name == "commit" and not isinstance(outcome, Exception):
            commit: Commit = arguments[0]
            state = self.memory._customers[commit.customer_id]
            self.commits.append((self.world.now, commit, state))
            self._tell("commit", commit.customer_id, state.version, commit.decision[0][-6:] if commit.decision else "")
        return outcome

    # --- what is done to it ---------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """It takes what comes and does nothing."""
        self.frozen = True

    def thaw(self) -> None:
        """It does what has come meanwhile, connections in any order."""
        self.frozen = False
        waiting, self._waiting = self._waiting, []
        self.world.rng.shuffle(waiting)
        for run in waiting:
            run()

    def kill(self, power: bool) -> None:
        """The process ends; with the `power`, what is not synced is gone as well."""
        self.up = self.frozen = False
        self._waiting.clear()
        if power and self.profile == "fast":
            self._go_back()

    def start(self) -> None:
        """It is back."""
        self.up = True

    def sync(self) -> None:
        """What it did so far outlives a power cut (profile `fast`)."""
        self._synced = (_copied(self.memory), len(self.commits))

    def _go_back(self) -> None:
        memory, commits = self._synced or (MemoryStore(partitions=self.memory.partitions), 0)
        self.memory = _copied(memory)
        self.forgotten += [commit for _, commit, _ in self.commits[commits:]]
        del self.commits[commits:]
        self.ran.append(Ran(self.world.now, "power", (), None))


def driven(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing but its turn."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as done:
        return done.value


def _copied(memory: MemoryStore) -> MemoryStore:
    """The same contents, apart."""
    copy = MemoryStore(partitions=memory.partitions)
    for name, value in vars(memory).items():
        if isinstance(value, dict):
            value = {key: part.copy() if isinstance(part, dict | list) else part for key, part in value.items()}
        setattr(copy, name, value)
    return copy


class SimStore:
    """What one worker sees of the server. Has what the service calls of `Store`."""

    def __init__(
        self, world: World, loop: Loop, server: Server, network: Network, partitions: int,
        sends: Callable[[Commit], None],
    ) -> None:  # fmt: skip
        """`sends` is told of every commit before it leaves."""
        self._sends = sends
        self.partitions = partitions
        self._world = world
        self._loop = loop
        self._server = server
        self._network = network
        self._refusing_until = 0.0  # a breaker that is open

    def refuse_until(self, instant: float) -> None:
        """Fail every call at once, as an open breaker does."""
        self._refusing_until = instant

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """See `Store.read`."""
        return taken(await self._send("read", (customer_id, decision_id), timeout_s))

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """See `Store.commit`."""
        self._sends(commit)
        return taken(await self._send("commit", (commit,), timeout_s))

    async def read_decision(self, decision_id: str, timeout_s: float) -> bytes | None:
        """See `Store.read_decision`."""
        return taken(await self._send("read_decision", (decision_id,), timeout_s))

    async def claim_facility(self, facility_id: str, customer_id: str, timeout_s: float) -> str:
        """See `Store.claim_facility`."""
        return taken(await self._send("claim_facility", (facility_id, customer_id), timeout_s))

    async def facility_owner(self, facility_id: str, timeout_s: float) -> str | None:
        """See `Store.facility_owner`."""
        return taken(await self._send("facility_owner", (facility_id,), timeout_s))

    def read_links(self, names: Iterable[bytes], timeout_s: float) -> LinkReads:
        """See `Store.read_links`."""
        return LinkReads([(name[0], self._send("read_link", (name,), timeout_s)) for name in names])

    def together(self, names: Iterable[bytes]) -> list[list[bytes]]:
        """See `Store.together`."""
        return [list(names)]

    async def append_links(self, records: Any, records_max: int, kept_ms: int, timeout_s: float) -> Any:
        """See `Store.append_links`."""
        records = dict(records)
        return taken(await self._send("append_links", (records, records_max, kept_ms), timeout_s))

    async def waiting_links(self, partition: int, cursor: int, timeout_s: float) -> Any:
        """See `Store.waiting_links`."""
        return taken(await self._send("waiting_links", (partition, cursor), timeout_s))

    async def forget_links(self, ids: Any, timeout_s: float) -> None:
        """See `Store.forget_links`."""
        taken(await self._send("forget_links", ({key: list(some) for key, some in ids.items()},), timeout_s))

    # --- one call -------------------------------------------------------------------------------------------------

    def _send(self, name: str, arguments: tuple[Any, ...], timeout_s: float) -> asyncio.Future[Any]:
        """A call under way. Errors are values, so that one nobody waits for any more is no error."""
        loop, world, network, rng = self._loop, self._world, self._network, self._world.rng
        call = _Call(loop, name)
        if loop.dead:
            return call.future
        if world.now < self._refusing_until or not self._server.up:
            world.at(world.now, call.end, StoreUnavailable("the store could not be reached a moment ago"))
            return call.future
        now = world.now
        call.timer = world.at(now + timeout_s, call.lose, "no reply in time")
        fate = fate_of(rng, network)
        if loop.name in network.cut or fate == "lose_request":
            return call.future
        if fate == "refuse":
            refused = StoreUnavailable("the store refused: nothing was written")
            world.at(now + rng.random() * network.latency_s, call.end, refused)
            return call.future
        if fate == "reset_before":
            world.at(now + rng.random() * network.latency_s, call.lose, "the connection broke")
            return call.future
        way_s = rng.random() * (network.late_s if fate == "late_request" else network.latency_s)
        world.at(now + way_s, self._server.arrive, name, arguments, self._answerer(call, fate, arguments))
        return call.future

    def _answerer(self, call: _Call, fate: str, arguments: tuple[Any, ...]) -> Callable[[Any], None]:
        """What is done with the outcome once the server has run the call."""

        def answer(outcome: Any) -> None:
            world, rng, network = self._world, self._world.rng, self._network
            if fate == "double":  # a copy is run behind the first: nobody sends twice before that
                copy_at = world.now + rng.random() * network.late_s
                world.at(copy_at, self._server.arrive, call.name, arguments, _forget)
            if fate == "lose_reply" or self._loop.name in network.cut:
                return
            if fate == "reset_after":
                world.at(world.now + rng.random() * network.latency_s, call.lose, "the connection broke")
                return
            way_s = rng.random() * (network.late_s if fate == "late_reply" else network.latency_s)
            world.at(world.now + way_s, call.end, outcome)

        return answer


class _Call:
    """One call that somebody waits for."""

    __slots__ = ("future", "name", "timer")

    def __init__(self, loop: Loop, name: str) -> None:
        self.future: asyncio.Future[Any] = loop.create_future()
        self.name = name
        self.timer: Handle | None = None

    def end(self, outcome: Any) -> None:
        """Give the outcome to whoever still waits."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            if self.name == "read_link" and isinstance(outcome, Exception):
                outcome = 0  # no log
            self.future.set_result(outcome)

    def lose(self, why: str) -> None:
        """No reply will come."""
        self.end(OutcomeUnknown(why) if self.name in WRITES else StoreUnavailable(why))


def _forget(_outcome: Any) -> None:
    """Nobody asked."""


def fate_of(rng: Random, network: Network) -> str:
    """What becomes of a call; empty for nothing special."""
    if not network.chance or rng.random() >= network.chance:
        return ""
    return network.fates[int(rng.random() * len(network.fates))]


def taken(outcome: Any) -> Any:
    """A value, or the exception raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome

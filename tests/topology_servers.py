"""The three topologies as real processes: one server; Sentinel (a primary, two replicas, three sentinels); Cluster
(three primaries, a replica each). One shape for all, so that one test says what holds on each.

    started(name, directory)   a context manager; `kind` is one of KINDS
    url                        what the store is told
    leader(customer_id)        the server that holds a customer now
    fail_over(customer_id)     kill -9 of that server, and wait until another leads (standalone: until it is back)
    heal()                     start what was killed and wait until all replicas are linked

A partition is a `TcpProxy` that became a black hole, between the first primary of Sentinel and everybody else. (A
frozen process is none: the kernel keeps what was sent to it, and it is all there when it goes on.)
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import redis

from decision_service.core.limits import PARTITIONS
from decision_service.store import keys
from decision_service.store.embedded import server_binary
from valkey_server import ValkeyServer, free_port

KINDS = ("standalone", "sentinel", "cluster")
SLOTS = 16_384
NODE_TIMEOUT_MS = 1_000
PATIENCE_S = 40.0
PRIMARY_NAME = "lines"


def until(met: Callable[[], bool], what: str) -> None:
    """Wait until something is so. AssertionError if it never is."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        with contextlib.suppress(redis.RedisError):
            if met():
                return
        time.sleep(0.02)
    raise AssertionError(f"it never came to it: {what}")


def role_of(node: ValkeyServer) -> str:
    """`master` or `slave`; empty if it cannot be asked."""
    try:
        with node.client() as client:
            return str(client.info("replication")["role"])
    except redis.RedisError:
        return ""


def linked(node: ValkeyServer) -> bool:
    """Whether a replica has everything and goes on receiving."""
    with node.client() as client:
        told = client.info("replication")
    return bool(told["role"] == "slave" and told["master_link_status"] == "up")


def slot_of_customer(customer_id: str) -> int:
    """The slot that a customer's keys share."""
    return keys.slot_of(keys.outbox_key(keys.partition_of(customer_id, PARTITIONS)))


class Servers(Protocol):
    """What a test asks of any topology."""

    kind: str
    nodes: Sequence[ValkeyServer]

    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def leader(self, customer_id: str) -> ValkeyServer: ...
    def fail_over(self, customer_id: str) -> ValkeyServer: ...
    def heal(self) -> None: ...
    def flush(self) -> None: ...


class _Nodes(ABC):
    """What topologies have in common."""

    kind = ""

    def __init__(self, nodes: Sequence[ValkeyServer]) -> None:
        self.nodes = nodes
        self.dead: list[ValkeyServer] = []

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def flush(self) -> None:
        """Empty everything."""
        for node in self.nodes:
            if node not in self.dead and role_of(node) == "master":
                with node.client() as client:
                    client.flushall()

    def leaders(self, customers: Sequence[str]) -> dict[str, ValkeyServer]:
        """The servers that hold customers now."""
        return dict.fromkeys(customers, self.leader(""))

    @abstractmethod
    def leader(self, customer_id: str) -> ValkeyServer:
        """The server that holds a customer now."""

    def kill(self, node: ValkeyServer) -> None:
        """kill -9, to be healed."""
        node.kill()
        self.dead.append(node)


class StandaloneServers(_Nodes):
    """One server."""

    kind = "standalone"

    def __init__(self, directory: Path, *arguments: str) -> None:
        super().__init__([ValkeyServer(directory / "node", *arguments)])

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def start(self) -> None:
        self.nodes[0].start()

    def leader(self, customer_id: str) -> ValkeyServer:
        return self.nodes[0]

    def fail_over(self, customer_id: str) -> ValkeyServer:
        self.kill(self.nodes[0])
        time.sleep(1.0)  # as long as another topology would need
        self.heal()
        return self.nodes[0]

    def heal(self) -> None:
        for node in self.dead:
            node.start()
        self.dead.clear()


class SentinelServers(_Nodes):
    """A primary, two replicas and three sentinels; two must agree. `through` is the port by which replicas and
    sentinels reach the first primary, if that is not its own (a proxy's)."""

    kind = "sentinel"

    def __init__(self, directory: Path, *arguments: str, through: int | None = None) -> None:
        primary = ValkeyServer(directory / "node0", *arguments)
        self._through = through or primary.port
        replicas = [ValkeyServer(directory / f"node{n}", *arguments) for n in (1, 2)]
        super().__init__([primary, *replicas])
        self.sentinels = [ValkeyServer(directory / f"sentinel{n}") for n in range(3)]
        self._watching: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{PRIMARY_NAME}/0"

    def reach(self, port: int) -> None:
        """Let replicas and sentinels reach the primary by another port, from the start on."""
        self._through = port

    def start(self) -> None:
        self.nodes[0].start()
        for replica in self.nodes[1:]:
            replica.start()
            with replica.client() as client:
                client.replicaof("127.0.0.1", self._through)
        until(lambda: all(map(linked, self.nodes[1:])), "replicas linked")
        for sentinel in self.sentinels:
            self._watching.append(self._watch(sentinel))
        until(self._agreed, "sentinels that know one another and both replicas")

    def _watch(self, sentinel: ValkeyServer) -> subprocess.Popen[bytes]:
        sentinel.directory.mkdir(parents=True, exist_ok=True)
        settings = sentinel.directory / "sentinel.conf"
        settings.write_text(
            f"port {sentinel.port}\nbind 127.0.0.1\ndir {sentinel.directory}\n"
            f"sentinel monitor {PRIMARY_NAME} 127.0.0.1 {self._through} 2\n"
            f"sentinel down-after-milliseconds {PRIMARY_NAME} {NODE_TIMEOUT_MS}\n"
            f"sentinel failover-timeout {PRIMARY_NAME} 2000\nsentinel parallel-syncs {PRIMARY_NAME} 2\n"
        )
        with (sentinel.directory / "sentinel.log").open("wb") as log:
            return subprocess.Popen([str(server_binary()), str(settings), "--sentinel"], stdout=log, stderr=log)

    def _agreed(self) -> bool:
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                others = client.execute_command("SENTINEL", "SENTINELS", PRIMARY_NAME)
                replicas = client.execute_command("SENTINEL", "REPLICAS", PRIMARY_NAME)
            if len(others) < 2 or len(replicas) < 2:
                return False
        return True

    def named(self, sentinel: ValkeyServer) -> int:
        """The port of the primary that a sentinel names."""
        with sentinel.client() as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY_NAME)[1])

    def stop(self) -> None:
        for process in self._watching:
            process.terminate()
        for process in self._watching:
            process.wait(10)
        super().stop()

    def leader(self, customer_id: str) -> ValkeyServer:
        named = [self.named(sentinel) for sentinel in self.sentinels]
        port = self.nodes[0].port if named[0] == self._through else named[0]
        return next(node for node in self.nodes if node.port == port)

    def fail_over(self, customer_id: str) -> ValkeyServer:
        old = self.leader(customer_id)
        self.kill(old)
        return self.wait_promoted(old)

    def wait_promoted(self, old: ValkeyServer) -> ValkeyServer:
        """Wait until all sentinels name another primary than `old`."""
        ports = {node.port for node in self.nodes} - {old.port}
        until(lambda: all(self.named(sentinel) in ports for sentinel in self.sentinels), "another primary")
        leader = self.leader("")
        until(lambda: role_of(leader) == "master", "a promoted replica")
        return leader

    def heal(self) -> None:
        for node in self.dead:
            node.start()
        self.dead.clear()
        leader = self.leader("")
        until(lambda: all(linked(node) for node in self.nodes if node is not leader), "replicas linked again")


class ClusterServers(_Nodes):
    """Three primaries and a replica each; it serves the slots it has when some are gone."""

    kind = "cluster"

    def __init__(self, directory: Path, *arguments: str) -> None:
        nodes = []
        for number in range(6):
            bus_port = free_port()
            node = ValkeyServer(
                directory / f"node{number}", "--cluster-enabled", "yes", "--cluster-port", str(bus_port),
                "--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-require-full-coverage", "no",
                "--repl-ping-replica-period", "1", *arguments,
            )  # fmt: skip
            node.bus_port = bus_port
            nodes.append(node)
        super().__init__(nodes)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        for index, node in enumerate(self.nodes):
            node.start()
            with node.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
                if index < 3:
                    first, last = (SLOTS * i // 3 for i in (index, index + 1))
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
                for other in self.nodes[:index]:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus_port)
        until(lambda: all(len(self.known_by(node)) == 6 for node in self.nodes), "a cluster of six")
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            with replica.client() as client:
                client.execute_command("CLUSTER", "REPLICATE", self.name_of(primary))
        self.wait_sound()

    def wait_sound(self) -> None:
        """Wait until every node says that all is well and every replica is linked and known as one."""
        until(lambda: all(map(self._sound, self.nodes)), "a sound cluster")

    def _sound(self, node: ValkeyServer) -> bool:
        with node.client() as client:
            told = client.execute_command("CLUSTER", "INFO")
        if isinstance(told, bytes):
            told = dict(line.split(":") for line in told.decode().split())
        flags = [one.split(",") for one in self.known_by(node).values()]
        roles = sum("slave" in one for one in flags), sum("master" in one for one in flags)
        well = told["cluster_state"] == "ok" and roles == (3, 3) and not any("fail" in one for one in flags)
        return bool(well and (role_of(node) == "master" or linked(node)))

    def known_by(self, node: ValkeyServer) -> dict[int, str]:
        """The flags of the nodes that one knows of, by port."""
        with node.client() as client:
            told = client.execute_command("CLUSTER", "NODES")
        if isinstance(told, dict):
            return {int(address.rpartition(":")[2]): one["flags"] for address, one in told.items() if address}
        lines = [line.split() for line in told.decode().splitlines()]
        return {int(words[1].partition("@")[0].rpartition(":")[2]): words[2] for words in lines}

    @staticmethod
    def name_of(node: ValkeyServer) -> str:
        """A node's id."""
        with node.client() as client:
            name = client.execute_command("CLUSTER", "MYID")
        return name.decode() if isinstance(name, bytes) else str(name)

    def owner_of(self, slot: int) -> ValkeyServer:
        """The living primary of a slot, as the nodes that live tell it."""
        ports: list[int] = []
        for node in self.nodes:
            if node not in self.dead:
                with node.client() as client:
                    slots: Any = client.execute_command("CLUSTER", "SLOTS")
                ports += [primary[1] for first, last, primary, *_ in slots if first <= slot <= last]
        alive = [node for node in self.nodes if node not in self.dead and node.port in ports]
        return next(node for node in alive if role_of(node) == "master")

    def leader(self, customer_id: str) -> ValkeyServer:
        return self.owner_of(slot_of_customer(customer_id))

    def leaders(self, customers: Sequence[str]) -> dict[str, ValkeyServer]:
        """The servers that hold customers now, while none is dead."""
        by_slot = {slot: node for node in self.nodes if role_of(node) == "master" for slot in self._slots_of(node)}
        return {customer: by_slot[slot_of_customer(customer)] for customer in customers}

    @staticmethod
    def _slots_of(node: ValkeyServer) -> list[int]:
        with node.client() as client:
            slots: Any = client.execute_command("CLUSTER", "SLOTS")
        return [s for first, last, primary, *_ in slots if primary[1] == node.port for s in range(first, last + 1)]

    def replica_of(self, primary: ValkeyServer) -> ValkeyServer:
        """A linked replica of a primary."""
        for node in self.nodes:
            if node not in self.dead and role_of(node) == "slave":
                with node.client() as client:
                    if client.info("replication")["master_port"] == primary.port:
                        return node
        raise AssertionError("it has no replica")

    def fail_over(self, customer_id: str) -> ValkeyServer:
        old, slot = self.leader(customer_id), slot_of_customer(customer_id)
        self.kill(old)
        until(lambda: self._taken_over(slot), "a promoted replica")
        return self.owner_of(slot)

    def _taken_over(self, slot: int) -> bool:
        try:
            return self.owner_of(slot) not in self.dead
        except StopIteration:
            return False

    def heal(self) -> None:
        for node in self.dead:
            node.start()
        self.dead.clear()
        self.wait_sound()


CLASSES: dict[str, Callable[..., Any]] = {
    "standalone": StandaloneServers, "sentinel": SentinelServers, "cluster": ClusterServers,
}  # fmt: skip


@contextlib.contextmanager
def started(kind: str, directory: Path, *arguments: str) -> Iterator[Any]:
    """A topology of one of KINDS, stopped at the end."""
    servers = CLASSES[kind](directory, *arguments)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


class SlotMove:
    """Moves a slot between two primaries of a cluster in the steps an operator's tool takes."""

    def __init__(self, cluster: ClusterServers, slot: int) -> None:
        self.cluster, self.slot = cluster, slot
        self.source = cluster.owner_of(slot)
        self.target = next(n for n in cluster.nodes if role_of(n) == "master" and n is not self.source)

    def begin(self) -> None:
        self._setslot(self.target, "IMPORTING", self.cluster.name_of(self.source))
        self._setslot(self.source, "MIGRATING", self.cluster.name_of(self.target))

    def carry(self, at_once: int = 1_000) -> None:
        """All keys of the slot, some at a time."""
        with self.source.client() as client:
            while some := client.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, at_once):
                client.execute_command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 1_000, "KEYS", *some)

    def end(self) -> None:
        name = self.cluster.name_of(self.target)
        self._setslot(self.target, "NODE", name)
        for node in self.cluster.nodes:
            if node not in self.cluster.dead and role_of(node) == "master" and node is not self.target:
                self._setslot(node, "NODE", name)

    def _setslot(self, node: ValkeyServer, *arguments: object) -> None:
        with node.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", self.slot, *arguments)

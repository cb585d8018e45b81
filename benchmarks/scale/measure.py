"""What customers, decisions and events cost, measured on a real Valkey behind the real service.

Customers of four history lengths are loaded through the API (`GROUPS`), then decisions are asked for in turns over the
groups, so that whatever the machine does meanwhile meets all of them alike. Deltas of the server's own counters are
divided by the number of decisions:

    INFO commandstats        commands; those inside scripts are counted by the server too
    INFO stats               network bytes of the store, both directions
    INFO persistence         bytes of the append-only file (it is never rewritten during the run)
    /proc/<pid>/io           write calls: those that wrote to no socket went to the append-only file, and under
                             `appendfsync always` each of these is followed by one fsync
    /proc/<pid>/.../schedstat  CPU time in ns of every thread; what the idle processes use is taken off
    MEMORY USAGE, SCAN       bytes of every key by kind; INFO memory for what the server uses beyond its keys

CPU is that of this machine, and a little more where other work shares its caches; bytes and counts are exact.
Connections: 32 at a time unless said otherwise, so fsyncs are shared as they are under load.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from customers import drawdown, facility, history
from decision_service.core.limits import EVENTS_PER_CALL_MAX, RECORD_BYTES
from decision_service.core.links import LINKS_PER_ENTITY_MAX
from decision_service.http_client import Client
from servers import Server, free_port, serving, valkey

FORMAT: Final = "decision-service-scale/1"
ROOT: Final = Path(__file__).parents[2]
CONNECTIONS: Final = 32
ROUND_DECISIONS: Final = 300
IDLE_S: Final = 3.0
TRIES_MAX: Final = 120  # half a second apart
ONE_CUSTOMER: Final = 60  # decisions of one customer, one after the other
HOT_PAYEE: Final = "m-everybody"
_ENTRY_OVERHEAD: Final = 24  # bytes that a stream keeps of an entry beside its fields

Say = Callable[[str], None]
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Group:
    """Customers `first` and following, each with `events` events."""

    events: int
    first: int
    customers: int

    def numbers(self) -> range:
        """The numbers of its customers."""
        return range(self.first, self.first + self.customers)


GROUPS: Final = (Group(20, 0, 1_500), Group(200, 10_000, 400), Group(2_000, 20_000, 50), Group(4_096, 30_000, 30))
SMALL_GROUPS: Final = (Group(20, 0, 60), Group(200, 10_000, 20), Group(2_000, 20_000, 3))
BASE_EVENTS: Final = 200


@dataclass(slots=True)
class Counters:
    """The server's and the processes' counters at one instant."""

    at_s: float
    service_cpu_us: float
    store_cpu_us: float
    net_in: int
    net_out: int
    aof_bytes: int
    fsyncs: int
    used_memory: int
    commands: Counter[str]


class Bench:
    """The running service and its store."""

    def __init__(self, service: Server, store: Server, say: Say) -> None:
        self.service, self.store, self.say = service, store, say
        self.redis = redis.Redis(port=store.port)
        self.redis.config_set("auto-aof-rewrite-percentage", 0)
        self.idle = {"service": 0.0, "store": 0.0}  # us of CPU a second
        self.asked: set[str] = set()  # customers who asked for something
        self._sent = 0

    def counters(self) -> Counters:
        """Everything that is counted, now."""
        info = self.redis.info("everything")
        written = _io(self.store.process.pid, "syscw") - int(info["total_writes_processed"])
        commands = {name[8:]: row["calls"] for name, row in info.items() if name.startswith("cmdstat_")}
        return Counters(
            time.monotonic(), _cpu_us(self.service), _cpu_us(self.store), int(info["total_net_input_bytes"]),
            int(info["total_net_output_bytes"]), int(info["aof_current_size"]), written, int(info["used_memory"]),
            Counter(commands),
        )  # fmt: skip

    def per_call(self, before: Counters, calls: int) -> dict[str, Any]:
        """What each of `calls` calls since `before` used, without what an idle service would have."""
        now = self.counters()
        seconds = now.at_s - before.at_s
        commands = {
            name: round((count - before.commands[name]) / calls, 3)
            for name, count in now.commands.items()
            if count - before.commands[name] >= 0.02 * calls and name not in ("info", "config|set")
        }
        return {
            "calls": calls,
            "service_cpu_us": (now.service_cpu_us - before.service_cpu_us - seconds * self.idle["service"]) / calls,
            "store_cpu_us": (now.store_cpu_us - before.store_cpu_us - seconds * self.idle["store"]) / calls,
            "store_net_in": (now.net_in - before.net_in) / calls,
            "store_net_out": (now.net_out - before.net_out) / calls,
            "aof_bytes": (now.aof_bytes - before.aof_bytes) / calls,
            "fsyncs": (now.fsyncs - before.fsyncs) / calls,
            "used_memory": (now.used_memory - before.used_memory) / calls,
            "scripts": sum(count for name, count in commands.items() if name.startswith("evalsha")),
            "commands": sum(commands.values()),
            "by_command": commands,
        }  # fmt: skip

    def request(self, number: int, payee: str | None = None) -> dict[str, Any]:
        """A new drawdown of a customer, to a payee of its own unless one is named."""
        self._sent += 1
        self.asked.add(f"b-{number}")
        asked = drawdown(number, f"scale-{self._sent}", time.time_ns() // 1_000_000)
        return asked | {"counterparty_id": payee or f"bp-{number}-{self._sent % 20}"}

    def decide(self, asked: list[dict[str, Any]], connections: int = CONNECTIONS) -> float:
        """Have all of them decided, on rung full; the seconds that took."""
        began = time.monotonic()
        rungs = asyncio.run(_calls(self.service.url, [("POST", "/v1/decisions", one) for one in asked], connections))
        took = time.monotonic() - began
        short = Counter(answer.get("rung") for answer in rungs if answer.get("rung") != "full")
        if short:
            self.say(f"  {sum(short.values())} of {len(asked)} decisions were not full: {dict(short)}")
        return took

    def settle(self) -> None:
        """Wait until what is written behind the answers (entity logs, counts) is written."""
        before = -1
        for _ in range(100):
            info = self.redis.info("commandstats")
            writes = sum(row["calls"] for name, row in info.items() if "append" in name or "hdel" in name)
            if writes == before:
                return
            before = writes
            time.sleep(0.4)


async def _calls(url: str, calls: list[tuple[str, str, Any]], connections: int) -> list[Any]:
    """The answers as JSON, unordered. A call that is refused because the service is busy is made again."""
    waiting = iter(calls)
    answers: list[Any] = []

    async def caller() -> None:
        async with Client(url) as client:
            for method, path, body in waiting:
                for _ in range(TRIES_MAX):
                    response = await client.call(method, path, body)
                    if response.status != 503:
                        break
                    await asyncio.sleep(0.5)
                if response.status >= 300:
                    sys.exit(f"{method} {path}: {response.status} {response.body.decode()[:500]}")
                answers.append(response.json())

    await asyncio.gather(*(caller() for _ in range(min(connections, len(calls)))))
    return answers


@contextmanager
def bench(say: Say) -> Iterator[Bench]:
    """Valkey and one worker of the service with the shipped policy, stopped at the end."""
    cores = os.sched_getaffinity(0)
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("decision-service")), "serve", "--port", str(port), "--workers", "1",
        "--rules", str(ROOT / "rules"), "--models", str(ROOT / "models"),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name, valkey(Path(name), cores) as store:
        environment = {
            "DECISION_SERVICE_REDIS_URL": f"redis://127.0.0.1:{store.port}/0",
            "DECISION_SERVICE_RATE_LIMIT_PER_S": "0",
            "DECISION_SERVICE_DATA_DIR": name,
            "DECISION_SERVICE_LOG_LEVEL": "warning",
            "DECISION_SERVICE_LINKS_BUDGET_MS": "2000",
        }
        say("starting Valkey and the service (a first start compiles the kernels: two minutes)")
        with serving(command, port, cores, "/readyz", Path(name) / "service.log", environment) as service:
            yield Bench(service, store, say)


def measure(say: Say, small: bool = False) -> dict[str, Any]:
    """The whole measurement: about two minutes. `small` is for tests: its figures say nothing."""
    groups = SMALL_GROUPS if small else GROUPS
    rounds = 1 if small else 3
    with bench(say) as on:
        loaded = {group.events: _load(on, group) for group in groups}
        outbox_event = _outbox_event(on.redis, sum(group.events * group.customers for group in groups))
        _look_at_idle(on)
        decisions = _decisions(on, groups, rounds)
        memory = _memory(on, groups)
        document: dict[str, Any] = {
            "format": FORMAT,
            **_where(),
            "histories": {
                str(group.events): {
                    "customers": group.customers,
                    **loaded[group.events],
                    **memory["groups"][group.events],
                    "decision": decisions[group.events],
                }
                for group in groups
            },
            "bytes": memory["bytes"] | {"outbox_event": outbox_event},
            "allocator": on.redis.info("memory")["mem_allocator"],
            "event": _events(on, groups, 60 if small else ROUND_DECISIONS),
            "one_connection": _one_connection(on, groups, 20 if small else 100),
            "one_customer": _one_customer(on, groups),
            "hot_payee": _hot_payee(on, groups, 40 if small else ROUND_DECISIONS),
            "http": _http_bytes(on, groups),
            "connections_per_worker": _connections(on),
        }
    return document


def _where() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo").read_text()
    cpu = next((line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    machine = {
        "cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }  # fmt: skip
    return {"commit": commit, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine}


def _look_at_idle(on: Bench) -> None:
    """What the processes use while nobody asks for anything."""
    time.sleep(1.0)
    before = on.counters()
    time.sleep(IDLE_S)
    now = on.counters()
    seconds = now.at_s - before.at_s
    on.idle = {
        "service": (now.service_cpu_us - before.service_cpu_us) / seconds,
        "store": (now.store_cpu_us - before.store_cpu_us) / seconds,
    }


def _load(on: Bench, group: Group) -> Figures:
    """Facilities and events of a group; the memory and AOF bytes that they took, entity logs with them."""
    on.say(f"loading {group.customers:,} customers with {group.events:,} events each")
    now_ms = time.time_ns() // 1_000_000
    before = on.counters()
    asyncio.run(_calls(on.service.url, [
        ("PUT", f"/v1/facilities/bf-{number}", facility(number, now_ms)) for number in group.numbers()
    ], 8))  # fmt: skip
    posts = [("POST", "/v1/events", {"events": part}) for n in group.numbers() for part in _parts(n, group, now_ms)]
    asyncio.run(_calls(on.service.url, posts, 4))
    on.settle()
    now = on.counters()
    return {
        "used_memory_per_customer": (now.used_memory - before.used_memory) / group.customers,
        "aof_bytes_per_event": (now.aof_bytes - before.aof_bytes) / group.customers / group.events,
    }


def _parts(number: int, group: Group, now_ms: int) -> Iterator[list[dict[str, Any]]]:
    events = [
        event | {"counterparty_id": f"bp-{number}-{i % 20}"}
        for i, event in enumerate(history(number, group.events, now_ms))
    ]
    for first in range(0, len(events), EVENTS_PER_CALL_MAX):
        yield events[first : first + EVENTS_PER_CALL_MAX]


def _memory(on: Bench, groups: tuple[Group, ...]) -> dict[str, Any]:
    """Bytes of keys by kind, and of the logs of each group.

    A log that was appended to has room for as much again (the server doubles a string that grows), so logs that were
    appended to one event at a time, as all are in the end, are told from those that were loaded at once.
    """
    on.say("asking for the memory of every key")
    sizes = _key_sizes(on.redis)
    by_group: dict[int, dict[str, float]] = {}
    logs, metas = (
        {name: (size, length) for name, size, length in sizes[kind]} for kind in ("event log", "customer meta")
    )
    for group in groups:
        names = [f"b-{number}" for number in group.numbers()]
        grown = [logs[name][0] for name in names if name in on.asked]
        as_loaded = [logs[name][0] for name in names if name not in on.asked]
        by_group[group.events] = {
            "log_bytes": statistics.fmean(grown),
            "log_bytes_as_loaded": statistics.fmean(as_loaded) if as_loaded else math.nan,
            "record_bytes": statistics.fmean(logs[name][1] for name in names),
            "meta_bytes": statistics.fmean(metas[name][0] for name in names),
        }
    entity = sizes["entity log"]
    slope, base = statistics.linear_regression(
        [length / RECORD_BYTES - 1 for *_, length in entity], [size for _, size, _ in entity]
    )
    total = sum(size for rows in sizes.values() for _, size, _ in rows)
    return {
        "groups": {
            events: {k: None if math.isnan(v) else v for k, v in row.items()} for events, row in by_group.items()
        },
        "bytes": {
            "owner": _mean(sizes["facility owner"]),
            "decision_frame": _mean(sizes["decision frame"]),
            "outbox_entry": _outbox_entry(on.redis),
            "entity_log": max(0.0, base),
            "entity_record": slope,
            "entity_records_max": LINKS_PER_ENTITY_MAX,
            "used_over_keys": on.redis.info("memory")["used_memory"] / total,
            "keys": {kind: {"keys": len(rows), "bytes": _mean(rows)} for kind, rows in sorted(sizes.items())},
        },
    }


def _outbox_event(client: redis.Redis, events: int) -> float:
    """Bytes of the outboxes for each event in them, before there are any decisions."""
    return sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(match="ds:{p*}:out")) / events


def _mean(rows: list[tuple[str, int, int]]) -> float:
    return statistics.fmean(size for _, size, _ in rows)


def _outbox_entry(client: redis.Redis) -> float:
    """Bytes of the newest entry of an outbox, a decision's: MEMORY USAGE cannot tell it from the room of its stream."""
    found = []
    for key in client.scan_iter(match="ds:{p*}:out", count=5_000):
        newest: list[tuple[bytes, dict[bytes, bytes]]] = client.xrevrange(key, count=1)  # type: ignore[assignment]
        for _, fields in newest:
            found.append(sum(len(name) + len(value) for name, value in fields.items()) + _ENTRY_OVERHEAD)
    return statistics.fmean(found)


def kind_of(key: bytes) -> tuple[str, str]:
    """The kind of a key, and whose it is where one customer's or facility's."""
    parts = key.decode(errors="replace").split(":", 3)
    kinds = {
        "m": "customer meta", "l": "event log", "d": "decision frame", "s": "shadow scores", "out": "outbox",
        "n": "marker", "f": "fence", "w": "waiting links", "e": "entity log", "o": "facility owner",
    }  # fmt: skip
    if len(parts) < 3 or not parts[1].startswith("{p0"):
        return "of the store", ""
    return kinds.get(parts[2], "other"), parts[3] if len(parts) > 3 else ""


def _key_sizes(client: redis.Redis) -> dict[str, list[tuple[str, int, int]]]:
    """For each kind of key (name, bytes of memory, length of the string or stream)."""
    sizes: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    keys = list(client.scan_iter(count=5_000))
    for first in range(0, len(keys), 1_000):
        part = keys[first : first + 1_000]
        pipe = client.pipeline(transaction=False)
        for key in part:
            kind, _ = kind_of(key)
            pipe.memory_usage(key, samples=0)
            if kind == "outbox":
                pipe.xlen(key)
            elif kind in ("event log", "entity log", "decision frame"):
                pipe.strlen(key)
            else:
                pipe.exists(key)
        replies = pipe.execute()
        for key, size, length in zip(part, replies[::2], replies[1::2], strict=True):
            kind, name = kind_of(key)
            sizes[kind].append((name, int(size or 0), int(length)))
    return sizes


def _decisions(on: Bench, groups: tuple[Group, ...], rounds: int) -> dict[int, dict[str, Any]]:
    """Decisions of each group in turns; no customer is asked for more than three times, for burst rules would hold."""
    on.decide([on.request(number) for group in groups for number in list(group.numbers())[-5:]])  # warm
    found: dict[int, list[dict[str, Any]]] = {group.events: [] for group in groups}
    for round_ in range(rounds):
        for group in groups:
            numbers = list(group.numbers())
            shift = round_ * ROUND_DECISIONS % len(numbers)
            asked = [on.request(number) for number in (numbers[shift:] + numbers[:shift])[:ROUND_DECISIONS]]
            counted = on.counters()
            seconds = on.decide(asked)
            on.settle()
            one = on.per_call(counted, len(asked)) | {"per_s": len(asked) / seconds}
            found[group.events].append(one)
            on.say(
                f"round {round_ + 1} of {rounds}, {group.events:>5,} events: {one['service_cpu_us']:,.0f} us CPU of "
                f"the service, {one['store_cpu_us']:,.0f} us of the store, {one['store_net_out']:,.0f} bytes out of it"
            )
    return {events: _median_of(all_) for events, all_ in found.items()}


def _median_of(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over rounds; commands by their name from the last."""
    names = [name for name in rounds[0] if name not in ("calls", "by_command")]
    medians: dict[str, Any] = {name: statistics.median(one[name] for one in rounds) for name in names}
    return medians | {"calls": sum(one["calls"] for one in rounds), "by_command": rounds[-1]["by_command"]}


def _base(groups: tuple[Group, ...]) -> list[int]:
    """The numbers of the customers of usual history, those asked for least so far first."""
    numbers = list(next(group for group in groups if group.events == BASE_EVENTS).numbers())
    return numbers[::-1]


def _events(on: Bench, groups: tuple[Group, ...], calls: int) -> dict[str, Any]:
    """Events that come one a call, as core banking tells of a repayment."""
    on.say("events, one a call")
    now_ms = time.time_ns() // 1_000_000
    numbers = _base(groups)
    posts = []
    for i in range(calls):
        number = numbers[i % len(numbers)]
        event = history(number, 1, now_ms)[0] | {
            "event_id": f"single-{i}", "kind": "repayment", "counterparty_id": f"bp-{number}-{i % 20}",
        }  # fmt: skip
        posts.append(("POST", "/v1/events", {"events": [event]}))
    before = on.counters()
    asyncio.run(_calls(on.service.url, posts, CONNECTIONS))
    on.settle()
    return on.per_call(before, calls)


def _one_connection(on: Bench, groups: tuple[Group, ...], calls: int) -> dict[str, Any]:
    """Decisions one after the other: what one costs when nothing is shared with others."""
    on.say("decisions on one connection")
    numbers = list(next(group for group in groups if group.events == min(g.events for g in groups)).numbers())
    asked = [on.request(number) for number in numbers[::-1][:calls]]
    before = on.counters()
    seconds = on.decide(asked, 1)
    on.settle()
    return on.per_call(before, len(asked)) | {"per_s": len(asked) / seconds}


def _one_customer(on: Bench, groups: tuple[Group, ...]) -> Figures:
    """How many decisions a second one customer can have: they wait for each other."""
    on.say("decisions of one customer")
    number = _base(groups)[0]
    alone = ONE_CUSTOMER / on.decide([on.request(number) for _ in range(ONE_CUSTOMER)], 1)
    together = ONE_CUSTOMER / on.decide([on.request(number) for _ in range(ONE_CUSTOMER)], 8)
    return {"per_s_one_connection": alone, "per_s_eight_connections": together}


def _hot_payee(on: Bench, groups: tuple[Group, ...], calls: int) -> dict[str, Any]:
    """Decisions that pay a payee whose log is full, beside those that pay one of few, in turns."""
    on.say("decisions that pay somebody whose log is full")
    numbers = _base(groups)
    now_ms = time.time_ns() // 1_000_000
    number = numbers[-1]
    many = [
        event | {"event_id": f"hot-{i}", "counterparty_id": HOT_PAYEE, "kind": "purchase"}
        for i, event in enumerate(history(number, LINKS_PER_ENTITY_MAX * 5 // 4, now_ms))
    ]
    for first in range(0, len(many), EVENTS_PER_CALL_MAX):
        part = {"events": many[first : first + EVENTS_PER_CALL_MAX]}
        asyncio.run(_calls(on.service.url, [("POST", "/v1/events", part)], 1))
    on.settle()
    found: dict[str, list[dict[str, Any]]] = {"cold": [], "hot": []}
    half = max(1, calls // 2)
    for turn in range(4):
        which = ("cold", "hot")[turn % 2]
        part_of = [numbers[(turn * half + i) % len(numbers)] for i in range(half)]
        asked = [on.request(one, HOT_PAYEE if which == "hot" else None) for one in part_of]
        before = on.counters()
        on.decide(asked)
        on.settle()
        found[which].append(on.per_call(before, len(asked)))
    cold, hot = (_median_of(found[which]) for which in ("cold", "hot"))
    names = ("service_cpu_us", "store_cpu_us", "store_net_in", "store_net_out", "aof_bytes")
    return {name: hot[name] - cold[name] for name in names}


def _http_bytes(on: Bench, groups: tuple[Group, ...]) -> Figures:
    """Bytes of a request and of its answer, headers included."""
    sent, received = [], []
    for number in _base(groups)[:10]:
        body = json.dumps(on.request(number)).encode()
        request = (
            b"POST /v1/decisions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        with socket.create_connection(("127.0.0.1", on.service.port), timeout=30) as caller:
            caller.sendall(request)
            answer = b""
            while part := caller.recv(65_536):
                answer += part
        sent.append(len(request))
        received.append(len(answer))
    return {"request_bytes": statistics.fmean(sent), "response_bytes": statistics.fmean(received)}


def _connections(on: Bench) -> int:
    """How many connections one worker, with the process that watches it, holds to its server."""
    return max(1, int(on.redis.info("clients")["connected_clients"]) - 1)


def _io(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith(name))


def _cpu_us(server: Server) -> float:
    """CPU of a process and all its descendants so far, of every thread that still runs."""
    nanoseconds = 0
    for pid in server.family():
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            nanoseconds += int(task.read_text().split()[0])
    return nanoseconds / 1e3

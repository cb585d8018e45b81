"""A primary dies under load: how long is nobody decided in full, and what is lost of what was answered?

    callers (fixed rate) ──▶ two hosts: a service each, its own data directory  ──▶ Cluster: 3 primaries, 3 replicas
       customers ask both hosts; a retry stays                                      or Sentinel: 1 primary, 2 replicas,
       at the host that was asked first                                             3 sentinels; node time-out 1,000 ms

The primary that holds most customers is killed (kill -9). *Outage* is the time from the kill until every customer of
that primary is decided in full again: what lies between is answered `static` or 503, never late and never a guess.
Afterwards the killed server comes back, static answers are delivered, `decision-service reconcile --repair` compares
all that was answered with the store, and every request is asked once more at the host that answered it.

Replication is asynchronous, so in profile `safe` a fail-over may lose what was acknowledged in the last moment; the
profile `replicated` may not (`--durability`). Over-lent is judged by what callers were told: the amounts approved on a
line against its limit. The kind `standalone` has one server, started again after the node time-out.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from callers import AMOUNT, LIMIT, drawdown, open_lines
from checking import wait_delivered
from figures import Figure, Result, Sense, parser_of, run, say
from whole_service import WholeService

from decision_service.http_client import Client, ConnectionLost

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))  # its topologies of real servers
from topology_servers import NODE_TIMEOUT_MS, started

KINDS: Final = ("cluster", "sentinel", "standalone")
CUSTOMERS: Final = 96
ASKED_PER_S: Final = 100
DEADLINE_MS: Final = 200
BEFORE_S: Final = 4.0  # of load before the kill
CALM_S: Final = 3.0  # decided in full for so long: it is over
LONGEST_S: Final = 60.0
RETRIES: Final = 400
RETRY_S: Final = 0.05
SLACK_MS: Final = 2_000  # on top of the node time-out


@dataclass(slots=True)
class Asked:
    """One request, and the first answer to it."""

    body: dict[str, Any]
    host: int
    answer: dict[str, Any] | None = None
    raw: bytes = b""


@dataclass(slots=True)
class Seen:
    """What callers saw. Instants of the monotonic clock, in seconds."""

    asked: dict[str, Asked] = field(default_factory=dict)
    not_full: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # customer -> when
    full: dict[str, float] = field(default_factory=dict)  # customer -> the last time
    outcomes: Counter[str] = field(default_factory=Counter)
    late_ms: float = 0.0
    different: list[str] = field(default_factory=list)

    def take(self, one: Asked, status: int, raw: bytes, began: float) -> bool:
        """An answer or none; whether the request is answered."""
        now, customer = time.monotonic(), one.body["customer_id"]
        self.late_ms = max(self.late_ms, (now - began) * 1_000 - DEADLINE_MS)
        answer = orjson.loads(raw) if status == 200 else None
        rung = answer["rung"] if answer else _problem(status, raw)
        self.outcomes[rung] += 1
        if answer is None or rung == "static":
            self.not_full[customer].append(now)
        else:
            self.full[customer] = now
        if answer is None:
            return False
        if one.answer is None:
            one.answer, one.raw = answer, raw
        elif one.raw != raw and not _reconstructs(answer, one.answer):
            self.different.append(f"{one.raw.decode()} / {raw.decode()}")
        return True


def _reconstructs(answer: dict[str, Any], first: dict[str, Any]) -> bool:
    """Whether an answer is what `reconcile` put back of one that was lost."""
    same = (answer["decision"], answer["approved_amount"]) == (first["decision"], first["approved_amount"])
    return same and "reconstructed" in answer["tags"]


def _problem(status: int, raw: bytes) -> str:
    try:
        return f"{status} {orjson.loads(raw)['type'].rpartition('/')[2].rpartition(':')[2]}"
    except (ValueError, KeyError, TypeError):
        return str(status or "disconnected")


class Load:
    """Asks at a fixed rate, whatever the answers; each request is retried until it is answered."""

    def __init__(self, hosts: list[WholeService], seen: Seen, rng: random.Random, asked_per_s: int) -> None:
        self._urls = [host.url for host in hosts]
        self._seen, self._rng, self._asked_per_s = seen, rng, asked_per_s
        self._idle: list[list[Client]] = [[] for _ in hosts]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; then wait for all answers."""
        at = time.monotonic()
        while not stop.is_set():
            number = len(self._seen.asked)
            body = drawdown(self._rng.randrange(CUSTOMERS), f"f-{number}", DEADLINE_MS)
            one = self._seen.asked[body["request_id"]] = Asked(body, self._rng.randrange(len(self._urls)))
            task = asyncio.create_task(self.ask(one))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            at += 1 / self._asked_per_s
            await asyncio.sleep(max(0.0, at - time.monotonic()))
        await asyncio.gather(*self._tasks)

    async def ask(self, one: Asked) -> None:
        """One request at its host, until there is an answer."""
        idle = self._idle[one.host]
        for _ in range(RETRIES):
            client = idle.pop() if idle else Client(self._urls[one.host], timeout_s=10.0)
            began = time.monotonic()
            try:
                reply = await client.call("POST", "/v1/decisions", one.body)
                idle.append(client)
                status, raw = reply.status, reply.body
            except ConnectionLost:
                client.close()
                status, raw = 0, b""
            if self._seen.take(one, status, raw, began):
                return
            await asyncio.sleep(RETRY_S)

    def close(self) -> None:
        """End the connections."""
        for clients in self._idle:
            for client in clients:
                client.close()
            clients.clear()


def _settled(seen: Seen, hit: set[str], killed_at: float) -> bool:
    """Whether every customer of the killed primary was decided in full for CALM_S."""
    now = time.monotonic()
    if now - killed_at > LONGEST_S:
        return True
    last = max((moments[-1] for c, moments in seen.not_full.items() if c in hit), default=killed_at)
    return now - max(last, killed_at) > CALM_S and all(seen.full.get(customer, 0) > killed_at for customer in hit)


async def _under_load(servers: Any, hosts: list[WholeService], seen: Seen, load: Load) -> float:
    """Load, the kill, and load until it is over; the outage in seconds."""
    await open_lines(hosts[0].url, customers=CUSTOMERS)
    stop = asyncio.Event()
    customers = [f"k-{n}" for n in range(CUSTOMERS)]
    led = servers.leaders(customers)
    leader = Counter(led.values()).most_common(1)[0][0]
    asking = asyncio.create_task(load.run(stop))
    await asyncio.sleep(BEFORE_S)
    hit = {customer for customer in customers if led[customer] is leader}
    killed_at = time.monotonic()
    servers.kill(leader)
    if servers.kind == "standalone":
        await asyncio.sleep(NODE_TIMEOUT_MS / 1_000)
        await asyncio.to_thread(servers.heal)
    while not _settled(seen, hit, killed_at):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.wait_for(asking, LONGEST_S)
    ends = [moment for customer in hit for moment in seen.not_full[customer] if moment >= killed_at]
    await asyncio.to_thread(servers.heal)
    for host in hosts:
        await asyncio.to_thread(wait_delivered, host, LONGEST_S)
    load.close()
    return max(ends, default=killed_at) - killed_at


async def _asked_again(seen: Seen, load: Load) -> None:
    """Every request once more, at the host that answered it."""
    for one in seen.asked.values():
        await load.ask(one)
    load.close()


def _reconciled(directory: Path, hosts: list[WholeService], url: str, seen: Seen) -> dict[str, Any]:
    """What `decision-service reconcile` says of all that was answered."""
    listed = directory / "acknowledged.jsonl"
    listed.write_bytes(b"".join(one.raw + b"\n" for one in seen.asked.values() if one.raw))
    command = [sys.executable, "-m", "decision_service", "reconcile", str(listed), "--redis-url", url, "--json"]
    command += ["--data-dir", str(hosts[0].data), "--journal", *(str(host.data) for host in hosts[1:])]
    command += ["--since", "2020-01-01", "--verify", "--repair"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"reconcile ended with {done.returncode}: {done.stderr.decode()}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@dataclass(slots=True)
class Failover:
    """What one kill found."""

    outage_s: float
    seen: Seen
    reconciled: dict[str, Any]

    @property
    def over_lent(self) -> int:
        """The amounts that callers were told beyond the limits, in major units."""
        lent: Counter[str] = Counter()
        for one in self.seen.asked.values():
            if one.answer is not None:
                lent[one.body["customer_id"]] += one.answer["approved_amount"]
        return int(sum(max(0, amount - LIMIT) for amount in lent.values()))

    @property
    def unanswered(self) -> int:
        """Requests that never got an answer."""
        return sum(one.answer is None for one in self.seen.asked.values())


def one_failover(kind: str, number: int, args: Any) -> Failover:
    """Servers, two hosts, load, a kill, and the check."""
    settings = ("--min-replicas-to-write", "1") if args.durability == "replicated" else ()
    with tempfile.TemporaryDirectory() as name, started(kind, Path(name) / "servers", *settings) as servers:
        hosts = [
            WholeService(
                Path(name) / f"host{n}", store_url=servers.url, durability=args.durability, log_level="error",
                requests_in_flight_max=2_000,
            )
            for n in range(2)
        ]  # fmt: skip
        seen = Seen()
        try:
            for host in hosts:
                host.start()
            rng = random.Random(f"{args.seed} {kind} {number}")
            load = Load(hosts, seen, rng, args.asked_per_s)
            outage_s = asyncio.run(_under_load(servers, hosts, seen, load))
            found = Failover(outage_s, seen, _reconciled(Path(name), hosts, servers.url, seen))
            asyncio.run(_asked_again(seen, load))
        finally:
            for host in hosts:
                host.stop()
    lost = found.reconciled["lost"]
    say(
        f"{kind} {number}: outage {outage_s:.2f} s, {len(seen.asked):,} requests, {dict(seen.outcomes)}, "
        f"{lost} lost, {len(seen.different)} different"
    )
    return found


def measure(result: Result, args: Any) -> None:
    """All kills of all topologies."""
    for kind in args.kinds:
        found = [one_failover(kind, number, args) for number in range(args.failovers)]
        outages = sorted(one.outage_s for one in found)
        allowed_s = (NODE_TIMEOUT_MS + SLACK_MS) / 1_000
        sense: Sense = "told" if kind == "sentinel" else "at most"  # its elections may be split, and are tried again
        wanted_s = None if kind == "sentinel" else allowed_s
        lost = sum(one.reconciled["lost"] for one in found)
        result.figures += [
            Figure(f"{kind}: primaries killed under load, profile {args.durability}", len(found), sense="told"),
            Figure("... longest outage (static or 503)", round(outages[-1], 2), wanted_s, sense, "s"),
            Figure("... that in node time-outs", round(outages[-1] * 1_000 / NODE_TIMEOUT_MS, 2), sense="told"),
            Figure("... over-lent", sum(one.over_lent for one in found), 0),
            Figure("... requests answered twice differently", sum(len(one.seen.different) for one in found), 0),
            Figure("... requests never answered", sum(one.unanswered for one in found), 0),
            Figure("... acknowledged decisions lost", lost, 0),
            Figure("... acknowledged decisions checked", sum(one.reconciled["acknowledged"] for one in found),
                   sense="told"),
        ]  # fmt: skip
        result.notes |= {
            f"{kind}_outages_s": [round(outage, 2) for outage in outages],
            f"{kind}_outcomes": dict(sum((one.seen.outcomes for one in found), Counter())),
            f"{kind}_latest_ms_after_deadline": round(max(one.seen.late_ms for one in found), 1),
            f"{kind}_reconciled": {
                sort: sum(one.reconciled[sort] for one in found)
                for sort in ("agreed", "lost", "different", "unaccounted", "damaged", "conflict")
            },
            f"{kind}_wrong": [one for failover in found for one in failover.seen.different][:5],
        }  # fmt: skip
    result.notes |= {
        "durability": args.durability, "node_timeout_ms": NODE_TIMEOUT_MS, "asked_per_s": args.asked_per_s,
        "customers": CUSTOMERS, "limit_in_draws": LIMIT // AMOUNT, "deadline_ms": DEADLINE_MS,
    }  # fmt: skip


def main() -> int:
    """Parse options, run, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--failovers", type=int, help="of each topology (5, or 1 with --quick)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["cluster", "sentinel"], help="topologies")
    parser.add_argument("--durability", choices=("safe", "replicated"), default="safe", help="profile of the services")
    parser.add_argument("--asked-per-s", type=int, default=ASKED_PER_S, help="requests a second")
    args = parser.parse_args()
    args.failovers = args.failovers or (1 if args.quick else 5)
    return run("failover", args, lambda result: measure(result, args))


if __name__ == "__main__":
    sys.exit(main())

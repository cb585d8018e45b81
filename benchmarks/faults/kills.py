"""A thousand kills under load: is an acknowledged decision ever lost, answered twice differently, or over-lent?

    callers (closed loop) ──▶ workers ──▶ embedded Valkey, fsync always          kill -9, at random moments:
       retry with the same id until answered;  some ask two to four times at     a worker, the store, or everything
       once; some ask again for what they were answered long ago; they settle    at once (the parent starts workers and
       what was approved (booked and repaid, cancelled, or left reserved)        store again, or we start the parent)

Each round begins with an empty store and ends with a kill of everything, a restart and the check: every answer against
the store's own bytes and asked again over HTTP; every customer's log walked record by record; every entry of the
outbox counted; what is reserved and outstanding against what the callers settled. A worker needs 3 to 4 s of CPU to
start again and the store a tenth of a second, so most kills are the store's; how many of which is in the result.

The processes die, the kernel does not: what was written stays written. Power loss is `power_loss.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import redis
from figures import Figure, Result, parser_of, run, say
from whole_service import WholeService, age_s, wait_gone

from decision_service.core.event import APPROVED, BOOKED, DRAWDOWN, REPAYMENT, drawdown_key, unpack
from decision_service.core.limits import RECORD_BYTES
from decision_service.decision_log import answer_in
from decision_service.http_client import Client, ConnectionLost
from decision_service.replay import instant
from decision_service.store.keys import log_key, outbox_key, partition_of, partition_prefix

PARTITIONS: Final = 4
CUSTOMERS: Final = 48
LIMIT: Final = 2_000  # major units: room for twenty draws
AMOUNT: Final = 100
CALLERS: Final = 24
DEADLINES_MS: Final = (20, 50, 200, 1_000)
PAUSE_S: Final = 0.06  # of a caller between two questions: the load leaves room for workers to start
RETRY_S: Final = 0.05
GIVE_UP_S: Final = 120.0  # for one answer, retried: longer than any restart here
STORE_SHARE: Final = 0.75


@dataclass(slots=True)
class Told:
    """What callers were told, and what they settled. Ids are request ids."""

    answers: dict[str, bytes] = field(default_factory=dict)
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    differing: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    odd: Counter[str] = field(default_factory=Counter)  # answers that are neither 200 nor 503
    settled: dict[str, str] = field(default_factory=dict)  # decision id -> booked, cancelled
    repaid: Counter[str] = field(default_factory=Counter)  # customer -> repayments
    unavailable: int = 0  # 503
    disconnected: int = 0
    again: int = 0  # answers that were checked against the first one while it went on

    def take(self, request_id: str, body: bytes) -> None:
        """An answer: the first one stands, any other must be the same bytes."""
        if self.answers.setdefault(request_id, body) != body:
            self.differing.add(request_id)


class Caller:
    """One caller of core banking: asks, retries, asks twice at once, settles. Its connections are its own."""

    def __init__(self, name: str, url: str, told: Told, rng: random.Random, stop: asyncio.Event) -> None:
        self._name, self._told, self._rng, self._stop = name, told, rng, stop
        self._clients = [Client(url, timeout_s=5.0) for _ in range(4)]
        self._numbers = 0

    async def run(self) -> None:
        """Until told to stop; what was begun is brought to its end."""
        rng, told = self._rng, self._told
        while not self._stop.is_set():
            self._numbers += 1
            customer = rng.randrange(CUSTOMERS)
            request_id = f"{self._name}-{self._numbers}"
            body = drawdown(customer, request_id, rng.choice(DEADLINES_MS))
            told.asked[request_id] = body
            copies = rng.choices((1, 2, 4), (80, 15, 5))[0]
            await asyncio.gather(*(self._ask(client, request_id) for client in self._clients[:copies]))
            told.again += copies - 1
            if request_id in told.answers:
                await self._settle(customer, orjson.loads(told.answers[request_id]))
            if told.answers and rng.random() < 0.1:
                await self._ask(self._clients[0], f"{self._name}-{rng.randint(1, self._numbers)}", once=True)
                told.again += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), rng.expovariate(1 / PAUSE_S))
        for client in self._clients:
            client.close()

    async def _ask(self, client: Client, request_id: str, once: bool = False) -> None:
        """Ask until there is an answer, always with the same id."""
        told = self._told
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            status, body = await self._call(client, "/v1/decisions", told.asked[request_id])
            if status == 200:
                told.take(request_id, body)
                return
            if once:
                return
            await asyncio.sleep(RETRY_S * self._rng.uniform(0.5, 1.5))
        told.unanswered.add(request_id)

    async def _settle(self, customer: int, answer: dict[str, Any]) -> None:
        """What core banking says of a drawdown that was paid out: booked and perhaps repaid, cancelled, or nothing."""
        if answer["approved_amount"] <= 0:
            return
        decision_id = answer["decision_id"]
        ending = self._rng.choices(("booked", "cancelled", ""), (45, 45, 10))[0]
        if not ending:
            return
        sent = [event(customer, f"{decision_id}-{ending}", "drawdown", ending) | {"decision_id": decision_id}]
        repays = ending == "booked" and self._rng.random() < 0.9
        if repays:
            sent.append(event(customer, f"{decision_id}-repaid", "repayment", "booked"))
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            status, body = await self._call(self._clients[0], "/v1/events", {"events": sent})
            if status == 200:
                results = [one["status"] for one in orjson.loads(body)["events"]]
                if set(results) <= {"accepted", "duplicate"}:
                    self._told.settled[decision_id] = ending
                    self._told.repaid[f"k-{customer}"] += repays
                else:
                    self._told.odd[f"event {body.decode()}"] += 1
                return
            await asyncio.sleep(RETRY_S)
        self._told.odd["an event that was never taken"] += 1

    async def _call(self, client: Client, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        try:
            reply = await client.call("POST", path, body)
        except ConnectionLost:
            self._told.disconnected += 1
            return 0, b""
        if reply.status == 503:
            self._told.unavailable += 1
        elif reply.status != 200:
            self._told.odd[f"{reply.status} {reply.body[:200].decode(errors='replace')}"] += 1
        return reply.status, reply.body


def drawdown(customer: int, request_id: str, deadline_ms: int) -> dict[str, Any]:
    """A draw of AMOUNT."""
    return {
        "request_id": request_id, "customer_id": f"k-{customer}", "facility_id": f"kf-{customer}", "amount": AMOUNT,
        "currency": "CNY", "channel": "app", "device_id": f"kd-{customer}", "deadline_ms": deadline_ms,
    }  # fmt: skip


def event(customer: int, event_id: str, kind: str, status: str) -> dict[str, Any]:
    """Something that happened on a customer's facility."""
    return {
        "event_id": event_id, "customer_id": f"k-{customer}", "facility_id": f"kf-{customer}", "kind": kind,
        "status": status, "amount": AMOUNT, "currency": "CNY", "occurred_at": instant(time.time_ns() // 1_000_000),
    }  # fmt: skip


async def open_lines(url: str) -> None:
    """Put every customer's facility."""
    now_ms = time.time_ns() // 1_000_000
    async with Client(url) as client:
        for customer in range(CUSTOMERS):
            line = {
                "customer_id": f"k-{customer}", "product": "revolving", "currency": "CNY", "limit": LIMIT,
                "outstanding": 0, "as_of": instant(now_ms - 60_000), "apr": 0.18, "status": "active",
                "granted_at": instant(now_ms - 86_400_000),
            }  # fmt: skip
            reply = await client.call("PUT", f"/v1/facilities/kf-{customer}", line)
            assert reply.status < 300, reply.body


class Killer:
    """Kills a worker or the store at random moments, so many times."""

    def __init__(self, service: WholeService, rng: random.Random, pause_s: float, start_s: float) -> None:
        """`start_s` is how long a worker took to start when nothing disturbed it."""
        self._service, self._rng, self._pause_s, self._start_s = service, rng, pause_s, start_s
        self.kills: Counter[str] = Counter()

    async def run(self, kills: int) -> None:
        """So many kills, each a random time after the one before."""
        for _ in range(kills):
            await asyncio.sleep(min(self._rng.expovariate(1 / self._pause_s), 4 * self._pause_s))
            worker = None if self._rng.random() < STORE_SHARE else self._worker()
            if worker is not None:
                os.kill(worker, signal.SIGKILL)
                self.kills["worker"] += 1
                continue
            pid = await self._store()
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid)
            self.kills["store"] += 1

    def _worker(self) -> int | None:
        """A worker, unless it is the last that serves."""
        pids = self._service.worker_pids()
        serving = [pid for pid in pids if age_s(pid) > self._start_s]
        starting = [pid for pid in pids if pid not in serving]
        candidates = serving + starting if len(serving) > 1 else starting if serving else []
        return self._rng.choice(candidates) if candidates else None

    async def _store(self) -> int:
        """The store's process; waits until the parent has started it again."""
        until = time.monotonic() + GIVE_UP_S
        while (pid := self._service.store_pid()) is None:
            if time.monotonic() > until:
                sys.exit(f"the store is not started again: {self._service.log()}")
            await asyncio.sleep(0.02)
        return pid


@dataclass(slots=True)
class Found:
    """What the checks of all rounds found."""

    acknowledged: int = 0
    replays: int = 0
    lost: int = 0
    different: int = 0
    unanswered: int = 0
    over_lent: int = 0
    worst_over: int = 0
    outbox_missing: int = 0
    outbox_twice: int = 0
    settlement_wrong: int = 0
    unavailable: int = 0
    disconnected: int = 0
    rungs: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def example(self, what: str) -> None:
        """Keep the first few of what is wrong."""
        if len(self.examples) < 20:
            self.examples.append(what)


class Check:
    """One round's check, on the running service with everything quiet."""

    def __init__(self, service: WholeService, told: Told, found: Found) -> None:
        self._service, self._told, self._found = service, told, found
        self._store = service.store()

    async def run(self) -> None:
        """All of it."""
        told, found = self._told, self._found
        found.acknowledged += len(told.answers)
        found.replays += told.again
        found.unanswered += len(told.unanswered)
        found.unavailable += told.unavailable
        found.disconnected += told.disconnected
        found.odd.update(told.odd)
        found.rungs.update(orjson.loads(body)["rung"] for body in told.answers.values())
        await asyncio.to_thread(self._wait_delivered)
        frames = self._frames()
        self._answers_stand(frames)
        await self._asked_again()
        self._outbox(set(frames))
        for customer in range(CUSTOMERS):
            self._walk(customer)
        await self._positions()

    def _wait_delivered(self) -> None:
        """Wait until what was answered without the store has been brought to it."""
        until = time.monotonic() + GIVE_UP_S
        while (left := pending_in(self._service.metrics())) and time.monotonic() < until:
            time.sleep(0.1)
        if left:
            self._found.odd[f"{left:.0f} static answers are never delivered"] += 1

    def _frames(self) -> dict[str, bytes]:
        """Every decision in the store: its id and its frame."""
        frames = {}
        for partition in range(PARTITIONS):
            prefix = partition_prefix(partition) + b"d:"
            names = list(self._store.scan_iter(match=prefix.replace(b"{", b"\\{") + b"*", count=1_000))
            for start in range(0, len(names), 1_000):
                some = names[start : start + 1_000]
                for name, frame in zip(some, self._store.mget(some), strict=True):
                    frames[name[len(prefix) :].decode()] = frame
        return frames

    def _answers_stand(self, frames: dict[str, bytes]) -> None:
        """Each acknowledged answer is in the store, byte for byte."""
        self._found.different += len(self._told.differing)
        for request_id, body in self._told.answers.items():
            frame = frames.get(orjson.loads(body)["decision_id"])
            if frame is None:
                self._found.lost += 1
                self._found.example(f"lost: {request_id} {body.decode()}")
            elif answer_in(frame) != body:
                self._found.different += request_id not in self._told.differing
                self._found.example(f"different: {request_id} {body.decode()} / {answer_in(frame).decode()}")

    async def _asked_again(self) -> None:
        """And the service answers it again."""
        waiting = iter(self._told.answers.items())

        async def some() -> None:
            async with Client(self._service.url) as client:
                for request_id, body in waiting:
                    reply = await client.call("POST", "/v1/decisions", self._told.asked[request_id])
                    if reply.status == 200 and reply.body == body:
                        continue
                    self._found.different += request_id not in self._told.differing
                    self._found.example(f"asked again: {request_id} {reply.status} {reply.body.decode()}")

        await asyncio.gather(*(some() for _ in range(16)))

    def _outbox(self, decision_ids: set[str]) -> None:
        """Every decision is announced exactly once."""
        announced: Counter[str] = Counter()
        for partition in range(PARTITIONS):
            for _, entry in self._store.xrange(outbox_key(partition)):
                if entry[b"kind"] == b"decision":
                    announced[entry[b"id"].decode()] += 1
        missing, twice = decision_ids - set(announced), [d for d, times in announced.items() if times > 1]
        self._found.outbox_missing += len(missing) + len(set(announced) - decision_ids)
        self._found.outbox_twice += len(twice)
        for decision_id in [*missing, *twice][:3]:
            self._found.example(f"outbox: {decision_id} {announced[decision_id]} times")

    def _walk(self, customer: int) -> None:
        """What is lent and reserved never passed the limit, at any prefix of the log; each draw is in it once."""
        name = f"k-{customer}"
        log = self._store.get(log_key(partition_of(name, PARTITIONS), name)) or b""
        reserved: dict[int, int] = {}
        seen: set[int] = set()
        outstanding, highest = 0, 0
        for at in range(RECORD_BYTES, len(log), RECORD_BYTES):
            record = unpack(log[at : at + RECORD_BYTES])
            if record.key in seen:
                self._found.example(f"twice in the log of {name}: {record}")
                self._found.settlement_wrong += 1
            seen.add(record.key)
            if record.kind == REPAYMENT:
                outstanding = max(outstanding - record.amount_minor, 0)
            elif record.kind == DRAWDOWN and record.settles:
                amount = reserved.pop(record.settles, 0)
                outstanding += amount if record.status == BOOKED else 0
            elif record.kind == DRAWDOWN and record.status == APPROVED:
                reserved[record.key] = record.amount_minor
            highest = max(highest, outstanding + sum(reserved.values()))
        over = highest - LIMIT * 100
        if over > 0:
            self._found.over_lent += 1
            self._found.worst_over = max(self._found.worst_over, over)
            self._found.example(f"over-lent: {name} by {over / 100:.2f}")
        self._draws_are_logged(customer, seen)

    def _draws_are_logged(self, customer: int, seen: set[int]) -> None:
        """Every acknowledged decision of a customer left its record in the log."""
        for request_id, body in self._told.answers.items():
            if self._told.asked[request_id]["customer_id"] != f"k-{customer}":
                continue
            decision_id = orjson.loads(body)["decision_id"]
            if drawdown_key(decision_id) not in seen:
                self._found.settlement_wrong += 1
                self._found.example(f"not in the log: {request_id} {body.decode()}")

    async def _positions(self) -> None:
        """What the service says is reserved and outstanding follows from what callers were told and settled."""
        approved: dict[str, set[str]] = {f"k-{customer}": set() for customer in range(CUSTOMERS)}
        for body in self._told.answers.values():
            answer = orjson.loads(body)
            if answer["approved_amount"] > 0:
                approved[answer["customer_id"]].add(answer["decision_id"])
        async with Client(self._service.url) as client:
            for customer in range(CUSTOMERS):
                mine, settled = approved[f"k-{customer}"], self._told.settled
                booked = sum(settled.get(decision_id) == "booked" for decision_id in mine)
                wanted = {
                    "reserved": AMOUNT * sum(decision_id not in settled for decision_id in mine),
                    "outstanding": AMOUNT * (booked - self._told.repaid[f"k-{customer}"]),
                }
                reply = await client.call("GET", f"/v1/facilities/kf-{customer}")
                told = {name: reply.json()["position"][name] for name in wanted}
                if told != wanted:
                    self._found.settlement_wrong += 1
                    self._found.example(f"position of k-{customer}: {told}, by its answers {wanted}")


def pending_in(metrics: str) -> float:
    """How many static answers wait to be delivered, by /metrics; 0 where it does not say."""
    return sum(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("journal_pending"))


async def _round(
    service: WholeService, number: int, kills: int, args: Any, start_s: float
) -> tuple[Told, Counter[str]]:
    """Load and kills, until all that was asked is answered."""
    await open_lines(service.url)
    told, stop = Told(), asyncio.Event()
    killer = Killer(service, random.Random(f"{args.seed} {number}"), args.pause_s, start_s)
    callers = [
        Caller(f"q{number}-{i}", service.url, told, random.Random(f"{args.seed} {number} {i}"), stop)
        for i in range(CALLERS)
    ]
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.run())
        await killer.run(kills)
        stop.set()
    return told, killer.kills


def one_round(directory: Path, number: int, kills: int, args: Any, found: Found) -> None:
    """A fresh service, its kills, the kill of everything, and the check on what starts again."""
    began = time.monotonic()
    service = WholeService(directory, workers=args.workers, partitions=PARTITIONS, log_level="error")
    service.start()
    start_s = time.monotonic() - began
    try:
        told, killed = asyncio.run(_round(service, number, kills - 1, args, start_s))
        service.kill_everything()
        killed["everything"] += 1
        service.start()
        before = found.lost + found.different + found.over_lent
        asyncio.run(Check(service, told, found).run())
    except redis.ConnectionError:
        sys.exit(f"the store is gone during the check: {service.log()}")
    finally:
        service.stop()
    found.kills.update(killed)
    said = "" if found.lost + found.different + found.over_lent == before else " (WRONG)"
    say(f"round {number}: {dict(killed)}, {len(told.answers):,} answers{said}, {time.monotonic() - began:.0f} s")


def measure(result: Result, args: Any) -> None:
    """All rounds."""
    found = Found()
    left, number = args.kills, 0
    while left > 0:
        number += 1
        kills = min(left, args.kills_per_round)
        with tempfile.TemporaryDirectory() as name:
            one_round(Path(name), number, kills, args, found)
        left -= kills
    result.figures += [
        Figure("kill -9 of workers and store under load", sum(found.kills.values()), args.kills, "at least", "kills"),
        Figure("... acknowledged decisions lost", found.lost, 0),
        Figure("... answered twice differently", found.different, 0),
        Figure("... facilities over-lent at any moment", found.over_lent, 0),
        Figure("... decisions not in the outbox exactly once", found.outbox_missing + found.outbox_twice, 0),
        Figure("... logs or balances that disagree with the answers", found.settlement_wrong, 0),
        Figure("... requests never answered, or oddly", found.unanswered + sum(found.odd.values()), 0),
        Figure("... acknowledged decisions checked", found.acknowledged, sense="told"),
    ]
    result.notes |= {
        "kills": dict(found.kills), "workers": args.workers, "rungs": dict(found.rungs),
        "asked_again_under_load": found.replays, "answers_503": found.unavailable, "disconnects": found.disconnected,
        "odd": dict(found.odd.most_common(10)), "wrong": found.examples,
    }  # fmt: skip


def main() -> int:
    """Parse options, run, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, help="how many (1,000, or 30 with --quick)")
    parser.add_argument("--kills-per-round", type=int, default=100, help="after so many the check, and a new store")
    parser.add_argument("--pause-s", type=float, default=0.9, help="mean time between kills")
    parser.add_argument("--workers", type=int, help="worker processes (4, or 2 with --quick)")
    args = parser.parse_args()
    args.kills = args.kills or (30 if args.quick else 1_000)
    args.workers = args.workers or (2 if args.quick else 4)
    return run("kills", args, lambda result: measure(result, args))


if __name__ == "__main__":
    sys.exit(main())

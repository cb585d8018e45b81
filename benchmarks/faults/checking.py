"""What is checked after a fault: everything callers were told, against the store's own bytes, the customers' logs, the
outbox, and the service asked again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson
from callers import AMOUNT, CUSTOMERS, GIVE_UP_S, LIMIT, PARTITIONS, RETRY_S, Told
from whole_service import WholeService

from decision_service.core.event import APPROVED, BOOKED, DRAWDOWN, REPAYMENT, drawdown_key, unpack
from decision_service.core.limits import RECORD_BYTES
from decision_service.decision_log import answer_in
from decision_service.http_client import Client
from decision_service.store.keys import log_key, outbox_key, partition_of, partition_prefix


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

    def __init__(self, service: WholeService, told: Told, found: Found, *, settled: bool = True) -> None:
        """`settled`: whether callers brought everything to its end, so that balances follow from what they know."""
        self._service, self._told, self._found, self._settled = service, told, found, settled
        self._store: Any = service.store()  # the client's annotations know every kind of reply but ours

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
        frames = frames_in(self._store)
        self._answers_stand(frames)
        await self._asked_again()
        self._outbox(set(frames))
        for customer in range(CUSTOMERS):
            self._walk(customer)
        if self._settled:
            await self._positions()

    def _wait_delivered(self) -> None:
        if left := wait_delivered(self._service, GIVE_UP_S):
            self._found.odd[f"{left} static answers are never delivered"] += 1

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
                    until = time.monotonic() + GIVE_UP_S
                    reply = await client.call("POST", "/v1/decisions", self._told.asked[request_id])
                    while reply.status == 503 and time.monotonic() < until:  # its deadline may be short
                        await asyncio.sleep(RETRY_S)
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
    found = re.search(r"^decision_service_journal_pending (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def frames_in(store: Any) -> dict[str, bytes]:
    """Every decision in the store, given a client of it: its id and its frame."""
    frames: dict[str, bytes] = {}
    for partition in range(PARTITIONS):
        prefix = partition_prefix(partition) + b"d:"
        names = list(store.scan_iter(match=prefix.replace(b"{", b"\\{") + b"*", count=1_000))
        for start in range(0, len(names), 1_000):
            some = names[start : start + 1_000]
            for name, frame in zip(some, store.mget(some), strict=True):
                frames[name[len(prefix) :].decode()] = frame
    return frames


def wait_delivered(service: WholeService, timeout_s: float) -> int:
    """Wait until what was answered without the store has been brought to it; how many are not by then."""
    until = time.monotonic() + timeout_s
    while (left := pending_in(service.metrics())) and time.monotonic() < until:
        time.sleep(0.1)
    return int(left)

"""Core banking as it should behave, against a real service: it asks, remembers what it was told, and asks again.

    bank = Bank(url)
    await bank.open_lines()
    said = await bank.draw("r-1")        # one request; remembered
    await bank.judge()                   # after the fault: invariants over everything that was ever said

`judge` asks every request again until it has an answer, and then sees that

    I1  one request has one answer for ever: whatever was told is what is told now, byte for byte
    I2  what is reserved is what was approved, and never more than the limit
    I7  whatever was decided without the store, `static`, approved nothing
    I8  every answer came within its deadline and PATIENCE_S (which only tells a busy machine from one that hangs)
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx

from small_policy import write_rules

PATIENCE_S: Final = 15.0  # on top of a deadline; a busy machine is slow, a service that hangs takes longer
RECOVERY_S: Final = 40.0
AMOUNT: Final = 100
LIMIT: Final = 100_000

# What a 503 may say while the store is hurt: all of them mean "not decided, or not known to be: ask again".
NOT_NOW: Final = {
    "outcome-unknown", "deadline-exceeded", "store-unavailable", "store-unsafe", "store-error", "too-busy",
}  # fmt: skip

RULES: Final = """
rule_set: drawdown
scene: drawdown
rules:
  - id: over_limit
    when: request.amount > facility.available
    on_null: hold
    then: {hold: block}
    reason: RC04
  - id: otherwise
    when: request.amount > 0
    on_null: skip
    then: approve
fallback: {static: {hold: review, reason: RC90}}
"""


def bank_rules(folder: Path) -> Path:
    """A rules folder that approves whatever the line has room for."""
    return write_rules(folder, RULES)


@dataclass(frozen=True, slots=True)
class Said:
    """What one call was told. `answer` is the decision, empty without one; `code` says why there is none."""

    status: int
    body: bytes
    answer: dict[str, Any]
    code: str
    replayed: bool
    took_s: float

    @property
    def rung(self) -> str:
        """The rung of the answer; empty without one."""
        return str(self.answer.get("rung", ""))


class Bank:
    """A caller with a memory. It has customers and request ids of its own: several may share one service."""

    def __init__(self, url: str, name: str = "", *, customers: int = 1, limit: int = LIMIT) -> None:
        self.url = url
        self.name = name
        self.customers = customers
        self.limit = limit
        self.told: dict[str, bytes] = {}  # request id -> the first answer there was
        self.asked: dict[str, dict[str, Any]] = {}  # request id -> body, of every request ever made
        self.undone: set[str] = set()  # request ids whose drawdown was cancelled: they reserve nothing
        self.instants: dict[str, str] = {}  # of events by their id: told again they are the same
        self.late: list[str] = []
        self._client = httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=300))

    async def __aenter__(self) -> Bank:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    def customer(self, n: int) -> str:
        """The id of the n-th customer."""
        return f"c-{self.name}{n}"

    def facility(self, n: int) -> str:
        """The id of their line."""
        return f"f-{self.name}{n}"

    async def open_lines(self) -> None:
        """Put the line of every customer."""
        for n in range(self.customers):
            line = {
                "customer_id": self.customer(n), "product": "revolver", "currency": "CNY", "limit": self.limit,
                "outstanding": 0, "as_of": "2026-01-01T00:00:00Z", "apr": 0.18, "status": "active",
                "granted_at": "2025-01-01T00:00:00Z",
            }  # fmt: skip
            reply = await self._client.put(f"/v1/facilities/{self.facility(n)}", json=line)
            assert reply.status_code == 200, reply.text

    async def draw(self, request_id: str, *, customer: int = 0, amount: float = AMOUNT, deadline_ms: int = 400) -> Said:
        """Ask for a drawdown, and remember what is told."""
        body = {
            "request_id": request_id, "customer_id": self.customer(customer), "facility_id": self.facility(customer),
            "amount": amount, "currency": "CNY", "deadline_ms": deadline_ms,
        }  # fmt: skip
        self.asked[request_id] = body
        return await self._ask(body)

    async def draws(self, prefix: str, count: int, *, deadline_ms: int = 400) -> list[Said]:
        """So many draws at once, of all customers in turn."""
        return await asyncio.gather(
            *(self.draw(f"{prefix}-{n}", customer=n % self.customers, deadline_ms=deadline_ms) for n in range(count))
        )

    async def again(self, request_id: str, *, deadline_ms: int = 2_000) -> Said:
        """The same request again, with more time."""
        return await self._ask({**self.asked[request_id], "deadline_ms": deadline_ms})

    async def _ask(self, body: dict[str, Any]) -> Said:
        began = time.perf_counter()
        reply = await self._client.post("/v1/decisions", json=body)
        took_s = time.perf_counter() - began
        assert reply.status_code in (200, 503), reply.text
        told: dict[str, Any] = json.loads(reply.content)
        request_id: str = body["request_id"]
        if took_s > body["deadline_ms"] / 1000 + PATIENCE_S:
            self.late.append(f"{request_id} after {took_s:.1f} s")
        if reply.status_code == 503:
            code: str = told["type"].rpartition(":")[2]
            assert code in NOT_NOW, told
            return Said(503, reply.content, {}, code, False, took_s)
        if told["rung"] == "static":
            assert (told["decision"], told["approved_amount"]) == ("hold", 0), told
            assert [reason["code"] for reason in told["reasons"]] == ["RC90"]
        first = self.told.setdefault(request_id, reply.content)
        assert first == reply.content, f"{request_id} was answered twice differently"
        replayed = reply.headers.get("idempotency-replayed") == "true"
        return Said(200, reply.content, told, "", replayed, took_s)

    async def event(self, event_id: str, status: str, decision_id: str, *, customer: int = 0) -> str:
        """Tell what became of a drawdown; the status of the event."""
        instant = self.instants.setdefault(event_id, datetime.now(UTC).isoformat())
        event = {
            "event_id": event_id, "customer_id": self.customer(customer), "facility_id": self.facility(customer),
            "kind": "drawdown", "status": status, "occurred_at": instant,
            "decision_id": decision_id,
        }  # fmt: skip
        reply = await self._client.post("/v1/events", json={"events": [event]})
        assert reply.status_code == 200, reply.text
        told: str = reply.json()["events"][0]["status"]
        return told

    async def position(self, customer: int = 0) -> dict[str, Any]:
        """Reserved, outstanding and available of a line."""
        reply = await self._client.get(f"/v1/facilities/{self.facility(customer)}")
        assert reply.status_code == 200, reply.text
        told: dict[str, Any] = reply.json()["position"]
        return told

    async def decision(self, decision_id: str) -> dict[str, Any] | None:
        """A stored decision with its trace; None if the store does not have it."""
        reply = await self._client.get(f"/v1/decisions/{decision_id}")
        assert reply.status_code in (200, 404), reply.text
        told: dict[str, Any] | None = reply.json() if reply.status_code == 200 else None
        return told

    async def ready(self) -> tuple[bool, str]:
        """Whether the service says it is ready, and what it says."""
        reply = await self._client.get("/readyz")
        return reply.status_code == 200, reply.text

    async def recovered(self, prefix: str) -> Said:
        """The first full answer to a new request, and ready again; AssertionError if there is none in RECOVERY_S."""
        until = time.monotonic() + RECOVERY_S
        n = 0
        while time.monotonic() < until:
            n += 1
            said = await self.draw(f"{prefix}-new-{n}", deadline_ms=1_000)
            ready, _ = await self.ready()
            if said.rung == "full" and ready:
                return said
            await asyncio.sleep(0.05)
        raise AssertionError(f"not recovered: {said}, {await self.ready()}")

    async def delivered(self, request_id: str) -> None:
        """Wait until the store has the decision on a request, as it was told."""
        answer = json.loads(self.told[request_id])
        until = time.monotonic() + RECOVERY_S
        while (stored := await self.decision(answer["decision_id"])) is None:
            assert time.monotonic() < until, f"{request_id} is not in the store"
            await asyncio.sleep(0.05)
        assert {name: stored[name] for name in answer} == answer

    async def judge(self) -> None:
        """The invariants over everything that was asked. The fault is healed."""
        assert self.late == [], self.late
        for request_id in self.asked:
            until = time.monotonic() + RECOVERY_S
            while (said := await self.again(request_id)).status != 200:
                assert time.monotonic() < until, f"{request_id} has no answer: {said.code}"
                await asyncio.sleep(0.05)
            await self.delivered(request_id)
        for n in range(self.customers):
            mine = [
                r for r, body in self.asked.items() if body["customer_id"] == self.customer(n) and r not in self.undone
            ]
            answers = [json.loads(self.told[request_id]) for request_id in mine]
            approved = sum(answer["approved_amount"] for answer in answers)
            assert (await self.position(n))["reserved"] == approved <= self.limit

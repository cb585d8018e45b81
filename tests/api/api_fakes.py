"""A desk whose service is written by hand: it remembers what it was asked and answers what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from decision_service.answer import Answer
from decision_service.api.access import Access
from decision_service.api.gate import Gate
from decision_service.api.handlers import Desk
from decision_service.api.routes import LABELS
from decision_service.core.errors import NotFound, RequestIdReused
from decision_service.core.facility import Facility, Position
from decision_service.core.request import DecisionRequest
from decision_service.core.rules.attributes import AttributeSpec
from decision_service.core.vocabulary import Kind, NameSpec
from decision_service.customers import FacilityView
from decision_service.feature_question import FeatureQuestion
from decision_service.judge import EventOutcome
from decision_service.kept import Kept
from decision_service.settings import Settings
from decision_service.telemetry import Meters

NOW_MS = 1_795_201_929_000  # 2026-11-20T19:12:09Z
DRAWDOWN: dict[str, Any] = {
    "request_id": "r-1",
    "customer_id": "c-1",
    "facility_id": "f-1",
    "amount": 4990.00,
    "currency": "CNY",
    "occurred_at": "2026-11-21T03:12:09+08:00",
    "channel": "app",
    "geo": {"lat": 31.23, "lon": 121.47},
    "attributes": {"inquiries": 2},
}
FACILITY: dict[str, Any] = {
    "customer_id": "c-1",
    "product": "revolving",
    "currency": "CNY",
    "limit": 50000,
    "outstanding": "12000.00",
    "as_of": "2026-11-20T18:00:00+08:00",
    "apr": 0.18,
    "status": "active",
    "granted_at": "2025-03-01T00:00:00Z",
}
EVENT: dict[str, Any] = {
    "event_id": "e-1",
    "customer_id": "c-1",
    "kind": "repayment",
    "amount": 100,
    "currency": "CNY",
    "occurred_at": "2026-11-05T09:30:00+08:00",
}


@dataclass
class FakeDecisions:
    """Answers every drawdown, the same one twice with the first answer; `raises` or `waits_for` come first."""

    asked: list[DecisionRequest] = field(default_factory=list)
    budgets_ms: list[int] = field(default_factory=list)
    raises: BaseException | None = None
    waits_for: asyncio.Event | None = None
    now_ms: Callable[[], int] = lambda: NOW_MS
    filler: bytes = b""  # behind each answer

    async def decide(self, request: DecisionRequest, budget_ms: int, arrived: float) -> Answer:
        del arrived
        if self.waits_for is not None:
            await self.waits_for.wait()
        if self.raises is not None:
            raise self.raises
        before = next((a for a in self.asked if a.request_id == request.request_id), None)
        if before is not None and before.fingerprint != request.fingerprint:
            raise RequestIdReused("already used with other content")
        self.asked.append(request)
        self.budgets_ms.append(budget_ms)
        return Answer(self._body(request) + self.filler, before is not None, "0" * 36, "approve", "full", request.scene)

    async def preview(self, request: DecisionRequest, arrived: float) -> bytes:
        del arrived
        return orjson.dumps({"request_id": request.request_id, "trace": {}})

    @property
    def kept(self) -> FakeDecisions:
        return self

    async def decision(self, decision_id: str) -> Kept:
        raise NotFound("no such decision")

    @staticmethod
    def _body(request: DecisionRequest) -> bytes:
        return orjson.dumps({"request_id": request.request_id, "approved_amount": request.amount_minor / 100})


@dataclass
class FakeFeatures:
    """Remembers what was asked and answers nothing of interest."""

    asked: list[Any]

    async def values(self, question: FeatureQuestion, names: list[str] | None) -> dict[str, Any]:
        self.asked.append((question, names))
        return {"customer_id": question.customer_id, "at": "2026-11-20T19:12:09Z", "policy_id": "p", "features": {}}

    async def explained(self, question: FeatureQuestion, name: str, *, deep: bool) -> dict[str, Any]:
        self.asked.append((question, name, deep))
        return {"name": name}

    async def page(self) -> bytes:
        return b"<!doctype html>"


@dataclass
class FakeCustomers:
    """Remembers facilities, events, attributes and list values."""

    facilities: dict[str, Facility] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    listed: set[tuple[str, str]] = field(default_factory=set)
    asked_features: list[Any] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    raises: BaseException | None = None
    known_attributes: dict[str, AttributeSpec] = field(
        default_factory=lambda: {
            "inquiries": AttributeSpec(NameSpec("inquiries", Kind.NUMBER), "bureau", 1),
            "segment": AttributeSpec(NameSpec("segment", Kind.STRING), "crm", 1),
        }
    )

    async def record_events(self, events: Any) -> dict[int, EventOutcome]:
        self.events += events
        return {posted.index: EventOutcome("accepted") for posted in events}

    async def put_facility(self, facility: Facility) -> FacilityView:
        self.facilities[facility.facility_id] = facility
        return await self.facility(facility.facility_id)

    async def facility(self, facility_id: str) -> FacilityView:
        if facility_id not in self.facilities:
            raise NotFound("no such facility")
        return FacilityView(self.facilities[facility_id], Position(1_200_000, 0, 3_800_000))

    async def put_attributes(self, customer_id: str, attributes: Any) -> None:
        self.attributes[customer_id] = attributes

    @property
    def features(self) -> FakeFeatures:
        return FakeFeatures(self.asked_features)

    async def on_list(self, name: str, value: str) -> bool:
        return (name, value) in self.listed

    async def change_list(self, name: str, value: str, present: bool, by: str) -> bool:
        del by
        before = len(self.listed)
        (self.listed.add if present else self.listed.discard)((name, value))
        return len(self.listed) != before

    async def policy_status(self) -> dict[str, Any]:
        if self.raises is not None:
            raise self.raises
        return {"id": "p", "problem": None}

    async def check_policy(self, files: Any) -> list[Any]:
        del files
        return []

    async def problems(self) -> list[str]:
        return self.troubles


class FakeAccesses:
    """Remembers who was told what."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str | None, str, str]] = []

    def put(
        self, principal: str, call: str, customer_id: str | None, decision_id: str = "", request_id: str = ""
    ) -> None:
        self.told.append((principal, call, customer_id, decision_id, request_id))


@dataclass
class Office:
    """A gate over fakes, with a client that talks to it in process."""

    gate: Gate
    decisions: FakeDecisions
    customers: FakeCustomers
    meters: Meters
    client: httpx.AsyncClient
    accesses: FakeAccesses


def settings_of(**values: Any) -> Settings:
    """Settings that no environment reaches."""
    return Settings(**values)


@asynccontextmanager
async def office(directory: Path, access: Access | None = None, **values: Any) -> AsyncIterator[Office]:
    """An open office."""
    decisions, customers, accesses = FakeDecisions(), FakeCustomers(), FakeAccesses()
    meters = Meters(directory, LABELS)
    settings = settings_of(**values)

    @asynccontextmanager
    async def open_desk() -> AsyncIterator[Desk]:
        yield Desk(
            decisions, customers, settings, meters, decisions.now_ms, accesses=accesses  # type: ignore[arg-type]
        )  # fmt: skip

    gate = Gate(settings, access or Access(), meters, open_desk)
    transport = httpx.ASGITransport(gate, client=("127.0.0.1", 5))  # type: ignore[arg-type]
    async with running(gate), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield Office(gate, decisions, customers, meters, client, accesses)
    meters.close()


@asynccontextmanager
async def running(gate: Gate) -> AsyncIterator[None]:
    """The gate's lifespan."""
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outbox: asyncio.Queue[Any] = asyncio.Queue()
    life = asyncio.create_task(gate({"type": "lifespan"}, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    assert (await outbox.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        assert (await outbox.get())["type"] == "lifespan.shutdown.complete"
        await life

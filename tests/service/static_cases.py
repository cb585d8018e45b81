"""What tests of static answers share: a policy with a small amount, a service with its journal, on any store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
from conftest_service import LINE, RULES, Clock, ask, write_policy

from decision_service.answer import Answer
from decision_service.core.errors import StoreError
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.request import DecisionRequest
from decision_service.customers import Customers
from decision_service.journal import Journal, SentTable
from decision_service.journal.delivery import Deliverer
from decision_service.journal.local import LocalJournal
from decision_service.journal.sent import SentTables
from decision_service.linker import Linker
from decision_service.policies.active_policy import ActivePolicy
from decision_service.recording import Retention
from decision_service.service import DecisionService
from decision_service.store import Store
from decision_service.telemetry import Meters
from decision_service.telemetry.meters import JOURNAL_RESULTS
from decision_service.warm import warm

PARTITIONS = 16
BUDGET_MS = 1_000
STATIC_RULES = RULES.replace("reason: RC90}", "reason: RC90}, small_amount: 500")


@dataclass(frozen=True, slots=True)
class Host:
    """A started service with its journal."""

    store: Store
    decisions: DecisionService
    customers: Customers
    meters: Meters
    clock: Clock
    journal: Journal
    sent: SentTable
    deliverer: Deliverer

    async def decide(self, request: DecisionRequest, budget_ms: int = BUDGET_MS) -> Answer:
        """One decision."""
        return await self.decisions.decide(request, budget_ms, perf_counter())

    def counted(self, result: str) -> float:
        """How many static answers became this."""
        at = self.meters.start["journal"]
        totals = self.meters.totals()
        return float(totals.cells[at + JOURNAL_RESULTS.index(result)])


def clean(request_id: str, amount: int = 100_00, **more: Any) -> DecisionRequest:
    """A drawdown with a clean snapshot of a moment ago."""
    clock = Clock()
    snapshot = replace(LINE, as_of_ms=clock.ms - 1_000, days_past_due=0)
    return ask(request_id, amount, **{"facility": snapshot, **more})


def said(answer: Answer) -> dict[str, Any]:
    """The fields of an answer."""
    told: dict[str, Any] = orjson.loads(answer.body)
    return told


async def start_host(
    folder: Path, store: Store, journal: Journal | None = None, sent: SentTable | None = None,
    clock: Clock | None = None,
) -> tuple[Host, Callable[[], Awaitable[None]]]:  # fmt: skip
    """A service with the small policy and a journal in `folder`; and what ends it, but for the store."""
    for name in ("meters", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rules = folder / "rules"
    if not rules.exists():
        write_policy(rules, STATIC_RULES)
    clock = clock or Clock()
    meters = Meters(folder / "meters")
    active = ActivePolicy(rules, folder / "models", "Asia/Shanghai", 24 * HOUR_MS, store, clock, lambda *_: None)
    await active.start()
    warm(active.policy)
    retention = Retention(400 * DAY_MS, 4_096, 256)
    linker = Linker(store, meters, clock, PARTITIONS, 1_024, 400 * DAY_MS)
    decisions = DecisionService(store, active, meters, PARTITIONS, retention, linker, 1_000, clock)
    own = None
    if journal is None:
        sent = own = SentTables(folder)
        journal = LocalJournal(folder)
    assert sent is not None
    delivery = decisions.keep_journal(journal, sent)
    deliverer = Deliverer(delivery, journal)
    host = Host(
        store, decisions, Customers(store, active, retention, linker, clock), meters, clock, journal, sent, deliverer
    )

    async def end() -> None:
        await deliverer.close()
        await active.close()
        await linker.close()
        if own is not None:
            await journal.close()
            own.close()
        meters.close()

    return host, end


async def delivered(host: Host) -> None:
    """Wait until the journal is empty, delivering while the store takes it."""
    for _ in range(400):
        try:
            await host.deliverer.round()
        except StoreError:
            await asyncio.sleep(0.02)
        if not host.journal.pending:
            return
    raise AssertionError("the journal was never delivered")

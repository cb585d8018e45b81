"""A small policy on a memory store: everything of the service but HTTP, LightGBM and a server."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.request import DecisionRequest
from decision_service.customers import Customers
from decision_service.linker import Linker
from decision_service.policies.active_policy import ActivePolicy
from decision_service.recording import Retention
from decision_service.service import DecisionService
from decision_service.store import Store
from decision_service.store.memory import MemoryStore
from decision_service.telemetry import Meters
from decision_service.warm import warm
from small_policy import FEATURES, write_rules

T0_MS = 1_795_000_000_000  # 2026-11-18
LINE = Facility("f-1", "c-1", "revolver", "CNY", 1_000_00, 0, T0_MS - DAY_MS, 1_800, "active", T0_MS - 90 * DAY_MS)

RULES = """
rule_set: drawdown
scene: drawdown
constants:
  burst: {value: 1000, unit: n}
rules:
  - id: on_list
    when: request.customer_id in list.block
    on_null: hold
    then: {hold: block}
    reason: RC01
  - id: over_limit
    when: request.amount > facility.available
    on_null: hold
    then: {hold: block}
    reason: RC04
  - id: burst
    when: vel_prior_10m >= burst
    on_null: skip
    then: {hold: step_up}
    reason: RC11
  - id: otherwise
    when: request.amount > 0
    on_null: skip
    then: approve
fallback: {static: {hold: review, reason: RC90}}
"""


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = T0_MS

    def __call__(self) -> int:
        return self.ms


def ask(request_id: str, amount: int = 100_00, **more: Any) -> DecisionRequest:
    """A drawdown request on the line; its fingerprint digests everything but the body."""
    asked = DecisionRequest(
        request_id, "c-1", "f-1", amount, "CNY", None, None, None, None, None, None, None, None, b"", b"{}"
    )
    asked = replace(asked, **more)
    return replace(asked, fingerprint=hashlib.blake2b(repr(asked).encode(), digest_size=16).digest())


def write_policy(folder: Path, rules: str = RULES, features: str = FEATURES) -> Path:
    """A rules folder with the small policy."""
    return write_rules(folder, rules, features)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The small policy on disk."""
    return write_policy(tmp_path / "rules")


@pytest.fixture
def clock() -> Clock:
    """The service's clock."""
    return Clock()


@dataclass(frozen=True, slots=True)
class Started:
    """A started service and the store below it."""

    store: Store
    decisions: DecisionService
    customers: Customers
    active: ActivePolicy
    linker: Linker
    meters: Meters


Run = Callable[..., Any]


@pytest.fixture
def run(rules: Path, clock: Clock, tmp_path: Path) -> Run:
    """Run a coroutine function with a started service on a memory store (or on `store`)."""

    def with_service(test: Callable[[Started], Awaitable[Any]], store: Store | None = None) -> Any:
        async def go() -> Any:
            meters = Meters(tmp_path / "meters")
            used = store or MemoryStore(partitions=16)
            active = ActivePolicy(
                rules, tmp_path / "models", "Asia/Shanghai", 24 * HOUR_MS, used, clock, lambda *_: None
            )
            await active.start()
            warm(active.policy)  # on a fresh machine the kernel is compiled here and not inside a deadline
            try:
                retention = Retention(400 * DAY_MS, 4_096, 256)
                linker = Linker(used, meters, clock, 16, 1_024, 400 * DAY_MS)
                decisions = DecisionService(used, active, meters, 16, retention, linker, 1_000, clock)
                customers = Customers(used, active, retention, linker, clock)
                return await test(Started(used, decisions, customers, active, linker, meters))
            finally:
                await active.close()
                await used.close()
                meters.close()

        return asyncio.run(go())

    (tmp_path / "meters").mkdir()
    (tmp_path / "models").mkdir()
    return with_service


async def decide(service: Started, request: DecisionRequest, budget_ms: int = 2_000) -> Any:
    """One decision with a generous budget."""
    return await service.decisions.decide(request, budget_ms, time.perf_counter())

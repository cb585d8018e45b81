"""A small policy whose scorecard scores attributes, and drawdowns of customers who have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scorecard_maker import NAMES

from decision_service.core.decide import decide
from decision_service.core.decision import Decision
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.policies.active_policy import ActivePolicy
from decision_service.store import Store

T0_MS = 1_795_000_000_000  # 2026-11-18
ATTRIBUTES = "attributes:\n" + "".join(
    f'  {name}: {{type: number, unit: n, source: {source}, ttl: 35d, meaning: "m", meaning_zh: "m"}}\n'
    for name, source in zip(NAMES, ("core", "core", "bureau", "core", "core"), strict=True)
)
RULES = """
rule_set: drawdown
scene: drawdown
rules:
  - id: over_limit
    when: request.amount > facility.available
    on_null: hold
    then: {hold: block}
    reason: RC04
  - id: low_points
    when: behaviour.points < 500
    on_null: hold
    then: {hold: review}
    reason: RC30
  - id: otherwise
    when: request.amount > 0
    on_null: skip
    then: approve
fallback: {static: {hold: review, reason: RC90}}
"""


def write_rules(folder: Path, label: str = "one", rules: str = RULES) -> Path:
    """A rules folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "attributes.yaml").write_text(ATTRIBUTES, encoding="utf-8")
    (folder / "drawdown.yaml").write_text(rules, encoding="utf-8")
    (folder / "policy.yaml").write_text(f'label: "{label}"\n', encoding="utf-8")
    return folder


def attributes_of(row: npt.NDArray[np.float64]) -> dict[str, float]:
    """A row as attributes; what is null is not there."""
    return {name: float(value) for name, value in zip(NAMES, row, strict=True) if not np.isnan(value)}


def drawn(active: ActivePolicy, number: int, row: npt.NDArray[np.float64], t_ms: int = T0_MS) -> Decision:
    """Customer `number` draws: decided by the policy in force, and kept as the service does."""
    customer = f"c-{number}"
    line = Facility("f", customer, "revolver", "CNY", 1_000_00, 0, t_ms - DAY_MS, 1_800, "active", t_ms - 90 * DAY_MS)
    request = DecisionRequest(
        f"r-{number}", customer, "f", 10_00, "CNY", None, None, None, None, None, None, None, None, bytes(16), b"{}",
        attributes=attributes_of(row),
    )  # fmt: skip
    state = CustomerState(facilities={"f": line})
    decision = decide(request, state, active.current, t_ms, f"d-{number}")
    active.keep(request, state, decision)
    return decision


def draws(active: ActivePolicy, numbers: Iterable[int], rows: npt.NDArray[np.float64]) -> list[Decision]:
    """Each customer draws once."""
    return [drawn(active, number, rows[number]) for number in numbers]


class Worker(ActivePolicy):
    """A worker that counts the rollbacks it led."""

    def __init__(self, host: Path, store: Store, name: str = "w", now_ms: int = T0_MS, **more: Any) -> None:
        self.rollbacks = 0
        super().__init__(
            host / "rules", host / "models", "Asia/Shanghai", 24 * HOUR_MS, store, lambda: now_ms, lambda *_: None,
            on_rollback=self._count, **more,
        )  # fmt: skip
        self.worker_id = name

    def _count(self) -> None:
        self.rollbacks += 1


@asynccontextmanager
async def running(host: Path, store: Store, name: str = "w", **more: Any) -> AsyncIterator[Worker]:
    """A started worker that looks at its disk when it is asked to."""
    worker = Worker(host, store, name, **more)
    await worker.start()
    await worker.stop_watching()
    try:
        yield worker
    finally:
        await worker.close()

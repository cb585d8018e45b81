"""A service's decisions without its process: real policy, real scorecard, real counting, any store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import orjson
from watched_service import Asked

from decision_service.afterwards import Afterwards
from decision_service.api.parse import Clock, parse_decision
from decision_service.core.limits import DAY_MS, PARTITIONS
from decision_service.linker import Linker
from decision_service.policies.active_policy import ActivePolicy
from decision_service.recording import Retention
from decision_service.scorecards.shadows import ShadowScoring
from decision_service.service import DecisionService
from decision_service.store import Store
from decision_service.telemetry import Meters
from decision_service.watch.counting import DriftCounting
from decision_service.watch.gauges import ScorecardGauges

AGE_MAX_MS = 400 * DAY_MS


class Counted:
    """One worker. `now_ms` is its clock, to be moved."""

    def __init__(
        self, decisions: DecisionService, counting: DriftCounting, afterwards: Afterwards, gauges: ScorecardGauges
    ) -> None:  # fmt: skip
        self.counting = counting
        self.gauges = gauges
        self._decisions = decisions
        self._afterwards = afterwards

    async def decide(self, requests: Sequence[Asked], now_ms: int) -> None:
        """Decide all of them at an instant, and count them."""
        self._decisions.now_ms = lambda: now_ms
        for one in requests:
            request, _ = parse_decision(orjson.dumps(one.body), Clock(now_ms, 0, AGE_MAX_MS))
            await self._decisions.decide(request, 5_000, perf_counter())
        await self._afterwards.flush()


@asynccontextmanager
async def counted(store: Store, rules: Path, models: Path, folder: Path, now_ms: int) -> AsyncIterator[Counted]:
    """A worker on a store that has another owner; what it counted is flushed at its end."""
    meters = _meters(folder)
    active = ActivePolicy(rules, models, "Asia/Shanghai", 3_600_000, store, lambda: now_ms, lambda *_: None)
    afterwards = Afterwards(meters)
    counting = DriftCounting(store, meters)
    afterwards.register("drift", counting.take)
    afterwards.register("shadows", ShadowScoring(store, counting.take_shadows).take)
    gauges = ScorecardGauges(store, meters, lambda: active.policy, lambda: now_ms, 7)
    await active.start()
    try:
        linker = Linker(store, meters, lambda: now_ms, PARTITIONS, 64, DAY_MS)
        retention = Retention(400 * DAY_MS, 4_096, 256)
        decisions = DecisionService(
            store, active, meters, PARTITIONS, retention, linker, 1_000, lambda: now_ms, afterwards
        )  # fmt: skip
        yield Counted(decisions, counting, afterwards, gauges)
    finally:
        await afterwards.close()
        await counting.close()
        await active.close()
        meters.close()


def _meters(folder: Path) -> Meters:
    folder.mkdir(parents=True, exist_ok=True)
    return Meters(folder)

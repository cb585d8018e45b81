"""A gate over the real service on a store in memory, with keys, and a client in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from api_fakes import running

from decision_service.api.access import Access
from decision_service.api.gate import Gate
from decision_service.api.handlers import Desk
from decision_service.api.keys import KeyFile
from decision_service.api.rate import preview_limit
from decision_service.api.routes import LABELS
from decision_service.bootstrap import running_service
from decision_service.settings import Settings
from decision_service.telemetry import Meters
from small_policy import write_rules

RULES = """
rule_set: drawdown
scene: drawdown
constants:
  retries_max: {value: 3, unit: n}
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
  - id: probing
    when: vel_decline_retry >= retries_max
    on_null: skip
    then: {hold: review}
    reason: RC11
  - id: hidden_threshold
    when: request.amount > 6173
    on_null: skip
    then: {hold: review}
    reason: RC12
  - id: otherwise
    when: request.amount > 0
    on_null: skip
    then: approve
fallback: {static: {hold: review, reason: RC90}}
"""
FEATURES = """
segments:
  draw: kind == "drawdown"
  draw_declined: kind == "drawdown" and declined
features:
  vel_decline_retry: {agg: smaller_after, of: draw, after: draw_declined, incl: true, window: 24h, null: "-", unit: n,
                      en: "smaller requests after one that was declined", zh: "被拒后降额重试次数"}
  vel_prior: {agg: count, of: draw, windows: [10m], null: Z, unit: n, en: "requests", zh: "请求数"}
"""


@asynccontextmanager
async def real_office(directory: Path, keys: Path | None, **values: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An open office; calls come from 127.0.0.1."""
    rules = directory / "rules"
    if not rules.exists():
        write_rules(rules, RULES, FEATURES)
        (directory / "models").mkdir()
    settings = Settings(
        redis_url="memory://", rules=rules, models=directory / "models", data_dir=directory / "data", keys_file=keys,
        **values,
    )  # fmt: skip
    meters = Meters(directory, LABELS)

    @asynccontextmanager
    async def open_desk() -> AsyncIterator[Desk]:
        async with running_service(settings, meters) as service:
            previews = preview_limit(settings.previews_per_hour, settings.authenticated)
            yield Desk(
                service.decisions, service.customers, settings, meters, service.decisions.now_ms, previews=previews
            )

    gate = Gate(settings, Access(None if keys is None else KeyFile(keys)), meters, open_desk)
    transport = httpx.ASGITransport(gate, client=("127.0.0.1", 5))  # type: ignore[arg-type]
    async with running(gate), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
    meters.close()


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"authorization": f"Bearer {key}"}

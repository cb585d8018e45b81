"""What is dated changes at midnight of the business time zone, to the millisecond, without a reload."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest_service import LINE, Clock, Run, Started, ask, decide, write_policy

MIDNIGHT_MS = int(datetime.fromisoformat("2026-12-01T00:00:00+08:00").timestamp() * 1000)
CONSTANTS = "constants:\n  price: {effective_from: {2020-01-01: 0.22, 2026-12-02: 0.20}, unit: ratio}\n"
RULES = """
rule_set: drawdown
scene: drawdown
rules:
  - id: priced
    when: request.amount > 0
    on_null: hold
    then: [approve, {price: {set_apr: price}}]
    reason: RC30
guardrails: {apr_cap: {2020-01-01: 0.24, 2026-12-01: 0.21}}
fallback: {static: {hold: review, reason: RC90}}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A price of 22 %, from December 2nd 20 %, under a cap of 24 %, from December 1st 21 %."""
    folder = write_policy(tmp_path / "rules", RULES)
    (folder / "constants.yaml").write_text(CONSTANTS, encoding="utf-8")
    return folder


@pytest.mark.fault("F17")
def test_a_cap_and_a_constant_are_what_their_dates_say_at_the_decision_instant(run: Run, clock: Clock) -> None:
    """Until a millisecond before midnight in Shanghai, which is four in the afternoon in UTC, the old cap holds; at
    midnight a price above the new one is reviewed; a day later the price itself has come down."""

    async def test(service: Started) -> list[dict[str, Any]]:
        answers = []
        for number, at_ms in enumerate((MIDNIGHT_MS - 1, MIDNIGHT_MS, MIDNIGHT_MS + 86_400_000)):
            clock.ms = at_ms
            await service.customers.put_facility(LINE)
            answers.append(orjson.loads((await decide(service, ask(f"r-{number}"))).body))
        return answers

    before, at, later = run(test)
    assert (before["decision"], before["reprice"]["to"]) == ("reprice", 0.22)
    assert (at["decision"], at["hold"]["kind"], at["reprice"]) == ("hold", "review", None)
    assert "RC36" in [reason["code"] for reason in at["reasons"]]
    assert (later["decision"], later["reprice"]["to"]) == ("reprice", 0.20)
    assert before["policy"]["id"] == at["policy"]["id"] == later["policy"]["id"]

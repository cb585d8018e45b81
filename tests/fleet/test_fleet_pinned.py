"""A decision is one policy's: a policy that comes into force between two rounds of a request waits for the next one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest_service import LINE, RULES, Run, Started, ask, clock, rules, run  # noqa: F401

from decision_service.core.errors import VersionMoved
from decision_service.store import Commit
from decision_service.store.memory import MemoryStore

OTHER = RULES.replace("  - id: otherwise", "  - id: nobody\n    when: request.amount > 1\n    on_null: hold\n"
                      "    then: {hold: block}\n    reason: RC04\n  - id: otherwise")  # fmt: skip


class Barrier(MemoryStore):
    """A store where the first commit of a decision waits at a barrier and then loses the race."""

    def __init__(self) -> None:
        super().__init__(partitions=16)
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.lost = False

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        if commit.decision is not None and not self.lost:
            self.lost = True
            self.reached.set()
            await self.go_on.wait()
            raise VersionMoved("another worker was first")
        return await super().commit(commit, timeout_s)


@pytest.mark.fault("F12")
def test_fleet_a_request_keeps_its_policy_over_its_rounds(run: Run, rules: Path) -> None:  # noqa: F811
    """F12: the policy is replaced while the first round commits; the second round decides by the one the request began
    with: answer, trace and verdicts name that policy, which approves; the next request is blocked by the new one."""
    files = {str(path.relative_to(rules)): path.read_text() for path in rules.rglob("*.yaml")}

    async def test(service: Started) -> None:
        store: Any = service.store
        await service.customers.put_facility(LINE)
        began_with = service.active.current.id
        asked = asyncio.create_task(service.decisions.decide(ask("r-1"), 10_000, time.perf_counter()))
        await store.reached.wait()
        await service.active.publish({**files, "drawdown.yaml": OTHER}, "ann")
        assert service.active.current.id != began_with
        store.go_on.set()
        answer = await asked
        told = orjson.loads(await service.decisions.decision(answer.decision_id))
        assert (told["decision"], told["policy"]["id"], told["trace"]["policy_id"]) == (
            "approve", began_with, began_with,
        )  # fmt: skip
        assert "nobody" not in str(told["trace"])
        after = await service.decisions.decide(ask("r-2"), 10_000, time.perf_counter())
        told = orjson.loads(await service.decisions.decision(after.decision_id))
        assert (told["decision"], told["policy"]["id"]) == ("hold", service.active.current.id)

    run(test, Barrier())

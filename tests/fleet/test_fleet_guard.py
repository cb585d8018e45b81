"""F10: a policy that would block or approve everybody does not come into force by mistake."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest_service import LINE, RULES, T0_MS, Run, Started, ask, clock, rules, run  # noqa: F401

from decision_service.core.errors import PolicyRejected
from decision_service.core.limits import HOUR_MS
from decision_service.policies.active_policy import ActivePolicy
from decision_service.policies.guard import DECISIONS_KEPT, DECISIONS_MIN, ActivationGuard

SMALL = RULES.replace(
    "  - id: burst\n", "  - id: large\n    when: request.amount > 6\n    on_null: skip\n"
    "    then: {hold: step_up}\n    reason: RC11\n  - id: burst\n",
)  # fmt: skip
"""Draws above 6 are held: of amounts 1 to 10 the lower six are approved."""
NOBODY = SMALL.replace("request.amount > 6", "request.amount > 0.06")  # two digits too few
EVERYBODY = SMALL.replace("request.amount > 6", "request.amount > 600")
STRICTER = SMALL.replace("request.amount > 6", "request.amount > 4")


async def lived(service: Started, number: int) -> dict[str, str]:
    """Decide `number` drawdowns of 1 to 10 in turn under SMALL; the files of the policy in force."""
    service.active.guard = ActivationGuard(0.5)
    assert service.active.content is not None
    files = {**service.active.content.files, "drawdown.yaml": SMALL}
    await service.active.publish(files, "ann")
    await service.customers.put_facility(LINE)
    for i in range(number):
        await service.decisions.decide(ask(f"r-{i}", 100 * (i % 10 + 1)), 60_000, time.perf_counter())
    return files


def told(error: PolicyRejected) -> list[str]:
    """The messages."""
    return [diagnostic.message for diagnostic in error.diagnostics]


@pytest.mark.fault("F10")
def test_fleet_a_policy_that_blocks_everybody_is_refused_with_both_shares(run: Run) -> None:  # noqa: F811
    """The answer shows the shares before and after and the rule that did it; forced, it is taken."""

    async def test(service: Started) -> None:
        files = await lived(service, 60)
        with pytest.raises(PolicyRejected) as refused:
            await service.active.publish({**files, "drawdown.yaml": NOBODY}, "ann")
        assert told(refused.value) == [
            "would approve 0% of the last 60 drawdowns, of which 60% were approved",
            "rule `large` would have its say in 100% of them, before in 40%",
        ]
        assert refused.value.diagnostics[0].expected.startswith("a change of at most 50%")
        assert service.active.bundle == 2
        assert await service.active.publish({**files, "drawdown.yaml": NOBODY}, "ann", force=True) == 3

    run(test)


@pytest.mark.fault("F10")
def test_fleet_everybody_approved_is_refused_though_the_share_moves_little(run: Run) -> None:  # noqa: F811
    """From a mixture to all or nobody is never a small change; a moderate one is taken and its effect told."""

    async def test(service: Started) -> None:
        files = await lived(service, 60)
        with pytest.raises(PolicyRejected, match="would approve 100% of the last 60"):
            await service.active.publish({**files, "drawdown.yaml": EVERYBODY}, "ann")
        await service.active.publish({**files, "drawdown.yaml": STRICTER}, "ann")
        status: Any = await service.customers.policy_status()
        assert status["rehearsal"] == {
            "decisions": 60, "approved_before": 0.6, "approved_after": 0.4,
            "rules": [{"rule": "large", "before": 0.4, "after": 0.6}], "scores_before": [], "scores_after": [],
        }  # fmt: skip

    run(test)


def test_fleet_too_few_decisions_refuse_nothing(run: Run) -> None:  # noqa: F811
    """Below the minimum the shares are told and nothing more."""

    async def test(service: Started) -> None:
        files = await lived(service, DECISIONS_MIN - 1)
        await service.active.publish({**files, "drawdown.yaml": NOBODY}, "ann")
        assert service.active.rehearsal is not None
        assert service.active.rehearsal.approved_after == 0

    run(test)


@pytest.mark.fault("F10")
def test_fleet_the_guard_judges_files_on_disk_and_a_forced_reload_takes_them(
    run: Run,  # noqa: F811
    rules: Path,  # noqa: F811
) -> None:
    """A refused file is told like one that does not compile; the ring holds the latest decisions and no more."""

    async def test(service: Started) -> None:
        await lived(service, DECISIONS_KEPT + 20)
        assert len(service.active.guard.lately) == DECISIONS_KEPT
        (rules / "drawdown.yaml").write_text(NOBODY, encoding="utf-8")
        assert not await service.active.reload()
        assert "would approve 0% of the last 256 drawdowns" in service.active.problem
        assert service.active.bundle == 2
        assert await service.active.reload(force=True)
        assert (service.active.bundle, service.active.problem) == (3, "")

    run(test)


def test_fleet_a_run_of_reviews_leaves_the_guard_its_drawdowns(run: Run) -> None:  # noqa: F811
    """Reviews are not kept: after a night of them a policy that blocks everybody is refused as before."""

    async def test(service: Started) -> None:
        files = await lived(service, 60)
        request, state, decision = service.active.guard.lately[0]
        for _ in range(DECISIONS_KEPT):
            service.active.guard.keep(replace(request, scene="limit"), state, decision)
        with pytest.raises(PolicyRejected, match="would approve 0% of the last 60"):
            await service.active.publish({**files, "drawdown.yaml": NOBODY}, "ann")

    run(test)


def test_fleet_what_one_guard_refused_no_worker_without_evidence_takes(
    run: Run,  # noqa: F811
    rules: Path,  # noqa: F811
) -> None:
    """Not one that has decided little, and not one that starts with the refused file on its disk, which would else be
    the way around the guard; the fleet's policy stays in force. Forced, it is taken."""

    async def test(service: Started) -> None:
        await lived(service, 60)
        (rules / "drawdown.yaml").write_text(NOBODY, encoding="utf-8")
        assert not await service.active.reload()
        service.active.guard = ActivationGuard(0.5)  # as after a start
        assert not await service.active.reload()
        assert "refused by the guard of another worker" in service.active.problem
        again = ActivePolicy(
            rules, rules.parent / "models", "Asia/Shanghai", 24 * HOUR_MS, service.store, lambda: T0_MS,
            lambda *_: None, approvals_change_max=0.5,
        )  # fmt: skip
        await again.start()
        try:
            assert (again.bundle, again.current.id) == (2, service.active.current.id)
            assert "would approve 0% of the last 60 drawdowns" in again.problem
            assert await again.reload(force=True)
            assert (again.bundle, again.problem) == (3, "")
        finally:
            await again.close()

    run(test)

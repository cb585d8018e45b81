"""G07: scores that are all alike, missing or far from the training are refused beforehand, and undone afterwards."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scorecard_maker import PLATT, Trained, manifest_text, train, write_scorecard
from scored_policy import RULES, T0_MS, Worker, draws, running, write_rules

from decision_service.core.errors import PolicyRejected
from decision_service.core.limits import DAY_MS
from decision_service.core.scorecards.scaling import Platt
from decision_service.policies.published import told_of
from decision_service.policies.score_spread import CUSTOMERS_MIN, spreads
from decision_service.store import Store
from decision_service.store.memory import MemoryStore

OFF = Platt(0.9, 3.0)  # a calibration of another world: every PD far too high
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def known_rows(small_model: Trained) -> np.ndarray:
    """Rows without nulls."""
    return small_model.rows[~np.isnan(small_model.rows).any(axis=1)]


@pytest.fixture(scope="module")
def misplaced() -> Trained:
    """A model of values that no customer has: it checks out, and gives all of them one score."""
    return train(10, 4, offset=100.0)


@pytest.fixture
def host(tmp_path: Path, small_model: Trained) -> Path:
    """A host with the policy and version 1 of the scorecard."""
    write_rules(tmp_path / "rules")
    write_scorecard(tmp_path / "models", small_model, manifest_text(small_model, deciles=True))
    return tmp_path


def given(host: Path, model: Trained, version: str, **more: Any) -> None:
    """A new version on the host's disk."""
    write_scorecard(host / "models", model, manifest_text(model, version=version, deciles=True, **more))


async def until(found: Callable[[], Any]) -> None:
    """Wait until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.01)


def version(worker: Worker) -> str:
    """The scorecard in force."""
    return worker.scorecards["behaviour"].version


@pytest.mark.fault("G07")
def test_a_constant_model_is_refused_before_it_is_in_force(
    host: Path, misplaced: Trained, known_rows: np.ndarray
) -> None:
    """The customers of lately would all get one score: refused with the figures, the old scorecard decides on; a good
    version is taken afterwards."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            draws(worker, range(60), known_rows)
            given(host, misplaced, "2")
            assert not await worker.reload()
            assert "behaviour/2/manifest.yaml" in worker.problem
            assert "scorecard `behaviour` 2 gives all 60 customers the same" in worker.problem
            assert (version(worker), worker.bundle) == ("1", 1)
            assert worker.rehearsal is not None
            told = worker.rehearsal.as_json()["scores_after"][0]
            assert (told["customers"], told["scored"], told["points_low"] == told["points_high"]) == (60, 60, True)
            given(host, train(40, 8), "3")
            assert await worker.reload()
            assert (version(worker), worker.problem) == ("3", "")

    asyncio.run(test())


@pytest.mark.fault("G07")
def test_scores_far_from_the_training_are_refused_with_psi_and_taken_by_force(
    host: Path, small_model: Trained, known_rows: np.ndarray
) -> None:
    """PSI, bins, critical value and the PSI of the scorecard before are in the message."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            draws(worker, range(100), known_rows)
            given(host, small_model, "2", platt=OFF, expected=PLATT)
            assert not await worker.reload()
            assert "scores 100 customers far from its training: PSI " in worker.problem
            figures = r"over \d+ bins, where chance makes 0\.\d\d once .* that of the one before was 0\.\d\d"
            assert re.search(figures, worker.problem)
            assert await worker.reload(force=True)
            assert (version(worker), worker.watch.number) == ("2", 0)

    asyncio.run(test())


def test_a_good_new_version_is_taken_and_watched_to_the_end(host: Path, known_rows: np.ndarray) -> None:
    """It scores as it was trained to, so the watch ends with nothing to say."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16), scores_watched=100) as worker:
            draws(worker, range(100), known_rows)
            given(host, train(40, 8), "2")
            assert await worker.reload()
            assert worker.watch.number == 2
            draws(worker, range(60), known_rows)
            told = worker.watch.as_json()
            assert told is not None
            assert (told["customers"], told["customers_max"], told["scores"][0]["scored"]) == (60, 100, 60)
            draws(worker, range(60, 110), known_rows)
            await until(lambda: worker.watch.number == 0)
            assert (version(worker), worker.rollback, worker.rollbacks) == ("2", None, 0)

    asyncio.run(test())


def test_what_moves_no_score_is_not_watched(host: Path, known_rows: np.ndarray) -> None:
    """A change of rules alone leaves the scores as they are."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            draws(worker, range(60), known_rows)
            write_rules(host / "rules", "two", RULES.replace("points < 500", "points < 490"))
            assert await worker.reload()
            assert (worker.bundle, worker.watch.number) == (2, 0)

    asyncio.run(test())


@pytest.mark.fault("G07")
@pytest.mark.parametrize(("kind", "told"), [
    ("constant", "gives all 50 customers the same"), ("drifted", "far from its training: PSI"),
    ("null", "gives no score to 50 of 50 customers (feature inq_cnt_30d is null, which the model never saw)"),
])  # fmt: skip
def test_what_shows_only_in_force_leads_the_fleet_back_once(
    host: Path, small_model: Trained, misplaced: Trained, known_rows: np.ndarray, kind: str, told: str
) -> None:
    """Two workers see the same and go back together, exactly once; the reason is told, the old scorecard decides, and
    neither a reload nor a restart brings the mistake back. A good version is taken; the bad one by force, unwatched."""
    rows = known_rows.copy()
    if kind == "null":
        rows[:, 2] = np.nan

    async def test(store: Store) -> None:
        async with running(host, store, "a") as a, running(host, store, "b") as b:
            if kind == "constant":
                given(host, misplaced, "2")
            else:
                nulls = "refused" if kind == "null" else "allowed"
                model = Trained(small_model.text, known_rows, small_model.margins)
                calibrations = (PLATT, PLATT) if kind == "null" else (OFF, PLATT)
                model = small_model if kind == "drifted" else _known(model, small_model)
                given(host, model, "2", platt=calibrations[0], expected=calibrations[1], nulls=nulls)
            assert await a.reload()
            await until(lambda: b.bundle == 2)
            assert (a.watch.number, b.watch.number) == (2, 2)
            draws(a, range(CUSTOMERS_MIN), rows)
            draws(b, range(CUSTOMERS_MIN), rows)
            await until(lambda: a.bundle == b.bundle == 3)
            await asyncio.sleep(0.6)  # more than two polls: nobody goes further
            assert (a.bundle, b.bundle, a.rollbacks + b.rollbacks) == (3, 3, 1)
            for worker in (a, b):
                assert version(worker) == "1"
                assert worker.rollback is not None
                assert worker.rollback["of"] == 2
                assert told in worker.rollback["reason"]
            newest = told_of(await a.published())[0]
            assert (newest["origin"], newest["number"], told in newest["reason"]) == ("rollback of 2", 3, True)
            assert await a.reload()  # what lies on the disk is left behind
            assert (version(a), a.bundle) == ("1", 3)
        async with running(host, store, "c") as c:
            assert (version(c), c.bundle, c.rollback is not None) == ("1", 3, True)
            with pytest.raises(PolicyRejected, match="went back from this policy once"):
                await c.restore(2, "ann")
            given(host, train(40, 8), "3")
            assert await c.reload()
            assert (version(c), c.rollback) == ("3", None)
            assert await c.restore(2, "ann", force=True) == 5
            draws(c, range(CUSTOMERS_MIN), rows)
            await asyncio.sleep(0.05)
            assert (version(c), c.bundle, c.watch.number) == ("2", 5, 0)

    asyncio.run(test(MemoryStore(partitions=16)))


def _known(model: Trained, of: Trained) -> Trained:
    """The same model with golden rows that have no null."""
    margins = of.margins[~np.isnan(of.rows).any(axis=1)]
    return Trained(model.text, model.rows, margins)


@pytest.mark.fault("G07")
def test_two_mistakes_in_a_row_end_at_what_was_good(host: Path, small_model: Trained, misplaced: Trained,
                                                    known_rows: np.ndarray) -> None:  # fmt: skip
    """Going back leads to the version before, which was no better and is gone back from too; never in a circle."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            given(host, small_model, "2", platt=OFF, expected=PLATT)
            assert await worker.reload()
            given(host, misplaced, "3")
            assert await worker.reload()
            draws(worker, range(CUSTOMERS_MIN), known_rows)
            await until(lambda: worker.bundle == 4)
            assert version(worker) == "2"
            draws(worker, range(CUSTOMERS_MIN), known_rows)
            await until(lambda: worker.bundle == 5)
            assert (version(worker), worker.rollbacks) == ("1", 2)
            draws(worker, range(CUSTOMERS_MIN), known_rows)
            await asyncio.sleep(0.1)
            assert (worker.bundle, worker.problem) == (5, "")

    asyncio.run(test())


@pytest.mark.parametrize("customers_before", [CUSTOMERS_MIN - 20, 0])
def test_an_edit_of_the_rules_neither_hides_scores_that_are_far_off_nor_is_undone(
    host: Path, small_model: Trained, known_rows: np.ndarray, customers_before: int
) -> None:
    """The scores are judged on under the edited policy; it stays in force and says what is wrong with them."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            given(host, small_model, "2", platt=OFF, expected=PLATT)
            assert await worker.reload()
            draws(worker, range(customers_before), known_rows)
            write_rules(host / "rules", "two", RULES.replace("points < 500", "points < 490"))
            assert await worker.reload()
            assert (worker.bundle, worker.watch.number) == (3, 3)
            draws(worker, range(customers_before, CUSTOMERS_MIN), known_rows)
            await until(lambda: worker.problem)
            assert "far from its training: PSI" in worker.problem
            assert worker.problem.endswith("not gone back from: it was edited since these scores came")
            assert (worker.bundle, version(worker), worker.rollbacks, worker.watch.number) == (3, "2", 0, 0)

    asyncio.run(test())


def test_an_edit_of_what_scores_well_is_watched_to_the_end(host: Path, known_rows: np.ndarray) -> None:
    """Nothing is said, and nothing gone back from; a policy that was forced ends the watch."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16), scores_watched=60) as worker:
            given(host, train(40, 8), "2")
            assert await worker.reload()
            for label in ("two", "three"):
                write_rules(host / "rules", label)
                assert await worker.reload()
            draws(worker, range(60), known_rows)
            await until(lambda: worker.watch.number == 0)
            assert (worker.bundle, worker.problem, worker.rollbacks) == (4, "", 0)
            given(host, train(40, 8), "3")
            assert await worker.reload()
            write_rules(host / "rules", "four")
            assert await worker.reload(force=True)
            assert (worker.bundle, worker.watch.number) == (6, 0)

    asyncio.run(test())


def test_with_nothing_to_go_back_to_the_problem_is_told(
    host: Path, small_model: Trained, known_rows: np.ndarray
) -> None:
    """The version before is no longer on this host: the policy stays and says why it should not."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            given(host, small_model, "2", platt=OFF, expected=PLATT)
            assert await worker.reload()
            for path in (host / "models" / "behaviour" / "1").iterdir():
                path.unlink()
            (host / "models" / "behaviour" / "1").rmdir()
            draws(worker, range(CUSTOMERS_MIN), known_rows)
            await until(lambda: worker.problem)
            assert worker.problem.endswith("no earlier policy can be gone back to")
            assert (version(worker), worker.watch.number, worker.rollbacks) == ("2", 0, 0)

    asyncio.run(test())


def test_an_old_policy_is_not_watched_after_a_restart(host: Path, small_model: Trained) -> None:
    """What the fleet has run for days is not new to a worker that starts."""

    async def test() -> None:
        store = MemoryStore(partitions=16)
        async with running(host, store) as worker:
            given(host, small_model, "2")
            assert await worker.reload()
            assert worker.watch.number == 2
        async with running(host, store, "soon") as worker:
            assert (worker.bundle, worker.watch.number) == (2, 2)
        async with running(host, store, "late", now_ms=T0_MS + 2 * DAY_MS) as worker:
            assert (worker.bundle, worker.watch.number) == (2, 0)

    asyncio.run(test())


def test_nothing_is_judged_if_the_setting_says_so(host: Path, misplaced: Trained, known_rows: np.ndarray) -> None:
    """0 customers: neither before nor after."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16), scores_watched=0) as worker:
            draws(worker, range(60), known_rows)
            given(host, misplaced, "2")
            assert await worker.reload()
            assert (version(worker), worker.watch.number) == ("2", 0)

    asyncio.run(test())


def test_customers_that_no_scorecard_can_tell_apart_blame_no_new_one(
    host: Path, small_model: Trained, known_rows: np.ndarray
) -> None:
    """All alike before and after, or without a score before and after, is the customers' doing: the candidate is
    taken."""
    alike = np.tile(known_rows[0], (60, 1))
    unknown = np.full((60, 5), np.nan)

    async def test(rows: np.ndarray, name: str) -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            decisions = draws(worker, range(60), rows)
            before = spreads(decisions, {("behaviour", version(worker)): worker.scorecards["behaviour"].manifest})
            assert before[0].is_constant or before[0].is_null
            given(host, small_model, name)
            assert await worker.reload()
            assert version(worker) == name

    asyncio.run(test(alike, "2"))
    asyncio.run(test(unknown, "3"))


def test_one_customer_who_draws_often_is_one_customer(host: Path, misplaced: Trained, known_rows: np.ndarray) -> None:
    """Sixty draws of one customer are no evidence of a constant scorecard."""

    async def test() -> None:
        async with running(host, MemoryStore(partitions=16)) as worker:
            draws(worker, [7] * 60, known_rows)
            given(host, misplaced, "2")
            assert await worker.reload()
            assert version(worker) == "2"

    asyncio.run(test())

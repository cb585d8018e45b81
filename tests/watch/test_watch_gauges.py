"""Live counts and gauges: one worker's or many's, a population that moved or one that did not."""

from __future__ import annotations

from pathlib import Path

import pytest
from counted import counted
from prometheus_client.metrics_core import Metric
from watched_service import asked, population

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable
from decision_service.core.limits import DAY_MS
from decision_service.store import Store
from decision_service.store.memory import MemoryStore
from decision_service.store.open import open_store
from decision_service.watch.gauges import PREFIX, Reading, families

pytestmark = pytest.mark.anyio

NOW_MS = 1_795_000_000_000
T = 5.0


def told(metrics: list[Metric]) -> dict[str, float]:
    """Samples of one scorecard by name, and by the label that tells them apart."""
    samples = (sample for metric in metrics for sample in metric.samples)
    return {"/".join([s.name.removeprefix(PREFIX), *_apart(s.labels)]): s.value for s in samples}


def _apart(labels: dict[str, str]) -> list[str]:
    return [value for name, value in labels.items() if name in ("feature", "grade")]


async def test_watch_a_population_that_moved_is_beyond_chance_and_one_that_did_not_is_not(
    tmp_path: Path, rules: Path, models: Path
) -> None:
    """600 people like those of training, then 600 who draw 65 % more: score and amount move, the term does not."""
    for shift, moved in ((0.0, False), (0.5, True)):
        store = MemoryStore()
        async with counted(store, rules, models, tmp_path / f"{shift}", NOW_MS) as worker:
            await worker.decide(asked(population(3, 600, shift=shift), "a", [NOW_MS] * 600), NOW_MS)
            await worker.counting.flush()
            await worker.gauges.refresh()
            found = told(list(worker.gauges.collect()))
        assert found["decisions"] == 600
        assert (found["psi"] > found["psi_critical"]) is moved
        assert (found["feature_psi/request.amount"] > found["feature_psi_critical/request.amount"]) is moved
        assert found["feature_psi/request.term_months"] < found["feature_psi_critical/request.term_months"]
        assert abs(found["feature_null_rate_shift/request.term_months"]) < 0.06
        assert found["null_rate"] == 0.0
        assert sum(value for name, value in found.items() if name.startswith("grade_share/")) == pytest.approx(1.0)
        assert 0.0 < found["approval_share"] < 1.0


async def test_watch_nulls_that_became_more_are_told(tmp_path: Path, rules: Path, models: Path) -> None:
    """A feed that stopped: the term is null for three of four, not for one."""
    store = MemoryStore()
    async with counted(store, rules, models, tmp_path, NOW_MS) as worker:
        await worker.decide(asked(population(4, 200, null_share=0.75), "a", [NOW_MS] * 200), NOW_MS)
        await worker.counting.flush()
        await worker.gauges.refresh()
        found = told(list(worker.gauges.collect()))
    assert found["feature_null_rate/request.term_months"] == pytest.approx(0.75, abs=0.08)
    assert found["feature_null_rate_shift/request.term_months"] > 0.4


async def test_watch_gauges_look_at_the_last_days_of_the_whole_fleet(
    tmp_path: Path, valkey: str, rules: Path, models: Path
) -> None:
    """What another worker counted is there; what was counted eight days ago is not, and the policy's day is local."""
    store = open_store(valkey)
    midnight_ms = (NOW_MS + 8 * 3_600_000) // DAY_MS * DAY_MS - 8 * 3_600_000  # in Shanghai
    async with counted(store, rules, models, tmp_path / "one", NOW_MS) as one:
        await one.decide(asked(population(5, 10), "a", [NOW_MS] * 10), NOW_MS)
        six_days = midnight_ms - 6 * DAY_MS
        await one.decide(asked(population(6, 7), "b", [six_days] * 7), six_days)
        await one.decide(asked(population(7, 5), "c", [six_days - 1] * 5), six_days - 1)
    async with counted(store, rules, models, tmp_path / "other", NOW_MS) as other:
        await other.decide(asked(population(8, 3), "d", [NOW_MS] * 3), NOW_MS)
        await other.counting.flush()
        for _ in range(2):  # days that are over are remembered, not counted twice
            await other.gauges.refresh()
            assert told(list(other.gauges.collect()))["decisions"] == 20
    await store.close()


async def test_watch_gauges_of_nothing_are_no_figures(tmp_path: Path, rules: Path, models: Path) -> None:
    """Before anything is counted there is a count of 0 and no PSI; before the first refresh there is nothing."""
    assert [metric.samples for metric in families(Reading(), 7)] == [[]] * len(list(families(Reading(), 7)))
    async with counted(MemoryStore(), rules, models, tmp_path, NOW_MS) as worker:
        await worker.gauges.refresh()
        assert told(list(worker.gauges.collect())) == {"decisions": 0.0}


async def test_watch_gauges_tell_the_last_published_run(tmp_path: Path, rules: Path, models: Path) -> None:
    """Only of scorecards in force, and figures that are not known are left out."""
    store = MemoryStore()
    await store.save_watch("behaviour/1", b'{"ks": 0.41, "auc": null, "watched_timestamp_seconds": 1795000000}', T)
    await store.save_watch("behaviour/2", b'{"ks": 0.9}', T)
    async with counted(store, rules, models, tmp_path, NOW_MS) as worker:
        await worker.gauges.refresh()
        found = told(list(worker.gauges.collect()))
    assert found == {"decisions": 0.0, "ks": 0.41, "watched_timestamp_seconds": 1_795_000_000.0}


class Failing(MemoryStore):
    """A store whose tallies fail as told."""

    error: Exception | None = None

    async def add_tally(self, *args: object) -> None:
        """Fail, or add."""
        if self.error is not None:
            raise self.error
        await super().add_tally(*args)  # type: ignore[arg-type]


async def flushed(store: Store) -> int:
    """Decisions that the store has the counts of."""
    tallies = [await store.read_tally(s, d, T) for s, days in (await store.tally_days(T)).items() for d in days]
    return sum(tally[b"n"] for tally in tallies)


async def test_watch_counts_that_the_store_refused_are_given_again(tmp_path: Path, rules: Path, models: Path) -> None:
    """A store that is away loses nothing; one that may have taken them does not get them twice."""
    store = Failing()
    async with counted(store, rules, models, tmp_path, NOW_MS) as worker:
        people = asked(population(9, 30), "a", [NOW_MS] * 30)
        store.error = StoreUnavailable("away")
        await worker.decide(people[:10], NOW_MS)
        with pytest.raises(StoreUnavailable):
            await worker.counting.flush()
        await worker.decide(people[10:20], NOW_MS)
        store.error = None
        await worker.counting.flush()
        assert await flushed(store) == 20
        store.error = OutcomeUnknown("no reply")
        await worker.decide(people[20:], NOW_MS)
        with pytest.raises(OutcomeUnknown):
            await worker.counting.flush()
        store.error = None
        await worker.counting.flush()
        assert await flushed(store) == 20

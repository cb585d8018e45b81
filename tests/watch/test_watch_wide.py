"""Counting a scorecard of hundreds of features gives way to requests, and loses nothing by it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from decision_service.core.decision import Score
from decision_service.core.scorecards.manifest import Manifest, ScorecardFeature
from decision_service.core.scorecards.scaling import Grades, Platt, Scaling
from decision_service.store.memory import MemoryStore
from decision_service.telemetry import Meters
from decision_service.watch.counting import DriftCounting
from decision_service.watch.series import series_of
from decision_service.watch.tally import Answered, Bins, Seen, Tally

pytestmark = pytest.mark.anyio

WIDE = 1_000
DAY = 20_000
CUTS = tuple(float(cut) for cut in range(-4, 5))


def manifest() -> Manifest:
    """A scorecard of very many features."""
    features = tuple(ScorecardFeature(f"f{i}", "RC30", 0, True, 0.1, CUTS) for i in range(WIDE))
    return Manifest(
        name="wide", version="1", model_file="model.txt", model_sha256="", features=features,
        calibration=Platt(1.0, 0.0), scaling=Scaling(), grades=Grades(("A", "B"), (600,)), training={}, metrics={},
        score_null_rate=0.0, score_deciles=tuple(500.0 + 10.0 * i for i in range(9)), golden=(), sha256="0" * 64,
    )  # fmt: skip


async def test_watch_a_wide_batch_is_counted_in_pieces_with_turns_between_and_a_flush_among_them(
    tmp_path: Path,
) -> None:
    """Others get turns while 64 decisions are counted; flushes in those turns and what is counted after make the sum
    that counting at one go makes."""
    meters, store = Meters(tmp_path), MemoryStore(partitions=16)
    counting = DriftCounting(store, meters)
    bins, series = Bins(manifest()), series_of(manifest(), "champion", "drawdown")
    counting._bins[series] = bins
    rng = np.random.default_rng(1)
    rows = rng.normal(scale=3.0, size=(64, WIDE))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    seen = [Seen(row, Score(560, 0.02, "B", "1"), Answered("approve", None, True, "full")) for row in rows]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while turns < 64 / bins.rows_at_once - 1:
            await counting.flush()
            await asyncio.sleep(0)
            turns += 1

    async with asyncio.timeout(10):
        await asyncio.gather(counting._count({(series, DAY): seen}), others())
    await counting.flush()
    at_one_go = Tally.empty(bins.rows)
    at_one_go.count(bins, seen)
    assert bins.rows_at_once < 64 / 4
    assert dict(await store.read_tally(series.name, DAY, 1.0)) == at_one_go.fields()
    meters.close()

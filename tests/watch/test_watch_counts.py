"""What a real service counts is what its decision log says, exactly, over workers and restarts."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from watched_service import Serving, asked, population, send

from decision_service.core.limits import DAY_MS, PARTITIONS
from decision_service.core.zone import zone_named
from decision_service.scorecards.files import load_scorecard
from decision_service.store import Store
from decision_service.store.open import open_store
from decision_service.watch.decisions import Decided, DecisionLog, Span
from decision_service.watch.manifests import Manifests
from decision_service.watch.series import digest_of

pytestmark = pytest.mark.anyio

NOW_MS = 1_795_000_000_000
ALWAYS = Span(0, 2**52)
T = 5.0


async def everything(store: Store, models: Path) -> list[Decided]:
    """The whole decision log."""
    log = DecisionLog(store, PARTITIONS, Manifests(models))
    return [one async for page in log.pages(ALWAYS, "drawdown") for one in page]


def recounted(decisions: Sequence[Decided], cuts: Sequence[Sequence[float]]) -> dict[int, Counter[bytes]]:
    """The counts by local day, one value after the other; what a tally is, by definition."""
    zone = zone_named("Asia/Shanghai")
    days: dict[int, Counter[bytes]] = {}
    for one in decisions:
        (scored,) = one.scored
        at_ms = one.decided_at_ms
        counts = days.setdefault((at_ms + zone.offset_at(at_ms)) // DAY_MS, Counter())
        counts[b"n"] += 1
        counts[f"g:{scored.score.grade}".encode()] += 1
        counts[f"d:{one.answered.decision}".encode()] += 1
        counts[f"r:{one.answered.rung}".encode()] += 1
        counts[b"p"] += round(scored.score.pd * 1e9)
        if one.answered.hold:
            counts[f"h:{one.answered.hold}".encode()] += 1
        if one.answered.approved:
            counts[b"a"] += 1
        for row, value in enumerate((scored.score.points, *scored.features.tolist())):
            column = 10 if value is None or np.isnan(value) else bisect_left(cuts[row], value)
            counts[b"%d.%d" % (row, column)] += 1
    return days


@pytest.mark.slow
async def test_watch_counts_are_those_of_the_decision_log(serving: Serving, valkey: str, models: Path) -> None:
    """Two workers, a restart, and a worker on another host's socket: every bin, grade and word agrees."""
    first = serving(workers=2)
    send(first.url, asked(population(1, 120), "a", [NOW_MS] * 120))
    assert first.stop() == 0
    again = serving(workers=1)
    beside = serving(workers=1)
    people = asked(population(2, 80), "b", [NOW_MS] * 80)
    send(again.url, people[:50])
    send(beside.url, people[50:])
    send(again.url, people[:10])  # repeats are answered from the store, and are no further decisions
    assert (again.stop(), beside.stop()) == (0, 0)

    store = open_store(valkey)
    manifest = load_scorecard(models / "behaviour" / "1").manifest
    cuts = [sorted(set(deciles)) for deciles in (manifest.score_deciles, *(f.deciles for f in manifest.features))]
    decisions = await everything(store, models)
    assert len(decisions) == 200
    series = f"behaviour/1/{digest_of(manifest)}/champion/drawdown"
    wanted = recounted(decisions, cuts)
    assert dict(await store.tally_days(T)) == {series: sorted(wanted)}
    for day, counts in wanted.items():
        assert dict(await store.read_tally(series, day, T)) == dict(counts)
    assert {c[b"a"] for c in wanted.values()} != {0}, "the population must hold approved and held"
    await store.close()

"""What a LightGBM scorecard costs: one score, what made it up, loading it; beside LightGBM's own calls, and `shap`.

    python benchmarks/scorecards.py           # about three minutes, most of it training the models
    python benchmarks/scorecards.py --json    # the same for a machine

Models of 50, 300 and 1,000 trees of 31 leaves on 29 features with nulls, trained on noise with some signal: no split is
easy to foresee. Everything that is compared runs in turns in one process, one row a call, so that a busy machine is
busy for all of it; medians and percentiles in microseconds, and how many times as long the others take. First it is
checked that margins are LightGBM's to the bit and contributions its values to 1e-9.

    same      the same row again and again: caches warm, branches learned
    rows      another row every call, as decisions come
    cold      another row, after 64 MB of other memory were read: what a decision after a pause pays
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, Final

import lightgbm
import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.tree_scorer import TreeScorer
from decision_service.scorer import LightGbmScorer

SIZES: Final = (50, 300, 1_000)
LEAVES, FEATURES, TRAINED_ON, JUDGED = 31, 29, 20_000, 200
PERCENTILES: Final = (50, 90, 99)
Row = npt.NDArray[np.float64]
Report = dict[str, Any]


def made(trees: int) -> tuple[bytes, Row]:
    """A model as text, and rows to score."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(TRAINED_ON, FEATURES))
    log_odds = rows @ rng.normal(size=FEATURES) * 0.5 + rows[:, 0] * rows[:, 1] + rng.normal(size=TRAINED_ON) - 1.5
    rows[rng.random(rows.shape) < 0.1] = np.nan
    parameters = {
        "objective": "binary", "num_leaves": LEAVES, "verbosity": -1, "num_threads": 1, "seed": 1,
        "min_data_in_leaf": 5, "learning_rate": 0.05,
    }  # fmt: skip
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, (log_odds > 0).astype(int)), trees)
    return booster.model_to_string().encode(), np.ascontiguousarray(rows[:JUDGED])


def check(ours: TreeScorer, theirs: LightGbmScorer, rows: Row) -> float:
    """The largest difference of a contribution. Raises AssertionError if anything differs that must not."""
    assert [ours.margin(row) for row in rows] == [theirs.margin(row) for row in rows], "margins differ"
    pairs = [(ours.contributions(row), theirs.contributions(row)) for row in rows[:50]]
    worst = max(float(np.abs(a - b).max()) for a, b in pairs)
    assert worst <= 1e-9, f"contributions differ by {worst}"
    return worst


def spread(spent_ns: list[int]) -> Report:
    """Median and percentiles in microseconds."""
    found = np.percentile(spent_ns, PERCENTILES) / 1_000
    return {f"us_p{p}": round(float(us), 2) for p, us in zip(PERCENTILES, found, strict=True)}


def in_turns(
    calls: dict[str, Callable[[Row], object]], rows: Iterator[Row], times: int, *, cold: bool = False
) -> Report:
    """How long each call takes, one after the other on the same row."""
    elsewhere = np.ones(8_000_000)
    spent: dict[str, list[int]] = {name: [] for name in calls}
    for _ in range(times):
        row = next(rows)
        for name, call in calls.items():
            if cold:
                elsewhere.sum()
            began = time.perf_counter_ns()
            call(row)
            spent[name].append(time.perf_counter_ns() - began)
    return {name: spread(ns) for name, ns in spent.items()}


def load_ms(model: bytes) -> float:
    """CPU time of the best of five loads."""
    best = float("inf")
    for _ in range(5):
        began = time.thread_time()
        TreeScorer(model, FEATURES)
        best = min(best, time.thread_time() - began)
    return round(best * 1_000, 1)


def measured(trees: int, times: int) -> Report:
    """Everything about a model of so many trees."""
    model, rows = made(trees)
    ours, theirs = TreeScorer(model, FEATURES), LightGbmScorer(model, FEATURES)
    worst = check(ours, theirs, rows)
    scores: dict[str, Callable[[Row], object]] = {"this service": ours.margin, "LightGBM": theirs.margin}
    whys: dict[str, Callable[[Row], object]] = {"this service": ours.contributions, "LightGBM": theirs.contributions}
    if importlib.util.find_spec("shap") is not None:
        whys["shap"] = _shap(model)
    return {
        "trees": trees, "leaves": LEAVES, "contributions_differ_by": worst, "load_ms": load_ms(model),
        "margin": {
            "same": in_turns(scores, cycle(rows[:1]), times * 20), "rows": in_turns(scores, cycle(rows), times * 20),
            "cold": in_turns(scores, cycle(rows), times, cold=True),
        },
        "contributions": {
            "rows": in_turns(whys, cycle(rows), times), "cold": in_turns(whys, cycle(rows), times // 2, cold=True)
        },
    }  # fmt: skip


def _shap(model: bytes) -> Callable[[Row], object]:
    import shap

    explainer = shap.TreeExplainer(lightgbm.Booster(model_str=model.decode()))
    return lambda row: explainer.shap_values(row[None, :])


def shown(report: Report) -> Iterator[str]:
    """The lines for a person."""
    sizes = f"{report['trees']} trees x {report['leaves']} leaves"
    differ = f"contributions differ by {report['contributions_differ_by']:.0e}"
    yield f"{sizes}: loads in {report['load_ms']} ms of CPU; margins equal, {differ}"
    for what in ("margin", "contributions"):
        for how, calls in report[what].items():
            ours = calls["this service"]["us_p50"]
            for name, found in calls.items():
                times = "" if name == "this service" else f"   x {found['us_p50'] / ours:.1f}"
                told = "  ".join(f"p{p} {found[f'us_p{p}']:9.1f}" for p in PERCENTILES)
                yield f"  {what:13} {how:5} {name:13} {told} us{times}"


def main() -> None:
    """Measure and say."""
    parser = argparse.ArgumentParser(description="What a LightGBM scorecard costs.")
    parser.add_argument("--json", action="store_true", help="one JSON object a size instead of text")
    parser.add_argument("--times", type=int, default=400, help="calls for contributions; scores get 20 times as many")
    parser.add_argument("--trees", type=int, nargs="*", default=SIZES, help="sizes to measure")
    given = parser.parse_args()
    for trees in given.trees:
        report = measured(trees, given.times)
        print(json.dumps(report) if given.json else "\n".join(shown(report)), flush=True)


if __name__ == "__main__":
    main()

"""Figures of load runs against definitions that are slow and plain."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from stalling_server import BENCHMARKS

from load import figures, schedule, stages
from load.plan import Raw
from load.zipf import EXPONENT, Zipf, shares

assert BENCHMARKS.is_dir()


def raw_of(latency_ms: list[float], *, failed: tuple[int, ...] = (), every_ms: float = 10.0, **more: Any) -> Raw:
    """A recording in which request i was due at `i * every_ms`, sent then, and answered so much later."""
    count = len(latency_ms)
    due = (np.arange(count) * every_ms * 1e6).astype(np.int64) + 5_000
    done = due + (np.array(latency_ms) * 1e6).astype(np.int64)
    bad = np.zeros(count, bool)
    bad[list(failed)] = True
    told = {
        "began_ns": 5_000, "ended_ns": int(done.max()) + 1, "seconds": count * every_ms / 1e3, "due_ns": due,
        "sent_ns": due.copy(), "done_ns": done, "operation": np.zeros(count, np.uint8), "failed": bad,
        "waited": np.zeros(count, bool), "failures": {"503 too-busy": len(failed)} if failed else {},
        "rungs": {"full": count - len(failed)}, "outcomes": {"approve": count}, "first_failure": "",
        "cpu_s": {"server": 0.5, "store": 0.1, "generator": 0.1}, "wall_s": 1.0,
        "core_busy_s": {0: 0.5, 1: 0.2}, "core_stolen_s": {0: 0.01, 1: 0.0},
    }  # fmt: skip
    return Raw(**(told | more))


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1_000, 1_013])
def test_percentiles_are_those_of_the_definition(count: int) -> None:
    """The smallest value that at least this share of all values does not exceed."""
    values = np.random.default_rng(count).integers(1, 50, count) * 1_000
    for percent in (*figures.PERCENTILES, 0.0, 100.0, 33.3):
        wanted = next(v for v in sorted(values) if sum(values <= v) >= round(percent / 100 * count, 6))
        assert figures.percentile(np.sort(values), percent) == wanted


def test_of_nothing_all_figures_are_0() -> None:
    assert set(figures.latencies(np.array([], np.int64)).values()) == {0.0}


def test_the_histogram_holds_every_latency_to_three_digits() -> None:
    times = np.random.default_rng(3).lognormal(7, 1.5, 5_000).astype(np.int64) * 1_000
    decoded = HdrHistogram.decode(figures.histogram(times))
    assert decoded.get_total_count() == len(times)
    for percent in (50, 90, 99, 99.9):
        exact = figures.percentile(np.sort(times), percent) / 1e3
        assert decoded.get_value_at_percentile(percent) == pytest.approx(exact, rel=0.002, abs=1)


def test_the_timeline_holds_every_request_at_the_time_it_was_due() -> None:
    raw = raw_of([1.0] * 100 + [200.0] * 50, failed=(3, 120))
    bins = figures.timeline([raw, raw])
    assert [one["t_s"] for one in bins] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert [one["requests"] for one in bins] == [50] * 6
    assert [one["failures"] for one in bins] == [1, 0, 1] * 2
    assert [one["p50_us"] for one in bins[:3]] == [1_000.0, 1_000.0, 200_000.0]


def test_only_good_answers_within_the_window_make_the_rate() -> None:
    raw = raw_of([1.0] * 98 + [5.0, 500.0], failed=(0, 1))
    assert figures.per_s(raw) == 97 / raw.seconds


def test_latency_counts_from_due_and_service_time_from_sent() -> None:
    raw = raw_of([30.0] * 10)
    raw.sent_ns += 20_000_000
    assert set(figures.latency_ns(raw)) == {30_000_000}
    assert set(figures.service_time_ns(raw)) == {10_000_000}
    assert set(figures.send_lag_ns(raw)) == {20_000_000}


def test_even_schedules_have_equal_distances() -> None:
    due = schedule.even(250, 2.0)
    assert len(due) == 500
    assert set(np.diff(due)) == {4_000_000}
    assert due[0] == 0


def test_poisson_schedules_have_the_rate_and_the_spread_of_independent_callers() -> None:
    due = schedule.poisson(1_000, 60.0)
    gaps = np.diff(due) / 1e9
    assert len(due) == pytest.approx(60_000, rel=0.02)
    assert (np.diff(due) >= 0).all()
    assert due[-1] < 60e9
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03), "exponential: as wide as it is long"


def test_zipf_draws_each_rank_as_often_as_its_share() -> None:
    zipf = Zipf(1_000, EXPONENT)
    drawn = Counter(zipf.draw(200_000).tolist())
    expected = shares(1_000, EXPONENT) * 200_000
    of_rank = np.array([drawn[who] for who in zipf.customers_at(np.arange(1_000)).tolist()])
    chi_squared = float(((of_rank - expected) ** 2 / expected).sum())
    assert chi_squared < 1_200, "999 degrees of freedom: 1,143 is one in a thousand"
    assert expected[0] / expected[9] == pytest.approx(10**EXPONENT)


@pytest.mark.parametrize("customers", [1, 2, 10, 1_000, 99_991, 100_000])
def test_every_customer_has_one_rank(customers: int) -> None:
    numbers = Zipf(customers, EXPONENT).customers_at(np.arange(customers))
    assert len(np.unique(numbers)) == customers
    assert numbers.min() == 0
    assert numbers.max() == customers - 1


def test_without_skew_all_customers_are_alike() -> None:
    drawn = np.bincount(Zipf(100, 0.0).draw(100_000), minlength=100)
    assert drawn.min() > 800
    assert drawn.max() < 1_200


PAGE = """
# HELP decision_service_stage_seconds Time of a decision by stage
decision_service_stage_seconds_bucket{le="0.001",stage="read"} %d
decision_service_stage_seconds_bucket{le="0.002",stage="read"} %d
decision_service_stage_seconds_bucket{le="+Inf",stage="read"} %d
decision_service_stage_seconds_count{stage="read"} %d
decision_service_stage_seconds_sum{stage="read"} %f
decision_service_other{stage="read"} 7.0
"""


def test_stages_are_the_difference_of_two_readings() -> None:
    before, after = stages.read(PAGE % (10, 20, 30, 30, 1.0)), stages.read(PAGE % (20, 110, 130, 130, 1.5))
    read = stages.between(before, after)["read"]
    assert read.count == 100
    assert read.mean_s == pytest.approx(0.005)
    assert read.percentile_s(50) == pytest.approx(0.0015), "half-way through the 80 between 1 and 2 ms"
    assert read.percentile_s(99) == 0.002, "above the last bound: at least that"
    assert stages.told({"read": read})["read"]["mean"] == 5_000.0


def test_a_stage_within_the_first_bucket_is_told_by_its_mean() -> None:
    reading = stages.read(PAGE % (100, 100, 100, 100, 0.002))
    assert stages.told(reading)["read"] == {"p50": 20.0, "p99": 20.0, "mean": 20.0}


def test_no_decisions_make_no_stages() -> None:
    reading = stages.read(PAGE % (1, 1, 1, 1, 1.0))
    assert stages.told(stages.between(reading, reading)) == {}

"""The scale model: every figure against one worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scale_figures import even, measured

from scale import model
from scale.model import Assumptions, between

GIVEN = Assumptions(events_per_decision=2.0, peak_over_mean=2.0, busy_core_max=0.5, busy_memory_max=0.5)


def test_between_two_measured_points_runs_a_straight_line() -> None:
    """And on beyond the outermost two, never below zero."""
    points = [(100.0, 10.0), (300.0, 30.0), (200.0, 20.0)]
    assert between(points, 150.0) == 15.0
    assert between(points, 200.0) == 20.0
    assert between(points, 400.0) == 40.0
    assert between(points, 50.0) == 5.0
    assert between([(0.0, 5.0), (10.0, 0.0)], 20.0) == 0.0
    assert between([(1.0, 7.0)], 99.0) == 7.0


def test_costs_are_those_of_the_assumed_history() -> None:
    """250 events: a log of 25,000 bytes, 400 of facts and 50 of ownership, and two device logs of 125 records each,
    100 + 12,500 bytes; 1,150 us of the service."""
    costs = model.costs_of(measured(), replace(GIVEN, events_per_customer=250.0))
    assert costs.customer_bytes == pytest.approx(25_000 + 400 + 50 + 2 * 12_600)
    assert costs.service_us == pytest.approx(1_150)
    assert costs.store_us == pytest.approx(175)
    assert costs.decision_bytes == 4_000
    assert costs.payee_log_bytes == 100 + 1_024 * 100
    assert costs.one_customer_per_s == 500
    assert costs.hot_payee_store_us == pytest.approx(175 + 50)


def test_a_device_log_is_capped() -> None:
    """10,000 events on one device: its log keeps 1,024."""
    one = replace(GIVEN, events_per_customer=10_000.0, devices_per_customer=1.0)
    costs = model.costs_of(measured(), one)
    assert costs.customer_bytes == pytest.approx(1_000_000 + 450 + 100 + 1_024 * 100)


def test_memory_is_customers_and_what_an_archive_has_yet_to_take() -> None:
    """10 M customers of 20,450 + 2 x 10,100 = 40,650 bytes, a hundredth payee log of 102,500 each: 416.75 GB. At a peak
    of 1,000/s, 500/s in the mean, a day of decisions with two events each: 43.2 M x (4,000 + 600) = 198.72 GB."""
    costs = model.costs_of(measured(), GIVEN)
    standing, kept = model.memory_bytes(costs, GIVEN, 10_000_000, 1_000.0)
    assert standing == pytest.approx(10_000_000 * (40_650 + 1_025))
    assert kept == pytest.approx(43_200_000 * 4_600)


def test_work_of_a_decision_with_its_events() -> None:
    """Store: 150 + 2 x 50 us. Out: 20,000 + 2 x 2,000 bytes and one replica's stream of 4,000 + 2 x 1,000."""
    doing = model.work(model.costs_of(measured(), GIVEN), GIVEN, 10.0)
    assert doing == {
        "service_us": 10 * (1_100 + 2 * 500), "store_us": 10 * 250, "in_bytes": 10 * (5_000 + 2 * 1_000),
        "out_bytes": 10 * (24_000 + 6_000), "aof_bytes": 10 * 6_000,
    }  # fmt: skip


def test_shards_by_each_resource() -> None:
    """At 10,000/s: 2.5 s of CPU a second at half a core each are 5 shards, 7.5 where the busiest has half as much
    again; 300 MB/s out over 625 MB/s; 60 MB/s to disks planned for 250; memory 2,404 GB over 32 GB each."""
    costs = model.costs_of(measured(), GIVEN)
    needs = model.shards_for(costs, GIVEN, 10_000_000, 10_000.0, 1.0)
    assert needs == pytest.approx(
        {"memory": (416.75 + 1_987.2) / 32, "cpu": 5.0, "network": 300 / 625, "disk": 60 / 250}
    )
    assert model.shards_for(costs, GIVEN, 10_000_000, 10_000.0, 1.5)["cpu"] == pytest.approx(7.5)


def test_rates_that_no_number_of_shards_raises() -> None:
    """A partition of 1/256: half a core over 250 us / 256; customer and payee of 1/1,000: 500/s, and 200 us each."""
    highest = model.highest_rates(model.costs_of(measured(), GIVEN), GIVEN, 10_000_000, even())
    assert highest == pytest.approx(
        {"partition": 256 * 500_000 / 250, "customer": 500_000, "payee": 1_000 * 500_000 / 200}
    )


def test_a_size_worked_out() -> None:
    """10 M customers at 10,000/s: 76 shards by memory, 152 servers with replicas; 21 s of service CPU a second are 42
    cores at half; 2.5 s of the store 10 with replicas."""
    cell = model.cell(model.costs_of(measured(), GIVEN), GIVEN, even(), 10_000_000, 10_000.0)
    assert cell.shards == math.ceil((416.75 + 1_987.2) / 32) == 76
    assert (cell.servers, cell.breaks_first, cell.feasible) == (152, "memory", True)
    assert (cell.service_cores, cell.store_cores) == pytest.approx((42.0, 10.0))
    assert cell.network_gbit == pytest.approx((7_000 + 30_000) * 10_000 * 8 / 1e9)
    assert cell.connections_of_a_shard == 84


def test_more_shards_than_partitions_are_not_possible() -> None:
    """1 B customers need 1,303 shards; 256 partitions feed 256, 4,096 feed all."""
    costs = model.costs_of(measured(), GIVEN)
    few = model.cell(costs, GIVEN, even(), 1_000_000_000, 1_000.0)
    assert (few.breaks_first, few.feasible) == ("partitions", False)
    many = model.cell(costs, GIVEN, even(4_096), 1_000_000_000, 1_000.0)
    assert (many.breaks_first, many.shards) == ("memory", math.ceil((41_675 + 198.72) / 32))


def test_a_full_partition_breaks_first() -> None:
    """At 600,000/s, above its 512,000."""
    cell = model.cell(model.costs_of(measured(), GIVEN), GIVEN, even(), 10_000_000, 600_000.0)
    assert (cell.breaks_first, cell.feasible) == ("partition", False)


def test_uneven_shards_ask_for_more_until_it_is_enough() -> None:
    """With nothing but CPU to pay for and twice the load on the busiest of 16 shards: at 20,000/s ten shards' worth, of
    which the busiest would have 1.6 times its share; 16 have room for twice, so between the two it settles."""
    balance = even()
    for row in balance["customers"]:
        row["hottest_shard"]["partitions"] = {"1": 1.0, "16": 2.0, "256": 2.0}
    free = replace(GIVEN, shard_memory_gb=1e9)
    cell = model.cell(model.costs_of(measured(), free), free, balance, 10_000_000, 20_000.0)
    assert cell.shards >= 10.0 * cell.hottest_shard - 1e-6
    assert 16 <= cell.shards <= 20


def test_the_knee_is_where_work_asks_for_as_much_as_memory() -> None:
    """Without decisions kept: 416.75 GB are 13.02 shards, as many as CPU asks for at 26,047/s."""
    free = replace(GIVEN, decisions_kept_days=0.0)
    knee = model.knee_per_s(model.costs_of(measured(), free), free, 10_000_000, even())
    assert knee == pytest.approx(416.75 / 32 * 500_000 / 250, rel=1e-6)


def test_the_knee_is_no_higher_than_a_partition_allows() -> None:
    """1 B customers: memory would decide beyond 512,000/s."""
    assert model.knee_per_s(model.costs_of(measured(), GIVEN), GIVEN, 1e9, even()) == pytest.approx(512_000)


def test_sensitivity_names_what_moves_most_first() -> None:
    """Twice the events of a customer is nearly twice the memory of all; twice the peak over the mean is less of it."""
    ranked = model.sensitivity(measured(), GIVEN, even())
    factors = dict(ranked)
    assert set(factors) == set(model.OF_THE_BUSINESS)
    assert [abs(math.log(factor)) for _, factor in ranked] == sorted(
        (abs(math.log(factor)) for factor in factors.values()), reverse=True
    )
    assert 1.0 < factors["events_per_customer"] < 2.0
    assert factors["peak_over_mean"] < 1.0


def test_an_exponent_that_was_not_simulated_is_refused() -> None:
    """Rather than taken for another."""
    with pytest.raises(ValueError, match=r"0\.7"):
        model.cells(measured(), replace(GIVEN, zipf=0.7), even())

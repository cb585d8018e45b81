"""How evenly the service's hashes spread load, against sums by hand and against what chance would do."""

from __future__ import annotations

import numpy as np
import pytest
from scale_figures import even  # noqa: F401  (makes `benchmarks` importable)

from decision_service.store.keys import log_key, partition_of, slot_of
from scale import balance


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.0, 1.2])
def test_the_sum_of_weights_is_exact_beyond_the_head_too(exponent: float) -> None:
    """Of 3 ranks by hand; of a million ranks, of which the head is a fifth, by adding them up."""
    assert balance.weight_sum(3, exponent) == pytest.approx(1 + 2**-exponent + 3**-exponent)
    all_of_them = float(np.sum(np.arange(1, 1_000_001, dtype=np.float64) ** -exponent))
    assert balance.weight_sum(1_000_000, exponent) == pytest.approx(all_of_them, rel=1e-9)


def test_the_hottest_of_all_alike_is_one_of_them() -> None:
    """And of ten under exponent 1: 1 / (1 + 1/2 + ... + 1/10)."""
    assert balance.hottest_share(1_000, 0.0) == pytest.approx(0.001)
    assert balance.hottest_share(10, 1.0) == pytest.approx(1 / 2.9289682539682538)


def test_shares_are_those_of_the_services_own_hash() -> None:
    """Five customers by hand."""
    shares = balance.partition_shares(5, 1.0, 16, salt=3)
    by_hand = np.zeros(16)
    for rank in range(5):
        by_hand[partition_of(f"c-3-{rank}", 16)] += 1 / (rank + 1)
    assert shares == pytest.approx(by_hand / by_hand.sum())
    assert balance.partition_shares(10**9, 1.2, 256).sum() == pytest.approx(1.0)


def test_partitions_lie_where_a_cluster_would_put_them() -> None:
    """Shard 3 of 4 equal ranges of slots has the partitions whose slots are 12,288 and above."""
    shard_of = balance.by_slots(256, 4)
    for partition in (0, 17, 255):
        assert shard_of[partition] == slot_of(log_key(partition, "c-1")) // 4_096


@pytest.mark.parametrize("shards", [1, 3, 16, 200, 256])
def test_by_partitions_every_shard_has_its_part(shards: int) -> None:
    """256 over the number of shards, rounded down or up, in the order of slots."""
    counts = np.bincount(balance.by_partitions(256, shards), minlength=shards)
    assert counts.sum() == 256
    assert set(counts) <= {256 // shards, -(-256 // shards)}


def test_hottest_is_the_busiest_shard_over_the_mean() -> None:
    """Shares 0.4, 0.1, 0.3, 0.2 on two shards: 0.5 and 0.5, or 0.7 and 0.3."""
    shares = np.array([0.4, 0.1, 0.3, 0.2])
    assert balance.hottest(shares, np.array([0, 0, 1, 1]), 2) == pytest.approx(1.0)
    assert balance.hottest(shares, np.array([0, 1, 0, 1]), 2) == pytest.approx(1.4)


def test_shards_fed_ends_at_the_first_that_is_too_uneven() -> None:
    """However even a later number happens to be."""
    assert balance.shards_fed({1: 1.0, 2: 1.2, 4: 1.6, 8: 1.1}) == 2
    assert balance.shards_fed({1: 1.0, 2: 1.5}) == 2


def test_all_alike_is_even_and_a_steeper_law_is_less_so() -> None:
    """Of a million customers: within a few per cent on 16 shards, and worse with every exponent."""
    found = balance.simulate([1_000_000], 256, 10_000)
    hottest = [row["hottest_shard"]["partitions"][16] for row in found["customers"]]
    assert hottest[0] == pytest.approx(1.0, abs=0.03)
    assert hottest == sorted(hottest)
    assert all(row["hottest_partition_share"] >= row["hottest_share"] for row in found["customers"])
    assert all(row["hottest_share"] > 0.02 for row in found["payees"] if row["exponent"] >= 0.8)

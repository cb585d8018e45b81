"""How evenly load falls on partitions, cluster slots and shards, simulated with the service's own hashes.

A customer's share of all decisions follows Zipf's law: rank r has weight r ** -exponent (0: all alike). Ids are hashed
by `store.keys.partition_of` and partitions to slots by `store.keys.slot_of`, as in production. The `HEAD` most active
customers are hashed one by one; all others together are spread evenly, which they are to within a fraction of a per
cent. Each figure is the median over `SALTS` different sets of ids.

Partitions get to shards in one of two ways:

    slots        the shards take equal ranges of the 16,384 slots, as cluster tools do by themselves: how many of the
                 256 partitions lie in a range is up to chance
    partitions   the ranges are cut so that each shard has equally many partitions

Hottest means the share of the busiest shard over the mean: a fleet of N shards serves N / hottest shards' worth.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.links import log_name
from decision_service.store.keys import partition_of, partition_of_entity, partition_prefix, slot_of

HEAD: Final = 200_000
SALTS: Final = 5
SLOTS: Final = 16_384
EXPONENTS: Final = (0.0, 0.8, 1.0, 1.2)
SHARDS: Final = tuple(2**n for n in range(13))
HOTTEST_MAX: Final = 1.5  # above it a third of the fleet idles: imbalance dominates

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def weight_sum(count: int, exponent: float) -> float:
    """The sum of r ** -exponent over ranks 1 to `count`: the head exactly, the rest by Euler and Maclaurin."""
    head = min(count, HEAD)
    total = float(np.sum(np.arange(1, head + 1, dtype=np.float64) ** -exponent))
    if count == head:
        return total
    a, b = float(head), float(count)
    integral = np.log(b / a) if exponent == 1.0 else (b ** (1 - exponent) - a ** (1 - exponent)) / (1 - exponent)
    return float(total + integral + (b**-exponent - a**-exponent) / 2)


def hottest_share(count: int, exponent: float) -> float:
    """The share of the most active of `count`."""
    return 1.0 / weight_sum(count, exponent)


@lru_cache(maxsize=64)
def _homes(partitions: int, salt: int, entities: bool) -> Ints:
    """The partition of each of the head's ids."""
    if entities:
        names = (partition_of_entity(log_name("payee", f"m-{salt}-{rank}"), partitions) for rank in range(HEAD))
    else:
        names = (partition_of(f"c-{salt}-{rank}", partitions) for rank in range(HEAD))
    return np.fromiter(names, np.int64, HEAD)


def partition_shares(count: int, exponent: float, partitions: int, salt: int = 0, entities: bool = False) -> Floats:
    """The share of all load that each partition has; they add up to 1. `entities`: load on logs of payees."""
    head = min(count, HEAD)
    weights = np.arange(1, head + 1, dtype=np.float64) ** -exponent
    found = np.asarray(np.bincount(_homes(partitions, salt, entities)[:head], weights, partitions), np.float64)
    total = weight_sum(count, exponent)
    return np.asarray((found + (total - float(weights.sum())) / partitions) / total, np.float64)


def by_slots(partitions: int, shards: int) -> Ints:
    """The shard of each partition where shards take equal ranges of slots."""
    return _slots(partitions) * shards // SLOTS


def by_partitions(partitions: int, shards: int) -> Ints:
    """The shard of each partition where shards take equally many partitions, in the order of their slots."""
    order = np.argsort(_slots(partitions), kind="stable")
    found = np.empty(partitions, np.int64)
    found[order] = np.arange(partitions) * shards // partitions
    return found


@lru_cache(maxsize=8)
def _slots(partitions: int) -> Ints:
    return np.array([slot_of(partition_prefix(p)) for p in range(partitions)], np.int64)


def hottest(shares: Floats, shard_of: Ints, shards: int) -> float:
    """The busiest shard's load over the mean of all shards."""
    return float(np.bincount(shard_of, shares, shards).max()) * shards


def shards_fed(hottest_by_shards: dict[int, float]) -> int:
    """The most shards before imbalance dominates: none up to there is beyond HOTTEST_MAX."""
    fed = 0
    for shards in sorted(hottest_by_shards):
        if hottest_by_shards[shards] > HOTTEST_MAX:
            break
        fed = shards
    return fed


def simulate(customers: Sequence[int], partitions: int, payees: int) -> dict[str, Any]:
    """Everything: for each number of customers and exponent the hottest shard by number of shards and way, the hottest
    partition and customer; the same of payees' logs."""
    ways = {"slots": by_slots, "partitions": by_partitions}

    def of(count: int, exponent: float, entities: bool) -> dict[str, Any]:
        shares = [partition_shares(count, exponent, partitions, salt, entities) for salt in range(SALTS)]
        found = {
            way: {
                shards: statistics.median(hottest(one, shard_of(partitions, shards), shards) for one in shares)
                for shards in SHARDS
                if shards <= partitions
            }
            for way, shard_of in ways.items()
        }
        return {
            "count": count,
            "exponent": exponent,
            "hottest_share": hottest_share(count, exponent),
            "hottest_partition_share": statistics.median(float(one.max()) for one in shares),
            "hottest_shard": found,
            "shards_fed": {way: shards_fed(by) for way, by in found.items()},
        }

    return {
        "partitions": partitions,
        "customers": [of(count, exponent, False) for count in customers for exponent in EXPONENTS],
        "payees": [of(payees, exponent, True) for exponent in EXPONENTS],
    }

"""Noise: a difference counts if it is more than chance would make of the parts that both runs have."""

from __future__ import annotations

import copy
import math
import statistics

import numpy as np
import pytest
from load_documents import run

from load_report.noise import BLOCKS, Difference, blocks_of, chance, compared, t_99


@pytest.mark.parametrize(("degrees", "t"), [(1.0, 63.66), (4.9, 4.604), (10.99, 3.169), (25.0, 2.845), (500.0, 2.576)])
def test_t_is_that_of_the_table(degrees: float, t: float) -> None:
    """Students's t, two-sided 99 %; between two lines of the table the more careful one."""
    assert t_99(degrees) == t


def test_chance_is_welchs_by_hand() -> None:
    """Two sets of three with variances 1 and 4: standard error sqrt(1/3 + 4/3), 2.94 degrees, t 9.925 of 2 degrees."""
    assert chance([9.0, 10.0, 11.0], [18.0, 20.0, 22.0]) == pytest.approx(9.925 * math.sqrt(5 / 3))
    assert chance([1.0], [1.0, 2.0]) is None
    assert chance([3.0, 3.0], [4.0, 4.0]) == 0.0


def test_equal_runs_differ_by_noise_alone_in_about_one_of_a_hundred() -> None:
    """Of 2,000 pairs from one distribution at most 2 % are said to differ."""
    rng = np.random.default_rng(1)
    said = 0
    for _ in range(2_000):
        first, second = rng.normal(100.0, 10.0, (2, 6)).tolist()
        noise = chance(first, second)
        assert noise is not None
        said += abs(statistics.mean(first) - statistics.mean(second)) > noise
    assert said <= 40


def test_blocks_are_parts_of_the_time_with_a_rate_each() -> None:
    """At 500 a second every block has that rate."""
    blocks = blocks_of(run("one", 500.0, 900.0, 1, 6.0))
    assert len(blocks) == BLOCKS
    assert [block["per_s"] for block in blocks] == pytest.approx([500.0] * BLOCKS, rel=0.02)


def test_three_rounds_each_say_more_than_their_timelines() -> None:
    """A figure without a timeline has its noise from rounds."""
    rounds = [run("one", 500.0, 900.0, seed, 4.0) for seed in range(6)]
    for i, one in enumerate(rounds):
        one["cpu_us"]["server"] = 800.0 + i % 3
    found = compared("CPU", "us", (rounds[:3], rounds[3:]), ("cpu_us", "server"))
    assert (found.first, found.second, found.says) == (801.0, 801.0, "the same")
    faster = copy.deepcopy(rounds[3:])
    for one in faster:
        one["cpu_us"]["server"] -= 50.0
    assert compared("CPU", "us", (rounds[:3], faster), ("cpu_us", "server")).says == "better, beyond the noise"
    assert compared("CPU", "us", (rounds[:1], faster[:1]), ("cpu_us", "server")).says == (
        "noise not known: one round each"
    )


@pytest.mark.parametrize(
    ("difference", "says"),
    [
        (Difference("p50", "us", 100.0, 120.0, 10.0), "worse, beyond the noise"),
        (Difference("p50", "us", 100.0, 80.0, 10.0), "better, beyond the noise"),
        (Difference("rate", "/s", 100.0, 80.0, 10.0, lower_is_better=False), "worse, beyond the noise"),
        (Difference("rate", "/s", 100.0, 80.0, 10.0, lower_is_better=None), "other, beyond the noise"),
        (Difference("p50", "us", 100.0, 105.0, 10.0), "within the noise"),
        (Difference("p50", "us", 100.0, math.nan, 10.0), "not known of both"),
        (Difference("p50", "us", 100.0, 105.0, None), "noise not known: one round each"),
    ],
)
def test_a_difference_says_plainly_what_it_is(difference: Difference, says: str) -> None:
    """One sentence for each case."""
    assert difference.says == says

"""The kernel equals the definition, feature by feature, on histories of every ugly kind."""

from __future__ import annotations

import pytest
from cases import random_case
from definition import features
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runner import computed, differences, shipped_catalogue
from oracle_links import Question, link_features

SIZES = (0, 1, 2, 3, 5, 8, 12, 25, 40, 80, 200)
ZONES = ("Asia/Shanghai", "America/New_York")


def defined_here() -> set[str]:
    """Shipped features that analysts see, companions aside."""
    return {spec.name for spec in shipped_catalogue().specs if not spec.internal and not spec.surge_of}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("n", SIZES)
def test_kernel_equals_definition(n: int, zone: str) -> None:
    """Late, duplicate, same-millisecond, out of order, settled twice: every feature is what the oracle says."""
    for seed in range(6):
        case = random_case(1_000 * n + seed, n, zone=zone)
        assert differences(computed(case), features(case)) == []


@given(st.integers(0, 10**9), st.integers(0, 60), st.sampled_from(ZONES), st.booleans())
@settings(max_examples=60, deadline=None)
def test_kernel_equals_definition_on_any_seed(seed: int, n: int, zone: str, ordered: bool) -> None:
    """Hypothesis finds no history on which kernel and definition part."""
    case = random_case(seed, n, zone=zone, ordered=ordered)
    assert differences(computed(case), features(case)) == []


@pytest.mark.slow
@pytest.mark.parametrize("n", [1_023, 1_024, 4_096])
def test_kernel_equals_definition_on_full_logs(n: int) -> None:
    """A log at the cap, and one at the size the buffers start with, give the defined values."""
    case = random_case(n, n)
    assert differences(computed(case), features(case)) == []


def test_definition_covers_every_shipped_row() -> None:
    """No feature an analyst sees is without a definition in the oracle."""
    elsewhere = link_features([], Question(0, 1, 1)).keys()
    assert defined_here() - features(random_case(1, 30)).keys() - elsewhere == set()


def test_companion_is_one_exactly_when_something_is_divided_by_nothing() -> None:
    """`__new` of every companion the oracle defines agrees, and no ratio is ever infinite."""
    case = random_case(3, 40)
    got, expected = computed(case), features(case)
    companions = [name for name in expected if name.endswith("__new")]
    assert len(companions) > 20
    assert differences(got, {name: expected[name] for name in companions}) == []
    assert all(value is None or abs(value) < 1e18 for value in got.values())

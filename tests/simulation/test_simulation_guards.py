"""The simulator finds mistakes: each guard of the service, taken away by itself, is missed within some hundred."""

from __future__ import annotations

import pytest
from broken_guards import GUARDS, Broken
from sim_check import violations
from sim_history import run

SEEDS_MAX = 1_500


@pytest.mark.parametrize("broken", GUARDS, ids=lambda broken: broken.__name__)
def test_simulation_finds_a_broken_guard(broken: Broken) -> None:
    """A history in which an invariant that rests on this guard is broken turns up, and its report names it."""
    with broken():
        for seed in range(SEEDS_MAX):
            if any(found.startswith(GUARDS[broken]) for found in violations(run(seed))):
                return
    pytest.fail(f"{SEEDS_MAX} histories, and {broken.__name__} was not noticed")

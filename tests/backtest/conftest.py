"""Fixtures of the backtest's tests: an archive that a service made, with the small scorecard of the watching tests."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "service"))
sys.path.insert(0, str(Path(__file__).parent.parent / "watch"))

from candidates import attributes, write
from conftest_service import Clock
from lived_archive import Made, make_archive, wild_steps
from watched_service import write_scorecard


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Some 300 drawdowns of 12 customers."""
    folder = tmp_path_factory.mktemp("made")
    rng, clock = random.Random(5), Clock()
    write_scorecard(folder / "models", "1", rows=2_000)
    steps = wild_steps(rng, clock.ms, 12, 300, lambda: attributes(rng))
    return make_archive(folder, write(folder / "rules"), folder / "models", clock, steps, {"block": ["c-3"]})

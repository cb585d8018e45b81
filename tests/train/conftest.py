"""Training runs that tests look at, and training files that are theirs to spoil."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_files import write_config, write_woe_config

from decision_service.train import Trained, train


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One training run that the tests look at and leave alone."""
    root = tmp_path_factory.mktemp("trained")
    return train(write_config(root), None, lambda _text: None)


@pytest.fixture(scope="session")
def woe_trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One training run of a points scorecard that the tests look at and leave alone."""
    return train(write_woe_config(tmp_path_factory.mktemp("woe")), None, lambda _text: None)


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    """A training file of the test's own."""
    return write_config(tmp_path)

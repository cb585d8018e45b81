"""A small real scorecard on disk, trained once a session and copied for each test that spoils it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from scorecard_maker import Trained, train, write_scorecard


@pytest.fixture(scope="session")
def small_model() -> Trained:
    """30 trees of 8 leaves on five features."""
    return train(30, 8)


@pytest.fixture(scope="session")
def _pristine(small_model: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scorecard(tmp_path_factory.mktemp("models"), small_model)


@pytest.fixture
def version_directory(_pristine: Path, tmp_path: Path) -> Path:
    """A good scorecard's directory, the test's own copy."""
    target = tmp_path / "behaviour" / "1"
    shutil.copytree(_pristine, target)
    return target


@pytest.fixture
def reseal(version_directory: Path) -> Callable[[], None]:
    """Rewrites the checksum in the manifest to fit the model as it now is: an attacker, or a careless analyst."""

    def write() -> None:
        path = version_directory / "manifest.yaml"
        digest = sha256((version_directory / "model.txt").read_bytes()).hexdigest()
        before, after = path.read_text().split("sha256: ")
        path.write_text(f"{before}sha256: {digest}{after[64:]}")

    return write

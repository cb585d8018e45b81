"""Fixtures of the archive's tests: customers who lived a little, archived."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

for _folder in ("service", "scorecards"):  # the maker of small real scorecards, and the features they score
    sys.path.insert(0, str(Path(__file__).parent.parent / _folder))

from every_effect import EVERY_EFFECT  # noqa: E402
from lived import Lives, live  # noqa: E402
from replay_world import world  # noqa: E402

from decision_service.archive.files import Archive  # noqa: E402


@pytest.fixture(scope="session")
def _lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lived")

    async def go() -> None:
        async with world(folder, EVERY_EFFECT) as there:
            await live(Lives(there, 8, 12), 12)
            await there.archive(Archive(folder / "archive"))

    asyncio.run(go())
    return folder / "archive"


@pytest.fixture
def lived(_lived: Path, tmp_path: Path) -> Archive:
    """An archive of all sorts of decisions, to be spoilt."""
    shutil.copytree(_lived, tmp_path / "archive")
    return Archive(tmp_path / "archive")

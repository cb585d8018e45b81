"""A service that is watched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from watched_service import Serving, write_policy, write_scorecard

from service_process import ServiceProcess


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of the small scorecard; the second was trained on other people."""
    folder = tmp_path_factory.mktemp("watched") / "models"
    write_scorecard(folder, "1")
    write_scorecard(folder, "2", seed=50)
    (folder / "behaviour" / "active").write_text("1\n")
    return folder


@pytest.fixture(scope="session")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small policy."""
    return write_policy(tmp_path_factory.mktemp("watched_rules") / "rules")


@pytest.fixture
def serving(tmp_path: Path, valkey: str, rules: Path, models: Path) -> Iterator[Serving]:
    """Start a service on the shared store; it is stopped at the end."""
    started: list[ServiceProcess] = []

    def start(workers: int = 1, **settings: Any) -> ServiceProcess:
        told = {"request_age_max_ms": 300 * 86_400_000, "rules": rules, "models": models, **settings}
        service = ServiceProcess(tmp_path / f"service{len(started)}", store_url=valkey, workers=workers, **told)
        started.append(service)
        return service.start()

    yield start
    for service in started:
        service.stop()

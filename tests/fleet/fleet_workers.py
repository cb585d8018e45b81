"""Workers of one fleet in one process: each with the rules folder of its host, all on one store."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from conftest_service import RULES, T0_MS, write_policy

from decision_service.core.limits import HOUR_MS
from decision_service.policies.active_policy import ActivePolicy
from decision_service.store import Store

PATIENCE_S = 30.0
UNSTABLE = RULES.replace("vel_prior_10m >= burst", "vel_prior_10n >= burst")  # does not compile: a name is mistyped


class Worker(ActivePolicy):
    """One worker; what it told of itself and of the fleet is remembered."""

    def __init__(self, host: Path, store: Store, name: str = "") -> None:
        self.changes: list[tuple[str, bool]] = []
        self.fleet: tuple[int, bool] = (0, False)
        super().__init__(
            host / "rules", host / "models", "Asia/Shanghai", 24 * HOUR_MS, store, lambda: T0_MS,
            lambda _id, label, ok: self.changes.append((label, ok)), self._fleet_told,
        )  # fmt: skip
        self.worker_id = name or host.name

    def _fleet_told(self, skew: int, problem: bool) -> None:
        self.fleet = (skew, problem)

    @property
    def label(self) -> str:
        """The label of the policy in force."""
        return self.current.label


def save(host: Path, label: str, rules: str = RULES) -> None:
    """Edit a host's files, each by a rename as good editors do."""
    new = write_policy(host / "new", rules)
    (new / "policy.yaml").write_text(f'label: "{label}"\nlists: [block]\n', encoding="utf-8")
    for path in [path for path in new.rglob("*") if path.is_file()]:
        target = host / "rules" / path.relative_to(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(new)


def host(folder: Path, label: str = "one", rules: str = RULES) -> Path:
    """A host with its rules folder and no models."""
    (folder / "models").mkdir(parents=True)
    save(folder, label, rules)
    return folder


@asynccontextmanager
async def running(host: Path, store: Store, name: str = "") -> AsyncIterator[Worker]:
    """A started worker."""
    worker = Worker(host, store, name)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.close()


async def until(found: Callable[[], Any]) -> Any:
    """The first true value of `found()`."""
    end = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.02)
    return value


def files_of(host: Path) -> dict[str, str]:
    """The rules on a host's disk as somebody would send them."""
    rules = host / "rules"
    return {str(path.relative_to(rules)): path.read_text() for path in rules.rglob("*.yaml")}

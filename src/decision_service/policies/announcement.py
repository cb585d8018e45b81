"""What a worker says of itself to the fleet, and what it hears of the others.

Every worker keeps one line in the store: its id, the policy it runs, the number of that, the first line of its problem.
Lines that are not renewed are forgotten there. From everybody's lines a worker tells its metrics how many policies the
fleet runs beyond one (skew). A store that is away is passed over: the next announcement makes up for it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from decision_service.core.errors import StoreError
from decision_service.policies.in_force import STORE_TIMEOUT_S, PolicyInForce
from decision_service.store import Store, WorkerStatus


class FleetAnnouncement:
    """Announces what is in force here; `on_fleet(skew, problem)` is told what the fleet runs."""

    def __init__(
        self, store: Store, now_ms: Callable[[], int], on_fleet: Callable[[int, bool], None], in_force: PolicyInForce
    ) -> None:
        self._store = store
        self._now_ms = now_ms
        self._on_fleet = on_fleet
        self._in_force = in_force
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}"

    async def announce(self) -> None:
        """Say which policy this worker runs, once it runs one."""
        policy = self._in_force.policy
        if policy is None:
            return
        first, _, _ = self._in_force.problem.partition("\n")
        status = WorkerStatus(self.worker_id, policy.id, policy.label, self._now_ms(), first, self._in_force.bundle)
        with suppress(StoreError):
            await self._store.announce_worker(status, STORE_TIMEOUT_S)

    async def tell(self) -> None:
        """Announce this worker, and count how many policies the fleet runs."""
        await self.announce()
        with suppress(StoreError):
            workers = await self._store.workers(self._now_ms(), STORE_TIMEOUT_S)
            self._on_fleet(max(0, len({w.policy_id for w in workers}) - 1), bool(self._in_force.problem))

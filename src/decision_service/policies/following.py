"""Following the fleet: this worker takes what others publish, and gives what it could not publish itself.

Four times a second the store is asked, in two cheap commands, for moved lists and for the fleet's two numbers (newest
published policy, requested reloads). Only a number that has moved costs more. A policy that cannot be taken is tried
again when its number moves, this host's files change or a reload is asked for: then this host may hold what it lacked.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from decision_service.core.errors import PolicyRejected, StoreError
from decision_service.policies.activation import PolicyActivation
from decision_service.policies.announcement import FleetAnnouncement
from decision_service.policies.in_force import DISK, FLEET, STORE_TIMEOUT_S, PolicyInForce
from decision_service.policies.source import Candidate
from decision_service.store import FleetNumbers, Store

LOG = logging.getLogger("decision_service.policy")
POLL_S: Final = 0.25  # how often the store is asked for moved lists and reload requests
ANNOUNCE_S: Final = 2.0  # how often this worker says which policy it runs


class FleetFollowing:
    """Follows the store's numbers and lists. `lock`: one load at a time, whoever asks for it."""

    def __init__(
        self, store: Store, in_force: PolicyInForce, activation: PolicyActivation, announcement: FleetAnnouncement,
        lock: asyncio.Lock,
    ) -> None:  # fmt: skip
        self._store = store
        self._in_force = in_force
        self._activation = activation
        self._announcement = announcement
        self._lock = lock

    async def poll(self) -> None:
        """Follow and announce until cancelled."""
        since_told_s = ANNOUNCE_S
        while True:
            tells = since_told_s >= ANNOUNCE_S
            since_told_s = POLL_S if tells else since_told_s + POLL_S
            try:
                if tells:
                    await self._announcement.tell()
                await self.follow()
            except StoreError:
                pass
            except Exception:  # a worker that stopped following would decide by an old policy for ever
                LOG.exception("could not follow the fleet")
            await asyncio.sleep(POLL_S)

    async def follow(self) -> None:
        """Take over moved lists and the fleet's newest policy, and bring what is owed. StoreError."""
        await self._in_force.follow_lists()
        numbers, known = await self._store.read_fleet(STORE_TIMEOUT_S), self._activation.known
        if numbers.published < known.published:
            await self._store_forgot(numbers.published)
        elif numbers.published > known.published or numbers.reload != known.reload or self._activation.unpublished:
            await self._follow_numbers(numbers)
        await self._in_force.catch_up()

    async def _store_forgot(self, newest: int) -> None:
        """The store was emptied, or lost its last seconds in a failover: what the fleet ran is published again."""
        async with self._lock:
            LOG.warning("the store knows published policies up to %d, no longer to %d",
                        newest, self._activation.known.published)  # fmt: skip
            self._in_force.describe_again()
            await self._activation.lead_again(newest, self._announcement.worker_id)
        await self._announcement.announce()

    async def _follow_numbers(self, numbers: FleetNumbers) -> None:
        activation = self._activation
        async with self._lock:
            if activation.unpublished is not None:
                await self._lead(activation.unpublished)
            if numbers.published > activation.known.published:
                await activation.follow(numbers.published)
            elif numbers.reload != activation.known.reload != -1:
                await self.catch_up()
            activation.known = activation.known._replace(reload=numbers.reload)
        await self._announcement.announce()

    async def _lead(self, unpublished: Candidate) -> None:
        """Publish what could not be while the store was away, unless the fleet has gone further meanwhile."""
        try:
            await self._activation.lead_late(unpublished, self._announcement.worker_id)
        except PolicyRejected as error:
            self._activation.unpublished = None
            self._in_force.refuse(DISK, error)

    async def catch_up(self) -> None:
        """Try the fleet's policy again if it could not be taken. Hold the lock."""
        if self._in_force.problems[FLEET]:
            with suppress(StoreError):
                await self._activation.follow(self._activation.known.published)

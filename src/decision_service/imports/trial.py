"""The store of a dry run: reads come from the real store, what would be written stays here.

Facilities and attributes stay for the whole run, for events are judged by them. Logs of events stay while a customer is
being worked on: a history is judged in one go, so the oldest are forgotten again and memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from decision_service.core.errors import VersionMoved
from decision_service.core.facility import Attribute, Facility
from decision_service.core.state import CustomerState
from decision_service.store import Commit, LinkCounts, Store
from decision_service.store.memory import MemoryStore

CUSTOMERS_MAX: Final = 512  # far more than are worked on at one time


class TrialStore(MemoryStore):
    """A `Store` over another one that it never writes to."""

    def __init__(self, real: Store, *, partitions: int) -> None:
        super().__init__(partitions=partitions)
        self._real = real
        self._met: dict[str, CustomerState] = {}
        self._news: dict[str, tuple[Mapping[str, Facility], Mapping[str, Attribute]]] = {}

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """See `Store.read`."""
        if customer_id not in self._met:
            state = await self._real.read(customer_id, None, timeout_s)
            facilities, attributes = self._news.get(customer_id, ({}, {}))
            self._remember(
                customer_id,
                state._replace(
                    facilities={**state.facilities, **facilities}, attributes={**state.attributes, **attributes}
                ),
            )
        return self._met[customer_id]

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """See `Store.commit`."""
        state = self._met[commit.customer_id]
        if state.version != commit.expected_version:
            raise VersionMoved("the customer's state changed since it was read")
        facilities = {**state.facilities, **commit.facilities}
        attributes = {**state.attributes, **commit.attributes}
        log = (state.log if commit.trimmed_log is None else commit.trimmed_log) + commit.records
        if commit.facilities or commit.attributes:
            self._news[commit.customer_id] = (facilities, attributes)
        self._remember(commit.customer_id, CustomerState(state.version + 1, log, facilities, attributes))
        return state.version + 1

    def _remember(self, customer_id: str, state: CustomerState) -> None:
        self._met.pop(customer_id, None)
        self._met[customer_id] = state
        if len(self._met) > CUSTOMERS_MAX:
            del self._met[next(iter(self._met))]

    async def claim_facility(self, facility_id: str, customer_id: str, timeout_s: float) -> str:
        """See `Store.claim_facility`."""
        owner = await self._real.facility_owner(facility_id, timeout_s)
        return owner or await super().claim_facility(facility_id, customer_id, timeout_s)

    async def append_links(
        self, records: Mapping[bytes, bytes], records_max: int, kept_ms: int, timeout_s: float,
        left_out_ms: Mapping[bytes, int] = MappingProxyType({}),
    ) -> LinkCounts:  # fmt: skip
        """See `Store.append_links`: what becomes of links is no part of a dry run's report."""
        return LinkCounts()

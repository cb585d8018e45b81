"""What else is known and asked of customers: events, facilities, attributes, lists; `features` looks at features.

Everything here changes a customer through `change_customer`, so it can never miss a decision made at the same time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from decision_service.answer import instant
from decision_service.change import change_customer
from decision_service.core.errors import Conflict, InvalidInput, NotFound, StoreError
from decision_service.core.event import words_of
from decision_service.core.facility import Attribute, Facility, Position
from decision_service.core.ledger import position_of
from decision_service.core.request import PostedEvent
from decision_service.core.rules.attributes import AttributeSpec
from decision_service.core.source import Diagnostic, nearest_name
from decision_service.core.state import CustomerState
from decision_service.customer_features import CustomerFeatures
from decision_service.judge import EventOutcome
from decision_service.linker import Linker
from decision_service.policies.active_policy import ActivePolicy
from decision_service.policies.published import told_of
from decision_service.recording import EventBatch, Retention
from decision_service.shadow_policy.keeping import ShadowPolicy
from decision_service.shadow_policy.published import PublishedShadow
from decision_service.shadow_policy.standing import Standing
from decision_service.snapshots import is_news, newer_attributes, refuse_facility
from decision_service.store import Commit, Store

TIMEOUT_S: Final = 2.0  # of reads that no money waits for


@dataclass(frozen=True, slots=True)
class FacilityView:
    """A facility with what is derived from the log now."""

    facility: Facility
    position: Position


class Customers:
    """Reads and changes of customers other than decisions."""

    def __init__(
        self, store: Store, active: ActivePolicy, retention: Retention, linker: Linker, now_ms: Callable[[], int],
        shadow: ShadowPolicy | None = None,
    ) -> None:  # fmt: skip
        self.now_ms = now_ms
        self._linker = linker
        self.active = active
        self._shadow = shadow
        self._store = store
        self._retention = retention
        self.features = CustomerFeatures(store, active, now_ms)

    @property
    def known_attributes(self) -> Mapping[str, AttributeSpec]:
        """The declared attributes."""
        return self.active.current.attributes

    async def record_events(self, events: Sequence[PostedEvent]) -> dict[int, EventOutcome]:
        """Record a call's events, all of one customer in one atomic append; what became of each, by its index."""
        by_customer: dict[str, list[PostedEvent]] = defaultdict(list)
        for posted in events:
            by_customer[posted.customer_id].append(posted)
        batches = [
            EventBatch(name, of_one, self._retention, self._linker.new_id) for name, of_one in by_customer.items()
        ]
        results = await asyncio.gather(*(self._record(batch) for batch in batches), return_exceptions=True)
        outcomes = {index: outcome for batch in batches for index, outcome in batch.outcomes.items()}
        for error in results:
            if isinstance(error, BaseException):
                raise error  # some customers' events may be recorded: sending the call again is safe
        return outcomes

    async def _record(self, batch: EventBatch) -> None:
        await change_customer(self._store, batch.customer_id, batch.plan)
        if batch.planned is not None:
            self._linker.take(batch.planned)

    async def put_facility(self, facility: Facility) -> FacilityView:
        """Take over core banking's snapshot unless a later one is known. A snapshot is of now at the latest: one dated
        ahead would hide what is booked until then.

        Conflict for another customer's facility, InvalidInput for another currency than it is in.
        """
        facility = replace(facility, as_of_ms=min(facility.as_of_ms, self.now_ms()))
        known = await self._store.read(facility.customer_id, None, TIMEOUT_S)
        if facility.facility_id not in known.facilities:
            refuse_facility(facility.facility_id, known.facilities)  # before the claim: a refused call changes nothing
        owner = await self._store.claim_facility(facility.facility_id, facility.customer_id, TIMEOUT_S)
        if owner != facility.customer_id:
            raise Conflict("this facility belongs to another customer")

        def plan(state: CustomerState) -> Commit | None:
            if not is_news(facility, state.facilities):
                return None
            return Commit(facility.customer_id, state.version, facilities={facility.facility_id: facility})

        await change_customer(self._store, facility.customer_id, plan)
        return await self.facility(facility.facility_id)

    async def facility(self, facility_id: str) -> FacilityView:
        """A facility with its derived outstanding, reserved and available. NotFound."""
        owner = await self._store.facility_owner(facility_id, TIMEOUT_S)
        state = CustomerState() if owner is None else await self._store.read(owner, None, TIMEOUT_S)
        facility = state.facilities.get(facility_id)
        if facility is None:
            raise NotFound("no such facility")
        timeout_ms = self.active.current.reservation_timeout_ms
        return FacilityView(facility, position_of(facility, words_of(state.log), self.now_ms(), timeout_ms))

    async def put_attributes(self, customer_id: str, attributes: Mapping[str, Attribute]) -> None:
        """Take over declared attributes; of two values of one name the one with the later as_of holds."""
        for name in attributes:
            if name not in self.known_attributes:
                near = nearest_name(name, self.known_attributes)
                raise InvalidInput(name, "no such attribute is declared" + (f": did you mean {near}?" if near else ""))

        def plan(state: CustomerState) -> Commit | None:
            newer = newer_attributes(attributes, state.attributes)
            return Commit(customer_id, state.version, attributes=newer) if newer else None

        await change_customer(self._store, customer_id, plan)

    async def list_values(self, name: str) -> frozenset[str]:
        """What stands on a list. NotFound for a list the policy does not declare."""
        self._refuse_list(name)
        _, lists = await self._store.read_lists(-1, TIMEOUT_S)
        return (lists or {}).get(name, frozenset())

    async def on_list(self, name: str, value: str) -> bool:
        """Whether a value stands on a list."""
        return value in await self.list_values(name)

    async def change_list(self, name: str, value: str, present: bool, by: str = "") -> bool:
        """Put a value on a list or take it off; whether that changed anything. Live everywhere within a second. `by` is
        the principal who asks for it."""
        self._refuse_list(name)
        return await self._store.change_list(name, value, present, TIMEOUT_S, by)

    def _refuse_list(self, name: str) -> None:
        if name not in self.active.current.list_names:
            raise NotFound(f"no list {name!r} is declared: {', '.join(self.active.current.list_names) or 'none'}")

    async def policy_status(self) -> dict[str, Any]:
        """What is active on each worker, and what this worker makes of the files on disk."""
        policy, active = self.active.current, self.active
        try:
            workers, store_problem = await self._store.workers(self.now_ms(), TIMEOUT_S), None
        except StoreError as error:  # just then one wants to know what this worker runs
            workers, store_problem = (), error.message
        return {
            "id": policy.id, "label": policy.label, "bundle": active.bundle,
            "skew": len({w.policy_id for w in workers}) > 1, "worker_id": active.worker_id,
            "problem": active.problem or None,
            "store_problem": store_problem, "rollback": active.rollback, "watch": active.watch.as_json(),
            "rehearsal": None if active.rehearsal is None else active.rehearsal.as_json(),
            "diagnostics": [d.as_json() for d in active.diagnostics],
            "warnings": [d.as_json() for d in active.warnings],
            "files": {name: document.sha256 for name, document in sorted(policy.documents.items())},
            "scorecards": {card.name: card.version for card in policy.scorecards.values()},
            "roles": policy.roles(),
            "shadow": (Standing() if self._shadow is None else self._shadow.standing).as_json(),
            "lists": {name: len(policy.lists[name]) for name in policy.list_names},
            "features_used": len(policy.feature_names),
            "rules": sum(len(scene.rule_set.rules) for scene in policy.scenes.values()),
            "scenes": {
                name: {
                    "rule_set": scene.rule_set.spec.name, "rules": len(scene.rule_set.rules),
                    "features_used": len(scene.plan.names),
                }
                for name, scene in policy.scenes.items()
            },
            "workers": [
                {
                    "worker_id": w.worker_id, "policy_id": w.policy_id, "policy_label": w.policy_label,
                    "seen_at": instant(w.seen_at_ms), "problem": w.problem or None, "bundle": w.bundle,
                }
                for w in workers
            ],
        }  # fmt: skip

    async def check_policy(self, files: Mapping[str, str]) -> list[Diagnostic]:
        """Compile the rules folder with these files put in place, and return every finding; nothing changes."""
        return await self.active.check(files)

    async def reload_policy(self, *, force: bool) -> dict[str, Any]:
        """Take what is on disk and publish it to every worker; what is active afterwards."""
        await self.active.reload_everywhere(force=force)
        return await self.policy_status()

    async def publish_policy(self, files: Mapping[str, str], by: str, *, force: bool) -> dict[str, Any]:
        """Compile and publish these files to every worker; what is active afterwards. PolicyRejected,
        ScorecardRejected, StoreError: nothing changed."""
        await self.active.publish(files, by, force=force)
        return await self.policy_status()

    async def restore_policy(self, number: int, by: str, *, force: bool) -> dict[str, Any]:
        """Publish an earlier policy again; what is active afterwards. NotFound, and as `publish_policy`."""
        await self.active.restore(number, by, force=force)
        return await self.policy_status()

    async def publish_shadow(self, files: Mapping[str, str], by: str) -> dict[str, Any]:
        """Compile these files and publish them to be in shadow on every worker; what is published. PolicyRejected,
        ScorecardRejected, StoreError: nothing changed."""
        candidate = await self.active.compile_beside(files)
        number = await PublishedShadow(self._store).publish(candidate, by, self.now_ms())
        return {"number": number, "id": candidate.policy.id, "label": candidate.policy.label}

    async def stop_shadow(self) -> bool:
        """Take away what is published to be in shadow; whether anything was."""
        return await PublishedShadow(self._store).stop()

    async def policy_versions(self) -> list[dict[str, Any]]:
        """The published policies that are kept, newest first."""
        return told_of(await self.active.published())

    async def policy_version(self, number: int) -> dict[str, Any]:
        """One published policy with its files. NotFound, PolicyRejected if the store's copy is damaged."""
        heads, content = await self.active.published_content(number)
        told = next(version for version in told_of(heads) if version["number"] == number)
        return {**told, "files": dict(sorted(content.sent_files.items()))}

    async def problems(self) -> list[str]:
        """Why the service is not ready; empty if it is."""
        if self.active.policy is None:
            return ["policy: none is loaded"]
        try:
            return [f"store: {problem}" for problem in await self._store.check()]
        except StoreError as error:
            return [f"store: {error.message}"]

"""What else is known and asked of customers: events, facilities, attributes, features, lists.

Everything here changes a customer through `change_customer`, so it can never miss a decision made at the same time.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from decision_service.active_policy import ActivePolicy
from decision_service.answer import instant
from decision_service.change import change_customer
from decision_service.core.decide import fill_inputs
from decision_service.core.errors import Conflict, InvalidInput, NotFound, StoreError
from decision_service.core.event import words_of
from decision_service.core.facility import Attribute, Facility, Position
from decision_service.core.features.nulls import NullRule
from decision_service.core.ledger import position_of
from decision_service.core.policy import Policy
from decision_service.core.request import DrawdownRequest, PostedEvent
from decision_service.core.rules.attributes import AttributeSpec
from decision_service.core.source import Diagnostic, nearest_name
from decision_service.core.state import CustomerState
from decision_service.dictionary.entry import Dictionary
from decision_service.dictionary.explained import explain
from decision_service.dictionary.page import html_page
from decision_service.feature_question import FeatureQuestion, facility_for, imagined_request
from decision_service.judge import EventOutcome
from decision_service.linker import Linker
from decision_service.recording import EventBatch, Retention
from decision_service.snapshots import facility_entry, is_news, newer_attributes, refuse_facility
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
        self, store: Store, active: ActivePolicy, retention: Retention, linker: Linker, now_ms: Callable[[], int]
    ) -> None:
        self.now_ms = now_ms
        self._linker = linker
        self.active = active
        self._store = store
        self._retention = retention
        self._page = ("", b"")  # policy id and its page

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
            refuse_facility(
                facility.facility_id, known.facilities
            )  # before the claim, for a refused call changes nothing
        owner = await self._store.claim_facility(facility.facility_id, facility.customer_id, TIMEOUT_S)
        if owner != facility.customer_id:
            raise Conflict(f"facility {facility.facility_id!r} belongs to another customer")

        def plan(state: CustomerState) -> Commit | None:
            if not is_news(facility, state.facilities):
                return None
            return Commit(
                facility.customer_id, state.version, facilities={facility.facility_id: facility},
                outbox=(facility_entry(facility),),
            )  # fmt: skip

        await change_customer(self._store, facility.customer_id, plan)
        return await self.facility(facility.facility_id)

    async def facility(self, facility_id: str) -> FacilityView:
        """A facility with its derived outstanding, reserved and available. NotFound."""
        owner = await self._store.facility_owner(facility_id, TIMEOUT_S)
        state = CustomerState() if owner is None else await self._store.read(owner, None, TIMEOUT_S)
        facility = state.facilities.get(facility_id)
        if facility is None:
            raise NotFound(f"no facility {facility_id!r}")
        timeout_ms = self.active.current.reservation_timeout_ms
        return FacilityView(facility, position_of(facility, words_of(state.log), self.now_ms(), timeout_ms))

    async def put_attributes(self, customer_id: str, attributes: Mapping[str, Attribute]) -> None:
        """Take over declared attributes; of two values of one name the one with the later as_of holds."""
        for name in attributes:
            if name not in self.known_attributes:
                near = nearest_name(name, self.known_attributes)
                raise InvalidInput(name, "no such attribute is declared" + (f": did you mean {near}?" if near else ""))

        def plan(state: CustomerState) -> Commit | None:
            newer = newer_attributes(attributes, state)
            return Commit(customer_id, state.version, attributes=newer) if newer else None

        await change_customer(self._store, customer_id, plan)

    async def features(
        self, customer_id: str, names: Sequence[str] | None, at_ms: int | None, facility_id: str | None
    ) -> dict[str, Any]:
        """Features of a customer now or at an instant, as the next decision on a draw of nothing would see them.

        NotFound for a customer without events and facilities, InvalidInput for an unknown name or facility.
        """
        policy = self.active.current
        state = await self._store.read(customer_id, None, TIMEOUT_S)
        if state.version == 0:
            raise NotFound(f"no customer {customer_id!r}")
        wanted = list(policy.catalogue.by_name) if names is None else list(names)
        for name in wanted:
            if name not in policy.catalogue.by_name:
                near = nearest_name(name, policy.catalogue.by_name)
                raise InvalidInput("names", f"unknown feature {name!r}" + (f": did you mean {near}?" if near else ""))
        t_ms = self.now_ms() if at_ms is None else at_ms
        values = compute_features(policy, state, customer_id, facility_id, wanted, t_ms)
        return {
            "customer_id": customer_id, "at": instant(t_ms), "policy_id": policy.id,
            "features": {
                name: {
                    "value": value, "unit": spec.unit, "meaning": spec.meaning_en, "definition": spec.definition,
                    "null_code": spec.null.text, "null_cause": null_cause(spec.null) if value is None else None,
                }
                for name, value in zip(wanted, values, strict=True)
                for spec in (policy.catalogue.by_name[name],)
            },
        }  # fmt: skip

    async def explain_feature(self, question: FeatureQuestion, name: str, *, deep: bool) -> dict[str, Any]:
        """One feature of a customer with the events and parts that make it up (see `dictionary.explained`).

        NotFound for an unknown feature or customer, InvalidInput for another customer's facility.
        """
        policy = self.active.current
        if name not in policy.catalogue.by_name:
            near = nearest_name(name, policy.catalogue.by_name)
            raise NotFound(f"no feature {name!r}" + (f": did you mean {near}?" if near else ""))
        state = await self._store.read(question.customer_id, None, TIMEOUT_S)
        if state.version == 0:
            raise NotFound(f"no customer {question.customer_id!r}")
        t_ms = self.now_ms() if question.at_ms is None else question.at_ms
        facility = facility_for(question.customer_id, state, question.facility_id, t_ms)
        request = imagined_request(question, facility, t_ms)
        return await asyncio.to_thread(explain, policy, state, facility, request, name, deep=deep)

    async def features_page(self) -> bytes:
        """The active policy's features as one HTML page; made once a policy."""
        policy = self.active.current
        if self._page[0] != policy.id:
            page = await asyncio.to_thread(lambda: html_page(Dictionary(policy)).encode())
            self._page = policy.id, page
        return self._page[1]

    async def list_values(self, name: str) -> frozenset[str]:
        """What stands on a list. NotFound for a list the policy does not declare."""
        self._refuse_list(name)
        _, lists = await self._store.read_lists(-1, TIMEOUT_S)
        return (lists or {}).get(name, frozenset())

    async def on_list(self, name: str, value: str) -> bool:
        """Whether a value stands on a list."""
        return value in await self.list_values(name)

    async def change_list(self, name: str, value: str, present: bool) -> bool:
        """Put a value on a list or take it off; whether that changed anything. Live everywhere within a second."""
        self._refuse_list(name)
        return await self._store.change_list(name, value, present, TIMEOUT_S)

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
            "id": policy.id, "label": policy.label, "worker_id": active.worker_id, "problem": active.problem or None,
            "store_problem": store_problem,
            "diagnostics": [d.as_json() for d in active.diagnostics],
            "warnings": [d.as_json() for d in active.warnings],
            "files": {name: document.sha256 for name, document in sorted(policy.documents.items())},
            "scorecards": {s.scorecard.name: s.scorecard.version for s in policy.score_slots},
            "lists": {name: len(policy.lists[name]) for name in policy.list_names},
            "features_used": len(policy.plan.names), "rules": len(policy.rule_set.rules),
            "workers": [
                {
                    "worker_id": w.worker_id, "policy_id": w.policy_id, "policy_label": w.policy_label,
                    "seen_at": instant(w.seen_at_ms), "problem": w.problem or None,
                }
                for w in workers
            ],
        }  # fmt: skip

    async def check_policy(self, files: Mapping[str, str]) -> list[Diagnostic]:
        """Compile the rules folder with these files put in place, and return every finding; nothing changes."""
        return await self.active.check(files)

    async def reload_policy(self) -> dict[str, Any]:
        """Reload from disk here and on every worker; what is active afterwards."""
        await self.active.reload_everywhere()
        return await self.policy_status()

    async def problems(self) -> list[str]:
        """Why the service is not ready; empty if it is."""
        if self.active.policy is None:
            return ["policy: none is loaded"]
        try:
            return [f"store: {problem}" for problem in await self._store.check()]
        except StoreError as error:
            return [f"store: {error.message}"]


def compute_features(
    policy: Policy,
    state: CustomerState,
    customer_id: str,
    facility_id: str | None,
    names: Sequence[str],
    t_ms: int,
) -> list[float | None]:
    """Values of features at an instant for a request of nothing on one facility (the only one if none is named)."""
    facility = facility_for(customer_id, state, facility_id, t_ms)
    request = DrawdownRequest(
        "", customer_id, facility.facility_id, 0, facility.currency, t_ms, None, None, None, None, None, None, None,
        b"", b"",
    )  # fmt: skip
    plan = policy.for_names(names)
    words = words_of(state.log)
    first = policy.first_feature
    numbers = policy.numbers.copy()
    numbers.resize(first + len(plan.names), refcheck=False)
    position = position_of(facility, words, t_ms, policy.reservation_timeout_ms)
    row = policy.row.copy()
    fill_inputs(request, state, policy, facility, position, words, t_ms, numbers, row)
    plan.compute(words, row, numbers)
    slots = {name: first + i for i, name in enumerate(plan.names)}
    values = (float(numbers[slots[name]]) for name in names)
    return [None if math.isnan(value) else value for value in values]


def null_cause(null: NullRule) -> str:
    """Why a feature with these null codes can be unknown, in words."""
    causes = []
    if null.min_n:
        causes.append(f"fewer than {null.min_n} observations")
    if null.surge:
        causes.append("nothing to divide by")
    if null.age_days is not None:
        causes.append("the facility is younger than the window" if null.age_days == 0 else "the facility is too young")
    if "X" in null.codes or not causes:
        causes.append("an input is missing")
    return " or ".join(causes)

"""The real service over the store in memory, with a clock that a case sets.

A service and a store of its own for every case, so that no case sees another's customers; the compiled policy is
shared. Bodies go through the parsers of the API, as `api/handlers.py` has them do.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import orjson

from decision_service.api.handlers import check_attributes
from decision_service.api.parse import (
    Clock,
    parse_attributes,
    parse_decision,
    parse_event,
    parse_facility,
    read_events,
)
from decision_service.bootstrap import linker_of, retention_of
from decision_service.cases.calling import CaseResult, carry_out
from decision_service.cases.case import Body, Case
from decision_service.core.errors import DecisionServiceError, InvalidInput
from decision_service.core.policy import Policy
from decision_service.customers import Customers
from decision_service.policies.active_policy import ActivePolicy
from decision_service.service import DecisionService
from decision_service.settings import Settings
from decision_service.store.memory import MemoryStore
from decision_service.telemetry import Meters
from decision_service.warm import warm

BUDGET_MS: Final = 60_000  # nobody waits for the answer, and the machine may be busy


class InMemory:
    """`Answerer` in this process."""

    def __init__(self, policy: Policy, settings: Settings, meters: Meters) -> None:
        """For one case, inside a running loop."""
        self._now_ms = 0
        self._settings = settings
        self._store = store = MemoryStore(partitions=settings.partitions)
        self._lists: dict[str, set[str]] = {}
        self._active = ActivePolicy(
            settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, store, self._clock,
            lambda *_: None,
        )  # fmt: skip
        self._active.policy = policy.with_lists({})
        self._linker = linker_of(settings, store, meters, self._clock)
        retention = retention_of(settings)
        self._decisions = DecisionService(
            store, self._active, meters, settings.partitions, retention, self._linker, settings.links_budget_ms,
            self._clock,
        )  # fmt: skip
        self._customers = Customers(store, self._active, retention, self._linker, self._clock)

    def _clock(self) -> int:
        return self._now_ms

    def _bounds(self) -> Clock:
        return Clock(self._now_ms, self._settings.clock_ahead_max_ms, self._settings.request_age_max_ms)

    async def be_at(self, now_ms: int) -> None:
        """See `Answerer.be_at`."""
        self._now_ms = now_ms
        await self._linker.flush()

    async def put_facility(self, facility_id: str, body: Body) -> None:
        """See `Answerer.put_facility`."""
        await self._customers.put_facility(parse_facility(orjson.dumps(body), facility_id, self._bounds()))

    async def put_attributes(self, customer_id: str, body: Body) -> None:
        """See `Answerer.put_attributes`."""
        attributes = parse_attributes(orjson.dumps(body), self._bounds())
        values = {name: attribute.value for name, attribute in attributes.items()}
        check_attributes(values, self._customers.known_attributes, "attributes.")
        await self._customers.put_attributes(customer_id, attributes)

    async def put_on_list(self, name: str, value: str) -> None:
        """See `Answerer.put_on_list`."""
        await self._customers.change_list(name, value, True)
        self._lists.setdefault(name, set()).add(value)
        lists = {name: frozenset(values) for name, values in self._lists.items()}
        self._active.policy = self._active.current.with_lists(lists)

    async def post_events(self, bodies: list[Body]) -> None:
        """See `Answerer.post_events`."""
        sent = read_events(orjson.dumps({"events": bodies}))
        posted = [parse_event(value, index, self._bounds()) for index, value in enumerate(sent)]
        for index, outcome in (await self._customers.record_events(posted)).items():
            if outcome.status != "accepted":
                reason = outcome.reason or f"{outcome.status}: given before"
                raise InvalidInput(f"events.{index}.{outcome.field or 'event_id'}", reason)

    async def decide(self, body: Body) -> Mapping[str, Any]:
        """See `Answerer.decide`."""
        request, _ = parse_decision(orjson.dumps(body), self._bounds())
        check_attributes(request.attributes, self._customers.known_attributes, "attributes.")
        answer = await self._decisions.decide(request, BUDGET_MS, perf_counter())
        told: Mapping[str, Any] = orjson.loads(await self._decisions.decision(answer.decision_id))
        return told


def run_cases(
    cases: Iterable[Case], policy: Policy, settings: Settings, on_done: Callable[[CaseResult], None] = lambda _: None
) -> list[CaseResult]:
    """Carry out cases one after the other; `on_done` is told of each."""
    warm(policy)
    with tempfile.TemporaryDirectory(prefix="decision-service-") as folder:
        meters = Meters(Path(folder))
        try:
            return list(_run_each(cases, policy, settings, meters, on_done))
        finally:
            meters.close()


def _run_each(
    cases: Iterable[Case], policy: Policy, settings: Settings, meters: Meters, on_done: Callable[[CaseResult], None]
) -> Iterator[CaseResult]:
    for case in cases:
        result = asyncio.run(_run(case, policy, settings, meters))
        on_done(result)
        yield result


async def _run(case: Case, policy: Policy, settings: Settings, meters: Meters) -> CaseResult:
    try:
        return await carry_out(case, InMemory(policy, settings, meters))
    except DecisionServiceError as error:
        field = f"{error.field}: " if isinstance(error, InvalidInput) and error.field else ""
        return CaseResult(case, (), f"{field}{error.message}")

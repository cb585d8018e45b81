"""A case carried out: the calls it makes, in order, on whatever answers them (`in_memory`, or a server)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from decision_service.cases.case import Body, Case, Instant, Step
from decision_service.cases.expecting import Mismatch, mismatches
from decision_service.cases.sending import UNSHIFTED, Shift, rendered
from decision_service.core.limits import EVENTS_PER_CALL_MAX


class Answerer(Protocol):
    """What answers the calls of a case. Bodies are ready to be sent; what it refuses is an InvalidInput."""

    async def be_at(self, now_ms: int) -> None:
        """It is now `now_ms`, if that is for it to say, and everything reported so far has sunk in."""
        ...

    async def put_facility(self, facility_id: str, body: Body) -> None:
        """PUT /v1/facilities/{facility_id}."""
        ...

    async def put_attributes(self, customer_id: str, body: Body) -> None:
        """PUT /v1/customers/{customer_id}/attributes."""
        ...

    async def put_on_list(self, name: str, value: str) -> None:
        """PUT /v1/lists/{name}/{value}."""
        ...

    async def post_events(self, bodies: list[Body]) -> None:
        """POST /v1/events; every one of them must be accepted."""
        ...

    async def decide(self, body: Body) -> Mapping[str, Any]:
        """POST /v1/decisions, then the decision with its trace."""
        ...


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of one question."""

    number: int
    step: Step
    answer: Mapping[str, Any]
    mismatches: tuple[Mismatch, ...]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of one case; `problem` says why it could not be carried out to its end."""

    case: Case
    steps: tuple[StepResult, ...]
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether every answer was as expected."""
        return not self.problem and not any(step.mismatches for step in self.steps)


async def carry_out(case: Case, answerer: Answerer, shift: Shift = UNSHIFTED, *, say_when: bool = False) -> CaseResult:
    """Carry a case out. `say_when`: requests tell their instant, for an answerer whose clock is another."""
    decisions: dict[int, str] = {}
    results = []
    for number, step in enumerate(case.steps, start=1):
        await _report(case, step, answerer, shift, decisions)
        if step.request is None:
            continue
        asked = {"occurred_at": Instant(step.now_ms), **step.request} if say_when else step.request
        answer = await answerer.decide(rendered(asked, shift, decisions))
        decisions[number] = str(answer["decision_id"])
        results.append(StepResult(number, step, answer, tuple(mismatches(step.expected, answer))))
    return CaseResult(case, tuple(results))


async def _report(case: Case, step: Step, answerer: Answerer, shift: Shift, decisions: Mapping[int, str]) -> None:
    """Everything that a step says before it asks."""
    await answerer.be_at(step.now_ms + shift.ms)
    for facility in step.facilities:
        body = rendered(facility, shift)
        await answerer.put_facility(body.pop("facility_id"), body)
    if step.attributes is not None:
        await answerer.put_attributes(shift.id(case.customer_id), rendered(step.attributes, shift))
    for name, values in step.lists.items():
        for value in values:
            await answerer.put_on_list(name, shift.id(value))
    for start in range(0, len(step.events), EVENTS_PER_CALL_MAX):
        some = step.events[start : start + EVENTS_PER_CALL_MAX]
        await answerer.post_events([rendered(event, shift, decisions) for event in some])
    await answerer.be_at(step.now_ms + shift.ms)

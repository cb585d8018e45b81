"""Looking at the features of one customer: their values, one of them explained, all of them as a page.

Nothing here is on the path of a decision: plans are laid out for what is asked, in a thread beside the event loop, and
entity logs are read where the question names the entity and a feature looks at it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from decision_service.answer import instant
from decision_service.core.errors import InvalidInput, NotFound
from decision_service.core.facility import Facility
from decision_service.core.features.closure import Closure
from decision_service.core.features.grains import log_read_by
from decision_service.core.features.nulls import NullRule
from decision_service.core.links import LINK_GRAINS, names_wanted
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.source import nearest_name
from decision_service.core.state import CustomerState
from decision_service.dictionary.entry import Dictionary
from decision_service.dictionary.explained import computed_numbers, explain
from decision_service.dictionary.page import html_page
from decision_service.feature_question import FeatureQuestion, facility_for, imagined_request
from decision_service.policies.active_policy import ActivePolicy
from decision_service.store import Store

TIMEOUT_S: Final = 2.0  # of reads that no money waits for


class CustomerFeatures:
    """Answers questions about features by the policy in force."""

    def __init__(self, store: Store, active: ActivePolicy, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._active = active
        self._now_ms = now_ms
        self._page = ("", b"")  # policy id and its page

    async def values(self, question: FeatureQuestion, names: Sequence[str] | None) -> dict[str, Any]:
        """Features (all without `names`) at the question's instant, as a decision on its request would see them.

        NotFound for a customer without events and facilities, InvalidInput for an unknown name or facility.
        """
        policy = self._active.current
        wanted = list(policy.catalogue.by_name) if names is None else list(names)
        for name in wanted:
            if name not in policy.catalogue.by_name:
                near = nearest_name(name, policy.catalogue.by_name)
                raise InvalidInput("names", f"unknown feature {name!r}" + (f": did you mean {near}?" if near else ""))
        t_ms = self._now_ms() if question.at_ms is None else question.at_ms
        state, facility, request = await asked(self._store, policy, question, wanted, t_ms)
        numbers, _ = await asyncio.to_thread(computed_numbers, policy, state, facility, request, wanted)
        return {
            "customer_id": question.customer_id, "at": instant(t_ms), "policy_id": policy.id,
            "features": {name: _told(policy, name, numbers[name]) for name in wanted},
        }  # fmt: skip

    async def explained(self, question: FeatureQuestion, name: str, *, deep: bool) -> dict[str, Any]:
        """One feature with the events and parts that make it up (see `dictionary.explained`).

        NotFound for an unknown feature or customer, InvalidInput for another customer's facility.
        """
        policy = self._active.current
        refuse_unknown(policy, name)
        t_ms = self._now_ms() if question.at_ms is None else question.at_ms
        state, facility, request = await asked(self._store, policy, question, [name], t_ms)
        return await asyncio.to_thread(explain, policy, state, facility, request, name, deep=deep)

    async def page(self) -> bytes:
        """The active policy's features as one HTML page; made once a policy."""
        policy = self._active.current
        if self._page[0] != policy.id:
            page = await asyncio.to_thread(lambda: html_page(Dictionary(policy)).encode())
            self._page = policy.id, page
        return self._page[1]


def refuse_unknown(policy: Policy, name: str) -> None:
    """Raise NotFound with the nearest name for a feature the catalogue does not have."""
    if name not in policy.catalogue.by_name:
        near = nearest_name(name, policy.catalogue.by_name)
        raise NotFound(f"no feature {name!r}" + (f": did you mean {near}?" if near else ""))


async def asked(
    store: Store, policy: Policy, question: FeatureQuestion, names: Iterable[str], t_ms: int
) -> tuple[CustomerState, Facility, DecisionRequest]:
    """What a question is about: the customer beside the entity logs it needs, the facility, and the imagined request.

    NotFound for a customer without events and facilities, InvalidInput for another customer's facility.
    """
    state = await store.read(question.customer_id, None, TIMEOUT_S)
    if state.version == 0:
        raise NotFound("no such customer")
    facility = facility_for(question.customer_id, state, question.facility_id, t_ms)
    request = imagined_request(question, facility, t_ms)
    logs = names_wanted(request, link_grains(policy, names))
    if logs:
        state = state.with_links(await store.read_links(logs, TIMEOUT_S).logs())
    return state, facility, request


def link_grains(policy: Policy, names: Iterable[str]) -> list[str]:
    """The entity logs that some features, or what they are made of, look at."""
    read = {log_read_by(spec.grain) for spec in Closure(policy.catalogue, names).specs.values()}
    return [grain for grain in LINK_GRAINS if grain in read]


def _told(policy: Policy, name: str, value: float) -> dict[str, Any]:
    spec = policy.catalogue.by_name[name]
    unknown = math.isnan(value)
    return {
        "value": None if unknown else value, "unit": spec.unit, "meaning": spec.meaning_en,
        "definition": spec.definition, "null_code": spec.null.text,
        "null_cause": null_cause(spec.null) if unknown else None,
    }  # fmt: skip


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

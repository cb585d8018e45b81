"""Plans over grains: one plan a log, and the layout of what they compute together.

    numbers    inputs | device aggregates | payee aggregates | ip aggregates | the customer's plan

Each plan treats everything before it as its inputs, so a derived feature, which the customer's plan computes last, may
mix features of all grains. Only logs that a feature asks for have a plan: `link_grains` says which entity logs to read.

A link grain's features are null if the request names no such entity or its log was not read. An entity that was never
seen has an empty log and true zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from decision_service.core.event import Words, words_of
from decision_service.core.features.catalogue import Catalogue
from decision_service.core.features.closure import Closure
from decision_service.core.features.grains import CUSTOMER, ENTITY_WORDS, log_read_by
from decision_service.core.features.plan import FeaturePlan, compile_plan
from decision_service.core.inputs import RequestWords
from decision_service.core.links import LINK_GRAINS, Links
from decision_service.core.zone import Zone

Numbers = npt.NDArray[np.float64]


def words_of_links(links: Links, grains: Iterable[str]) -> dict[str, Words | None]:
    """The entity logs of these grains as the plans read them; None where it was not read."""
    read: dict[str, Words | None] = {}
    for grain in grains:
        log = getattr(links, grain)
        read[grain] = None if log is None else words_of(log)
    return read


class FeaturePlans:
    """The plans by the log they read, the customer's last; `names` in slot order over all of them."""

    def __init__(self, plans: Mapping[str, FeaturePlan], first_slot: int) -> None:
        self.plans = plans
        self.first_slot = first_slot
        self.names = tuple(name for plan in plans.values() for name in plan.names)
        self.link_grains = tuple(grain for grain in plans if grain != CUSTOMER)
        self._links: list[tuple[str, FeaturePlan, int, slice]] = []
        at = first_slot
        for grain in self.link_grains:
            plan = plans[grain]
            self._links.append((grain, plan, ENTITY_WORDS[grain], slice(at, at + len(plan.names))))
            at += len(plan.names)
        self._customer = plans[CUSTOMER]

    def compute(self, words: Words, links: Mapping[str, Words | None], row: RequestWords, numbers: Numbers) -> bool:
        """Whether the request names an entity whose log the features read and that is not there.

        Read inputs from the front of `numbers` and write every feature behind them.

        `words` is the customer's log and `links` those of the entities that the request names, by grain; None or
        absent where it was not read. See `FeaturePlan.compute` for the arrays.
        """
        unread = False
        for grain, plan, word, slots in self._links:
            log, named = links.get(grain), row[word] != 0
            if log is not None and named:
                plan.compute(log, row, numbers)
                continue
            numbers[slots] = np.nan
            unread |= bool(named)
        self._customer.compute(words, row, numbers)
        return unread


def compile_plans(
    catalogue: Catalogue, needed: Iterable[str], input_slots: Mapping[str, int], first_slot: int, zone: Zone
) -> FeaturePlans:
    """Lay out the features in `needed` and everything they depend on; inputs stand in `numbers[:first_slot]`.

    `needed` names features of the catalogue; KeyError for any other. Slots from `first_slot` on are laid out anew.
    """
    specs = Closure(catalogue, needed).specs.values()
    slots, at = {name: slot for name, slot in input_slots.items() if slot < first_slot}, first_slot
    plans: dict[str, FeaturePlan] = {}
    for log in (*LINK_GRAINS, CUSTOMER):
        names = [spec.name for spec in specs if log_read_by(spec.grain) == log]
        if names or log == CUSTOMER:
            plan = plans[log] = compile_plan(catalogue, names, slots, at, zone)
            slots |= {name: at + i for i, name in enumerate(plan.names)}
            at += len(plan.names)
    return FeaturePlans(plans, first_slot)

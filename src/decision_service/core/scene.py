"""A scene: what deciding one sort of question needs, laid out from its rule set.

    numbers    base numbers and attributes | the features this scene needs | points, pd of its scorecards | points of
               its points scorecards
    strings    base strings and attributes | grades of its scorecards | grades of its points scorecards

The inputs at the front are the same in every scene of a policy, so whatever fills them does not ask which scene it is.
Behind them a scene holds only what its own rule set refers to and what that is made of, so that one scene never pays
for the rules of another. `drawdown` holds besides every scorecard, and the features that `policy.yaml` records. A scene
that scores a scorecard holds the features of its champion, its challenger and its shadows; the rules see one score.

A scene owns scratch buffers: one thread at a time decides with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.decision import Score, Trace
from decision_service.core.errors import InvalidInput
from decision_service.core.features.catalogue import Catalogue
from decision_service.core.features.plans import FeaturePlans, compile_plans
from decision_service.core.features.references import everything_behind
from decision_service.core.inputs import REQUEST_WORDS, RequestWords
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.core.rules.attributes import AttributeLayout, AttributeSpec, lay_out
from decision_service.core.rules.codegen import WENT_WRONG
from decision_service.core.rules.compile import RuleSet, compile_rule_set
from decision_service.core.rules.schema import RuleSetSpec
from decision_service.core.rules.score_references import SCORE_PARTS, ScoreReferences, score_references
from decision_service.core.rules.table_spec import WRONG
from decision_service.core.scorecards.roles import NO_ROLES, Challenger, Roles
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Findings
from decision_service.core.vocabulary import BASE_STRINGS, Kind, Layout
from decision_service.core.zone import Zone

Numbers = npt.NDArray[np.float64]
_WRONG: Final = f":{WRONG}"  # how a block that raised ends in `Trace.cells`


@dataclass(frozen=True, slots=True)
class ScoreSlots:
    """Where a scorecard finds its features and leaves its results."""

    scorecard: Scorecard
    gather: npt.NDArray[np.intp]
    row: npt.NDArray[np.float64]
    points: int  # index into numbers
    pd: int  # index into numbers
    grade: int  # index into strings

    def score(self, numbers: Numbers, customer_id: str) -> Score:
        """The score of a customer's numbers."""
        numbers.take(self.gather, out=self.row, mode="clip")  # in range by construction; `raise` would copy
        return self.scorecard.score(self.row)

    def behind(self, score: Score) -> ScoreSlots:
        """The slots of the scorecard that gave a score."""
        return self


@dataclass(frozen=True, slots=True)
class ChallengedSlots(ScoreSlots):
    """The slots of a champion that has a challenger."""

    challenger: Challenger
    challenging: ScoreSlots  # the challenger's own, for the same results

    def score(self, numbers: Numbers, customer_id: str) -> Score:
        """The challenger's score for its customers; the champion's for the others, and where the challenger has none:
        then `problem` says why."""
        if not self.challenger.takes(customer_id):
            return ScoreSlots.score(self, numbers, customer_id)
        tried = self.challenging.score(numbers, customer_id)
        if tried.points is not None:
            return tried._replace(role="challenger")
        score = ScoreSlots.score(self, numbers, customer_id)
        why = f"challenger {tried.version}: {tried.problem}"
        return score._replace(problem=f"{why}; champion: {score.problem}" if score.problem else why)

    def behind(self, score: Score) -> ScoreSlots:
        """The slots of the scorecard that gave a score."""
        return self.challenging if score.role == "challenger" else self


@dataclass(frozen=True, slots=True)
class ShadowSlots:
    """Where a shadow finds its features; its results have no place among the values."""

    scorecard: Scorecard
    gather: npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class TextSlot:
    """Where a string attribute's value goes: an index into strings."""

    spec: AttributeSpec
    index: int


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that deciding one sort of question needs besides the request, the state and the lists."""

    name: str
    zone: Zone
    reservation_timeout_ms: int
    layout: Layout
    number_names: tuple[str, ...]
    string_names: tuple[str, ...]
    attribute_layout: AttributeLayout
    text_slots: tuple[TextSlot, ...]
    wanted_attributes: tuple[str, ...]  # numeric attributes that a rule uses, itself or through a feature
    first_feature: int  # index of the first feature in numbers; inputs stand before it
    plan: FeaturePlans
    score_slots: tuple[ScoreSlots, ...]
    shadow_slots: tuple[ShadowSlots, ...]  # scored after the answer
    first_points: int  # index of the first number that the rule set fills itself; they are the last
    read: npt.NDArray[np.intp]  # where the numbers stand that the rule set reads or fills, ascending
    rule_set: RuleSet  # over the numbers at `read`, and all strings
    score_references: ScoreReferences
    numbers: Numbers = field(repr=False)
    row: RequestWords = field(repr=False)
    values: Numbers = field(repr=False)  # float64[len(read)], what the rules see
    no_strings: tuple[None, ...]  # what stands behind the base strings until it is filled

    @property
    def link_grains(self) -> tuple[str, ...]:
        """The entity logs that the features read, of LINK_GRAINS."""
        return self.plan.link_grains

    def went_wrong(self, trace: Trace) -> list[str]:
        """Ids of the rules and blocks that could not be evaluated and took their `on_null`; almost always none."""
        rules = self.rule_set.rules if WENT_WRONG in trace.verdicts else ()
        wrong = [rule.id for rule, verdict in zip(rules, trace.verdicts, strict=False) if verdict == WENT_WRONG]
        return wrong + [cell.removesuffix(_WRONG) for cell in trace.cells if cell.endswith(_WRONG)]

    def describe(self) -> dict[str, Any]:
        """What is needed to render a trace of this scene in five years."""
        return {
            "numbers": self.number_names,
            "strings": self.string_names,
            "features": self.plan.names,
            **self.rule_set.spec.describe(),
            "scorecards": {s.scorecard.name: s.scorecard.version for s in self.score_slots},
            "scorecard_features": {s.scorecard.name: s.scorecard.names for s in self.score_slots},
            "challenger_features": {
                s.scorecard.name: s.challenging.scorecard.names
                for s in self.score_slots
                if isinstance(s, ChallengedSlots)
            },
            "shadows": [[s.scorecard.name, s.scorecard.version] for s in self.shadow_slots],
        }


class Scenes(dict[str, Scene]):
    """The scenes of a policy by name, in the order of SCENES; asking for one it does not have is an InvalidInput."""

    def __missing__(self, name: str) -> Scene:
        raise InvalidInput("scene", f"the policy has no rule set for the scene {name!r}: only for {', '.join(self)}")


class Ground:
    """What the scenes of one policy share; `scene` lays one out."""

    def __init__(
        self, catalogue: Catalogue, attributes: Mapping[str, AttributeSpec], scorecards: Mapping[str, Scorecard],
        recorded: Iterable[str], zone: Zone, reservation_timeout_ms: int, roles: Roles = NO_ROLES,
    ) -> None:  # fmt: skip
        """`scorecards` are the champions; `recorded` features that every drawdown computes though nothing refers to
        them."""
        self.attributes = lay_out(attributes)
        self._catalogue = catalogue
        self._textual = [a for a in attributes.values() if a.spec.kind is Kind.STRING]
        self._slots = {name: i for i, name in enumerate(self.attributes.names)}
        self._scorecards = scorecards
        self._roles = roles
        self._recorded = frozenset(recorded)
        self._zone = zone
        self._reservation_timeout_ms = reservation_timeout_ms

    def features_of(self, spec: RuleSetSpec) -> set[str]:
        """The features of the catalogue that a rule set's scene needs by themselves, not as a part of another."""
        cards = [one for card in self._cards_of(spec) for one in (card, *self._variants_of(card))]
        wanted = set(spec.names_used).union(*(card.names for card in cards))
        if spec.scene == DRAWDOWN_SCENE:
            wanted |= self._recorded
        return wanted & self._catalogue.by_name.keys()

    def scene(self, spec: RuleSetSpec, findings: Findings) -> Scene:
        """The scene of a rule set, its inline tests run; what fails is among the findings."""
        cards = self._cards_of(spec)
        first = len(self.attributes.names)
        plan = compile_plans(self._catalogue, sorted(self.features_of(spec)), self._slots, first, self._zone)
        scores = [name for card in cards for name in (f"{card.name}.points", f"{card.name}.pd")]
        numbers = (*self.attributes.names, *plan.names, *scores, *spec.numbers_filled)
        texts = (*(s.name for s in BASE_STRINGS), *(a.spec.name for a in self._textual))
        strings = (*texts, *(f"{c.name}.grade" for c in cards), *spec.strings_filled)
        layout = Layout({name: i for i, name in enumerate(numbers)}, {name: i for i, name in enumerate(strings)})
        read = [name for name in numbers if name in spec.names_used or name in spec.numbers_filled]
        rules_see = Layout({name: i for i, name in enumerate(read)}, layout.strings)
        return Scene(
            name=spec.scene, zone=self._zone, reservation_timeout_ms=self._reservation_timeout_ms, layout=layout,
            number_names=numbers, string_names=strings, attribute_layout=self.attributes,
            text_slots=tuple(TextSlot(a, layout.strings[a.spec.name]) for a in self._textual),
            wanted_attributes=self._wanted_attributes(spec), first_feature=first, plan=plan,
            score_slots=tuple(_score_slots(card, layout, self._roles.challengers.get(card.name)) for card in cards),
            shadow_slots=tuple(
                ShadowSlots(shadow, _gather(shadow, layout))
                for card in cards
                for shadow in self._roles.shadows.get(card.name, ())
            ),
            first_points=len(numbers) - len(spec.numbers_filled),
            read=np.array([layout.numbers[name] for name in read], np.intp),
            rule_set=compile_rule_set(spec, rules_see, findings),
            score_references=score_references(spec, (card.name for card in cards)),
            numbers=np.full(len(numbers), np.nan), row=np.zeros(REQUEST_WORDS, np.int64),
            values=np.empty(len(read)), no_strings=(None,) * (len(strings) - len(BASE_STRINGS)),
        )  # fmt: skip

    def _cards_of(self, spec: RuleSetSpec) -> list[Scorecard]:
        """The scorecards that a scene scores: all of them on a drawdown, in a review those its rules refer to."""
        cards = [self._scorecards[name] for name in sorted(self._scorecards)]
        if spec.scene == DRAWDOWN_SCENE:
            return cards
        return [c for c in cards if not spec.names_used.isdisjoint({f"{c.name}.{part}" for part in SCORE_PARTS})]

    def _variants_of(self, card: Scorecard) -> tuple[Scorecard, ...]:
        """The challenger and the shadows of a champion."""
        challenger = self._roles.challengers.get(card.name)
        return (*(() if challenger is None else (challenger.scorecard,)), *self._roles.shadows.get(card.name, ()))

    def _wanted_attributes(self, spec: RuleSetSpec) -> tuple[str, ...]:
        reached = everything_behind(spec.names_used, self._catalogue)
        slots = self.attributes.slots
        return tuple(name for name, slot in slots.items() if slot.index is not None and name in reached)


def _score_slots(card: Scorecard, layout: Layout, challenger: Challenger | None) -> ScoreSlots:
    results = (
        layout.numbers[f"{card.name}.points"], layout.numbers[f"{card.name}.pd"], layout.strings[f"{card.name}.grade"],
    )  # fmt: skip
    own = (card, _gather(card, layout), np.empty(len(card.names)), *results)
    if challenger is None:
        return ScoreSlots(*own)
    other = challenger.scorecard
    challenging = ScoreSlots(other, _gather(other, layout), np.empty(len(other.names)), *results)
    return ChallengedSlots(*own, challenger, challenging)


def _gather(card: Scorecard, layout: Layout) -> npt.NDArray[np.intp]:
    return np.array([layout.numbers[name] for name in card.names], np.intp)

"""Who uses a feature or an attribute: rules and blocks by scene, scorecards, the list of recorded features, and other
features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from decision_service.core.features.catalogue import Catalogue, FeatureSpec
from decision_service.core.features.event_names import EVENT_NAMES
from decision_service.core.features.references import dependencies, names_in
from decision_service.core.policy import Policy
from decision_service.core.source import Scalar, SequenceNode

Sort = Literal["rule", "matrix", "table", "tree", "points", "scorecard", "recorded", "feature"]
BLOCKS: Final = ("matrix", "table", "tree", "points")
DECIDING: Final = ("rule", *BLOCKS, "scorecard", "recorded")  # sorts for whose sake a feature is computed


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a name. `scene` and `reason` are empty where they have no meaning."""

    sort: Sort
    name: str
    scene: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {"sort": self.sort, "name": self.name, "scene": self.scene or None, "reason": self.reason or None}

    def told(self) -> str:
        """For people: `rule velocity_burst (drawdown, RC11)`."""
        beside = ", ".join(part for part in (self.scene, self.reason) if part)
        return f"{self.sort} {self.name}" + (f" ({beside})" if beside else "")


_OF_EVENTS: Final = frozenset(spec.name for spec in EVENT_NAMES)
Usage = Mapping[str, tuple[Use, ...]]


def usage_of(policy: Policy) -> Usage:
    """Every use of every name; names nobody uses are absent."""
    uses: dict[str, list[Use]] = defaultdict(list)
    for name, use in _uses(policy):
        uses[name].append(use)
    return {name: tuple(of_name) for name, of_name in uses.items()}


def _uses(policy: Policy) -> Iterator[tuple[str, Use]]:
    for scene in policy.scenes.values():
        for rule in scene.rule_set.rules:
            for name in sorted(rule.names):
                yield name, Use("rule", rule.id, scene.name, rule.reason)
        for block in scene.rule_set.spec.blocks:
            for name in sorted(block.names):
                yield name, Use(block.sort, block.id, scene.name, block.reason)
        for points in scene.rule_set.spec.points:
            for name in sorted(points.names):
                yield name, Use(points.sort, points.id, scene.name)
    for card in policy.all_scorecards:
        shown = card.name if card is policy.scorecards[card.name] else f"{card.name} {card.version}"
        for feature in card.manifest.features:
            yield feature.name, Use("scorecard", shown, "", feature.reason)
    for name in recorded_names(policy):
        yield name, Use("recorded", "policy.yaml")
    for spec in policy.catalogue.specs:
        for name in sorted(set(needs_of(spec, policy.catalogue))):
            yield name, Use("feature", spec.name)


def recorded_names(policy: Policy) -> tuple[str, ...]:
    """The features that `policy.yaml` asks to be kept with every decision."""
    document = policy.documents.get("policy.yaml")
    node = None if document is None else document.root.get("record")
    return tuple(item.text for item in node if isinstance(item, Scalar)) if isinstance(node, SequenceNode) else ()


def needs_of(spec: FeatureSpec, catalogue: Catalogue) -> Iterator[str]:
    """The features and inputs a feature is computed from, those of its segments' conditions included."""
    yield from dependencies(spec)
    for segment in segments_of(spec, catalogue):
        for name in names_in(catalogue.segments[segment].tree):
            if name.spec.name not in _OF_EVENTS:
                yield name.spec.name


def segments_of(spec: FeatureSpec, catalogue: Catalogue) -> tuple[str, ...]:
    """The segments one feature refers to, each once."""
    keys = {key for key, _ in spec.row.segment_names()}
    names = (spec.row.plain(key, spec.variant) for key in sorted(keys, key=_of_first))
    return tuple(dict.fromkeys(name for name in names if name in catalogue.segments))


def _of_first(key: str) -> tuple[bool, str]:
    return key != "of", key


def deciding(uses: Iterable[Use]) -> int:
    """How many rules, blocks and scorecards are among some uses."""
    return sum(use.sort in ("rule", *BLOCKS, "scorecard") for use in uses)

"""What a table holds: the features asked for, the plans that compute them, and where every number stands.

    numbers = base numbers | numeric attributes | their sources | what the plans compute, one grain after the other

A `TableSpec` can be sent to another process; the `Table` made of it holds the plans' buffers and cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from decision_service.build.inputs import AttributeColumns
from decision_service.core.errors import PolicyRejected
from decision_service.core.features.catalogue import Catalogue, read_features
from decision_service.core.features.plan import FeaturePlan
from decision_service.core.features.plans import compile_plans
from decision_service.core.policy import ATTRIBUTES_FILE, FEATURES_FOLDER, Policy
from decision_service.core.rules.attributes import AttributeSpec, input_vocabulary, lay_out, read_attributes
from decision_service.core.source import Document, Findings, Place, nearest_name
from decision_service.core.zone import Zone, zone_named
from decision_service.policies.files import read_directory


@dataclass(frozen=True, slots=True)
class TableSpec:
    """The definitions and the names that become columns."""

    documents: Mapping[str, Document]
    names: tuple[str, ...]
    zone_name: str


class Table:
    """A spec, compiled."""

    def __init__(self, spec: TableSpec) -> None:
        self.names = spec.names
        self.zone: Zone = zone_named(spec.zone_name)
        catalogue, attributes = compiled(spec.documents, Findings())
        self.declared = attributes
        layout = lay_out(attributes)
        inputs = layout.names
        slots = {name: i for i, name in enumerate(inputs)}
        wanted = [name for name in spec.names if name not in slots]
        plans = compile_plans(catalogue, wanted, slots, len(inputs), self.zone)
        self.plans: Mapping[str, FeaturePlan] = plans.plans
        self.link_grains = plans.link_grains
        self.inputs = len(inputs)
        self.width = len(inputs) + len(plans.names)
        where = slots | {name: len(inputs) + i for i, name in enumerate(plans.names)}
        self.gather = np.array([where[name] for name in spec.names], np.intp)
        texts = len(inputs) + np.arange(len(attributes))  # a text is no number, but it tells of its source
        self.attribute_slots = {
            name: int(text) if slot.index is None else slot.index
            for text, (name, slot) in zip(texts, layout.slots.items(), strict=True)
        }
        self.attributes = AttributeColumns(
            len(inputs), layout.sources, *np.zeros((3, len(inputs) + len(attributes)), np.int64)
        )
        for name, slot in layout.slots.items():
            self.attributes.tell(self.attribute_slots[name], slot)

    def width_before(self, grain: str) -> int:
        """How many numbers stand before those of a grain's plan."""
        before = list(self.plans)[: list(self.plans).index(grain)]
        return self.inputs + sum(len(self.plans[name].names) for name in before)


def compiled(documents: Mapping[str, Document], findings: Findings) -> tuple[Catalogue, dict[str, AttributeSpec]]:
    """The catalogue and the declared attributes of documents by path. Raises PolicyRejected."""
    attributes = read_attributes(documents[ATTRIBUTES_FILE], findings) if ATTRIBUTES_FILE in documents else {}
    features = [document for name, document in sorted(documents.items()) if name.startswith(FEATURES_FOLDER)]
    catalogue = read_features(features, input_vocabulary(attributes), findings)
    if findings.errors:
        raise PolicyRejected(findings.errors)
    return catalogue, attributes


def read_spec(rules: Path, names: Sequence[str] | None, zone_name: str) -> TableSpec:
    """The features of a rules directory: `names`, or all that are not internal. PolicyRejected for an unknown name."""
    findings = Findings()
    documents = read_directory(rules, findings)
    if findings.errors:
        raise PolicyRejected(findings.errors)
    catalogue, attributes = compiled(documents, findings)
    if names is None:
        names = [spec.name for spec in catalogue.specs if not spec.internal and not spec.surge_of]
    known = [*catalogue.by_name, *lay_out(attributes).names]
    _check_names(names, known, rules, findings)
    return TableSpec(documents, tuple(dict.fromkeys(names)), zone_name)


def spec_of_policy(policy: Policy) -> TableSpec:
    """Everything the rules of all scenes, the recorded features and the scorecards of a policy use."""
    scored = [name for card in policy.all_scorecards for name in card.names]
    features = policy.catalogue.by_name  # a plan has operands of its own besides
    used = [name for name in policy.feature_names if name in features and not features[name].internal]
    return TableSpec(policy.documents, tuple(dict.fromkeys([*used, *scored])), policy.zone.name)


def _check_names(names: Iterable[str], known: Sequence[str], rules: Path, findings: Findings) -> None:
    for name in names:
        if name not in known:
            findings.error(
                Place(str(rules), 1, 1), f"unknown feature `{name}`", nearest=nearest_name(name, known),
                expected="a feature, a declared attribute or a number such as facility.outstanding",
            )  # fmt: skip
    if findings.errors:
        raise PolicyRejected(findings.errors)

"""A policy: features, scorecards, rule sets, attributes and lists compiled together into one immutable object.

Compiling does all parsing, checking and look-up building, and reports every mistake at once; deciding only calls what
was prepared here. A request uses one policy from start to end. The policy is identified by the hash of its content:
the files, the scorecards' models, the lists, the time zone and the reservation time-out; equal content, equal id.

    documents (one a YAML file)              compiled
      policy.yaml       label, lists, record   Layout: where every value stands
      attributes.yaml   declared attributes    FeaturePlans: one kernel call a log
      constants.yaml    shared constants
      features/*.yaml   feature catalogue      Scorecards with their feature slots
      *.yaml            rule sets by scene     RuleSet: one function a scene

`Policy` owns scratch buffers, so one policy object decides for one thread at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.errors import PolicyRejected
from decision_service.core.features.catalogue import Catalogue, read_features
from decision_service.core.features.lint import lint_features
from decision_service.core.features.plans import FeaturePlans, compile_plans
from decision_service.core.features.references import everything_behind
from decision_service.core.inputs import REQUEST_WORDS, RequestWords
from decision_service.core.limits import RETENTION_MS
from decision_service.core.rules.attributes import (
    AttributeLayout,
    AttributeSpec,
    input_vocabulary,
    lay_out,
    read_attributes,
)
from decision_service.core.rules.compile import RuleSet, compile_rule_set
from decision_service.core.rules.constants import read_shared_constants
from decision_service.core.rules.lint import lint_constants
from decision_service.core.rules.schema import RuleSetSpec, read_rule_set
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Document, Findings, MappingNode, Place, Scalar, SequenceNode, nearest_name
from decision_service.core.vocabulary import BASE_STRINGS, Kind, Layout, NameSpec, Vocabulary
from decision_service.core.zone import Zone

POLICY_FILE: Final = "policy.yaml"
ATTRIBUTES_FILE: Final = "attributes.yaml"
CONSTANTS_FILE: Final = "constants.yaml"
FEATURES_FOLDER: Final = "features/"
DRAWDOWN_SCENE: Final = "drawdown"
UNLABELLED: Final = "unlabelled"
Lists = Mapping[str, frozenset[str]]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Head:
    """What `policy.yaml` says: a label for people, the lists that exist, features to record though no rule asks."""

    label: str = UNLABELLED
    lists: tuple[str, ...] = ()
    record: tuple[tuple[str, Place], ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreSlots:
    """Where a scorecard finds its features and leaves its results."""

    scorecard: Scorecard
    gather: npt.NDArray[np.intp]
    row: npt.NDArray[np.float64]
    points: int  # index into numbers
    pd: int  # index into numbers
    grade: int  # index into strings


@dataclass(frozen=True, slots=True)
class TextSlot:
    """Where a string attribute's value goes: an index into strings."""

    spec: AttributeSpec
    index: int


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything a decision needs besides the request and the customer's state."""

    id: str
    label: str
    zone: Zone
    reservation_timeout_ms: int
    layout: Layout
    number_names: tuple[str, ...]
    string_names: tuple[str, ...]
    attributes: Mapping[str, AttributeSpec]
    attribute_layout: AttributeLayout
    text_slots: tuple[TextSlot, ...]
    wanted_attributes: tuple[str, ...]  # numeric attributes that a rule uses, itself or through a feature
    first_feature: int  # index of the first feature in numbers; inputs stand before it
    catalogue: Catalogue
    plan: FeaturePlans
    score_slots: tuple[ScoreSlots, ...]
    rule_set: RuleSet
    lists: Lists
    rule_lists: Lists  # the same under the names rules use: `list.block`
    list_names: tuple[str, ...]
    content: bytes  # digest of everything but the lists
    documents: Mapping[str, Document]
    numbers: Numbers = field(repr=False)
    row: RequestWords = field(repr=False)

    def with_lists(self, lists: Lists) -> Policy:
        """The same policy with other list contents, under the id those give it."""
        known = {name: lists.get(name, frozenset()) for name in self.list_names}
        named = {f"list.{name}": values for name, values in known.items()}
        return replace(self, lists=known, rule_lists=named, id=_policy_id(self.content, known))

    @property
    def link_grains(self) -> tuple[str, ...]:
        """The entity logs that the features read, of LINK_GRAINS."""
        return self.plan.link_grains

    def plans_for(self, names: Iterable[str]) -> FeaturePlans:
        """Plans that compute other features of the same catalogue (for looking at one customer)."""
        return compile_plans(self.catalogue, names, self.layout.numbers, self.first_feature, self.zone)

    def describe(self) -> dict[str, Any]:
        """What is needed to render this policy's traces in five years: names, rules, files."""
        return {
            "id": self.id,
            "label": self.label,
            "numbers": self.number_names,
            "strings": self.string_names,
            "features": {
                name: {"unit": spec.unit, "meaning": spec.meaning_en}
                for name, spec in self.catalogue.by_name.items()
                if name in self.layout.numbers
            },
            "rules": [rule.describe() for rule in self.rule_set.rules],
            "scorecards": {s.scorecard.name: s.scorecard.version for s in self.score_slots},
            "scorecard_features": {s.scorecard.name: s.scorecard.names for s in self.score_slots},
            "files": {name: document.sha256 for name, document in sorted(self.documents.items())},
        }


def _policy_id(content: bytes, lists: Lists) -> str:
    digest = blake2b(content, digest_size=6, person=b"policy")
    for name in sorted(lists):
        digest.update(json.dumps([name, sorted(lists[name])]).encode())
    return digest.hexdigest()


def compile_policy(
    documents: Mapping[str, Document],
    scorecards: Mapping[str, Scorecard],
    zone: Zone,
    reservation_timeout_ms: int,
    findings: Findings,
    lists: Lists | None = None,
) -> Policy:
    """Compile documents (by path relative to the rules folder) and loaded scorecards.

    Raises PolicyRejected with every error found, also those already in `findings`; warnings stay in `findings`.
    """
    head = _read_head(documents.get(POLICY_FILE), findings)
    attributes = read_attributes(documents[ATTRIBUTES_FILE], findings) if ATTRIBUTES_FILE in documents else {}
    base = input_vocabulary(attributes)
    feature_files = [d for name, d in sorted(documents.items()) if name.startswith(FEATURES_FOLDER)]
    catalogue = read_features(feature_files, base, findings)
    vocabulary = base.with_names(*catalogue.vocabulary_specs, *_score_names(scorecards), *_list_names(head.lists))
    spec = _read_drawdown_rules(documents, vocabulary, zone, findings)
    needed = _needed(head, spec, scorecards, catalogue, base, findings)
    if findings.errors or spec is None:
        raise PolicyRejected(findings.errors)
    lint_features(catalogue, feature_files, needed, RETENTION_MS, findings)
    return _assemble(
        documents,
        head,
        attributes,
        catalogue,
        spec,
        needed,
        scorecards,
        zone,
        reservation_timeout_ms,
        lists,
        findings,
    )


def _score_names(scorecards: Iterable[str]) -> list[NameSpec]:
    return [
        name
        for card in sorted(scorecards)
        for name in (
            NameSpec(f"{card}.points", Kind.NUMBER, "points"),
            NameSpec(f"{card}.pd", Kind.NUMBER, "ratio"),
            NameSpec(f"{card}.grade", Kind.STRING),
        )
    ]


def _list_names(lists: Iterable[str]) -> list[NameSpec]:
    return [NameSpec(f"list.{name}", Kind.LIST, nullable=False) for name in lists]


def _read_drawdown_rules(
    documents: Mapping[str, Document], vocabulary: Vocabulary, zone: Zone, findings: Findings
) -> RuleSetSpec | None:
    special = (POLICY_FILE, ATTRIBUTES_FILE, CONSTANTS_FILE)
    shared = read_shared_constants(documents.get(CONSTANTS_FILE), vocabulary, zone, findings)
    specs = [
        spec
        for name, document in sorted(documents.items())
        if name not in special and not name.startswith(FEATURES_FOLDER)
        if (spec := read_rule_set(document, vocabulary, findings, zone, shared)) is not None
    ]
    if not findings.errors:
        lint_constants(shared.places, {name for spec in specs for name in spec.constants_used}, findings)
    scenes = [spec for spec in specs if spec.scene == DRAWDOWN_SCENE]
    for extra in scenes[1:]:
        findings.error(
            extra.place,
            f"a second rule set for the scene {DRAWDOWN_SCENE!r}",
            expected="one rule set a scene",
        )
    if not scenes and not findings.errors:
        nowhere = Place(next(iter(sorted(documents)), "rules"), 1, 1)
        findings.error(
            nowhere,
            f"no rule set for the scene {DRAWDOWN_SCENE!r}",
            expected=f"a file with `scene: {DRAWDOWN_SCENE}`",
        )
    return scenes[0] if scenes else None


def _needed(
    head: Head,
    spec: RuleSetSpec | None,
    scorecards: Mapping[str, Scorecard],
    catalogue: Catalogue,
    base: Vocabulary,
    findings: Findings,
) -> list[str]:
    only_wrong = {spec.name for spec in catalogue.broken}  # its own file says so
    for name, place in head.record:
        if name not in catalogue.by_name and name not in only_wrong:
            findings.error(
                place,
                f"unknown feature `{name}`",
                nearest=nearest_name(name, catalogue.by_name),
                length=len(name),
            )
    for card in scorecards.values():
        for name in card.names:
            known = name in base and base[name].kind is not Kind.STRING
            if name not in catalogue.by_name and not known and name not in only_wrong:
                findings.error(
                    Place(f"{card.name}/{card.version}/manifest.yaml", 1, 1),
                    f"scorecard `{card.name}` wants the unknown feature `{name}`",
                    nearest=nearest_name(name, catalogue.by_name),
                )
    wanted = {name for name, _ in head.record} | {n for card in scorecards.values() for n in card.names}
    if spec is not None:
        wanted |= set(spec.names_used)
    return sorted(wanted & set(catalogue.by_name))


def _assemble(
    documents: Mapping[str, Document], head: Head, attributes: Mapping[str, AttributeSpec], catalogue: Catalogue,
    spec: RuleSetSpec, needed: list[str], scorecards: Mapping[str, Scorecard], zone: Zone,
    reservation_timeout_ms: int, lists: Lists | None, findings: Findings,
) -> Policy:  # fmt: skip
    cards = [scorecards[name] for name in sorted(scorecards)]
    textual = [a for a in attributes.values() if a.spec.kind is Kind.STRING]
    attribute_layout = lay_out(attributes)
    inputs = attribute_layout.names
    slots = {name: i for i, name in enumerate(inputs)}
    plan = compile_plans(catalogue, needed, slots, len(inputs), zone)
    number_names = (*inputs, *plan.names, *(n for c in cards for n in (f"{c.name}.points", f"{c.name}.pd")))
    string_names = (
        *(s.name for s in BASE_STRINGS), *(a.spec.name for a in textual), *(f"{c.name}.grade" for c in cards)
    )  # fmt: skip
    layout = Layout({name: i for i, name in enumerate(number_names)}, {name: i for i, name in enumerate(string_names)})
    rule_set = compile_rule_set(spec, layout, findings)
    if findings.errors:
        raise PolicyRejected(findings.errors)
    content = _content(documents, cards, zone, reservation_timeout_ms)
    policy = Policy(
        id="", label=head.label, zone=zone, reservation_timeout_ms=reservation_timeout_ms, layout=layout,
        number_names=number_names, string_names=string_names, attributes=dict(attributes),
        attribute_layout=attribute_layout,
        text_slots=tuple(TextSlot(a, layout.strings[a.spec.name]) for a in textual),
        wanted_attributes=_wanted_attributes(spec, catalogue, attribute_layout),
        first_feature=len(inputs),
        catalogue=catalogue, plan=plan, score_slots=tuple(_score_slots(c, layout) for c in cards),
        rule_set=rule_set, lists={}, rule_lists={}, list_names=head.lists, content=content, documents=dict(documents),
        numbers=np.full(len(number_names), np.nan), row=np.zeros(REQUEST_WORDS, np.int64),
    )  # fmt: skip
    return policy.with_lists(lists or {})


def _wanted_attributes(spec: RuleSetSpec, catalogue: Catalogue, layout: AttributeLayout) -> tuple[str, ...]:
    reached = everything_behind(spec.names_used, catalogue)
    return tuple(name for name, slot in layout.slots.items() if slot.index is not None and name in reached)


def _score_slots(card: Scorecard, layout: Layout) -> ScoreSlots:
    gather = np.array([layout.numbers[name] for name in card.names], np.intp)
    return ScoreSlots(
        card, gather, np.empty(len(gather)), layout.numbers[f"{card.name}.points"],
        layout.numbers[f"{card.name}.pd"], layout.strings[f"{card.name}.grade"],
    )  # fmt: skip


def _content(
    documents: Mapping[str, Document], cards: Iterable[Scorecard], zone: Zone, reservation_timeout_ms: int
) -> bytes:
    parts = [["zone", zone.name], ["reservation_timeout_ms", str(reservation_timeout_ms)]]
    parts += [[name, document.sha256] for name, document in sorted(documents.items())]
    parts += [[card.name, card.version, card.manifest.sha256] for card in cards]
    return blake2b(json.dumps(parts).encode(), digest_size=32).digest()


def _read_head(document: Document | None, findings: Findings) -> Head:
    if document is None:
        return Head()
    known = ("label", "lists", "record")
    for key, _ in document.root.items:
        if key.text not in known:
            findings.error(
                key.place,
                f"unknown key `{key.text}`",
                expected=", ".join(known),
                nearest=nearest_name(key.text, known),
                length=len(key.text),
            )
    label = document.root.get("label")
    if label is not None and not isinstance(label, Scalar):
        findings.error(label.place, "`label` must be a text")
    lists = tuple(name for name, _ in _names_under(document.root, "lists", findings))
    record = tuple(_names_under(document.root, "record", findings))
    return Head(label.text if isinstance(label, Scalar) else UNLABELLED, lists, record)


def _names_under(root: MappingNode, key: str, findings: Findings) -> list[tuple[str, Place]]:
    node = root.get(key)
    if node is None:
        return []
    if not isinstance(node, SequenceNode) or not all(isinstance(item, Scalar) for item in node):
        findings.error(node.place, f"`{key}` must be a list of names", expected=f"{key}: [name, name]")
        return []
    return [(item.text, item.place) for item in node if isinstance(item, Scalar)]

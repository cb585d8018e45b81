"""A policy: features, scorecards, rule sets, attributes and lists compiled together into one immutable object.

Compiling does all parsing, checking and look-up building, and reports every mistake at once; deciding only calls what
was prepared here. A request uses one policy from start to end. The policy is identified by the hash of its content:
the files, the scorecards' models, the lists, the time zone and the reservation time-out; equal content, equal id.

    documents (one a YAML file)              compiled
      policy.yaml       label, lists, record,
                        serial, scorecards     Lists, Roles: champions, challengers and shadows
      attributes.yaml   declared attributes    AttributeLayout: where every input stands
      constants.yaml    shared constants
      features/*.yaml   feature catalogue      Catalogue
      *.yaml            one rule set a scene   Scene: layout, feature plans, scorecards' slots, one function

Only the scene `drawdown` must be there; a question of a scene without a rule set is refused.

The scenes own scratch buffers, so one policy object decides for one thread at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final

from decision_service.core.errors import PolicyRejected
from decision_service.core.features.catalogue import Catalogue, read_features
from decision_service.core.features.lint import lint_features
from decision_service.core.features.plans import FeaturePlans, compile_plans
from decision_service.core.limits import RETENTION_MS
from decision_service.core.request import DRAWDOWN_SCENE, SCENES
from decision_service.core.rules.attributes import AttributeLayout, AttributeSpec, input_vocabulary, read_attributes
from decision_service.core.rules.constants import read_shared_constants
from decision_service.core.rules.lint import lint_constants
from decision_service.core.rules.schema import RuleSetSpec, read_rule_set
from decision_service.core.rules.score_references import SCORE_PARTS
from decision_service.core.scene import Ground, Scene, Scenes
from decision_service.core.scorecards.roles import Cast, Challenger, Roles, RolesSpec, give_roles, read_roles
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Document, Findings, MappingNode, Place, Scalar, SequenceNode, nearest_name
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary
from decision_service.core.zone import Zone

POLICY_FILE: Final = "policy.yaml"
ATTRIBUTES_FILE: Final = "attributes.yaml"
CONSTANTS_FILE: Final = "constants.yaml"
FEATURES_FOLDER: Final = "features/"
UNLABELLED: Final = "unlabelled"
_SERIAL: Final = re.compile("[1-9][0-9]{0,14}")  # the store counts up to 2^53
Lists = Mapping[str, frozenset[str]]
_NO_VERSIONS: Final[Mapping[str, Sequence[str]]] = {}


@dataclass(frozen=True, slots=True)
class Head:
    """What `policy.yaml` says: a label for people, the lists that exist, features to record though no rule asks;
    a serial that never falls where policies must be signed; which versions of the scorecards have which role."""

    label: str = UNLABELLED
    lists: tuple[str, ...] = ()
    record: tuple[tuple[str, Place], ...] = ()
    serial: int | None = None
    roles: Mapping[str, RolesSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything decisions need besides the request and the customer's state."""

    id: str
    label: str
    zone: Zone
    reservation_timeout_ms: int
    attributes: Mapping[str, AttributeSpec]
    attribute_layout: AttributeLayout
    catalogue: Catalogue
    scorecards: Mapping[str, Scorecard]  # the champions
    scenes: Mapping[str, Scene]  # InvalidInput for a scene that it does not have
    lists: Lists
    rule_lists: Lists  # the same under the names rules use: `list.block`
    list_names: tuple[str, ...]
    content: bytes  # digest of everything but the lists
    documents: Mapping[str, Document]
    serial: int | None = None
    challengers: Mapping[str, Challenger] = field(default_factory=dict)
    shadows: Mapping[str, tuple[Scorecard, ...]] = field(default_factory=dict)

    def with_lists(self, lists: Lists) -> Policy:
        """The same policy with other list contents, under the id those give it."""
        known = {name: lists.get(name, frozenset()) for name in self.list_names}
        named = {f"list.{name}": values for name, values in known.items()}
        return replace(self, lists=known, rule_lists=named, id=_policy_id(self.content, known))

    @property
    def drawdown(self) -> Scene:
        """The scene that every policy has."""
        return self.scenes[DRAWDOWN_SCENE]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features that some scene computes, intermediates included, each once."""
        return tuple(dict.fromkeys(name for scene in self.scenes.values() for name in scene.plan.names))

    @property
    def all_scorecards(self) -> tuple[Scorecard, ...]:
        """The scorecards of every role: the champions by name, then challengers and shadows."""
        return (*self.scorecards.values(), *_variants(Roles(self.challengers, self.shadows)))

    def roles(self) -> dict[str, dict[str, Any]]:
        """Which version of each scorecard has which role, for people."""
        return {
            name: {
                "champion": card.version,
                "challenger": None
                if (challenger := self.challengers.get(name)) is None
                else {
                    "version": challenger.scorecard.version, "share": challenger.share, "salt": challenger.salt,
                },
                "shadows": [shadow.version for shadow in self.shadows.get(name, ())],
            }
            for name, card in self.scorecards.items()
        }  # fmt: skip

    def plans_for(self, names: Iterable[str]) -> FeaturePlans:
        """Plans that compute other features of the same catalogue (for looking at one customer)."""
        inputs = self.attribute_layout.names
        slots = {name: i for i, name in enumerate(inputs)}
        return compile_plans(self.catalogue, names, slots, len(inputs), self.zone)

    def describe(self) -> dict[str, Any]:
        """What is needed to render this policy's traces in five years: names, rules by scene, files.

        Policies from before there were scenes are kept with what is below `scenes` at the top, features with theirs.
        """
        computed = (self.catalogue.by_name.get(name) for name in self.feature_names)  # a plan has operands of its own
        return {
            "id": self.id,
            "label": self.label,
            "features": {
                spec.name: {"unit": spec.unit, "meaning": spec.meaning_en} for spec in computed if spec is not None
            },
            "scenes": {name: scene.describe() for name, scene in self.scenes.items()},
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
    variants: Sequence[Scorecard] = (),
    known: Mapping[str, Sequence[str]] = _NO_VERSIONS,
) -> Policy:
    """Compile documents (by path relative to the rules folder) and loaded scorecards.

    `scorecards` are the champions, `variants` what `policy.yaml` names as challengers and shadows, `known` the versions
    that there are, for messages.

    Raises PolicyRejected with every error found, also those already in `findings`; warnings stay in `findings`.
    """
    head = _read_head(documents.get(POLICY_FILE), findings)
    attributes = read_attributes(documents[ATTRIBUTES_FILE], findings) if ATTRIBUTES_FILE in documents else {}
    base = input_vocabulary(attributes)
    feature_files = [d for name, d in sorted(documents.items()) if name.startswith(FEATURES_FOLDER)]
    catalogue = read_features(feature_files, base, findings)
    vocabulary = base.with_names(*catalogue.vocabulary_specs, *_score_names(scorecards), *_list_names(head.lists))
    specs = _read_rule_sets(documents, vocabulary, zone, findings)
    roles = give_roles(head.roles, Cast(scorecards, variants, known), findings)
    _check_wanted(head, [*scorecards.values(), *_variants(roles)], catalogue, base, findings)
    _check_grains(specs, scorecards, findings)
    if findings.errors:
        raise PolicyRejected(findings.errors)
    recorded = [name for name, _ in head.record]
    ground = Ground(catalogue, attributes, scorecards, recorded, zone, reservation_timeout_ms, roles)
    needed = sorted(set().union(*(ground.features_of(spec) for spec in specs)))
    lint_features(catalogue, feature_files, needed, RETENTION_MS, findings)
    scenes = Scenes({spec.scene: ground.scene(spec, findings) for spec in specs})
    if findings.errors:
        raise PolicyRejected(findings.errors)
    cards = [scorecards[name] for name in sorted(scorecards)]
    policy = Policy(
        id="", label=head.label, zone=zone, reservation_timeout_ms=reservation_timeout_ms,
        attributes=dict(attributes), attribute_layout=ground.attributes, catalogue=catalogue,
        scorecards={card.name: card for card in cards}, scenes=scenes, lists={}, rule_lists={}, list_names=head.lists,
        content=_content(documents, [*cards, *_variants(roles)], zone, reservation_timeout_ms),
        documents=dict(documents), serial=head.serial, challengers=roles.challengers, shadows=roles.shadows,
    )  # fmt: skip
    return policy.with_lists(lists or {})


def _variants(roles: Roles) -> list[Scorecard]:
    """Challengers and shadows, by name and role."""
    challengers = [roles.challengers[name].scorecard for name in sorted(roles.challengers)]
    return challengers + [card for name in sorted(roles.shadows) for card in roles.shadows[name]]


def _score_names(scorecards: Mapping[str, Scorecard]) -> list[NameSpec]:
    return [
        name
        for card in sorted(scorecards)
        for name in (
            NameSpec(f"{card}.points", Kind.NUMBER, "points"),
            NameSpec(f"{card}.pd", Kind.NUMBER, "ratio"),
            NameSpec(f"{card}.grade", Kind.STRING, values=scorecards[card].manifest.grades.names),
        )
    ]


def _list_names(lists: Iterable[str]) -> list[NameSpec]:
    return [NameSpec(f"list.{name}", Kind.LIST, nullable=False) for name in lists]


def _read_rule_sets(
    documents: Mapping[str, Document], vocabulary: Vocabulary, zone: Zone, findings: Findings
) -> list[RuleSetSpec]:
    """The rule sets in the order of SCENES, one a scene."""
    special = (POLICY_FILE, ATTRIBUTES_FILE, CONSTANTS_FILE)
    shared = read_shared_constants(documents.get(CONSTANTS_FILE), vocabulary, zone, findings)
    specs: dict[str, RuleSetSpec] = {}
    for name, document in sorted(documents.items()):
        if name in special or name.startswith(FEATURES_FOLDER):
            continue
        spec = read_rule_set(document, vocabulary, findings, zone, shared)
        if spec is None:
            continue
        first = specs.setdefault(spec.scene, spec)
        if first is not spec:
            findings.error(
                spec.place, f"a second rule set for the scene `{spec.scene}`: {first.place.file} holds the first",
                expected="one rule set a scene",
            )  # fmt: skip
    if not findings.errors:
        lint_constants(shared.places, {name for spec in specs.values() for name in spec.constants_used}, findings)
    if DRAWDOWN_SCENE not in specs and not findings.errors:
        findings.error(
            Place(next(iter(sorted(documents)), "rules"), 1, 1), f"no rule set for the scene `{DRAWDOWN_SCENE}`",
            expected=f"a file with `scene: {DRAWDOWN_SCENE}`",
        )  # fmt: skip
    return [specs[scene] for scene in SCENES if scene in specs]


def _check_wanted(
    head: Head, cards: Iterable[Scorecard], catalogue: Catalogue, base: Vocabulary, findings: Findings
) -> None:
    """Report features that `record` or a scorecard wants and nobody declares."""
    only_wrong = {spec.name for spec in catalogue.broken}  # its own file says so
    for name, place in head.record:
        if name not in catalogue.by_name and name not in only_wrong:
            findings.error(
                place,
                f"unknown feature `{name}`",
                nearest=nearest_name(name, catalogue.by_name),
                length=len(name),
            )
    for card in cards:
        for name in card.names:
            known = name in base and base[name].kind is not Kind.STRING
            if name not in catalogue.by_name and not known and name not in only_wrong:
                of_table = card.manifest.inputs_from == "table"
                findings.error(
                    Place(f"{card.name}/{card.version}/manifest.yaml", 1, 1),
                    f"scorecard `{card.name}` wants the unknown feature `{name}`"
                    + (": it was trained on the columns of a table" if of_table else ""),
                    nearest=nearest_name(name, catalogue.by_name),
                )


def _check_grains(specs: Iterable[RuleSetSpec], scorecards: Mapping[str, Scorecard], findings: Findings) -> None:
    """Report rule sets of reviews that refer to a scorecard about a loan: what it looks at only a drawdown has."""
    loans = [name for name, card in sorted(scorecards.items()) if card.manifest.grain == "loan"]
    for spec in specs:
        for name in loans if spec.scene != DRAWDOWN_SCENE else ():
            parts = spec.names_used & {f"{name}.{part}" for part in SCORE_PARTS}
            if parts:
                findings.error(
                    spec.place, f"`{min(parts)}` is of a scorecard about a loan, and a `{spec.scene}` review has none",
                    expected=f"a scorecard of grain customer, or the scene `{DRAWDOWN_SCENE}`",
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
    known = ("label", "lists", "record", "scorecards", "serial")
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
    shown = label.text if isinstance(label, Scalar) else UNLABELLED
    return Head(shown, lists, record, _serial(document, findings), read_roles(document.root, findings))


def _serial(document: Document, findings: Findings) -> int | None:
    node = document.root.get("serial")
    if node is None:
        return None
    if not isinstance(node, Scalar) or not _SERIAL.fullmatch(node.text):
        shown = len(node.text) if isinstance(node, Scalar) else 1
        findings.error(node.place, "`serial` must be a whole number", expected="`serial: 7`, from 1", length=shown or 1)
        return None
    return int(node.text)


def _names_under(root: MappingNode, key: str, findings: Findings) -> list[tuple[str, Place]]:
    node = root.get(key)
    if node is None:
        return []
    if not isinstance(node, SequenceNode) or not all(isinstance(item, Scalar) for item in node):
        findings.error(node.place, f"`{key}` must be a list of names", expected=f"{key}: [name, name]")
        return []
    return [(item.text, item.place) for item in node if isinstance(item, Scalar)]

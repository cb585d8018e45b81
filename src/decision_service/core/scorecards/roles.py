"""Roles: which version of a scorecard scores whom.

`rules/policy.yaml`:

    scorecards:
      behaviour:
        champion: 2026.12.1          # else the version that is active in models/
        challenger: {version: 2027.1.1, share: 0.10, salt: autumn}     # salt: else the scorecard's name
        shadows: [2027.1.2]

The *champion* scores everybody but the challenger's customers. The *challenger* scores the customers whose share is
below its own; it must grade in the champion's words, for the same rules read both. A *shadow* scores after the answer
and is only recorded. Each version has one role.

A customer's share is a hash of their id and a salt, so it is the same on every worker, on every day and in every
version of this service: whoever was in when the share was small is in when it grows. Two salts divide the same
customers independently of each other; a salt that is kept when the next challenger comes tries it on the same people.

    share_of = top 53 bits of BLAKE2b-64(salt NUL customer_id, person "ds share") / 2^53
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from decision_service.core.scorecards.manifest import NAME_PATTERN, VERSION_PATTERN
from decision_service.core.scorecards.reading import Section
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode, nearest_name

SHADOWS_MAX: Final = 8  # of one scorecard
SALT_PATTERN: Final = r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}"
SECTION: Final = "scorecards"  # of policy.yaml
KEYS: Final = ("champion", "challenger", "shadows")
_PERSON: Final = b"ds share"
_UNIT: Final = 2.0**-53
_VERSION: Final = "a version such as 2026.12.1"


def share_of(salt: str, customer_id: str) -> float:
    """Where a customer stands in [0, 1), uniformly over customers: the same for ever."""
    digest = blake2b(f"{salt}\0{customer_id}".encode(), digest_size=8, person=_PERSON).digest()
    return (int.from_bytes(digest, "big") >> 11) * _UNIT


class Version(NamedTuple):
    """A version as `policy.yaml` names it."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class ChallengerSpec:
    """What `policy.yaml` says of a challenger."""

    version: Version
    share: float
    salt: str


@dataclass(frozen=True, slots=True)
class RolesSpec:
    """What `policy.yaml` says of one scorecard."""

    name: str
    place: Place
    champion: Version | None = None
    challenger: ChallengerSpec | None = None
    shadows: tuple[Version, ...] = ()

    @property
    def variants(self) -> tuple[tuple[str, Version], ...]:
        """The versions beside the champion, each with its role."""
        shadows = [("shadow", version) for version in self.shadows]
        return (*([("challenger", self.challenger.version)] if self.challenger else ()), *shadows)


@dataclass(frozen=True, slots=True)
class Challenger:
    """A scorecard that scores the customers whose share is below its own."""

    scorecard: Scorecard
    share: float
    salt: str

    def takes(self, customer_id: str) -> bool:
        """Whether it scores this customer."""
        return share_of(self.salt, customer_id) < self.share


class Cast(NamedTuple):
    """Loaded scorecards: the champions by name, all others, and which versions there are at all (for messages)."""

    champions: Mapping[str, Scorecard]
    variants: Sequence[Scorecard] = ()
    known: Mapping[str, Sequence[str]] = {}


NO_CARDS: Final = Cast({})


class Roles(NamedTuple):
    """The challengers and shadows of a policy, by scorecard."""

    challengers: Mapping[str, Challenger]
    shadows: Mapping[str, tuple[Scorecard, ...]]


NO_ROLES: Final = Roles({}, {})


def cast_of(cards: Sequence[Scorecard], known: Mapping[str, Sequence[str]]) -> Cast:
    """Scorecards in the order in which a bundle names them: the first of a name is the champion."""
    champions: dict[str, Scorecard] = {}
    variants = [card for card in cards if champions.setdefault(card.name, card) is not card]
    return Cast(champions, variants, known)


# --- reading -----------------------------------------------------------------------------------------------------


def read_roles(root: MappingNode, findings: Findings) -> dict[str, RolesSpec]:
    """The section `scorecards` of `policy.yaml`, by scorecard; what is wrong with it is among the findings."""
    node = root.get(SECTION)
    if node is None:
        return {}
    if not isinstance(node, MappingNode):
        findings.error(node.place, f"`{SECTION}` must be a mapping", expected="`behaviour: {shadows: [2026.12.1]}`")
        return {}
    return {key.text: _one(key, item, findings) for key, item in node.items}


def _one(key: Scalar, node: Node, findings: Findings) -> RolesSpec:
    what = f"{SECTION}.{key.text}"
    if not re.fullmatch(NAME_PATTERN, key.text):
        findings.error(key.place, f"`{key.text}` cannot name a scorecard", length=len(key.text))
    if not isinstance(node, MappingNode):
        length = len(node.text) if isinstance(node, Scalar) else 1
        findings.error(node.place, f"`{what}` must be a mapping", expected=", ".join(KEYS), length=length)
        return RolesSpec(key.text, key.place)
    section = Section(node, what, findings)
    champion = _version(section, "champion") if section.has("champion") else None
    trial = section.section("challenger", required=False)
    challenger = _challenger(trial, key.text) if isinstance(node.get("challenger"), MappingNode) else None
    spec = RolesSpec(key.text, key.place, champion, challenger, tuple(_shadows(section)))
    section.finish()
    _check_once(spec, findings)
    return spec


def _version(section: Section, key: str) -> Version | None:
    text = section.text(key, pattern=VERSION_PATTERN, expected=_VERSION)
    node = section.node.get(key)
    return Version(text, node.place) if text and node is not None else None


def _challenger(section: Section, name: str) -> ChallengerSpec | None:
    version = _version(section, "version")
    share = section.number("share")
    salt = section.text("salt", name, pattern=SALT_PATTERN, expected="letters, digits, dots and dashes, 64 at most")
    section.finish()
    node = section.node.get("share")
    if isinstance(node, Scalar) and not 0.0 < share < 1.0:
        section.findings.error(
            node.place, f"{section.what}.share must be between 0 and 1, both left out", length=len(node.text),
            expected="a share of the customers such as 0.10; nobody: leave the challenger out; everybody: `champion`",
        )  # fmt: skip
    return None if version is None else ChallengerSpec(version, share, salt)


def _shadows(section: Section) -> Iterator[Version]:
    if not section.has("shadows"):
        return
    node = section.node.get("shadows")
    if not isinstance(node, SequenceNode):
        section.error("shadows", "must be a list of versions", "`shadows: [2027.1.2]`")
        return
    if len(node.items) > SHADOWS_MAX:
        section.error("shadows", f"has {len(node.items)} versions", f"{SHADOWS_MAX} at most")
    for item in node:
        if isinstance(item, Scalar) and re.fullmatch(VERSION_PATTERN, item.text):
            yield Version(item.text, item.place)
        else:
            length = len(item.text) if isinstance(item, Scalar) else 1
            section.findings.error(item.place, f"{section.what}.shadows is wrong", expected=_VERSION, length=length)


def _check_once(spec: RolesSpec, findings: Findings) -> None:
    """A version has one role."""
    seen: dict[str, str] = {} if spec.champion is None else {spec.champion.text: "the champion"}
    for role, version in spec.variants:
        first = seen.setdefault(version.text, "")
        if first:
            message = f"version {version.text} is {first} of {spec.name} already"
            findings.error(version.place, message, expected=f"another version as {role}", length=len(version.text))
        seen[version.text] = first or f"a {role}"


# --- casting -----------------------------------------------------------------------------------------------------


def give_roles(specs: Mapping[str, RolesSpec], cast: Cast, findings: Findings) -> Roles:
    """Who has which role; what does not fit the loaded scorecards is among the findings."""
    loaded = {(card.name, card.version): card for card in cast.variants}
    challengers: dict[str, Challenger] = {}
    shadows: dict[str, tuple[Scorecard, ...]] = {}
    for name, spec in specs.items():
        champion = cast.champions.get(name)
        if champion is None:
            nearest = nearest_name(name, cast.champions)
            findings.error(spec.place, f"no scorecard `{name}` is in models/", nearest=nearest, length=len(name))
            continue
        _check_champion(spec, champion, cast, findings)
        cards = {
            version: _variant(spec, role, version, champion, loaded, cast, findings) for role, version in spec.variants
        }
        if spec.challenger is not None and (card := cards[spec.challenger.version]) is not None:
            challengers[name] = Challenger(card, spec.challenger.share, spec.challenger.salt)
        shadows[name] = tuple(card for version in spec.shadows if (card := cards[version]) is not None)
    _refuse_idle(specs, cast, findings)
    return Roles(challengers, {name: cards for name, cards in shadows.items() if cards})


def _check_champion(spec: RolesSpec, champion: Scorecard, cast: Cast, findings: Findings) -> None:
    if spec.champion is not None and spec.champion.text != champion.version:
        _unknown_version(spec.name, spec.champion, cast, findings)


def _unknown_version(name: str, version: Version, cast: Cast, findings: Findings) -> None:
    known = cast.known.get(name, ())
    findings.error(
        version.place, f"scorecard `{name}` has no version {version.text} in models/", length=len(version.text),
        expected=f"one of {', '.join(known)}" if known else "", nearest=nearest_name(version.text, known),
    )  # fmt: skip


def _variant(
    spec: RolesSpec, role: str, version: Version, champion: Scorecard,
    loaded: Mapping[tuple[str, str], Scorecard], cast: Cast, findings: Findings,
) -> Scorecard | None:  # fmt: skip
    """The scorecard of a challenger or shadow, if it may have that role."""
    name, length = champion.name, len(version.text)
    if version.text == champion.version:
        if spec.champion is None:  # else it was told
            findings.error(
                version.place, f"version {version.text} is the champion of {name} already", length=length,
                expected=f"another version as {role}, or a `champion` (without one: the version active in models/)",
            )  # fmt: skip
        return None
    card = loaded.get((name, version.text))
    if card is None:
        _unknown_version(name, version, cast, findings)
        return None
    ours, theirs = card.manifest, champion.manifest
    if role == "challenger" and ours.grades.names != theirs.grades.names:
        findings.error(
            version.place, f"version {version.text} grades {', '.join(ours.grades.names)}", length=length,
            expected=f"the grades of the champion, which the rules know: {', '.join(theirs.grades.names)}",
        )  # fmt: skip
    if ours.grain != theirs.grain:
        message = f"version {version.text} scores by {ours.grain}"
        findings.error(version.place, message, expected=f"by {theirs.grain}, as the champion does", length=length)
    return card


def _refuse_idle(specs: Mapping[str, RolesSpec], cast: Cast, findings: Findings) -> None:
    """A published policy may hold only scorecards that its policy.yaml gives a role."""
    named = {(name, version.text) for name, spec in specs.items() for _, version in spec.variants}
    for card in cast.variants:
        if (card.name, card.version) not in named and card.version != cast.champions[card.name].version:
            message = f"version {card.version} of the scorecard `{card.name}` comes with the policy and has no role"
            findings.error(Place("policy.yaml", 1, 1), message, expected=f"`{SECTION}:` that names it")

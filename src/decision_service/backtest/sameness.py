"""Which numbers of an archived decision mean to the candidate what they meant to the policy that recorded them.

A name is not enough: an analyst may have given a feature another window or a segment another condition. So a number
stands for the candidate if everything it is made of is declared alike in both policies: the row with its variant and
null codes, the segments and constants and calendars it names, the features behind it, the attributes (time to live,
source, type) those look at. Notes, units and translations make no difference; neither does where a thing is written.

Base inputs are the same in every policy under one time zone and one reservation time-out. Under others, nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, Final

from decision_service.core.expressions.tree import Name
from decision_service.core.features.catalogue import Catalogue, FeatureSpec
from decision_service.core.features.grains import CUSTOMER, log_read_by
from decision_service.core.features.references import everything_behind
from decision_service.core.policy import Policy
from decision_service.core.rules.attributes import AttributeSpec
from decision_service.core.source import Node, Place, Scalar, SequenceNode
from decision_service.core.vocabulary import BASE_NUMBERS, BASE_STRINGS, NameSpec

_BASE: Final = frozenset(spec.name for spec in (*BASE_NUMBERS, *BASE_STRINGS))
_WORDS_ONLY: Final = frozenset({"en", "zh", "unit", "note"})  # of a row: what decides no value
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Meanings:
    """What the numbers and strings of a policy mean, as digests that two policies can be compared by."""

    def __init__(self, policy: Policy) -> None:
        self._catalogue = policy.catalogue
        self._attributes = policy.attributes
        zone = policy.zone
        self.ground = _digest(
            (zone.name, zone.transitions_utc_ms.tobytes(), zone.offsets_ms.tobytes(), policy.reservation_timeout_ms)
        )
        self._own: dict[str, bytes] = {}
        self._whole: dict[str, bytes] = {}

    def of(self, name: str) -> bytes:
        """The digest of a name and everything it is made of; empty for a name that the policy does not have."""
        if name not in self._whole:
            behind = sorted(everything_behind([name], self._catalogue))
            known = self._is_known(name)
            self._whole[name] = _digest(tuple(map(self._part, behind))) if known else b""
        return self._whole[name]

    def _is_known(self, name: str) -> bool:
        return name in self._catalogue.by_name or bool(self._part(name))

    def _part(self, name: str) -> bytes:
        if name not in self._own:
            self._own[name] = self._described(name)
        return self._own[name]

    def _described(self, name: str) -> bytes:
        spec = self._catalogue.by_name.get(name)
        if spec is not None:
            return _digest(tuple(_of_feature(spec, self._catalogue)))
        if name in _BASE:
            return _digest(("base", name))
        attribute = self._attributes.get(name)
        if attribute is not None:
            return _digest(_of_attribute(attribute))
        alike = [a for a in self._attributes.values() if name in (f"src_{a.source}_ok", f"feat_age_s_{a.source}")]
        return _digest((name, *map(_of_attribute, alike))) if alike else b""


@dataclass(frozen=True, slots=True)
class Shared:
    """What a scene of the candidate needs, compared with what an archived policy recorded in that scene.

    `same` stand as recorded; `new` are features that the customers' logs tell; `links` are features of entity logs,
    which nothing tells, so they are null as where a log was not read; `plain` rest on inputs (attributes, and the base
    inputs under other settings) that only deciding again from the whole state tells.
    """

    same: frozenset[str]
    new: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()


def shared(
    needs: Iterable[str], archived: Meanings, candidate: Meanings, recorded: Iterable[str], catalogue: Catalogue
) -> Shared:
    """Compare; `recorded` are the names (numbers and strings) of the archived scene, `catalogue` the candidate's."""
    there = frozenset(recorded)
    if archived.ground != candidate.ground:
        return Shared(frozenset(), plain=tuple(sorted(needs)))
    same = frozenset(name for name in there if (told := candidate.of(name)) and told == archived.of(name))
    new: list[str] = []
    plain: list[str] = []
    links: set[str] = set()
    for name in sorted(frozenset(needs) - same):
        behind = everything_behind([name], catalogue)
        inputs = behind - catalogue.by_name.keys()
        if not all(i in same for i in inputs if candidate.of(i)):  # what an event tells has no meaning of its own here
            plain.append(name)
            continue
        links |= {n for n in behind & catalogue.by_name.keys() if n not in same and _is_link(catalogue.by_name[n])}
        if not _is_link(catalogue.by_name[name]):
            new.append(name)
    return Shared(same, tuple(new), tuple(sorted(links)), tuple(plain))


def _is_link(spec: FeatureSpec) -> bool:
    return log_read_by(spec.grain) != CUSTOMER


# --- what a declaration says --------------------------------------------------------------------------------------


def _of_feature(spec: FeatureSpec, catalogue: Catalogue) -> Iterator[Any]:
    nodes = {key: node for key, node in spec.row.nodes.items() if key not in _WORDS_ONLY}
    yield spec.name, spec.row.section, spec.surge_of, spec.null.codes
    yield _plain(spec.variant), _plain(nodes), _plain(spec.tree)
    words = set(_words(nodes.values()))
    for name in sorted({segment for _, segment in spec.row.segment_names()} & catalogue.segments.keys()):
        tree = catalogue.segments[name].tree
        yield name, _plain(tree)
    for name in sorted(words & (catalogue.constants.keys() | catalogue.calendars.keys())):
        constant, calendar = catalogue.constants.get(name), catalogue.calendars.get(name)
        yield name, None if constant is None else constant.constant, _plain(calendar)


def _of_attribute(attribute: AttributeSpec) -> tuple[Any, ...]:
    return (attribute.spec.name, attribute.spec.kind.name, attribute.source, attribute.ttl_ms)


def _words(nodes: Iterable[Node]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Scalar):
            yield from _WORD.findall(node.text)
        elif isinstance(node, SequenceNode):
            yield from _words(node.items)
        else:
            yield from _words([item for pair in node.items for item in pair])


def _plain(value: Any) -> Any:
    """A declaration as plain values, without the places where it is written."""
    if isinstance(value, Scalar):
        return value.text, value.quoted
    if isinstance(value, NameSpec):
        return value.name, value.kind.name, value.constant
    if isinstance(value, Name):
        return "name", _plain(value.spec)
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value):
        told = ((field.name, getattr(value, field.name)) for field in fields(value))
        return (type(value).__name__, *(_plain(part) for _, part in told if not isinstance(part, Place)))
    if isinstance(value, Mapping):
        return tuple((_plain(key), _plain(value[key])) for key in sorted(value, key=repr))
    if isinstance(value, (frozenset, set)):
        return tuple(sorted(map(repr, value)))
    if isinstance(value, (tuple, list)):
        return tuple(_plain(item) for item in value if not isinstance(item, Place))
    return value


def _digest(told: Any) -> bytes:
    return blake2b(repr(told).encode(), digest_size=16).digest()

"""What a rule and every block of a rule set have in common: id, stage, note, on_null, reason, tests.

Ids are unique over all of them. Whatever holds the draw says what to do when it cannot be known (`on_null`); whatever a
customer may ask about gives a reason code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from decision_service.core.expressions.names import names_in
from decision_service.core.rules.effects import EffectReader, holds, is_adverse
from decision_service.core.rules.fields import identifier, one_of
from decision_service.core.rules.guardrails import read_reason
from decision_service.core.rules.rule_tests import TestReader
from decision_service.core.rules.spec import ComputedEffect, DatedConstant, EffectSpec, OnNull, TestSpec
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary
from decision_service.core.zone import Zone


@dataclass(frozen=True, slots=True)
class Head:
    """What was read of one of them."""

    id: str
    stage: str
    place: Place
    note: str


class HeadReader:
    """Reads the common part of all rules and blocks of one rule set, over one vocabulary."""

    def __init__(
        self, vocabulary: Vocabulary, dated: Mapping[str, DatedConstant], stages: Collection[str], zone: Zone | None,
        findings: Findings,
    ) -> None:  # fmt: skip
        self.vocabulary = vocabulary
        self.dated = dated
        self.zone = zone
        self.findings = findings
        self.effects = EffectReader(vocabulary, findings)
        self._asks = EffectReader(vocabulary.with_names(), findings)  # what only a test reads is not in use
        self._stages = stages
        self._ids: dict[str, Place] = {}

    def head(self, node: MappingNode) -> Head | None:
        """Id, stage and note, or None."""
        name, stage = self.id(node), self._stage(node)
        return None if name is None or stage is None else Head(name, stage, node.place, _note(node))

    def id(self, node: MappingNode) -> str | None:
        """The id, once in a rule set."""
        id_node = node.get("id")
        name = None if id_node is None else identifier(id_node, "an id", self.findings)
        if name is None or id_node is None:
            return None
        first = self._ids.setdefault(name, id_node.place)
        if first is not id_node.place:
            self.findings.error(
                id_node.place, f"the id `{name}` is taken by line {first.line}", expected="each id once",
                length=len(name),
            )  # fmt: skip
        return name

    def _stage(self, node: MappingNode) -> str | None:
        stage = node.get("stage")
        if stage is None and not self._stages:
            return ""
        if stage is None:
            self.findings.error(node.place, "no `stage`", expected=", ".join(self._stages))
            return None
        return one_of(stage, self._stages, "stage", self.findings)

    def on_null(self, node: MappingNode, then: Collection[EffectSpec], *, may_fire: bool) -> OnNull | None:
        """What to do when a value is missing; blocks, which cannot fire, always say it."""
        given = node.get("on_null")
        if given is not None:
            return self.effects.on_null(given, may_fire)
        if any(holds(effect) for effect in then) or not may_fire:
            self.findings.error(
                node.place,
                "it holds the draw and does not say what to do when a value is missing" if may_fire
                else "it does not say what to do when a value is missing",
                expected="`on_null: hold`, `on_null: skip`" + (" or `on_null: fire`" if may_fire else ""),
            )  # fmt: skip
            return None
        return "skip"

    def reason(self, node: MappingNode, then: Iterable[EffectSpec]) -> str | None:
        """The reason code, the empty string for none; None if it is wrong, or missing where a customer may ask."""
        reason = read_reason(node, self.findings)
        if reason == "" and any(is_adverse(effect) for effect in then):
            self.findings.error(
                node.place, "it may hold, cap, cut or reprice and gives no reason", expected="`reason: RC..`"
            )
            return None
        return reason

    def tests(
        self, node: MappingNode, specs: Iterable[NameSpec], expected: Collection[str], *, several: bool = False,
        numbers: bool = False,
    ) -> tuple[TestSpec, ...]:  # fmt: skip
        """The inline tests of something that reads `specs` and comes to one, or several, of `expected`, or a number.

        Whatever comes to a number asks for nothing.
        """
        reader = TestReader(specs, expected, self.zone, self.findings, None if numbers else self._asks)
        return reader.read(node, several=several)

    def note(self, node: MappingNode) -> str:
        """The note, or the empty string."""
        return _note(node)

    def names(self, specs: Iterable[NameSpec]) -> frozenset[str]:
        """The names that a decision has to supply: no lists, no constants."""
        return frozenset(s.name for s in specs if s.kind is not Kind.LIST and s.name not in self.dated)


def amount_names(effects: Iterable[EffectSpec]) -> list[NameSpec]:
    """The names that the amounts of effects read."""
    return [spec for e in effects if isinstance(e, ComputedEffect) for spec in names_in(e.amount)]


def _note(node: MappingNode) -> str:
    note: Node | None = node.get("note")
    return note.text if isinstance(note, Scalar) else ""

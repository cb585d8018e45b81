"""From the YAML of a rule set to its checked specification.

    rule_set: name       scene: drawdown       stages: [hard, anomaly, ...]      note: text
    constants: ...       rules: [...]          matrices: [...]                   guardrails: ...    fallback: ...

A rule is `id, stage, note, when, on_null, then, reason, tests`; a matrix `id, stage, note, rows, columns, cells,
on_null, reason, tests`. Ids are unique over both. Whatever holds the draw says what to do when it cannot be known
(`on_null`); whatever a customer may ask about gives a reason code. Rules run, and are traced, in the order of `stages`
and within a stage as they stand in the file; the outcome does not depend on it.

All mistakes of a file are reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

from decision_service.core.expressions.names import names_in
from decision_service.core.expressions.parse import parse_condition
from decision_service.core.limits import RULES_MAX
from decision_service.core.request import SCENES
from decision_service.core.rules.constants import NO_CONSTANTS, Constants, read_constants
from decision_service.core.rules.effects import EffectReader, holds, is_adverse
from decision_service.core.rules.fields import check_keys, identifier, mapping, one_of, scalar, sequence
from decision_service.core.rules.guardrails import read_fallback, read_guardrails, read_reason
from decision_service.core.rules.lint import lint_condition, lint_constants
from decision_service.core.rules.matrix import read_axis, read_cells
from decision_service.core.rules.rule_tests import read_tests
from decision_service.core.rules.shadows import lint_rules
from decision_service.core.rules.spec import (
    ComputedEffect,
    EffectSpec,
    Guardrails,
    MatrixSpec,
    OnNull,
    RuleSetSpec,
    RuleSpec,
)
from decision_service.core.source import Document, Findings, MappingNode, Node, Place, Scalar
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary
from decision_service.core.zone import Zone

__all__ = ["RuleSetSpec", "read_rule_set"]

_TOP: Final = ("rule_set", "scene", "note", "stages", "constants", "rules", "matrices", "guardrails", "fallback")
_RULE: Final = ("id", "stage", "note", "when", "on_null", "then", "reason", "tests")
_MATRIX: Final = ("id", "stage", "note", "rows", "columns", "cells", "on_null", "reason", "tests")
Part = TypeVar("Part", RuleSpec, MatrixSpec)


class _UsedNames(Vocabulary):
    """A vocabulary that remembers which of its names were looked up."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> NameSpec:
        spec = super().__getitem__(name)
        self.used.add(name)
        return spec


def read_rule_set(
    document: Document,
    vocabulary: Vocabulary,
    findings: Findings,
    zone: Zone | None = None,
    shared: Constants = NO_CONSTANTS,
) -> RuleSetSpec | None:
    """The specification of a rule set, or None with everything that is wrong among the findings.

    `zone` is the business time zone, in which dated constants change at midnight; None means UTC. `shared` are the
    constants that all rule sets see.
    """
    before = len(findings.errors)
    root = document.root
    check_keys(root, _TOP, ("rule_set", "scene", "rules", "fallback"), "the rule set", findings)
    spec = _Reader(root, vocabulary, findings, zone, shared).read()
    return spec if len(findings.errors) == before else None


class _Reader:
    """Reads one rule set; every method records what is wrong and goes on."""

    def __init__(
        self, root: MappingNode, vocabulary: Vocabulary, findings: Findings, zone: Zone | None, shared: Constants
    ) -> None:
        self._root = root
        self._findings = findings
        self._zone = zone
        block = root.get("constants")
        own = NO_CONSTANTS if block is None else read_constants(block, vocabulary, zone, findings, shared)
        self._own = own
        self._constants = {spec.name for spec in (*shared.specs, *own.specs)}
        self._vocabulary = _UsedNames(vocabulary.with_names(*shared.specs, *own.specs))
        self._dated = {constant.name: constant for constant in (*shared.dated, *own.dated)}
        self._effects = EffectReader(self._vocabulary, findings)
        self._stages = self._read_stages()
        self._ids: dict[str, Place] = {}

    def read(self) -> RuleSetSpec | None:
        """The specification, or None."""
        name, scene = self._header()
        rules = self._sorted(self._parts("rules", self._rule))
        matrices = self._sorted(self._parts("matrices", self._matrix))
        if not rules and not self._findings.errors:
            self._findings.error(self._root.place, "a rule set without rules", expected="at least one rule")
        guardrails, fallback = self._root.get("guardrails"), self._root.get("fallback")
        bounds = Guardrails() if guardrails is None else read_guardrails(guardrails, self._zone, self._findings)
        resort = None if fallback is None else read_fallback(fallback, self._findings)
        if not self._findings.errors:  # a constant may seem unused only because its name is mistyped
            lint_constants(self._own.places, self._vocabulary.used, self._findings)
            lint_rules(rules, self._findings)
        if name is None or scene is None or resort is None:
            return None
        names = [name for rule in rules for name in rule.names]
        names += [name for matrix in matrices for name in matrix.names]
        used = frozenset(self._vocabulary.used)
        lists = frozenset(n for n in used if self._is_list(n))
        dated = tuple(constant for name, constant in self._dated.items() if name in used)
        return RuleSetSpec(
            name, scene, self._root.place, rules, matrices, dated, bounds, resort,
            frozenset(names), lists, used & self._constants,
        )  # fmt: skip

    def _is_list(self, name: str) -> bool:
        spec = self._vocabulary[name]
        return spec.kind is Kind.LIST and spec.constant is None

    def _header(self) -> tuple[str | None, str | None]:
        name, scene = self._root.get("rule_set"), self._root.get("scene")
        return (
            None if name is None else identifier(name, "`rule_set`", self._findings),
            None if scene is None else one_of(scene, SCENES, "scene", self._findings),
        )

    def _read_stages(self) -> tuple[str, ...]:
        node = self._root.get("stages")
        items = None if node is None else sequence(node, "`stages`", self._findings)
        names = [identifier(item, "a stage", self._findings) for item in items or ()]
        return tuple(name for name in names if name is not None)

    def _parts(self, key: str, read: Callable[[MappingNode], Part | None]) -> Iterable[Part]:
        node = self._root.get(key)
        items = None if node is None else sequence(node, f"`{key}`", self._findings)
        if items is not None and len(items.items) > RULES_MAX:
            self._findings.error(items.place, f"more than {RULES_MAX} {key}")
            return
        for item in items or ():
            block = mapping(item, f"an item of `{key}`", item.place, self._findings)
            part = None if block is None else read(block)
            if part is not None:
                yield part

    def _sorted(self, parts: Iterable[Part]) -> tuple[Part, ...]:
        order = {stage: position for position, stage in enumerate(self._stages)}
        return tuple(sorted(parts, key=lambda part: order.get(part.stage, 0)))

    # --- a rule -----------------------------------------------------------------------------------------------

    def _rule(self, node: MappingNode) -> RuleSpec | None:
        sound = check_keys(node, _RULE, ("id", "when", "then"), "a rule", self._findings)
        rule_id, stage = self._id(node), self._stage(node)
        when_node, then_node = node.get("when"), node.get("then")
        text = None if when_node is None else scalar(when_node, "`when`", self._findings)
        when = None if text is None else parse_condition(text.text, text.place, self._vocabulary, self._findings)
        then = None if then_node is None else self._effects.read(then_node)
        on_null = self._on_null(node, then or (), may_fire=True)
        reason = self._reason(node, then or ())
        if text is None or when is None or then is None or rule_id is None or reason is None or not sound:
            return None
        if stage is None or on_null is None:
            return None
        lint_condition(when, text, self._findings)
        specs = [*names_in(when), *_amount_names(then)]
        tests = read_tests(node, specs, ("fires", "silent", "unknown"), self._zone, self._findings)
        return RuleSpec(
            rule_id, stage, node.place, when, text.text, on_null, then, reason, tests, self._names(specs),
            _note(node),
        )  # fmt: skip

    def _names(self, specs: Iterable[NameSpec]) -> frozenset[str]:
        return frozenset(s.name for s in specs if s.kind is not Kind.LIST and s.name not in self._dated)

    def _id(self, node: MappingNode) -> str | None:
        id_node = node.get("id")
        name = None if id_node is None else identifier(id_node, "an id", self._findings)
        if name is None or id_node is None:
            return None
        first = self._ids.setdefault(name, id_node.place)
        if first is not id_node.place:
            self._findings.error(
                id_node.place, f"the id `{name}` is taken by line {first.line}", expected="each id once",
                length=len(name),
            )  # fmt: skip
        return name

    def _stage(self, node: MappingNode) -> str | None:
        stage = node.get("stage")
        if stage is None and not self._stages:
            return ""
        if stage is None:
            self._findings.error(node.place, "no `stage`", expected=", ".join(self._stages))
            return None
        return one_of(stage, self._stages, "stage", self._findings)

    def _on_null(self, node: MappingNode, then: Collection[EffectSpec], may_fire: bool) -> OnNull | None:
        given = node.get("on_null")
        if given is not None:
            return self._effects.on_null(given, may_fire)
        if any(holds(effect) for effect in then) or not may_fire:
            self._findings.error(
                node.place, "it holds the draw and does not say what to do when a value is missing",
                expected="`on_null: hold`, `on_null: skip`" + (" or `on_null: fire`" if may_fire else ""),
            )  # fmt: skip
            return None
        return "skip"

    def _reason(self, node: MappingNode, then: Iterable[EffectSpec]) -> str | None:
        reason = read_reason(node, self._findings)
        if reason == "" and any(is_adverse(effect) for effect in then):
            self._findings.error(
                node.place, "it may hold, cap, cut or reprice and gives no reason", expected="`reason: RC..`"
            )
            return None
        return reason

    # --- a matrix ---------------------------------------------------------------------------------------------

    def _matrix(self, node: MappingNode) -> MatrixSpec | None:
        sound = check_keys(node, _MATRIX, ("id", "rows", "columns", "cells"), "a matrix", self._findings)
        matrix_id, stage = self._id(node), self._stage(node)
        rows_node, columns_node, cells_node = node.get("rows"), node.get("columns"), node.get("cells")
        rows = None if rows_node is None else read_axis(rows_node, "rows", self._vocabulary, self._findings)
        columns = None if columns_node is None else read_axis(columns_node, "columns", self._vocabulary, self._findings)
        cells = None
        if rows is not None and columns is not None and cells_node is not None:
            cells = read_cells(cells_node, rows, columns, self._effects, self._findings)
        every = [effect for row in cells or () for cell in row for effect in cell]
        on_null, reason = self._on_null(node, every, may_fire=False), self._reason(node, every)
        if rows is None or columns is None or cells is None or matrix_id is None or not sound:
            return None
        if on_null is None or reason is None or stage is None:
            return None
        specs = [rows.name, columns.name, *_amount_names(every)]
        labels = [f"{row}/{column}" for row in rows.labels for column in columns.labels]
        tests = read_tests(node, specs, (*labels, "unknown"), self._zone, self._findings)
        return MatrixSpec(
            matrix_id, stage, node.place, rows, columns, cells, on_null, reason, tests, self._names(specs)
        )


def _amount_names(effects: Iterable[EffectSpec]) -> list[NameSpec]:
    return [spec for e in effects if isinstance(e, ComputedEffect) for spec in names_in(e.amount)]


def _note(node: MappingNode) -> str:
    note: Node | None = node.get("note")
    return note.text if isinstance(note, Scalar) else ""

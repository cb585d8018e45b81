"""From the YAML of a rule set to its checked specification.

    rule_set: name       scene: drawdown       stages: [hard, anomaly, ...]      note: text
    constants: ...       points: [...]         guardrails: ...                   fallback: ...
    rules: [...]         matrices: [...]       tables: [...]                     trees: [...]

A rule is `id, stage, note, when, on_null, then, reason, tests`; the blocks are told of in `matrix.py`, `tables.py`,
`trees.py` and `points.py`. Rules run, and are traced, in the order of `stages` and within a stage as they stand in the
file; so do blocks of one sort, after them. The outcome does not depend on it.

All mistakes of a file are reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, TypeVar

from decision_service.core.expressions.names import names_in
from decision_service.core.expressions.parse import parse_condition
from decision_service.core.limits import RULES_MAX
from decision_service.core.request import SCENES
from decision_service.core.rules.constants import NO_CONSTANTS, Constants, read_constants
from decision_service.core.rules.effects import NOTHING
from decision_service.core.rules.fields import check_keys, identifier, mapping, one_of, scalar, sequence
from decision_service.core.rules.guardrails import read_fallback, read_guardrails
from decision_service.core.rules.heads import HeadReader, amount_names
from decision_service.core.rules.lint import lint_condition, lint_constants
from decision_service.core.rules.matrix import read_matrix
from decision_service.core.rules.points import PointsReader, points_names
from decision_service.core.rules.points_spec import PointsSpec
from decision_service.core.rules.rule_set import Block, RuleSetSpec
from decision_service.core.rules.shadows import lint_rules
from decision_service.core.rules.spec import EffectSpec, Guardrails, MatrixSpec, RuleSpec
from decision_service.core.rules.table_spec import TableSpec
from decision_service.core.rules.tables import TableReader
from decision_service.core.rules.tree_spec import TreeSpec
from decision_service.core.rules.trees import TreeReader
from decision_service.core.source import Document, Findings, MappingNode, Node
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary
from decision_service.core.zone import Zone

__all__ = ["RuleSetSpec", "read_rule_set"]

_TOP: Final = (
    "rule_set", "scene", "note", "stages", "constants", "rules", "matrices", "tables", "trees", "points",
    "guardrails", "fallback",
)  # fmt: skip
_PARTS: Final = ("rules", "matrices", "tables", "trees")
_RULE: Final = ("id", "stage", "note", "when", "on_null", "then", "reason", "tests")
Staged = TypeVar("Staged", RuleSpec, MatrixSpec, TableSpec, TreeSpec)
Part = TypeVar("Part", RuleSpec, MatrixSpec, TableSpec, TreeSpec, PointsSpec)


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
    check_keys(root, _TOP, ("rule_set", "scene", "fallback"), "the rule set", findings)
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
        self._points = points_names(root, vocabulary, findings)
        self._vocabulary = _UsedNames(vocabulary.with_names(*shared.specs, *own.specs, *self._points))
        self._dated = {constant.name: constant for constant in (*shared.dated, *own.dated)}
        self._stages = self._read_stages()
        self._heads = HeadReader(self._vocabulary, self._dated, self._stages, zone, findings)

    def read(self) -> RuleSetSpec | None:
        """The specification, or None."""
        name, scene = self._header()
        points = tuple(self._parts("points", PointsReader(self._heads, self._points).read))
        rules = self._sorted(self._parts("rules", self._rule))
        matrices = self._sorted(self._parts("matrices", lambda node: read_matrix(node, self._heads)))
        tables = self._sorted(self._parts("tables", TableReader(self._heads).read))
        trees = self._sorted(self._parts("trees", TreeReader(self._heads).read))
        if all(self._root.get(key) is None for key in _PARTS):
            self._findings.error(self._root.place, "the rule set has no `rules`")
        if not (rules or matrices or tables or trees) and not self._findings.errors:
            self._findings.error(self._root.place, "a rule set without rules", expected="at least one rule")
        dated = tuple(
            c for name, c in self._dated.items() if name in self._vocabulary.used
        )  # of rules: guardrails fold
        guardrails, fallback = self._root.get("guardrails"), self._root.get("fallback")
        bounds = Guardrails() if guardrails is None else self._guardrails(guardrails)
        resort = None if fallback is None else read_fallback(fallback, self._findings)
        if not self._findings.errors:  # a constant may seem unused only because its name is mistyped
            lint_constants(self._own.places, self._vocabulary.used, self._findings)
            lint_rules(rules, self._findings)
        if name is None or scene is None or resort is None:
            return None
        parts: tuple[RuleSpec | Block | PointsSpec, ...] = (*rules, *matrices, *tables, *trees, *points)
        names = [name for part in parts for name in part.names]
        used = frozenset(self._vocabulary.used)
        lists = frozenset(n for n in used if self._is_list(n))
        return RuleSetSpec(
            name, scene, self._root.place, rules, matrices, tables, trees, points, dated, bounds, resort,
            frozenset(names), lists, used & self._constants, self._said_constants(used),
        )  # fmt: skip

    def _guardrails(self, node: Node) -> Guardrails:
        return read_guardrails(node, self._vocabulary, self._dated, self._zone, self._findings)

    def _said_constants(self, used: Collection[str]) -> dict[str, Any]:
        """The constants in use, as values; a dated one as `{from_ms: [...], values: [...]}`."""
        said: dict[str, Any] = {}
        for name in sorted(self._constants.intersection(used)):
            dated = self._dated.get(name)
            plain = self._vocabulary[name].constant
            said[name] = plain if dated is None else {"from_ms": dated.starts_ms, "values": dated.values}
        return said

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

    def _sorted(self, parts: Iterable[Staged]) -> tuple[Staged, ...]:
        order = {stage: position for position, stage in enumerate(self._stages)}
        return tuple(sorted(parts, key=lambda part: order.get(part.stage, 0)))

    def _rule(self, node: MappingNode) -> RuleSpec | None:
        heads = self._heads
        sound = check_keys(node, _RULE, ("id", "when", "then"), "a rule", self._findings)
        head, when_node, then_node = heads.head(node), node.get("when"), node.get("then")
        text = None if when_node is None else scalar(when_node, "`when`", self._findings)
        when = None if text is None else parse_condition(text.text, text.place, self._vocabulary, self._findings)
        then = None if then_node is None else self._effects(then_node)
        on_null = heads.on_null(node, then or (), may_fire=True)
        reason = heads.reason(node, then or ())
        if text is None or when is None or then is None or head is None or not sound:
            return None
        if on_null is None or reason is None:
            return None
        lint_condition(when, text, self._findings)
        specs = [*names_in(when), *amount_names(then)]
        return RuleSpec(
            head.id, head.stage, head.place, when, text.text, on_null, then, reason,
            heads.tests(node, specs, ("fires", "silent", "unknown")), heads.names(specs), head.note,
        )  # fmt: skip

    def _effects(self, node: Node) -> tuple[EffectSpec, ...] | None:
        """What a rule asks for, which must be something."""
        effects = self._heads.effects.read(node)
        if effects == ():
            self._findings.error(
                node.place, "a rule that asks for nothing", expected="an effect such as `{hold: review}`, or no rule",
                length=len(NOTHING),
            )  # fmt: skip
            return None
        return effects

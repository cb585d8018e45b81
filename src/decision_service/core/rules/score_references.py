"""Which scorecards a rule, matrix, table row or leaf looks at, settled when a policy compiles.

An effect says in its `source` which rule or block asked for it, and the evaluation's cells which row or leaf of a block
was hit; from these two `cards` says whose score stood behind the effect. What counts is what was looked at for this
very answer: a table row whose cell is `any` does not look at the score in that column, and a leaf only at the questions
on the way to it. A points scorecard that is built on a model's score passes the reference on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from decision_service.core.decision import Approve, Effect
from decision_service.core.expressions.names import names_in
from decision_service.core.rules.heads import amount_names
from decision_service.core.rules.rule_set import RuleSetSpec
from decision_service.core.rules.spec import EffectSpec
from decision_service.core.rules.table_spec import OTHERWISE, TableRow, TableSpec
from decision_service.core.rules.tree_spec import Branch, Leaf, TreeSpec

SCORE_PARTS = ("points", "pd", "grade")
Cards = frozenset[str]
NOBODY: Cards = frozenset()


@dataclass(frozen=True, slots=True)
class ScoreReferences:
    """Names of scorecards by the source of effects, and by the cell hit where it depends on that."""

    by_source: Mapping[str, Cards]  # "rule:velocity_burst", "matrix:score_by_use"
    by_cell: Mapping[str, Mapping[str, Cards]]  # "table:renewal": {"renewal:c_late": ..}; of trees, too
    _sources: frozenset[str] = field(init=False, repr=False, compare=False)  # of both

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sources", frozenset((*self.by_source, *self.by_cell)))

    def among(self, effects: Iterable[Effect]) -> list[Effect]:
        """Those of these effects that something asked for which may have looked at a score, without approvals."""
        sources = self._sources
        return [effect for effect in effects if effect.source in sources and not isinstance(effect.action, Approve)]

    def cards(self, source: str, cells: Collection[str]) -> Cards:
        """The scorecards behind an effect of this source, where these cells were hit."""
        hits = self.by_cell.get(source)
        if hits is None:
            return self.by_source.get(source, NOBODY)
        return NOBODY.union(*(hits[cell] for cell in cells if cell in hits))


NO_REFERENCES = ScoreReferences({}, {})


def score_references(spec: RuleSetSpec, cards: Iterable[str]) -> ScoreReferences:
    """The references of a rule set to these scorecards."""
    owners = {f"{card}.{part}": frozenset((card,)) for card in cards for part in SCORE_PARTS}
    for points in spec.points:
        behind = _behind(points.names, owners)
        owners |= {name: behind for name, _ in (*points.numbers, *points.texts)}
    by_source = {f"rule:{rule.id}": _behind(rule.names, owners) for rule in spec.rules}
    by_source |= {f"matrix:{matrix.id}": _behind(matrix.names, owners) for matrix in spec.matrices}
    by_cell = {f"table:{table.id}": dict(_rows(table, owners)) for table in spec.tables}
    by_cell |= {f"tree:{tree.id}": dict(_leaves(tree, owners)) for tree in spec.trees}
    return ScoreReferences({source: found for source, found in by_source.items() if found}, by_cell)


def _behind(names: Iterable[str], owners: Mapping[str, Cards]) -> Cards:
    return NOBODY.union(*(owners.get(name, NOBODY) for name in names))


def _rows(table: TableSpec, owners: Mapping[str, Cards]) -> Iterator[tuple[str, Cards]]:
    for row in table.rows:
        yield f"{table.id}:{row.label}", _behind(_names_of_row(table, row), owners)
    if table.otherwise is not None:
        yield f"{table.id}:{OTHERWISE}", _behind(table.names, owners)


def _names_of_row(table: TableSpec, row: TableRow) -> Iterator[str]:
    for given, cell in zip(table.inputs, row.cells, strict=True):
        if cell.sort != "any":
            yield from (spec.name for spec in names_in(given.tree))
    yield from _names_of_amounts(row.then)


def _names_of_amounts(then: Iterable[EffectSpec]) -> Iterator[str]:
    return (spec.name for spec in amount_names(then))


def _leaves(tree: TreeSpec, owners: Mapping[str, Cards]) -> Iterator[tuple[str, Cards]]:
    pending: list[tuple[Branch | Leaf, Cards]] = [(tree.root, NOBODY)]
    while pending:
        node, asked = pending.pop()
        if isinstance(node, Leaf):
            yield f"{tree.id}:{node.label}", asked | _behind(_names_of_amounts(node.then), owners)
        else:
            asked |= _behind((spec.name for spec in names_in(node.when)), owners)
            pending += [(way, asked) for way in node.ways]

"""A decision table as read and checked: its inputs, its rows, and how they answer.

Positions are counted over `labels`: the rows in file order, then `otherwise`. A row is called by its id, else by its
number from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from decision_service.core.expressions.tree import Name, Tree
from decision_service.core.rules.cells import Cell
from decision_service.core.rules.regions import Regions, regions_of
from decision_service.core.rules.spec import EffectSpec, OnNull, TestSpec, said
from decision_service.core.source import Place

Hit = Literal["first", "all"]
OTHERWISE: Final = "otherwise"
UNKNOWN: Final = "unknown"
WRONG: Final = "wrong"


@dataclass(frozen=True, slots=True)
class TableInput:
    """One input. `null_is_value`: some row names `null`, so that an unknown value is a value of its own."""

    text: str
    tree: Tree
    place: Place
    null_is_value: bool

    @property
    def nullable(self) -> bool:
        """Whether its value may be unknown; arithmetic may always come to nothing."""
        return self.tree.spec.nullable if isinstance(self.tree, Name) else True

    @property
    def values(self) -> tuple[str, ...]:
        """All texts it can be, empty if that is not known."""
        return self.tree.spec.values if isinstance(self.tree, Name) else ()


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: a cell an input, and what it asks for when all of them are true."""

    label: str
    cells: tuple[Cell, ...]
    then: tuple[EffectSpec, ...]
    reason: str
    place: Place


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One decision table. `otherwise` is None where the rows cover everything."""

    sort: ClassVar[Literal["table"]] = "table"
    id: str
    stage: str
    place: Place
    hit: Hit
    inputs: tuple[TableInput, ...]
    rows: tuple[TableRow, ...]
    otherwise: tuple[EffectSpec, ...] | None
    on_null: OnNull
    reason: str
    tests: tuple[TestSpec, ...]
    names: frozenset[str]
    note: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """What can be hit: the rows and, if it is there, `otherwise`."""
        return (*(row.label for row in self.rows), *(() if self.otherwise is None else (OTHERWISE,)))

    @property
    def asked(self) -> tuple[tuple[tuple[EffectSpec, ...], str], ...]:
        """The effects and the reason of every label."""
        rows = tuple((row.then, row.reason) for row in self.rows)
        return rows if self.otherwise is None else (*rows, (self.otherwise, self.reason))

    def describe(self) -> dict[str, Any]:
        """What a trace or a comparison of policies needs to show this table."""
        return {
            "id": self.id, "stage": self.stage, "hit": self.hit, "inputs": [i.text for i in self.inputs],
            "rows": [
                {
                    "label": row.label, "if": [cell.text for cell in row.cells], "then": said(row.then),
                    "reason": row.reason or None,
                }
                for row in self.rows
            ],
            "otherwise": None if self.otherwise is None else said(self.otherwise),
            "names": sorted(self.names), "on_null": self.on_null, "reason": self.reason or None,
            "note": self.note or None,
        }  # fmt: skip

    @property
    def eras_ms(self) -> tuple[int, ...]:
        """When the dated constants among the bounds change, rising."""
        return tuple(sorted({start for row in self.rows for c in row.cells for d in c.dated for start in d.starts_ms}))

    def regions_at(self, t_ms: int) -> tuple[Regions, ...]:
        """The regions of every input by the bounds of an instant."""
        return tuple(
            regions_of(
                [row.cells[position] for row in self.rows], given.tree.kind, given.null_is_value, given.nullable,
                given.values, t_ms,
            )
            for position, given in enumerate(self.inputs)
        )  # fmt: skip

"""A points scorecard as read and checked: values, not effects, computed before all rules.

It fills places of its own in a decision's numbers and strings, so that a trace shows all of them:

    intent.part_1 ...     the points of each characteristic
    intent.points         their sum and the base; null if one of them is null
    intent.grade          by its points, if it has grades

Each of these is an expression over the values before it, which is how both back ends compute it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from decision_service.core.expressions.tree import Call, Compare, IfElse, Name, Number, String, Tree
from decision_service.core.rules.cells import Cell
from decision_service.core.rules.spec import TestSpec
from decision_service.core.source import Place
from decision_service.core.vocabulary import Kind, NameSpec


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One value that earns points: the first bin that takes it says how many. `points` is that as an expression."""

    text: str
    value: Tree
    bins: tuple[tuple[Cell, float], ...]
    points: Tree


@dataclass(frozen=True, slots=True)
class PointsSpec:
    """One points scorecard; `grades` with their lowest points, falling, empty for none."""

    sort: ClassVar[Literal["points"]] = "points"
    id: str
    place: Place
    base: float
    of: tuple[Characteristic, ...]
    grades: tuple[tuple[str, float], ...]
    tests: tuple[TestSpec, ...]
    names: frozenset[str]
    note: str = ""

    @property
    def numbers(self) -> tuple[tuple[str, Tree], ...]:
        """The numbers it fills, in the order in which they are computed."""
        parts = tuple((f"{self.id}.part_{n}", one.points) for n, one in enumerate(self.of, 1))
        earned = tuple(Name(NameSpec(name, Kind.NUMBER, "points"), self.place) for name, _ in parts)
        total = Call("sum", (Number(self.base, self.place), *earned), self.place, Kind.NUMBER)
        return (*parts, (points_name(self.id), total))

    @property
    def texts(self) -> tuple[tuple[str, Tree], ...]:
        """The string it fills, if any: whoever has fewer points than every grade has the last one."""
        if not self.grades:
            return ()
        points = Name(NameSpec(points_name(self.id), Kind.NUMBER, "points"), self.place)
        grade: Tree = String(self.grades[-1][0], self.place)
        for name, least in reversed(self.grades[:-1]):
            enough = Compare(">=", points, Number(least, self.place), self.place)
            grade = IfElse(enough, String(name, self.place), grade, self.place, Kind.STRING)
        return ((grade_name(self.id), grade),)

    def describe(self) -> dict[str, Any]:
        """What a trace or a comparison of policies needs to show this scorecard."""
        return {
            "id": self.id, "base": self.base,
            "of": [
                {"value": one.text, "part": name, "bins": {cell.text: points for cell, points in one.bins}}
                for one, (name, _) in zip(self.of, self.numbers, strict=False)
            ],
            "grades": dict(self.grades) or None, "points": points_name(self.id),
            "grade": grade_name(self.id) if self.grades else None, "names": sorted(self.names),
            "note": self.note or None,
        }  # fmt: skip


def points_name(card: str) -> str:
    """The name of a scorecard's points."""
    return f"{card}.points"


def grade_name(card: str) -> str:
    """The name of a scorecard's grade."""
    return f"{card}.grade"

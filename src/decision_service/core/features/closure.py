"""What a plan has to compute so that some features have their values: those features and what they are made of."""

from __future__ import annotations

from collections.abc import Container, Iterable

from decision_service.core.expressions.tree import Arithmetic, Tree
from decision_service.core.features.catalogue import Catalogue, FeatureSpec
from decision_service.core.features.references import children, dependencies


def first_division(tree: Tree) -> Arithmetic | None:
    """The outermost, leftmost division of a formula."""
    if isinstance(tree, Arithmetic) and tree.op == "/":
        return tree
    for child in children(tree):
        if found := first_division(child):
            return found
    return None


def observation_name(segment: str, window_ms: int) -> str:
    """The hidden count that a derived feature's `Nk` looks at."""
    return f"n({segment},{window_ms // 1000}s)"


def observations(spec: FeatureSpec) -> tuple[str, int] | None:
    """Segment and window that a derived feature's `Nk` counts, if it has one."""
    if spec.row.section != "derived" or not spec.null.min_n or not spec.row.has("of"):
        return None
    return spec.row.plain("of", spec.variant), spec.variant.window_ms


class Closure:
    """The features needed, dependencies first; a bucket row always whole, so that its slots are consecutive.

    What is `given` already has a place and is not looked into.
    """

    def __init__(self, catalogue: Catalogue, needed: Iterable[str], given: Container[str] = ()) -> None:
        self._by_name = catalogue.by_name
        self._given = given
        self._families = catalogue.families
        self.specs: dict[str, FeatureSpec] = {}
        for name in needed:
            self._visit(catalogue.by_name[name])

    def _visit(self, spec: FeatureSpec) -> None:
        if spec.name in self.specs or spec.name in self._given:
            return
        if spec.variant.bucket >= 0:
            for name in self._families[spec.name.rpartition("_m")[0]]:
                self.specs[name] = self._by_name[name]
            return
        for name in dependencies(spec):
            if name in self._by_name:
                self._visit(self._by_name[name])
        self.specs[spec.name] = spec

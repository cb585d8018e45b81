"""What a feature is computed from, and the check that this is known and never itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from decision_service.core.expressions.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
    IfElse,
    In,
    Name,
    Negative,
    Not,
    Or,
    Tree,
)
from decision_service.core.features.aggregations import SERIES
from decision_service.core.source import Findings, nearest_name
from decision_service.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from decision_service.core.features.catalogue import FeatureSpec


def children(tree: Tree) -> tuple[Tree, ...]:
    """The direct subtrees of a tree."""
    match tree:
        case Negative(operand=operand) | Not(operand=operand):
            return (operand,)
        case Arithmetic(left=left, right=right) | Compare(left=left, right=right):
            return (left, right)
        case And(operands=operands) | Or(operands=operands):
            return operands
        case IfElse(condition=condition, then=then, otherwise=otherwise):
            return (condition, then, otherwise)
        case Call(arguments=arguments):
            return arguments
        case In(item=item):
            return (item,)
        case _:
            return ()


def names_in(tree: Tree) -> Iterator[Name]:
    """Every name a tree refers to."""
    if isinstance(tree, Name):
        yield tree
    for child in children(tree):
        yield from names_in(child)


def series_names(spec: FeatureSpec) -> tuple[str, ...]:
    """The registers a series aggregation reads, newest first: `over`'s buckets from `skip` on, then `with`'s."""
    row, variant = spec.row, spec.variant
    skip = round(row.number("skip", variant))
    first = [f"{row.plain('over', variant)}_m{k}" for k in range(skip, skip + variant.months)]
    if row.has("with"):
        first += [f"{row.plain('with', variant)}_m{k}" for k in range(variant.months)]
    return tuple(first)


def dependencies(spec: FeatureSpec) -> Iterator[str]:
    """Names of features and inputs a feature is computed from, segments aside."""
    if spec.surge_of:
        yield spec.surge_of
    if spec.tree is not None:
        yield from (name.spec.name for name in names_in(spec.tree))
    if spec.row.section == "features":
        if spec.row.plain("agg", spec.variant) in SERIES:
            yield from series_names(spec)
        if spec.row.has("against"):
            yield spec.row.plain("against", spec.variant)


def _in_a_circle(name: str, specs: Mapping[str, FeatureSpec], open_: set[str], done: set[str]) -> str | None:
    """The name of a feature that (indirectly) refers to itself, reached from `name`."""
    if name in done or name not in specs:
        return None
    if name in open_:
        return name
    open_.add(name)
    for dependency in dependencies(specs[name]):
        if found := _in_a_circle(dependency, specs, open_, done):
            return found
    open_.discard(name)
    done.add(name)
    return None


def check_references(specs: dict[str, FeatureSpec], inputs: Vocabulary, findings: Findings) -> dict[str, FeatureSpec]:
    """The features whose references are all known and that do not refer to themselves."""
    good: dict[str, FeatureSpec] = {}
    done: set[str] = set()
    for name, spec in specs.items():
        unknown = next((d for d in dependencies(spec) if d not in specs and d not in inputs), None)
        if unknown is not None:
            findings.error(
                spec.place, f"feature `{name}` needs the unknown feature `{unknown}`",
                nearest=nearest_name(unknown, specs), length=len(spec.row.name),
            )  # fmt: skip
        elif circular := _in_a_circle(name, specs, set(), done):
            findings.error(spec.place, f"feature `{circular}` refers to itself", length=len(spec.row.name))
            done.add(circular)
        else:
            good[name] = spec
    return good

"""What a feature is computed from, and the check that this is known and never itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    from decision_service.core.features.catalogue import Catalogue, FeatureSpec


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


def everything_behind(names: Iterable[str], catalogue: Catalogue) -> set[str]:
    """`names` and every feature and input they are computed from, through formulas and through segments."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        spec = catalogue.by_name.get(name)
        if spec is not None:
            todo += dependencies(spec)
            segments = {segment for _, segment in spec.row.segment_names()} & catalogue.segments.keys()
            todo += [n.spec.name for segment in segments for n in names_in(catalogue.segments[segment].tree)]
    return found


def _circle(name: str, specs: Mapping[str, FeatureSpec], path: list[str], done: set[str]) -> list[str]:
    """The names from a feature back to itself, if one is reached from `name`; empty for none."""
    if name in done or name not in specs:
        return []
    if name in path:
        return [*path[path.index(name) :], name]
    path.append(name)
    for dependency in dependencies(specs[name]):
        if found := _circle(dependency, specs, path, done):
            return found
    path.pop()
    done.add(name)
    return []


def _report_unknown(spec: FeatureSpec, unknown: str, specs: Mapping[str, FeatureSpec], inputs: Vocabulary,
                    findings: Findings) -> None:  # fmt: skip
    """A name in `over`, `with` or `against` that is none; formulas have been looked at when they were parsed."""
    row, variant = spec.row, spec.variant
    for key in ("over", "with", "against"):
        named = row.plain(key, variant)
        if key == "against" and named == unknown:
            findings.error(
                row.place_of(key), f"unknown name `{named}`", expected="a number such as customer.outstanding",
                nearest=nearest_name(named, (*inputs, *specs)), length=len(named),
            )  # fmt: skip
            return
        if key != "against" and row.has(key) and unknown.rpartition("_m")[0] == named:
            buckets = sum(name.rpartition("_m")[0] == named and name.rpartition("_m")[2].isdigit() for name in specs)
            families = {other.row.name for other in specs.values() if other.variant.bucket >= 0}
            wanted = int(unknown.rpartition("_m")[2]) + 1
            findings.error(
                row.place_of(key), f"`{named}` has {buckets} buckets, at least {wanted} are needed here"
                if buckets else f"`{named}` is no row of buckets", length=len(named),
                expected="a row with `buckets`", nearest="" if buckets else nearest_name(named, families),
            )  # fmt: skip
            return
    findings.error(
        spec.place, f"feature `{spec.name}` needs the unknown feature `{unknown}`",
        nearest=nearest_name(unknown, specs), length=len(row.name),
    )  # fmt: skip


def check_references(specs: dict[str, FeatureSpec], inputs: Vocabulary, findings: Findings) -> dict[str, FeatureSpec]:
    """The features whose references are all known and that do not refer to themselves."""
    good: dict[str, FeatureSpec] = {}
    done: set[str] = set()
    told: set[int] = set()
    for name, spec in specs.items():
        unknown = next((d for d in dependencies(spec) if d not in specs and d not in inputs), None)
        if unknown is not None:
            if id(spec.row) not in told:
                _report_unknown(spec, unknown, specs, inputs, findings)
            told.add(id(spec.row))
        elif circle := _circle(name, specs, [], done):
            way = " -> ".join(circle)
            findings.error(
                specs[circle[0]].place, f"feature `{circle[0]}` refers to itself: {way}",
                expected="a formula that does not come back to it", length=len(specs[circle[0]].row.name),
            )  # fmt: skip
            done.update(circle)
        else:
            good[name] = spec
    return good

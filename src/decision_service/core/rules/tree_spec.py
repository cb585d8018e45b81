"""A decision tree as read and checked: questions, and leaves that ask for effects.

A leaf is called by the way to it: `then/else`. Positions are counted over `labels`, the leaves in reading order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from decision_service.core.expressions.tree import Tree
from decision_service.core.rules.spec import EffectSpec, OnNull, TestSpec, said
from decision_service.core.source import Place


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where a way through the tree ends."""

    label: str
    then: tuple[EffectSpec, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """One question. Without `unknown` the tree's `on_null` decides where it cannot be answered."""

    when: Tree
    when_text: str
    then: Branch | Leaf
    otherwise: Branch | Leaf
    unknown: Branch | Leaf | None

    @property
    def ways(self) -> tuple[Branch | Leaf, ...]:
        """Where it leads."""
        return (self.then, self.otherwise, *(() if self.unknown is None else (self.unknown,)))


@dataclass(frozen=True, slots=True)
class TreeSpec:
    """One decision tree."""

    sort: ClassVar[Literal["tree"]] = "tree"
    id: str
    stage: str
    place: Place
    root: Branch
    on_null: OnNull
    reason: str
    tests: tuple[TestSpec, ...]
    names: frozenset[str]
    note: str = ""

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves in reading order."""
        return tuple(leaves_of(self.root))

    @property
    def labels(self) -> tuple[str, ...]:
        """What can be hit: the ways to the leaves."""
        return tuple(leaf.label for leaf in self.leaves)

    @property
    def asked(self) -> tuple[tuple[tuple[EffectSpec, ...], str], ...]:
        """The effects and the reason of every label."""
        return tuple((leaf.then, self.reason) for leaf in self.leaves)

    def describe(self) -> dict[str, Any]:
        """What a trace or a comparison of policies needs to show this tree."""
        return {
            "id": self.id, "stage": self.stage, "root": _described(self.root), "names": sorted(self.names),
            "on_null": self.on_null, "reason": self.reason or None, "note": self.note or None,
        }  # fmt: skip


def leaves_of(node: Branch | Leaf) -> Iterator[Leaf]:
    """The leaves below a node, in reading order."""
    if isinstance(node, Leaf):
        yield node
        return
    for way in node.ways:
        yield from leaves_of(way)


def branches_of(node: Branch | Leaf) -> Iterator[Branch]:
    """The questions below a node, itself included."""
    if isinstance(node, Branch):
        yield node
        for way in node.ways:
            yield from branches_of(way)


def _described(node: Branch | Leaf) -> dict[str, Any]:
    if isinstance(node, Leaf):
        return {"label": node.label, "then": said(node.then)}
    below = {"then": _described(node.then), "else": _described(node.otherwise)}
    if node.unknown is not None:
        below["unknown"] = _described(node.unknown)
    return {"if": node.when_text, **below}

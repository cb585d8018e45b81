"""A decision tree in generated code: nested `if`s, with the way for unknown behind both answers."""

from __future__ import annotations

import ast

from decision_service.core.expressions.python_code import constant
from decision_service.core.expressions.scalar import ScalarCompiler
from decision_service.core.rules.effects_code import ask, held
from decision_service.core.rules.statements import append, extend, if_, trying
from decision_service.core.rules.table_spec import UNKNOWN, WRONG
from decision_service.core.rules.tree_spec import Branch, Leaf, TreeSpec


def tree_code(tree: TreeSpec, scalar: ScalarCompiler) -> ast.stmt:
    """The statement that judges one tree."""
    source = f"tree:{tree.id}"
    held_back = extend("e", scalar.keep(held(tree.on_null, source)))
    unknown = [append("c", constant(f"{tree.id}:{UNKNOWN}")), held_back]
    wrong = [append("c", constant(f"{tree.id}:{WRONG}")), held_back]
    return trying(_node(tree.root, tree, scalar, source, unknown), wrong)


def _node(
    node: Branch | Leaf, tree: TreeSpec, scalar: ScalarCompiler, source: str, unknown: list[ast.stmt]
) -> list[ast.stmt]:
    if isinstance(node, Leaf):
        return [append("c", constant(f"{tree.id}:{node.label}")), *ask(scalar, node.then, source, tree.reason)]
    then, otherwise = (_node(way, tree, scalar, source, unknown) for way in (node.then, node.otherwise))
    neither = unknown if node.unknown is None else _node(node.unknown, tree, scalar, source, unknown)
    return [if_(scalar.true_of(node.when), then, [if_(scalar.false_of(node.when), otherwise, neither)])]

"""The names a tree reads."""

from __future__ import annotations

from collections.abc import Iterator

from decision_service.core.expressions.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
    IfElse,
    In,
    Literals,
    Name,
    Negative,
    Not,
    Number,
    Or,
    String,
    Tree,
)
from decision_service.core.vocabulary import NameSpec


def names_in(tree: Tree) -> Iterator[NameSpec]:
    """Every name below `tree`, lists included, in reading order and with repetitions; constants are folded away."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Name):
            yield node.spec
        elif not isinstance(node, (Number, String, Literals)):
            pending.extend(reversed(children(node)))


def children(tree: Tree) -> tuple[Tree, ...]:
    """The nodes directly below a node."""
    match tree:
        case Negative(operand=operand) | Not(operand=operand):
            return (operand,)
        case Arithmetic(left=left, right=right) | Compare(left=left, right=right):
            return (left, right)
        case In(item=item, container=container):
            return (item, container)
        case And(operands=operands) | Or(operands=operands):
            return operands
        case IfElse(condition=condition, then=then, otherwise=otherwise):
            return (condition, then, otherwise)
        case Call(arguments=arguments):
            return arguments
    return ()

"""Equal keys for expressions that say the same thing: so that they can be found by hashing.

Places do not count, nor which side of a comparison something stands on (`a > b` is `b < a`), nor the order or
repetition of what `and` and `or` join. Constants are folded, so a name and its value are one.
"""

from __future__ import annotations

from collections.abc import Hashable

from decision_service.core.expressions.names import children
from decision_service.core.expressions.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
    In,
    Literals,
    Name,
    Number,
    Or,
    String,
    Tree,
)

_MIRRORED = {">": "<", ">=": "<="}


def key_of(tree: Tree) -> Hashable:
    """The key of an expression: of a name the name itself, of anything else a tuple or a number."""
    if isinstance(tree, Name):  # the frequent ones first: a policy of thousands of rules asks for all their keys
        return tree.spec.name
    if isinstance(tree, Number):
        return tree.value
    if isinstance(tree, Compare):
        left, right = key_of(tree.left), key_of(tree.right)
        swapped = _MIRRORED.get(tree.op)
        return (tree.op, left, right) if swapped is None else (swapped, right, left)
    if isinstance(tree, (And, Or)):
        return (type(tree).__name__, frozenset([key_of(operand) for operand in tree.operands]))
    match tree:
        case String(value=text):
            return ("text", text)
        case Literals(values=values):
            return ("values", frozenset(values))
        case In(item=item, container=container):
            return ("in", key_of(item), key_of(container))
        case Arithmetic(op=op, left=left, right=right):
            return (op, key_of(left), key_of(right), "")
        case Call(function=function, arguments=arguments):
            return (function, *map(key_of, arguments))
    return (type(tree).__name__, *map(key_of, children(tree)))

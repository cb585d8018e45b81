"""A decision tree over many decisions: every question is asked of all of them, and each decision keeps its own way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from decision_service.core.expressions.columns import Columns, Mask
from decision_service.core.expressions.vector import VectorCompiler
from decision_service.core.rules.table_columns import CANNOT_TELL, Instants
from decision_service.core.rules.tree_spec import Branch, Leaf, TreeSpec

Cells = npt.NDArray[np.int32]
_WayFunction = Callable[[Columns, Mask, Cells], None]  # marks what the decisions of a mask come to


def tree_cells(tree: TreeSpec, compiler: VectorCompiler) -> Callable[[Columns, Instants], Cells]:
    """The leaf every decision comes to, CANNOT_TELL for unknown."""
    numbers = {leaf.label: number for number, leaf in enumerate(tree.leaves)}
    root = _way(tree.root, numbers, compiler)

    def cells(columns: Columns, _t_ms: Instants) -> Cells:
        found = np.full(columns.count, CANNOT_TELL, np.int32)
        root(columns, np.ones(columns.count, np.bool_), found)
        return found

    return cells


def _way(node: Branch | Leaf, numbers: dict[str, int], compiler: VectorCompiler) -> _WayFunction:
    if isinstance(node, Leaf):
        number = numbers[node.label]

        def arrive(_columns: Columns, here: Mask, found: Cells) -> None:
            found[here] = number

        return arrive
    condition = compiler.condition(node.when)
    then, otherwise = _way(node.then, numbers, compiler), _way(node.otherwise, numbers, compiler)
    unknown = None if node.unknown is None else _way(node.unknown, numbers, compiler)

    def ask(columns: Columns, here: Mask, found: Cells) -> None:
        true, false = condition(columns)
        then(columns, here & true, found)
        otherwise(columns, here & false, found)
        if unknown is not None:
            unknown(columns, here & ~(true | false), found)

    return ask

"""Decision trees: one question after another, each with a way for yes, for no, and for not known.

    trees:
      - id: how_strained
        root:
          if: utl_now > 0.8
          then: {if: str_redraw_cnt_30d >= 3, then: {hold: review}, else: approve}
          else: nothing
          unknown: {hold: review}        optional; without it the tree's `on_null`
        on_null: {hold: review}
        reason: RC20
        tests: [{given: {utl_now: 0.9, str_redraw_cnt_30d: 0}, expect: then/else}]

A leaf asks for effects, or for `nothing`; it is called by the way to it. A way that the questions above it rule out is
a warning. Depth and size are capped (TREE_DEPTH_MAX, TREE_NODES_MAX).
"""

from __future__ import annotations

from typing import Final

from decision_service.core.expressions.names import names_in
from decision_service.core.expressions.parse import parse_condition
from decision_service.core.expressions.tree import And, Not, Tree
from decision_service.core.limits import TREE_DEPTH_MAX, TREE_NODES_MAX
from decision_service.core.rules.cases import TooManyCases, cases_of
from decision_service.core.rules.fields import check_keys, scalar
from decision_service.core.rules.heads import HeadReader, amount_names
from decision_service.core.rules.lint import lint_condition
from decision_service.core.rules.table_spec import UNKNOWN
from decision_service.core.rules.tree_spec import Branch, Leaf, TreeSpec, branches_of, leaves_of
from decision_service.core.source import MappingNode, Node, Scalar

_KEYS: Final = ("id", "stage", "note", "root", "on_null", "reason", "tests")
_BRANCH_KEYS: Final = ("if", "then", "else", "unknown")
Path = tuple[str, ...]


class TreeReader:
    """Reads the trees of one rule set."""

    def __init__(self, heads: HeadReader) -> None:
        self._heads = heads
        self._findings = heads.findings
        self._nodes = 0

    def read(self, node: MappingNode) -> TreeSpec | None:
        """One tree, or None with the reasons among the findings."""
        sound = check_keys(node, _KEYS, ("id", "root"), "a tree", self._findings)
        head, root_node = self._heads.head(node), node.get("root")
        self._nodes = 0
        root = None if root_node is None else self._root(root_node)
        effects = [effect for leaf in ([] if root is None else leaves_of(root)) for effect in leaf.then]
        on_null, reason = self._heads.on_null(node, effects, may_fire=False), self._heads.reason(node, effects)
        if not sound or head is None or root is None or on_null is None or reason is None:
            return None
        specs = [spec for branch in branches_of(root) for spec in names_in(branch.when)] + amount_names(effects)
        labels = dict.fromkeys([*(leaf.label for leaf in leaves_of(root)), UNKNOWN])
        return TreeSpec(
            head.id, head.stage, head.place, root, on_null, reason, self._heads.tests(node, specs, tuple(labels)),
            self._heads.names(specs), head.note,
        )  # fmt: skip

    def _root(self, node: Node) -> Branch | None:
        if not isinstance(node, MappingNode) or node.get("if") is None:
            self._findings.error(
                node.place, "a tree that asks nothing", expected="`if`, `then` and `else`, or a rule for one effect"
            )
            return None
        return self._branch(node, (), [])

    def _node(self, node: Node, path: Path, above: list[Tree]) -> Branch | Leaf | None:
        self._nodes += 1
        if self._nodes > TREE_NODES_MAX or len(path) > TREE_DEPTH_MAX:
            if self._nodes <= TREE_NODES_MAX + 1:
                limit = f"{TREE_NODES_MAX:,} nodes" if self._nodes > TREE_NODES_MAX else f"{TREE_DEPTH_MAX} levels"
                self._findings.error(node.place, f"a tree of more than {limit}", expected="a table, or several trees")
            return None
        if isinstance(node, MappingNode) and node.get("if") is not None:
            return self._branch(node, path, above)
        then = self._heads.effects.read(node)
        return None if then is None else Leaf("/".join(path), then)

    def _branch(self, node: MappingNode, path: Path, above: list[Tree]) -> Branch | None:
        sound = check_keys(node, _BRANCH_KEYS, ("if", "then", "else"), "a branch", self._findings)
        if_node = node.get("if")
        text = None if if_node is None else scalar(if_node, "`if`", self._findings)
        when = None if text is None else parse_condition(
            text.text, text.place, self._heads.vocabulary, self._findings
        )  # fmt: skip
        if text is not None and when is not None:
            self._lint(when, text, path, above)
        yes = [] if when is None else [when]
        no: list[Tree] = [] if when is None else [Not(when, when.place)]
        then = self._way(node, "then", path, [*above, *yes])
        otherwise = self._way(node, "else", path, [*above, *no])
        unknown = self._way(node, "unknown", path, above)
        if not sound or text is None or when is None or then is None or otherwise is None:
            return None
        if unknown is None and node.get("unknown") is not None:
            return None
        return Branch(when, text.text, then, otherwise, unknown)

    def _way(self, node: MappingNode, key: str, path: Path, above: list[Tree]) -> Branch | Leaf | None:
        below = node.get(key)
        return None if below is None else self._node(below, (*path, key), above)

    def _lint(self, when: Tree, text: Scalar, path: Path, above: list[Tree]) -> None:
        """Warn of a question whose answer is known from the questions above it."""
        lint_condition(when, text, self._findings)
        if not above or not _possible(above):
            return  # nothing is known, or this place itself was warned of
        for answer, way in ((when, "then"), (Not(when, when.place), "else")):
            if _possible([answer]) and not _possible([*above, answer]):
                self._findings.warning(
                    text.place, f"`{'/'.join((*path, way))}` is never reached: the questions above rule it out",
                    length=len(text.text),
                )  # fmt: skip


def _possible(conditions: list[Tree]) -> bool:
    """Whether conditions can be true together, as far as can be told."""
    whole = conditions[0] if len(conditions) == 1 else And(tuple(conditions), conditions[0].place)
    try:
        return bool(cases_of(whole, True))
    except TooManyCases:
        return True

"""The files of a policy as named parts: (group, sort, name) to its parts by label, each one text.

    ("drawdown", "rule", "velocity_burst")      {"when": "...", "then": "...", "on_null": "...", ...}
    ("drawdown", "matrix", "score_by_use")      {"cell C/0.95": "cap_draw 0.8 * request.amount", ...}
    ("drawdown", "constant", "burst")           {"value": "4"}, or {"2026-01-01": "0.24", ...}
    ("features", "feature", "vel_req_cnt")      {"agg": "count", "of": "draw", ...}

A group is a scene, or `shared` (constants of every scene), `policy`, `attributes`, `features`. `note` and `tests` are
parts as well, which decide nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from decision_service.core.policy import ATTRIBUTES_FILE, FEATURES_FOLDER, POLICY_FILE
from decision_service.core.scorecards.roles import SECTION
from decision_service.core.source import Document, MappingNode, Node, Scalar, SequenceNode
from decision_service.differences.meaning import cell, effects, members, on_null, plain, value

Key = tuple[str, str, str]  # group, sort, name
Parts = dict[Key, dict[str, str]]
DECIDES_NOTHING: Final = frozenset({"note", "tests", "meaning", "meaning_zh", "en", "zh"})
_BLOCKS: Final = {"rules": "rule", "tables": "table", "trees": "tree", "points": "points", "matrices": "matrix"}
_EXPRESSIONS: Final = frozenset({"when", "if", "expr", "value"})
_ASKS: Final = frozenset({"then", "otherwise"})
_ALIKE: Final[Mapping[str, str]] = {"segments": "segment", "features": "feature", "derived": "feature"}


def parts_of(documents: Mapping[str, Document]) -> Parts:
    """Everything that the files of a policy say."""
    parts: Parts = {}
    constants = frozenset(name for one in documents.values() for name, _ in _items(one.root.get("constants")))
    for name, document in sorted(documents.items()):
        for key, told in _of_file(name, document.root, constants):
            parts[_free(key, parts, name)] = told
    return parts


def _free(key: Key, parts: Parts, file: str) -> Key:
    """The key; a name that a second file (or a mistaken line) gives again is told apart by its file."""
    group, sort, name = key
    while (group, sort, name) in parts:
        name = f"{name} of {file}"
    return group, sort, name


def _of_file(name: str, root: MappingNode, constants: frozenset[str]) -> Iterator[tuple[Key, dict[str, str]]]:
    if name == POLICY_FILE:
        for name, node in _items(root):
            if name == SECTION and isinstance(node, MappingNode):
                yield from ((("policy", "scorecard", card), _flat(roles)) for card, roles in _items(node))
            else:
                yield ("policy", name, ""), {"": members(node)}
    elif name == ATTRIBUTES_FILE:
        for name, node in _items(root.get("attributes")):
            yield ("attributes", "attribute", name), _flat(node)
    elif name.startswith(FEATURES_FOLDER):
        yield from _of_features(root)
    elif root.get("scene") is None:
        for name, node in _items(root.get("constants")):
            yield ("shared", "constant", name), _constant(node)
    else:
        yield from _of_rule_set(root, constants)


def _of_features(root: MappingNode) -> Iterator[tuple[Key, dict[str, str]]]:
    for section, block in root.items:
        for key, node in _items(block):
            if section.text in _ALIKE:
                row = {"expr": value(node)} if isinstance(node, Scalar) else _flat(node)
                yield ("features", _ALIKE[section.text], key), row
            else:
                yield ("features", section.text.removesuffix("s"), key), _constant(node)


def _of_rule_set(root: MappingNode, constants: frozenset[str]) -> Iterator[tuple[Key, dict[str, str]]]:
    scene_node = root.get("scene")
    scene = scene_node.text if isinstance(scene_node, Scalar) else "?"
    for key, node in root.items:
        match key.text:
            case "constants":
                for name, item in _items(node):
                    yield (scene, "constant", name), _constant(item)
            case "guardrails" | "fallback":
                for name, item in _items(node):
                    yield (scene, key.text.removesuffix("s"), name), _flat(item)
            case section if section in _BLOCKS:
                for name, item in _identified(node):
                    yield (scene, _BLOCKS[section], name), _BLOCK_PARTS[_BLOCKS[section]](item, constants)
            case "rule_set" | "scene":
                pass
            case other:
                yield (scene, other, ""), {"": plain(node)}


def _items(node: Node | None) -> Iterator[tuple[str, Node]]:
    if isinstance(node, MappingNode):
        yield from ((key.text, item) for key, item in node.items)


def _identified(node: Node | None) -> Iterator[tuple[str, MappingNode]]:
    """The mappings of a list by their `id`, else by their number from 1."""
    for number, item in enumerate(node if isinstance(node, SequenceNode) else (), start=1):
        if isinstance(item, MappingNode):
            name = item.get("id")
            yield (name.text if isinstance(name, Scalar) else str(number)), item


# --- one thing -------------------------------------------------------------------------------------------------------


def _constant(node: Node) -> dict[str, str]:
    """A constant by date, or its one value; with its unit."""
    if not isinstance(node, MappingNode):
        return {"": members(node)}
    told: dict[str, str] = {}
    for key, item in node.items:
        if key.text == "effective_from":
            told |= {date: plain(dated) for date, dated in _items(item)}
        else:
            told["" if key.text == "value" else key.text] = members(item)
    return told


def _flat(node: Node, path: str = "") -> dict[str, str]:
    """A mapping with every leaf under its dotted path; a list is one leaf."""
    if not isinstance(node, MappingNode):
        return {path: value(node) if path in _EXPRESSIONS else plain(node)}
    told: dict[str, str] = {}
    for key, item in node.items:
        told |= _flat(item, f"{path}.{key.text}" if path else key.text)
    return told


def _common(node: MappingNode, leave_out: Iterable[str] = ()) -> dict[str, str]:
    """The keys that rules and blocks share."""
    told = {}
    for key, item in node.items:
        if key.text in ("id", *leave_out):
            continue
        if key.text in _EXPRESSIONS:
            told[key.text] = value(item)
        elif key.text in _ASKS:
            told[key.text] = effects(item)
        else:
            told[key.text] = on_null(item) if key.text == "on_null" else plain(item)
    return told


def _rule(node: MappingNode, _constants: frozenset[str]) -> dict[str, str]:
    return _common(node)


def _matrix(node: MappingNode, _constants: frozenset[str]) -> dict[str, str]:
    columns = _labels(node.get("columns"))
    told = _common(node, ("cells",))
    for axis in ("rows", "columns"):
        told[axis] = " ".join(told.get(axis, "").split())
    for row, item in _items(node.get("cells")):
        for number, one in enumerate(item if isinstance(item, SequenceNode) else ()):
            column = columns[number] if number < len(columns) else str(number + 1)
            told[f"cell {row}/{column}"] = effects(one)
    return told


def _labels(axis: Node | None) -> list[str]:
    """The labels of an axis as typed: what stands between its brackets."""
    text = axis.text if isinstance(axis, Scalar) else ""
    inside = text[text.find("[") + 1 : text.rfind("]")]
    return [label.strip().strip("\"'") for label in inside.split(",")]


def _table(node: MappingNode, constants: frozenset[str]) -> dict[str, str]:
    told = _common(node, ("rows", "inputs"))
    inputs_node = node.get("inputs")
    inputs = [value(item) for item in inputs_node] if isinstance(inputs_node, SequenceNode) else []
    told["inputs"] = ", ".join(inputs)
    rows = list(_identified(node.get("rows")))
    if told.get("hit") != "all" and any(row.get("id") is not None for _, row in rows):
        told["order of rows"] = ", ".join(name for name, _ in rows)  # the first that applies wins
    for name, row in rows:
        for key, item in row.items:
            if key.text == "if" and isinstance(item, SequenceNode):
                for number, one in enumerate(item):
                    label = inputs[number] if number < len(inputs) else str(number + 1)
                    told[f"row {name}: {label}"] = cell(one, constants)
            elif key.text != "id":
                told[f"row {name}: {key.text}"] = effects(item) if key.text == "then" else plain(item)
    return told


def _tree(node: MappingNode, _constants: frozenset[str]) -> dict[str, str]:
    root = node.get("root")
    return _common(node, ("root",)) | ({} if root is None else _branch(root, "root"))


def _branch(node: Node, path: str) -> dict[str, str]:
    """A node of a tree: its condition and its branches, or what its leaf asks for."""
    condition = node.get("if") if isinstance(node, MappingNode) else None
    if condition is None or not isinstance(node, MappingNode):
        return {f"at {path}": effects(node)}
    told = {f"at {path}: if": value(condition)}
    for key, item in node.items:
        if key.text != "if":
            told |= _branch(item, key.text if path == "root" else f"{path}/{key.text}")
    return told


def _points(node: MappingNode, constants: frozenset[str]) -> dict[str, str]:
    told = _common(node, ("of", "grades"))
    seen: Counter[str] = Counter()
    for item in of if isinstance(of := node.get("of"), SequenceNode) else ():
        if isinstance(item, MappingNode):
            of_what = item.get("value")
            name = "?" if of_what is None else value(of_what)
            seen[name] += 1  # the same value may earn points twice
            name += f" ({seen[name]})" if seen[name] > 1 else ""
            bins = [(cell(Scalar(label, node.place), constants), bin_) for label, bin_ in _items(item.get("bins"))]
            told |= {f"{name} {label}": plain(bin_) for label, bin_ in bins}
            told[f"{name}: order of bins"] = ", ".join(label for label, _ in bins)  # the first that holds wins
    return told | {f"grade {grade}": plain(points) for grade, points in _items(node.get("grades"))}


_BLOCK_PARTS: Final[Mapping[str, Callable[[MappingNode, frozenset[str]], dict[str, str]]]] = {
    "rule": _rule, "table": _table, "tree": _tree, "points": _points, "matrix": _matrix,
}  # fmt: skip

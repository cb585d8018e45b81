"""Typed values out of the nodes of a manifest or training file; everything wrong becomes a finding at its
place.

A `Section` reads the keys of one mapping. Reading a key that is missing or of the wrong type records an error
and gives a stand-in of the right type, so that one pass reports everything; the caller looks at
`findings.errors` before it trusts a value. `finish` reports the keys nobody asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TypeVar

from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode, nearest_name

Word = TypeVar("Word", bound=str)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_FLAGS = {"true": True, "false": False}


class Section:
    """The keys of one mapping, read with their types. `what` names the mapping in messages: `calibration`."""

    def __init__(self, node: MappingNode, what: str, findings: Findings) -> None:
        self.node = node
        self.what = what
        self.findings = findings
        self._asked: set[str] = set()

    @property
    def place(self) -> Place:
        """Where the mapping begins."""
        return self.node.place

    def has(self, key: str) -> bool:
        """Whether the key is there at all."""
        self._asked.add(key)
        return self.node.get(key) is not None

    def text(self, key: str, default: str | None = None, *, pattern: str = "", expected: str = "a text") -> str:
        """A text, checked against a full-match pattern if one is given."""
        node = self._node(key, expected, required=default is None)
        if node is None:
            return default or ""
        if not isinstance(node, Scalar) or not node.text or (pattern and not re.fullmatch(pattern, node.text)):
            self._wrong(key, node, expected)
            return default or ""
        return node.text

    def choice(self, key: str, choices: tuple[Word, ...], default: Word | None = None) -> Word:
        """One of some words."""
        text = self.text(key, default)
        node = self.node.get(key)
        if text in choices:
            return text
        if node is not None:
            expected = " or ".join(choices)
            self.findings.error(
                node.place, f"{self.what}.{key} cannot be {text!r}", expected=expected,
                nearest=nearest_name(text, choices), length=len(text),
            )  # fmt: skip
        return choices[0]

    def number(
        self, key: str, default: float | None = None, *, low: float = -math.inf, high: float = math.inf
    ) -> float:
        """A finite number within bounds, ends included."""
        node = self._node(key, "a number", required=default is None)
        if node is None:
            return 0.0 if default is None else default
        return self._number(key, node, low, high)

    def whole(self, key: str, default: int | None = None, *, low: int = -(2**62), high: int = 2**62) -> int:
        """A whole number within bounds, ends included."""
        node = self._node(key, "a whole number", required=default is None)
        if node is None:
            return default or 0
        if not isinstance(node, Scalar) or node.quoted or not _WHOLE.fullmatch(node.text):
            self._wrong(key, node, "a whole number")
            return default or 0
        return int(self._number(key, node, low, high))

    def flag(self, key: str, default: bool | None = None) -> bool:
        """`true` or `false`."""
        node = self._node(key, "true or false", required=default is None)
        if node is None:
            return bool(default)
        if not isinstance(node, Scalar) or node.quoted or node.text not in _FLAGS:
            self._wrong(key, node, "true or false")
            return bool(default)
        return _FLAGS[node.text]

    def numbers(self, key: str, *, nulls: bool = False, required: bool = True) -> tuple[float, ...]:
        """A list of numbers; with `nulls`, `null` reads as NaN."""
        node = self._node(key, "a list of numbers", required=required)
        if node is None:
            return ()
        if not isinstance(node, SequenceNode):
            self._wrong(key, node, "a list of numbers")
            return ()
        return tuple(self._item(key, item, nulls) for item in node)

    def texts(self, key: str, *, required: bool = True) -> tuple[str, ...]:
        """A list of texts."""
        node = self._node(key, "a list of texts", required=required)
        if node is None:
            return ()
        if not isinstance(node, SequenceNode):
            self._wrong(key, node, "a list of texts")
            return ()
        for item in node:
            if not isinstance(item, Scalar):
                self._wrong(key, item, "a text")
        return tuple(item.text for item in node if isinstance(item, Scalar))

    def section(self, key: str, *, required: bool = True) -> Section:
        """A mapping below this one; an empty one if it is missing."""
        node = self._node(key, "a mapping", required=required)
        if node is not None and not isinstance(node, MappingNode):
            self._wrong(key, node, "a mapping")
            node = None
        return Section(MappingNode((), self.place) if node is None else node, f"{self.what}.{key}", self.findings)

    def sections(self, key: str, *, required: bool = True) -> tuple[Section, ...]:
        """A list of mappings."""
        node = self._node(key, "a list of mappings", required=required)
        if node is None:
            return ()
        if not isinstance(node, SequenceNode):
            self._wrong(key, node, "a list of mappings")
            return ()
        for item in node:
            if not isinstance(item, MappingNode):
                self._wrong(key, item, "a mapping")
        mappings = [item for item in node if isinstance(item, MappingNode)]
        return tuple(Section(item, f"{self.what}.{key}.{i}", self.findings) for i, item in enumerate(mappings))

    def items(self) -> Iterator[tuple[str, Scalar]]:
        """Every key with its scalar, for mappings whose keys are free."""
        for name, node in self.node.items:
            self._asked.add(name.text)
            if isinstance(node, Scalar):
                yield name.text, node
            else:
                self._wrong(name.text, node, "a single value")

    def finish(self) -> None:
        """Report the keys that nobody asked for."""
        for name, _ in self.node.items:
            if name.text not in self._asked:
                self.findings.error(
                    name.place, f"{self.what} has no key {name.text!r}",
                    expected=", ".join(sorted(self._asked)), nearest=nearest_name(name.text, self._asked),
                    length=len(name.text),
                )  # fmt: skip

    def error(self, key: str, message: str, expected: str = "") -> None:
        """Record something wrong with the value under `key`."""
        node = self.node.get(key)
        place = self.place if node is None else node.place
        self.findings.error(place, f"{self.what}.{key} {message}", expected=expected)

    def _node(self, key: str, expected: str, *, required: bool) -> Node | None:
        self._asked.add(key)
        node = self.node.get(key)
        if node is None and required:
            self.findings.error(self.place, f"{self.what} lacks {key!r}", expected=expected)
        return node

    def _wrong(self, key: str, node: Node, expected: str) -> None:
        length = len(node.text) if isinstance(node, Scalar) else 1
        self.findings.error(node.place, f"{self.what}.{key} is wrong", expected=expected, length=length)

    def _number(self, key: str, node: Node, low: float, high: float) -> float:
        if isinstance(node, Scalar) and not node.quoted and _NUMBER.fullmatch(node.text):
            value = float(node.text)
            if math.isfinite(value) and low <= value <= high:
                return value
        self._wrong(key, node, _between(low, high))
        return min(max(0.0, low), high)

    def _item(self, key: str, node: Node, nulls: bool) -> float:
        if nulls and isinstance(node, Scalar) and not node.quoted and node.text == "null":
            return math.nan
        return self._number(key, node, -math.inf, math.inf)


def _between(low: float, high: float) -> str:
    if low == -math.inf and high == math.inf:
        return "a finite number"
    if high == math.inf:
        return f"a number of at least {low:g}"
    return f"a number from {low:g} to {high:g}"

"""One text for everything that means the same, so that two policies can be compared by what they say.

An expression is compared by what Python's grammar (which the language borrows) makes of it: white space, quotes,
needless brackets and `0.50` for `0.5` are no difference. Effects are a set; `hold` on null is a review. What cannot be
parsed is compared as it is typed.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final

from decision_service.core.expressions.tokens import cut
from decision_service.core.limits import EXPRESSION_CHARS_MAX
from decision_service.core.rules.fields import is_number
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode

_NOWHERE: Final = Place("", 1, 1)
_WHOLE_MAX: Final = 1e15


@lru_cache(maxsize=16_384)
def expression(text: str) -> str:
    """An expression in its one form."""
    one_line = " ".join(text.splitlines()).replace("\t", " ").strip()  # spaces inside quotes are part of the text
    if len(one_line) > EXPRESSION_CHARS_MAX or cut(one_line, _NOWHERE, Findings()) is None:
        return one_line
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.unparse(ast.parse(one_line, mode="eval")).replace("'", '"')
    return one_line


def plain(node: Node) -> str:
    """Any value: numbers by their value, lists and mappings by their items. A text that looks like a number is none."""
    if isinstance(node, MappingNode):
        return "{" + ", ".join(f"{key.text}: {plain(value)}" for key, value in node.items) + "}"
    if isinstance(node, SequenceNode):
        return "[" + ", ".join(map(plain, node)) + "]"
    if node.quoted and is_number(Scalar(node.text, node.place)):
        return f'"{node.text}"'
    return number(node.text) if is_number(node) else node.text


def number(text: str) -> str:
    """A number in its one form, to the last digit."""
    value = float(text)
    return f"{value + 0.0:.0f}" if value.is_integer() and abs(value) < _WHOLE_MAX else repr(value)


def value(node: Node) -> str:
    """An expression, if it is one value; else whatever it is."""
    return expression(node.text) if isinstance(node, Scalar) else plain(node)


def members(node: Node) -> str:
    """A list whose order does not matter."""
    return "[" + ", ".join(sorted(map(plain, node))) + "]" if isinstance(node, SequenceNode) else plain(node)


def effects(node: Node) -> str:
    """What is asked for: a set of effects, however it is written."""
    return " + ".join(sorted(set(_effects(node))))


def _effects(node: Node) -> Iterator[str]:
    if isinstance(node, SequenceNode):
        for item in node:
            yield from _effects(item)
    elif isinstance(node, MappingNode):
        for key, amount in node.items:
            yield f"{key.text} {_amount(key.text, amount)}"
    else:
        yield node.text


def _amount(sort: str, node: Node) -> str:
    if sort in ("limit", "price") and isinstance(node, MappingNode):
        return " ".join(f"{key.text} {value(item)}" for key, item in node.items)
    return value(node) if sort == "cap_draw" else plain(node)


def on_null(node: Node) -> str:
    """What is done when it is unknown: `hold` is a review."""
    if isinstance(node, MappingNode):
        return effects(node)
    return "hold review" if isinstance(node, Scalar) and node.text == "hold" else plain(node)


def cell(node: Node, constants: Collection[str] = ()) -> str:
    """A cell of a table: a comparison, a value, a list of values in any order. A quoted word is no constant's name."""
    if isinstance(node, SequenceNode):
        return "[" + ", ".join(sorted(_word(item, constants) for item in node)) + "]"
    text = " ".join(_word(node, constants).split())
    for sign in ("<=", ">=", "==", "!=", "<", ">"):
        text = text.replace(sign, f" {sign} ") if f"{sign}=" not in text else text
    words = [number(word) if is_number(Scalar(word, _NOWHERE)) else word for word in text.split()]
    return " ".join(words)


def _word(node: Node, constants: Collection[str]) -> str:
    quoted = isinstance(node, Scalar) and node.quoted and node.text in constants
    return f'"{plain(node)}"' if quoted else plain(node)

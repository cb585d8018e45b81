"""A policy file laid out: put in order until nothing changes any more, and proved to say what it said.

A file that cannot be read is not touched, and neither is one whose layout would say anything else than the file (no
such file is known; the proof is made every time all the same): its scalars, their quoting, its structure and its
comments must come out as they were.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar
from decision_service.layout.indents import Indents
from decision_service.layout.spacing import spaced
from decision_service.layout.words import Word, block_lines, words_of
from decision_service.policies.files import read_text

PASSES_MAX: Final = 20
_BREAK: Final = re.compile(r"\r\n?|\n")


def laid_out(text: str, shown_as: str, findings: Findings) -> str | None:
    """The text in its layout; None, with the reason among the findings, if it cannot be given one."""
    before = read_text(text, shown_as, findings)
    if before is None:
        return None
    new = text
    for _ in range(PASSES_MAX):
        last, new = new, _pass(new)
        if new == last:
            break
    after = read_text(new, shown_as, Findings())
    if after is None or meaning_of(after.root) != meaning_of(before.root) or comments_of(new) != comments_of(text):
        findings.error(Place(shown_as, 1, 1), "this file cannot be laid out without changing what it says")
        return None
    return new


def _pass(text: str) -> str:
    lines = _split(text)
    text = "\n".join(lines) + "\n"
    lines = spaced(lines, words_of(text))
    text = "\n".join(lines) + "\n"
    words = words_of(text)
    lines = Indents(text, lines, words).applied()
    text = "\n".join(lines) + "\n"
    return "\n".join(_without_gaps(lines, words_of(text))) + "\n"


def _split(text: str) -> list[str]:
    """The lines without the spaces at their ends; those of a block scalar are part of its text."""
    lines = _BREAK.split(text.rstrip("\r\n \t"))
    kept = {n for word in words_of(text) if word.sort == "block" for n in block_lines(word, lines) if lines[n].strip()}
    return [line if number in kept else line.rstrip(" \t") for number, line in enumerate(lines)]


def _without_gaps(lines: list[str], words: Sequence[Word]) -> list[str]:
    """The lines with at most one empty one in a row, and none in front; those inside a scalar stay."""
    kept = {number for word in words for number in _inside(word, lines)}
    return [
        line
        for number, line in enumerate(lines)
        if line or number in kept or (number > 0 and any(lines[:number]) and lines[number - 1])
    ]


def _inside(word: Word, lines: list[str]) -> range:
    return block_lines(word, lines) if word.sort == "block" else range(word.line + 1, word.end_line)


def meaning_of(node: Node) -> object:
    """All that a node says, without its places."""
    if isinstance(node, Scalar):
        return (node.text, node.quoted)
    if isinstance(node, MappingNode):
        return tuple((key.text, key.quoted, meaning_of(value)) for key, value in node.items)
    return [meaning_of(item) for item in node]


def comments_of(text: str) -> list[str]:
    """The comments of a text, in order."""
    lines = _BREAK.split(text)
    words = words_of(text)
    ends = dict.fromkeys(range(len(lines)), 0)
    for word in words:
        if word.sort == "block":
            ends |= {number: len(lines[number]) for number in block_lines(word, lines)}
            ends[word.line] = word.column
            continue
        ends |= {number: len(lines[number]) for number in range(word.line, word.end_line)}
        ends[word.end_line] = word.end_column
    told = (lines[number][end:] for number, end in ends.items())
    return [rest[rest.index("#") :].rstrip() for rest in told if "#" in rest]

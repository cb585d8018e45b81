"""Spaces between the words of a line: one after `:` and `,`, none before them and none inside brackets.

More than one space stays where it aligns the next word with a word of the line above or below. The space after a `-` is
that of `indents`, for the lines below must move with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from decision_service.layout.words import Word, indent_of

_OPEN: Final = ("{", "[")
_CLOSE: Final = ("}", "]")
_SPACED: Final = (":", ",")


def spaced(lines: Sequence[str], words: Sequence[Word]) -> list[str]:
    """The lines with the spaces between their words put in order."""
    columns = _columns(words)
    new = list(lines)
    for before, after in reversed(list(pairwise(words))):
        if before.end_line != after.line or before.sort == "block":
            continue
        line = new[after.line]
        gap = line[before.end_column : after.column]
        wanted = _gap(before, after, gap, lines, columns)
        if not gap.strip() and wanted != gap:
            new[after.line] = line[: before.end_column] + wanted + line[after.column :]
    return new


def _gap(before: Word, after: Word, gap: str, lines: Sequence[str], columns: Mapping[int, set[int]]) -> str:
    if before.sort in _OPEN or after.sort in (*_CLOSE, ",", ":"):
        return ""
    if before.sort not in _SPACED:
        return gap
    return gap if len(gap) > 1 and _is_aligned(after, lines, columns) else " "


def _is_aligned(word: Word, lines: Sequence[str], columns: Mapping[int, set[int]]) -> bool:
    """Whether a neighbouring line that stands in as far has a word that starts in the same column."""
    indent = indent_of(lines[word.line])
    return any(
        word.column in columns.get(neighbour, ()) and indent_of(lines[neighbour]) == indent
        for neighbour in (_neighbour(lines, word.line, -1), _neighbour(lines, word.line, 1))
    )


def _neighbour(lines: Sequence[str], line: int, step: int) -> int:
    """The next line above or below that is neither empty nor a comment; -1 if there is none."""
    number = line + step
    while 0 <= number < len(lines):
        text = lines[number].lstrip()
        if text and not text.startswith("#"):
            return number
        number += step
    return -1


def _columns(words: Sequence[Word]) -> dict[int, set[int]]:
    """By line, the columns in which words start that stand behind another word."""
    columns: dict[int, set[int]] = {}
    for before, after in pairwise(words):
        if before.end_line == after.line and after.sort not in (",", ":", *_CLOSE):
            columns.setdefault(after.line, set()).add(after.column)
    return columns

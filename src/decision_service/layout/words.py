"""A file's text cut into the words of YAML: scalars, brackets, commas, colons and dashes, each with its place.

Lines and columns count from 0, as libyaml's marks do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import yaml
from yaml.tokens import (
    BlockEntryToken,
    FlowEntryToken,
    FlowMappingEndToken,
    FlowMappingStartToken,
    FlowSequenceEndToken,
    FlowSequenceStartToken,
    ScalarToken,
    Token,
    ValueToken,
)

_VISIBLE: dict[type[Token], str] = {
    BlockEntryToken: "-", FlowEntryToken: ",", ValueToken: ":", FlowMappingStartToken: "{", FlowMappingEndToken: "}",
    FlowSequenceStartToken: "[", FlowSequenceEndToken: "]", ScalarToken: "scalar",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Word:
    """One visible word. `sort` is the sign itself, or `scalar`; a scalar with `|` or `>` is a `block`."""

    sort: str
    line: int
    column: int
    end_line: int
    end_column: int


@lru_cache(maxsize=2)
def words_of(text: str) -> tuple[Word, ...]:
    """The visible words of a text that libyaml accepts. The last texts are kept: most passes change nothing."""
    return tuple(_cut(text))


def _cut(text: str) -> Iterator[Word]:
    for token in yaml.scan(text, Loader=yaml.CLoader):
        sort = _VISIBLE.get(type(token))
        if sort is None:
            continue
        start, end = token.start_mark, token.end_mark
        if isinstance(token, ScalarToken) and token.style in ("|", ">"):
            sort = "block"
        if (start.line, start.column) != (end.line, end.column):
            yield Word(sort, start.line, start.column, end.line, end.column)


def indent_of(line: str) -> int:
    """How far a line stands in."""
    return len(line) - len(line.lstrip(" "))


def block_lines(word: Word, lines: Sequence[str]) -> range:
    """The lines of a block scalar's text: all that stand in as far as its first, and empty ones between."""
    first = next((n for n in range(word.line + 1, len(lines)) if lines[n].strip()), None)
    if first is None or first >= max(word.end_line, word.line + 2):
        return range(word.line + 1, word.line + 1)
    last, indent = first, indent_of(lines[first])
    for number in range(first, min(word.end_line, len(lines))):
        if not lines[number].strip():
            continue
        if indent_of(lines[number]) < indent:
            break
        last = number
    return range(word.line + 1, last + 1)

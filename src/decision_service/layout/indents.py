"""How far each line stands in: two spaces a level, a list one level in from its key.

A line inside a flow collection or a scalar of several lines moves with the line it started on; the text of a block
scalar stands two in from its key; a comment stands where the line below it stands, or where the line above does if that
is how it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.events import (
    CollectionStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from decision_service.layout.words import Word, block_lines, indent_of

STEP: Final = 2
_DASHES: Final = re.compile(r"(?:- +)+")


@dataclass(slots=True)
class _Open:
    """A block collection whose end has not been seen."""

    mapping: bool
    depth: int
    at_key: bool = True


def start_of(event: Event) -> tuple[int, int]:
    """Line and column an event starts at."""
    assert event.start_mark is not None, "libyaml marks every event"
    return event.start_mark.line, event.start_mark.column


def end_line(event: Event) -> int:
    """The line an event ends on."""
    assert event.end_mark is not None, "libyaml marks every event"
    return event.end_mark.line


def _after_dashes(text: str) -> str:
    """One space behind each dash in front of a line."""
    match = _DASHES.match(text)
    return text if match is None else " ".join(["-"] * match[0].count("-")) + " " + text[match.end() :]


class Indents:
    """The new indentation of every line of a text."""

    def __init__(self, text: str, lines: Sequence[str], words: Sequence[Word]) -> None:
        self._lines = lines
        self._new: dict[int, int] = {}
        self._moves: dict[int, tuple[int, int]] = {}  # line to (line it moves with, least indentation)
        self._blocks: dict[int, tuple[int, int]] = {}  # line of a block scalar's text to (its old indent, its new one)
        self._dashed: set[int] = set()  # lines on which items of a block list start
        self._dashes: Iterator[Word] = (word for word in words if word.sort == "-")
        self._block_words = {(word.line, word.column): word for word in words if word.sort == "block"}
        self._follow(text)

    def applied(self) -> list[str]:
        """The lines at their new indentation."""
        return [self._at(number) for number in range(len(self._lines))]

    def _at(self, number: int) -> str:
        line = self._lines[number]
        text = line.strip(" ")
        if not text:
            return ""
        if number in self._blocks:
            old, new = self._blocks[number]
            return " " * (new + indent_of(line) - old) + line.lstrip(" ")
        if text.startswith("#") and number not in self._moves:
            return " " * self._of_comment(number) + text
        return " " * self._indent(number) + (_after_dashes(text) if number in self._dashed else text)

    def _indent(self, number: int) -> int:
        """The new indentation of a line with words."""
        if number in self._new:
            return self._new[number]
        if number in self._moves:
            start, least = self._moves[number]
            return max(least, self._indent(start) + indent_of(self._lines[number]) - indent_of(self._lines[start]))
        return indent_of(self._lines[number])

    def _of_comment(self, number: int) -> int:
        """A comment stands with the line below, unless it stood with the line above."""
        old = indent_of(self._lines[number])
        below, above = self._neighbour(number, 1), self._neighbour(number, -1)
        if below is not None and (above is None or old == indent_of(self._lines[below])):
            return self._indent(below)
        if above is not None and above in self._new and old == indent_of(self._lines[above]):
            return self._indent(above)
        return 0 if below is None else self._indent(below)

    def _neighbour(self, number: int, step: int) -> int | None:
        """The nearest line with words of its own; not one that only goes on with what another started."""
        number += step
        while 0 <= number < len(self._lines):
            text = self._lines[number].strip()
            if text and not text.startswith("#") and number not in self._blocks and number not in self._moves:
                return number
            number += step
        return None

    # --- the structure, from libyaml's events ---

    def _follow(self, text: str) -> None:
        stack: list[_Open] = []
        flow, flow_start = 0, (0, 0)
        for event in yaml.parse(text, Loader=yaml.CLoader):
            if isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                if flow == 0:
                    stack.pop()
                    continue
                flow -= 1
                if flow == 0:
                    self._move(*flow_start, end_line(event))
            elif isinstance(event, NodeEvent) and flow == 0:
                least = self._place(event, stack)
                if isinstance(event, CollectionStartEvent):
                    if event.flow_style:
                        flow, flow_start = 1, (start_of(event)[0], least)
                    else:
                        depth = stack[-1].depth + 1 if stack else 0
                        stack.append(_Open(isinstance(event, MappingStartEvent), depth))
                else:
                    self._scalar(event, least)
            elif isinstance(event, CollectionStartEvent):
                flow += 1

    def _place(self, event: Event, stack: list[_Open]) -> int:
        """Place the line that a node starts on; how far lines that go on with it stand in at least."""
        if not stack:
            return 0
        parent = stack[-1]
        inner = STEP * (parent.depth + 1)
        key = parent.mapping and parent.at_key
        parent.at_key = not parent.at_key
        if not parent.mapping:
            dash = next(self._dashes)
            self._set(dash.line, dash.column, STEP * parent.depth)
            self._dashed.add(dash.line)
        if key:
            self._set(*start_of(event), STEP * parent.depth)
        elif not isinstance(event, CollectionStartEvent) or event.flow_style:
            self._set(*start_of(event), inner)
        return inner

    def _set(self, line: int, column: int, indent: int) -> None:
        """The first word of a line says how far the line stands in."""
        if line < len(self._lines) and column == indent_of(self._lines[line]):
            self._new.setdefault(line, indent)

    def _move(self, start: int, least: int, end: int) -> None:
        for line in range(start + 1, min(end + 1, len(self._lines))):
            self._moves.setdefault(line, (start, least))

    def _scalar(self, event: Event, least: int) -> None:
        assert isinstance(event, ScalarEvent)
        start = start_of(event)
        word = self._block_words.get(start)
        if word is None:
            self._move(start[0], least, end_line(event))
            return
        of_text = block_lines(word, self._lines)
        old = min((indent_of(self._lines[n]) for n in of_text if self._lines[n].strip()), default=0)
        for number in of_text:
            self._blocks[number] = (old, least)

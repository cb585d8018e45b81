"""The columns of the files that commands read, as the end of their help; from the very tables that reading uses."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import Final

from decision_service.build import questions
from decision_service.tables import attributes, events, facilities

_INDENT: Final = " " * 14
_WIDTH: Final = 100

FACILITIES: Final = ("facilities", facilities.COLUMNS, facilities.NEEDED, "")
ATTRIBUTES: Final = (
    "attributes", attributes.LONG, attributes.LONG,
    f"or one row a customer: {', '.join(attributes.WIDE)} and a column for each attribute",
)  # fmt: skip
EVENTS: Final = ("events", events.COLUMNS, events.NEEDED, "")
QUESTIONS: Final = (
    "at", questions.COLUMNS, (),
    "a row names a customer and an instant, or an event whose own decision it is; other columns are passed through",
)  # fmt: skip
File = tuple[str, Sequence[str], Sequence[str], str]


def tell_columns(parser: argparse.ArgumentParser, *files: File) -> None:
    """End a command's help with the columns of its files; `*` marks those that must be there."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    instants = "instants: with a time zone, RFC 3339 text, or whole ms UTC; money in major units"
    parser.epilog = "\n".join([f"columns (* needed; {instants}):", *map(_told, files)])


def _told(file: File) -> str:
    name, columns, needed, more = file
    listed = ", ".join(f"{column}*" if column in needed else column for column in columns)
    text = f"{listed}; {more}" if more else listed
    return textwrap.fill(text, _WIDTH, initial_indent=f"  {name:<{len(_INDENT) - 2}}", subsequent_indent=_INDENT)

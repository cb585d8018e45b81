"""Rows of a file as bodies of API calls, for what comes in thousands rather than millions: the API's parser reads each.

A body has a field for every cell that is not null. Texts and whole numbers are ids, instants of any form become
RFC 3339, money the exact decimal that a binary fraction stands for (`cells.money`), numbers keep their digits. A cell
that is none of what it should be goes into the body as it is, for the parser to say what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from decision_service.api.instants import format_instant
from decision_service.core.money import EXPONENTS
from decision_service.tables import cells
from decision_service.tables.file import BadRow

if TYPE_CHECKING:
    import pyarrow as pa

JSON_NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
_SHOWN_CHARS: Final = 80

Cells = Sequence[Any]  # of one column, None for null


def texts(column: pa.Array | None, name: str, rows: int) -> Cells:
    """Ids and other texts."""
    ids, _ = cells.ids(column, name, rows)
    found = np.array([*ids.texts, None], object)
    plain: Cells = found[ids.codes].tolist()
    return plain


def instants(column: pa.Array | None, name: str, rows: int) -> Cells:
    """RFC 3339 instants."""
    ms, present, sure = cells.instants(column, name, rows)
    found: list[Any] = [
        format_instant(at) if good else None for at, good in zip(ms.tolist(), present & sure, strict=True)
    ]
    for i in np.flatnonzero(~sure).tolist():
        found[i] = None if column is None else str(column[i].as_py())
    return found


def money(column: pa.Array | None, name: str, currencies: Cells) -> Cells:
    """Exact amounts in major units, as texts."""
    exponents = np.array([EXPONENTS.get(currency, 0) for currency in currencies], np.int64)
    minor, present, sure = cells.money(column, name, exponents)
    decimals = exponents.tolist()
    good = (present & sure).tolist()
    found: list[Any] = [
        str(Decimal(amount).scaleb(-decimals[i])) if good[i] else None for i, amount in enumerate(minor.tolist())
    ]
    for i in np.flatnonzero(~sure).tolist():
        found[i] = None if column is None else plain_text(column[i].as_py())
    return found


def scalars(column: pa.Array | None, rows: int) -> Cells:
    """Whatever stands there."""
    return [None] * rows if column is None else column.to_pylist()


def plain_text(value: object) -> str:
    """A number without an exponent; anything else as it is written."""
    if isinstance(value, float) and value - value == 0:
        return format(Decimal(repr(value)), "f")
    return str(value)


def number(value: object) -> object:
    """A number as JSON writes it, with all its digits; anything else stays what it is."""
    text = str(value) if isinstance(value, (str, int, float, Decimal)) and not isinstance(value, bool) else ""
    return orjson.Fragment(text.encode()) if JSON_NUMBER.fullmatch(text) else value


def body_of(fields: Mapping[str, object]) -> bytes:
    """The fields that are not null as a JSON object."""
    given = {name: value for name, value in fields.items() if value is not None}
    return orjson.dumps(given, default=str)


def bad_row(row: int, column: str, value: object, reason: str) -> BadRow:
    """A row that is left out."""
    return BadRow(row, column, "" if value is None else str(value)[:_SHOWN_CHARS], reason)

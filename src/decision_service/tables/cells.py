"""Columns of cells as arrays: ids, instants, numbers and money, a whole batch at a time.

Every reader gives values and a mask `sure`: True where the value is right beyond doubt by the rules of the API, which
includes null. What is not sure is for the API's own parser to judge, one by one; so nothing here decides that a cell
is wrong, and nothing here states a rule the API does not have. Columns are `plain`: null is what is absent.

Money is exact. A decimal or a text is taken digit by digit. A binary fraction stands for the amount of the currency's
decimals that it is closest to if it is a few rounding errors away (0.1 + 0.2 is 0.30), and for nothing otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.api.instants import INSTANT, parse_instant
from decision_service.core.errors import InvalidInput
from decision_service.core.limits import AMOUNT_MINOR_MAX, ID_CHARS_MAX

if TYPE_CHECKING:
    import pyarrow as pa

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

END_MS: Final = 253_402_300_800_000  # the year 10000
NUMBER_TEXT: Final = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][-+]?\d{1,3})?", re.ASCII)
_DECIMAL_TEXT: Final = r"^\d{1,12}(\.\d{1,40})?$"
_ROUNDING: Final = 2.0**-48  # relative: sixteen rounding errors of a double, less than half a fen up to the maximum


@dataclass(frozen=True, slots=True)
class Ids:
    """A column of texts: the different ones, and for every row which (-1 for none)."""

    texts: list[str]
    codes: npt.NDArray[np.int32]

    @property
    def present(self) -> Mask:
        """Where there is one."""
        return self.codes >= 0

    def mapped(self, digest: Callable[[str], int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A number of every row's text, computed once for each different one; 0 for none."""
        numbers = np.array([*(digest(text) for text in self.texts), 0], dtype)
        return numbers[self.codes]

    def __getitem__(self, chosen: Any) -> Ids:
        return Ids(self.texts, self.codes[chosen])


def no_ids(rows: int) -> Ids:
    """A column that is not there."""
    return Ids([], np.full(rows, -1, np.int32))


def ids(column: pa.Array | None, name: str, rows: int) -> tuple[Ids, Mask]:
    """Texts of 1 to 128 characters; whole numbers count as their digits. Raises InvalidInput for another type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column is None:
        return no_ids(rows), np.ones(rows, bool)
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise InvalidInput(name, f"texts are expected in the column {name!r}, not {column.type}")
    encoded = pc.dictionary_encode(column)
    texts = encoded.dictionary
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    chars = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    fits = (chars > 0) & (chars <= ID_CHARS_MAX) & ~_bools(pc.match_substring(texts, "\0"))
    return Ids(texts.to_pylist(), codes), np.append(fits, True)[codes]


def instants(column: pa.Array | None, name: str, rows: int) -> tuple[Ints, Mask, Mask]:
    """`(ms UTC, present, sure)` of timestamps with a zone, whole milliseconds or RFC 3339 texts; 0 where absent."""
    import pyarrow as pa

    if column is None:
        return np.zeros(rows, np.int64), np.zeros(rows, bool), np.ones(rows, bool)
    present = _present(column)
    if pa.types.is_timestamp(column.type):
        if column.type.tz is None:
            raise InvalidInput(name, f"the instants in the column {name!r} have no time zone: make them UTC")
        ms, known = _filled(column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64())), present
    elif pa.types.is_integer(column.type):
        ms, known = _filled(column.cast(pa.int64())), present
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_null(column.type):
        ms, known = _instant_texts(column.cast(pa.string()))
    else:
        raise InvalidInput(name, f"instants are expected in the column {name!r}, not {column.type}")
    return ms, present, ~present | (known & (ms >= 0) & (ms < END_MS))


def _instant_texts(column: pa.Array) -> tuple[Ints, Mask]:
    """`(ms, known)` of texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counted = pc.match_substring_regex(column, r"^\d{1,15}$").fill_null(False)
    dated = pc.match_substring_regex(column, f"^(?:{INSTANT.pattern})$").fill_null(False)
    ms = _filled(pc.if_else(counted, column, None).cast(pa.int64()))
    texts = pc.if_else(dated, column, None)
    try:
        nanoseconds = _filled(texts.cast(pa.timestamp("ns", "UTC")).cast(pa.int64()))
    except pa.ArrowInvalid:  # a leap second, a day that is none, a year beyond 2262: rare enough to look one by one
        return _one_by_one(texts, ms, _bools(counted))
    ms = np.where(_bools(dated), nanoseconds // 1_000_000, ms)
    return ms, _bools(dated) | _bools(counted)


def _one_by_one(texts: pa.Array, ms: Ints, known: Mask) -> tuple[Ints, Mask]:
    ms, known = ms.copy(), known.copy()
    for i, text in enumerate(texts.to_pylist()):
        if text is not None:
            try:
                ms[i], known[i] = parse_instant(text), True
            except ValueError:
                known[i] = False
    return ms, known


def numbers(column: pa.Array | None, name: str, rows: int) -> tuple[Floats, Mask]:
    """Finite numbers, NaN where absent; -0 becomes 0. Raises InvalidInput for a column of another type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column is None:
        return np.full(rows, np.nan), np.ones(rows, bool)
    present = _present(column)
    if pa.types.is_decimal(column.type):  # by way of its digits, which is rounded once
        column = column.cast(pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        fits = pc.match_substring_regex(column, f"^(?:{NUMBER_TEXT.pattern})$").fill_null(False)
        column = pc.if_else(fits, column, None)
    elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
        raise InvalidInput(name, f"numbers are expected in the column {name!r}, not {column.type}")
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) + 0.0
    return values, ~present | np.isfinite(values)


def money(column: pa.Array | None, name: str, exponents: Ints) -> tuple[Ints, Mask, Mask]:
    """`(minor units, present, sure)`; `exponents` are the decimals of each row's currency. Zero is not judged here."""
    import pyarrow as pa

    rows = len(exponents)
    if column is None:
        return np.zeros(rows, np.int64), np.zeros(rows, bool), np.ones(rows, bool)
    present, scales = _present(column), 10.0**exponents
    if pa.types.is_integer(column.type):
        major, exact = _filled(column.cast(pa.int64())).astype(float), np.ones(rows, bool)
    elif pa.types.is_floating(column.type):
        major, exact = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False), None
    elif pa.types.is_decimal(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        major, exact = _decimal_texts(column.cast(pa.string()), exponents)
    elif pa.types.is_null(column.type):
        major, exact = np.zeros(rows), np.ones(rows, bool)
    else:
        raise InvalidInput(name, f"amounts are expected in the column {name!r}, not {column.type}")
    fits = np.isfinite(major) & (major >= 0) & (major * scales <= AMOUNT_MINOR_MAX)
    minor = np.rint(np.where(fits, major, 0.0) * scales)  # below 2**51, so the nearest whole number is the exact one
    if exact is None:
        exact = np.abs(minor / scales - np.where(fits, major, 0.0)) <= _ROUNDING * np.abs(minor / scales)
    return minor.astype(np.int64), present, ~present | (fits & exact)


def _decimal_texts(column: pa.Array, exponents: Ints) -> tuple[Floats, Mask]:
    """Plain decimals that have at most the currency's decimals, zeros at the end not counted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fits = pc.match_substring_regex(column, _DECIMAL_TEXT).fill_null(False)
    texts = pc.if_else(fits, column, "0")
    decimals = pc.utf8_rtrim(pc.replace_substring_regex(texts, r"^\d+\.?", ""), characters="0")
    enough = pc.utf8_length(decimals).to_numpy(zero_copy_only=False) <= exponents
    return texts.cast(pa.float64()).to_numpy(zero_copy_only=False), _bools(fits) & enough


def plain(column: Any) -> pa.Array:
    """A column without a dictionary and with null for NaN, as the readers here take it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


def _present(column: pa.Array) -> Mask:
    return _bools(column.is_valid())


def _bools(column: pa.Array) -> Mask:
    return np.asarray(column.to_numpy(zero_copy_only=False), bool)


def _filled(column: pa.Array) -> Ints:
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), np.int64)

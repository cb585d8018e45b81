"""The caller's list of acknowledged answers: JSON lines or CSV, one answer a row.

    request_id, customer_id, decision, approved_amount      needed
    decision_id                                             checked: it follows from the first two
    scene                                                   drawdown unless it says otherwise
    facility_id, currency                                   what was drawn on; needed to put back a lost approval of a
                                                            customer with several lines, or of one that is lost, too
    amount                                                  what was asked for; without it a lost hold leaves no record
    decided_at                                              `decided_at` of the answer; a lost one is dated so

Other columns are passed over, so that a caller's own table of answers, or the answers themselves as JSON lines, will
do. Amounts are in major units. A wrong row is an error that names it: a list that cannot be trusted repairs nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from decision_service.api.instants import parse_instant
from decision_service.core.errors import InvalidInput
from decision_service.core.money import EXPONENTS, to_minor
from decision_service.core.request import DRAWDOWN_SCENE, SCENES
from decision_service.store.keys import decision_id_of

NEEDED: Final = ("request_id", "customer_id", "decision", "approved_amount")
OUTCOMES: Final = ("approve", "hold", "reprice", "limit_change")
SUFFIXES: Final = (".jsonl", ".ndjson", ".csv")
ID_CHARS_MAX: Final = 128
LINE_BYTES_MAX: Final = 65_536
_DECIMALS_MAX: Final = max(EXPONENTS, key=lambda code: EXPONENTS[code])  # a currency with the most decimals


class Acknowledged(NamedTuple):
    """One answer that a caller got. `amount` is None where it is not told, texts are empty."""

    row: int  # from 1; a heading is not counted
    decision_id: str
    request_id: str
    customer_id: str
    decision: str
    approved: Decimal
    scene: str = DRAWDOWN_SCENE
    facility_id: str = ""
    currency: str = ""
    amount: Decimal | None = None
    decided_at_ms: int | None = None

    def minor(self, amount: Decimal, currency: str) -> int:
        """An amount of this row in minor units. InvalidInput if the currency has fewer decimals."""
        return to_minor(amount, currency, f"row {self.row}", zero_allowed=True)


@dataclass(frozen=True, slots=True)
class AcknowledgedList:
    """A file of answers, of customers spread over so many partitions."""

    path: Path
    partitions: int

    def __post_init__(self) -> None:
        """Raises InvalidInput for a file that is none of ours."""
        if self.path.suffix not in SUFFIXES:
            raise InvalidInput("file", f"{self.path.name}: one of {', '.join(SUFFIXES)} is expected")
        if not self.path.is_file():
            raise InvalidInput("file", f"{self.path} does not exist")

    def rows(self) -> Iterator[Acknowledged]:
        """The answers in the order of the file. InvalidInput names the row that is wrong."""
        read = _csv_rows if self.path.suffix == ".csv" else _json_rows
        try:
            for number, fields in enumerate(read(self.path), 1):
                yield self._acknowledged(number, fields)
        except UnicodeDecodeError:
            raise InvalidInput("file", f"{self.path.name} is not UTF-8") from None

    def pages(self, rows_at_once: int) -> Iterator[list[Acknowledged]]:
        """The same, so many at once."""
        rows = self.rows()
        while page := list(islice(rows, rows_at_once)):
            yield page

    def _acknowledged(self, row: int, fields: Mapping[str, Any]) -> Acknowledged:
        try:
            return self._checked(row, fields)
        except ValueError as error:
            raise InvalidInput("file", f"{self.path.name}, row {row}: {error}") from None

    def _checked(self, row: int, fields: Mapping[str, Any]) -> Acknowledged:
        request_id, customer_id = _id(fields, "request_id"), _id(fields, "customer_id")
        decision_id = decision_id_of(customer_id, request_id, self.partitions)
        if fields.get("decision_id") not in (None, "", decision_id):
            where = f"this customer and request_id in {self.partitions} partitions"
            raise ValueError(f"decision_id is not that of {where}: {decision_id}")
        amount, decided_at = fields.get("amount"), fields.get("decided_at")
        return Acknowledged(
            row, decision_id, request_id, customer_id,
            _one_of("decision", fields.get("decision"), OUTCOMES), _money("approved_amount", fields),
            _one_of("scene", fields.get("scene") or DRAWDOWN_SCENE, SCENES),
            _id(fields, "facility_id") if fields.get("facility_id") else "",
            _one_of("currency", fields["currency"], tuple(EXPONENTS)) if fields.get("currency") else "",
            None if amount in (None, "") else _money("amount", fields),
            None if decided_at in (None, "") else parse_instant(str(decided_at)),
        )  # fmt: skip


def _id(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= ID_CHARS_MAX or "\0" in value:
        raise ValueError(f"{name} must be a text of 1 to {ID_CHARS_MAX} characters")
    return value


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        known = ", ".join(allowed) if len(allowed) < 10 else "an ISO 4217 code"
        raise ValueError(f"{name} is {value!r}, expected {known}")
    return value


def _money(name: str, fields: Mapping[str, Any]) -> Decimal:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{name} must be a number")
    try:
        amount = Decimal(str(value))
        to_minor(amount, _DECIMALS_MAX, name, zero_allowed=True)
    except InvalidOperation:
        raise ValueError(f"{name} is {value!r}, which is no number") from None
    except InvalidInput as error:
        raise ValueError(f"{name} {error.message}") from None
    return amount


def _json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX + 1), b""), 1):
            if len(line) > LINE_BYTES_MAX:
                raise InvalidInput("file", f"{path.name}, row {number}: a line has at most {LINE_BYTES_MAX} bytes")
            try:
                fields = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise InvalidInput("file", f"{path.name}, row {number}: not JSON: {error}") from None
            if not isinstance(fields, dict):
                raise InvalidInput("file", f"{path.name}, row {number}: not a JSON object")
            yield fields


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True, restkey="")
        try:
            missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise InvalidInput("file", f"{path.name} has no column {missing[0]!r}; it needs {', '.join(NEEDED)}")
            for number, fields in enumerate(reader, 1):
                if "" in fields:
                    raise InvalidInput("file", f"{path.name}, row {number}: more cells than the heading has")
                yield fields
        except csv.Error as error:
            raise InvalidInput("file", f"{path.name}, line {reader.line_num}: {error}") from None

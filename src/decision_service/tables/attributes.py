"""Files of attributes: every value as `PUT /v1/customers/{customer_id}/attributes` would take it.

Two forms; declared names only, values of the declared type:

    long   customer_id, name, value, as_of           a row a value
    wide   customer_id, as_of, and a column a name   a row a customer; a null cell says nothing

Flags may be written 0 and 1 or false and true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from decision_service.api.parse import Clock, parse_attributes
from decision_service.core.errors import InvalidInput
from decision_service.core.facility import Attribute
from decision_service.core.limits import ID_CHARS_MAX
from decision_service.core.rules.attributes import AttributeSpec
from decision_service.core.source import nearest_name
from decision_service.core.vocabulary import Kind
from decision_service.tables import bodies, cells
from decision_service.tables.file import BadRow, Batch, TableFile, open_file, readable

LONG: Final = ("customer_id", "name", "value", "as_of")
WIDE: Final = ("customer_id", "as_of")
BATCH_ROWS: Final = 4_096
_FLAGS: Final = {"true": 1, "false": 0}

Declared = Mapping[str, AttributeSpec]


class Value(NamedTuple):
    """One value of one customer, and the row it stands in."""

    row: int
    customer_id: str
    name: str
    attribute: Attribute


@dataclass(frozen=True, slots=True)
class AttributeBatch:
    """Some rows of a file: their values, and what is wrong with the others."""

    values: tuple[Value, ...]
    bad: tuple[BadRow, ...]


def open_attributes(path: Path, declared: Declared) -> TableFile:
    """A file of attributes whose columns have been looked at. Raises InvalidInput, for an undeclared name as well."""
    file = open_file(path, None)
    return open_file(path, LONG, LONG) if _is_long(file) else open_file(path, (*WIDE, *declared), WIDE)


def _is_long(file: TableFile) -> bool:
    return "name" in file.names and "value" in file.names


def read_attributes(file: TableFile, declared: Declared, clock: Clock) -> Iterator[AttributeBatch]:
    """The values of a file in order. Raises InvalidInput for a column of a wrong type."""
    columns = ("value",) if _is_long(file) else tuple(name for name in file.names if name not in WIDE)
    for batch in file.batches(None, BATCH_ROWS):
        with readable(file.path):
            yield _batch(batch, columns, declared, clock)


def _batch(batch: Batch, columns: tuple[str, ...], declared: Declared, clock: Clock) -> AttributeBatch:
    given = {name: cells.plain(column) for name, column in batch.columns.items()}
    rows = len(batch)
    customers = bodies.texts(given["customer_id"], "customer_id", rows)
    instants = bodies.instants(given["as_of"], "as_of", rows)
    written = {column: bodies.scalars(given[column], rows) for column in columns}
    names = bodies.texts(given["name"], "name", rows) if "name" in given else None
    good, bad = [], list(batch.bad)
    for i, row in enumerate(batch.rows.tolist()):
        for column in columns:
            value = written[column][i]
            if value is None and names is None:
                continue
            name = names[i] if names is not None else column
            try:
                good.append(
                    Value(row, _customer(customers[i]), name, _value(name, value, instants[i], declared, clock))
                )
            except InvalidInput as error:
                at = _column(error.field, column)
                bad.append(bodies.bad_row(row, at, batch.columns[at][i].as_py(), error.message))
    return AttributeBatch(tuple(good), tuple(sorted(bad, key=lambda one: one.row)))


def _customer(customer_id: str | None) -> str:
    if customer_id is None:
        raise InvalidInput("customer_id", "Field required")
    if not 1 <= len(customer_id) <= ID_CHARS_MAX or "\0" in customer_id:
        raise InvalidInput("customer_id", f"must have 1 to {ID_CHARS_MAX} characters, NUL not among them")
    return customer_id


def _value(name: str | None, value: Any, as_of: str | None, declared: Declared, clock: Clock) -> Attribute:
    spec = declared.get(name or "")
    if name is None or spec is None:
        near = nearest_name(name or "", declared)
        raise InvalidInput("name", "no such attribute is declared" + (f": did you mean {near}?" if near else ""))
    fields = {"value": _typed(value, spec), "as_of": as_of}
    given = {field: written for field, written in fields.items() if written is not None}
    try:
        attribute = parse_attributes(bodies.body_of({name: given}), clock)[name]
    except InvalidInput as error:
        raise InvalidInput(error.field.removeprefix(f"{name}."), error.message) from None
    problem = spec.problem_with(attribute.value)
    if problem:
        raise InvalidInput("value", problem)
    return attribute


def _typed(value: Any, spec: AttributeSpec) -> object:
    """A cell as JSON has the declared type: the cells of a CSV file are texts whatever they mean."""
    if spec.spec.kind is Kind.STRING:
        return None if value is None else str(value)
    if spec.spec.kind is Kind.FLAG and str(value).lower() in _FLAGS:
        return _FLAGS[str(value).lower()]
    return bodies.number(value)


def _column(field: str, value_column: str) -> str:
    """The column of the field that is wrong."""
    return field if field in ("customer_id", "as_of", "name") else value_column

"""A file of facilities or attributes into the store: batch by batch, each customer's rows of a batch in one commit.

The rules are those of the API (`snapshots.py`): an older snapshot than the known one is skipped, a facility belongs to
whoever claimed it first, its currency never changes. The account of a batch is kept in the store when its customers are
done, so that another run on the same content passes over it; but not of one in which anything was rejected, for that
may be right next time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, TypeVar

from decision_service.core.errors import Conflict, InvalidInput
from decision_service.core.facility import Attribute, Facility
from decision_service.core.state import CustomerState
from decision_service.imports.account import Account, total_of, unpack_account
from decision_service.imports.crew import Crew, change_patiently
from decision_service.imports.refused import RefusedRows, bad_rows
from decision_service.imports.terms import TIMEOUT_S, Terms, import_id_of
from decision_service.snapshots import is_news, newer_attributes
from decision_service.store import Commit, Store
from decision_service.tables.attributes import Declared, Value, open_attributes, read_attributes
from decision_service.tables.facilities import open_facilities, read_facilities
from decision_service.tables.file import BadRow, TableFile

FACILITIES: Final = "facilities1"  # what the kept accounts are of: batches of so many rows, told apart by this format
ATTRIBUTES: Final = "attributes1"

_Row = TypeVar("_Row")


class Change(Protocol):
    """The rows of one batch that are one customer's. `account` tells of the last `plan`."""

    account: Account

    async def prepare(self, state: CustomerState) -> None: ...

    def plan(self, state: CustomerState) -> Commit | None: ...


Batch = tuple[Mapping[str, Change], Sequence[BadRow]]


async def import_facilities(path: Path, terms: Terms, refused: RefusedRows) -> Account:
    """Import a file of facilities; what became of its rows. InvalidInput, StoreError."""
    file = open_facilities(path)
    now_ms = terms.clock.now_ms

    def batches() -> Iterator[Batch]:
        for batch in read_facilities(file, terms.clock):
            of = _by_customer((facility.customer_id, (row, facility)) for row, facility in batch.facilities)
            yield {who: FacilityRows(who, rows, terms.store, now_ms) for who, rows in of.items()}, batch.bad

    return await _import(file, FACILITIES, batches(), terms, refused)


async def import_attributes(path: Path, declared: Declared, terms: Terms, refused: RefusedRows) -> Account:
    """Import a file of attributes; what became of its values. InvalidInput, StoreError."""
    file = open_attributes(path, declared)

    def batches() -> Iterator[Batch]:
        for batch in read_attributes(file, declared, terms.clock):
            of = _by_customer((value.customer_id, value) for value in batch.values)
            yield {who: AttributeValues(who, values) for who, values in of.items()}, batch.bad

    return await _import(file, ATTRIBUTES, batches(), terms, refused)


def _by_customer(rows: Iterator[tuple[str, _Row]]) -> dict[str, list[_Row]]:
    found: dict[str, list[_Row]] = defaultdict(list)
    for customer_id, row in rows:
        found[customer_id].append(row)
    return found


async def _import(
    file: TableFile, sort: str, batches: Iterator[Batch], terms: Terms, refused: RefusedRows
) -> Account:  # fmt: skip
    import_id = import_id_of(file.path, sort)
    kept = {} if terms.again else await terms.store.read_import(import_id, TIMEOUT_S)
    accounts: list[Account] = []
    earlier = rows = 0
    for number, (changes, bad) in enumerate(batches):
        done = kept.get(number)
        if done is None:
            account = await _change(changes, terms.store)
            refused.write(file.path, bad)
            account.counts["rejected"] += len(bad)
            if not account.counts["rejected"]:
                await terms.store.save_import(import_id, number, account.packed(), TIMEOUT_S)
        else:
            account = unpack_account(done)
            earlier += account.rows
        accounts.append(account)
        rows += account.rows
        terms.watch(f"rows of {file.path.name}", rows, file.row_count)
    terms.watch(f"rows of {file.path.name}", rows, rows)
    total = total_of(accounts)
    total.earlier = earlier
    for found in bad_rows(file, total.refusals):
        refused.write(file.path, found)
    return total


async def _change(changes: Mapping[str, Change], store: Store) -> Account:
    async with Crew() as crew:
        for customer_id, one in changes.items():
            await crew.start(change_patiently(store, customer_id, one.plan, one.prepare))
    return total_of(one.account for one in changes.values())


class FacilityRows:
    """Snapshots of one customer's facilities, in the order of the file."""

    def __init__(self, customer_id: str, rows: Sequence[tuple[int, Facility]], store: Store, now_ms: int) -> None:
        self.account = Account()
        self._customer_id, self._store = customer_id, store
        # a snapshot is of now at the latest: one dated ahead would hide what is booked until then
        self._rows = [(row, replace(one, as_of_ms=min(one.as_of_ms, now_ms))) for row, one in rows]
        self._foreign: set[str] = set()  # facilities that belong to another customer
        self._sent: list[Facility] = []

    async def prepare(self, state: CustomerState) -> None:
        """Claim what is new to the customer and not refused anyway."""
        known = dict(state.facilities)
        for _, facility in self._rows:
            facility_id = facility.facility_id
            if facility_id not in known and self._problem(facility, known) is None:
                owner = await self._store.claim_facility(facility_id, self._customer_id, TIMEOUT_S)
                if owner != self._customer_id:
                    self._foreign.add(facility_id)
                else:
                    known[facility_id] = facility

    def plan(self, state: CustomerState) -> Commit | None:
        """Take over what is news; fills `account`."""
        self.account = Account()
        known, news = dict(state.facilities), dict[str, Facility]()
        for row, facility in self._rows:
            problem = self._problem(facility, known)
            if problem is not None:
                self.account.refuse(row, *problem)
            elif is_news(facility, known):
                known[facility.facility_id] = news[facility.facility_id] = facility
                self.account.counts["accepted"] += 1
            else:
                self.account.counts[self._old(facility, known)] += 1
        self._sent += news.values()
        return Commit(self._customer_id, state.version, facilities=news, origin="import") if news else None

    def _old(self, facility: Facility, known: Mapping[str, Facility]) -> str:
        if facility in self._sent:  # by an attempt whose reply was lost
            return "accepted"
        return "duplicate" if known[facility.facility_id] == facility else "skipped"

    def _problem(self, facility: Facility, known: Mapping[str, Facility]) -> tuple[str, str] | None:
        if facility.facility_id in self._foreign:
            return "facility_id", "belongs to another customer"
        try:
            is_news(facility, known)
        except InvalidInput as error:
            return error.field, error.message
        except Conflict as error:
            return "facility_id", error.message
        return None


class AttributeValues:
    """Values of one customer's attributes, in the order of the file."""

    def __init__(self, customer_id: str, values: Sequence[Value]) -> None:
        self.account = Account()
        self._customer_id, self._values = customer_id, values
        self._sent: list[tuple[str, Attribute]] = []

    async def prepare(self, state: CustomerState) -> None:
        """Nothing."""

    def plan(self, state: CustomerState) -> Commit | None:
        """Take over what is news; fills `account`."""
        self.account = Account()
        known, news = dict(state.attributes), dict[str, Attribute]()
        for value in self._values:
            newer = newer_attributes({value.name: value.attribute}, known)
            known |= newer
            news |= newer
            self.account.counts["accepted" if newer else self._old(value, known)] += 1
        self._sent += news.items()
        return Commit(self._customer_id, state.version, attributes=news, origin="import") if news else None

    def _old(self, value: Value, known: Mapping[str, Attribute]) -> str:
        if (value.name, value.attribute) in self._sent:
            return "accepted"
        return "duplicate" if known[value.name] == value.attribute else "skipped"

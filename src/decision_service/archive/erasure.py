"""Erasure: what is personal of one customer is taken out of the archive, and the chain says so.

    order       an entry of kind `erasure` in the customer's partition: whose (key), by whom, when, why
    chained     the consumer archives it like any entry: from then on it stands in the chain for good
    carried out every file of the place with rows of the customer before it is rewritten (`rewriting.py`)
    noted       <root>/erasures/0a3-000000000456.json: nothing is left to do

Killed at any point: an order that is chained and not noted is carried out by the next `archive erase` or `archive
purge`. Rows that come after the order (a customer who goes on drawing) are not meant by it.

The body names the customer by key (8 bytes of a hash), so the tombstone tells nobody who it was, and lets who knows the
id find it. `why` and `by` stay for ten years: they must name no customer.

What else holds the person's data is not touched here; docs/archive.md says what does, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from decision_service.archive.access import TakesEntries
from decision_service.archive.files import Archive
from decision_service.archive.rewriting import Bools, Keys, files_of, rewrite_place, rewriting
from decision_service.archive.rows import signed
from decision_service.archive.segments import place_name
from decision_service.core.errors import InvalidInput
from decision_service.core.links import customer_key

ERASURES: Final = "erasures"
WHY_CHARS_MAX: Final = 500
STORE_TIMEOUT_S: Final = 10.0


class Erasure(NamedTuple):
    """An order that is chained."""

    place: int
    position: int
    key: int
    by: str
    at_ms: int
    why: str

    @property
    def note(self) -> str:
        """Where it is noted that it was carried out."""
        return f"{ERASURES}/{place_name(self.place)}-{self.position:012}.json"


def order_fields(customer_id: str, by: str, why: str, at_ms: int) -> dict[bytes, bytes]:
    """The entry that orders an erasure. InvalidInput for a reason that is none, or that names the customer."""
    for field, text in (("by", by), ("why", why)):
        if not 1 <= len(text.strip()) <= WHY_CHARS_MAX:
            raise InvalidInput(field, f"must have 1 to {WHY_CHARS_MAX} characters")
        if customer_id in text:
            raise InvalidInput(field, "names the customer, and is kept when all else of them is gone")
    body = {"customer_key": signed(customer_key(customer_id)), "by": by, "at_ms": at_ms, "why": why}
    return {b"kind": b"erasure", b"body": orjson.dumps(body)}


async def order(store: TakesEntries, place: int, customer_id: str, by: str, why: str, at_ms: int) -> bytes:
    """Order an erasure; the id of the entry. InvalidInput, StoreUnavailable, OutcomeUnknown."""
    return await store.add_entry(place, order_fields(customer_id, by, why, at_ms), STORE_TIMEOUT_S)


def erasures_of(archive: Archive, place: int) -> list[Erasure]:
    """The orders that are chained in a place, oldest first. Files without any are known by their statistics."""
    found: dict[int, Erasure] = {}
    for segment in files_of(archive, place):
        try:
            rows = _erasure_rows(archive, segment)
        except FileNotFoundError:  # merged meanwhile
            return erasures_of(archive, place)
        for row in rows:
            told = orjson.loads(row["body"])
            found[row["position"]] = Erasure(
                place, row["position"], row["customer_key"], told["by"], told["at_ms"], told["why"]
            )
    return [found[position] for position in sorted(found)]


def _erasure_rows(archive: Archive, segment: Any) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    with archive.open(segment) as file:
        kind = file.schema_arrow.get_field_index("kind")
        bounds = [file.metadata.row_group(group).column(kind).statistics for group in range(file.num_row_groups)]
        groups = [at for at, told in enumerate(bounds) if told is None or told.min <= "erasure" <= told.max]
        if not groups:
            return []
        table = file.read_row_groups(groups, ["position", "kind", "customer_key", "body"])
        rows: list[dict[str, Any]] = table.filter(pc.equal(table["kind"], "erasure")).to_pylist()
        return rows


def pending(archive: Archive, place: int) -> list[Erasure]:
    """The orders of a place that are chained and not noted as carried out."""
    return [erasure for erasure in erasures_of(archive, place) if not archive.exists(erasure.note)]


def decisions_of(archive: Archive, erasure: Erasure) -> list[str]:
    """The decisions that an order is about: the store still has some of them for a while."""
    import pyarrow.compute as pc

    ids: dict[str, None] = {}
    for segment in files_of(archive, erasure.place):
        if segment.first >= erasure.position:
            continue
        try:
            table = archive.read(segment, ["position", "customer_key", "decision_id"])
        except FileNotFoundError:  # merged meanwhile
            return decisions_of(archive, erasure)
        meant = pc.and_(pc.equal(table["customer_key"], erasure.key), pc.less(table["position"], erasure.position))
        ids |= dict.fromkeys(one for one in table.filter(meant)["decision_id"].to_pylist() if one)
    return list(ids)


def carry_out(
    archive: Archive, erasures: Sequence[Erasure], now_ms: int, tell: Callable[[int], None] = lambda rows: None
) -> Iterator[tuple[Erasure, int]]:
    """Carry out orders; each with how many rows it had erased. ArchiveUnavailable."""
    for erasure in erasures:
        with rewriting(archive):
            meant = partial(_meant, erasure)
            rows = rewrite_place(archive, erasure.place, range(1, erasure.position), meant, now_ms, tell)
            told = {**erasure._asdict(), "place": place_name(erasure.place), "rows": rows, "carried_out_at_ms": now_ms}
            archive.write(erasure.note, orjson.dumps(told))
        yield erasure, rows


def _meant(erasure: Erasure, keys: Keys) -> Bools:
    meant: Bools = keys.payload & (keys.keys == erasure.key) & (keys.positions < erasure.position)
    return meant

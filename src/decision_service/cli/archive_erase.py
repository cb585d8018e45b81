"""`decision-service archive erase --customer ID --by WHO --why TEXT`: take what is personal of a customer out of the
archive.

An order goes to the store and is archived like everything else (a tombstone in the chain of the customer's place); then
the files that hold rows of the customer are written again without what is personal of them. The chain still verifies.
Needs a running consumer (`archive run`, or the service with its embedded store). What is not done within --wait is done
by `archive erase --pending` or the next `archive purge`, also after a kill at any point.

--by and --why stay for as long as the decision does: they must not name the customer.

The store forgets the decisions at once. Not touched: the customer's state in the store, lists, journals, backups.
docs/archive.md tells what each holds, for how long, and what to do.

Exit status 0 done, 1 ordered and not done yet, 2 for wrong usage or settings, 3 if the store or the archive cannot be
read or written.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import orjson
import uvloop

from decision_service.archive.erasure import Erasure, carry_out, decisions_of, erasures_of, order, pending
from decision_service.archive.files import Archive
from decision_service.archive.retention import places_of
from decision_service.archive.rows import signed
from decision_service.bootstrap import wall_clock_ms
from decision_service.cli.archive_options import add_archive_options, add_store_options, archive_settings, opened
from decision_service.cli.import_history import store_for
from decision_service.cli.progress import Progress
from decision_service.core.errors import InvalidInput
from decision_service.core.links import customer_key
from decision_service.settings import Settings
from decision_service.store.keys import partition_of

NOT_YET: Final = 1
POLL_S: Final = 0.5
EXPIRE_MS: Final = 1
STORE_TIMEOUT_S: Final = 10.0
LISTS_TIMEOUT_S: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `archive erase`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    add_archive_options(parser)
    add_store_options(parser)
    parser.add_argument("--customer", metavar="ID", help="whose")
    parser.add_argument("--by", metavar="WHO", help="who orders it")
    parser.add_argument("--why", metavar="TEXT", help="why, without naming the customer")
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="S", help="for the order to be archived (%(default)s)"
    )
    parser.add_argument("--pending", action="store_true", help="order nothing; carry out what was ordered before")


def run(args: argparse.Namespace) -> int:
    """Erase; the exit status."""
    settings = archive_settings(args)
    archive = opened(settings)
    if args.pending:
        for name in ("customer", "by", "why"):
            if getattr(args, name):
                raise InvalidInput(name, "goes with no --pending, which carries out what was ordered before")
        waiting = [erasure for place in places_of(archive) if place >= 0 for erasure in pending(archive, place)]
        return _carry_out(args, archive, waiting, [], settings)
    for name in ("customer", "by", "why"):
        if not getattr(args, name):
            raise InvalidInput(name, "is needed, or --pending")
    place, at_ms, on_lists = uvloop.run(_order(settings, args))
    key = signed(customer_key(args.customer))
    erasure = _archived(archive, place, key, at_ms, time.monotonic() + args.wait)
    if erasure is None:
        print(
            "the order is not archived yet: `archive erase --pending` or `archive purge` will carry it out",
            file=sys.stderr,
        )
        _tell(args, [], on_lists, ordered=True)
        return NOT_YET
    return _carry_out(args, archive, [erasure], on_lists, settings)


async def _order(settings: Settings, args: argparse.Namespace) -> tuple[int, int, list[str]]:
    """Place and instant of the order, and the lists that the customer's id stands on."""
    store = store_for(settings, reconciling=True)
    try:
        place, at_ms = partition_of(args.customer, settings.partitions), wall_clock_ms()
        await order(store, place, args.customer, args.by, args.why, at_ms)
        _, lists = await store.read_lists(-1, LISTS_TIMEOUT_S)
        return place, at_ms, sorted(name for name, values in (lists or {}).items() if args.customer in values)
    finally:
        await store.close()


def _archived(archive: Archive, place: int, key: int, at_ms: int, until: float) -> Erasure | None:
    """The order once it stands in the chain; None if it does not in time."""
    while True:
        found = [one for one in erasures_of(archive, place) if one.key == key and one.at_ms == at_ms]
        if found or time.monotonic() >= until:
            return found[0] if found else None
        time.sleep(POLL_S)


async def _expire(settings: Settings, archive: Archive, waiting: Sequence[Erasure]) -> None:
    """Let the store forget the decisions that orders are about, before the archive does."""
    store = store_for(settings, reconciling=True)
    try:
        for erasure in waiting:
            await store.expire_decisions(erasure.place, decisions_of(archive, erasure), EXPIRE_MS, STORE_TIMEOUT_S)
    finally:
        await store.close()


def _carry_out(
    args: argparse.Namespace, archive: Archive, waiting: list[Erasure], on_lists: list[str], settings: Settings
) -> int:
    if waiting:
        uvloop.run(_expire(settings, archive, waiting))
    progress = Progress("rows erased")
    done = list(carry_out(archive, waiting, wall_clock_ms(), progress.show))
    _tell(args, done, on_lists, ordered=not args.pending)
    return 0


def _tell(
    args: argparse.Namespace, done: list[tuple[Erasure, int]], on_lists: list[str], *, ordered: bool
) -> None:  # fmt: skip
    if args.json:
        told: dict[str, Any] = {
            "ordered": ordered, "lists": on_lists,
            "carried_out": [{"note": erasure.note, "rows": rows} for erasure, rows in done],
        }  # fmt: skip
        print(orjson.dumps(told).decode())
        return
    for erasure, rows in done:
        print(f"{rows:,} rows erased, as {erasure.note} says")
        if not rows:
            print("the archive had no row of this customer: is the id right?", file=sys.stderr)
    if not done and not ordered:
        print("nothing waits to be carried out")
    if on_lists:
        print(f"the id still stands on the lists {', '.join(on_lists)}: take it off there", file=sys.stderr)

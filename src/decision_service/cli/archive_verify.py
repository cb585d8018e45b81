"""`decision-service archive verify`: is the archive as it was written, or which row is the first that is not.

Every row is hashed again and compared with the chain of its place; checkpoints (with --keys, the public keys that are
trusted) and the store's heads (with --store) say how the chain must go and where it must not end yet. Policies and what
they are made of are compared with the digests in their names.

A defect names place, row, decision, file and part: audit, personal, chain, position, file, tail, checkpoint or
document. A note is no defect: no keys were given, an erasure is not carried out yet.

With --since or --until only files of these UTC days are read; what stood before them is then believed.

Exit status 0 if nothing is wrong, 1 if something is, 2 for wrong usage or settings, 3 if the archive or the store
cannot be read.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import orjson
import uvloop

from decision_service.archive.checkpoints import Link
from decision_service.archive.heads import beyond, read_heads
from decision_service.archive.opening import storage_options_of
from decision_service.archive.segments import place_of
from decision_service.archive.verify import Evidence, Span, Verification, verify
from decision_service.cli.archive_options import (
    add_archive_options,
    add_store_options,
    archive_settings,
    opened,
    url_of,
)
from decision_service.cli.import_history import store_for
from decision_service.cli.progress import Progress
from decision_service.cli.watch_options import instant_in
from decision_service.core.errors import InvalidInput
from decision_service.policies.signers import Signers, read_signers
from decision_service.settings import Settings, environment_name

FOUND: Final = 1
SHOWN_MAX: Final = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `archive verify`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    add_archive_options(parser)
    parser.add_argument("--since", metavar="WHEN", help="only days from this one on: a date or an instant")
    parser.add_argument("--until", metavar="WHEN", help="only days up to that of this instant")
    parser.add_argument("--place", nargs="+", default=[], metavar="P", help="only these: 0a3, policy, lists, access")
    parser.add_argument(
        "--keys", type=Path, metavar="FILE", help=f"who may sign checkpoints ({environment_name('archive_signers')})"
    )
    parser.add_argument("--store", action="store_true", help="ask the store how far each place is archived")
    add_store_options(parser)
    parser.add_argument(
        "--copy", type=Path, nargs="+", default=[], metavar="FILE", help="checkpoints that were kept elsewhere"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Verify; the exit status."""
    settings = archive_settings(args)
    span = _span_in(args, settings)
    copies = [(f"checkpoints/{path.name}", path.read_bytes()) for path in args.copy]
    heads = uvloop.run(_heads(settings)) if args.store else None
    evidence = Evidence(trusted_in(args.keys, settings), heads, copies)
    progress = Progress("rows")
    told = verify(url_of(settings), storage_options_of(settings), span, evidence, max(1, args.jobs), progress.show)
    if args.store and span.whole:
        told.defects += beyond(told, uvloop.run(_heads(settings)))
    progress.finish(told.rows)
    print(orjson.dumps(told.as_json()).decode() if args.json else text_of(told))
    return 0 if told.sound else FOUND


def trusted_in(path: Path | None, settings: Settings) -> Signers | None:
    """The public keys that are trusted, None if there are none. SettingInvalid."""
    path = path or settings.archive_signers
    return None if path is None else read_signers(path, environment_name("archive_signers"))


async def _heads(settings: Settings) -> dict[int, Link]:
    store = store_for(settings, reconciling=True)
    try:
        return await read_heads(store, opened(settings), settings.partitions)
    finally:
        await store.close()


def _span_in(args: argparse.Namespace, settings: Settings) -> Span:
    zone = ZoneInfo(settings.time_zone)
    since_ms = None if args.since is None else instant_in("since", args.since, zone)
    until_ms = None if args.until is None else instant_in("until", args.until, zone)
    if since_ms is not None and since_ms >= (until_ms or time.time_ns() // 1_000_000):
        raise InvalidInput("since", "must lie before --until, or now")
    try:
        places = [place_of(name) for name in args.place]
    except ValueError as error:
        raise InvalidInput("place", str(error)) from None
    return Span(since_ms, until_ms, places or None)


def text_of(told: Verification) -> str:
    """What was found, for people."""
    files = sum(place.files for place in told.places)
    rate = told.rows / max(told.seconds, 1e-9)
    lines = [
        f"{told.rows:,} rows of {len(told.places)} places in {files:,} files, {told.seconds:.1f} s, {rate:,.0f} rows/s",
        f"{told.checkpoints:,} checkpoints, {told.believed:,} believed; {told.documents:,} documents",
    ]
    lines += [f"note: {note}" for note in told.notes]
    if told.sound:
        return "\n".join([*lines, "nothing is wrong"])
    lines.append(f"{len(told.defects):,} defects" if len(told.defects) > 1 else "1 defect")
    lines += [f"  {defect}" for defect in told.defects[:SHOWN_MAX]]
    if len(told.defects) > SHOWN_MAX:
        lines.append("  ... all of them with --json")
    return "\n".join(lines)

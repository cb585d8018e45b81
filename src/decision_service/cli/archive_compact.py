"""`decision-service archive compact`: closed days' many small files become one a partition, and are indexed.

Run it once a day, on any host, beside running services: readers and consumers do not notice. Killed, the next run goes
on. Without it nothing is wrong but speed: a look-up by id then reads a column of every file of its partition.

Files that were merged are left for an hour (`--grace-minutes`) to those who listed them before; the next run removes
them. Progress goes to standard error. Exit status 1 if files do not follow each other: see `archive verify`.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

import orjson

from decision_service.archive.compaction import GRACE_MS, Compacted, compact
from decision_service.archive.days import number_of
from decision_service.archive.schema import FACTS
from decision_service.cli.archive_options import add_archive_options, archive_settings, opened
from decision_service.cli.ending import cleaning_up
from decision_service.cli.progress import Progress
from decision_service.core.errors import InvalidInput
from decision_service.core.limits import MINUTE_MS

APART: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `archive compact`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    add_archive_options(parser)
    parser.add_argument("--day", metavar="DAY", help="this UTC day only, today as well: 2026-11-22 (all closed ones)")
    parser.add_argument(
        "--grace-minutes", type=int, default=GRACE_MS // MINUTE_MS, metavar="N",
        help="how long merged files stay (%(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Compact; the exit status."""
    settings = archive_settings(args)
    archive = opened(settings)
    if args.day is not None:
        try:
            number_of(args.day)
        except ValueError:
            raise InvalidInput("day", f"{args.day!r} is no day such as 2026-11-22") from None
    places = [*range(settings.partitions), *FACTS]
    progress = Progress("places", len(places))
    done: list[Compacted] = []
    with cleaning_up():
        for one in compact(archive, places, time.time_ns() // 1_000_000, args.day, args.grace_minutes * MINUTE_MS):
            done.append(one)
            progress.show(len(done))
    problems = [problem for one in done for problem in one.problems]
    summary = {
        "merged": sum(one.merged for one in done), "into": sum(one.into for one in done),
        "removed": sum(one.removed for one in done), "indexed": sum(one.indexed for one in done), "problems": problems,
    }  # fmt: skip
    if args.json:
        print(orjson.dumps(summary).decode())
    else:
        print(
            f"{summary['merged']:,} files merged into {summary['into']:,}; {summary['removed']:,} removed that were "
            f"merged before; {summary['indexed']:,} rows newly in the index"
        )
        for problem in problems:
            print(f"decision-service: {problem}", file=sys.stderr)
    return APART if problems else 0

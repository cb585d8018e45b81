"""`decision-service archive dead-letters`: the entries and frames that could not be read when they were archived.

Each is a row of its place's chain like any other; a line says where it is, of which decision if that is known, and why
it could not be read. --raw prints as well all that was there, as JSON: it may hold what customers sent.

Exit status 0 if there are none, 1 if there are some, 2 for wrong usage or settings, 3 if the archive cannot be read.
"""

from __future__ import annotations

import argparse
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from decision_service.archive.dead_letters import dead_letters
from decision_service.cli.archive_options import add_archive_options, archive_settings, opened
from decision_service.cli.progress import Progress
from decision_service.cli.watch_options import instant_in

FOUND: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `archive dead-letters`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    add_archive_options(parser)
    parser.add_argument("--since", metavar="WHEN", help="only those archived from a date or an instant on")
    parser.add_argument("--until", metavar="WHEN", help="only those before")
    parser.add_argument("--raw", action="store_true", help="with all that was there, which may be personal")


def run(args: argparse.Namespace) -> int:
    """List them; the exit status."""
    settings = archive_settings(args)
    zone = ZoneInfo(settings.time_zone)
    since = None if args.since is None else instant_in("--since", args.since, zone)
    until = None if args.until is None else instant_in("--until", args.until, zone)
    found = 0
    for letter in dead_letters(opened(settings), since, until, raw=args.raw, tell=Progress("files").show):
        found += 1
        print(orjson.dumps(letter).decode() if args.json else _line(letter))
    if not found and not args.json:
        print("none: everything was read")
    return FOUND if found else 0


def _line(letter: dict[str, Any]) -> str:
    of = f" (decision {letter['decision_id']})" if letter["decision_id"] else ""
    line = f"{letter['place']} row {letter['position']}, {letter['at']}{of}: {letter['why']}"
    return f"{line}\n  {orjson.dumps(letter['raw']).decode()}" if "raw" in letter else line

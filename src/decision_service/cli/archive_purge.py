"""`decision-service archive purge`: take away what is older than the retention of its class, and finish erasures.

Whole UTC days go from the front of each place's chain, first what is personal, later the rows; a checkpoint, signed if
there is a key, says where the chain begins now, so that the rest still verifies. Erasures that were ordered and not
carried out yet are. Run it once a day (cron, a Kubernetes CronJob); killed at any point it is finished by the next run.

Exit status 0 done, 1 if a place has defects and was left as it is, 2 for wrong usage or settings, 3 if the archive
cannot be read or written.
"""

from __future__ import annotations

import argparse
from typing import Final

import orjson

from decision_service.archive.retention import Purged, Retention, purge
from decision_service.archive.segments import place_name
from decision_service.bootstrap import wall_clock_ms
from decision_service.cli.archive_options import (
    add_archive_options,
    add_key_option,
    archive_settings,
    opened,
    who_signs,
)
from decision_service.cli.progress import Progress
from decision_service.settings import Settings

FOUND: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `archive purge`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    add_archive_options(parser)
    add_key_option(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and change nothing")


def run(args: argparse.Namespace) -> int:
    """Purge; the exit status."""
    settings = archive_settings(args)
    key, by = who_signs(args.key, settings)
    archive = opened(settings)
    progress = Progress("rows")
    told = purge(archive, retention_in(settings), key, wall_clock_ms(), by, dry_run=args.dry_run, tell=progress.show)
    print(orjson.dumps(told.as_json() | {"dry_run": args.dry_run}).decode() if args.json else _text(told, args.dry_run))
    return FOUND if told.defects else 0


def retention_in(settings: Settings) -> Retention:
    """The retention that the settings say."""
    return Retention(settings.archive_audit_days, settings.archive_personal_days, settings.archive_access_days)


def _text(told: Purged, dry_run: bool) -> str:
    verb = "would be " if dry_run else ""
    lines = [
        f"{told.rows:,} rows of {len(told.removed)} places {verb}removed"
        + ("" if dry_run else f", {told.files:,} files"),
        f"payloads {verb}taken out of {told.payload_files:,} files"
        + ("" if dry_run else f", {told.payload_rows:,} rows"),
    ]
    if not dry_run:
        lines.append(f"{told.erasures:,} erasures carried out")
    if told.checkpoint:
        lines.append(f"anchored by {told.checkpoint}")
    lines += [
        f"  {place_name(place)}: begins behind row {link.position}" for place, link in sorted(told.removed.items())
    ]
    lines += [f"defect: {defect}" for defect in told.defects]
    return "\n".join(lines)

"""`decision-service archive show DECISION`: a decision from the archive, explained.

Reads the archive alone: no service and no store. Contributions to a score need the scorecard that made it, and are
told by a running service (`decision-service explain`). Exit status 6 if the archive has no such decision, or if it was
erased: what is still known of it is told.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import orjson

from decision_service.archive.descriptions import description_in
from decision_service.archive.files import Archive
from decision_service.archive.lookup import Archived, Lookup
from decision_service.cli import EXIT_STATUS
from decision_service.cli.archive_options import add_archive_options, archive_settings, opened
from decision_service.core.errors import Erased, InvalidInput, NotFound
from decision_service.decision_log import decode
from decision_service.explanation import explained
from decision_service.trace import NO_POLICY, render_trace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `archive show`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    parser.add_argument("decision_id", help="as in the answer")
    parser.add_argument("--day", metavar="DAY", help="UTC day it was recorded, if it is not indexed yet: 2026-11-22")
    add_archive_options(parser)


def run(args: argparse.Namespace) -> int:
    """Show; the exit status."""
    archive = opened(archive_settings(args))
    try:
        found = Lookup(archive).decision(args.decision_id, args.day)
    except ValueError as error:
        raise InvalidInput("decision_id" if "decision" in str(error) else "day", str(error)) from None
    if found is None:
        where = "" if args.day is None else f" on {args.day}, and no index names it: try without --day"
        raise NotFound(f"the archive has no such decision{where}")
    if found.erased:
        print(orjson.dumps(found.remains, option=orjson.OPT_INDENT_2).decode())
        print("decision-service: what this decision told of a person was erased", file=sys.stderr)
        return EXIT_STATUS[Erased]
    decision = _told(archive, found)
    if args.json:
        print(orjson.dumps(decision, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(explained(decision, decision["trace"])))
    return 0


def _told(archive: Archive, found: Archived) -> dict[str, Any]:
    frame = decode(found.frame())
    policy_id = frame.rest["policy_id"]
    description = description_in(archive, policy_id) if policy_id else NO_POLICY
    if description is None:
        raise NotFound(f"the archive has no description of policy {policy_id}")
    trace = render_trace(frame, description, (), found.shadows)
    return {**orjson.loads(frame.answer), "trace": {**trace, "shadow_policy": found.shadow_policy}}

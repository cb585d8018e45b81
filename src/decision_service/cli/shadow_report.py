"""`decision-service shadow report`: where a policy in shadow and the one in force would differ.

Reads the tallies of a store, also of a running service, in whole days of the time zone of the settings, and a few
examples with both sides, from the archive where they left the store. The pair of policies that was counted last comes
first. Exit status 0; 2 for wrong settings or a report that cannot be drawn, 3 if the store or the archive failed, 5 for
wrong options, 6 if nothing was evaluated in shadow.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import orjson
import uvloop

from decision_service.archive.files import Archive
from decision_service.archive.lookup import Lookup
from decision_service.archive.opening import archive_of
from decision_service.cli.ending import cleaning_up
from decision_service.cli.import_history import store_for
from decision_service.cli.watch_options import instant_in, refuse_unsafe, write_report
from decision_service.core.errors import InvalidInput, SettingInvalid
from decision_service.core.limits import DAY_MS
from decision_service.core.request import SCENES
from decision_service.core.zone import zone_named
from decision_service.settings import Settings, load_settings
from decision_service.shadow_policy.report import ShadowReport, Wanted, reports
from decision_service.shadow_policy.report_page import shadow_report
from decision_service.shadow_policy.report_text import report_text
from decision_service.store import Store

WRONG: Final = 2
DAYS_BACK: Final = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `shadow report`."""
    parser.add_argument("--since", metavar="WHEN", help=f"from the day of a date or an instant on ({DAYS_BACK} d)")
    parser.add_argument("--until", metavar="WHEN", help="through the day of a date or an instant (today)")
    parser.add_argument("--scene", choices=SCENES, help="decisions of this scene (all)")
    parser.add_argument("--shadow", metavar="ID", default="", help="only of this policy in shadow")
    parser.add_argument("--active", metavar="ID", default="", help="only beside this policy in force")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report: .html or .md")
    parser.add_argument("--redis-url", help="store; none is the embedded one, also of a running service")
    parser.add_argument("--data-dir", type=Path, help="directory of the embedded store (data)")
    parser.add_argument("--archive", metavar="URL", help="where decisions are that left the store (of the settings)")
    parser.add_argument("--json", action="store_true", help="everything that was found as JSON")


def run(args: argparse.Namespace) -> int:
    """Report; the exit status."""
    settings = _settings(args)
    wanted = Wanted(*_days(args, settings), args.scene or "", args.active, args.shadow)
    with cleaning_up():
        found = uvloop.run(_read(store_for(settings), archive_of(settings), wanted))
    print(orjson.dumps([one.as_json() for one in found]).decode() if args.json else report_text(found))
    return 0 if write_report(lambda: shadow_report(found), args.html) else WRONG


def _settings(args: argparse.Namespace) -> Settings:
    settings = load_settings(redis_url=args.redis_url, data_dir=args.data_dir, archive_url=args.archive)
    if settings.store_url is None and not settings.data_dir.is_dir():
        raise SettingInvalid("DECISION_SERVICE_DATA_DIR", f"there is no store in {settings.data_dir}: see --data-dir")
    if args.html is not None and args.html.suffix not in (".html", ".md"):
        raise InvalidInput("html", f"{args.html} must end in .html or .md")
    return settings


def _days(args: argparse.Namespace, settings: Settings) -> tuple[int, int]:
    """First and last local day. InvalidInput."""
    zone, offset_at = ZoneInfo(settings.time_zone), zone_named(settings.time_zone).offset_at
    now_ms = time.time_ns() // 1_000_000
    until_ms = now_ms if args.until is None else instant_in("until", args.until, zone)
    since_ms = until_ms - DAYS_BACK * DAY_MS if args.since is None else instant_in("since", args.since, zone)
    first, last = ((at_ms + offset_at(at_ms)) // DAY_MS for at_ms in (since_ms, until_ms))
    if first > last:
        raise InvalidInput("since", "must not lie after --until")
    return first, last


async def _read(store: Store, archive: Archive | None, wanted: Wanted) -> list[ShadowReport]:
    try:
        await refuse_unsafe(store)
        return await reports(store, wanted, None if archive is None else Lookup(archive))
    finally:
        await store.close()

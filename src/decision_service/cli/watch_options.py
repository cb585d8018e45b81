"""What `models watch` and `models compare` have in common: which decisions, from which store, written where."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from decision_service.api.instants import parse_instant
from decision_service.cli.progress import Progress
from decision_service.core.errors import InvalidInput, SettingInvalid, StoreUnsafe
from decision_service.core.limits import DAY_MS
from decision_service.core.request import DRAWDOWN_SCENE, SCENES
from decision_service.core.scorecards.manifest import Target
from decision_service.report import Report, ReportExtraMissing, write_html, write_markdown
from decision_service.settings import Settings, load_settings
from decision_service.store import Store
from decision_service.watch.decisions import Span

DAYS_BACK: Final = 400
_NO_TARGET: Final = "is not with `--label`: a target is days past due or a label"


def add_watch_options(parser: argparse.ArgumentParser) -> None:
    """Options of both commands."""
    parser.add_argument("--since", metavar="WHEN", help=f"decisions from here on: a date or an instant ({DAYS_BACK} d)")
    parser.add_argument("--until", metavar="WHEN", help="decisions before, and outcomes known by then (now)")
    parser.add_argument("--scene", choices=SCENES, default=DRAWDOWN_SCENE, help="decisions of this scene (%(default)s)")
    parser.add_argument("--bad-dpd", type=int, metavar="DAYS", help="bad is so many days past due (of the manifest)")
    parser.add_argument("--label", metavar="NAME", help="bad is a label of this name (of the manifest)")
    parser.add_argument("--performance-days", type=int, metavar="DAYS", help="within so many days (of the manifest)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a report: .html or .md")
    parser.add_argument("--redis-url", help="store; none is the embedded one, also of a running service")
    parser.add_argument("--data-dir", type=Path, help="directory of the embedded store (data)")
    parser.add_argument("--archive", metavar="URL", help="where decisions are that left the store (of the settings)")
    parser.add_argument("--models", type=Path, help="directory of scorecards (models)")
    parser.add_argument("--json", action="store_true", help="everything that was found as JSON")


def settings_in(args: argparse.Namespace) -> Settings:
    """The settings with the options on top. SettingInvalid."""
    settings = load_settings(
        redis_url=args.redis_url, data_dir=args.data_dir, models=args.models, archive_url=args.archive
    )
    if settings.store_url == "memory://":
        raise SettingInvalid("DECISION_SERVICE_REDIS_URL", "a store in memory holds no decisions")
    if settings.store_url is None and not settings.data_dir.is_dir():
        raise SettingInvalid("DECISION_SERVICE_DATA_DIR", f"there is no store in {settings.data_dir}: see --data-dir")
    if args.out is not None and args.out.suffix not in (".html", ".md"):
        raise InvalidInput("out", f"{args.out} must end in .html or .md")
    return settings


def span_in(args: argparse.Namespace, settings: Settings) -> Span:
    """The span of decisions. InvalidInput."""
    zone = ZoneInfo(settings.time_zone)
    until_ms = time.time_ns() // 1_000_000 if args.until is None else instant_in("until", args.until, zone)
    since_ms = until_ms - DAYS_BACK * DAY_MS if args.since is None else instant_in("since", args.since, zone)
    if since_ms >= until_ms:
        raise InvalidInput("since", "must lie before --until")
    return Span(since_ms, until_ms)


def instant_in(field: str, text: str, zone: ZoneInfo) -> int:
    """An option that is a date of the zone or an instant, as ms UTC. InvalidInput."""
    try:
        day = date.fromisoformat(text)
        return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1_000)
    except ValueError:
        pass
    try:
        return parse_instant(text)
    except ValueError:
        raise InvalidInput(
            field, f"{text!r} is neither a date such as 2026-11-21 nor an instant such as 2026-11-21T03:12:09+08:00"
        ) from None


def target_in(args: argparse.Namespace) -> Target | None:
    """The target that the options say instead of the manifests'. InvalidInput."""
    if args.bad_dpd is None and args.label is None and args.performance_days is None:
        return None
    if args.bad_dpd is not None and args.label is not None:
        raise InvalidInput("bad_dpd", _NO_TARGET)
    if args.performance_days is None:
        raise InvalidInput("performance_days", "is needed with --bad-dpd and --label")
    if args.bad_dpd is None and args.label is None:
        raise InvalidInput("bad_dpd", "or --label is needed with --performance-days")
    return Target(args.performance_days, args.bad_dpd, args.label)


async def refuse_unsafe(store: Store) -> None:
    """StoreUnsafe for a store that the service would not start on."""
    if problems := await store.check():
        raise StoreUnsafe("; ".join(problems))


def progress_of(partitions: int) -> Callable[[int], None]:
    """Tells on standard error how far the pass over the partitions is."""
    return Progress("partitions", partitions).show


def write_report(report: Callable[[], Report], path: Path | None) -> bool:
    """Write a report if that is asked for; False, having said why, if its libraries are not installed."""
    if path is None:
        return True
    try:
        (write_html if path.suffix == ".html" else write_markdown)(report(), path)
    except ReportExtraMissing as error:
        print(f"decision-service: {error}", file=sys.stderr)
        return False
    print(f"report: {path}", file=sys.stderr)
    return True

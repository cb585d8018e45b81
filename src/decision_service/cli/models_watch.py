"""`decision-service models watch [SCORECARD[/VERSION]]`: is what scorecards see and say still what they were trained
on, and did it come true?

Reads the decision log of a store, also of a running service, what of it is archived, and the logs of the customers in
it; progress goes to standard error. `--publish` keeps the figures for the gauges of `/metrics`. Exit status 0 if all is
well or there is nothing to look at, 1 if there is a reason to rebuild a scorecard, 2 for wrong settings or a report
that cannot be drawn, 3 if the store failed, 5 for wrong options, 6 if no decision has a score of the scorecard that was
named.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

import orjson
import uvloop

from decision_service.archive.opening import archive_of
from decision_service.cli.ending import cleaning_up
from decision_service.cli.import_history import store_for
from decision_service.cli.watch_options import (
    add_watch_options,
    progress_of,
    refuse_unsafe,
    settings_in,
    span_in,
    target_in,
    write_report,
)
from decision_service.core.errors import NotFound
from decision_service.core.zone import zone_named
from decision_service.settings import Settings
from decision_service.store import Store
from decision_service.watch.decisions import DecisionLog, Span
from decision_service.watch.manifests import Manifests
from decision_service.watch.record import Records
from decision_service.watch.told import summary_of, told
from decision_service.watch.watch_page import watch_report
from decision_service.watch.watch_text import watch_text
from decision_service.watch.watching import Watched, watched

TRIGGERED: Final = 1
WRONG: Final = 2
STORE_TIMEOUT_S: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `models watch`."""
    parser.add_argument("scorecard", nargs="?", default="", metavar="SCORECARD[/VERSION]", help="only this one (all)")
    parser.add_argument("--publish", action="store_true", help="keep the figures for the gauges of /metrics")
    add_watch_options(parser)


def run(args: argparse.Namespace) -> int:
    """Watch; the exit status."""
    settings, target = settings_in(args), target_in(args)
    span = span_in(args, settings)
    manifests = Manifests(settings.models, target)
    with cleaning_up():
        found = uvloop.run(_watch(store_for(settings), settings, manifests, span, args))
    print(orjson.dumps(_json(found, manifests, span)).decode() if args.json else watch_text(found, manifests, span))
    if not write_report(lambda: watch_report(found, manifests, span), args.out):
        return WRONG
    return TRIGGERED if any(one.triggered for one in found) else 0


async def _watch(
    store: Store, settings: Settings, manifests: Manifests, span: Span, args: argparse.Namespace
) -> list[Watched]:
    zone = zone_named(settings.time_zone)
    try:
        await refuse_unsafe(store)
        records = Records(manifests, zone)
        log = DecisionLog(store, settings.partitions, manifests, archive_of(settings))
        scorecard, _, version = args.scorecard.partition("/")
        async for page in log.pages_with_outcomes(span, args.scene, span.until_ms, progress_of(settings.partitions)):
            records.take(page, scorecard, version)
        if args.scorecard and not records.by_part:
            raise NotFound(f"no decision between the two instants has a score of {args.scorecard!r}")
        found = [
            watched(record, manifests.target(part.card), zone, span.until_ms)
            for part, record in sorted(records.by_part.items())
        ]
        if args.publish:
            await _publish(store, found, span.until_ms)
        return found
    finally:
        await store.close()


async def _publish(store: Store, found: list[Watched], now_ms: int) -> None:
    """Keep what was found of each version; of one in several roles, of the role that decided most."""
    largest: dict[str, Watched] = {}
    for one in found:
        name = str(one.card)
        if name not in largest or one.n > largest[name].n:
            largest[name] = one
    for name, one in largest.items():
        await store.save_watch(name, orjson.dumps(summary_of(one, now_ms)), STORE_TIMEOUT_S)
    print(f"published: {len(largest)} for /metrics", file=sys.stderr)


def _json(found: list[Watched], manifests: Manifests, span: Span) -> dict[str, Any]:
    return {
        "since_ms": span.since_ms, "until_ms": span.until_ms, "watched": told(found),
        "problems": {str(card): problem for card, problem in manifests.problems.items()},
        "triggered": any(one.triggered for one in found),
    }  # fmt: skip

"""`decision-service models compare SCORECARD`: champion against challenger, and against shadows.

Reads the decision log of a store, also of a running service, and the logs of the customers in it; progress goes to
standard error. The declared share is that of `policy.yaml` in the rules directory. Exit status 0; 2 for wrong settings
or a report that cannot be drawn, 3 if the store failed, 4 for a policy.yaml that cannot be read, 5 for wrong options, 6
if the store holds no decision with that scorecard.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Final

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
from decision_service.core.errors import NotFound, PolicyRejected
from decision_service.core.policy import POLICY_FILE
from decision_service.core.scorecards.manifest import Target
from decision_service.core.scorecards.roles import read_roles
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_document
from decision_service.settings import Settings
from decision_service.store import Store
from decision_service.watch.compare_page import compare_report
from decision_service.watch.compare_text import compare_text
from decision_service.watch.comparing import Compared, Pairs, compared, take_pairs
from decision_service.watch.decisions import DecisionLog, Span
from decision_service.watch.manifests import CardName, Manifests
from decision_service.watch.record import Records
from decision_service.watch.said import CHAMPION
from decision_service.watch.told import told

WRONG: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `models compare`."""
    parser.add_argument("scorecard", metavar="SCORECARD", help="whose versions are compared")
    parser.add_argument("--rules", type=Path, help="directory of rules, for the declared share (rules)")
    add_watch_options(parser)


def run(args: argparse.Namespace) -> int:
    """Compare; the exit status."""
    settings, target = settings_in(args), target_in(args)
    span = span_in(args, settings)
    declared = declared_share(args.rules or settings.rules, args.scorecard)
    with cleaning_up():
        found = uvloop.run(_compare(store_for(settings), settings, target, span, declared, args))
    print(orjson.dumps(told(found)).decode() if args.json else compare_text(found, span))
    return 0 if write_report(lambda: compare_report(found, span), args.out) else WRONG


def declared_share(rules: Path, scorecard: str) -> float:
    """The challenger's share in `policy.yaml`, NaN if it names none. PolicyRejected."""
    path, findings = rules / POLICY_FILE, Findings()
    document = read_document(path, POLICY_FILE, findings) if path.exists() else None
    roles = {} if document is None else read_roles(document.root, findings)
    if findings.errors:
        raise PolicyRejected(findings.errors)
    spec = roles.get(scorecard)
    return math.nan if spec is None or spec.challenger is None else spec.challenger.share


async def _compare(
    store: Store, settings: Settings, target: Target | None, span: Span, declared: float, args: argparse.Namespace
) -> Compared:
    try:
        await refuse_unsafe(store)
        manifests = Manifests(settings.models, target or await _champion_target(store, settings, span, args))
        records, pairs = Records(manifests, zone_named(settings.time_zone)), dict[CardName, Pairs]()
        log = DecisionLog(store, settings.partitions, manifests, archive_of(settings))
        async for page in log.pages_with_outcomes(span, args.scene, span.until_ms, progress_of(settings.partitions)):
            records.take(page, args.scorecard)
            take_pairs(page, args.scorecard, pairs)
        if not records.by_part:
            raise NotFound(f"no decision between the two instants has a score of {args.scorecard!r}")
        return compared(args.scorecard, manifests.shared_target, records.by_part, pairs, declared)
    finally:
        await store.close()


async def _champion_target(store: Store, settings: Settings, span: Span, args: argparse.Namespace) -> Target | None:
    """The target of the champion of the first decision that has one: both sides are judged by it."""
    manifests = Manifests(settings.models)
    async for page in DecisionLog(store, settings.partitions, manifests, archive_of(settings)).pages(span, args.scene):
        for one in page:
            for said in one.scored:
                if said.role == CHAMPION and said.card.scorecard == args.scorecard:
                    return manifests.target(said.card)
    return None

"""`decision-service archive search`: decisions by customer, time, outcome, reason, rule or policy, newest first.

Reads the archive alone, also beside a running service; what is not archived yet is found by `GET /v1/decisions`.
Prints a line a decision (`--json`: an object a line, as that call tells them) until there are no more or `--limit` are
told; progress goes to standard error. Exit status 0 if there was one, 1 if there was none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from decision_service.api.search_handlers import OUTCOMES
from decision_service.archive.search import LIMIT_MAX, Question, search
from decision_service.archive.segments import day_of
from decision_service.archive.told import summary_of
from decision_service.cli.archive_options import add_archive_options, archive_settings, opened
from decision_service.cli.watch_options import instant_in
from decision_service.core.errors import InvalidInput
from decision_service.settings import Settings

NONE_FOUND: Final = 1
LIMIT_DEFAULT: Final = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `archive search`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    add_archive_options(parser)
    parser.add_argument("--customer", metavar="ID", default="", help="of this customer")
    parser.add_argument("--since", metavar="WHEN", help="recorded from here on: a date or an instant")
    parser.add_argument("--until", metavar="WHEN", help="recorded before: a date or an instant (now)")
    parser.add_argument("--outcome", choices=OUTCOMES, default="", metavar="OUTCOME", help=", ".join(OUTCOMES))
    parser.add_argument("--reason", metavar="CODE", default="", help="with this reason code")
    parser.add_argument("--rule", metavar="ID", default="", help="on which this rule fired or held")
    parser.add_argument("--policy", metavar="ID", default="", help="made by this policy")
    parser.add_argument("--limit", type=int, default=LIMIT_DEFAULT, metavar="N", help="at most so many (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Search; the exit status."""
    settings = archive_settings(args)
    if args.limit < 1:
        raise InvalidInput("limit", "must be at least 1")
    found = 0
    for decision in _found(args, settings):
        found += 1
        print(orjson.dumps(decision).decode() if args.json else _line(decision))
    return 0 if found else NONE_FOUND


def _found(args: argparse.Namespace, settings: Settings) -> Iterator[dict[str, Any]]:
    archive, left = opened(settings), args.limit
    question: Question | None = _question(args, settings)
    while question is not None and left:
        page = search(archive, question._replace(limit=min(left, LIMIT_MAX)), settings.partitions)
        for row in page.rows:
            yield summary_of(row)
        left -= len(page.rows)
        print(f"looked back to {day_of(page.searched_from_ms)}", file=sys.stderr)
        question = None if page.after is None else question._replace(after=page.after)


def _question(args: argparse.Namespace, settings: Settings) -> Question:
    zone = ZoneInfo(settings.time_zone)
    question = Question(
        customer_id=args.customer, outcome=args.outcome, reason=args.reason, rule=args.rule, policy=args.policy
    )
    if args.since is not None:
        question = question._replace(since_ms=instant_in("since", args.since, zone))
    if args.until is not None:
        question = question._replace(until_ms=instant_in("until", args.until, zone))
    if question.since_ms >= question.until_ms:
        raise InvalidInput("since", "must lie before --until")
    return question


def one_line(text: str) -> str:
    """What callers named, such that it neither ends the line nor drives the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _line(told: dict[str, Any]) -> str:
    outcome = told["decision"] + (f" {told['hold']}" if told["hold"] else "")
    amount = f"{told['approved_amount']:,.2f} {told['currency']}"
    whose = one_line(told["customer_id"] or f"erased {told['erased_at']}")
    return "  ".join(
        (told["recorded_at"], told["decision_id"], f"{outcome:<14}", f"{amount:>16}", whose, ",".join(told["reasons"]))
    ).rstrip()

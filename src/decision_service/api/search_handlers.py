"""The handler of searches for decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from decision_service.api.access import check_reach
from decision_service.api.call import Call, Reply, json_reply
from decision_service.api.handlers import Desk
from decision_service.api.instants import parse_instant
from decision_service.api.refusals import Forbidden
from decision_service.archive.search import LIMIT_MAX, Cursor, Question
from decision_service.core.errors import ArchiveUnavailable, InvalidInput
from decision_service.core.limits import ID_CHARS_MAX
from decision_service.core.source import nearest_name

OUTCOMES: Final = ("approve", "hold", "reprice", "limit_change")
LIMIT_DEFAULT: Final = 50
NAMES: Final = ("customer_id", "since", "until", "outcome", "reason", "rule", "policy", "limit", "after")


async def search_decisions(desk: Desk, call: Call) -> Reply:
    """GET /v1/decisions."""
    question = read_question(call.query_values(*NAMES))
    if question.customer_id:
        check_reach(call.principal, question.customer_id, "decision")
    elif call.principal.limited:
        raise Forbidden("these credentials reach certain customers only: say which, as customer_id")
    if desk.searches is None:
        raise ArchiveUnavailable("no archive is configured here")
    found = await desk.searches.page(question)
    desk.note_access(call, question.customer_id or None)
    return json_reply(found)


def read_question(query: Mapping[str, str]) -> Question:
    """The question in a query. InvalidInput."""
    for name, value in query.items():
        if not value or len(value) > ID_CHARS_MAX:
            raise InvalidInput(name, f"must have 1 to {ID_CHARS_MAX} characters")
    outcome = query.get("outcome", "")
    if outcome and outcome not in OUTCOMES:
        near = nearest_name(outcome, OUTCOMES)
        raise InvalidInput("outcome", "must be one of " + ", ".join(OUTCOMES) + (f": {near}?" if near else ""))
    question = Question(
        customer_id=query.get("customer_id", ""), outcome=outcome, reason=query.get("reason", ""),
        rule=query.get("rule", ""), policy=query.get("policy", ""), limit=_limit(query), after=_after(query),
    )  # fmt: skip
    if "since" in query:
        question = question._replace(since_ms=_instant(query, "since"))
    if "until" in query:
        question = question._replace(until_ms=_instant(query, "until"))
    if question.since_ms >= question.until_ms:
        raise InvalidInput("since", "must lie before until")
    return question


def _instant(query: Mapping[str, str], name: str) -> int:
    try:
        return parse_instant(query[name])
    except ValueError as error:
        raise InvalidInput(name, str(error)) from None


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= LIMIT_MAX):
        raise InvalidInput("limit", f"must be a whole number from 1 to {LIMIT_MAX}")
    return int(text)


def _after(query: Mapping[str, str]) -> Cursor | None:
    try:
        return Cursor.parse(query["after"]) if "after" in query else None
    except ValueError as error:
        raise InvalidInput("after", str(error)) from None

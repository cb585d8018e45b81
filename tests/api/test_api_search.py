"""GET /v1/decisions: what is asked, who may ask, and what is wrong named by its field; whence a decision comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_fakes import FakeCustomers, FakeDecisions, running, settings_of

from decision_service.api import examples
from decision_service.api.access import Access
from decision_service.api.gate import Gate
from decision_service.api.handlers import Desk
from decision_service.api.keys import Principal
from decision_service.api.routes import LABELS
from decision_service.archive.search import Cursor, Question
from decision_service.core.errors import Erased
from decision_service.kept import Kept
from decision_service.telemetry import Meters

ERASED = "d001" + "e" * 32


class Searches:
    """Remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    async def page(self, question: Question) -> dict[str, Any]:
        self.asked.append(question)
        return examples.DECISIONS_FOUND


class Archived(FakeDecisions):
    """Has one decision in the archive, and one that is erased."""

    async def decision(self, decision_id: str) -> Kept:
        if decision_id == ERASED:
            raise Erased("what this decision told of a person was erased", {"decision": "hold", "reasons": ["RC10"]})
        return Kept(b'{"customer_id":"c-1","trace":{}}', "archive")


class Known(Access):
    """Everybody is this principal."""

    def __init__(self, principal: Principal) -> None:
        super().__init__()
        self.principal_known = principal

    def known(self, headers: Any, peer: Any) -> Principal:
        return self.principal_known


def play(
    directory: Path, calls: list[str], customers: tuple[str, ...] | None = None
) -> tuple[list[Any], list[Question]]:
    """The answers to some calls, and what was searched for."""
    searches, meters = Searches(), Meters(directory, LABELS)
    access = Known(Principal("p", frozenset({"read"}), customers))

    @asynccontextmanager
    async def open_desk() -> AsyncIterator[Desk]:
        decisions = Archived()
        yield Desk(
            decisions, FakeCustomers(), settings_of(), meters, decisions.now_ms, searches=searches  # type: ignore[arg-type]
        )  # fmt: skip

    async def go() -> list[httpx.Response]:
        gate = Gate(settings_of(), access, meters, open_desk)
        transport = httpx.ASGITransport(gate, client=("127.0.0.1", 5))  # type: ignore[arg-type]
        async with running(gate), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await client.get(call) for call in calls]

    answers = asyncio.run(go())
    meters.close()
    return answers, searches.asked


def test_a_question_is_read_as_it_was_asked(tmp_path: Path) -> None:
    """Every parameter reaches the search; none of them is needed."""
    query = (
        "customer_id=c-1&since=2026-11-21T00:00:00Z&until=2026-11-22T08:00:00%2B08:00&outcome=hold&reason=RC11"
        "&rule=burst&policy=9f2c51d07a3b&limit=7&after=1795201929103-0.163"
    )
    answers, asked = play(tmp_path, ["/v1/decisions", f"/v1/decisions?{query}"])
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == examples.DECISIONS_FOUND
    assert asked == [
        Question(),
        Question(
            1_795_219_200_000, 1_795_305_600_000, "c-1", "hold", "RC11", "burst", "9f2c51d07a3b", 7,
            Cursor(1_795_201_929_103, 0, 163),
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("customer=c-1", "customer", "unknown parameter"),
        ("customer_id=", "customer_id", "1 to 128 characters"),
        ("rule=" + "x" * 129, "rule", "1 to 128 characters"),
        ("since=yesterday", "since", "must be an instant with offset"),
        ("until=2026-11-22", "until", "must be an instant with offset"),
        ("since=2026-11-22T00:00:00Z&until=2026-11-22T00:00:00Z", "since", "must lie before until"),
        ("outcome=approved", "outcome", "approve?"),
        ("limit=0", "limit", "from 1 to 500"),
        ("limit=501", "limit", "from 1 to 500"),
        ("limit=٧", "limit", "from 1 to 500"),
        ("after=7", "after", "must be the `after` of the page before"),
        ("outcome=hold&outcome=approve", "outcome", "given twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, query: str, field: str, message: str) -> None:
    """422 with the field and what is expected; nothing is searched."""
    (answer,), asked = play(tmp_path, [f"/v1/decisions?{query}"])
    assert (answer.status_code, answer.json()["field"], asked) == (422, field, [])
    assert message in answer.json()["detail"]


def test_who_reaches_certain_customers_only_says_which(tmp_path: Path) -> None:
    """Without a customer, and for one out of reach, 403; nothing is searched."""
    calls = ["/v1/decisions", "/v1/decisions?customer_id=c-2", "/v1/decisions?customer_id=c-1"]
    answers, asked = play(tmp_path, calls, customers=("c-1",))
    assert [answer.status_code for answer in answers] == [403, 403, 200]
    assert [question.customer_id for question in asked] == ["c-1"]


def test_whence_a_decision_comes_is_told(tmp_path: Path) -> None:
    """A header says it; an erased one is 410 with what is still known, and 404 to whom it may not be told of."""
    calls = ["/v1/decisions/d001" + "a" * 32, f"/v1/decisions/{ERASED}"]
    (found, gone), _ = play(tmp_path, calls)
    assert (found.status_code, found.headers["decision-source"]) == (200, "archive")
    assert (gone.status_code, gone.json()["type"]) == (410, "urn:decision-service:problem:erased")
    assert gone.json()["known"] == {"decision": "hold", "reasons": ["RC10"]}
    (reached, hidden), _ = play(tmp_path, calls, customers=("c-1",))
    assert (reached.status_code, hidden.status_code) == (200, 404)

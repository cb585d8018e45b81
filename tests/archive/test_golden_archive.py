"""The golden archive: decisions as they were once made come out of today's code byte for byte.

A test here that fails means that a change of code changed a decision.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest

from decision_service.archive.files import Archive
from decision_service.archive.replay_run import Account, Asked, replay_all, selected
from decision_service.archive.schema import Row
from decision_service.archive.tables import rows_of
from decision_service.core.request import SCENES

GOLDEN = Path(__file__).parent / "golden.zip"
ADVICE = """{differ} of {all} golden decisions come out otherwise; the first:
{first}
If no decision was meant to change, the code is wrong. If one was: declare it in CHANGELOG.md under "Decision behaviour"
(what comes out otherwise, and for whom), then make the archive again with `make golden` and commit both."""


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The archive, unpacked."""
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(GOLDEN) as packed:
        packed.extractall(folder)
    return Archive(folder)


@pytest.fixture(scope="module")
def decisions(golden: Archive) -> list[Row]:
    """Its decisions."""
    return [row for segment in golden.segments() for row in rows_of(golden.read(segment)) if row.decision_id]


def test_golden_decisions_are_made_again_byte_for_byte(golden: Archive, decisions: list[Row]) -> None:
    """Every one of them, by the very policies that made them."""
    account = replay_all(golden.url, {}, selected(golden, Asked()), 1, lambda _done: None)
    assert not account.differ, advice(account)
    assert not account.not_replayed, account.problems
    assert account.equal == len(decisions)


def advice(account: Account) -> str:
    """What to do about decisions that differ."""
    one = account.differing[0]
    fields = [f"  {d.field}: recorded {d.recorded!r}, now {d.replayed!r} ({d.cause})" for d in one.fields[:5]]
    first = "\n".join([f"decision {one.decision_id} of policy {one.policy_id}", *fields, *one.hints])
    return ADVICE.format(differ=account.differ, all=account.looked_at, first=first)


def test_golden_decisions_are_of_every_sort(golden: Archive, decisions: list[Row]) -> None:
    """Each scene, rung, outcome, hold, limit change and price, challenger and champion, links of each grain, lists that
    moved, logs that were trimmed, answers of the journal: what is not in the archive is not guarded by it."""

    def seen(field: str) -> set[Any]:
        return {getattr(row, field) for row in decisions}

    assert len(decisions) >= 300
    assert seen("scene") == set(SCENES)
    assert seen("rung") == {"full", "no_links", "no_score", "static"}
    assert seen("outcome") == {"approve", "hold", "reprice", "limit_change"}
    assert seen("hold") == {None, "step_up", "review", "block"}
    assert seen("limit_kind") == {None, "freeze", "cut", "draw_cap", "raise"}
    assert {"service", "journal"} <= seen("origin")
    assert len(seen("policy_id")) >= 6
    prices = [(row.apr_from_bps or 0, row.apr_to_bps) for row in decisions if row.apr_to_bps is not None]
    assert {after > before for before, after in prices} == {True, False}
    answers = [orjson.loads(row.answer or b"") for row in decisions]
    for part in ("alerts", "offers", "tags", "tier", "renewal", "missing"):
        assert any(answer[part] for answer in answers), part
    assert {answer["renewal"] for answer in answers} == {None, "auto", "manual", "decline"}
    rests = [orjson.loads(row.rest or b"") for row in decisions]
    assert {card[2] for rest in rests for card in rest["scorecards"].values()} == {"champion", "challenger"}
    assert any(rest["bounded"] for rest in rests)
    sources = {reason["source"] for answer in answers for reason in answer["reasons"]}
    assert {"ledger:history_trimmed", "rule:on_list"} <= sources
    cells = {cell.partition(":")[0] for row in decisions for cell in row.cells or ()}
    assert {"fallback", "by_intent", "size"} <= cells
    changes = [row for segment in golden.segments() for row in rows_of(golden.read(segment))]
    assert any(row.header for row in changes), "no log was trimmed"

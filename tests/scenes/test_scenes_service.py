"""Reviews through the service: what they leave in the log, who asks again, and two at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from conftest_service import LINE, Clock, Run, Started, ask, decide
from scene_cases import FILES, review

from decision_service.core.errors import Conflict, InvalidInput, NotFound
from decision_service.core.event import KINDS, words_of
from decision_service.core.limits import DAY_MS
from decision_service.core.state import CustomerState
from decision_service.linker import Linker
from decision_service.recording import Retention
from decision_service.service import DecisionService
from decision_service.store.memory import MemoryStore
from decision_service.store.open import open_store
from decision_service.store.redis import RedisStore
from decision_service.telemetry.exposition import render


async def answered(service: Started, request: Any) -> dict[str, Any]:
    """The answer to one question."""
    answer: dict[str, Any] = orjson.loads((await decide(service, request)).body)
    return answer


async def kinds_in_log(service: Started) -> list[int]:
    """The kinds of everything in the customer's log."""
    state = await service.store.read("c-1", None, 1.0)
    return [int(kind) for kind in words_of(state.log)[1:, 4] & 0xFF]


def test_a_review_leaves_only_what_it_changed(run: Run) -> None:
    """No drawdown; a raise, a price; and nothing at all where nothing changes."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        told = [
            await answered(service, review(scene, counterparty_id="m-1")) for scene in ("marketing", "limit", "price")
        ]
        assert [(a["scene"], a["decision"], a["approved_amount"]) for a in told] == [
            ("marketing", "approve", 0.0), ("limit", "limit_change", 0.0), ("price", "reprice", 0.0),
        ]  # fmt: skip
        assert await kinds_in_log(service) == [KINDS["limit_change"], KINDS["rate_change"]]
        assert [await service.store.waiting_links(n, 0, 1.0) for n in range(16)] == [(0, [])] * 16

    run(test)


def test_a_second_review_finds_the_raise_of_the_first(run: Run, clock: Clock) -> None:
    """Whoever asks again under another id waits for the cooling-off."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        first = await answered(service, review("limit", "l-1"))
        assert first["limit_change"]["to"] == 1_100.0
        assert (await answered(service, review("limit", "l-2")))["limit_change"] is None
        clock.ms += 181 * DAY_MS
        assert (await answered(service, review("limit", "l-3")))["limit_change"]["kind"] == "raise"

    run(test)


def test_a_warning_tier_is_in_the_log_for_the_next_review(run: Run, clock: Clock) -> None:
    """It takes force at once, is asserted again at most once a day, outlives its cause by its dwell, and falls."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        assert (await answered(service, review("warning", "w-0")))["tier"] is None
        await decide(service, ask("d-1"))
        tiers, recorded = [], []
        for n, days in enumerate((0, 0, 40, 30), 1):
            clock.ms += days * DAY_MS
            tiers.append((await answered(service, review("warning", f"w-{n}")))["tier"])
            recorded.append((await kinds_in_log(service)).count(KINDS["other"]))
        assert tiers == [
            {"from": "none", "to": "yellow", "indicators": ["busy"]},
            {"from": "yellow", "to": "yellow", "indicators": ["busy"]},
            {"from": "yellow", "to": "yellow", "indicators": []},
            {"from": "yellow", "to": "none", "indicators": []},
        ]
        assert recorded == [1, 1, 1, 2]

    run(test)


def test_what_becomes_of_a_renewal_is_answered(run: Run) -> None:
    """Null in every other scene."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        told = [(await answered(service, review(scene)))["renewal"] for scene in ("renewal", "limit")]
        assert told == ["decline", None]

    run(test)


def test_a_retry_of_a_review_gets_the_same_answer(run: Run) -> None:
    """Byte for byte; the same id in another scene is another question."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        first, again = [await decide(service, review("limit", "l-1")) for _ in range(2)]
        assert (first.body, first.replayed, again.replayed, again.scene) == (again.body, False, True, "limit")
        assert await kinds_in_log(service) == [KINDS["limit_change"]]

    run(test)


def test_a_drawdown_may_follow_a_review_and_be_explained_beside_it(run: Run) -> None:
    """Both are stored with their traces; a preview of a review records nothing."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        asked = review("warning", "w-1")
        seen = orjson.loads(await service.decisions.preview(asked, 0.0))
        with pytest.raises(NotFound):
            await service.decisions.decision(seen["decision_id"])
        drawn = await decide(service, ask("d-1"))
        told = orjson.loads((await decide(service, asked)).body)
        assert told["alerts"] == [{"tier": "yellow", "indicator": "busy"}]
        for decision_id, rules in (
            (told["decision_id"], ["busy"]),
            (drawn.decision_id, ["burst", "over_limit", "otherwise"]),
        ):
            trace = orjson.loads(await service.decisions.decision(decision_id))["trace"]
            assert [rule["id"] for rule in trace["rules"]] == rules

    run(test)


def test_a_scene_without_rules_is_refused_and_claims_nothing(run: Run, rules: Any) -> None:
    """The facility it brought stays free, and a decision of a scene that went away is still answered."""

    async def test(service: Started) -> None:
        other = replace(LINE, facility_id="f-2", customer_id="c-2")
        await service.customers.put_facility(LINE)
        first = await decide(service, review("limit", "l-1"))
        (rules / "limit.yaml").unlink()
        assert await service.active.reload()
        with pytest.raises(InvalidInput) as refused:
            await decide(service, review("limit", "l-2", customer_id="c-2", facility_id="f-2", facility=other))
        assert refused.value.field == "scene"
        assert await service.store.facility_owner("f-2", 1.0) is None
        assert (await decide(service, review("limit", "l-1"))).body == first.body

    run(test)


class ForgetsDecisions(MemoryStore):
    """A store whose decisions have expired by the time that they are asked for."""

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        return (await super().read(customer_id, decision_id, timeout_s))._replace(decision=None)


def test_a_raise_whose_answer_is_gone_is_not_given_again(run: Run) -> None:
    """Its record is in the log though the decision is no longer kept."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        first = await decide(service, review("limit", "l-1"))
        assert not first.replayed
        with pytest.raises(Conflict, match="long ago"):
            await decide(service, review("limit", "l-1"))

    run(test, ForgetsDecisions(partitions=16))


@pytest.mark.fault("F08")
def test_a_rule_that_goes_wrong_is_counted_by_name_and_the_others_run(run: Run, rules: Any) -> None:
    """Here for want of a list that can be searched: it takes its `on_null`, and the decision is made all the same."""
    listed = (
        "  - {id: listed, when: request.customer_id in list.block, on_null: hold, then: {hold: block}, reason: RC01}\n"
    )
    (rules / "limit.yaml").write_text(FILES["limit.yaml"].replace("rules:\n", "rules:\n" + listed))

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        assert (await decide(service, review("limit", "l-1"))).outcome == "limit_change"
        assert "rules_wrong_total{" not in render(service.meters).decode()
        poisoned: Any = {"list.block": 1}
        service.active.policy = replace(service.active.current, rule_lists=poisoned)
        for n in range(2):
            told = await answered(service, review("limit", f"l-{n + 2}"))
            assert (told["decision"], told["hold"]["kind"]) == ("hold", "review")
        assert 'rules_wrong_total{rule="listed",scene="limit"} 2.0' in render(service.meters).decode()

    run(test)


@pytest.fixture
def shared(valkey: str) -> Any:
    """Makes a store of sixteen partitions on the real server, closed by who uses it."""

    def opened() -> RedisStore:
        store = open_store(valkey, partitions=16)
        assert isinstance(store, RedisStore)
        return store

    return opened


def test_two_reviews_at_once_never_both_raise(run: Run, shared: Any) -> None:
    """Of two services on one real store: the conditional commit lets one raise, the other decides again on what is
    there then."""

    async def test(service: Started) -> None:
        store = shared()
        linker = Linker(store, service.meters, service.customers.now_ms, 16, 1_024, 400 * DAY_MS)
        retention = Retention(400 * DAY_MS, 4_096, 256)
        now_ms = service.customers.now_ms
        other = DecisionService(store, service.active, service.meters, 16, retention, linker, 1_000, now_ms)
        try:
            for n in range(12):
                line = replace(LINE, facility_id=f"f-{n}", customer_id=f"c-{n}")
                await service.customers.put_facility(line)
                whose = {"customer_id": line.customer_id, "facility_id": line.facility_id}
                answers = await asyncio.gather(
                    decide(service, review("limit", "l-1", **whose)),
                    decide(replace(service, decisions=other), review("limit", "l-2", **whose)),
                )
                assert sorted(answer.outcome for answer in answers) == ["approve", "limit_change"]
        finally:
            await store.close()

    run(test, shared())

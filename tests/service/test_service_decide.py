"""Read, decide, commit: one answer to one question, and no limit lent twice."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import orjson
import pytest
from conftest_service import LINE, T0_MS, Clock, Run, Started, ask, decide

from decision_service.core.errors import (
    Conflict,
    DeadlineExceeded,
    Draining,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    RequestIdReused,
    StoreUnavailable,
    VersionMoved,
)
from decision_service.core.event import APPROVED, DRAWDOWN, KINDS, Event, drawdown_key, event_key, words_of
from decision_service.core.facility import Attribute
from decision_service.core.limits import DAY_MS, FACILITIES_PER_CUSTOMER_MAX
from decision_service.core.request import PostedEvent
from decision_service.core.retention import trim_front
from decision_service.core.state import CustomerState
from decision_service.feature_question import FeatureQuestion
from decision_service.store import Commit
from decision_service.store.memory import MemoryStore


@pytest.mark.fault("D01")
def test_a_repeat_gets_the_stored_bytes_and_changes_nothing(run: Run) -> None:
    """The second call with one request_id is answered byte for byte, marked as replayed, and appends no record."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        first = await decide(service, ask("r-1"))
        again = await decide(service, ask("r-1"))
        state = await service.store.read("c-1", None, 1)
        assert (first.replayed, again.replayed) == (False, True)
        assert first.body == again.body
        assert len(words_of(state.log)) == 2

    run(test)


@pytest.mark.fault("D03")
def test_a_request_id_cannot_ask_two_questions(run: Run) -> None:
    """Other content under a used request_id is refused and changes nothing."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        first = await decide(service, ask("r-1"))
        with pytest.raises(RequestIdReused):
            await decide(service, ask("r-1", 100_01))
        assert (await decide(service, ask("r-1"))).body == first.body

    run(test)


@pytest.mark.fault("D02")
def test_fifty_at_once_with_one_request_id_get_one_decision(run: Run) -> None:
    """Concurrent duplicates are decided once and all get the same bytes."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        answers = await asyncio.gather(*(decide(service, ask("r-1")) for _ in range(50)))
        assert len({a.body for a in answers}) == 1
        assert sum(not a.replayed for a in answers) == 1

    run(test)


@pytest.mark.fault("D05")
def test_a_limit_is_never_lent_twice(run: Run) -> None:
    """Two hundred concurrent drawdowns of 100 on a limit of 1,000 approve exactly ten."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        answers = await asyncio.gather(*(decide(service, ask(f"r-{i}")) for i in range(200)))
        assert sum(orjson.loads(a.body)["approved_amount"] for a in answers) == 1_000
        view = await service.customers.facility("f-1")
        assert (view.position.reserved_minor, view.position.available_minor) == (1_000_00, 0)

    run(test)


@pytest.mark.fault("D13")
def test_a_limit_is_not_lent_twice_by_dating_requests_back(run: Run) -> None:
    """Requests dated weeks apart and long ago reserve from when they were decided: the second finds nothing left."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        days_back = (25, 20, 10, 3, 1, 0)
        asked = [ask(f"r-{d}", 900_00, occurred_at_ms=T0_MS - d * DAY_MS) for d in days_back]
        answers = [orjson.loads((await decide(service, request)).body) for request in asked]
        assert [a["decision"] for a in answers] == ["approve"] + ["hold"] * 5

    run(test)


@pytest.mark.fault("D13")
def test_a_snapshot_dated_ahead_does_not_hide_what_is_booked_next(run: Run, clock: Clock) -> None:
    """A snapshot's as_of is now at the latest, by PUT and in a request."""

    async def test(service: Started) -> None:
        ahead = replace(LINE, as_of_ms=T0_MS + 299_000)
        answer = await decide(service, ask("r-1", 900_00, facility=ahead))
        await service.customers.put_facility(ahead)
        clock.ms += 2
        await service.customers.record_events([settlement(0, "s-1", answer.decision_id, 1)])
        assert (await service.customers.facility("f-1")).position.outstanding_minor == 900_00

    run(test)


def test_a_facility_keeps_its_currency(run: Run) -> None:
    """A snapshot in another currency, sent with a request, is refused."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        other = replace(LINE, currency="JPY", as_of_ms=LINE.as_of_ms + 1)
        with pytest.raises(InvalidInput, match="CNY"):
            await decide(service, ask("r-1", currency="JPY", facility=other))

    run(test)


def test_settling_and_repaying_move_the_position(run: Run) -> None:
    """A booked draw is outstanding, a cancelled one is free again, a repayment makes room."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        first, second = [await decide(service, ask(f"r-{i}", 300_00)) for i in range(2)]
        outcomes = await service.customers.record_events(
            [settlement(0, "s-1", first.decision_id, 1), settlement(1, "s-2", second.decision_id, 5)]
        )
        assert [o.status for o in outcomes.values()] == ["accepted", "accepted"]
        position = (await service.customers.facility("f-1")).position
        assert (position.outstanding_minor, position.reserved_minor) == (300_00, 0)

    run(test)


def settlement(index: int, event_id: str, decision_id: str, status: int) -> PostedEvent:
    """A settlement event of a decision."""
    event = Event(event_key(event_id), DRAWDOWN, status, T0_MS + 1, settles=drawdown_key(decision_id))
    return PostedEvent(index, event_id, "c-1", decision_id, event, b"{}")


def test_a_preview_is_the_answer_of_the_real_call_and_records_nothing(run: Run) -> None:
    """Preview and decision agree on everything but the time they took."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        preview = orjson.loads(await service.decisions.preview(ask("r-1"), time.perf_counter()))
        assert len(words_of((await service.store.read("c-1", None, 1)).log)) == 1
        real = orjson.loads((await decide(service, ask("r-1"))).body)
        trace = preview.pop("trace")
        assert {**preview, "latency_ms": 0} == {**real, "latency_ms": 0}
        assert trace["features"]["vel_prior_10m"]["value"] == 0

    run(test)


def test_a_decision_explains_itself_afterwards(run: Run) -> None:
    """The stored trace shows the request, the features, and every rule's verdict with the values it saw."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        answer = await decide(service, ask("r-1", 2_000_00))
        told = orjson.loads(await service.decisions.decision(answer.decision_id))
        rules = {rule["id"]: rule for rule in told["trace"]["rules"]}
        assert rules["over_limit"]["verdict"] == "fired"
        assert rules["over_limit"]["values"] == {"facility.available": 1_000.0, "request.amount": 2_000.0}
        assert rules["burst"]["verdict"] == "silent"
        assert told["reasons"] == [
            {"code": "RC04", "text": "The amount exceeds the available limit", "source": "rule:over_limit"}
        ]
        with pytest.raises(NotFound):
            await service.decisions.decision("d" + "0" * 35)

    run(test)


def test_a_sent_snapshot_is_used_and_stored_in_the_same_commit(run: Run) -> None:
    """A facility first seen in a request works without a PUT; an older snapshot later changes nothing."""

    async def test(service: Started) -> None:
        with pytest.raises(InvalidInput, match="unknown facility"):
            await decide(service, ask("r-0"))
        await decide(service, ask("r-1", facility=LINE))
        older = replace(LINE, limit_minor=1, as_of_ms=LINE.as_of_ms - 1)
        answer = await decide(service, ask("r-2", facility=older))
        assert orjson.loads(answer.body)["decision"] == "approve"
        assert (await service.customers.facility("f-1")).facility == LINE

    run(test)


def test_a_facility_of_another_customer_is_refused(run: Run) -> None:
    """Neither PUT nor a snapshot in a request moves a facility to another customer."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        with pytest.raises(Conflict):
            await service.customers.put_facility(replace(LINE, customer_id="c-2"))
        stolen = replace(LINE, customer_id="c-2")
        with pytest.raises(InvalidInput, match="another customer"):
            await decide(service, ask("r-1", customer_id="c-2", facility=stolen))

    run(test)


def test_a_facility_too_many_is_refused_and_stays_free_for_others(run: Run) -> None:
    """What a refused call asked for is not claimed: another customer may have the facility."""

    async def test(service: Started) -> None:
        for i in range(FACILITIES_PER_CUSTOMER_MAX):
            await service.customers.put_facility(replace(LINE, facility_id=f"f-{i}"))
        with pytest.raises(Conflict, match="at most"):
            await service.customers.put_facility(replace(LINE, facility_id="g-1"))
        view = await service.customers.put_facility(replace(LINE, facility_id="g-1", customer_id="c-2"))
        assert view.facility.customer_id == "c-2"

    run(test)


def test_the_currency_of_a_facility_is_for_ever(run: Run) -> None:
    """A later snapshot in another currency would make 100.00 of the log 10,000 of the other: it is refused."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        with pytest.raises(InvalidInput, match="the facility is in CNY") as refused:
            await service.customers.put_facility(replace(LINE, currency="JPY", as_of_ms=LINE.as_of_ms + 1))
        assert refused.value.field == "currency"
        assert (await service.customers.facility("f-1")).facility == LINE

    run(test)


@pytest.mark.fault("B19")
def test_a_position_that_rests_on_trimmed_history_is_unknown_and_held(run: Run) -> None:
    """When retention has dropped records younger than the snapshot, what is available is not known: a review."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        state = await service.store.read("c-1", None, 1)
        forgotten = Event(key=1, kind=KINDS["login"], status=1, occurred_at_ms=LINE.as_of_ms + 1).pack()
        version = await service.store.commit(Commit("c-1", state.version, forgotten), 1)
        trimmed = trim_front(state.log + forgotten, 1)
        await service.store.commit(Commit("c-1", version, trimmed_log=trimmed), 1)
        answer = orjson.loads((await decide(service, ask("r-1"))).body)
        assert (answer["decision"], answer["reasons"][0]["source"]) == ("hold", "ledger:history_trimmed")

    run(test)


def test_a_lost_commit_reply_is_asked_for_again_and_not_decided_again(run: Run) -> None:
    """When the reply of a commit that happened is lost, the caller still gets that very decision."""

    class LosesReplies(MemoryStore):
        async def commit(self, commit: Commit, timeout_s: float) -> int:
            await super().commit(commit, timeout_s)
            raise OutcomeUnknown("no reply")

    async def test(service: Started) -> None:
        answer = await decide(service, ask("r-1", facility=LINE))
        state = await service.store.read("c-1", answer.decision_id, 1)
        assert len(words_of(state.log)) == 2
        assert state.decision is not None
        assert answer.body in state.decision

    run(test, LosesReplies(partitions=16))


def test_a_commit_whose_outcome_stays_unknown_is_no_answer(run: Run) -> None:
    """When the commit was lost and nothing is stored, the caller is told so, and a retry is decided properly."""

    class LosesRequests(MemoryStore):
        lost = 0

        async def commit(self, commit: Commit, timeout_s: float) -> int:
            self.lost += 1
            if self.lost == 1:
                raise OutcomeUnknown("no reply")
            return await super().commit(commit, timeout_s)

    async def test(service: Started) -> None:
        with pytest.raises(OutcomeUnknown):
            await decide(service, ask("r-1", facility=LINE))
        assert orjson.loads((await decide(service, ask("r-1", facility=LINE))).body)["decision"] == "approve"

    run(test, LosesRequests(partitions=16))


def test_a_moved_version_is_decided_again_on_what_is_there_now(run: Run) -> None:
    """A change between read and commit is seen: the second round decides on the new state."""

    class Interrupted(MemoryStore):
        done = False

        async def commit(self, commit: Commit, timeout_s: float) -> int:
            if commit.decision is not None and not self.done:
                self.done = True
                rival = Event(99, DRAWDOWN, APPROVED, T0_MS, amount_minor=950_00, facility=rival_facility())
                state = await self.read("c-1", None, 1)
                await super().commit(Commit("c-1", state.version, records=rival.pack()), 1)
            return await super().commit(commit, timeout_s)

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        assert orjson.loads((await decide(service, ask("r-1"))).body)["decision"] == "hold"

    run(test, Interrupted(partitions=16))


def rival_facility() -> int:
    """The key of the line."""
    from decision_service.core.event import facility_key

    return facility_key("f-1")


def test_a_spent_deadline_is_an_error_and_no_decision(run: Run) -> None:
    """A request that arrives too late is refused before anything is read; nothing is recorded."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        with pytest.raises(DeadlineExceeded):
            await service.decisions.decide(ask("r-1"), 20, time.perf_counter() - 1)
        assert len(words_of((await service.store.read("c-1", None, 1)).log)) == 1

    run(test)


def test_a_store_that_is_away_is_no_approval(run: Run) -> None:
    """An unavailable store is an error by the deadline; it is counted by its code."""

    class Away(MemoryStore):
        async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
            raise StoreUnavailable("connection refused")

    async def test(service: Started) -> None:
        with pytest.raises(StoreUnavailable):
            await decide(service, ask("r-1"))

    run(test, Away(partitions=16))


def test_a_customer_changed_without_end_is_given_up_in_bounded_rounds(run: Run) -> None:
    """A version that moves on every commit ends in an error after a bounded number of rounds."""

    class Contended(MemoryStore):
        rounds = 0

        async def commit(self, commit: Commit, timeout_s: float) -> int:
            if commit.decision is None:
                return await super().commit(commit, timeout_s)
            self.rounds += 1
            raise VersionMoved("moved")

    store = Contended(partitions=16)

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        with pytest.raises(DeadlineExceeded):
            await decide(service, ask("r-1"))

    run(test, store)
    assert store.rounds == 16


def test_while_draining_nothing_new_is_decided(run: Run) -> None:
    """After the drain has begun a new request is sent elsewhere."""

    async def test(service: Started) -> None:
        service.decisions.draining = True
        with pytest.raises(Draining):
            await decide(service, ask("r-1"))

    run(test)


def test_a_listed_customer_is_blocked_within_a_second(run: Run) -> None:
    """A value put on a list is live without a reload, under another policy id, and is off again when taken off."""

    async def outcome(service: Started, request_id: str, wanted: str) -> str:
        for round_ in range(20):
            answer = orjson.loads((await decide(service, ask(f"{request_id}-{round_}", 1_00))).body)
            if answer["decision"] == wanted:
                return str(answer["policy"]["id"])
            await asyncio.sleep(0.05)
        raise AssertionError(f"not {wanted} within a second")

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        before = await outcome(service, "a", "approve")
        assert await service.customers.change_list("block", "c-1", True)
        during = await outcome(service, "b", "hold")
        assert await service.customers.change_list("block", "c-1", False)
        assert await outcome(service, "c", "approve") == before != during
        with pytest.raises(NotFound):
            await service.customers.change_list("nowhere", "c-1", True)

    run(test)


def test_an_undeclared_attribute_is_refused_with_the_nearest_name(run: Run) -> None:
    """Only declared attributes are taken."""

    async def test(service: Started) -> None:
        with pytest.raises(InvalidInput, match="no such attribute"):
            await service.customers.put_attributes("c-1", {"nope": Attribute(1.0, T0_MS)})

    run(test)


def test_features_can_be_looked_at_now_and_at_an_instant(run: Run, clock: Clock) -> None:
    """The features call shows value, definition and, for null, the cause; unknown customers and names are errors."""

    async def test(service: Started) -> None:
        with pytest.raises(NotFound):
            await service.customers.features.values(FeatureQuestion("c-1"), None)
        await service.customers.put_facility(LINE)
        await decide(service, ask("r-1"))
        clock.ms += 1
        told = await service.customers.features.values(FeatureQuestion("c-1"), ["vel_prior_10m"])
        assert told["features"]["vel_prior_10m"]["value"] == 1
        earlier = await service.customers.features.values(FeatureQuestion("c-1", T0_MS - 1), None)
        assert earlier["features"]["vel_prior_10m"]["value"] == 0
        with pytest.raises(InvalidInput, match="vel_prior_10m"):
            await service.customers.features.values(FeatureQuestion("c-1"), ["vel_prior_10min"])

    run(test)

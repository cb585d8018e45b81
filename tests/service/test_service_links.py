"""Decisions that look at what all customers do: read in time or done without, linked after the commit, once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest_service import FEATURES, LINE, RULES, T0_MS, Clock, Run, Started, ask, decide, write_policy

from decision_service.api.instants import format_instant
from decision_service.api.parse import Clock as Bounds
from decision_service.api.parse import parse_event
from decision_service.core.errors import StoreUnavailable, VersionMoved
from decision_service.core.event import read_header, words_of
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.links import customer_key, log_name, log_names
from decision_service.core.request import DecisionRequest
from decision_service.store import Commit, Store
from decision_service.store.link_reads import LinkReads
from decision_service.store.memory import MemoryStore

LINKED = f"""{FEATURES}
  payers: {{agg: distinct, of: draw, by: customer, grain: payee, windows: [24h], null: [Z, X],
    unit: n, en: "customers of the payee", zh: "同收款方客户数"}}
  fraud: {{agg: share, of: fraudulent, among: draw, grain: payee, delay: 7d, windows: [30d], null: [D, X],
    unit: ratio, en: "fraud share", zh: "欺诈率"}}
""".replace("segments:\n", 'segments:\n  fraudulent: kind == "drawdown" and label == "fraud"\n')
MULE = """
  - id: mule
    when: payers_24h >= 2
    on_null: skip
    then: {hold: review}
    reason: RC11
  - id: fraudulent_payee
    when: fraud_30d > 0.1
    on_null: skip
    then: {hold: block}
    reason: RC11
  - id: otherwise
"""
NAMED = {"device_id": "d-1", "counterparty_id": "m-1", "ip": "203.0.113.7"}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The small policy with two rules about payees."""
    return write_policy(tmp_path / "rules", RULES.replace("\n  - id: otherwise\n", MULE), LINKED)


def ask_of(customer: int, request_id: str = "r-1", **more: Any) -> DecisionRequest:
    """A drawdown of a customer that names a device, a payee and an address."""
    named = {"customer_id": f"c-{customer}", "facility_id": f"f-{customer}", **NAMED, **more}
    return ask(request_id, **named, body=orjson.dumps({k: v for k, v in named.items() if isinstance(v, str)}))


async def open_lines(service: Started, *customers: int) -> None:
    for customer in customers:
        line = replace(LINE, facility_id=f"f-{customer}", customer_id=f"c-{customer}")
        await service.customers.put_facility(line)


async def told(service: Started, request: DecisionRequest, budget_ms: int = 2_000) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads((await decide(service, request, budget_ms)).body)
    return answer


async def post(service: Started, **event: Any) -> str:
    """Post one event; what became of it."""
    body = {"event_id": "e-1", "customer_id": "c-1", "kind": "label", "occurred_at": format_instant(T0_MS), **event}
    posted = parse_event(body, 0, Bounds(T0_MS + 90 * DAY_MS, 0, DAY_MS))
    return (await service.customers.record_events([posted]))[0].status


async def customers_in(store: Store, name: bytes) -> list[int]:
    """The customer of each record of an entity's log."""
    log = (await store.read_links([name], 1).logs())[name[0]]
    assert log is not None
    return list(words_of(log)[1:, 6].view("u8"))


def test_a_third_customer_meets_the_payee_of_two_others(run: Run) -> None:
    """Two customers pay one payee; the third decision sees both, and the first saw nobody."""

    async def test(service: Started) -> None:
        await open_lines(service, 1, 2, 3)
        answers = []
        for customer in (1, 2, 3):
            answers.append(await told(service, ask_of(customer)))
            await service.linker.flush()
        assert [a["decision"] for a in answers] == ["approve", "approve", "hold"]
        assert {a["rung"] for a in answers} == {"full"}
        assert answers[2]["reasons"][0]["source"] == "rule:mule"
        for name in log_names("d-1", "m-1", "203.0.113.200"):
            assert await customers_in(service.store, name) == [customer_key(f"c-{n}") for n in (1, 2, 3)]

    run(test)


def test_a_request_without_a_payee_needs_no_log(run: Run) -> None:
    """Who names no payee has null features of payees and the full rung; nothing waits to be linked."""

    async def test(service: Started) -> None:
        await open_lines(service, 1)
        answer = await told(service, ask_of(1, device_id=None, counterparty_id=None, ip=None))
        assert (answer["decision"], answer["rung"]) == ("approve", "full")
        for partition in range(16):
            assert await service.store.waiting_links(partition, 0, 1) == (0, [])

    run(test)


class SilentLogs(MemoryStore):
    """Entity logs never come: each read fails when its time is up. Remembers the times, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__(partitions=16)
        self.timeouts_s: list[float] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.commits_lost = 0

    def read_links(self, names: Iterable[bytes], timeout_s: float) -> LinkReads:
        self.timeouts_s.append(timeout_s)
        loop = asyncio.get_running_loop()
        reads = []
        for name in names:
            future: asyncio.Future[Any] = loop.create_future()
            loop.call_later(timeout_s, _fail, future)
            self.futures.append(future)
            reads.append((name[0], future))
        return LinkReads(reads)

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        if self.commits_lost:
            self.commits_lost -= 1
            raise VersionMoved("the customer's state changed since it was read")
        return await super().commit(commit, timeout_s)


def _fail(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(StoreUnavailable("no reply from the store in time"))


def test_an_unread_log_is_a_lower_rung_and_no_late_answer(run: Run) -> None:
    """Without the payee's log its features are null, the rung says so, and no more is waited than the budget of links
    or half of the time there is."""
    store = SilentLogs()

    async def test(service: Started) -> None:
        await open_lines(service, 1)
        answer = await told(service, ask_of(1), 400)
        assert (answer["decision"], answer["rung"]) == ("approve", "no_links")
        assert 0 < store.timeouts_s[0] <= 0.200
        await told(service, ask_of(1, "r-2"), 5_000)
        assert 1.0 < store.timeouts_s[1] <= 2.5
        assert store.futures[1].cancelled(), "given up after the budget of a second, long before its own time-out"
        trace = orjson.loads(await service.decisions.decision(answer["decision_id"]))["trace"]
        assert trace["features"]["payers_24h"]["value"] is None
        names = service.meters.layout.names
        assert service.meters.totals().cells[names.index("links_missed payee")] == 2

    run(test, store)


def test_a_conflict_does_not_read_logs_again(run: Run) -> None:
    """Who has to read the customer again keeps what it knows of entities."""
    store = SilentLogs()

    async def test(service: Started) -> None:
        await open_lines(service, 1)
        store.commits_lost = 3
        answer = await told(service, ask_of(1), 400)
        assert (answer["rung"], len(store.timeouts_s)) == ("no_links", 1)

    run(test, store)


def test_a_repeat_waits_for_no_log(run: Run) -> None:
    """A stored answer is given without the logs that made it."""
    store = SilentLogs()

    async def test(service: Started) -> None:
        await open_lines(service, 1)
        first = await decide(service, ask_of(1), 400)
        again = await decide(service, ask_of(1), 5_000)
        assert again.body == first.body
        assert [future.cancelled() for future in store.futures] == [False, True]

    run(test, store)


def test_a_preview_sees_what_the_decision_would_see(run: Run) -> None:
    """A preview reads the same logs and leaves nothing to be linked."""

    async def test(service: Started) -> None:
        await open_lines(service, 1, 2)
        await decide(service, ask_of(1))
        await service.linker.flush()
        preview = orjson.loads(await service.decisions.preview(ask_of(2), time.perf_counter()))
        assert (preview["trace"]["features"]["payers_24h"]["value"], preview["rung"]) == (1, "full")
        await service.linker.flush()
        assert len(await customers_in(service.store, log_name("payee", "m-1"))) == 1

    run(test)


def test_events_reach_the_entities_they_name(run: Run) -> None:
    """An accepted event stands in the log of each entity it names; a duplicate adds nothing, a rejected one neither."""

    async def test(service: Started) -> None:
        event = {"kind": "login", **NAMED}
        assert [await post(service, **event) for _ in range(2)] == ["accepted", "duplicate"]
        assert await post(service, **{**event, "kind": "inquiry"}) == "rejected"
        assert await post(service, customer_id="c-2", **event) == "accepted"
        await service.linker.flush()
        for name in log_names(**NAMED):
            assert await customers_in(service.store, name) == [customer_key("c-1"), customer_key("c-2")]

    run(test)


def test_a_fraud_label_shows_in_the_payees_share_after_seven_days(run: Run, clock: Clock) -> None:
    """A settlement and a label that name only the decision reach the payee; a week later the share counts it."""

    async def test(service: Started) -> None:
        await open_lines(service, 1, 2, 3)
        paid = await told(service, ask_of(1))
        for customer, request_id in ((2, "r-1"), (2, "r-2")):
            await told(service, ask_of(customer, request_id))
        booked = {"kind": "drawdown", "status": "booked", "decision_id": paid["decision_id"]}
        assert await post(service, event_id="s-1", **booked) == "accepted"
        at = format_instant(T0_MS + DAY_MS)
        label = {"category": "fraud", "decision_id": paid["decision_id"], "occurred_at": at}
        assert await post(service, event_id="l-1", **label) == "accepted"
        await service.linker.flush()
        assert len(await customers_in(service.store, log_name("payee", "m-1"))) == 5
        for ms, share in ((7 * DAY_MS - 1, None), (7 * DAY_MS, 1 / 3), (37 * DAY_MS, None)):
            clock.ms = T0_MS + ms
            preview = orjson.loads(await service.decisions.preview(ask_of(3, f"r-{ms}"), time.perf_counter()))
            assert preview["trace"]["features"]["fraud_30d"]["value"] == share
            assert (preview["decision"] == "hold") == (share is not None)

    run(test)


def test_a_label_about_an_event_reaches_the_entities_it_names(run: Run) -> None:
    """A label on a posted payment names the payee itself, and its record there refers to that payment."""

    async def test(service: Started) -> None:
        named = {"counterparty_id": "m-1"}
        pay = {"kind": "purchase", "amount": 5, "currency": "CNY", **named}
        assert await post(service, event_id="p-1", **pay) == "accepted"
        assert await post(service, event_id="l-1", category="fraud", about_event_id="p-1", **named) == "accepted"
        await service.linker.flush()
        log = (await service.store.read_links([log_name("payee", "m-1")], 1).logs()).payee
        assert log is not None
        paid, label = words_of(log)[1:]
        assert label[7] == paid[1]

    run(test)


def test_a_busy_payee_is_bounded_and_flagged(run: Run) -> None:
    """A payee's log keeps its newest records and tells what it forgot; decisions go on."""

    async def test(service: Started) -> None:
        await open_lines(service, 1)
        for first in range(0, 2_000, 500):
            bounds = Bounds(T0_MS + DAY_MS, 0, DAY_MS)
            events = [
                {"event_id": f"e-{n}", "customer_id": f"c-{n % 7}", "kind": "login", "counterparty_id": "m-1",
                 "occurred_at": format_instant(T0_MS - HOUR_MS + n)}
                for n in range(first, first + 500)
            ]  # fmt: skip
            await service.customers.record_events([parse_event(e, i, bounds) for i, e in enumerate(events)])
            await service.linker.flush()
        log = (await service.store.read_links([log_name("payee", "m-1")], 1).logs()).payee
        assert log is not None
        base_seq, through_ms = read_header(log)
        assert base_seq > 0
        assert base_seq + len(words_of(log)) - 1 == 2_000
        assert T0_MS - HOUR_MS <= through_ms < T0_MS
        assert (await told(service, ask_of(1)))["rung"] == "full"

    run(test)

"""Customers written straight into the store are what the service reads of customers who posted the same."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import orjson
import pytest
from stalling_server import BENCHMARKS

from decision_service.api.parse import Clock, parse_decision, parse_event, read_events
from decision_service.core.event import KIND_NAMES, RECORD, STATUS_NAMES, device_key, facility_key, unpack, words_of
from decision_service.core.limits import DAY_MS, PARTITIONS, RECORD_BYTES
from decision_service.core.links import customer_key, is_entity_log, log_name
from decision_service.store import CustomerState, Store, keys
from decision_service.store.changes import apply
from decision_service.store.changes import unpack as unpack_entry
from load.population import HISTORY_KINDS, PAYEE_EVENTS, Population, entity_log, load
from load.traffic import DECISIONS_ONLY, MIXED, OPERATIONS, READ_AGAIN_AFTER, Traffic
from valkey_server import ValkeyServer

assert BENCHMARKS.is_dir()
NOW_MS = time.time_ns() // 1_000_000
SOME = Population("p", customers=30, events=40, payees=5)


@pytest.mark.anyio
async def test_the_service_reads_what_was_written(valkey_server: ValkeyServer, store: Store) -> None:
    load(SOME, valkey_server.port, NOW_MS)
    for number in (0, 17, 29):
        customer_id, facility_id = SOME.customer_id(number), SOME.facility_id(number)
        state = await store.read(customer_id, None, 5.0)
        assert state.facilities == {facility_id: SOME.facility(number, NOW_MS)}
        assert state.version != 0
        assert len(words_of(state.log)) == 1 + SOME.events
        assert await store.facility_owner(facility_id, 5.0) == customer_id
        name = log_name("device", SOME.device_id(number, 0))
        log = (await store.read_links((name,), 5.0).logs())[0]
        assert log is not None
        assert is_entity_log(log, 0)
        linked, own = (np.frombuffer(bytes_, RECORD, offset=RECORD_BYTES) for bytes_ in (log, state.log))
        mine = own[own["device"] == device_key(SOME.device_id(number, 0))]
        assert linked["key"].tolist() == mine["key"].tolist()
        assert set(linked.view(np.uint64).reshape(-1, 8)[:, 6].tolist()) == {customer_key(customer_id)}


@pytest.mark.anyio
async def test_a_population_that_is_told_can_be_rebuilt_from_the_outbox(
    valkey_server: ValkeyServer, store: Store
) -> None:
    load(replace(SOME, told=True), valkey_server.port, NOW_MS)
    for number in range(SOME.customers):
        customer_id = SOME.customer_id(number)
        entries = await store.read_outbox(keys.partition_of(customer_id, PARTITIONS), b"", 99, 5.0)
        changes = [unpack_entry(fields) for _, fields in entries]
        (mine,) = [change for change in changes if change.customer_id == customer_id]
        assert apply(CustomerState(), mine) == await store.read(customer_id, None, 5.0)


@pytest.mark.anyio
async def test_payees_have_the_events_of_all_their_customers(valkey_server: ValkeyServer, store: Store) -> None:
    load(SOME, valkey_server.port, NOW_MS)
    names = [log_name("payee", SOME.payee_id(payee)) for payee in range(SOME.payees)]
    logs = [(await store.read_links((name,), 5.0).logs())[name[0]] for name in names]
    assert sum(len(log) // RECORD_BYTES - 1 for log in logs if log) == SOME.customers * SOME.events
    _, lists = await store.read_lists(-1, 5.0)
    assert lists == {"allow": frozenset(SOME.shops)}
    for log in logs:
        assert log is not None
        instants = np.frombuffer(log, RECORD, offset=RECORD_BYTES)["occurred_at_ms"]
        assert (np.diff(instants) >= 0).all()


def test_a_history_is_in_order_and_says_what_ordinary_use_leaves() -> None:
    records = SOME.histories(0, 3, NOW_MS)
    assert records.shape == (3, SOME.events)
    assert (np.diff(records["occurred_at_ms"], axis=1) >= 0).all()
    assert records["occurred_at_ms"].max() <= NOW_MS - DAY_MS
    assert len(np.unique(records["key"])) == records.size
    events = [unpack(record.tobytes()) for record in records[1]]
    assert [KIND_NAMES[event.kind] for event in events[:5]] == list(HISTORY_KINDS)
    assert {STATUS_NAMES[event.status] for event in events} == {"booked"}
    assert {event.facility for event in events} == {facility_key(SOME.facility_id(1))}
    assert {event.device for event in events} == {device_key(SOME.device_id(1, device)) for device in range(2)}
    assert all(event.geo is not None and not event.settles for event in events)


def test_an_entity_log_keeps_the_newest_and_says_what_it_forgot() -> None:
    records = Population("p", 1, 1_500).histories(0, 1, NOW_MS)[0]
    log = entity_log("payee", records.tobytes())
    kept = np.frombuffer(log, RECORD, offset=RECORD_BYTES)
    assert len(kept) == 1_024
    assert kept["key"].tolist() == records["key"][-1_024:].tolist()
    base_seq, trimmed_through_ms = words_of(log)[0, 1:3].tolist()
    assert (base_seq, trimmed_through_ms) == (476, int(records["occurred_at_ms"][475]))
    assert PAYEE_EVENTS <= 1_024


def test_every_request_is_one_the_service_takes_and_none_comes_twice() -> None:
    clock = Clock(time.time_ns() // 1_000_000, 300_000, DAY_MS)
    requests, operations = Traffic("t", SOME, mix=MIXED, seed=3).stream().take(4_000)
    ids = []
    for request, operation in zip(requests, operations, strict=True):
        head, _, body = request.partition(b"\r\n\r\n")
        if OPERATIONS[operation] == "read":
            assert head.startswith(b"GET /v1/")
            assert not body
            continue
        assert b"content-length: %d" % len(body) in head
        if OPERATIONS[operation] == "event":
            event = read_events(body)[0]
            parse_event(event, 0, clock)
            ids.append(orjson.loads(body)["events"][0]["event_id"])
        else:
            parse_decision(body, clock)
            ids.append(orjson.loads(body)["request_id"])
    assert len(set(ids)) == len(ids)
    parts = Counter(operations)
    assert [parts[i] / 4_000 for i in range(4)] == pytest.approx(list(MIXED), abs=0.03)


def test_decisions_are_spread_over_customers_devices_and_payees() -> None:
    requests, _ = Traffic("t", Population("p", 500, 20), mix=DECISIONS_ONLY).stream().take(5_000)
    asked = [orjson.loads(request.partition(b"\r\n\r\n")[2]) for request in requests]
    assert len({one["customer_id"] for one in asked}) == 500
    assert len({one["counterparty_id"] for one in asked}) > 400
    usual = sum(one["device_id"].endswith("-0") for one in asked)
    assert 0.74 < usual / len(asked) < 0.84


def test_a_decision_is_read_when_it_is_surely_stored() -> None:
    traffic = Traffic("t", SOME, mix=(0.9, 0.0, 0.0, 0.1))
    requests, _ = traffic.stream().take(4 * READ_AGAIN_AFTER)
    first = next(i for i, request in enumerate(requests) if request.startswith(b"GET /v1/decisions/"))
    assert first >= READ_AGAIN_AFTER


def test_a_stream_is_the_same_every_time() -> None:
    traffic = Traffic("t", SOME, skew=0.99)
    assert traffic.stream().take(50) == traffic.stream().take(50)

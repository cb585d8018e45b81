"""The load generator records every request from the instant it was due, whatever the server does."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from stalling_server import DECIDED, StallingServer, answer, running

from load import figures, generator, schedule
from load.bed import ALLOWED, Ended, Generator
from load.plan import CONNECTION_LOST, NO_ANSWER, Plan, Raw
from load.population import Population
from load.traffic import MIXED, Traffic

TRAFFIC = Traffic("t", Population("t", 50, 0))
OK = answer(b"200 OK", DECIDED)


def nothing() -> None:
    """Neither tells nor waits."""


def run(server: StallingServer, **how: Any) -> Raw:
    """A run of the generator in this process."""
    with running(server):
        return generator.run(Plan(server.port, how.pop("traffic", TRAFFIC), **how), nothing, nothing)


def test_a_stall_is_counted_from_when_each_request_was_due() -> None:
    """Coordinated omission: of 100 requests due while the server stands still, two connections can send but two. All of
    them are late by what was left of the stall."""
    server = StallingServer(lambda _: OK, stall_at=20, stall_s=0.5)
    raw = run(server, seconds=1.0, due_ns=schedule.even(200, 1.0), connections=2)
    began, ended = server.stalled_ns
    stalled = (raw.due_ns >= began) & (raw.due_ns < ended)
    assert np.count_nonzero(stalled) >= 90
    assert (raw.done_ns[stalled] >= ended).all()
    late = (raw.done_ns - raw.due_ns)[stalled]
    assert (late >= ended - raw.due_ns[stalled]).all()
    assert np.count_nonzero(late >= 250_000_000) >= 45
    slow_services = figures.service_time_ns(raw) >= 250_000_000
    assert np.count_nonzero(slow_services) <= 2 * raw.waited.any()
    assert raw.waited[stalled].sum() >= np.count_nonzero(stalled) - 3
    assert not raw.failures
    assert server.requests == 200


def test_waiting_for_a_connection_is_no_lag_of_the_generator() -> None:
    server = StallingServer(lambda _: OK, stall_at=5, stall_s=0.3)
    raw = run(server, seconds=0.5, due_ns=schedule.even(100, 0.5), connections=1)
    lags = figures.send_lag_ns(raw)
    assert len(lags) == len(raw.due_ns) - raw.waited.sum()
    assert raw.waited.sum() >= 25
    assert (lags >= 0).all()


def test_nothing_is_sent_before_it_is_due() -> None:
    raw = run(StallingServer(lambda _: OK), seconds=0.3, due_ns=schedule.poisson(300, 0.3), connections=8)
    assert (raw.sent_ns >= raw.due_ns).all()
    assert (raw.done_ns > raw.sent_ns).all()


def test_a_closed_loop_keeps_every_connection_busy_and_counts_all_it_sent() -> None:
    server = StallingServer(lambda _: OK)
    raw = run(server, seconds=0.2, connections=4, prepared=10)
    assert len(raw.due_ns) == server.requests == raw.rungs["full"] == raw.outcomes["approve"]
    assert len(raw.due_ns) > 10, "further requests are rendered when the prepared ones are used up"
    assert (raw.due_ns == raw.sent_ns).all()
    assert len(set(server.bodies)) == server.requests, "no request is sent twice"


def test_an_answer_in_pieces_is_one_answer() -> None:
    raw = run(StallingServer(lambda _: OK, in_pieces=True), seconds=0.2, due_ns=schedule.even(50, 0.2), connections=2)
    assert raw.rungs == {"full": 10}
    assert not raw.failures


def test_problems_are_counted_by_status_and_type() -> None:
    busy = answer(b"503 Service Unavailable", b'{"type":"urn:decision-service:problem:too-busy","status":503}')
    server = StallingServer(lambda n: busy if n % 2 else OK)
    raw = run(server, seconds=0.2, due_ns=schedule.even(100, 0.2), connections=1)
    assert raw.failures == {"503 too-busy": 10}
    assert raw.rungs == {"full": 10}
    assert raw.failed.sum() == 10
    assert len(figures.latency_ns(raw)) == 10, "a refusal is fast: it is no latency"
    assert "too-busy" in raw.first_failure


def test_other_rungs_and_stored_answers_are_seen() -> None:
    static = answer(b"200 OK", DECIDED.replace(b"full", b"static"), b"Idempotency-Replayed: true\r\n")
    raw = run(StallingServer(lambda _: static), seconds=0.1, due_ns=schedule.even(100, 0.1), connections=1)
    assert raw.rungs == {"static": 10}
    assert raw.replayed == 10


def test_a_lost_connection_is_a_failure_and_is_opened_again() -> None:
    server = StallingServer(lambda n: b"" if n % 5 == 4 else OK)
    raw = run(server, seconds=0.5, due_ns=schedule.even(100, 0.5), connections=3)
    assert raw.failures == {CONNECTION_LOST: 10}
    assert raw.rungs == {"full": 40}


def test_a_connection_that_the_server_closes_after_an_answer_is_opened_again() -> None:
    closing = answer(b"200 OK", DECIDED, b"Connection: close\r\n")
    raw = run(StallingServer(lambda _: closing), seconds=0.2, due_ns=schedule.even(100, 0.2), connections=2)
    assert raw.rungs == {"full": 20}


def test_an_answer_that_never_comes_counts_until_it_is_given_up() -> None:
    server = StallingServer(lambda _: OK, stall_at=5, stall_s=1.5)
    raw = run(server, seconds=0.2, due_ns=schedule.even(50, 0.2), connections=2, drain_s=0.2)
    unanswered = raw.done_ns == 0
    assert raw.failures[NO_ANSWER] == unanswered.sum() > 0
    assert len(figures.latency_ns(raw)) == len(raw.due_ns)
    assert figures.latency_ns(raw)[unanswered].min() >= 200_000_000


def test_rejected_events_are_failures() -> None:
    events_only = Traffic("t", TRAFFIC.population, mix=(0.0, 0.0, 1.0, 0.0))
    rejected = answer(b"200 OK", b'{"accepted":0,"results":[{"status":"rejected"}]}')
    raw = run(StallingServer(lambda _: rejected), traffic=events_only, seconds=0.1, due_ns=schedule.even(100, 0.1))
    assert raw.failures == {"event rejected": 10}
    assert raw.rungs == {}


def test_the_process_runs_plan_after_plan_and_ends_with_its_input() -> None:
    """CPU time of the families it is told about is taken at the edges of the run."""
    server = StallingServer(lambda _: OK)
    with running(server), Generator(ALLOWED) as process:
        for number in range(2):
            traffic = Traffic(f"t{number}", TRAFFIC.population, mix=MIXED)
            families = {"server": [os.getpid()]}
            process.prepare(Plan(server.port, traffic, 0.1, schedule.even(100, 0.1), families=families))
            process.start()
            raw = process.result()
            assert len(raw.due_ns) == 10
            assert set(raw.cpu_s) == {"server", "generator"}
            assert set(raw.core_busy_s) >= ALLOWED
    assert server.requests == 20


def test_a_generator_that_stops_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Ended), Generator(ALLOWED) as process:
        process.prepare(Plan(1, TRAFFIC, 0.1))  # nobody listens on port 1
    assert "ConnectionRefusedError" in capfd.readouterr().err

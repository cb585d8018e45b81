"""Admission: what is let in, what is shed and how, who stands in line; the same over real connections."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from api_fakes import DRAWDOWN, office
from guarded_server import Guarded, call, draw, guarded_server, until

from decision_service.admission import COSTS_FIRST_S, FREE, RETRY_AFTER_S, Admission, Line, Rank, sleeps_of_thread
from decision_service.api.shedding import hinted_budget_s, rank_of, rank_of_line, whole_request

BUDGET_S = 0.02
BODY = orjson.dumps(DRAWDOWN)


def admission(draws: int = 0, cost_s: float = 0.001, caller: str = "a") -> Admission:
    """One with so many draws of one caller under way."""
    made = Admission(BUDGET_S)
    made.costs_s[Rank.DRAW] = cost_s
    for _ in range(draws):
        made.begin(Rank.DRAW, caller)
    return made


# --- who is let in ----------------------------------------------------------------------------------------------------


def test_a_draw_is_let_in_while_its_predicted_age_leaves_room() -> None:
    """14 ms of a budget of 20 ms may be taken by what is under way."""
    assert not admission(draws=13).sheds_draw("a", 0.0, BUDGET_S)
    assert admission(draws=15).sheds_draw("a", 0.0, BUDGET_S)


def test_the_age_of_the_bytes_counts() -> None:
    """Who waited 10 ms already has room for 4 ms of work before it."""
    assert not admission(draws=4).sheds_draw("a", 0.0095, BUDGET_S)
    assert admission(draws=5).sheds_draw("a", 0.0095, BUDGET_S)


def test_a_larger_budget_has_more_room() -> None:
    """The caller's own deadline decides."""
    assert admission(draws=30).sheds_draw("a", 0.0, BUDGET_S)
    assert not admission(draws=30).sheds_draw("a", 0.0, 0.05)


def test_some_are_always_let_in() -> None:
    """A wrong measurement cannot shed everything for ever: those that are let in correct it."""
    slow = admission(draws=FREE - 1, cost_s=1.0)
    assert not slow.sheds_draw("a", 0.0, BUDGET_S)
    slow.begin(Rank.DRAW, "a")
    assert slow.sheds_draw("a", 0.0, BUDGET_S)


def test_those_who_are_coming_count() -> None:
    """What was let in by the same look at the sockets is not forgotten before its task begins."""
    made = admission()
    for _ in range(15):
        made.expect()
    assert made.sheds_draw("a", 0.0, BUDGET_S)
    made.arrive()
    assert (made.here, made.coming) == (1, 14)


@pytest.mark.fault("E13")
def test_a_noisy_caller_is_shed_before_the_others() -> None:
    """With more than half of the queue taken, only who has more than a fair part is refused."""
    made = admission(draws=8, caller="noisy")
    assert not made.sheds_draw("noisy", 0.0, BUDGET_S)  # alone it may have it all
    made.begin(Rank.DRAW, "quiet")
    assert made.sheds_draw("noisy", 0.0, BUDGET_S)
    assert not made.sheds_draw("quiet", 0.0, BUDGET_S)
    assert not made.sheds_draw(None, 0.0, BUDGET_S)
    made.end(Rank.DRAW, "quiet")
    assert not made.sheds_draw("noisy", 0.0, BUDGET_S)


def test_a_smaller_budget_is_judged_once_it_is_known() -> None:
    """A deadline of 5 ms with 8 ms of work under way is told at once."""
    made = admission(draws=8)
    assert made.too_late(0.0, 0.005)
    assert not made.too_late(0.0, 0.01)


def test_there_is_a_bound_whatever_the_budget() -> None:
    """`requests_max` holds even if all of them could wait for hours."""
    made = Admission(3_600.0, requests_max=2)
    made.begin(Rank.OTHER)
    assert not made.full()
    made.expect()
    assert made.full()
    assert made.crowded()


def test_those_who_are_shed_together_come_back_apart() -> None:
    """Retry-After differs from one to the next."""
    made = admission()
    assert {made.retry_after_s() for _ in range(9)} == set(RETRY_AFTER_S)


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.fault("E13")
async def test_callers_in_line_take_turns() -> None:
    """Three of one, then one of another: the other is second."""
    line = Line()
    places = {name: line.join(name[0]) for name in ("a1", "a2", "a3", "b1")}
    order = []
    for _ in range(4):
        line.call_next()
        order += [name for name, place in places.items() if place.done() and name not in order]
    assert order == ["a1", "b1", "a2", "a3"]
    assert not line.call_next()


@pytest.mark.anyio
@pytest.mark.fault("E13")
async def test_what_is_behind_the_draws_waits_for_its_turn() -> None:
    """A read waits while draws fill its part of their time, previews go first, and a place given up is passed on."""
    made = admission(draws=12)
    made.begin(Rank.OTHER)
    made.begin(Rank.OTHER)
    reads = [asyncio.create_task(made.turn(Rank.OTHER, "a")) for _ in range(2)]
    preview = asyncio.create_task(made.turn(Rank.PREVIEW, "a"))
    await asyncio.sleep(0)
    for _ in range(12):
        made.end(Rank.DRAW, "a")
        await asyncio.sleep(0)
        if preview.done():
            break
    assert await preview
    assert not any(read.done() for read in reads)
    reads[0].cancel()
    for _ in range(sum(made.under_way) - 2):
        made.end(Rank.DRAW, "a")
    assert await reads[1]


@pytest.mark.anyio
async def test_with_nothing_else_to_do_nobody_stands_in_line() -> None:
    """Two calls at once begin at once, whatever they are thought to cost."""
    made = admission()
    made.costs_s[Rank.OTHER] = 1.0
    for _ in range(2):
        assert await made.turn(Rank.OTHER, "a")
        made.begin(Rank.OTHER)
    assert made.load_s() == 2.0


# --- what is measured -------------------------------------------------------------------------------------------------


def test_costs_are_learnt_from_busy_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of 0.4 ms and others of 8 ms are told apart, whatever their mixture."""
    now = 0.0
    monkeypatch.setattr("decision_service.admission.perf_counter", lambda: now)
    made = Admission(BUDGET_S)
    wanted_s = 0.0
    made.measure(wanted_s)
    for window in range(200):
        draws, others = (150, 0) if window % 3 else (50, 4)
        for rank, number in ((Rank.DRAW, draws), (Rank.OTHER, others)):
            for _ in range(number):
                made.begin(rank)
                made.end(rank)
        wanted_s += draws * 0.0004 + others * 0.008
        now += 0.065
        made.measure(wanted_s)
    assert made.costs_s[Rank.DRAW] == pytest.approx(0.0004, rel=0.1)
    assert made.costs_s[Rank.OTHER] == pytest.approx(0.008, rel=0.2)


def test_a_window_that_mostly_slept_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then background work would be taken for the cost of the few requests there were."""
    now = 0.0
    monkeypatch.setattr("decision_service.admission.perf_counter", lambda: now)
    made = Admission(BUDGET_S)
    made.measure(0.0)
    for _ in range(20):
        made.begin(Rank.DRAW)
        made.end(Rank.DRAW)
    now = 1.0
    made.measure(0.3)
    assert made.costs_s == list(COSTS_FIRST_S)


def test_bytes_may_be_as_old_as_the_last_look_unless_the_loop_rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that worked all the time cannot know more; one that slept was woken by them."""
    now, sleeps = 1.0, 0
    monkeypatch.setattr("decision_service.admission.perf_counter", lambda: now)
    monkeypatch.setattr("decision_service.admission.sleeps_of_thread", lambda: sleeps)
    made = Admission(BUDGET_S)
    now, sleeps = 2.0, 1
    assert made.look(2.0) == 2.0  # it slept
    now = 2.010
    made.worked()
    assert made.look(2.0) == 2.0  # the same look
    now = 2.0101
    assert made.look(2.01) == 2.0  # it worked since
    now = 2.5
    assert made.look(2.5) == 2.0101, "others had its CPU: it did not sleep"
    now, sleeps = 3.0, 2
    assert made.look(3.0) == 3.0


def test_who_waits_for_the_store_takes_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that stands still fills the service with requests that wait: no reason to refuse anybody. A loop that
    rested had nothing to do for any of them."""
    now, sleeps = 1.0, 0
    monkeypatch.setattr("decision_service.admission.perf_counter", lambda: now)
    monkeypatch.setattr("decision_service.admission.sleeps_of_thread", lambda: sleeps)
    made = admission(draws=30)
    assert made.sheds_draw("b", 0.0, BUDGET_S)
    now, sleeps = 1.1, 1
    made.look(1.1)
    assert not made.sheds_draw("b", 0.0, BUDGET_S)
    for _ in range(15):
        made.begin(Rank.DRAW, "a")
    assert made.sheds_draw("b", 0.0, BUDGET_S), "these came after the rest"
    for _ in range(45):
        made.end(Rank.DRAW, "a")
    assert (made.load_s(), made.at_rest[Rank.DRAW]) == (0.0, 0)


def test_the_thread_tells_how_often_it_slept() -> None:
    """Computing is no sleep, waiting is."""
    before = sleeps_of_thread()
    time.sleep(0.002)
    assert sleeps_of_thread() > before


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_ranks_are_told_by_the_request_line() -> None:
    """Draws, previews, the rest, pages included; probes and metrics are always let in."""
    lines = {b"POST /v1/decisions": 0, b"POST /v1/decisions/preview": 1, b"GET /v1/policy": 2, b"GET /livez": None}
    assert {line: rank_of_line(line + b" HTTP/1.1\r\n") for line in lines} == lines
    for method, path, rank in (
        ("POST", "/v1/decisions", 0), ("POST", "/v1/decisions/preview", 1), ("PUT", "/v1/facilities/f", 2),
        ("GET", "/v1/decisions", 2), ("GET", "/readyz", None), ("GET", "/metrics", None), ("GET", "/docs/a.js", 2),
    ):  # fmt: skip
        assert rank_of(method, path) == rank


def test_a_plain_whole_request_is_recognised() -> None:
    """Its body begins after the blank line."""
    request = draw("r-1")
    assert request[whole_request(request) :] == orjson.dumps({**DRAWDOWN, "request_id": "r-1"})
    assert whole_request(b"GET /v1/policy HTTP/1.1\r\nHost: a\r\n\r\n") == 36


@pytest.mark.fault("E09")
@pytest.mark.parametrize(
    "request_bytes",
    [
        draw("r-1")[:-1],
        draw("r-1") + b"G",
        draw("r-1", b"Transfer-Encoding: chunked"),
        draw("r-1", b"Content-Length: %d" % len(BODY)),
        draw("r-1", b"Connection: close"),
        draw("r-1", b"Expect: 100-continue"),
        draw("r-1", b"X: a\nTransfer-Encoding: chunked"),
        draw("r-1", b"X: a\r\n Content-Length: 5"),
        draw("r-1").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        draw("r-1").replace(b"Content-Length: ", b"Content-Length: +"),
        draw("r-1").replace(b"Content-Length", b"Content-Lengths"),
        b"POST /v1/decisions HTTP/1.1\r\nHost: a\r\n",
        b"GET /v1/policy HTTP/1.1\r\nHost: a\r\n\r\nmore",
    ],
)
def test_what_is_not_plain_goes_the_ordinary_way(request_bytes: bytes) -> None:
    """Whatever two parsers could see differently is left to the real one."""
    assert whole_request(request_bytes) == 0


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"deadline_ms":50}', 0.05), (b'{"deadline_ms" : 5000,', 5.0), (b'{"deadline_ms":999999999}', 5.0),
        (b'{"deadline_ms":null}', 0.0), (b"{}", 0.0), (b'{"deadline_ms":', 0.0), (b'{"deadline_ms":"9"}', 0.0),
    ],
)  # fmt: skip
def test_the_budget_that_a_body_names_is_seen_without_parsing(body: bytes, seconds: float) -> None:
    """A hint; whatever is odd is no hint."""
    assert hinted_budget_s(body, 0) == seconds


async def held_back(made: Admission) -> None:
    """Until as many draws are under way as are let in."""
    for _ in range(10_000):
        if made.under_way[Rank.DRAW] == FREE:
            return
        await asyncio.sleep(0)


# --- through the gate -------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.fault("E14")
async def test_the_gate_sheds_what_no_connection_has_judged(tmp_path: Path) -> None:
    """503 too-busy with Retry-After; probes and metrics are answered; once there is room all is well."""
    async with office(tmp_path) as opened:
        held = opened.decisions.waits_for = asyncio.Event()
        opened.gate.admission.costs_s[Rank.DRAW] = 1.0
        asking = [
            asyncio.create_task(opened.client.post("/v1/decisions", json={**DRAWDOWN, "request_id": f"r{i}"}))
            for i in range(FREE)
        ]
        await held_back(opened.gate.admission)
        shed = await opened.client.post("/v1/decisions", json=DRAWDOWN)
        assert (shed.status_code, shed.json()["type"].rpartition(":")[2]) == (503, "too-busy")
        assert int(shed.headers["retry-after"]) in RETRY_AFTER_S
        assert (await opened.client.get("/livez")).status_code == 200
        page = (await opened.client.get("/metrics")).text
        assert 'decision_service_shed_total{rank="draw"} 1.0' in page
        held.set()
        assert [(await task).status_code for task in asking] == [200] * FREE
        assert (await opened.client.post("/v1/decisions", json=DRAWDOWN)).status_code == 200
        assert opened.gate.admission.under_way == [0, 0, 0]
        assert opened.gate.admission.here == 0


@pytest.mark.anyio
async def test_a_small_deadline_among_much_work_is_refused_after_parsing(tmp_path: Path) -> None:
    """What was let in by the default budget is told at once that its own will not do."""
    async with office(tmp_path) as opened:
        held = opened.decisions.waits_for = asyncio.Event()
        opened.gate.admission.costs_s[Rank.DRAW] = 0.001
        asking = [
            asyncio.create_task(opened.client.post("/v1/decisions", json={**DRAWDOWN, "request_id": f"r{i}"}))
            for i in range(FREE)
        ]
        await held_back(opened.gate.admission)
        shed = await opened.client.post("/v1/decisions", json={**DRAWDOWN, "deadline_ms": 2})
        assert (shed.status_code, shed.json()["type"].rpartition(":")[2]) == (503, "too-busy")
        held.set()
        await asyncio.gather(*asking)


# --- over connections -------------------------------------------------------------------------------------------------


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    """A server with as many draws under way as it can take, whose loop never rests."""
    monkeypatch.setattr("decision_service.admission.REST_S", math.inf)
    with guarded_server(tmp_path, deadline_ms_default=100) as server:
        server.gate.admission.costs_s[Rank.DRAW] = 0.05
        server.hold()
        callers = [server.caller() for _ in range(FREE)]
        for i, caller in enumerate(callers):
            caller.send(draw(f"held-{i}"))
        until(lambda: server.gate.admission.under_way[Rank.DRAW] == FREE)
        yield server
        assert server.decisions.waits_for is not None
        server.decisions.waits_for.opened.set()  # type: ignore[attr-defined]
        assert [caller.answer()[0] for caller in callers] == [200] * FREE
        for caller in callers:
            caller.close()


@pytest.mark.fault("E14")
def test_a_draw_is_shed_as_it_lies_in_the_bytes(crowded: Guarded) -> None:
    """503 as a problem, with Retry-After, on a connection that lives on; nothing was parsed, nobody was asked."""
    with closing(crowded.caller()) as caller:
        waits = set()
        for i in range(6):
            status, headers, body = caller.ask(draw(f"shed-{i}"))
            assert (status, headers["content-type"]) == (503, "application/problem+json")
            assert orjson.loads(body)["type"].endswith(":too-busy")
            waits.add(int(headers["retry-after"]))
        assert waits == set(RETRY_AFTER_S)
        assert caller.ask(call(b"GET /livez"))[0] == 200
        crowded.decisions.waits_for.opened.set()  # type: ignore[union-attr]
        until(lambda: crowded.gate.admission.under_way[Rank.DRAW] == 0)
        assert caller.ask(draw("later"))[0] == 200
        assert b'"' + b"shed" not in orjson.dumps([asked.request_id for asked in crowded.decisions.asked])
    page = crowded.page()
    assert 'decision_service_shed_total{rank="draw"} 6.0' in page
    assert 'http_requests_total{method="POST",route="/v1/decisions",status="503"} 6.0' in page


@pytest.mark.fault("E14")
def test_a_draw_with_time_is_let_in_where_another_is_shed(crowded: Guarded) -> None:
    """The budget that the body names counts before anything is parsed."""
    with closing(crowded.caller()) as hasty, closing(crowded.caller()) as patient:
        assert hasty.ask(draw("hasty", deadline_ms=100))[0] == 503
        patient.send(draw("patient", deadline_ms=5_000))
        until(lambda: crowded.gate.admission.under_way[Rank.DRAW] == FREE + 1)
        crowded.decisions.waits_for.opened.set()  # type: ignore[union-attr]
        assert patient.answer()[0] == 200


@pytest.mark.fault("A03")
def test_draws_that_wait_for_a_store_are_no_load(tmp_path: Path) -> None:
    """A store that stands still holds up draws that take no CPU: others are let in, each to its own answer."""
    with guarded_server(tmp_path, deadline_ms_default=100) as server:
        server.gate.admission.costs_s[Rank.DRAW] = 0.05
        barrier = server.hold()
        callers = [server.caller() for _ in range(5 * FREE)]
        for i, caller in enumerate(callers):
            time.sleep(0.002)  # the loop rests
            caller.send(draw(f"held-{i}"))
            until(lambda i=i: server.gate.admission.under_way[Rank.DRAW] == i + 1)  # type: ignore[misc]
        barrier.opened.set()
        assert [caller.answer()[0] for caller in callers] == [200] * len(callers)
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("sent", ["in two parts", "to be closed", "chunked"])
def test_a_draw_that_is_not_plain_is_shed_by_the_gate(sent: str, crowded: Guarded) -> None:
    """The answer is the same."""
    body = orjson.dumps(DRAWDOWN)
    with closing(crowded.caller()) as caller:
        if sent == "in two parts":
            request = draw("r")
            caller.send(request[:-5])
            status = caller.ask(request[-5:])[0]
        elif sent == "to be closed":
            status = caller.ask(draw("r", b"Connection: close"))[0]
        else:
            head = b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            status = caller.ask(head + chunked)[0]
        assert status == 503


@pytest.mark.fault("E08")
def test_bodies_that_never_end_take_nobodys_place(tmp_path: Path) -> None:
    """A hundred draws and a hundred events that are half sent are no load: others are let in at once."""
    with guarded_server(tmp_path, requests_in_flight_max=20, deadline_ms_default=1_000) as server:
        server.gate.admission.costs_s[Rank.DRAW] = 0.1
        slow = [server.caller() for _ in range(100)]
        for i, caller in enumerate(slow):
            caller.send((draw("r") if i % 2 else call(b"PUT /v1/facilities/f", b"{    }"))[:-5])
        until(lambda: server.gate.admission.here == 100)
        with closing(server.caller()) as other:
            assert other.ask(draw("whole"))[0] == 200
            assert other.ask(call(b"GET /v1/policy"))[0] == 200
        assert server.gate.admission.under_way == [0, 0, 0]
        for caller in slow:
            caller.close()
        until(lambda: server.gate.admission.here == 0)


@pytest.mark.fault("D16")
def test_time_runs_from_the_last_byte(tmp_path: Path) -> None:
    """A body that took its caller longer than the deadline is decided all the same."""
    arrived: list[float] = []
    with guarded_server(tmp_path) as server, closing(server.caller()) as caller:
        decide = server.decisions.decide

        async def noting(request: Any, budget_ms: int, came: float) -> Any:
            arrived.append(came)
            return await decide(request, budget_ms, came)

        server.decisions.decide = noting  # type: ignore[method-assign]
        request = draw("slow")
        caller.send(request[:-5])
        until(lambda: server.gate.admission.here == 1)
        begun = time.perf_counter()
        time.sleep(0.05)  # longer than the deadline of 20 ms
        assert caller.ask(request[-5:])[0] == 200
    assert arrived[0] > begun


def test_the_next_request_of_a_shed_connection_may_come_in_parts(crowded: Guarded) -> None:
    """Shedding leaves the parser where it was."""
    with closing(crowded.caller()) as caller:
        assert caller.ask(draw("r"))[0] == 503
        request = call(b"GET /livez")
        caller.send(request[:20])
        caller.send(request[20:])
        assert caller.answer()[0] == 200


@pytest.mark.fault("E13")
def test_reads_wait_in_line_and_are_answered_while_draws_go_first(crowded: Guarded) -> None:
    """A read begins once draws leave room; nobody refuses it."""
    with closing(crowded.caller()) as first, closing(crowded.caller()) as second, closing(crowded.caller()) as third:
        for reader in (first, second, third):
            reader.send(call(b"GET /v1/policy"))
        assert first.answer()[0] == 200
        assert second.answer()[0] == 200
        crowded.decisions.waits_for.opened.set()  # type: ignore[union-attr]
        assert third.answer()[0] == 200

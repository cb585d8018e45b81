"""Faults of the process: no store at the start, a store that hangs, callers that hang up, nobody who reads the log, no
files left, too many threads, the end in the middle of a request."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from bank import Bank, bank_rules
from hard_process import CALL_TIMEOUT_S, HardProcess

from decision_service.api.keys import add_key
from valkey_server import ValkeyServer

LINE = {
    "customer_id": "c-1", "product": "revolver", "currency": "CNY", "limit": 100_000, "outstanding": 0,
    "as_of": "2026-01-01T00:00:00Z", "apr": 0.18, "status": "active", "granted_at": "2025-01-01T00:00:00Z",
}  # fmt: skip
CALLERS = 24


def drawdown(request_id: str, **change: Any) -> dict[str, Any]:
    """A drawdown that is approved while the store is there."""
    return {
        "request_id": request_id, "customer_id": "c-1", "facility_id": "f-1", "amount": 100, "currency": "CNY",
        "deadline_ms": 5_000, **change,
    }  # fmt: skip


def draw(service: HardProcess, request_id: str, **change: Any) -> httpx.Response:
    """Ask for one."""
    return httpx.post(f"{service.url}/v1/decisions", json=drawdown(request_id, **change), timeout=CALL_TIMEOUT_S)


def metric(service: HardProcess, name: str) -> float:
    """One figure of /metrics."""
    page = httpx.get(f"{service.url}/metrics", timeout=CALL_TIMEOUT_S).text
    return next(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name + " "))


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that approves what the line has room for."""
    return bank_rules(tmp_path_factory.mktemp("rules"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A store of this module's own, to be frozen."""
    server = ValkeyServer(tmp_path_factory.mktemp("store")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, rules: Path, store: ValkeyServer
) -> Iterator[HardProcess]:  # fmt: skip
    """A service on it, with a line."""
    with HardProcess(tmp_path_factory.mktemp("service"), store_url=store.url, rules=rules) as service:
        service.wait_ready()
        assert httpx.put(f"{service.url}/v1/facilities/f-1", json=LINE).status_code == 200
        yield service


@pytest.mark.slow
@pytest.mark.fault("A01", "E13")
def test_a_service_starts_before_its_store(tmp_path: Path, rules: Path) -> None:
    """Alive and not ready, with the reason; nothing is approved; callers who send too much are told so all the same.
    Once there is a store it is used, and what was answered without it is answered again, byte for byte."""
    server = ValkeyServer(tmp_path / "store")
    key = add_key(tmp_path / "keys.json", "core", ["decide", "events", "read"])
    bearer = {"authorization": f"Bearer {key}"}
    with ExitStack() as stack:
        service = stack.enter_context(
            HardProcess(
                tmp_path / "service", store_url=server.url, rules=rules, keys_file=tmp_path / "keys.json",
                rate_limit_per_s=1, rate_limit_burst=5,
            )
        )  # fmt: skip
        ready = httpx.get(f"{service.url}/readyz", timeout=CALL_TIMEOUT_S)
        assert ready.status_code == 503
        assert ready.json()["problems"][0].startswith("store:")

        def ask(request_id: str) -> httpx.Response:
            url = f"{service.url}/v1/decisions"
            return httpx.post(url, json=drawdown(request_id), headers=bearer, timeout=CALL_TIMEOUT_S)

        answers = [ask(f"cold-{i}") for i in range(5)]
        told = {a.request.content: a.content for a in answers if a.status_code == 200}
        assert all(json.loads(body)["decision"] == "hold" for body in told.values())
        assert all(a.status_code in (200, 503) for a in answers)
        flood = [ask(f"flood-{i}") for i in range(20)]
        assert 429 in [a.status_code for a in flood]
        assert service.status("/livez") == 200

        server.start()
        stack.callback(server.stop)
        service.until(lambda: service.status("/readyz") == 200)
        for body, answer in told.items():
            service.until(lambda body=body: post(service, body, bearer).status_code == 200)  # type: ignore[misc]
            assert post_until(service, body, bearer).content == answer


def post(service: HardProcess, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """A drawdown as it was sent before."""
    sent = {**headers, "content-type": "application/json"}
    return httpx.post(f"{service.url}/v1/decisions", content=body, headers=sent, timeout=CALL_TIMEOUT_S)


def post_until(service: HardProcess, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """The first 200, past the rate limit."""
    found: list[httpx.Response] = []

    def asked() -> bool:
        found[:] = [post(service, body, headers)]
        return found[0].status_code == 200

    service.until(asked)
    return found[0]


@pytest.mark.fault("A03")
def test_probes_answer_while_the_store_hangs(service: HardProcess, store: ValkeyServer) -> None:
    """Alive at once; not ready, with the reason, although nothing comes back from the store; ready again after."""
    store.freeze()
    try:
        for _ in range(3):
            assert service.status("/livez") == 200
            ready = httpx.get(f"{service.url}/readyz", timeout=CALL_TIMEOUT_S)
            assert ready.status_code == 503
            assert ready.json()["problems"][0].startswith("store:")
        assert metric(service, "decision_service_requests_in_flight") == 1
    finally:
        store.thaw()
    service.until(lambda: service.status("/readyz") == 200)


@pytest.mark.fault("D19")
def test_callers_who_hang_up_leave_one_decision_each(service: HardProcess) -> None:
    """Each connection is closed at another moment after its request was sent. Asked again, every request has one
    decision, the same ever after, and exactly what was approved is reserved."""
    before = position(service)["reserved"]
    for n in range(CALLERS):
        body = json.dumps(drawdown(f"gone-{n}")).encode()
        head = b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", service.port), CALL_TIMEOUT_S) as caller:
            caller.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            if n % 3 == 2:  # with a reset
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            caller.settimeout(n % 4 / 1000 or None)
            try:
                if n % 4:
                    caller.recv(1)
            except TimeoutError:
                pass
    service.until(lambda: metric(service, "decision_service_requests_in_flight") == 1)
    answers = [draw(service, f"gone-{n}") for n in range(CALLERS)]
    assert [a.status_code for a in answers] == [200] * CALLERS
    again = [draw(service, f"gone-{n}") for n in range(CALLERS)]
    assert [a.content for a in again] == [a.content for a in answers]
    approved = sum(a.json()["approved_amount"] for a in answers)
    assert position(service)["reserved"] - before == approved == 100 * CALLERS


def position(service: HardProcess) -> dict[str, float]:
    """What holds of the line now."""
    told = httpx.get(f"{service.url}/v1/facilities/f-1", timeout=CALL_TIMEOUT_S).json()
    position: dict[str, float] = told["position"]
    return position


@pytest.mark.fault("E08")
def test_slow_callers_do_not_hold_up_a_real_service(service: HardProcess) -> None:
    """Two hundred connections that send half a head, half a body, or read nothing; draws beside them are decided."""
    head = b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    parts = (head, head + b"Content-Length: 500\r\n\r\n{", b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 4)
    slow = []
    try:
        for n in range(200):
            slow.append(socket.create_connection(("127.0.0.1", service.port), CALL_TIMEOUT_S))
            slow[-1].sendall(parts[n % len(parts)])
        for n in range(20):
            answer = draw(service, f"beside-{n}")
            assert answer.status_code == 200, answer.text
            assert answer.json()["rung"] == "full"
    finally:
        for caller in slow:
            caller.close()
    service.until(lambda: metric(service, "decision_service_requests_in_flight") == 1)


@pytest.mark.fault("H16")
def test_nobody_who_reads_the_log_holds_up_nothing(tmp_path: Path, rules: Path, store: ValkeyServer) -> None:
    """What it says goes into a pipe that is full and that nobody reads: it starts, decides, reloads and ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4_096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    try:
        with HardProcess(
            tmp_path, store_url=store.url, rules=rules, stderr=writing, workers=1, log_level="debug"
        ) as service:
            service.wait_ready()
            httpx.put(f"{service.url}/v1/facilities/f-1", json=LINE)
            assert draw(service, "unheard-1").json()["rung"] == "full"
            assert service.process is not None
            for _ in range(3):
                service.process.send_signal(signal.SIGHUP)
                assert service.status("/livez") == 200
            assert draw(service, "unheard-2").status_code == 200
            assert service.stop() == 0
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.fault("H18", "E08")
def test_callers_cannot_use_up_all_files(tmp_path: Path, rules: Path, store: ValkeyServer) -> None:
    """With 96 descriptors and 200 connections some are served, the others are told so or closed, and the store is still
    reached; once they hang up everybody is served again."""
    with HardProcess(tmp_path, store_url=store.url, rules=rules, files_max=96) as service:
        service.wait_ready()
        httpx.put(f"{service.url}/v1/facilities/f-1", json=LINE)
        callers, said = [], []
        for _ in range(200):
            caller = socket.create_connection(("127.0.0.1", service.port), CALL_TIMEOUT_S)
            callers.append(caller)
            caller.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for caller in callers:
            try:
                said.append(caller.recv(4_096)[:12])
            except ConnectionResetError:
                said.append(b"")
        assert said.count(b"HTTP/1.1 200") >= 8
        assert set(said) <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b""}
        assert said.count(b"HTTP/1.1 200") < 96
        for caller in callers:
            caller.close()
        service.until(lambda: service.status("/readyz") == 200)
        answer = draw(service, "after-the-flood")
        assert (answer.status_code, answer.json()["rung"]) == (200, "full")


@pytest.mark.fault("G09")
@pytest.mark.slow
def test_a_worker_has_few_threads_whatever_the_environment_says(tmp_path: Path) -> None:
    """Libraries that would start a thread a core are kept to one: two workers on two cores must not fight."""
    hostile = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "16")
    root = Path(__file__).parents[2]
    with HardProcess(
        tmp_path, store_url="memory://", rules=root / "rules", models=root / "models", environment=hostile
    ) as service:
        service.wait_ready()
        line = {**LINE, "reviewed_at": "2026-01-01T00:00:00Z", "days_past_due": 0}
        httpx.put(f"{service.url}/v1/facilities/f-1", json=line)
        assert service.process is not None
        tasks = Path(f"/proc/{service.process.pid}/task")
        before = len(list(tasks.iterdir()))
        assert draw(service, "first").status_code == 200

        async def many() -> list[httpx.Response]:
            async with httpx.AsyncClient(timeout=CALL_TIMEOUT_S) as client:
                url = f"{service.url}/v1/decisions"
                return await asyncio.gather(*(client.post(url, json=drawdown(f"many-{n}")) for n in range(40)))

        assert {a.status_code for a in asyncio.run(many())} <= {200, 503}
        after = len(list(tasks.iterdir()))
        assert after - before < 16, "a library started threads of its own"
        assert after < 40


@pytest.mark.fault("H02")
@pytest.mark.slow
def test_what_cannot_finish_before_the_end_is_told_so(tmp_path: Path, rules: Path, store: ValkeyServer) -> None:
    """SIGTERM while the store hangs: after the time to drain, whoever still waits is told to ask elsewhere (or has the
    answer without the store), the status is 0, and the next process finds one decision."""
    with HardProcess(tmp_path, store_url=store.url, rules=rules, drain_timeout_ms=1_000) as service:
        service.wait_ready()
        httpx.put(f"{service.url}/v1/facilities/f-1", json=LINE)
        assert draw(service, "before").json()["decision"] == "approve"
        store.freeze()
        try:
            body = json.dumps(drawdown("last")).encode()
            head = b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            with socket.create_connection(("127.0.0.1", service.port), CALL_TIMEOUT_S) as caller:
                caller.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                service.until(lambda: metric(service, "decision_service_requests_in_flight") == 2)
                assert service.process is not None
                service.process.terminate()
                answer = b"".join(iter(lambda: caller.recv(65_536), b""))
            assert answer.startswith((b"HTTP/1.1 503", b"HTTP/1.1 200"))
            assert b"Internal" not in answer
            assert service.process.wait(CALL_TIMEOUT_S) == 0
        finally:
            store.thaw()
        service.start()
        service.wait_ready()
        first, second = draw(service, "last"), draw(service, "last")
        assert first.status_code == 200
        assert first.content == second.content


@pytest.mark.fault("H02")
@pytest.mark.slow
@pytest.mark.anyio
async def test_an_end_under_load_loses_nothing_that_was_told(tmp_path: Path, rules: Path, store: ValkeyServer) -> None:
    """SIGTERM with draws coming all the time: what was answered is answered again by the next process."""
    with HardProcess(tmp_path, store_url=store.url, rules=rules) as service:
        service.wait_ready()
        async with Bank(service.url, "end", customers=4) as bank:
            await bank.open_lines()
            drawing = [
                asyncio.create_task(bank.draw(f"end-{n}", customer=n % 4, deadline_ms=2_000)) for n in range(200)
            ]
            await asyncio.wait(drawing, return_when=asyncio.FIRST_COMPLETED)
            assert service.process is not None
            service.process.terminate()
            await asyncio.gather(*drawing, return_exceptions=True)
            assert await asyncio.to_thread(service.process.wait, CALL_TIMEOUT_S) == 0
            service.start()
            service.wait_ready()
            await bank.judge()

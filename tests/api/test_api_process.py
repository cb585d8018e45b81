"""The service as a process: workers, draining, reloading, refusing to start, and the OpenAPI document under fire."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_fakes import DRAWDOWN, FACILITY

from decision_service.store.keys import PUBLISHED_HEADS
from service_process import READY_S, ServiceProcess
from valkey_server import ValkeyServer

pytestmark = pytest.mark.slow
POLICY = {
    "policy.yaml": 'label: "first"\nlists: [block]\n',
    "features/velocity.yaml": """
segments:
  draw: kind == "drawdown"
features:
  vel_prior: {agg: count, of: draw, windows: [10m], null: Z, unit: n, en: "requests", zh: "请求数"}
""",
    "drawdown.yaml": """
rule_set: drawdown
scene: drawdown
rules:
  - id: over_limit
    when: request.amount > facility.available
    on_null: hold
    then: {hold: block}
    reason: RC04
  - id: otherwise
    when: request.amount > 0
    on_null: skip
    then: approve
fallback: {static: {hold: review, reason: RC90}}
""",
}
SCHEMA_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A small policy on disk."""
    for name, text in POLICY.items():
        path = tmp_path / "rules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "rules"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """No scorecards."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def until(found: Any, seconds: float = 20.0) -> Any:
    """The first true value of `found()`."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def drawdown(request_id: str, **change: Any) -> dict[str, Any]:
    """A drawdown that the small policy approves."""
    body = {
        **DRAWDOWN,
        "request_id": request_id,
        "amount": 10,
        "attributes": None,
        "occurred_at": None,
        "deadline_ms": 5_000,
    }
    return {**body, **change}


def run_serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`serve` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "decision_service", "serve", "--port", "0", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=READY_S,
        check=False,
    )


def test_two_workers_share_socket_store_and_counters(tmp_path: Path, rules: Path, models: Path) -> None:
    """Requests over many connections are all counted on one page; SIGTERM ends with status 0 and frees the port."""
    with ServiceProcess(tmp_path, workers=2, rules=rules, models=models) as service:
        assert httpx.put(f"{service.url}/v1/facilities/f-1", json=FACILITY).status_code == 200
        for i in range(20):  # a connection each
            assert httpx.post(f"{service.url}/v1/decisions", json=drawdown(f"r-{i}")).json()["decision"] == "approve"
        page = httpx.get(f"{service.url}/metrics").text
        assert 'decisions_total{decision="approve",replayed="false",rung="full",scene="drawdown"} 20.0' in page
        assert "decision_service_workers 2.0" in page
        until(lambda: len(httpx.get(f"{service.url}/v1/policy").json()["workers"]) == 2)
        again = httpx.post(f"{service.url}/v1/decisions", json=drawdown("r-3"))
        assert again.headers["idempotency-replayed"] == "true"
        assert service.stop() == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", service.port))


@pytest.mark.fault("H01")
def test_a_killed_worker_is_replaced(tmp_path: Path, rules: Path, models: Path) -> None:
    """The other worker goes on, and soon there are two again; what the dead one counted stays."""
    with ServiceProcess(tmp_path, workers=2, rules=rules, models=models) as service:
        httpx.put(f"{service.url}/v1/facilities/f-1", json=FACILITY)
        for i in range(10):
            httpx.post(f"{service.url}/v1/decisions", json=drawdown(f"r-{i}"))
        victim = service.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in service.worker_pids() and len(service.worker_pids()) == 2, 60)
        service.wait_ready()
        page = until(lambda: (p := httpx.get(f"{service.url}/metrics").text) and "_workers 2.0" in p and p, 60)
        assert 'decisions_total{decision="approve",replayed="false",rung="full",scene="drawdown"} 10.0' in page


def test_a_worker_that_cannot_come_back_takes_nobody_with_it(
    tmp_path: Path, rules: Path, models: Path, valkey_server: ValkeyServer
) -> None:
    """While the rules on disk are broken, and no published policy is kept, a killed worker cannot start again: the
    other serves on, and once the rules are mended there are two."""
    with ServiceProcess(tmp_path, store_url=valkey_server.url, workers=2, rules=rules, models=models) as service:
        good = (rules / "drawdown.yaml").read_text()
        (rules / "drawdown.yaml").write_text("rule_set: drawdown\n")
        with valkey_server.client() as client:
            assert client.delete(PUBLISHED_HEADS) == 1
        victim, survivor = service.worker_pids()
        os.kill(victim, signal.SIGKILL)
        until(lambda: "it is tried again" in service.log(), 60)
        assert survivor in service.worker_pids()
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        (rules / "drawdown.yaml").write_text(good)
        until(lambda: "_workers 2.0" in httpx.get(f"{service.url}/metrics").text, 60)


def test_a_worker_comes_back_with_the_fleets_policy_while_the_disk_is_broken(
    tmp_path: Path, rules: Path, models: Path
) -> None:
    """It runs what the other runs, and says what is wrong with its disk."""
    with ServiceProcess(tmp_path, workers=2, rules=rules, models=models) as service:
        (rules / "drawdown.yaml").write_text("rule_set: drawdown\n")
        victim, _ = service.worker_pids()
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in service.worker_pids() and len(service.worker_pids()) == 2, 60)

        def told() -> Any:
            workers = httpx.get(f"{service.url}/v1/policy").json()["workers"]
            living = [w for w in workers if not w["worker_id"].endswith(f":{victim}")]
            return len(living) == 2 and living

        living = until(told, 60)
        assert {(w["policy_label"], w["bundle"]) for w in living} == {("first", 1)}
        until(lambda: all("drawdown.yaml:1:" in (w["problem"] or "") for w in told() or [{"problem": ""}]))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_reloads_the_policy_everywhere(workers: int, tmp_path: Path, rules: Path, models: Path) -> None:
    """SIGHUP to the parent: a changed label is in force in every worker, and no process was replaced."""
    with ServiceProcess(tmp_path, workers=workers, rules=rules, models=models) as service:
        until(lambda: len(httpx.get(f"{service.url}/v1/policy").json()["workers"]) == workers, 60)
        before = service.worker_pids()
        (rules / "policy.yaml").write_text('label: "second"\nlists: [block]\n')
        assert service.process is not None
        service.process.send_signal(signal.SIGHUP)

        def labels() -> bool:
            running = httpx.get(f"{service.url}/v1/policy").json()["workers"]
            return [worker["policy_label"] for worker in running] == ["second"] * workers

        until(labels)
        assert service.worker_pids() == before


@pytest.mark.fault("F01")
def test_a_broken_policy_is_refused_with_diagnostics_and_changes_nothing(
    tmp_path: Path, rules: Path, models: Path
) -> None:
    """POST /v1/policy/reload answers 422 with file, line and column; the old policy decides on."""
    with ServiceProcess(tmp_path, rules=rules, models=models) as service:
        (rules / "drawdown.yaml").write_text(POLICY["drawdown.yaml"].replace("facility.available", "facility.availble"))
        answer = httpx.post(f"{service.url}/v1/policy/reload")
        assert answer.status_code == 422
        assert answer.json()["diagnostics"][0]["file"] == "drawdown.yaml"
        assert answer.json()["diagnostics"][0]["line"] == 6
        status = httpx.get(f"{service.url}/v1/policy").json()
        assert (status["label"], bool(status["problem"])) == ("first", True)
        assert httpx.get(f"{service.url}/readyz").status_code == 200


@pytest.mark.fault("H02")
def test_what_is_in_flight_at_sigterm_is_answered(tmp_path: Path, rules: Path, models: Path) -> None:
    """A request whose body is still coming when the signal arrives gets its decision; then the status is 0."""

    body = json.dumps(drawdown("r-drain")).encode()
    head = "POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with ServiceProcess(tmp_path, rules=rules, models=models) as service:
        httpx.put(f"{service.url}/v1/facilities/f-1", json=FACILITY)
        with socket.create_connection(("127.0.0.1", service.port), 30) as caller:
            caller.sendall(head.encode() + body[:20])
            until(lambda: "requests_in_flight 2.0" in httpx.get(f"{service.url}/metrics").text)
            assert service.process is not None
            service.process.terminate()
            time.sleep(0.3)
            caller.sendall(body[20:])
            answer = b"".join(iter(lambda: caller.recv(65_536), b""))
        assert b"200 OK" in answer
        assert b"connection: close" in answer
        assert service.process.wait(30) == 0


def test_serving_another_address_without_authentication_is_refused() -> None:
    """Exit status 2, and the setting's name."""
    ended = run_serve("--host", "0.0.0.0")
    assert ended.returncode == 2
    assert "DECISION_SERVICE_HOST" in ended.stderr


def test_a_policy_that_does_not_compile_stops_the_start(tmp_path: Path, rules: Path, models: Path) -> None:
    """Exit status 4, and the compiler's message."""
    (rules / "drawdown.yaml").write_text(POLICY["drawdown.yaml"].replace("facility.available", "facility.availble"))
    ended = run_serve(
        "--rules", str(rules), "--models", str(models), "--data-dir", str(tmp_path / "d"), "--redis-url", "memory://"
    )
    assert ended.returncode == 4
    assert "did you mean `facility.available`" in ended.stderr


def test_a_data_directory_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    """Exit status 2 and the setting's name, not a traceback."""
    (tmp_path / "file").write_text("in the way")
    ended = run_serve("--port", "0", "--data-dir", str(tmp_path / "file"))
    assert ended.returncode == 2
    assert ended.stderr.startswith("decision-service: DECISION_SERVICE_DATA_DIR: cannot make the directory")


def test_a_taken_port_is_refused_by_name(tmp_path: Path) -> None:
    """Exit status 2, before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run_serve("--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path))
    assert ended.returncode == 2
    assert "DECISION_SERVICE_PORT" in ended.stderr


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path, rules: Path, models: Path) -> None:
    """They would keep the port and the store of their successor."""
    with ServiceProcess(tmp_path, workers=2, rules=rules, models=models) as service:
        workers = service.worker_pids()
        assert service.process is not None
        service.process.kill()
        service.process.wait(10)

        def gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() for pid in workers)

        until(gone, 30)


@pytest.mark.fault("E11")
def test_schemathesis_finds_no_server_error_and_no_violation(tmp_path: Path, rules: Path, models: Path) -> None:
    """Generated calls against the document: every answer is of a documented status, type and shape, none is 5xx."""
    with ServiceProcess(tmp_path, rules=rules, models=models) as service:
        tool = Path(sys.executable).with_name("schemathesis")
        ended = subprocess.run(
            [str(tool), "run", f"{service.url}/openapi.json", "-n", "30", "--checks", SCHEMA_CHECKS, "--seed", "1"],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            cwd=tmp_path,
        )
        assert ended.returncode == 0, ended.stdout[-3_000:]

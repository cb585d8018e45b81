"""Canaries: values that occur nowhere else are sent through every way a call can go, and must then be in no log line,
metric, error or list of processes. What a log line is made of is tested first."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from api_fakes import DRAWDOWN, office
from token_corpus import AUDIENCE, ISSUER, key_set_json, signed

from decision_service.api.keys import add_key
from decision_service.bootstrap import store_of
from decision_service.core.errors import DecisionServiceError
from decision_service.settings import Settings, load_settings
from decision_service.telemetry.logs import DroppingHandler, JsonFormatter, TextFormatter, start_logging
from service_process import ServiceProcess
from small_policy import write_rules
from valkey_server import ValkeyServer

pytestmark = pytest.mark.fault("I06")

SECRET_PASSWORD = "canary-store-password-9f31"
PERSONAL = {
    "request_id": "canary-request-7a01", "customer_id": "canary-customer-7a02", "facility_id": "canary-facility-7a03",
    "device_id": "canary-device-7a04", "counterparty_id": "canary-payee-7a05", "purpose": "canary-purpose-7a06",
    "ip": "203.0.113.199",
}  # fmt: skip
PLACE = {"lat": 27.182818, "lon": 31.415926}
AMOUNT = 4_321.98
WORD = "canary-"  # how nearly all of them begin
CANARIES = (*PERSONAL.values(), "27.182818", "31.415926", "4321.98", "432198", WORD, "secret-word", SECRET_PASSWORD)


def leaks(text: str, *more: str) -> list[str]:
    """The canaries in a text."""
    return [canary for canary in (*CANARIES, *more) if canary in text]


# --- what a line is made of ---------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[StringIO]:
    """The log at its loosest level; `ended(log)` gives what was written."""
    names = ("decision_service", "uvicorn", "asyncio")
    before = [(logging.getLogger(name).handlers, logging.getLogger(name).propagate) for name in names]
    last_resort, stream = logging.lastResort, StringIO()
    listener = start_logging("debug", as_json=False, stream=stream)
    stream.stop = listener.stop  # type: ignore[attr-defined]
    yield stream
    logging.lastResort = last_resort
    for name, (handlers, propagate) in zip(names, before, strict=True):
        logging.getLogger(name).handlers, logging.getLogger(name).propagate = handlers, propagate


def ended(log: StringIO) -> str:
    """Everything that was logged."""
    log.stop()  # type: ignore[attr-defined]
    return log.getvalue()


def fail() -> None:
    """Raise an exception that quotes what a customer sent, from another that does."""
    locals_hold = PERSONAL["customer_id"]
    try:
        raise KeyError(locals_hold)
    except KeyError:
        raise ValueError(f"no facility for {locals_hold}") from None


def test_an_exception_is_logged_by_type_and_place_only(log: StringIO) -> None:
    """Neither its message nor the text of its lines nor locals, whichever way it is logged."""
    ours = logging.getLogger("decision_service.test")
    try:
        fail()
    except ValueError as error:
        ours.exception("could not do it")
        ours.error("could not do it", exc_info=error, stack_info=True)
    text = ended(log)
    assert leaks(text) == []
    assert text.count("could not do it: ValueError at test_security_canary.py:") == 2
    assert "Traceback" not in text


def test_lines_of_libraries_lose_what_they_quote(log: StringIO) -> None:
    """asyncio prints the arguments of callbacks and the exceptions of tasks; others print what they like."""

    async def go() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(asyncio.to_thread(fail))
        await asyncio.wait((task,))
        del task
        loop.call_soon(lambda customer: fail(), PERSONAL["customer_id"])
        await asyncio.sleep(0.01)

    asyncio.run(go())
    logging.getLogger("asyncio").error("Exception in callback f('%s')\nhandle: <%s>", *CANARIES[:2])
    logging.getLogger("uvicorn.error").error("Exception in ASGI application %s\n", CANARIES[0])
    pytest_catches = logging.getLogger("redis.canary")
    pytest_catches.propagate = False  # as where no test catches the root's lines
    pytest_catches.warning("Connection lost to redis://:%s@host", SECRET_PASSWORD)
    text = ended(log)
    assert leaks(text) == []
    assert "Exception in ASGI application\n" in text
    assert "Exception in callback" in text


@pytest.mark.fault("E05")
@pytest.mark.parametrize(
    "hostile",
    [
        "a\n2026-11-21T00:00:00.000Z ERROR access: forged", "a\r\nforged", "a\x1b[2J\x1b[1;1Hforged", "a\x00b",
        "a\x08\x08\x08forged", "a\x85forged", "a\u2028forged", "a\u2029forged", "\u202egnol si siht",
        "\u2066x\u2069", "\ufefflead", "a\x9bforged",
    ],
)  # fmt: skip
def test_no_text_can_forge_a_line_or_move_the_cursor(hostile: str, log: StringIO) -> None:
    """Whatever a name holds (of a policy, a principal, a file): one line, visible characters only, valid UTF-8."""
    logging.getLogger("decision_service.test").warning("policy %s is not taken", hostile)
    text = ended(log)
    assert text.count("\n") == 1
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable(), ascii(text)


@pytest.mark.fault("E05")
@pytest.mark.parametrize("as_json", [False, True])
def test_half_a_character_in_a_name_costs_no_line(as_json: bool) -> None:
    """It is shown by its number; the log stays valid UTF-8."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue()
    handler = DroppingHandler(lines)
    handler.handle(logging.LogRecord("decision_service.test", 40, "", 1, "policy %s", (chr(0xD800) + "x",), None))
    formatter = JsonFormatter() if as_json else TextFormatter()
    assert "ud800x" in formatter.format(lines.get_nowait()).encode().decode()
    handler.handle(logging.LogRecord("decision_service.test", 40, "", 1, "%d canary-1", ("canary-2",), None))
    assert (lines.qsize(), handler.dropped) == (0, 1)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, AssertionError, UnicodeError, RecursionError, MemoryError])
def test_a_forced_crash_says_nothing_of_the_call(error: type[Exception], tmp_path: Path, log: StringIO) -> None:
    """500 on the hot route: the body is the fixed sentence, the log has the type and the places."""

    async def go() -> httpx.Response:
        async with office(tmp_path) as opened:
            opened.decisions.raises = error(f"it was {PERSONAL['customer_id']}")
            return await opened.client.post("/v1/decisions", json={**DRAWDOWN, "customer_id": PERSONAL["customer_id"]})

    answer = asyncio.run(go())
    text = ended(log)
    assert answer.status_code == 500
    assert leaks(answer.text + str(answer.headers)) == []
    assert leaks(text) == []
    assert f"crashed: {error.__name__} at " in text


UNCAUGHT = """
import sys, threading
from decision_service.guarded_process import guard_process
from decision_service.telemetry.logs import DroppingHandler, JsonFormatter, TextFormatter, start_logging
guard_process()
listener = start_logging("debug", as_json=False)
def fail(customer="canary-customer-7a02"):
    raise ValueError(f"it was {customer}")
thread = threading.Thread(target=fail); thread.start(); thread.join()
class Wrong:
    def __del__(self):
        fail()
Wrong()
listener.stop()
fail()
"""


def test_what_nobody_catches_is_told_without_quoting() -> None:
    """In the main thread, in another, and where Python cannot raise; core dumps are off and new files are private."""
    ended = subprocess.run(
        [sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )
    assert ended.returncode == 1
    assert leaks(ended.stdout + ended.stderr) == []
    assert ended.stderr.count("ValueError at ") == 3
    assert "Traceback" not in ended.stderr
    probe = (
        "import os, resource; from decision_service.guarded_process import guard_process as g; g(); "
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], oct(os.umask(0)))"
    )
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.split() == ["0", "0o77"]


# --- a whole service ----------------------------------------------------------------------------------------------


@pytest.fixture
def guarded_store(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that asks for the canary password."""
    server = ValkeyServer(tmp_path / "valkey").start()
    with server.client() as client:
        client.config_set("requirepass", SECRET_PASSWORD)
    yield server
    server.stop()


RULES = """
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
"""


def now() -> str:
    return datetime.now(UTC).isoformat()


class Caller:
    """Calls a service with a key and keeps every error body."""

    def __init__(self, url: str, key: str) -> None:
        self.client = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=10)
        self.errors: list[tuple[int, str]] = []

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        content = {} if body is None else {"json": body}
        answer = self.client.request(method, path, **content, **more)
        if answer.status_code >= 400:
            self.errors.append((answer.status_code, answer.text + str(answer.headers)))
        return answer


def processes_below(pid: int) -> list[Path]:
    """A process and all its descendants, by their /proc folders."""
    found, parents = [Path(f"/proc/{pid}")], {pid}
    while True:
        more = [
            folder for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and folder not in found and _parent_of(folder) in parents
        ]  # fmt: skip
        if not more:
            return found
        found += more
        parents |= {int(folder.name) for folder in more}


def _parent_of(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_no_canary_leaves_a_service(as_json: bool, tmp_path: Path, guarded_store: ValkeyServer) -> None:
    """Success, every kind of refusal, a crash, a lost store and a refused policy, at the level debug: the values of a
    customer, keys, tokens and the store's password are in no line of the log, no metric, no error, no process title."""
    rules = write_rules(tmp_path / "rules", RULES)
    (rules / "attributes.yaml").write_text(
        "attributes:\n  canary_word: {type: string, source: crm, ttl: 30d, meaning: word, meaning_zh: 词}\n",
        encoding="utf-8",
    )
    (tmp_path / "models").mkdir()
    file, jwks = tmp_path / "keys.json", tmp_path / "jwks.json"
    key = add_key(file, "bank", ["admin"])
    limited = add_key(file, "retail", ["admin"], customers=["retail-*"])
    jwks.write_bytes(key_set_json())
    token, forged = signed(scope="admin").decode(), signed(scope="admin", aud="other").decode()
    url = f"redis://:{SECRET_PASSWORD}@127.0.0.1:{guarded_store.port}/0"
    service = ServiceProcess(
        tmp_path, rules=rules, models=tmp_path / "models", redis_url=url, keys_file=file, jwks=jwks,
        jwt_issuer=ISSUER, jwt_audience=AUDIENCE, log_level="debug", log_json=as_json,
    )  # fmt: skip
    secrets = (key, key[8:24], limited, token, token[-40:], forged[-40:], SECRET_PASSWORD)
    with service:
        ask = Caller(service.url, key)
        line = {
            "customer_id": PERSONAL["customer_id"], "product": "revolving", "currency": "CNY", "limit": 50_000,
            "outstanding": 0, "as_of": now(), "apr": 0.18, "status": "active", "granted_at": "2025-03-01T00:00:00Z",
        }  # fmt: skip
        draw = {**PERSONAL, "amount": AMOUNT, "currency": "CNY", "geo": PLACE, "deadline_ms": 5_000}
        customer = f"/v1/customers/{PERSONAL['customer_id']}"
        assert ask("PUT", f"/v1/facilities/{PERSONAL['facility_id']}", line).status_code == 200
        word = {"canary_word": {"value": "secret-word", "as_of": now()}}
        assert ask("PUT", f"{customer}/attributes", word).is_success
        answer = ask("POST", "/v1/decisions", draw).json()
        assert answer["decision"] == "approve", answer
        assert ask("POST", "/v1/decisions", draw, headers={"authorization": f"Bearer {token}"}).is_success
        decision = f"/v1/decisions/{answer['decision_id']}"
        event = {
            "event_id": "canary-event", "customer_id": PERSONAL["customer_id"], "kind": "repayment",
            "amount": AMOUNT, "currency": "CNY", "occurred_at": now(), "device_id": PERSONAL["device_id"],
        }  # fmt: skip
        for path in (decision, f"{customer}/features", f"/v1/facilities/{PERSONAL['facility_id']}"):
            assert ask("GET", path).is_success
        assert ask("POST", "/v1/events", {"events": [event, {**event, "amount": "canary-"}]}).json()["rejected"] == 1
        assert ask("PUT", f"/v1/lists/block/{PERSONAL['device_id']}").is_success
        _refused(ask, draw, line, customer, limited, forged)
        _raw_calls(service.port, key)
        _crash(ask, guarded_store, draw)
        _policies(ask, rules, service)
        page = ask("GET", "/metrics").text
        assert "decision_service_" in page
        titles = b"".join((p / "cmdline").read_bytes() + (p / "comm").read_bytes() for p in _all_of(service))
        limits = [(p / "limits").read_text() for p in _all_of(service)]
        _lose_the_store(ask, guarded_store, draw, customer)
        ready = httpx.get(f"{service.url}/readyz")
        ask.client.close()
    log = (tmp_path / "service.log").read_text(errors="replace")
    assert log.count("\n") > 3
    assert leaks(log, *secrets) == [], log[-3_000:]
    assert leaks(page, *secrets) == []
    assert leaks(titles.decode(errors="replace"), *secrets) == []
    assert leaks(ready.text, *secrets) == []
    for status, text in ask.errors:
        assert leaks(text, *secrets) == [], (status, text)
    assert {401, 403, 404, 409, 422, 503} <= {status for status, _ in ask.errors}
    assert all("Max core file size        0 " in text for text in limits)
    private = [p for p in (tmp_path / "data").rglob("*") if p.is_file() and p.stat().st_mode & 0o077]
    assert private == []


def _all_of(service: ServiceProcess) -> list[Path]:
    assert service.process is not None
    return processes_below(service.process.pid)


def _refused(ask: Caller, draw: dict[str, Any], line: dict[str, Any], customer: str, limited: str, forged: str) -> None:
    """Every way to be told no."""
    assert ask("POST", "/v1/decisions", {**draw, "amount": 1}).status_code == 422  # the request id, reused
    for name in draw:
        for wrong in ("canary-", "canary-" * 50, {"canary-": "canary-"}, ["canary-"], "\0canary-", 1e300, True):
            ask("POST", "/v1/decisions", {**draw, "request_id": "canary-other", name: wrong, "deadline_ms": 5_001})
            ask("POST", "/v1/decisions/preview", {**draw, name: wrong, "deadline_ms": 0})
    for body in (b'{"customer_id": "canary-customer-7a02', b'{"amount": canary-1}', b'"canary-customer-7a02"'):
        ask("POST", "/v1/decisions", content=body, headers={"content-type": "application/json"})
    other = {**line, "customer_id": "canary-other"}
    assert ask("PUT", f"/v1/facilities/{PERSONAL['facility_id']}", other).status_code == 409
    ask("PUT", f"{customer}/attributes", {"canary_word": {"value": 1, "as_of": now()}})
    ask("GET", f"{customer}/features?ip=canary-1&amount=canary-1&channel=canary-1&facility_id=canary-x")
    ask("GET", f"{customer}/features/no_feature")
    ask("GET", "/v1/decisions/canary-decision")
    ask("GET", "/v1/facilities/canary-none")
    ask("GET", "/v1/lists/nolist/canary-value")
    ask("GET", "/canary-path/canary-customer-7a02")
    ask("POST", "/v1/events", {"events": []})
    for credentials in ("", "Bearer canary-1", f"Bearer {forged}", "Basic canary-1"):
        assert ask("GET", customer + "/features", headers={"authorization": credentials}).status_code == 401
    assert ask("GET", customer + "/features", headers={"authorization": f"Bearer {limited}"}).status_code == 403


def _raw_calls(port: int, key: str) -> None:
    """What is no HTTP, and a body that never comes."""
    for request in (
        b"GET /canary-customer-7a02 HTTP/9.9\r\n\r\n", b"canary-customer-7a02\r\n\r\n",
        b"GET /v1/customers/canary-customer-7a02/../../policy HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + key.encode()
        + b"\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\ncanary-customer-7a02",
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", port), 10) as caller:
            caller.settimeout(0.3)
            caller.sendall(request)
            try:
                answer = b"".join(iter(lambda c=caller: c.recv(65_536), b""))  # type: ignore[misc]
            except TimeoutError:
                answer = b""
            assert leaks(answer.decode(errors="replace"), key) == []


def _crash(ask: Caller, server: ValkeyServer, draw: dict[str, Any]) -> None:
    """Spoil what the store holds of another customer, so that reading it crashes or is refused."""
    with redis.Redis(host="127.0.0.1", port=server.port, password=SECRET_PASSWORD) as client:
        before = set(client.scan_iter(count=1_000))
        spoiled = {**draw, "customer_id": "canary-spoiled", "facility_id": "canary-spoiled", "request_id": "canary-sp"}
        line = {
            "customer_id": "canary-spoiled", "product": "p", "currency": "CNY", "limit": 50_000, "outstanding": 0,
            "as_of": now(), "apr": 0.18, "status": "active", "granted_at": "2025-03-01T00:00:00Z",
        }  # fmt: skip
        assert ask("PUT", "/v1/facilities/canary-spoiled", line).is_success
        assert ask("POST", "/v1/decisions", spoiled).is_success
        for name in set(client.scan_iter(count=1_000)) - before:
            if client.type(name) == b"hash":
                for field in client.hkeys(name):
                    client.hset(name, field, b"canary-customer-7a02 \xff\x00 garbage")
    ask("POST", "/v1/decisions", {**spoiled, "request_id": "canary-sp2"})
    ask("GET", "/v1/facilities/canary-spoiled")
    ask("GET", "/v1/customers/canary-spoiled/features")


def _policies(ask: Caller, rules: Path, service: ServiceProcess) -> None:
    """Policies that are refused, published and on disk, with a customer's id among their texts."""
    wrong = 'rule_set: drawdown\nscene: drawdown\nrules: ["canary-customer-7a02"]\n'
    answer = ask.client.post("/v1/policy/publish", json={"files": {"drawdown.yaml": wrong}})
    assert answer.status_code == 422  # its diagnostics quote what was sent, to whoever sent it: they are for analysts
    good = (rules / "drawdown.yaml").read_text()
    (rules / "drawdown.yaml").write_text(wrong)
    assert ask.client.post("/v1/policy/reload").status_code == 422
    (rules / "drawdown.yaml").write_text(good)
    assert ask.client.post("/v1/policy/reload").is_success


def _lose_the_store(ask: Caller, server: ValkeyServer, draw: dict[str, Any], customer: str) -> None:
    """Static answers and refusals while the store is gone."""
    server.kill()
    for n in range(3):
        ask("POST", "/v1/decisions", {**draw, "request_id": f"canary-static-{n}", "deadline_ms": 300})
    ask("POST", "/v1/decisions", {**draw, "deadline_ms": 300})
    ask("GET", f"{customer}/features")
    ask("POST", "/v1/events", {"events": [{"event_id": "canary-e", "customer_id": draw["customer_id"], "kind": "login",
                                           "occurred_at": now()}]})  # fmt: skip
    ask("GET", "/readyz")
    time.sleep(1.5)  # what runs beside the calls notices it as well


@pytest.mark.parametrize("wrong", ["127.0.0.1:port/0", "[::1/0", "h h:1/canary-x", "127.0.0.1:1/0?db=canary-x"])
def test_a_wrong_url_of_the_store_is_never_quoted(wrong: str, tmp_path: Path) -> None:
    """The start is refused, or the store found unreachable, without a word of the URL."""
    url = f"redis://:{SECRET_PASSWORD}@{wrong}"

    async def go() -> None:
        settings = load_settings(redis_url=url, data_dir=tmp_path)
        store = store_of(settings)
        try:
            await store.read("c-1", None, 0.3)
        finally:
            await store.close()

    with pytest.raises(DecisionServiceError) as caught:
        asyncio.run(go())
    assert leaks(f"{caught.value} {caught.value!r}") == []


@pytest.mark.slow
def test_a_password_on_the_command_line_is_warned_of(tmp_path: Path) -> None:
    """The list of processes shows command lines to every user of the host; the environment it does not."""
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]  # so that it ends at once
    ended = subprocess.run(
        [sys.executable, "-m", "decision_service", "serve", "--port", str(port), "--data-dir", str(tmp_path),
         "--redis-url", f"redis://:{SECRET_PASSWORD}@127.0.0.1:1/0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    taken.close()
    assert ended.returncode == 2
    assert leaks(ended.stdout + ended.stderr) == []
    assert "the store's password stands in the list of processes" in ended.stderr


def test_settings_mask_the_password() -> None:
    """However they are printed."""
    settings = Settings(redis_url=f"redis://:{SECRET_PASSWORD}@h/0")  # type: ignore[arg-type]
    assert leaks(f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}") == []
    assert json.loads(settings.model_dump_json())["redis_url"] == "**********"

"""The calls of the contract, one by one, over a desk of fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from api_fakes import DRAWDOWN, EVENT, FACILITY, NOW_MS, Office, office

from decision_service.api import examples
from decision_service.api.app import create_app
from decision_service.api.parse import Clock, parse_decision
from decision_service.api.routes import ROUTES
from decision_service.core.errors import DeadlineExceeded, OutcomeUnknown, StoreUnavailable
from decision_service.core.event import drawdown_key, event_key
from decision_service.core.links import log_name, log_names
from decision_service.feature_question import FeatureQuestion
from decision_service.kept import Kept

CLOCK = Clock(NOW_MS, 300_000, 30 * 86_400_000)


def play(directory: Path, test: Callable[[Office], Awaitable[Any]], **settings: Any) -> Any:
    """Run a test in a fresh office."""

    async def go() -> Any:
        async with office(directory, **settings) as opened:
            return await test(opened)

    return asyncio.run(go())


def fingerprint(body: str | dict[str, Any]) -> bytes:
    """The fingerprint of a drawdown body."""
    text = body.encode() if isinstance(body, str) else orjson.dumps(body)
    return parse_decision(text, CLOCK)[0].fingerprint


@pytest.mark.fault("D01")
def test_a_decision_is_answered_and_its_repeat_says_so(tmp_path: Path) -> None:
    """The first answer has no Idempotency-Replayed header, the second has the same bytes and the header."""

    async def go(opened: Office) -> tuple[httpx.Response, httpx.Response]:
        return (
            await opened.client.post("/v1/decisions", json=DRAWDOWN),
            await opened.client.post("/v1/decisions", json=DRAWDOWN),
        )

    first, second = play(tmp_path, go)
    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"


@pytest.mark.fault("D04")
@pytest.mark.parametrize(
    "same",
    [
        {"amount": "4990.00"},
        {"amount": "4990"},
        {"amount": 4990},
        {"occurred_at": "2026-11-20T19:12:09Z"},
        {"occurred_at": "2026-11-21T03:12:09.000+08:00"},
        {"deadline_ms": 77},
        {"device_id": None},
        {"term_months": None},
        {"attributes": {"inquiries": 2.0}},
        {"geo": {"lon": 121.47, "lat": 31.230}},
        {"geo": {"lon": 121.47, "lat": 31.23, "accuracy_m": None}},
    ],
)
def test_the_same_content_has_one_fingerprint(same: dict[str, Any]) -> None:
    """White space, key order, 1 against 1.0 against "1.00", null against absent and the deadline do not count."""
    body = dict(reversed({**DRAWDOWN, **same}.items()))
    assert fingerprint(body) == fingerprint(DRAWDOWN)
    assert fingerprint(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()) == fingerprint(DRAWDOWN)


@pytest.mark.fault("D04")
def test_an_address_has_one_form() -> None:
    """An address written in another way is the same content; another address is not; without one nothing changed since
    requests could name one."""
    one, same, other = (fingerprint({**DRAWDOWN, "ip": ip}) for ip in ("2001:DB8::0:1", "2001:db8::1", "2001:db8::2"))
    assert one == same != other
    assert fingerprint({**DRAWDOWN, "ip": None}).hex() == "f13bf1e235dac0a0f4c87c01dd2ac19a"


@pytest.mark.fault("D03")
@pytest.mark.parametrize(
    "other",
    [
        {"customer_id": "c-2"},
        {"facility_id": "f-2"},
        {"amount": 4990.01},
        {"currency": "USD"},
        {"channel": "web"},
        {"occurred_at": "2026-11-21T03:12:09.001+08:00"},
        {"occurred_at": None},
        {"device_id": "d"},
        {"counterparty_id": "p"},
        {"purpose": "travel"},
        {"geo": None},
        {"geo": {"lat": 31.23, "lon": 121.4700001}},
        {"term_months": 3},
        {"geo": {"lat": 31.23, "lon": 121.47, "accuracy_m": 20}},
        {"geo": {"lat": 31.23, "lon": 121.47, "accuracy_m": 19}},
        {"attributes": {"inquiries": 3}},
        {"attributes": {"inquiries": "2"}},
        {"attributes": {}},
        {"facility": FACILITY},
        {"customer_id": "C-1"},
        {"device_id": "c-1"},
        {"counterparty_id": "c-1"},
        {"ip": "203.0.113.7"},
        {"ip": "c0a8::1"},
    ],
)
def test_other_content_has_another_fingerprint(other: dict[str, Any]) -> None:
    """Every field but request_id and deadline_ms counts."""
    assert fingerprint({**DRAWDOWN, **other}) != fingerprint(DRAWDOWN)


@pytest.mark.fault("D03")
def test_other_content_under_one_request_id_is_refused(tmp_path: Path) -> None:
    """422 idempotency-key-reuse, and only the first was decided."""

    async def go(opened: Office) -> httpx.Response:
        await opened.client.post("/v1/decisions", json=DRAWDOWN)
        answer = await opened.client.post("/v1/decisions", json={**DRAWDOWN, "amount": 1})
        assert len(opened.decisions.asked) == 1
        return answer

    answer = play(tmp_path, go)
    assert answer.status_code == 422
    assert answer.json()["type"].endswith(":idempotency-key-reuse")


@pytest.mark.fault("D18")
@pytest.mark.parametrize(
    ("written", "minor"),
    [
        ("4990.00", 499_000),
        ("0.01", 1),
        ("1e2", 10_000),
        ("1.0E+2", 10_000),
        ('"1000000000000.00"', 10**14),
        ("0.1", 10),
        ("999999999999.99", 99_999_999_999_999),
        ("4990.0000000000000000000", 499_000),
        ("1.10", 110),
        ("70.07", 7_007),
    ],
)
def test_money_is_exact_however_it_is_written(written: str, minor: int) -> None:
    """Amounts never pass through a double."""
    body = orjson.dumps(DRAWDOWN).replace(b"4990.0", written.encode())
    assert parse_decision(body, CLOCK)[0].amount_minor == minor


@pytest.mark.fault("D18")
@pytest.mark.parametrize(("currency", "amount", "minor"), [("JPY", 5, 5), ("KWD", "1.005", 1_005), ("USD", 1.05, 105)])
def test_a_currency_has_its_own_decimals(currency: str, amount: Any, minor: int) -> None:
    """Minor units follow ISO 4217."""
    assert (
        parse_decision(orjson.dumps({**DRAWDOWN, "currency": currency, "amount": amount}), CLOCK)[0].amount_minor
        == minor
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable("redis://user:secret@host"), "store-unavailable"),
        (OutcomeUnknown("lost"), "outcome-unknown"),
        (DeadlineExceeded("late"), "deadline-exceeded"),
    ],
)
def test_a_failing_store_is_503_and_tells_nothing_of_itself(error: Exception, code: str, tmp_path: Path) -> None:
    """The answer names the stable code and when to come again, not what went wrong inside."""

    async def go(opened: Office) -> httpx.Response:
        opened.decisions.raises = error
        return await opened.client.post("/v1/decisions", json=DRAWDOWN)

    answer = play(tmp_path, go)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["type"].endswith(":" + code)
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/policy"])
def test_a_bug_is_500_without_its_message(path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither answer nor log quotes an exception that may quote a customer."""

    async def go(opened: Office) -> httpx.Response:
        opened.decisions.raises = opened.customers.raises = ZeroDivisionError("canary-4711")
        if path == "/v1/policy":
            return await opened.client.get(path)
        return await opened.client.post(path, json=DRAWDOWN)

    answer = play(tmp_path, go)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "canary" not in answer.text
    assert "ZeroDivisionError" in caplog.text
    assert "canary" not in caplog.text


def test_a_facility_comes_back_as_it_was_given(tmp_path: Path) -> None:
    """PUT and GET answer the snapshot and, under `position`, what is derived now."""

    async def go(opened: Office) -> tuple[Any, Any]:
        put = await opened.client.put("/v1/facilities/f%2F1", json=FACILITY)
        return put.json(), (await opened.client.get("/v1/facilities/f%2F1")).json()

    put, got = play(tmp_path, go)
    assert put == got
    assert got["facility_id"] == "f/1"
    assert (got["limit"], got["outstanding"], got["apr"]) == (50000.0, 12000.0, 0.18)
    assert got["as_of"] == "2026-11-20T10:00:00.000Z"
    assert got["position"] == {"outstanding": 12000.0, "reserved": 0.0, "available": 38000.0}
    assert got["days_past_due"] is None


def test_events_are_answered_one_by_one_in_order(tmp_path: Path) -> None:
    """A thousand events are a call; each is packed with exact amounts."""

    async def go(opened: Office) -> Any:
        events = [{**EVENT, "event_id": f"e-{i}", "amount": f"{i + 1}.05"} for i in range(1_000)]
        told = (await opened.client.post("/v1/events", json={"events": events})).json()
        assert [p.event.amount_minor for p in opened.customers.events] == [(i + 1) * 100 + 5 for i in range(1_000)]
        return told

    told = play(tmp_path, go)
    assert told["accepted"] == 1_000
    assert [e["event_id"] for e in told["events"]] == [f"e-{i}" for i in range(1_000)]


def test_what_events_concern_and_name_reaches_the_service(tmp_path: Path) -> None:
    """A label concerns a decision or an event, a repayment the draw it pays back; entities are named by their logs."""
    decision = "d07fa191cd2ab1d9fa83ba7cc12997cb95b7"
    label = {**EVENT, "kind": "label", "amount": None, "currency": None, "category": "fraud"}
    named = {"device_id": "d-1", "counterparty_id": "m-1", "ip": "203.0.113.7"}

    async def go(opened: Office) -> Any:
        events = [
            {**label, "decision_id": decision},
            {**label, "about_event_id": "e-0", **named},
            {**EVENT, "decision_id": decision, "ip": "203.0.113.99"},
        ]
        told = (await opened.client.post("/v1/events", json={"events": events})).json()
        assert told["accepted"] == 3, told
        return opened.customers.events

    of_decision, of_event, repayment = play(tmp_path, go)
    assert of_decision.event.settles == repayment.event.settles == drawdown_key(decision)
    assert of_event.event.settles == event_key("e-0")
    assert (of_decision.names, of_event.names) == ((), log_names(**named))
    assert repayment.names == (log_name("ip", "203.0.113.7"),)


def test_attributes_are_taken_over(tmp_path: Path) -> None:
    """Numbers and strings of declared names reach the service with their instants."""

    async def go(opened: Office) -> Any:
        body = {
            "inquiries": {"value": 2, "as_of": "2026-11-01T00:00:00Z"},
            "segment": {"value": "a", "as_of": "2026-11-01T00:00:00Z"},
        }
        answer = await opened.client.put("/v1/customers/c%0A%7B1/attributes", json=body)
        return answer.json(), opened.customers.attributes

    told, stored = play(tmp_path, go)
    assert told == {"customer_id": "c\n{1", "names": ["inquiries", "segment"]}
    assert stored["c\n{1"]["inquiries"].value == 2.0


def test_features_are_asked_with_names_instant_and_facility(tmp_path: Path) -> None:
    """The query reaches the service typed."""

    async def go(opened: Office) -> Any:
        url = "/v1/customers/c-1/features?names=a,b&at=2026-11-20T00:00:00%2B08:00&facility_id=f-1"
        assert (await opened.client.get(url)).status_code == 200
        await opened.client.get("/v1/customers/c-1/features")
        return opened.customers.asked_features

    asked = FeatureQuestion("c-1", 1_795_104_000_000, facility_id="f-1")
    assert play(tmp_path, go) == [(asked, ["a", "b"]), (FeatureQuestion("c-1"), None)]


def test_a_feature_is_explained_for_a_request_one_imagines(tmp_path: Path) -> None:
    """What the query names reaches the service typed, and what it misnames is refused by its name."""

    async def go(opened: Office) -> Any:
        url = "/v1/customers/c-1/features/vel_req_cnt_10m"
        named = "amount=12.50&device_id=d-1&counterparty_id=m-1&channel=app&ip=10.0.0.1&purpose=travel&deep=true"
        assert (await opened.client.get(f"{url}?{named}&loan_id=e-1")).status_code == 200
        wrong = ("amount=x", "channel=ap", "ip=10.0.0", "deep=1", "device_id=", "at=yesterday", "colour=red")
        told = [(await opened.client.get(f"{url}?{text}")).json()["field"] for text in wrong]
        return opened.customers.asked_features, told

    asked, told = play(tmp_path, go)
    question = FeatureQuestion(
        "c-1", amount=Decimal("12.50"), channel="app", device_id="d-1", counterparty_id="m-1", purpose="travel",
        ip="10.0.0.1", loan_id="e-1",
    )  # fmt: skip
    assert asked == [(question, "vel_req_cnt_10m", True)]
    assert told == ["amount", "channel", "ip", "deep", "device_id", "at", "colour"]


def test_the_page_of_features_needs_nothing_from_outside(tmp_path: Path) -> None:
    """It is HTML, and its policy lets the browser load nothing but what is in it."""

    async def go(opened: Office) -> Any:
        return await opened.client.get("/features?q=vol_ok")

    page = play(tmp_path, go)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


def test_a_value_goes_on_a_list_and_off_again(tmp_path: Path) -> None:
    """PUT and DELETE say whether they changed anything; GET tells how it stands."""

    async def go(opened: Office) -> list[Any]:
        path = "/v1/lists/block/%E5%AE%A2%2F%3F"
        steps = ["PUT", "PUT", "GET", "DELETE", "DELETE", "GET"]
        return [(await opened.client.request(method, path)).json() for method in steps]

    told = play(tmp_path, go)
    assert all(step["value"] == "客/?" for step in told)
    assert [step.get("changed") for step in told] == [True, False, None, True, False, None]
    assert [step["present"] for step in told] == [True, True, True, False, False, False]


def test_probes_tell_alive_from_ready(tmp_path: Path) -> None:
    """/livez answers whatever happens, /readyz says what is wrong."""

    async def go(opened: Office) -> None:
        assert (await opened.client.get("/readyz")).json() == {"status": "ready"}
        opened.customers.troubles = ["store: evicts keys"]
        answer = await opened.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["problems"] == ["store: evicts keys"]
        assert (await opened.client.get("/livez")).json() == {"status": "alive"}

    play(tmp_path, go)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "/v1/decisions", 405, "GET, POST"),
        ("PATCH", "/v1/facilities/f", 405, "GET, PUT"),
        ("POST", "/v1/lists/a/b", 405, "DELETE, GET, PUT"),
        ("DELETE", "/livez", 405, "GET"),
        ("POST", "/docs", 405, "GET"),
        ("GET", "/v2/decisions", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/v1/decisions/", 404, None),
        ("GET", "/v1/facilities/", 404, None),
        ("GET", "/docs/assets/nothing.js", 404, None),
        ("GET", "/docs/assets/../../settings.py", 404, None),
        ("GET", "/docs/assets/%2e%2e/core.py", 404, None),
        ("TRACE", "/v1/policy", 405, "GET"),
    ],
)
def test_unknown_paths_and_methods_are_problems(
    method: str, path: str, status: int, allow: str | None, tmp_path: Path
) -> None:
    """404 and 405 are problem documents; 405 names every method of the path."""

    async def go(opened: Office) -> httpx.Response:
        return await opened.client.request(method, path)

    answer = play(tmp_path, go)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get("allow") == allow


def test_more_in_flight_than_allowed_is_shed(tmp_path: Path) -> None:
    """A full worker answers 503 too-busy at once, and recovers."""

    async def go(opened: Office) -> None:
        opened.decisions.waits_for = asyncio.Event()
        held = [
            asyncio.create_task(opened.client.post("/v1/decisions", json={**DRAWDOWN, "request_id": f"r{i}"}))
            for i in range(2)
        ]
        for _ in range(1_000):  # both are held once the gauge says so
            await asyncio.sleep(0)
        shed = await opened.client.post("/v1/decisions", json=DRAWDOWN)
        assert shed.status_code == 503
        assert shed.json()["type"].endswith(":too-busy")
        assert (await opened.client.get("/livez")).status_code == 200
        opened.decisions.waits_for.set()
        assert [(await task).status_code for task in held] == [200, 200]
        assert (await opened.client.post("/v1/decisions", json=DRAWDOWN)).status_code == 200

    play(tmp_path, go, requests_in_flight_max=2)


def test_what_happened_is_counted(tmp_path: Path) -> None:
    """/metrics shows decisions, requests by template and the stages, and no id."""

    async def go(opened: Office) -> str:
        await opened.client.post("/v1/decisions", json=DRAWDOWN)
        await opened.client.post("/v1/decisions", json=DRAWDOWN)
        await opened.client.get("/v1/facilities/canary-id")
        await opened.client.get("/canary-path")
        return (await opened.client.get("/metrics")).text

    page = play(tmp_path, go)
    assert 'decisions_total{decision="approve",replayed="true",rung="full",scene="drawdown"} 1.0' in page
    assert 'http_requests_total{method="POST",route="/v1/decisions",status="200"} 2.0' in page
    assert 'http_requests_total{method="GET",route="/v1/facilities/{facility_id}",status="404"} 1.0' in page
    assert 'stage_seconds_count{stage="total"} 2.0' in page
    assert "requests_in_flight 1.0" in page
    assert "canary" not in page


def test_the_docs_page_needs_no_network(tmp_path: Path) -> None:
    """Every script and style of /docs comes from this service."""

    async def go(opened: Office) -> tuple[str, list[int]]:
        page = (await opened.client.get("/docs")).text
        assets = ["swagger-ui-bundle.js", "swagger-ui.css"]
        return page, [(await opened.client.get(f"/docs/assets/{name}")).status_code for name in assets]

    page, statuses = play(tmp_path, go)
    assert "http://" not in page
    assert "https://" not in page
    assert statuses == [200, 200]


def test_the_document_describes_every_route_and_status() -> None:
    """Each call has a summary, its bodies, and a response for each status of the table."""
    document = create_app().openapi()
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert set(operation["responses"]) == {"200", *map(str, route.problems)}
        assert operation["summary"]
        assert ("requestBody" in operation) is (route.body is not None)


def test_every_example_of_the_document_is_accepted(tmp_path: Path) -> None:
    """What the documentation shows works."""

    async def go(opened: Office) -> None:
        decision = {**examples.DECISION, "attributes": {}}
        attributes = {"inquiries": next(iter(examples.ATTRIBUTES.values()))}
        for method, path, body in (
            ("POST", "/v1/decisions", decision),
            *(
                ("POST", "/v1/decisions", example)
                for scene, example in examples.DECISIONS.items()
                if scene != "drawdown"
            ),
            ("POST", "/v1/decisions/preview", decision),
            ("PUT", "/v1/facilities/f-1001", examples.FACILITY),
            ("POST", "/v1/policy/check", examples.POLICY_FILES),
            ("PUT", "/v1/customers/c-1001/attributes", attributes),
        ):
            assert (await opened.client.request(method, path, json=body)).status_code == 200, path
        told = (await opened.client.post("/v1/events", json=examples.EVENTS)).json()
        assert told["accepted"] == len(examples.EVENTS["events"])

    play(tmp_path, go)


@pytest.mark.fault("D04")
def test_a_decimal_reaches_the_service_as_the_caller_wrote_it() -> None:
    """The body is kept byte for byte for the trace."""
    body = orjson.dumps(DRAWDOWN).replace(b"4990.0", b"4990.00")
    request, _ = parse_decision(body, CLOCK)
    assert request.body == body
    assert Decimal(request.amount_minor) / 100 == Decimal("4990.00")


def test_reads_of_personal_data_are_recorded_and_nothing_else(tmp_path: Path) -> None:
    """Who, which call, whose, the caller's own id of the request; not what is refused, not found or nobody's."""

    async def go(opened: Office) -> list[tuple[str, str, str | None, str, str]]:
        async def decision(decision_id: str) -> Kept:
            return Kept(orjson.dumps({"decision_id": decision_id, "customer_id": "c-1"}), "store")

        await opened.client.put("/v1/facilities/f-1", json=FACILITY)
        await opened.client.get("/v1/decisions/d-0")
        await opened.client.get("/v1/facilities/nobody")
        await opened.client.get("/v1/policy")
        assert opened.accesses.told == []
        opened.decisions.decision = decision  # type: ignore[method-assign]
        await opened.client.get("/v1/decisions/d-1", headers={"X-Request-Id": "x" * 200})
        await opened.client.get("/v1/facilities/f-1")
        await opened.client.get("/v1/customers/c-2/features")
        await opened.client.get("/v1/customers/c-2/features/b")
        return opened.accesses.told

    assert play(tmp_path, go) == [
        ("local", "GET /v1/decisions/{decision_id}", "c-1", "d-1", "x" * 128),
        ("local", "GET /v1/facilities/{facility_id}", FACILITY["customer_id"], "", ""),
        ("local", "GET /v1/customers/{customer_id}/features", "c-2", "", ""),
        ("local", "GET /v1/customers/{customer_id}/features/{name}", "c-2", "", ""),
    ]

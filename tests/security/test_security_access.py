"""Who may call what about whom: every route with every scope, without credentials and with those of another customer.

The matrices are made from the table of routes, so a new route that is not told here fails the tests.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from real_office import bearer, real_office

from decision_service.api.keys import SCOPES, add_key
from decision_service.api.routes import ABOUT_CUSTOMERS, OPEN_PATHS, ROUTES, Examples, Route

PATH_VALUES: Final = {
    "{decision_id}": "d", "{facility_id}": "retail-f", "{customer_id}": "retail-1", "{name}": "vel_prior_10m",
    "{list}": "block", "{value}": "v", "{number}": "1",
}  # fmt: skip
OPEN: Final = {"/livez", "/readyz", "/docs", "/openapi.json"}


def now() -> str:
    return datetime.now(UTC).isoformat()


def facility(customer_id: str, **change: Any) -> dict[str, Any]:
    """A good snapshot of a line."""
    return {
        "customer_id": customer_id, "product": "revolving", "currency": "CNY", "limit": 50_000, "outstanding": 0,
        "as_of": now(), "apr": 0.18, "status": "active", "granted_at": "2025-03-01T00:00:00Z", **change,
    }  # fmt: skip


def drawdown(request_id: str, customer_id: str, facility_id: str, amount: float = 100, **change: Any) -> dict[str, Any]:
    """A good drawdown."""
    return {
        "request_id": request_id, "customer_id": customer_id, "facility_id": facility_id, "amount": amount,
        "currency": "CNY", "deadline_ms": 5_000, **change,
    }  # fmt: skip


def event(event_id: str, customer_id: str, **change: Any) -> dict[str, Any]:
    """A good repayment."""
    return {
        "event_id": event_id, "customer_id": customer_id, "kind": "repayment", "amount": 10, "currency": "CNY",
        "occurred_at": now(), **change,
    }  # fmt: skip


def example(route: Route) -> Any:
    """A body the route takes, or at least looks at."""
    if route.path == "/v1/facilities/{facility_id}":
        return facility("retail-1")
    return next(iter(route.example.values())) if isinstance(route.example, Examples) else route.example


def path_of(route: Route) -> str:
    """The route's path with values; KeyError for a parameter nobody thought of here."""
    parts = [PATH_VALUES[part] if part.startswith("{") else part for part in route.path.split("/")]
    return "/".join(parts)


async def call(client: httpx.AsyncClient, route: Route, credentials: str | None, body: Any = None) -> httpx.Response:
    """One call of a route."""
    headers = {} if credentials is None else {"authorization": credentials}
    content = {"json": example(route) if body is None else body} if route.body is not None else {}
    return await client.request(route.method, path_of(route), headers=headers, **content)


@pytest.mark.fault("I01", "I04")
def test_every_route_takes_exactly_its_scope(tmp_path: Path) -> None:
    """Every route x every scope x every kind of credentials: its own scope and admin pass, another scope is 403, and
    none, wrong, expired or revoked ones are 401; what needs no scope is told here by name."""
    file = tmp_path / "keys.json"
    keys = {scope: add_key(file, scope, [scope]) for scope in SCOPES}
    keys["all but admin"] = add_key(file, "most", [scope for scope in SCOPES if scope != "admin"])
    keys["none"] = add_key(file, "nothing", [])
    expired = add_key(file, "expired", ["admin"], expires_at="2020-01-01T00:00:00Z")
    good = keys["admin"]
    strangers = [
        None, "", "Bearer", "Bearer ", f"Basic {good}", good, f"Bearer {good}x", f"Bearer x{good}",
        f"Bearer {good[:-1]}", f"Bearer {expired}", f"Bearer {good} {good}", f"Bearer {good},", "Bearer null",
        "Bearer undefined", f"Bearer {good.upper()}",
    ]  # fmt: skip

    async def go() -> None:
        async with real_office(tmp_path, file) as client:
            told_all: set[str] = set()  # scopes of which a route was tried with every kind of stranger
            for route in ROUTES:
                if route.scope is None:
                    assert route.path in OPEN, f"{route.label} is open to anybody: say so here if it should be"
                    assert (await call(client, route, None)).status_code == 200
                    continue
                each = strangers if route.scope not in told_all else (None, f"Bearer {expired}", f"Bearer {good}x")
                told_all.add(route.scope)
                for credentials in each:
                    answer = await call(client, route, credentials)
                    assert answer.status_code == 401, (route.label, credentials)
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                passed = {
                    name for name, key in keys.items()
                    if (await call(client, route, f"Bearer {key}")).status_code not in (401, 403)
                }  # fmt: skip
                expected = {route.scope, "admin"} | ({"all but admin"} if route.scope != "admin" else set())
                assert passed == expected, route.label

    asyncio.run(go())
    assert set(OPEN_PATHS) == OPEN


@pytest.mark.fault("I01")
def test_refusals_of_strangers_are_all_alike(tmp_path: Path) -> None:
    """Nobody learns whether a key expired, was revoked or never was, or which paths there are."""
    file = tmp_path / "keys.json"
    add_key(file, "bank", ["decide"])
    expired = add_key(file, "old", ["decide"], expires_at="2020-01-01T00:00:00Z")

    async def go() -> set[tuple[int, str]]:
        async with real_office(tmp_path, file) as client:
            answers = [
                await client.request(method, path, headers=bearer(key))
                for key in (expired, "dsk_never")
                for method, path in (("POST", "/v1/decisions"), ("GET", "/v1/policy"), ("GET", "/nothing"),
                                     ("PATCH", "/v1/policy"), ("GET", "/metrics"))
            ]  # fmt: skip
            return {(answer.status_code, answer.text) for answer in answers}

    assert len(asyncio.run(go())) == 1


# --- another's customer -------------------------------------------------------------------------------------------


class Town:
    """Two customers, each with a line, a decision and events; a key for all and one limited to `retail-*`."""

    def __init__(self, client: httpx.AsyncClient, everyone: str, limited: str) -> None:
        self.client, self.everyone, self.limited = client, everyone, limited
        self.decisions: dict[str, str] = {}

    async def settle(self) -> None:
        """Let both customers move in."""
        for name in ("retail", "corp"):
            customer, line = f"{name}-1", f"{name}-f"
            assert (await self.ask("PUT", f"/v1/facilities/{line}", facility(customer))).status_code == 200
            answer = await self.ask("POST", "/v1/decisions", drawdown(f"{name}-r", customer, line))
            assert answer.json()["decision"] == "approve"
            self.decisions[name] = answer.json()["decision_id"]

    async def ask(self, method: str, path: str, body: Any = None, key: str = "") -> httpx.Response:
        """A call with the key for all, or another."""
        content = {} if body is None else {"json": body}
        return await self.client.request(method, path, headers=bearer(key or self.everyone), **content)

    async def of_corp(self) -> list[Any]:
        """All that can be seen of the other customer."""
        paths = ("/v1/facilities/corp-f", "/v1/customers/corp-1/features", f"/v1/decisions/{self.decisions['corp']}")
        answers = [(await self.ask("GET", path)).json() for path in paths]
        answers[1]["features"] = {name: told["value"] for name, told in answers[1]["features"].items()}
        answers[1].pop("at", None)
        return answers

    def questions(self, name: str, n: int) -> dict[str, tuple[str, Any]]:
        """For each route about customers: path and body that concern one of the two customers."""
        customer, line = f"{name}-1", f"{name}-f"
        features = f"/v1/customers/{customer}/features"
        return {
            "POST /v1/decisions": ("/v1/decisions", drawdown(f"again-{n}", customer, line)),
            "POST /v1/decisions/preview": ("/v1/decisions/preview", drawdown(f"seen-{n}", customer, line)),
            "GET /v1/decisions/{decision_id}": (f"/v1/decisions/{self.decisions[name]}", None),
            "GET /v1/decisions": (f"/v1/decisions?customer_id={customer}", None),
            "POST /v1/events": ("/v1/events", {"events": [event(f"e-{n}", customer)]}),
            "PUT /v1/facilities/{facility_id}": (f"/v1/facilities/{line}", facility(customer, limit=1)),
            "GET /v1/facilities/{facility_id}": (f"/v1/facilities/{line}", None),
            "PUT /v1/customers/{customer_id}/attributes": (f"/v1/customers/{customer}/attributes", {}),
            "GET /v1/customers/{customer_id}/features": (features, None),
            "GET /v1/customers/{customer_id}/features/{name}": (f"{features}/vel_prior_10m", None),
        }  # fmt: skip


def in_town(directory: Path, test: Any) -> None:
    """Run a test in a town of its own."""
    file = directory / "keys.json"
    everyone = add_key(file, "core", ["admin"])
    limited = add_key(file, "retail", ["admin"], customers=["retail-*"])

    async def go() -> None:
        async with real_office(directory, file) as client:
            town = Town(client, everyone, limited)
            await town.settle()
            await test(town)

    asyncio.run(go())


@pytest.mark.fault("I02")
def test_a_limited_key_reaches_nothing_of_other_customers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every route, even with the scope admin: its own customers are served, another's are refused as if they were not
    there, nothing of theirs changes, and each attempt is logged without naming them."""

    async def test(town: Town) -> None:
        before = await town.of_corp()
        foreign, own = town.questions("corp", 1), town.questions("retail", 2)
        for route in ROUTES:
            if route.scope is None:
                continue
            if route.tag not in ABOUT_CUSTOMERS:
                assert (await call(town.client, route, f"Bearer {town.limited}")).status_code == 403, route.label
                continue
            caplog.clear()
            path, body = foreign[route.label]  # KeyError: a new route about customers; say here what is foreign
            refused = await town.ask(route.method, path, body, town.limited)
            if route.label == "POST /v1/events":
                assert refused.json()["rejected"] == 1
                assert refused.json()["events"][0]["field"] == "events.0.customer_id"
            else:
                assert refused.status_code in (403, 404), route.label
                assert "corp-1" not in refused.text
            assert "retail may not reach the customer of this" in caplog.text, route.label
            assert "corp" not in caplog.text
            path, body = own[route.label]
            served = await town.ask(route.method, path, body, town.limited)
            assert served.status_code not in (401, 403, 404), (route.label, served.text)
        assert await town.of_corp() == before

    with caplog.at_level(logging.WARNING, "decision_service.access"):
        in_town(tmp_path, test)


@pytest.mark.fault("I02")
def test_what_is_hidden_looks_like_what_does_not_exist(tmp_path: Path) -> None:
    """A decision or line of another's customer gives the very answer of one that never was."""

    async def test(town: Town) -> None:
        hidden = town.decisions["corp"]
        never = hidden[:-4] + ("0000" if hidden[-4:] != "0000" else "1111")
        for path, known, unknown in (("decisions", hidden, never), ("facilities", "corp-f", "none-f")):
            one = await town.ask("GET", f"/v1/{path}/{known}", key=town.limited)
            other = await town.ask("GET", f"/v1/{path}/{unknown}", key=town.limited)
            assert (one.status_code, one.text.replace(known, "")) == (404, other.text.replace(unknown, ""))

    in_town(tmp_path, test)


@pytest.mark.fault("I02")
def test_ids_of_another_customer_inside_ones_own_call_change_and_tell_nothing(tmp_path: Path) -> None:
    """Another's line, decision or request id under one's own customer is refused or means nothing."""

    async def test(town: Town) -> None:
        before = await town.of_corp()
        draw = await town.ask("POST", "/v1/decisions", drawdown("x-1", "retail-1", "corp-f"), town.limited)
        assert draw.status_code in (404, 409, 422) or draw.json()["approved_amount"] == 0
        snapshot = drawdown("x-2", "retail-1", "corp-f", facility=facility("retail-1"))
        refused = await town.ask("POST", "/v1/decisions", snapshot, town.limited)
        assert (refused.status_code, refused.json()["field"]) == (422, "facility_id"), refused.text
        moved = await town.ask("PUT", "/v1/facilities/corp-f", facility("retail-1", limit=1), town.limited)
        assert moved.status_code == 409
        settling = event("x-3", "retail-1", kind="drawdown", decision_id=town.decisions["corp"], status="cancelled")
        await town.ask("POST", "/v1/events", {"events": [settling]}, town.limited)
        asked = await town.ask("GET", "/v1/customers/retail-1/features?facility_id=corp-f", key=town.limited)
        assert asked.status_code == 422
        replayed = await town.ask("POST", "/v1/decisions", drawdown("corp-r", "retail-1", "retail-f"), town.limited)
        assert "idempotency-replayed" not in replayed.headers
        assert replayed.json()["customer_id"] == "retail-1"
        assert await town.of_corp() == before

    in_town(tmp_path, test)


# --- what only the service sets -----------------------------------------------------------------------------------

SERVER_ONLY: Final = (
    "decision", "decision_id", "approved_amount", "score", "scores", "pd", "grade", "outcome", "rung", "policy",
    "policy_id", "version", "seq", "decided_at", "reasons", "trace", "features", "hold", "limit_change", "alerts",
    "missing", "latency_ms", "fingerprint", "principal", "scopes", "is_admin", "force", "__proto__", "constructor",
)  # fmt: skip


@pytest.mark.fault("I03", "E11")
def test_fields_that_only_the_service_sets_are_refused_by_name(tmp_path: Path) -> None:
    """In every body and at every depth, and nothing is stored."""
    file = tmp_path / "keys.json"
    key = add_key(file, "bank", ["admin"])

    async def go() -> None:
        async with real_office(tmp_path, file) as client:

            async def post(method: str, path: str, body: Any) -> httpx.Response:
                return await client.request(method, path, json=body, headers=bearer(key))

            for name in SERVER_ONLY:
                line, draw = facility("c-1"), drawdown("r-1", "c-1", "f-1")
                refused = {
                    name: [
                        await post("PUT", "/v1/facilities/f-1", line | {name: 1}),
                        await post("POST", "/v1/decisions", draw | {name: 1}),
                        await post("POST", "/v1/decisions/preview", draw | {name: 1}),
                    ],
                    f"facility.{name}": [await post("POST", "/v1/decisions", draw | {"facility": line | {name: 1}})],
                    f"geo.{name}": [
                        await post("POST", "/v1/decisions", draw | {"geo": {"lat": 1, "lon": 1, name: 1}}),
                    ],
                    f"attributes.{name}": [await post("POST", "/v1/decisions", draw | {"attributes": {name: 1}})],
                }
                for field, answers in refused.items():
                    assert [(a.status_code, a.json()["field"]) for a in answers] == [(422, field)] * len(answers)
                if name != "decision_id":  # an event may name the decision it settles
                    told = (await post("POST", "/v1/events", {"events": [event("e-1", "c-1") | {name: 1}]})).json()
                    assert (told["accepted"], told["events"][0]["field"]) == (0, f"events.0.{name}")
            assert (await client.get("/v1/facilities/f-1", headers=bearer(key))).status_code == 404

    asyncio.run(go())


@pytest.mark.fault("E11", "I03")
def test_an_unknown_version_path_or_parameter_is_refused(tmp_path: Path) -> None:
    """`/v2`, another case, a path with dots or a slash behind: 404; a parameter nobody declared: 422."""

    async def go() -> None:
        async with real_office(tmp_path, None) as client:
            for path in ("/v2/policy", "/V1/policy", "/v1/policy/", "//v1/policy", "/v1/policy%20", "/v1/policy%00",
                         "/admin", "/.env", "/docs/assets/..%2f..%2f..%2f..%2fetc%2fpasswd", "/openapi.yaml",
                         "/docs/%2e%2e/v1/policy", "/docs/..%2fv1%2fpolicy", "/debug", "/actuator", "/v1"):  # fmt: skip
                assert (await client.get(path)).status_code == 404, path
            assert (await client.get("/v1/customers/c/features?debug=1")).status_code == 422
            assert (await client.post("/v1/policy/reload?force=1")).status_code == 422

    asyncio.run(go())


@pytest.mark.fault("E11")
def test_the_document_is_the_table_of_routes(tmp_path: Path) -> None:
    """Inventory: every route is in OpenAPI with its scope and every path of it is a route; nothing else answers."""

    async def go() -> dict[str, Any]:
        async with real_office(tmp_path, None) as client:
            document: dict[str, Any] = (await client.get("/openapi.json")).json()
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "QUERY"):
                for path, item in document["paths"].items():
                    if method.lower() not in item and "{" not in path:
                        status = (await client.request(method, path)).status_code
                        assert status in (404, 405), (method, path)
            return document

    document = asyncio.run(go())
    documented = {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert documented.keys() == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        said = documented[route.method, route.path]
        assert ("security" in said) is (route.scope is not None)
        if route.scope is not None:
            assert f"`{route.scope}`" in said["description"]
            assert {"401", "403", "429"} <= set(said["responses"])

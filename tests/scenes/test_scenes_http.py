"""Reviews over HTTP, on a real server with a rule set for every scene but one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from scene_cases import FILES

from decision_service.api.examples import DECISIONS, FACILITY
from decision_service.cli import main
from decision_service.core.request import SCENES
from service_process import ServiceProcess


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the small rule sets, all but that for renewals; the examples' line is known to it."""
    folder = tmp_path_factory.mktemp("scenes")
    for name, text in FILES.items():
        if name != "renewal.yaml":
            path = folder / "rules" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    (folder / "models").mkdir()
    with ServiceProcess(folder, rules=folder / "rules", models=folder / "models") as service:
        assert httpx.put(f"{service.url}/v1/facilities/f-1001", json=FACILITY).status_code == 200
        yield service.url


def posted(url: str, body: dict[str, Any], path: str = "") -> httpx.Response:
    """The reply to one question, however busy the machine is."""
    return httpx.post(f"{url}/v1/decisions{path}", json={**body, "deadline_ms": 5_000}, timeout=10)


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene != "renewal"])
def test_the_example_of_every_scene_is_answered(url: str, scene: str) -> None:
    """Its answer says which scene judged; a preview gives the same with the trace of that scene."""
    example = DECISIONS[scene]
    seen = posted(url, example, "/preview").json()
    answer = posted(url, example).json()
    assert (answer["scene"], answer["currency"]) == (scene, "CNY")
    assert set(answer) == set(seen) - {"trace"}
    told = httpx.get(f"{url}/v1/decisions/{answer['decision_id']}").json()
    assert [rule["id"] for rule in told["trace"]["rules"]] == [rule["id"] for rule in seen["trace"]["rules"]]
    assert told["trace"]["request"] == {**example, "deadline_ms": 5_000}


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"scene": "warnings"}, "scene", "did you mean warning?"),
        ({"scene": 7}, "scene", "string"),
        ({"scene": "renewal"}, "scene", "only for drawdown, warning, limit, price, marketing"),
        ({"amount": 10}, "amount", "of drawdowns only"),
        ({"amount": 0}, "amount", "of drawdowns only"),
        ({"currency": "USD"}, "currency", "the facility is in CNY"),
        ({"currency": "XXX"}, "currency", ""),
        ({"scene": None}, "amount", "required"),
        ({"scene": "drawdown", "amount": 10}, "currency", "required"),
    ],
)
def test_what_does_not_fit_a_scene_is_refused_by_its_field(
    url: str, changed: dict[str, Any], field: str, said: str
) -> None:
    """A 4xx that names the field; nothing was decided, so the same request_id is free."""
    body = {**DECISIONS["limit"], "request_id": "refused", **changed}
    reply = posted(url, body)
    assert (reply.status_code, reply.json()["field"]) == (422, field)
    assert said.lower() in reply.json()["detail"].lower()


def test_the_scene_is_part_of_the_question(url: str) -> None:
    """One request_id cannot ask in two scenes; `drawdown` said and left out are the same question."""
    asked = {**DECISIONS["marketing"], "request_id": "two-scenes"}
    assert posted(url, asked).status_code == 200
    assert posted(url, asked).headers["idempotency-replayed"] == "true"
    other = posted(url, {**asked, "scene": "warning"})
    assert (other.status_code, other.json()["type"].rpartition(":")[2]) == (422, "idempotency-key-reuse")
    drawdown = {**DECISIONS["drawdown"], "request_id": "plain"}
    first, again = posted(url, drawdown), posted(url, {**drawdown, "scene": "drawdown"})
    assert (again.headers["idempotency-replayed"], first.content) == ("true", again.content)


def test_the_policy_and_the_counters_tell_scenes_apart(url: str) -> None:
    """Which rule set judges a scene, and how often each was asked."""
    policy = httpx.get(f"{url}/v1/policy").json()
    assert policy["scenes"]["limit"] == {"rule_set": "limit", "rules": 2, "features_used": 1}
    assert policy["rules"] == sum(scene["rules"] for scene in policy["scenes"].values())
    posted(url, {**DECISIONS["price"], "request_id": "counted"})
    page = httpx.get(f"{url}/metrics").text
    assert 'decisions_total{decision="reprice",replayed="false",rung="full",scene="price"}' in page


def test_the_openapi_document_has_an_example_of_every_scene(url: str) -> None:
    """And says that the money is a drawdown's."""
    document = httpx.get(f"{url}/openapi.json").json()
    for path in ("/v1/decisions", "/v1/decisions/preview"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert tuple(body["examples"]) == SCENES
    schema = document["components"]["schemas"]["DecisionBody"]
    assert schema["else"]["required"] == ["amount", "currency"]
    assert set(SCENES) <= set(str(schema["properties"]["scene"]).replace("'", " ").replace(",", " ").split())


def test_explain_says_what_was_reviewed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line names the scene, and pays nothing out."""
    httpx.put(f"{url}/v1/facilities/f-2", json={**FACILITY, "customer_id": "c-2"})
    answer = posted(
        url, {**DECISIONS["limit"], "request_id": "explained", "facility_id": "f-2", "customer_id": "c-2"}
    ).json()
    assert main(["explain", answer["decision_id"], "--url", url]) == 0
    said = capsys.readouterr().out
    assert said.startswith("review of the scene limit: LIMIT CHANGE; limit raised from 50,000.00 CNY to 55,000.00 CNY")
    assert "pay out" not in said

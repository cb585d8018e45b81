"""Bad input gets a 4xx problem that names the field, and changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import orjson
import pytest
from api_fakes import DRAWDOWN, EVENT, FACILITY, Office, office

GOOD_BODY = (
    '{"request_id": "r-1", "customer_id": "c-1", "facility_id": "f-1", "amount": 4990.00, "currency": "CNY", '
    '"occurred_at": "2026-11-21T03:12:09+08:00", "channel": "app", "geo": {"lat": 31.23, "lon": 121.47}, '
    '"term_months": 12, "attributes": {"inquiries": 2}, "facility": null, "deadline_ms": 50, "geo_off": 0}'
)
JSON = {"content-type": "application/json"}
LINES = [
    line.split("; ", 3)
    for line in Path(__file__).with_name("bad_bodies.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def post(directory: Path, body: bytes, headers: dict[str, str] | None = None) -> tuple[httpx.Response, Office]:
    """Post one drawdown body to a fresh office."""

    async def go() -> tuple[httpx.Response, Office]:
        async with office(directory) as opened:
            answer = await opened.client.post("/v1/decisions", content=body, headers={**JSON, **(headers or {})})
            return answer, opened

    return asyncio.run(go())


def assert_problem(answer: httpx.Response, status: int, field: str | None = None) -> None:
    """The answer is an RFC 9457 problem of this status about this field."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:decision-service:problem:")
    assert problem["title"]
    if field is not None:
        assert problem["field"] == field, problem


@pytest.mark.fault("D13", "D16", "D18", "E01", "E02", "E04", "E05", "E11", "I03")
@pytest.mark.parametrize("line", LINES, ids=[f"{line[1]}-{line[2][:24]!r}" for line in LINES])
def test_a_bad_value_is_refused_by_name(line: list[str], tmp_path: Path) -> None:
    """Every line of the corpus is refused with its status and field, and the service hears nothing of it."""
    status, field, wrong, right = line
    good = GOOD_BODY if "geo_off" in right else GOOD_BODY.replace(', "geo_off": 0', "")
    before, found, after = good.rpartition(right)
    assert found
    answer, opened = post(tmp_path, (before + wrong + after).encode())
    assert_problem(answer, int(status), field)
    assert opened.decisions.asked == []


def test_the_good_body_is_good(tmp_path: Path) -> None:
    """What the corpus spoils is accepted unspoiled, exactly to the minor unit."""
    answer, opened = post(tmp_path, GOOD_BODY.replace(', "geo_off": 0', "").encode())
    assert answer.status_code == 200
    assert opened.decisions.asked[0].amount_minor == 499_000
    assert opened.decisions.budgets_ms == [50]


@pytest.mark.fault("E02", "E03", "E10")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b" ", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'"x"', 400),
        (b"{}", 422),
        (b"{", 400),
        (b"{}}", 400),
        (b"\xef\xbb\xbf{}", 400),
        (b"{}\x00", 400),
        (b"/* */{}", 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 413),
        (b'{"a":' * 3_000, 400),
        (b'{"amount":' + b"9" * 5_000 + b"}", 400),
        (b'{"amount":1.' + b"9" * 5_000 + b"}", 422),
        (b"{" + b" " * 20_000 + b"}", 413),
        (b'{"\xff":1}', 400),
    ],
)
def test_a_bad_body_is_refused_whole(body: bytes, status: int, tmp_path: Path) -> None:
    """What is no JSON object within the cap is 400 or 413, however deep or long, and never a crash."""
    answer, opened = post(tmp_path, body)
    assert_problem(answer, 413 if len(body) > 16_384 else status)
    assert opened.decisions.asked == []


@pytest.mark.fault("E10")
@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
    ],
)
def test_another_media_type_is_refused(content_type: str, tmp_path: Path) -> None:
    """Only application/json in UTF-8 is read."""
    answer, _ = post(tmp_path, orjson.dumps(DRAWDOWN), {"content-type": content_type})
    assert_problem(answer, 415)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", 'application/json; charset="utf-8"', "application/json;charset=UTF-8"],
)
def test_json_in_utf_8_is_read_however_it_is_written(content_type: str, tmp_path: Path) -> None:
    """Case and an explicit charset do not matter."""
    answer, _ = post(tmp_path, orjson.dumps(DRAWDOWN), {"content-type": content_type})
    assert answer.status_code == 200


@pytest.mark.fault("E07")
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip"])
def test_a_content_encoding_is_refused(encoding: str, tmp_path: Path) -> None:
    """Nothing is ever unpacked."""
    answer, _ = post(tmp_path, orjson.dumps(DRAWDOWN), {"content-encoding": encoding})
    assert_problem(answer, 415)


@pytest.mark.fault("E06")
def test_a_chunked_body_is_cut_off_at_the_cap(tmp_path: Path) -> None:
    """An endless body without announced length is refused as soon as the cap is passed."""
    sent = 0

    async def endless() -> object:
        nonlocal sent
        while True:
            sent += 1_000
            yield b" " * 1_000

    async def go() -> httpx.Response:
        async with office(tmp_path) as opened:
            return await opened.client.post("/v1/decisions", content=endless(), headers=JSON)  # type: ignore[arg-type]

    assert_problem(asyncio.run(go()), 413)
    assert sent <= 18_000


@pytest.mark.fault("E06")
def test_an_announced_body_over_the_cap_is_not_read(tmp_path: Path) -> None:
    """A Content-Length over the cap is refused before the first byte of the body."""
    answer, _ = post(tmp_path, b" " * 16_385)
    assert_problem(answer, 413)
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("key", ["r-2", "", "r-1x", "R-1"])
def test_an_idempotency_key_that_is_not_the_request_id_is_refused(key: str, tmp_path: Path) -> None:
    """The header may repeat the request_id, not contradict it."""
    answer, _ = post(tmp_path, orjson.dumps(DRAWDOWN), {"idempotency-key": key})
    assert_problem(answer, 422, "Idempotency-Key")


def test_an_idempotency_key_may_repeat_the_request_id(tmp_path: Path) -> None:
    """Plain or quoted, as the draft standard has it."""
    for key in ("r-1", '"r-1"'):
        answer, _ = post(tmp_path, orjson.dumps(DRAWDOWN), {"idempotency-key": key})
        assert answer.status_code == 200


@pytest.mark.fault("E05", "E12")
@pytest.mark.parametrize("customer_id", ["}{", "{}", "a\nb", "\u202eabc", "客户", "a/b", "..", " ", "'\"\\", "x" * 128])
def test_strange_ids_work(customer_id: str, tmp_path: Path) -> None:
    """Any text of 1 to 128 characters but NUL is an id."""
    answer, opened = post(tmp_path, orjson.dumps({**DRAWDOWN, "customer_id": customer_id}))
    assert answer.status_code == 200
    assert opened.decisions.asked[0].customer_id == customer_id


@pytest.mark.fault("E01", "E11")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": "1.001"}, "limit"),
        ({"outstanding": 1e300}, "outstanding"),
        ({"currency": "XXX"}, "currency"),
        ({"apr": -0.1}, "apr"),
        ({"apr": 18}, "apr"),
        ({"apr": 0.12345}, "apr"),
        ({"apr": "0.18"}, "apr"),
        ({"status": "open"}, "status"),
        ({"as_of": "2027-01-01T00:00:00Z"}, "as_of"),
        ({"as_of": "2000-01-01T00:00:00Z"}, "as_of"),
        ({"granted_at": "2027-01-01T00:00:00Z"}, "granted_at"),
        ({"customer_id": None}, "customer_id"),
        ({"facility_id": "f-2"}, "facility_id"),
        ({"days_past_due": -1}, "days_past_due"),
        ({"position": {}}, "position"),
        ({"product": ""}, "product"),
        ({"next_due_amount": -1}, "next_due_amount"),
    ],
)
def test_a_bad_facility_is_refused_by_name(change: dict[str, object], field: str, tmp_path: Path) -> None:
    """A facility is refused by its field, by itself and inside a drawdown, and nothing is stored."""

    async def go() -> tuple[httpx.Response, httpx.Response, Office]:
        async with office(tmp_path) as opened:
            alone = await opened.client.put("/v1/facilities/f-1", json={**FACILITY, **change})
            inside = await opened.client.post("/v1/decisions", json={**DRAWDOWN, "facility": {**FACILITY, **change}})
            return alone, inside, opened

    alone, inside, opened = asyncio.run(go())
    assert_problem(alone, 422, field)
    if field != "customer_id":
        assert_problem(inside, 422, f"facility.{field}")
    assert opened.customers.facilities == {}


def test_a_facility_in_another_currency_than_the_draw_is_refused(tmp_path: Path) -> None:
    """The wrong currency is the request's field `currency`."""
    body = {**DRAWDOWN, "currency": "USD", "facility": FACILITY}
    answer, _ = post(tmp_path, orjson.dumps(body))
    assert_problem(answer, 422, "currency")


@pytest.mark.fault("D13")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "gift"}, "kind"),
        ({"status": "done"}, "status"),
        ({"amount": None}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": -5}, "amount"),
        ({"currency": None}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"occurred_at": "2027-01-01T00:00:00Z"}, "occurred_at"),
        ({"occurred_at": "2010-01-01T00:00:00Z"}, "occurred_at"),
        ({"event_id": ""}, "event_id"),
        ({"customer_id": None}, "customer_id"),
        ({"value": "1"}, "value"),
        ({"score": 1}, "score"),
        ({"decision_id": "0" * 36}, "decision_id"),
        ({"kind": "drawdown", "decision_id": "zz"}, "decision_id"),
        ({"kind": "drawdown", "decision_id": "0" * 36}, "decision_id"),
        ({"kind": "login", "decision_id": "d00a" + "0" * 32}, "decision_id"),
        ({"decision_id": "d00a" + "0" * 32, "amount": None}, "amount"),
        ({"about_event_id": "e-0"}, "about_event_id"),
        ({"kind": "label", "about_event_id": "e-0", "decision_id": "d00a" + "0" * 32}, "about_event_id"),
        ({"ip": "203.0.113"}, "ip"),
        ({"ip": "203.0.113.7/24"}, "ip"),
        ({"ip": "fe80::1%eth0"}, "ip"),
        ({"ip": ""}, "ip"),
        ({"ip": 3405803783}, "ip"),
        ({"kind": "drawdown", "decision_id": "0" * 36, "status": "held"}, "status"),
    ],
)
def test_a_bad_event_is_rejected_alone(change: dict[str, object], field: str, tmp_path: Path) -> None:
    """A bad event is rejected with field and reason; its neighbours are accepted."""

    async def go() -> tuple[httpx.Response, Office]:
        async with office(tmp_path) as opened:
            events = [EVENT, {**EVENT, **change}, {**EVENT, "event_id": "e-3"}]
            return await opened.client.post("/v1/events", json={"events": events}), opened

    answer, opened = asyncio.run(go())
    assert answer.status_code == 200
    told = answer.json()
    assert (told["accepted"], told["duplicate"], told["rejected"]) == (2, 0, 1)
    assert told["events"][1]["status"] == "rejected"
    assert told["events"][1]["field"] == f"events.1.{field}"
    assert told["events"][1]["reason"]
    assert [posted.index for posted in opened.customers.events] == [0, 2]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"events": []}, "events"),
        ({"events": {}}, "events"),
        ({}, "events"),
        ({"events": [{}] * 1_001}, "events"),
        ({"events": [EVENT], "more": 1}, "more"),
    ],
)
def test_a_call_of_no_or_too_many_events_is_refused(body: object, field: str, tmp_path: Path) -> None:
    """One to a thousand events make a call."""

    async def go() -> httpx.Response:
        async with office(tmp_path) as opened:
            return await opened.client.post("/v1/events", json=body)

    assert_problem(asyncio.run(go()), 422, field)


@pytest.mark.parametrize("wrong", [1, "x", None, [], [[]], True])
def test_an_event_that_is_no_object_is_rejected(wrong: object, tmp_path: Path) -> None:
    """Whatever stands in the list is judged by itself."""

    async def go() -> httpx.Response:
        async with office(tmp_path) as opened:
            return await opened.client.post("/v1/events", json={"events": [wrong]})

    answer = asyncio.run(go())
    assert answer.json()["events"] == [
        {
            "index": 0,
            "event_id": None,
            "status": "rejected",
            "field": "events.0",
            "reason": answer.json()["events"][0]["reason"],
        }
    ]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/facilities/%00", "facility_id"),
        ("/v1/facilities/%ff", "facility_id"),
        ("/v1/facilities/" + "x" * 129, "facility_id"),
        ("/v1/customers/c/features?at=yesterday", "at"),
        ("/v1/customers/c/features?at=2030-01-01T00:00:00Z", "at"),
        ("/v1/customers/c/features?name=x", "name"),
        ("/v1/customers/c/features?at=2026-01-01T00:00:00Z&at=1", "at"),
        ("/v1/customers/c/features?names=%00", "names"),
    ],
)
def test_a_bad_path_or_query_is_refused_by_name(path: str, field: str, tmp_path: Path) -> None:
    """Ids in paths are strict UTF-8 without NUL; unknown and doubled parameters are refused."""

    async def go() -> httpx.Response:
        async with office(tmp_path) as opened:
            return await opened.client.get(path)

    assert_problem(asyncio.run(go()), 422, field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nope": {"value": 1, "as_of": "2026-11-01T00:00:00Z"}}, "nope"),
        ({"inquiries": {"value": 1}}, "inquiries.as_of"),
        ({"inquiries": 1}, "inquiries"),
        ({"inquiries": {"value": "x", "as_of": "2026-11-01T00:00:00Z"}}, "inquiries"),
        ({"inquiries": {"value": 1, "as_of": "2036-11-01T00:00:00Z"}}, "inquiries.as_of"),
        ({}, ""),
    ],
)
def test_a_bad_attribute_is_refused_by_name(body: object, field: str, tmp_path: Path) -> None:
    """Only declared names with values of their type and an instant of the past are taken."""

    async def go() -> tuple[httpx.Response, Office]:
        async with office(tmp_path) as opened:
            return await opened.client.put("/v1/customers/c-1/attributes", json=body), opened

    answer, opened = asyncio.run(go())
    assert_problem(answer, 422, field)
    assert opened.customers.attributes == {}

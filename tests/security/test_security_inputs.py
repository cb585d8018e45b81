"""Hostile bodies on every call that takes one, and ids that look like others or like syntax (section E)."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest
from api_fakes import DRAWDOWN, office
from real_office import real_office
from test_security_access import drawdown, event, facility, path_of

from decision_service.api.routes import ROUTES, Route

WITH_BODY: Final = [route for route in ROUTES if route.body is not None]
JSON: Final = {"content-type": "application/json"}
HUGE: Final = 300_000  # below the cap of any call but decisions
BODIES: Final[dict[str, bytes]] = {
    "nested lists": b"[" * 100_000,
    "nested lists that close": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 50_000,
    "nested in a field": b'{"customer_id":' + b"[" * 100_000,
    "an integer of 5,000 digits": b'{"amount":' + b"9" * 5_000 + b"}",
    "an integer of 300,000 digits": b'{"amount":' + b"9" * HUGE + b"}",
    "a fraction of 300,000 digits": b'{"amount":0.' + b"9" * HUGE + b"}",
    "an exponent of 5,000 digits": b'{"amount":1e' + b"9" * 5_000 + b"}",
    "a negative exponent without end": b'{"amount":1e-' + b"9" * 18 + b"}",
    "NaN": b'{"amount":NaN}',
    "Infinity": b'{"amount":-Infinity}',
    "a key twice": b'{"customer_id":"a","customer_id":"b"}',
    "a key twice by an escape": b'{"customer_id":"a","customer_\\u0069d":"b"}',
    "a key twice deep inside": b'{"geo":{"lat":1,"lat":2}}',
    "a lone surrogate": b'{"customer_id":"\\ud800"}',
    "a lone surrogate in a key": b'{"\\udfff":1}',
    "surrogates in the wrong order": b'{"customer_id":"\\udc00\\ud800"}',
    "a NUL in a key": b'{"a\\u0000":1}',
    "half a character": b'{"customer_id":"\xe5\xae"}',
    "an overlong slash": b'{"customer_id":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"customer_id":"\xed\xa0\x80"}',
    "beyond Unicode": b'{"customer_id":"\xf4\x90\x80\x80"}',
    "UTF-16": '{"customer_id":"a"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"customer_id":"a"}',
    "100,000 keys": b"{" + b",".join(b'"k%d":1' % i for i in range(20_000)) + b"}",
    "a string of 300,000": b'{"customer_id":"' + b"a" * HUGE + b'"}',
    "escapes only": b'{"customer_id":"' + b"\\u0061" * 50_000 + b'"}',
    "comments": b'/*x*/{"customer_id":"a"}',
    "two values": b'{"customer_id":"a"} {"customer_id":"b"}',
    "cut": b'{"customer_id":"a',
}


@pytest.mark.fault("E01", "E02", "E03", "E04", "E05", "E10")
@pytest.mark.parametrize("route", WITH_BODY, ids=[route.label for route in WITH_BODY])
def test_a_hostile_body_is_refused_on_every_call(route: Route, tmp_path: Path) -> None:
    """400, 413 or 422 as a problem; nothing reaches the service, nothing overflows, and the next call is served. The
    work is bounded by the cap of the body: no number is multiplied out, no nesting followed beyond 200 levels."""
    depth = sys.getrecursionlimit()

    async def go() -> None:
        async with office(tmp_path) as opened:
            path = path_of(route).replace("retail-f", "f-1")
            for name, body in BODIES.items():
                answer = await opened.client.request(route.method, path, content=body, headers=JSON)
                assert answer.status_code in (400, 413, 422), (name, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
                assert len(answer.content) < 2_048, name
                json.loads(answer.content.decode("utf-8"))
            assert opened.decisions.asked == []
            assert opened.customers.events == []
            assert opened.customers.facilities == {}
            assert opened.customers.attributes == {}
            assert (await opened.client.post("/v1/decisions", json=DRAWDOWN)).status_code == 200

    asyncio.run(go())
    assert sys.getrecursionlimit() == depth


@pytest.mark.fault("E03")
def test_events_nested_deep_are_refused_in_bounded_depth(tmp_path: Path) -> None:
    """Inside an event, too, where values are looked at one by one."""

    async def go() -> httpx.Response:
        async with office(tmp_path) as opened:
            deep = b'{"events":[{"event_id":' + b"[" * 190 + b"]" * 190 + b"}]}"
            return await opened.client.post("/v1/events", content=deep, headers=JSON)

    answer = asyncio.run(go())
    assert answer.status_code == 200
    assert answer.json()["rejected"] == 1


LOOK_ALIKE: Final = [
    ("c-1001", "с-1001"),  # a Cyrillic letter
    ("caf\u00e9", "cafe\u0301"),  # composed and decomposed
    ("c-1", "c-1\u200b"),  # a space of no width behind
    ("c-1", "\ufeffc-1"),
    ("c-1", "c\u00ad-1"),  # a soft hyphen
    ("c-1", " c-1"),
    ("c-1", "c-1 "),
    ("c-1", "C-1"),
    ("c-1", "c\uff0d1"),  # a full-width hyphen
    ("c-12", "c-\u202e21"),  # turned round
    ("\u5ba2", "\uf9af"),
    ("c%2F1", "c/1"),
    ("c-1", "c-1\t"),
    ("..", "."),
    ("\U0001f468\u200d\U0001f4bb", "\U0001f468\U0001f4bb"),
]


@pytest.mark.slow
@pytest.mark.fault("E05", "E12")
def test_ids_that_look_alike_are_different_and_come_back_as_they_were_sent(tmp_path: Path) -> None:
    """An id is its code points: nothing is normalised, trimmed or folded, so no two customers are ever taken for one;
    the record of the decision is valid UTF-8 and holds exactly what was sent."""
    hostile = [
        "}{", "{p0001}", "a}:b{c", "ds:{p0001}:x", "line\nfeed", "cr\r\nlf", "tab\there", "'; DROP TABLE x;--",
        "${jndi:x}",
        "{{7*7}}", "%s%n%x", "../../etc/passwd", "<script>alert(1)</script>", "\u202egnol", "\u2028", "*", "?", "[a]",
        "\\", "\x1b[2J", "\x7f", "x" * 128, "\U0001f600" * 32,
    ]  # fmt: skip

    async def go() -> None:
        async with real_office(tmp_path, None) as client:
            pairs = [(one, other) for one, other in LOOK_ALIKE if one != other]
            for n, customer in enumerate([*(c for pair in pairs for c in pair), *hostile]):
                if customer in (c for pair in pairs for c in pair) and n >= 2 * len(pairs):
                    continue
                body = drawdown(f"r-{n}", customer, f"f-{n}", facility=facility(customer))
                answer = await client.post("/v1/decisions", json=body)
                assert answer.status_code == 200, (customer, answer.text)
                told = await client.get(f"/v1/decisions/{answer.json()['decision_id']}")
                kept = json.loads(told.content.decode("utf-8"))
                assert kept["customer_id"] == customer
                assert kept["trace"]["request"]["customer_id"] == customer
            for one, other in pairs:
                await client.post(
                    "/v1/events", json={"events": [event("e-" + one[:3], one, kind="login", amount=None)]}
                )
                first, second = [
                    (await client.get(f"/v1/customers/{_quoted(customer)}/features")).json()["customer_id"]
                    for customer in (one, other)
                ]
                assert (first, second) == (one, other)

    asyncio.run(go())


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


@pytest.mark.fault("I05")
def test_a_recorded_request_that_is_sent_again_changes_nothing(tmp_path: Path) -> None:
    """Whoever replays what a caller sent gets the stored answer: no second drawdown, no second event, no older
    snapshot, no older attribute. (There is no signature over requests: TLS and the credentials are the caller's.)"""

    async def go() -> None:
        async with real_office(tmp_path, None) as client:
            line = facility("c-1")
            draw = drawdown("r-1", "c-1", "f-1")
            events = {"events": [event("e-1", "c-1"), event("e-2", "c-1")]}
            await client.put("/v1/facilities/f-1", json=line)
            first = await client.post("/v1/decisions", json=draw)
            await client.post("/v1/events", json=events)
            newer = facility("c-1", limit=40_000)
            await client.put("/v1/facilities/f-1", json=newer)
            before = (await client.get("/v1/facilities/f-1")).json()
            for _ in range(5):
                again = await client.post("/v1/decisions", json=draw)
                assert again.headers["idempotency-replayed"] == "true"
                assert again.content == first.content
                assert (await client.post("/v1/events", json=events)).json()["duplicate"] == 2
                await client.put("/v1/facilities/f-1", json=line)
            assert (await client.get("/v1/facilities/f-1")).json() == before
            changed = await client.post("/v1/decisions", json=draw | {"amount": 5_000})
            assert (changed.status_code, changed.json()["type"].rpartition(":")[2]) == (422, "idempotency-key-reuse")
            late = await client.post(
                "/v1/decisions", json=drawdown("r-2", "c-1", "f-1", occurred_at="2020-01-01T00:00:00Z")
            )
            assert late.status_code == 422

    asyncio.run(go())

"""Plain draws: whatever is read the quick way is what the strict way reads; everything else is left to that."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from api_fakes import DRAWDOWN, FACILITY, NOW_MS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decision_service.api.parse import Clock, parse_closely, parse_decision
from decision_service.api.plain import plain_draw
from decision_service.core.errors import InvalidInput, MalformedBody
from decision_service.core.limits import AMOUNT_MINOR_MAX, DEADLINE_MS_MAX, ID_CHARS_MAX

CLOCK = Clock(NOW_MS, 300_000, 86_400_000)
WHOLE: dict[str, Any] = {
    **DRAWDOWN, "device_id": "d-1", "counterparty_id": "m-1", "ip": "203.0.113.7", "purpose": "travel",
    "term_months": 12, "deadline_ms": 50, "geo": {"lat": 31.23, "lon": 121.47, "accuracy_m": 20},
    "attributes": {"inquiries": 2, "segment": "a", "member": True},
}  # fmt: skip
NEEDED = ("request_id", "customer_id", "facility_id", "amount", "currency")
BAD = [
    line.split("; ", 3)[2:]
    for line in Path(__file__).with_name("bad_bodies.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def read(parse: Any, body: bytes) -> Any:
    """What a body is read as, or how it is refused."""
    try:
        request, deadline_ms = parse(body, CLOCK)
    except (InvalidInput, MalformedBody) as error:
        return type(error), error.field, error.message
    return request, deadline_ms, repr(request)  # -0.0 and 0.0, 1 and True are told apart in the last


def alike(body: bytes) -> bool:
    """Whether it was read the quick way; both ways say the same."""
    assert read(parse_decision, body) == read(parse_closely, body)
    return plain_draw(body) is not None


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", ":\t")])
def test_ordinary_draws_are_plain(separators: tuple[str, str]) -> None:
    """With all fields or few, with blanks or not, with nulls, money as number or text, any letters."""
    bodies = [
        DRAWDOWN, WHOLE, {**WHOLE, "amount": "4990.00"}, {**WHOLE, "amount": 4990}, {**WHOLE, "scene": "drawdown"},
        {**WHOLE, "currency": "JPY", "amount": 4990}, {**WHOLE, "currency": "KWD", "amount": "1.001"},
        dict.fromkeys(WHOLE) | {name: WHOLE[name] for name in NEEDED},
        {**WHOLE, "customer_id": "客户", "geo": {"lat": -90, "lon": 180}, "attributes": {}},
        {**WHOLE, "term_months": 600, "deadline_ms": DEADLINE_MS_MAX, "ip": "2001:db8::1"},
    ]  # fmt: skip
    for body in bodies:
        assert alike(json.dumps(body, separators=separators, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"facility": {**FACILITY, "facility_id": "f-1"}}, {"scene": "renewal", "amount": None, "currency": None},
        {"term_months": 12.0}, {"request_id": "a\\b"}, {"request_id": "a :b"}, {"request_id": ":b"},
        {"amount": 4990.0000001}, {"amount": "4990.001"}, {"amount": 1e300}, {"amount": 0}, {"amount": -1},
        {"attributes": {"amount": 3}}, {"attributes": {"x": None}}, {"attributes": {"": 1}}, {"attributes": []},
        {"attributes": {"x": 10**400}}, {"geo": {}}, {"geo": {"lat": 91, "lon": 0}}, {"geo": {"lat": True, "lon": 0}},
        {"term_months": 0}, {"term_months": 601}, {"term_months": True}, {"deadline_ms": 0}, {"deadline_ms": 1e9},
        {"occurred_at": "now"}, {"occurred_at": 5}, {"ip": "fe80::1%eth0"}, {"ip": 7}, {"ip": ["203.0.113.7"]},
        {"device_id": ""}, {"purpose": "x" * (ID_CHARS_MAX + 1)}, {"unknown": 1}, {"currency": "XXX"},
        {"currency": ["CNY"]}, {"request_id": None}, {"channel": 5}, {"amount": True},
        {"currency": "JPY", "amount": 1.5}, {"currency": "KWD", "amount": 999_999_999_999.999},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_not_plain_is_looked_at_closely(change: dict[str, Any]) -> None:
    """Whether it is wrong, or right and rare."""
    assert not alike(json.dumps({**WHOLE, **change}, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"amount":', '"amount":1,"amount":'), ('"amount":', '"amount" :1,"amount":'),
        ('"amount":4990.0', '"amount":1,"amount" :4990.0'), ('"amount":4990.0', '"amount":4990.00000000000000001'),
        ('"amount":4990.0', '"amount":4.99e3'), ('"amount":4990.0', '"amount":\r\n4990.0'),
        ('"amount":', '"\\u0061mount":'), ('"r-1"', '"\\ud800"'), ('"r-1"', '"\\u0000"'), ('"lat":', '"lat":1,"lat":'),
        ('"lat":', '"lat":1,"lat"\n:'), ("31.23", "-0.0"), ("31.23", "NaN"), ("31.23", "1E1"), ("}", "},"),
        ("{", "{/**/"),
    ],
)  # fmt: skip
def test_spellings_of_json_are_read_alike(old: str, new: str) -> None:
    """Equal names, escapes and numbers in any spelling are what the strict reader says they are."""
    body = json.dumps(WHOLE, separators=(",", ":")).replace(old, new, 1)
    alike(body.encode())
    alike(b"\xef\xbb\xbf" + body.encode())
    alike(body.encode().replace(b"travel", b"tra\xffvel"))


def test_bad_bodies_are_refused_alike() -> None:
    """None of those that are known is plain."""
    good = json.dumps({**WHOLE, "geo_off": 1})
    for new, old in BAD:
        head, _, tail = good.rpartition(old)
        assert not alike((head + new + tail).encode())


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 700), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12), st.integers(0, 10**15).map(lambda minor: f"{minor / 100:.2f}"),
    st.sampled_from([AMOUNT_MINOR_MAX, 10**12, 1e-7, -0.0]),
    st.sampled_from(["CNY", "JPY", "KWD", "app", "drawdown", "2026-11-20T19:00:00Z", "203.0.113.7", "::1", ":", "a:"]),
    st.dictionaries(st.sampled_from(["lat", "lon", "accuracy_m", "amount", "x", ""]), st.floats(-200, 200), max_size=3),
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from([*WHOLE, "scene", "facility", "other"]), VALUES, max_size=4),
    blanks=st.sampled_from([(",", ":"), (", ", ": "), (",", " :")]),
    ascii_only=st.booleans(),
)
def test_any_values_are_read_alike(changes: dict[str, Any], blanks: tuple[str, str], ascii_only: bool) -> None:
    """Of whatever type, in whatever field."""
    text = json.dumps({**WHOLE, **changes}, separators=blanks, ensure_ascii=ascii_only)
    alike(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(seed=st.integers(0, 2**32), edits=st.integers(1, 4))
def test_any_bytes_are_read_alike(seed: int, edits: int) -> None:
    """Bytes of a good body are taken away, doubled, or replaced by others."""
    chosen, body = random.Random(seed), orjson.dumps(WHOLE)
    for _ in range(edits):
        at, length = chosen.randrange(len(body)), chosen.randrange(4)
        put = chosen.choice(
            [b"", bytes([chosen.randrange(256)]), body[at : at + length] * 2, b'"x":1,', b"0", b"}", b" "]
        )
        body = body[:at] + put + body[at + length :]
    alike(body)

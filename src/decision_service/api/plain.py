"""Plain draws: what nearly every body of POST /v1/decisions looks like, read in a third of the time.

`plain_draw` looks by hand at what `json_body` and the models of `bodies` check, and gives up (None) at anything that is
not plainly right: then those look at the body from the beginning, and say what is wrong or take it. So it refuses
nothing, and what it takes they would take with the same values (`tests/api/test_api_plain.py`).

orjson is quicker than a strict parser, but takes the last of equal names and rounds numbers. Names are told by
counting: without a backslash in the body and with nothing between a name and its colon, `":` stands in it at least once
for each name that was written. Money is read from the text; all other numbers are doubles in both ways.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import orjson

from decision_service.api.fields import ACCURACY_M_MAX, TERM_MONTHS_MAX
from decision_service.api.instants import parse_instant
from decision_service.core.limits import (
    AMOUNT_MINOR_MAX,
    ATTRIBUTES_PER_CALL_MAX,
    DEADLINE_MS_MAX,
    DEADLINE_MS_MIN,
    ID_CHARS_MAX,
    STRING_VALUE_CHARS_MAX,
)
from decision_service.core.links import address_of
from decision_service.core.money import EXPONENTS

_AMOUNT: Final = b'"amount":'
_MONEY: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,3}))?")
_MONEY_BYTES: Final = re.compile(rb"[ \t\n\r]*([0-9]{1,12})(?:\.([0-9]{1,3}))?[ \t\n\r]*[,}]")


Place = tuple[float, float, float | None]
"""Latitude, longitude and accuracy, as `bodies.GeoBody` has them."""
Scalars = dict[str, float | str]


class PlainDraw(NamedTuple):
    """As `bodies.DecisionBody` of a drawdown without a snapshot of its line, its amount in minor units already."""

    request_id: str
    customer_id: str
    facility_id: str
    amount_minor: int
    currency: str
    occurred_at: int | None
    channel: str | None
    device_id: str | None
    counterparty_id: str | None
    ip: str | None
    purpose: str | None
    place: Place | None
    term_months: int | None
    attributes: Scalars | None
    deadline_ms: int | None


_NAMES: Final = (frozenset(PlainDraw._fields) - {"amount_minor", "place"}) | {"amount", "geo", "scene", "facility"}
_GEO_NAMES: Final = frozenset({"lat", "lon", "accuracy_m"})
_new: Final = tuple.__new__  # a NamedTuple's own constructor is written in Python
_SCENES: Final = (None, "drawdown")


def plain_draw(body: bytes) -> PlainDraw | None:
    """The draw that a body plainly asks for; None if it has to be looked at more closely."""
    if b"\\" in body:
        return None
    try:
        sent = orjson.loads(body)
    except ValueError:
        return None
    if type(sent) is not dict or not sent.keys() <= _NAMES:
        return None
    get = sent.get
    if get("facility") is not None or get("scene") not in _SCENES:
        return None
    names = len(sent)
    request_id, customer_id, facility_id = get("request_id"), get("customer_id"), get("facility_id")
    channel, device_id, counterparty_id, purpose = (
        get("channel"), get("device_id"), get("counterparty_id"), get("purpose")
    )  # fmt: skip
    if not (
        type(request_id) is type(customer_id) is type(facility_id) is str
        and 0 < len(request_id) <= ID_CHARS_MAX
        and 0 < len(customer_id) <= ID_CHARS_MAX
        and 0 < len(facility_id) <= ID_CHARS_MAX
        and (device_id is None or (type(device_id) is str and 0 < len(device_id) <= ID_CHARS_MAX))
        and (counterparty_id is None or (type(counterparty_id) is str and 0 < len(counterparty_id) <= ID_CHARS_MAX))
        and (purpose is None or (type(purpose) is str and 0 < len(purpose) <= ID_CHARS_MAX))
        and (channel is None or type(channel) is str)
    ):
        return None
    term_months, deadline_ms = get("term_months"), get("deadline_ms")
    if term_months is not None and not (type(term_months) is int and 1 <= term_months <= TERM_MONTHS_MAX):
        return None
    if deadline_ms is not None and not (
        type(deadline_ms) is int and DEADLINE_MS_MIN <= deadline_ms <= DEADLINE_MS_MAX
    ):  # fmt: skip
        return None
    geo, place = get("geo"), None
    if geo is not None:
        place = _plain_place(geo)
        if place is None:
            return None
        names += len(geo)
    attributes = get("attributes")
    if attributes is not None:
        attributes = _plain_attributes(attributes)
        if attributes is None:
            return None
        names += len(attributes)
    if not _names_are(body, names):
        return None
    occurred_at, ip = get("occurred_at"), get("ip")
    try:
        if occurred_at is not None:
            occurred_at = parse_instant(occurred_at)
        if ip is not None:
            ip = address_of(ip)
    except (ValueError, TypeError):
        return None
    currency: Any = get("currency")
    amount_minor = _plain_money(body, get("amount"), currency)
    if not amount_minor:
        return None
    return _new(PlainDraw, (
        request_id, customer_id, facility_id, amount_minor, currency, occurred_at, channel, device_id, counterparty_id,
        ip, purpose, place, term_months, attributes, deadline_ms,
    ))  # fmt: skip


def _names_are(body: bytes, number: int) -> bool:
    """Whether so many names were written, each with its colon right behind it. If that many colons are all there are,
    there is none with a blank before it; else some stand in texts, and it takes a look."""
    if body.count(b'":') != number:
        return False
    return body.count(b":") == number or not (b" :" in body or b"\n:" in body or b"\t:" in body or b"\r:" in body)


def _plain_money(body: bytes, amount: Any, currency: Any) -> int:
    """The amount in minor units, read from the text; 0 if it is not plainly one of this currency."""
    exponent = EXPONENTS.get(currency, -1) if type(currency) is str else -1
    if exponent < 0:
        return 0
    if type(amount) is str:
        text = _MONEY.fullmatch(amount)
    elif type(amount) is float or type(amount) is int:
        text = _MONEY_BYTES.match(body, body.find(_AMOUNT) + len(_AMOUNT))  # type: ignore[assignment]
    else:
        return 0
    if text is None:
        return 0
    whole, fraction = text.groups()
    if fraction is None:
        minor = int(whole) * 10**exponent
    elif len(fraction) <= exponent:
        minor = int(whole + fraction) * 10 ** (exponent - len(fraction))
    else:
        return 0
    return minor if minor <= AMOUNT_MINOR_MAX else 0


def _plain_place(sent: Any) -> Place | None:
    if type(sent) is not dict or not sent.keys() <= _GEO_NAMES:
        return None
    lat, lon, accuracy_m = sent.get("lat"), sent.get("lon"), sent.get("accuracy_m")
    if not (
        (type(lat) is float or type(lat) is int)
        and (type(lon) is float or type(lon) is int)
        and -90 <= lat <= 90
        and -180 <= lon <= 180
    ):
        return None
    if accuracy_m is not None:
        if not ((type(accuracy_m) is float or type(accuracy_m) is int) and 0 <= accuracy_m <= ACCURACY_M_MAX):
            return None
        accuracy_m = accuracy_m + 0.0
    return lat + 0.0, lon + 0.0, accuracy_m  # -0.0 becomes 0.0


def _plain_attributes(sent: Any) -> Scalars | None:
    if type(sent) is not dict or len(sent) > ATTRIBUTES_PER_CALL_MAX:
        return None
    taken: Scalars = {}
    for name, value in sent.items():
        if not 0 < len(name) <= ID_CHARS_MAX or name == "amount":  # which money is looked for by
            return None
        if type(value) is str:
            if len(value) > STRING_VALUE_CHARS_MAX:
                return None
            taken[name] = value
        elif type(value) is float or type(value) is int or type(value) is bool:
            number = float(value)
            if number - number != 0.0:
                return None
            taken[name] = number + 0.0
        else:
            return None
    return taken

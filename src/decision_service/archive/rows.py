"""Rows: an entry of an outbox stream, with its decision's frame, as a row of the archive; and back.

    read_entry(id, fields) -> Entry ──frame of entry.decision_id──▶ row_of(place, entry, frame) -> Row
    frame_of(row) -> the very bytes of the frame       change_of(row) -> the change, for rebuilding states

Neither of the first two raises: what cannot be read is a row of kind `unreadable`.

An unreadable row keeps all that was there in `raw`, which is personal, and says in `body` why it could not be read. If
only the frame is bad, its change stands in its columns all the same, for the states after it rest on it.

`Change` is `store.changes.Change`: what one commit did.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, cast

import orjson

from decision_service.api.instants import parse_instant
from decision_service.archive.schema import KINDS, Row, personal_values
from decision_service.core.links import customer_key
from decision_service.core.money import SCALES
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.decision_log import assemble, sections_in
from decision_service.store import Origin
from decision_service.store.changes import Change, unpack
from decision_service.store.records import decode_attribute, decode_facility, encode_attribute, encode_facility

RulesFired = Callable[[str, str, bytes], list[str] | None]
"""Ids of the rules that fired, of a policy's scene by its verdicts; None if the policy is not known."""

FIRED: Final = (1, 3, 4)  # verdicts: fired, unknown and fired, unknown and held
BPS: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
FACT_KINDS: Final = tuple(kind for kind in KINDS if kind not in ("change", "unreadable"))
_ID_FIELDS: Final = (b"id", b"decision_id")


class Entry(NamedTuple):
    """One entry of a stream, read as far as it can be."""

    at: bytes  # its id
    fields: Mapping[bytes, bytes]
    change: Change | None = None  # None of a fact, and of what cannot be read
    problem: str = ""  # why it cannot be read

    @property
    def at_ms(self) -> int:
        """When it was written, by the store's clock."""
        return entry_id(self.at)[0]

    @property
    def decision_id(self) -> str:
        """The decision whose frame belongs to it, or the empty string."""
        return "" if self.change is None else self.change.decision_id


def entry_id(text: bytes) -> tuple[int, int]:
    """`1764000000000-3` as its two numbers. ValueError for what is no id of a stream entry."""
    ms, dash, n = text.partition(b"-")
    if not dash:
        raise ValueError(f"{text!r} is no id of a stream entry")
    return int(ms), int(n)


def no_rules(policy_id: str, scene: str, verdicts: bytes) -> list[str] | None:
    """Of no policy it is known which rules it has."""
    del policy_id, scene
    return None if verdicts else []


def read_entry(at: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """An entry as a stream has it. ValueError for an id that no stream gives."""
    entry_id(at)
    if fields.get(b"kind", b"").decode("ascii", "replace") in FACT_KINDS:
        return Entry(at, fields)
    try:
        return Entry(at, fields, unpack(fields))
    except (ValueError, KeyError, TypeError) as error:
        return Entry(at, fields, None, str(error) or type(error).__name__)


def row_of(place: int, entry: Entry, frame: bytes | None, rules: RulesFired = no_rules) -> Row:
    """The row of an entry, not yet chained. `frame` is that of the entry's decision, if it has one and it is there."""
    change = entry.change
    if entry.problem:
        return unreadable(place, entry, entry.problem)
    if change is None:
        try:
            return _fact(place, entry)
        except (ValueError, TypeError) as error:
            return unreadable(place, entry, str(error))
    row = _of_change(place, entry.at, change)
    if not change.decision_id:
        return row
    if frame is None:
        return row._replace(kind="unreadable", body=_why("the frame of its decision is not in the store"))
    try:
        return _decided(row, frame, rules)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return row._replace(kind="unreadable", body=_why(f"the frame: {error}"), raw=_raw({}, frame))


def unreadable(place: int, entry: Entry, why: str, frame: bytes | None = None) -> Row:
    """The row of an entry that is not as this service writes it: everything that was there, and why it is not."""
    at_ms, at_n = entry_id(entry.at)
    return Row(place, 0, at_ms, at_n, "unreadable", body=_why(why), raw=_raw(entry.fields, frame))


def _why(why: str) -> str:
    return _text({"why": why})


def _raw(fields: Mapping[bytes, bytes], frame: bytes | None) -> str:
    told = {name.decode("utf-8", "backslashreplace"): b64encode(value).decode() for name, value in fields.items()}
    return _text({"fields": told, "frame": None if frame is None else b64encode(frame).decode()})


def _fact(place: int, entry: Entry) -> Row:
    """A fact that is no commit of a customer. `body` is the field of that name, else all other fields as JSON."""
    at_ms, at_n = entry_id(entry.at)
    fields, kind = entry.fields, entry.fields[b"kind"].decode()
    decision_id = next((fields[name].decode() for name in _ID_FIELDS if name in fields), None)
    if b"body" in fields:
        body = fields[b"body"].decode()
    else:
        others = {name.decode(): value for name, value in fields.items() if name not in (b"kind", *_ID_FIELDS)}
        body = _text({name: _value(value) for name, value in others.items()})
    document = orjson.loads(body)
    told = document if isinstance(document, dict) else {}
    head = told.get("head")  # of a published policy
    told_key, policy_id = told.get("customer_key"), (head if isinstance(head, dict) else told).get("policy_id")
    return Row(
        place, 0, at_ms, at_n, kind, decision_id=decision_id, body=body,
        customer_key=told_key if isinstance(told_key, int) else None,
        policy_id=policy_id if isinstance(policy_id, str) else None,
    )  # fmt: skip


def _value(value: bytes) -> Any:
    """A field as JSON: what is a JSON object or array stands as such, all else is text."""
    return orjson.loads(value) if value[:1] in (b"{", b"[") else value.decode()


def _of_change(place: int, at: bytes, change: Change) -> Row:
    at_ms, at_n = entry_id(at)
    events = b"[%b]" % b",".join(change.events) if change.events else None
    return Row(
        place, 0, at_ms, at_n, "change",
        decision_id=change.decision_id or None,
        customer_key=signed(customer_key(change.customer_id)) if change.customer_id else None,
        version=change.version or None,  # an old entry tells neither
        origin=change.origin,
        customer_id=change.customer_id or None,
        records=change.records or None,
        header=change.header or None,
        facilities=_json_map({k: encode_facility(v) for k, v in change.facilities.items()}),
        attributes=_json_map({k: encode_attribute(v) for k, v in change.attributes.items()}),
        events=None if events is None else events.decode(),
    )  # fmt: skip


def _decided(row: Row, frame: bytes, rules: RulesFired) -> Row:
    """The row of a commit with what its decision's frame tells. ValueError, KeyError, TypeError."""
    magic, (fingerprint, answer_json, request_json, numbers, verdicts, rest_json) = sections_in(frame)
    answer, rest = orjson.loads(answer_json), orjson.loads(rest_json)
    asked = orjson.loads(request_json) if request_json else {}
    scene, currency = answer.get("scene", DRAWDOWN_SCENE), answer["currency"]
    scale = SCALES[currency]
    decided_at_ms = _instant_ms(answer["decided_at"])
    occurred_at, amount = asked.get("occurred_at"), asked.get("amount")
    limit, price, hold = answer["limit_change"], answer["reprice"], answer["hold"]
    policy_id = answer["policy"]["id"]
    if row.customer_id is None:
        row = row._replace(customer_id=answer["customer_id"], customer_key=signed(customer_key(answer["customer_id"])))
    return Row(  # at once: `_replace` of so many takes three times as long
        row.partition, 0, row.at_ms, row.at_n, row.kind,
        decision_id=row.decision_id,
        scene=scene,
        outcome=answer["decision"],
        hold=hold and hold["kind"],
        asked_minor=None if amount is None or scene != DRAWDOWN_SCENE else round(float(amount) * scale),
        approved_minor=round(answer["approved_amount"] * scale),
        currency=currency,
        decided_at_ms=decided_at_ms,
        t_ms=decided_at_ms if occurred_at is None else _instant_ms(occurred_at),
        policy_id=policy_id,
        rung=answer["rung"],
        reasons=[reason["code"] for reason in answer["reasons"]],
        rules=rules(policy_id, scene, verdicts),
        cells=rest["cells"],
        limit_kind=limit and limit["kind"],
        limit_from_minor=limit and round(limit["from"] * scale),
        limit_to_minor=limit and round(limit["to"] * scale),
        apr_from_bps=price and round(price["from"] * BPS),
        apr_to_bps=price and round(price["to"] * BPS),
        scores=_text(answer["scores"]),
        magic=magic,
        numbers=numbers,
        verdicts=verdicts,
        seq=rest["seq"],
        read_version=rest["version"],
        customer_key=row.customer_key,
        version=row.version,
        origin=row.origin,
        customer_id=row.customer_id,
        request_id=answer["request_id"],
        facility_id=answer["facility_id"],
        fingerprint=fingerprint,
        answer=answer_json,
        request=request_json,
        rest=rest_json,
        records=row.records,
        header=row.header,
        facilities=row.facilities,
        attributes=row.attributes,
        events=row.events,
    )  # fmt: skip


def frame_of(row: Row) -> bytes:
    """The frame of a decision, byte for byte as the store had it. ValueError if the row has none, or has it no more."""
    if row.magic is None:
        raise ValueError(f"row {row.position} is no decision")
    sections = (row.fingerprint, row.answer, row.request, row.numbers, row.verdicts, row.rest)
    if any(section is None for section in sections):
        raise ValueError(f"decision {row.decision_id} is erased: its audit columns are all that is left")
    return assemble(row.magic, [section or b"" for section in sections])


def change_of(row: Row) -> Change | None:
    """What the commit of a row did, or None if the row is of none. ValueError if its personal columns are erased."""
    if row.version is None:
        return None
    if row.customer_id is None:
        raise ValueError(f"the change of row {row.position} is erased")
    facilities: dict[str, list[Any]] = orjson.loads(row.facilities or "{}")
    attributes: dict[str, list[Any]] = orjson.loads(row.attributes or "{}")
    return Change(
        customer_id=row.customer_id, version=row.version, records=row.records or b"", header=row.header or b"",
        facilities={name: decode_facility(orjson.dumps(stored)) for name, stored in facilities.items()},
        attributes={name: decode_attribute(orjson.dumps(stored)) for name, stored in attributes.items()},
        decision_id=row.decision_id or "",
        events=tuple(orjson.dumps(event) for event in orjson.loads(row.events or "[]")),
        origin=cast(Origin, row.origin),
    )  # fmt: skip


def is_personal(row: Row) -> bool:
    """Whether a row has anything that an erasure would take away."""
    return any(value is not None for value in personal_values(row))


def signed(key: int) -> int:
    """A 64-bit key as the signed number that Parquet holds."""
    return key - (1 << 64) if key >> 63 else key


def _text(document: object) -> str:
    return orjson.dumps(document).decode()


def _json_map(values: Mapping[str, bytes]) -> str | None:
    return _text({name: orjson.Fragment(value) for name, value in values.items()}) if values else None


def _instant_ms(text: str) -> int:
    """An instant of an answer, or of a request as it was taken. ValueError."""
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except (ValueError, TypeError):
        return parse_instant(text)

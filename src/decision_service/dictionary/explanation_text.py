"""An explanation of a feature as lines of text, from its JSON alone: value, window, a table of the events, parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

EVENTS_SHOWN_MAX: Final = 50  # in a table; `--json` has all
_COLUMNS: Final = (
    "occurred_at", "kind", "status", "amount", "customer", "payee", "device", "category", "label", "adds",
)  # fmt: skip
_IF_ANY: Final = ("customer", "payee", "device", "category", "label")  # columns left out where nothing stands in them


def lines_of(told: Mapping[str, Any]) -> list[str]:
    """The lines that explain a feature of a customer."""
    whose = f"customer {told['customer_id']}" + (f", facility {told['facility_id']}" if told["facility_id"] else "")
    return [f"{whose}, at {told['at']} ({told['time_zone']}), policy {told['policy_id']}", "", *_feature(told, "")]


def _feature(told: Mapping[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}{told['name']} = {_value(told)}"
    if told["meaning"]["en"]:
        yield indent + f"  {told['meaning']['en']}  {told['meaning']['zh']}".rstrip()
    yield f"{indent}  formula  {told['formula']}"
    for name, text in told["segments"].items():
        yield f"{indent}           {name}: {text}"
    if told["grain"] != "customer":
        yield f"{indent}  grain    {told['grain']}: events of that {told['grain']}"
    yield f"{indent}  null     {told['null']}: {told['null_rule']}"
    if told["null_cause"]:
        yield f"{indent}  unknown because: {told['null_cause']}"
    if told["window"]:
        yield from (indent + line for line in _window(told))
    yield from (indent + line for line in _events(told))
    for part in told["parts"]:
        yield from _part(part, indent + "  ")


def _value(told: Mapping[str, Any]) -> str:
    if told["value"] is None:
        return "unknown"
    unit = {"money": "", "0/1": "", "ratio": "", "n": ""}.get(told["unit"], told["unit"])
    return f"{number_text(told['value'])} {unit}".rstrip()


def number_text(value: float) -> str:
    """A number for people: whole ones without decimals, others with at most 12 digits that count."""
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e15 else f"{value:,.12g}"


def _window(told: Mapping[str, Any]) -> Iterator[str]:
    window = told["window"]
    after = f"after {window['after']}" if window["after"] else "since the first event"
    yield f"  window   {window['label']}: {after}, until {window['until']}"
    if window["truncated"]:
        yield "  TRUNCATED: events of this window have been trimmed from the log; the value counts those that are left"


def _events(told: Mapping[str, Any]) -> Iterator[str]:
    if not told["window"]:
        return
    events: Sequence[Mapping[str, Any]] = told["events"]
    total = told["events_total"]
    yield f"  {total:,} event{'' if total == 1 else 's'}, newest first:" if events else "  no events"
    columns = [name for name in _COLUMNS if name not in _IF_ANY or any(event[name] for event in events)]
    if told["grain"] == "customer":
        columns = [name for name in columns if name != "customer"]
    if len({event["role"] for event in events}) > 1:
        columns.append("role")
    rows = [columns, *(_row(event, columns) for event in events[:EVENTS_SHOWN_MAX])] if events else []
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))] if rows else []
    for row in rows:
        yield "    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if total > EVENTS_SHOWN_MAX:
        yield f"    ... and {total - EVENTS_SHOWN_MAX:,} older ones"


def _row(event: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    adds, brings = event["contribution"], event["value"]
    added = number_text(adds) if adds is not None else "" if brings is None else f"({number_text(brings)})"
    known = {**event, "amount": number_text(event["amount"]), "adds": added}
    return [str(known[name] or "") for name in columns]


def _part(part: Mapping[str, Any], indent: str) -> Iterator[str]:
    if part.get("parts") is not None:
        yield ""
        yield from _feature(part, indent)
        return
    because = f"  unknown because: {part['null_cause']}" if part["null_cause"] else ""
    yield f"{indent}{part['name']} = {_value(part)}{because}"

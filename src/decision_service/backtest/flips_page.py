"""The part of a backtest's page that shows single drawdowns: which flip, and both sides of some of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from decision_service.report import Block, Cell, Table, Text

VALUES_MAX: Final = 12
_DIRECTIONS: Final = {"out": "Swapped out: the archive paid, the candidate does not",
                      "in": "Swapped in: the candidate pays, the archive did not"}  # fmt: skip


def flip_blocks(flips: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """Tables of all that are listed, then both sides of those that have traces."""
    yield Text("Those with the most at stake, each with what was decided then and what the candidate decides.")
    for direction, title in _DIRECTIONS.items():
        rows = tuple(_row(flip) for flip in flips if flip["direction"] == direction)
        if rows:
            yield Table(
                ("decision", "asked for", "before", "after", "rules that come", "rules that go"), rows, title=title,
            )  # fmt: skip
    for flip in flips:
        if flip["after"]["trace"] is not None:
            yield from _both_sides(flip)


def _row(flip: Mapping[str, Any]) -> tuple[Cell, ...]:
    before, after = flip["before"], flip["after"]
    return (
        f"{flip['decision_id']} of {before['answer']['customer_id']} at {flip['at'][:19]}", f"{flip['asked']:,.2f}",
        _said(before["answer"]), _said(after["answer"]), ", ".join(_only(after, before)) or "none",
        ", ".join(_only(before, after)) or "none",
    )  # fmt: skip


def _said(answer: Mapping[str, Any]) -> str:
    hold = answer["hold"]
    paid = f"pays {answer['approved_amount']:,.2f}"
    return f"hold ({hold['kind']})" if hold else f"{answer['decision']}, {paid}"


def _only(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [rule for rule in one["rules"] if rule not in other["rules"]]


def _both_sides(flip: Mapping[str, Any]) -> Iterator[Block]:
    sides = (flip["before"], flip["after"])
    answers = [side["answer"] for side in sides]
    rows: list[tuple[Cell, ...]] = [
        ("answer", *map(_said, answers)),
        ("reasons", *(", ".join(f"{r['code']} {r['source']}" for r in a["reasons"]) or "none" for a in answers)),
        *_scores(answers),
        ("policy", *(a["policy"]["label"] + " " + a["policy"]["id"] for a in answers)),
        ("blocks", *(", ".join(side["cells"]) or "none" for side in sides)),
    ]
    yield Table(("", "before", "after"), tuple(rows), title=f"Decision {flip['decision_id']}")
    verdicts = [{rule["id"]: rule for rule in side["trace"]["rules"]} for side in sides]
    changed = []
    for name in dict.fromkeys((*verdicts[0], *verdicts[1])):
        before, after = (rules.get(name) for rules in verdicts)
        if (before or {}).get("verdict") != (after or {}).get("verdict") or (before or {}).get("when") != (
            after or {}
        ).get("when"):
            shown: Mapping[str, Any] = after or before or {}
            changed.append(
                (
                    name, _verdict(before), _verdict(after), shown.get("when", ""),
                    ", ".join(f"{k} = {_value(v)}" for k, v in list(shown.get("values", {}).items())[:VALUES_MAX]),
                )
            )  # fmt: skip
    if changed:
        yield Table(("rule", "before", "after", "condition", "the values it saw"), tuple(changed))
    features = [side["trace"]["features"] for side in sides]
    moved = tuple(
        (name, _value(features[0].get(name, {}).get("value")), _value(features[1].get(name, {}).get("value")))
        for name in dict.fromkeys((*features[0], *features[1]))
        if name in features[0] and name in features[1] and features[0][name]["value"] != features[1][name]["value"]
    )
    if moved:
        yield Table(("feature of another value", "before", "after"), moved)


def _scores(answers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Cell, ...]]:
    for name in dict.fromkeys(name for answer in answers for name in answer["scores"]):
        told = [answer["scores"].get(name) for answer in answers]
        yield (f"score {name}", *(_score(one) for one in told))


def _score(score: Mapping[str, Any] | None) -> str:
    if score is None or score["points"] is None:
        return "none"
    return f"{score['points']} points, PD {score['pd']:.2%}, {score['grade']}"


def _verdict(rule: Mapping[str, Any] | None) -> str:
    return "not in the policy" if rule is None else str(rule["verdict"])


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)

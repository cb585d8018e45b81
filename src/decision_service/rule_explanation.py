"""The rules of one decision, told stage by stage: what each asked, what it saw, what came of it.

From an answer and its trace alone (`GET /v1/decisions/{decision_id}`), as plain lines of text or as JSON.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

WIDTH: Final = 110  # characters
SILENT: Final = "silent"
_MARKS: Final = {"fired": "!", "unknown, skipped": "?", "unknown, fired": "!", "unknown, held": "!", "went wrong": "x"}


def rules_explained(answer: Mapping[str, Any], *, everything: bool) -> dict[str, Any]:
    """Every rule and block that did anything (`everything`: also the silent ones), by stage, and what bounded them."""
    trace = answer["trace"]
    rules = [{"sort": "rule", **rule} for rule in trace["rules"] if everything or rule["verdict"] != SILENT]
    blocks = [block for block in trace.get("blocks", ()) if everything or block["hit"]]
    return {
        "decision_id": answer["decision_id"],
        "scene": answer.get("scene", "drawdown"),
        "decision": answer["decision"],
        "hold": answer["hold"] and answer["hold"]["kind"],
        "policy": answer["policy"],
        "stages": _by_stage([*rules, *blocks], [part.get("stage") for part in trace["rules"]]),
        "scorecards": {
            name: {
                **{part: score[part] for part in ("points", "pd", "grade")},
                "version": trace["scorecards"][name]["version"],
                "role": trace["scorecards"][name].get("role", "champion"),
            }
            for name, score in answer["scores"].items()
        },
        "points": list(trace.get("points", ())),
        "bounded": list(trace.get("bounded", ())),
        "silent": sum(rule["verdict"] == SILENT for rule in trace["rules"]),
    }


def _by_stage(parts: Iterable[Mapping[str, Any]], order: Sequence[str | None]) -> list[dict[str, Any]]:
    """The parts under their stages, in the order the stages run."""
    by_stage: dict[str | None, list[Mapping[str, Any]]] = {stage: [] for stage in order}
    for part in parts:
        by_stage.setdefault(part.get("stage"), []).append(part)
    return [{"stage": stage, "parts": of_stage} for stage, of_stage in by_stage.items() if of_stage]


def explanation_lines(told: Mapping[str, Any]) -> list[str]:
    """The same for a person."""
    held = f" ({told['hold']})" if told["hold"] else ""
    policy = f"policy {told['policy']['id']} ({told['policy']['label']})"
    lines = [f"{told['scene']}: {told['decision']}{held}, {policy}"]
    lines += [_scorecard(name, score) for name, score in told["scorecards"].items()]
    lines += [line for card in told["points"] for line in _points(card)]
    for stage in told["stages"]:
        lines.append(stage["stage"] or "rules")
        for part in stage["parts"]:
            lines += _rule(part) if part["sort"] == "rule" else _block(part)
    lines += [f"bounded by {guardrail}" for guardrail in told["bounded"]]
    return [*lines, f"silent rules: {told['silent']}"]


def _scorecard(name: str, score: Mapping[str, Any]) -> str:
    """A scorecard's score, and which version gave it in which role."""
    said = "no score" if score["points"] is None else f"{score['points']} points, grade {score['grade']}"
    return f"  {name} {score['version']} ({score['role']}): {said}"


def _points(card: Mapping[str, Any]) -> list[str]:
    """A points scorecard: what it came to, and from what."""
    grade = "" if card["grade"] is None else f", grade {card['grade']}"
    earned = ", ".join(f"{part['value']} {_value(part['points'])}" for part in card["of"])
    head = f"  {card['id']}: {_value(card['points'])} points{grade}"
    return [head, *_line("from", f"{_value(card['base'])}, {earned}"), *_line("saw", _listed(card["values"]))]


def _rule(rule: Mapping[str, Any]) -> list[str]:
    lines = _head(_MARKS.get(rule["verdict"], " "), rule, rule["verdict"])
    return lines + _line("when", " ".join(rule["when"].split())) + _facts(rule)


def _block(block: Mapping[str, Any]) -> list[str]:
    hit = ", ".join(block["hit"]) or "nothing hit"
    mark = "?" if block["hit"] == ["unknown"] else "!" if block["hit"] else " "
    return _head(mark, block, f"{block['sort']}: {hit}") + _facts(block)


def _head(mark: str, part: Mapping[str, Any], verdict: str) -> list[str]:
    reason = f" ({part['reason']})" if part["reason"] else ""
    return [f"  {mark} {part['id']}: {verdict}{reason}"]


def _facts(part: Mapping[str, Any]) -> list[str]:
    """The values seen, the constants in force, and why it was unknown."""
    return [
        *_line("saw", _listed(part["values"])), *_line("constants", _listed(part.get("constants", {}))),
        *_line("because", (part["because"] or "").removeprefix("unknown because ")),
    ]  # fmt: skip


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_value(value)}" for name, value in sorted(values.items()))


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _line(what: str, text: str) -> list[str]:
    if not text:
        return []
    return textwrap.wrap(
        f"{what} {text}", WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 10, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip

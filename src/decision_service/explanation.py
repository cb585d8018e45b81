"""A decision explained to a person: what happened, why, and what each rule that fired saw.

From an answer and its trace alone (`GET /v1/decisions/{decision_id}`), as plain lines of text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

from decision_service.core.request import DRAWDOWN_SCENE

WIDTH: Final = 100  # characters
CONTRIBUTIONS_SHOWN: Final = 5  # of a scorecard, the largest
CONTRIBUTION_MIN: Final = 0.005  # log-odds of bad; what would read 0.00 moved nothing
LIMIT_CHANGES: Final[Mapping[str, str]] = {
    "raise": "limit raised", "cut": "limit cut", "freeze": "limit frozen", "draw_cap": "this draw capped",
}  # fmt: skip


def explained(answer: Mapping[str, Any], trace: Mapping[str, Any]) -> list[str]:
    """The lines that explain a decision."""
    return [_verdict(answer), *_scores(answer, trace), *_points(trace), *_reasons(answer), *_rules(answer, trace)]


def _verdict(answer: Mapping[str, Any]) -> str:
    """The outcome and all that happened beside it, in one sentence; of a review what it was about instead of money."""
    outcome, scene = answer["decision"].upper().replace("_", " "), answer.get("scene", DRAWDOWN_SCENE)
    if scene == DRAWDOWN_SCENE:
        return "; ".join([f"{outcome}: pay out {_money(answer['approved_amount'], answer)}", *_happened(answer)])
    return f"review of the scene {scene}: {outcome}; " + ("; ".join(_happened(answer)) or "nothing changes")


def _happened(answer: Mapping[str, Any]) -> list[str]:
    """All that happened beside the money."""
    happened = []
    if (hold := answer["hold"]) is not None:
        happened.append(f"held for {hold['kind'].replace('_', '-')} until {hold['expires_at']}")
    if (change := answer["limit_change"]) is not None:
        what = LIMIT_CHANGES[change["kind"]]
        happened.append(f"{what} from {_money(change['from'], answer)} to {_money(change['to'], answer)}")
    if (reprice := answer["reprice"]) is not None:
        happened.append(f"new draws at {reprice['to']:.2%} instead of {reprice['from']:.2%} a year")
    if (tier := answer.get("tier")) is not None and tier["from"] != tier["to"]:
        happened.append(f"warning tier {tier['to']} instead of {tier['from']}")
    if answer.get("renewal") is not None:
        happened.append(f"renewal: {answer['renewal']}")
    happened += [f"{alert['tier']} alert {alert['indicator']}" for alert in answer["alerts"]]
    happened += [f"offer {offer['name']}" for offer in answer["offers"]]
    return happened


def _scores(answer: Mapping[str, Any], trace: Mapping[str, Any]) -> list[str]:
    """Each scorecard's score, and the features that moved it most."""
    lines = []
    for name, score in answer["scores"].items():
        scored = score["points"] is not None
        said = f"{score['points']} points, grade {score['grade']}, PD {score['pd']:.2%}" if scored else "no score"
        lines.append(f"scorecard {name}{scored_by(trace['scorecards'][name])}: {said}")
        lines += _wrapped(_moved(trace["scorecards"][name]), first="  ")
        lines += _wrapped(_against(trace["scorecards"][name]), first="  ")
        lines += [
            f"  shadow {version}: {_shadow(shadow)}"
            for version, shadow in ((trace.get("shadows") or {}).get(name) or {}).items()
        ]
    return lines


def scored_by(scorecard: Mapping[str, Any]) -> str:
    """Which version scored, if it was not simply the champion: ` 2026.12.1 (challenger)`."""
    role = scorecard.get("role", "champion")  # services of older versions tell none
    return "" if role == "champion" else f" {scorecard['version']} ({role})"


def _shadow(score: Mapping[str, Any]) -> str:
    if score["points"] is None:
        return f"no score: {score['problem']}"
    return f"{score['points']} points, grade {score['grade']}, PD {score['pd']:.2%}"


def _points(trace: Mapping[str, Any]) -> list[str]:
    """Each points scorecard as the sum it is: `500 + 30 (utl_now) - 20 (facility.product)`."""
    lines = []
    for card in trace.get("points", ()):
        said = "no score" if card["points"] is None else f"{card['points']:g} points"
        said += "" if card["grade"] is None else f", grade {card['grade']}"
        earned = " ".join(_earned(one) for one in card["of"])
        lines += _wrapped(f"points {card['id']}: {said} = {card['base']:g} {earned}", first="")
    return lines


def _earned(one: Mapping[str, Any]) -> str:
    points = one["points"]
    shown = "+ unknown" if points is None else f"{'-' if points < 0 else '+'} {abs(points):g}"
    return f"{shown} ({one['value']})"


def _moved(scorecard: Mapping[str, Any]) -> str:
    """What raised and what lowered the risk most, in log-odds of bad; or why that is not known."""
    problem = scorecard["problem"] or ""
    if scorecard["contributions"] is None:
        return problem
    shown = scorecard["contributions"][:CONTRIBUTIONS_SHOWN]
    moved_by = (
        f"risk {word} by {', '.join(moved)}"
        for word, sign in (("raised", 1), ("lowered", -1))
        if (moved := [_contribution(c) for c in shown if sign * c["contribution"] >= CONTRIBUTION_MIN])
    )
    return "; ".join(said for said in (problem, *moved_by) if said)


def _against(scorecard: Mapping[str, Any]) -> str:
    """The codes that weigh most against the customer, by their share of all that raised the risk."""
    reasons = scorecard.get("reasons") or ()
    told = ", ".join(f"{one['code']} {one['share']:.0%}" for one in reasons)
    return f"against it: {told}" if told else ""


def _contribution(told: Mapping[str, Any]) -> str:
    return f"{told['feature']} = {_value(told['value'])} ({told['contribution']:+.2f})"


def _reasons(answer: Mapping[str, Any]) -> list[str]:
    """Each reason once, with everything that gave it."""
    sources: dict[tuple[str, str], list[str]] = {}
    for reason in answer["reasons"]:
        sources.setdefault((reason["code"], reason["text"]), []).append(reason["source"])
    return [f"{code} {text} ({', '.join(given)})" for (code, text), given in sources.items()]


def _rules(answer: Mapping[str, Any], trace: Mapping[str, Any]) -> list[str]:
    """What fired and what it saw."""
    fired = [rule for rule in trace["rules"] if "fired" in rule["verdict"] or "held" in rule["verdict"]]
    looked = f"{len(trace['rules'])} rules looked at {len(trace['features'])} features; {len(fired)} fired"
    lines = [f"{looked} ({answer['latency_ms']:.1f} ms){':' if fired else ''}"]
    for rule in fired:
        lines += _wrapped(f"{rule['id']}: {' '.join(rule['when'].split())}", first="  ")
        lines += _wrapped(_saw(rule["values"]), first=" " * 6)
    lines += [f"  hit {cell}" for cell in trace["cells"]]
    return lines + [f"  bounded by {source}" for source in trace["bounded"]]


def _wrapped(text: str, first: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * 6)


def _saw(values: Mapping[str, Any]) -> str:
    return "saw " + ", ".join(f"{name} = {_value(value)}" for name, value in sorted(values.items()))


def _value(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _money(amount: float, answer: Mapping[str, Any]) -> str:
    return f"{amount:,.2f} {answer['currency']}"

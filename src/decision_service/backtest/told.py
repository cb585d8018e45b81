"""A backtest as JSON, in a shape that stays (`format`), and as a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from decision_service.api.instants import format_instant
from decision_service.backtest.measures import Kept, scene_measures
from decision_service.backtest.running import Done, Plan
from decision_service.backtest.traces import Explained, Side
from decision_service.core.policy import Policy
from decision_service.core.request import DRAWDOWN_SCENE

FORMAT: Final = "backtest-1"
HELD_FIXED: Final = (
    "Every decision is judged again in the state in which it was judged then. First-order only: had the candidate "
    "answered an earlier drawdown otherwise, the later ones of that customer would have met another log; that is not "
    "followed.",
    "Lists have the members that they had then.",
    "What was not paid out has no outcome of its own: what the customer did otherwise stands in for it.",
    "Expected loss is PD x what is paid out x LGD with one PD for both sides: the candidate's, else the recorded one.",
)


def report_json(
    plan: Plan, candidate: Policy, card: str | None, done: Done, kept: Sequence[Kept], flips: Sequence[Explained]
) -> dict[str, Any]:
    """Everything."""
    tally = done.tally
    decided = sum(tally.ways.values())
    return {
        "format": FORMAT,
        "candidate": {"policy": candidate.id, "label": candidate.label, "scorecard": card},
        "archive": {"policies": dict(tally.policies.most_common()), "since": format_instant(plan.since_ms),
                    "until": format_instant(plan.until_ms)},
        "held_fixed": list(HELD_FIXED),
        "lgd": tally.lgd,
        "outcomes": None if plan.outcomes is None else str(getattr(plan.outcomes, "name", plan.outcomes)),
        "target": None if plan.target is None else asdict(plan.target),
        "counts": {
            "decided": decided, "ways": dict(sorted(tally.ways.items())), "left_out": dict(sorted(tally.skips.items())),
            "features_computed": sorted(tally.computed), "features_unknown": sorted(tally.links),
        },
        "checked": {"decisions": done.checked, "differing": done.differing},
        "scenes": [
            {"scene": scene, "currency": currency, **scene_measures(one, scene == DRAWDOWN_SCENE)}
            for (scene, currency), one in sorted(tally.scenes.items())
        ],
        "thresholds": [
            {"name": one.name, "most": one.most, "value": one.value, "holds": one.holds} for one in kept
        ],
        "flips": [_flip(one) for one in flips],
        "speed": {"cpu_s": round(done.cpu_s, 3), "decisions_per_cpu_s": round(decided / max(done.cpu_s, 1e-9))},
    }  # fmt: skip


def _flip(one: Explained) -> dict[str, Any]:
    flip = one.flip
    return {
        "direction": flip.direction, "decision_id": flip.decision_id, "scene": flip.scene, "asked": flip.asked,
        "currency": flip.currency, "at": format_instant(flip.t_ms), "before": _side(one.before),
        "after": _side(one.after), "same_when_decided_plainly": one.same,
    }  # fmt: skip


def _side(side: Side) -> dict[str, Any]:
    return {"answer": dict(side.answer), "rules": list(side.rules), "cells": list(side.cells), "trace": side.trace}


# --- for a terminal -------------------------------------------------------------------------------------------------


def report_text(told: Mapping[str, Any]) -> str:
    """The same in a few lines."""
    return "\n".join(_lines(told))


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    counts = told["counts"]
    yield f"candidate {told['candidate']['policy']} ({told['candidate']['label']}), {counts['decided']:,} decisions"
    yield "  decided: " + ", ".join(f"{n:,} {way}" for way, n in counts["ways"].items())
    for why, n in counts["left_out"].items():
        if n:
            yield f"  left out: {n:,} {why}"
    if counts["features_unknown"]:
        yield f"  null, for entity logs are not archived: {', '.join(counts['features_unknown'])}"
    for scene in told["scenes"]:
        yield from _scene_lines(scene)
    checked = told["checked"]
    if checked["decisions"]:
        yield f"checked plainly: {checked['decisions']:,}, {len(checked['differing'])} differ"
    for one in told["thresholds"]:
        value = "unknown" if one["value"] is None else f"{one['value']:.4f}"
        yield f"{'kept' if one['holds'] else 'BROKEN'}: {one['name']} {value}, at most {one['most']}"


def _scene_lines(scene: Mapping[str, Any]) -> Iterator[str]:
    yield f"{scene['scene']} ({scene['currency']}): {scene['decisions']:,} decisions"
    before, after = scene["outcome"]["before"], scene["outcome"]["after"]
    yield "  " + ", ".join(f"{name} {before[name]:,} -> {after[name]:,}" for name in before)
    if "whole" not in scene:
        return
    whole = scene["whole"]
    yield (
        f"  pays {_percent(whole['approval_before'])} -> {_percent(whole['approval_after'])}, "
        f"{whole['paid_before']:,.2f} -> {whole['paid_after']:,.2f}; expected loss "
        f"{whole['expected_loss_before']:,.2f} -> {whole['expected_loss_after']:,.2f}"
    )
    swap = scene["swap"]
    yield "  swap set: " + ", ".join(f"{name} {swap[name]['decisions']:,}" for name in swap)
    changed = [rule for rule in scene["rules"] if rule["new"] or rule["lost"]]
    for rule in sorted(changed, key=lambda r: -(r["new"] + r["lost"]))[:10]:
        yield f"  {rule['rule']}: {rule['before']:,} -> {rule['after']:,} (+{rule['new']:,}, -{rule['lost']:,})"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2%}"

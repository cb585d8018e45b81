"""The report of a backtest as a page: what changes, for whom, and what it costs. Made of `told.report_json` alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from decision_service.backtest.flips_page import flip_blocks
from decision_service.report import Block, Cell, Facts, Report, Section, Table, Text, percent, plots
from decision_service.report.pairs import diverging, pairs

RULES_DRAWN: Final = 15
_SEGMENTS: Final = {
    "product": "product", "channel": "channel", "utilisation": "use of the line before the draw", "points": "score",
    "amount": "amount asked for",
}  # fmt: skip
_PARTS: Final = ("outcome", "hold", "limit", "price", "capped")
_CELL_MEANS: Final = {
    "kept": "both pay", "out": "only the archive paid", "in": "only the candidate pays", "neither": "neither pays",
}  # fmt: skip


def report(told: Mapping[str, Any]) -> Report:
    """The whole report."""
    candidate, archive = told["candidate"], told["archive"]
    about = (
        f"Candidate {candidate['policy']} ({candidate['label']}) over {told['counts']['decided']:,} archived decisions "
        f"committed from {archive['since']} to before {archive['until']}. Before is what was answered, after is what "
        "the candidate answers."
    )
    scenes = told["scenes"]
    several = len({scene["currency"] for scene in scenes if scene["scene"] == "drawdown"}) > 1
    sections = [Section("What was done", tuple(_done(told)))]
    for scene in scenes:
        name = scene["scene"] + (f" in {scene['currency']}" if several or scene["scene"] != "drawdown" else "")
        sections += list(_scene(scene, name))
    if told["flips"]:
        sections.append(Section("Customers that flip", tuple(flip_blocks(told["flips"]))))
    return Report(f"Backtest of {candidate['label']}", about, tuple(sections))


def _done(told: Mapping[str, Any]) -> Iterator[Block]:
    counts = told["counts"]
    ways = {"columns": "as columns, from recorded numbers", "recomputed": "as columns, with features from the logs",
            "plain": "one by one, by the deciding code itself"}  # fmt: skip
    yield Facts(
        (
            *((ways.get(way, way), n) for way, n in counts["ways"].items()),
            *((f"left out: {why}", n) for why, n in counts["left_out"].items() if n),
            ("policies in the archive", len(told["archive"]["policies"])),
            ("scorecard", told["candidate"]["scorecard"] or "none"), ("LGD", told["lgd"]),
            ("outcomes", told["outcomes"] or "none were given"),
            ("decided plainly besides, to compare", told["checked"]["decisions"]),
            ("of these differ", len(told["checked"]["differing"])),
        )
    )  # fmt: skip
    if told["thresholds"]:
        rows = tuple(
            (one["name"], one["most"], one["value"], "kept" if one["holds"] else "BROKEN") for one in told["thresholds"]
        )
        yield Table(("threshold", "at most", "came out", ""), rows)
    yield Text("What is held fixed:\n\n" + "\n".join(f"- {line}" for line in told["held_fixed"]))
    if counts["features_computed"]:
        yield Text(f"Computed from the logs: {_names(counts['features_computed'])}.")
    if counts["features_unknown"]:
        yield Text(
            "Null, because the logs of devices, payees and networks are not archived and nobody recorded these: "
            f"{_names(counts['features_unknown'])}."
        )


def _scene(scene: Mapping[str, Any], name: str) -> Iterator[Section]:
    yield Section(f"Mix: {name}", tuple(_mixes(scene, name)))
    if "swap" in scene:
        yield Section(f"Swap set: {name}", tuple(_swap(scene, name)))
        yield Section(f"Segments: {name}", tuple(_segments(scene, name)))
    if scene["rules"]:
        yield Section(f"Rules: {name}", tuple(_rules(scene, name)))


def _mixes(scene: Mapping[str, Any], name: str) -> Iterator[Block]:
    n = scene["decisions"]
    outcome = scene["outcome"]
    yield pairs(
        _anchor(f"outcome {name}"), [(o, outcome["before"][o] / n, outcome["after"][o] / n) for o in outcome["before"]],
        "Share of decisions by outcome.", "share of decisions",
    )  # fmt: skip
    held = scene["hold"]
    kinds = [kind for kind in held["before"] if kind != "none"]
    yield pairs(
        _anchor(f"hold {name}"), [(k, held["before"][k] / n, held["after"][k] / n) for k in kinds],
        "Share of decisions by kind of hold.", "share of decisions",
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for part in _PARTS:
        mix = scene[part]
        for what in mix["before"]:
            before, after = mix["before"][what], mix["after"][what]
            if (before or after) and not (part != "outcome" and what in ("none", "stays", "no")):
                label = f"{part}: {what}" if part != "capped" else "capped draws"
                rows.append((label, before, after, after - before, percent(before / n, 2), percent(after / n, 2)))
    yield Table(("part of the answer", "before", "after", "change", "share before", "share after"), tuple(rows))
    moved = sorted(outcome["moved"], key=lambda one: -one["decisions"])
    if moved:
        yield Table(
            ("outcome before", "outcome after", "decisions"),
            tuple((one["before"], one["after"], one["decisions"]) for one in moved), title="What becomes what",
        )  # fmt: skip
    if "whole" in scene:
        whole = scene["whole"]
        yield Facts(
            (
                ("paid out before", whole["paid_before"]), ("paid out after", whole["paid_after"]),
                ("expected loss before", whole["expected_loss_before"]),
                ("expected loss after", whole["expected_loss_after"]),
            )
        )  # fmt: skip
        days = scene["days"]
        if len(days) > 1:
            yield plots.lines(
                _anchor(f"days {name}"), [_day(one["day"]) for one in days],
                [("before", [_number(one["approval_before"]) for one in days]),
                 ("after", [_number(one["approval_after"]) for one in days])],
                "Share of drawdowns that pay, by UTC day.", "share that pays", as_share=True,
            )  # fmt: skip


def _swap(scene: Mapping[str, Any], name: str) -> Iterator[Block]:
    swap = scene["swap"]
    rows = []
    for cell in ("kept", "out", "in", "neither"):
        one = swap[cell]
        side = "after" if cell == "in" else "before"
        rows.append(
            (
                cell, one["decisions"], one["asked"], one["paid_before"], one["paid_after"],
                one["expected_loss_before"], one["expected_loss_after"], _percent(one[f"loss_rate_{side}"]),
                one["known"], _percent(one["bad_rate"]),
            )
        )  # fmt: skip
    yield Table(
        ("cell", "drawdowns", "asked for", "paid before", "paid after", "expected loss before", "expected loss after",
         "loss rate", "outcome known", "bad rate"), tuple(rows),
        "; ".join(f"{cell}: {means}" for cell, means in _CELL_MEANS.items()) + ". Loss rate: expected loss over "
        "what is paid. Bad rate: of the drawdowns whose outcome is known.",
    )  # fmt: skip
    counts = [(cell, float(swap[cell]["decisions"])) for cell in ("kept", "out", "in")]
    yield plots.bars(_anchor(f"swap {name}"), counts, "Drawdowns by cell of the swap set.", "drawdowns")
    rates = [(cell, swap[cell]["bad_rate"]) for cell in _CELL_MEANS if swap[cell]["known"]]
    if rates:
        yield plots.bars(_anchor(f"swap bad {name}"), rates, "Bad rate by cell.", "bad rate", as_share=True)
    equal = scene["equal_approval"]
    if equal is None:
        yield Text("Nothing is said at equal approval rate: one side has no drawdown with a PD that pays.")
        return
    sides = [(side, equal[side]) for side in ("before", "after")]
    yield Text(
        f"At equal approval rate ({_percent(equal['approval'])}, {equal['paying']:,} drawdowns each) the side that "
        "pays more gives up those that its own PD finds riskiest."
    )
    yield Table(
        ("side", "given up", "paid", "expected loss", "loss rate", "outcome known", "bad rate"),
        tuple(
            (side, one["given_up"], one["exposure"], one["expected_loss"], _percent(one["loss_rate"]), one["known"],
             _percent(one["bad_rate"])) for side, one in sides
        ),
    )  # fmt: skip


def _segments(scene: Mapping[str, Any], name: str) -> Iterator[Block]:
    for by, title in _SEGMENTS.items():
        found = sorted((o for o in scene["segments"] if o["by"] == by), key=lambda one: _order(one["segment"]))
        if len(found) < 2:
            continue
        yield pairs(
            _anchor(f"by {by} {name}"),
            [(one["segment"], _number(one["approval_before"]), _number(one["approval_after"])) for one in found],
            f"Share that pays, by {title}.", "share that pays",
        )  # fmt: skip
    for by, title in _SEGMENTS.items():
        rows = tuple(
            (one["segment"], one["decisions"], _percent(one["approval_before"]), _percent(one["approval_after"]),
             one["paid_before"], one["paid_after"], one["expected_loss_before"], one["expected_loss_after"],
             _percent(one["bad_rate_before"]), _percent(one["bad_rate_after"]))
            for one in sorted(scene["segments"], key=lambda one: _order(one["segment"])) if one["by"] == by
        )  # fmt: skip
        if rows:
            yield Table(
                (by, "draws", "pays before", "pays after", "paid before", "paid after", "expected loss before",
                 "expected loss after", "bad rate before", "bad rate after"), rows, title=f"By {title}",
            )  # fmt: skip


def _rules(scene: Mapping[str, Any], name: str) -> Iterator[Block]:
    n = scene["decisions"]
    changed = sorted(
        (rule for rule in scene["rules"] if rule["new"] or rule["lost"]), key=lambda r: -(r["new"] + r["lost"])
    )
    if changed:
        yield diverging(
            _anchor(f"rules {name}"),
            [(r["rule"], float(r["new"]), float(r["lost"])) for r in changed[:RULES_DRAWN]],
            "Decisions in which a rule has a say that it had not, and the other way round.", "decisions",
        )  # fmt: skip
    rows = tuple(
        (rule["rule"], _share(rule["before"], rule["asked_before"]), _share(rule["after"], rule["asked_after"]),
         rule["before"], rule["after"], rule["new"], rule["lost"], rule["new_on_out"], rule["lost_on_in"])
        for rule in sorted(scene["rules"], key=lambda r: (-(r["new"] + r["lost"]), -r["after"], r["rule"]))
        if rule["before"] or rule["after"]
    )  # fmt: skip
    silent = sum(not (rule["before"] or rule["after"]) for rule in scene["rules"])
    yield Table(
        ("rule", "rate before", "rate after", "before", "after", "new", "lost", "new on swapped out",
         "lost on swapped in"), rows,
        f"Of {n:,} decisions. A dash: the rule is not in that policy. {silent:,} rules had no say on either side.",
    )  # fmt: skip


# --- words ------------------------------------------------------------------------------------------------------------


def _order(label: str) -> tuple[int, float, str]:
    """Bands in rising order: by their first number, what has none by name, unknown last."""
    if label in ("unknown", "none"):
        return 3, 0.0, label
    number = re.search(r"[\d,.]+", label)
    if number is None:
        return 2, 0.0, label
    below = label.startswith(("below", "up to"))
    return (0 if below else 1), float(number[0].replace(",", "").rstrip(".")), label


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.2%}"


def _share(part: int, whole: int) -> str | None:
    return f"{part / whole:.2%}" if whole else None


def _day(days: int) -> str:
    from datetime import date, timedelta

    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()

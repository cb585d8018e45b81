"""Facts: of some decisions of one scene, what was answered and what the candidate answers, side by side.

All that is counted is counted from facts, however the candidate's answer was found: as columns, or plainly. Money is in
major units of one currency; a decision *pays* if something is paid out, and what is paid out is its exposure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.backtest.archived import Loaded
from decision_service.backtest.batch import Ints
from decision_service.backtest.engine import LINE, Decided
from decision_service.core.expressions.columns import Floats, Mask, Texts
from decision_service.core.rules.codegen import SILENT, UNKNOWN_SKIPPED

UNKNOWN_OUTCOME: Final = -1  # of `bad`
_HIT: Final = np.ones(256, np.bool_)  # by verdict: whether the rule had a say
_HIT[[SILENT, UNKNOWN_SKIPPED]] = False


@dataclass(frozen=True, slots=True)
class Answers:
    """One side, with the codes of `Outcomes`; `fired` bool[rules, n]."""

    decision: npt.NDArray[np.uint8]
    hold: npt.NDArray[np.uint8]
    paid: Floats
    price_bps: Ints  # NONE: it stays
    limit: npt.NDArray[np.uint8]
    pd: Floats
    points: Floats
    fired: Mask

    def take(self, rows: Ints) -> Answers:
        """Some of them."""
        return Answers(
            self.decision[rows], self.hold[rows], self.paid[rows], self.price_bps[rows], self.limit[rows],
            self.pd[rows], self.points[rows], self.fired[:, rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """Some decisions of one scene and currency. `bad`: 1, 0, or UNKNOWN_OUTCOME; `loss` NaN where it is not known."""

    scene: str
    currency: str
    place: int
    positions: Ints
    t_ms: Ints
    customer_keys: Ints
    asked: Floats
    apr_bps: Ints
    use: Floats  # of the line, before this draw
    texts: Mapping[str, Texts]
    before: Answers
    after: Answers
    rules_before: tuple[str, ...]
    rules_after: tuple[str, ...]
    ids: Any  # Arrow's
    bad: npt.NDArray[np.int8]
    loss: Floats

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, rows: Ints) -> Facts:
        """Some of them."""
        import pyarrow as pa

        return replace(
            self, positions=self.positions[rows], t_ms=self.t_ms[rows], customer_keys=self.customer_keys[rows],
            asked=self.asked[rows], apr_bps=self.apr_bps[rows], use=self.use[rows],
            texts={name: Texts(texts.codes[rows], texts.values) for name, texts in self.texts.items()},
            before=self.before.take(rows), after=self.after.take(rows), ids=self.ids.take(pa.array(rows)),
            bad=self.bad[rows], loss=self.loss[rows],
        )  # fmt: skip


def facts_of(loaded: Loaded, decided: Decided, place: int, card: str | None, segments: Sequence[str]) -> Facts:
    """The facts of a batch; `card` names the scorecard whose PD is meant. Currencies are still mixed: `by_currency`."""
    batch, before, out = loaded.batch, loaded.before, decided.outcomes
    scale = batch.scale
    points_before, pd_before = _recorded(loaded, card)
    score = decided.scores.get(card) if card else None
    nothing = np.full(batch.count, np.nan)
    limit, outstanding, reserved, apr, _ = _line(loaded)
    with np.errstate(divide="ignore", invalid="ignore"):
        use = (outstanding + reserved) / limit
    answered = Answers(
        before.decision, before.hold, before.approved_minor / scale, before.price_bps, before.limit, pd_before,
        points_before, _HIT[before.verdicts],
    )  # fmt: skip
    answers = Answers(
        out.decision, out.hold, out.approved_minor / scale, out.price_bps, out.limit,
        nothing if score is None else score.pd, nothing if score is None else score.points, _HIT[decided.verdicts],
    )  # fmt: skip
    texts = {name: loaded.texts[name] for name in segments if name in loaded.texts}
    return Facts(
        batch.scene, "", place, loaded.positions, batch.t_ms, loaded.customer_keys, batch.amount_minor / scale,
        np.rint(np.nan_to_num(apr) * 10_000).astype(np.int64), use, texts, answered, answers,
        tuple(rule.id for rule in loaded.view.scene.rule_set.rules),
        tuple(rule.id for rule in loaded.view.engine.scene.rule_set.rules), loaded.ids,
        np.full(batch.count, UNKNOWN_OUTCOME, np.int8), nothing,
    )  # fmt: skip


def by_currency(facts: Facts, currencies: Texts) -> list[Facts]:
    """The same, each currency by itself."""
    there = np.unique(currencies.codes).tolist()
    if len(there) == 1:
        return [replace(facts, currency=currencies.values[there[0]])]
    return [
        replace(facts.take(np.flatnonzero(currencies.codes == code)), currency=currencies.values[code])
        for code in there
    ]  # fmt: skip


def _line(loaded: Loaded) -> list[Floats]:
    """The line's numbers as they were recorded, whatever they mean to the candidate."""
    names = loaded.view.scene.number_names
    return [loaded.batch.matrix[:, names.index(name)] for name in LINE]


def _recorded(loaded: Loaded, card: str | None) -> tuple[Floats, Floats]:
    names, matrix = loaded.view.scene.number_names, loaded.batch.matrix
    if card is None or f"{card}.points" not in names:
        nothing = np.full(len(matrix), np.nan)
        return nothing, nothing
    return matrix[:, names.index(f"{card}.points")], matrix[:, names.index(f"{card}.pd")]

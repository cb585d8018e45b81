"""The drawdowns that flip, with both sides explained: the archived frame, and the candidate's made again plainly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from decision_service.answer import answer_bytes
from decision_service.archive.histories import decided
from decision_service.archive.rows import frame_of
from decision_service.backtest.archived import View
from decision_service.backtest.running import Worker
from decision_service.backtest.tally import Flip
from decision_service.core.errors import DecisionServiceError
from decision_service.decision_log import Frame, decode, encode
from decision_service.trace import VERDICTS, render_trace

_SAYS: Final = frozenset((VERDICTS[1], VERDICTS[3], VERDICTS[4], VERDICTS[5]))  # verdicts of rules that have a say


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a flip: the answer, and its trace if it is told."""

    answer: Mapping[str, Any]
    rules: tuple[str, ...]  # that had a say
    cells: tuple[str, ...]
    trace: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Explained:
    """A flip with both sides. `same`: the plain answer flips as the counted one did."""

    flip: Flip
    before: Side
    after: Side

    @property
    def same(self) -> bool:
        """Whether deciding plainly comes to the same flip."""
        pays = [side.answer["approved_amount"] > 0 for side in (self.before, self.after)]
        return pays == ([False, True] if self.flip.direction == "in" else [True, False])


def explained(worker: Worker, flips: Mapping[str, Sequence[Flip]], traces: int) -> list[Explained]:
    """The flips, those with the most at stake first, `traces` of each direction with their full traces."""
    wanted = {(flip.place, flip.position): flip for of_direction in flips.values() for flip in of_direction}
    whole = {(f.place, f.position) for of_direction in flips.values() for f in sorted(of_direction)[::-1][:traces]}
    found = []
    for place in sorted({place for place, _ in wanted}):
        positions = {position for at, position in wanted if at == place}
        for one in decided(worker.archive, place, positions=positions):
            key = (place, one.row.position)
            view = worker.views.of(one.row.policy_id or "", one.row.scene or "")
            if isinstance(view, str):
                continue
            try:
                found.append(_explained(worker, one, view, wanted[key], key in whole))
            except DecisionServiceError:
                continue
    return sorted(found, key=lambda one: (one.flip.direction, -one.flip.asked, one.flip.decision_id))


def _explained(worker: Worker, one: Any, view: View, flip: Flip, in_full: bool) -> Explained:
    before = decode(frame_of(one.row))
    decision = worker.plainly(one, view)
    assert decision.trace is not None, "decisions keep their trace"
    offset_ms = worker.candidate.zone.offset_at(decision.decided_at_ms)
    after = decode(encode(decision, decision.trace, one.request, answer_bytes(decision, 0, offset_ms), {}))
    return Explained(
        flip, _side(before, view.policy, in_full), _side(after, worker.candidate, in_full)
    )  # fmt: skip


def _side(frame: Frame, policy: Any, in_full: bool) -> Side:
    answer = orjson.loads(frame.answer)
    trace = render_trace(frame, policy.describe(), policy.all_scorecards)
    rules = tuple(rule["id"] for rule in trace["rules"] if rule["verdict"] in _SAYS)
    return Side(answer, rules, tuple(frame.rest["cells"]), trace if in_full else None)

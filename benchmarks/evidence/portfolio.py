"""The generated portfolio: how well the shipped scorecard ranks and calibrates out of time, and what it earns.

    python benchmarks/evidence/portfolio.py                    # a few minutes on two cores
    python benchmarks/evidence/portfolio.py --customers 2000   # smaller and coarser
    python benchmarks/evidence/portfolio.py --json

Nothing here is real: customers and outcomes come from `decision_service.portfolio`, so the figures show that the parts
work together and not what a bank would see. All customers share 600 payees, so the rule `shared_payee` alone holds
about two of five drawdowns of the full portfolio, and fewer of a smaller one. There is no published result to compare
with.

The score. Observed at the last OBSERVATIONS months' ends that leave PERFORMANCE_D days of outcome, on performing
customers as in the training file (60 days on book, nothing past due), scored by `decide` itself. Once on the portfolio
it was trained on (later months only; half of these rows calibrated it, so its calibration there flatters) and once on a
portfolio of another seed, of which no customer was ever seen.

The policy. Every drawdown of the WINDOW_D days before that, on the other seed's portfolio, is decided by `decide` with
the shipped policy, twice: with its scorecard, and with a scorecard that cannot score (rung `no_score`, whose rules pay
out only small draws of customers with a clean record). `rules alone` pays besides what only that rule held, so it is
the policy without any idea of a score. For equal approval rates the points a drawdown needs are raised until as many
are approved: of what the policy with its scorecard approves as many as without it, and of what rules alone approve as
many as with it. Bad: the customer is 30 days past due within 90 days. The drawdowns all happened in the simulation,
whatever the answer is here. Intervals are 95 %, by resampling customers.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from measures import Calibration, Figure, Ranking, arguments, as_json, calibration, figure, share
from portfolio_book import PERFORMANCE_D, Book, Question

from decision_service.core.decide import decide
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.policy import Policy, compile_policy
from decision_service.core.source import Findings
from decision_service.policies.loading import load_policy
from decision_service.portfolio import PortfolioPlan, generate
from tables import portfolio, text

ROOT = Path(__file__).parents[2]
SCORECARD = "behaviour"
UNTIL_MS = round(datetime.fromisoformat("2026-11-01T00:00:00+08:00").timestamp() * 1_000)  # as in its training file
DAYS, TRAINED_SEED, OTHER_SEED = 540, 20_261_121, 20_261_122
OBSERVATIONS, OBSERVE_EVERY_D = 3, 30
DAYS_ON_BOOK_MIN, DAYS_PAST_DUE_MAX = 60, 0
WINDOW_D = 30
NO_SCORE_RULE = "rule:no_score_small_only"
NEWEST_MS = UNTIL_MS - PERFORMANCE_D * DAY_MS

SCORE = np.dtype([("customer", "i8"), ("pd", "f8"), ("points", "f8"), ("bad", "?")])
DRAW = np.dtype(
    [
        ("customer", "i8"), ("asked", "f8"), ("bad", "?"), ("points", "f8"), ("with", "f8"), ("without", "f8"),
        ("alone", "f8"),
    ]
)  # fmt: skip
Rows = npt.NDArray[np.void]


class Silent:
    """A model that cannot say anything, as when it is broken."""

    def margin(self, row: npt.NDArray[np.float64]) -> float:
        """No number."""
        return float("nan")

    def contributions(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """No numbers."""
        return np.full(len(row) + 1, np.nan)


@dataclass(frozen=True, slots=True)
class Policies:
    """The shipped policy with its scorecard, and the same with one that cannot score."""

    scoring: Policy
    silent: Policy


def load_policies() -> Policies:
    """Both, compiled by the calling process: a policy owns buffers."""
    scoring, _ = load_policy(ROOT / "rules", ROOT / "models", "Asia/Shanghai", 24 * HOUR_MS)
    cards = {name: replace(card, scorer=Silent()) for name, card in scoring.scorecards.items()}
    silent = compile_policy(scoring.documents, cards, scoring.zone, scoring.reservation_timeout_ms, Findings())
    return Policies(scoring, silent)


def scored(book: Book, policies: Policies, i: int) -> Iterator[tuple[Any, ...]]:
    """The score rows of one customer."""
    for k in range(OBSERVATIONS):
        at_ms = NEWEST_MS - k * OBSERVE_EVERY_D * DAY_MS
        if book.performing(i, at_ms, DAYS_ON_BOOK_MIN, DAYS_PAST_DUE_MAX):
            question = book.neutral(i, at_ms)
            score = decided(question, policies.scoring).scores[SCORECARD]
            assert score.pd is not None, score.problem
            yield i, score.pd, score.points, question.bad


def drawn(book: Book, policies: Policies, i: int) -> Iterator[tuple[Any, ...]]:
    """The drawdown rows of one customer."""
    for question in book.drawdowns(i, NEWEST_MS - WINDOW_D * DAY_MS, NEWEST_MS):
        scoring, silent = decided(question, policies.scoring), decided(question, policies.silent)
        assert silent.rung == "no_score"
        points, asked = scoring.scores[SCORECARD].points, question.request.amount_minor
        held_for_no_score = bool(silent.hold) and {reason.source for reason in silent.reasons} == {NO_SCORE_RULE}
        alone = asked if held_for_no_score else silent.approved_minor
        known = np.nan if points is None else points
        yield i, asked, question.bad, known, scoring.approved_minor, silent.approved_minor, alone


def decided(question: Question, policy: Policy) -> Any:
    """The decision on a question at its own instant."""
    return decide(question.request, question.state, policy, question.at_ms, "0" * 36)


Reader = Callable[[Book, Policies, int], Iterator[tuple[Any, ...]]]
_shared: list[Book] = []  # what a forked process finds of its parent


def _part(reader: Reader, dtype: np.dtype[Any], customers: range) -> Rows:
    policies = load_policies()
    return np.array([row for i in customers for row in reader(_shared[0], policies, i)], dtype)


def read(book: Book, reader: Reader, dtype: np.dtype[Any]) -> Rows:
    """The rows of all customers, by as many processes as there are cores (two at most)."""
    processes = min(2, os.cpu_count() or 1)
    _shared[:] = [book]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        parts = [range(k, len(book.histories), processes) for k in range(processes)]
        return np.concatenate(pool.starmap(_part, [(reader, dtype, part) for part in parts]))


@dataclass(frozen=True, slots=True)
class ScoreFound:
    """What the score is worth on one portfolio."""

    seed: int
    rows: int
    bads: int
    auc: Figure
    ks: Figure
    calibration: Calibration


def judge_score(rows: Rows, seed: int) -> ScoreFound:
    """AUC, KS and calibration of score rows."""
    ranking, unit = Ranking(rows["pd"], rows["bad"]), rows["customer"]
    return ScoreFound(
        seed, len(rows), int(rows["bad"].sum()), figure(ranking.auc, unit), figure(ranking.ks, unit),
        calibration(rows["pd"], rows["bad"]),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PolicyFound:
    """What one way of deciding approves: shares of drawdowns and money, how much of either goes bad, and which share of
    the bad drawdowns is not paid."""

    approved: Figure
    approved_amount: Figure
    bad_rate: Figure
    bad_rate_amount: Figure
    bad_held: Figure


def judge_policy(rows: Rows, paid: npt.NDArray[np.float64]) -> PolicyFound:
    """The figures of what was paid on each drawdown."""
    unit, asked, bad, yes = rows["customer"], rows["asked"], rows["bad"], paid > 0
    ones = np.ones(len(rows))
    measured = (
        share(yes, ones), share(paid, asked), share(yes & bad, yes), share(paid * bad, paid), share(bad & ~yes, bad)
    )  # fmt: skip
    return PolicyFound(*(figure(each, unit) for each in measured))


def cut(rows: Rows, paid: npt.NDArray[np.float64], like: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of what was paid only that of so many points that no more drawdowns are approved than `like` approves."""
    yes, wanted = paid > 0, int((like > 0).sum())
    points = np.sort(rows["points"][yes])[::-1]
    least = points[min(wanted, len(points)) - 1]
    if (points >= least).sum() > wanted:
        least += 1  # all rows of these points or none
    return np.where(yes & (rows["points"] >= least), paid, 0.0)


def run(customers: int) -> dict[str, Any]:
    """Everything, as plain figures."""
    found: dict[str, Any] = {"customers": customers, "scores": {}, "policies": {}}
    for seed in (TRAINED_SEED, OTHER_SEED):
        print(f"generating {customers:,} customers, seed {seed}", file=sys.stderr)
        plan = PortfolioPlan(customers, UNTIL_MS, seed, DAYS, per_pattern=0)
        book = Book(generate(plan).customers)
        print("scoring", file=sys.stderr)
        name = "trained on" if seed == TRAINED_SEED else "never seen"
        found["scores"][name] = asdict(judge_score(read(book, scored, SCORE), seed))
    print("deciding", file=sys.stderr)
    rows = read(book, drawn, DRAW)
    ways = {
        "with the scorecard": rows["with"],
        "without (rung no_score)": rows["without"],
        "with, as many as without": cut(rows, rows["with"], rows["without"]),
        "rules alone": rows["alone"],
        "rules alone and points, as many as with": cut(rows, rows["alone"], rows["with"]),
    }
    found |= {"drawdowns": len(rows), "bad": int(rows["bad"].sum())}
    found["policies"] = {name: asdict(judge_policy(rows, paid)) for name, paid in ways.items()}
    return found


def main() -> int:
    """Run and print."""
    args = arguments(__doc__, customers={"type": int, "default": 8_000, "help": "customers a portfolio (%(default)s)"})
    found = run(args.customers)
    if args.json:
        print(as_json(found))
        return 0
    print(text(portfolio(found)))
    print(f"\n{found['drawdowns']:,} drawdowns of {WINDOW_D} days, {found['bad']:,} of customers who go bad")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A backtest over an archive that the service made, against deciding every request again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backtest_cases import ATTRIBUTES, FEATURES, MORE_FEATURES
from candidates import plan_of, write
from lived_archive import Made
from watched_service import write_scorecard

from decision_service.archive.files import Archive
from decision_service.archive.histories import decided
from decision_service.backtest.plainly import Plainly
from decision_service.backtest.running import Done, Plan, Worker, run


def plain_outcomes(plan: Plan) -> dict[str, Any]:
    """Every decision of the archive again, by `core.decide`."""
    worker = Worker(plan, 0)
    plainly, found = Plainly(worker.candidate), {}
    archive = Archive(plan.archive)
    for place in range(4):
        for one in decided(archive, place):
            view = worker.views.of(one.row.policy_id or "", one.row.scene or "")
            assert not isinstance(view, str)
            found[one.row.decision_id or ""] = plainly.decide(one, view)
    return found


def check_counts(done: Done, plain: dict[str, Any], made: Made) -> None:
    """The tally is that of the plain answers."""
    [tally] = done.tally.scenes.values()
    assert tally.decisions.sum() == len(plain) == len(made.answers)
    names = ("approve", "hold", "reprice", "limit_change")
    for b, before in enumerate(names):
        for a, after in enumerate(names):
            ids = [i for i, d in plain.items() if d.decision == after and made.answers[i]["decision"] == before]
            assert tally.decisions[b, a] == len(ids), (before, after)
    assert tally.swap[:, 5].sum() == pytest.approx(sum(d.approved_minor for d in plain.values()) / 100)
    assert tally.swap[:, 4].sum() == pytest.approx(sum(a["approved_amount"] for a in made.answers.values()))
    for rule, counts in tally.rules.items():
        fired = 0
        for decision in plain.values():
            fired += any(r.source == f"rule:{rule}" for r in decision.reasons)
        if rule in ("busy", "over_limit", "listed"):
            assert counts[3] == fired, rule


def test_the_policy_itself_changes_nothing(made: Made, tmp_path: Path) -> None:
    """Every number is as recorded, every decision comes out as it was, and the sample decided plainly agrees."""
    plan = plan_of(made, write(tmp_path / "rules"), check=60)
    done = run(plan)
    assert done.checked > 40
    assert done.differing == []
    check_counts(done, plain_outcomes(plan), made)
    [tally] = done.tally.scenes.values()
    assert tally.decisions.sum() == tally.decisions.trace()
    assert done.tally.flips == {"in": [], "out": []}
    assert done.tally.ways["columns"] > 200


def test_a_tightened_threshold_counts_what_deciding_again_counts(made: Made, tmp_path: Path) -> None:
    """The numbers are those of a plain re-run of every request under the candidate."""
    plan = plan_of(made, write(tmp_path / "rules", busy=6), check=60)
    done = run(plan)
    assert done.differing == []
    check_counts(done, plain_outcomes(plan), made)
    [tally] = done.tally.scenes.values()
    assert tally.rules["busy"][4] > 0
    assert done.tally.flips["out"]


def test_new_features_come_out_of_the_logs(made: Made, tmp_path: Path) -> None:
    """A candidate that looks at features nobody recorded gets what the kernel gives for the log of then."""
    more = """
  - {id: rushed, when: rush > 6, on_null: skip, then: {hold: review}, reason: RC20}
  - {id: away, when: far > 1, on_null: skip, then: {tag: far}}
  - {id: payee, when: payee_90d >= 2 and device_90d >= 1, on_null: skip, then: {tag: same}}
  - {id: young, when: granted < 34700000 or back_90d > 3, on_null: skip, then: {cap_draw: big_90d / 10}, reason: RC21}
"""
    plan = plan_of(made, write(tmp_path / "rules", more=more, features=MORE_FEATURES), check=80)
    done = run(plan)
    assert done.tally.computed >= {"rush", "big_90d"}
    assert done.tally.ways["recomputed"] > 200
    assert done.differing == []
    check_counts(done, plain_outcomes(plan), made)


def test_a_changed_definition_is_not_taken_for_the_recorded_number(made: Made, tmp_path: Path) -> None:
    """`vel_30d` by another definition is computed anew, under the same name."""
    features = FEATURES.replace('kind == "drawdown"', 'kind == "repayment"')
    plan = plan_of(made, write(tmp_path / "rules", busy=3, features=features), check=30)
    done = run(plan)
    assert done.tally.computed == {"vel_30d"}
    assert done.differing == []
    check_counts(done, plain_outcomes(plan), made)


def test_a_changed_attribute_is_decided_plainly(made: Made, tmp_path: Path) -> None:
    """What an attribute's new time to live makes of it only the whole state tells."""
    rules = write(tmp_path / "rules")
    attributes = ATTRIBUTES.replace("ttl: 35d", "ttl: 1d", 1)  # of x1
    assert attributes != ATTRIBUTES
    (rules / "attributes.yaml").write_text(attributes)
    plan = plan_of(made, rules)
    done = run(plan)
    assert done.tally.ways["plain"] == len(made.answers)
    check_counts(done, plain_outcomes(plan), made)


def test_another_scorecard_scores_every_decision_again(made: Made, tmp_path: Path) -> None:
    """What a new version says decides; what the old one said is what was."""
    write_scorecard(tmp_path / "models", "2", seed=50, rows=2_000)
    plan = plan_of(made, write(tmp_path / "rules"), models=tmp_path / "models", check=40)
    done = run(plan)
    assert done.differing == []
    check_counts(done, plain_outcomes(plan), made)
    [tally] = done.tally.scenes.values()
    assert tally.swap[1:3, 0].sum() > 0


def test_logs_out_of_rows_are_those_of_the_states(made: Made, tmp_path: Path) -> None:
    """What a decision saw of its customer's log is the same, byte for byte, by arithmetic and by replaying changes."""
    worker = Worker(plan_of(made, write(tmp_path / "rules")), 0)
    compared = trimmed = 0
    for place in range(4):
        logs = worker.logs(place)
        for one in decided(worker.archive, place):
            rows, sound = logs.rows_at(np.array([one.row.position]))
            assert sound.all()
            words, starts, ends = logs.words(rows)
            assert words[starts[0] : ends[0]].tobytes() == one.state_before.log
            compared += 1
            trimmed += int(words[starts[0], 1]) > 0
    assert compared == len(made.answers)
    assert trimmed > 20

"""What a trace says of a score: the features it rests on and what each contributed, from a real scorecard."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import orjson
import pytest
from conftest_service import FEATURES, LINE, RULES, Run, Started, ask, decide, write_policy
from scorecard_maker import NAMES, PLATT, Trained, manifest_text, train, write_scorecard

from decision_service.explanation import explained

SCORED_FEATURES = f"""{FEATURES}
  dpd_max: {{agg: max, of: late, value: value, windows: [90d], null: N1, unit: d, en: "days late", zh: "逾期天数"}}
  inq_cnt: {{agg: count, of: asked, windows: [30d], null: Z, unit: n, en: "inquiries", zh: "查询次数"}}
  draw_cnt: {{agg: count, of: draw, windows: [30d], null: Z, unit: n, en: "draws", zh: "支用次数"}}
  amt: {{agg: sum, of: draw, value: amount, windows: [30d], null: Z, unit: money, en: "drawn", zh: "支用金额"}}
derived:
  utl_now: {{expr: "facility.reserved / facility.limit", null: D, unit: ratio, en: "use", zh: "使用率"}}
""".replace("segments:\n", 'segments:\n  late: kind == "overdue"\n  asked: kind == "inquiry"\n')


@pytest.fixture(scope="module")
def model() -> Trained:
    """30 trees on the five features."""
    return train(30, 8)


@pytest.fixture
def models(run: Run, rules: Path, tmp_path: Path, model: Trained) -> Path:
    """The models folder of `run`, with version 1 of the scorecard; the rules folder with its features."""
    write_policy(rules, features=SCORED_FEATURES)
    write_scorecard(tmp_path / "models", model)
    return tmp_path / "models"


async def drawn(service: Started) -> str:
    """The id of a second drawdown, whose features the first has moved."""
    await service.customers.put_facility(LINE)
    await decide(service, ask("r-1", 300_00))
    return str((await decide(service, ask("r-2"))).decision_id)


async def told(service: Started, decision_id: str) -> Any:
    """The explained decision."""
    return orjson.loads(await service.decisions.decision(decision_id))


def replaced(models: Path, version: str, model: Trained) -> None:
    """Another scorecard in place of version 1, under `version`."""
    shutil.rmtree(models / "behaviour" / "1")
    manifest = re.sub(r"(?m)^version: '1'", f"version: '{version}'", manifest_text(model))
    (models / "behaviour" / version).mkdir()
    (models / "behaviour" / version / "model.txt").write_bytes(model.text)
    (models / "behaviour" / version / "manifest.yaml").write_text(manifest)


def test_contributions_are_lightgbms_and_add_up_to_the_score(run: Run, models: Path, model: Trained) -> None:
    """Every feature with its recorded value and SHAP value, largest first; with `expected` they make the PD."""

    async def test(service: Started) -> None:
        answer = await told(service, await drawn(service))
        card = answer["trace"]["scorecards"]["behaviour"]
        score = answer["scores"]["behaviour"]
        assert {name: card[name] for name in score} == score
        assert (card["version"], card["problem"]) == ("1", None)
        assert card["features"] == {
            "utl_now": 0.3, "dpd_max_90d": None, "inq_cnt_30d": 0, "draw_cnt_30d": 1, "amt_30d": 300,
        }  # fmt: skip
        sizes = [abs(c["contribution"]) for c in card["contributions"]]
        assert sizes == sorted(sizes, reverse=True)
        assert {c["feature"]: c["value"] for c in card["contributions"]} == card["features"]
        row = np.array([[np.nan if (x := card["features"][name]) is None else x for name in NAMES]])
        expected = lightgbm.Booster(model_str=model.text.decode()).predict(row, pred_contrib=True)[0]
        found = {c["feature"]: c["contribution"] for c in card["contributions"]}
        assert [*(found[name] for name in NAMES), card["expected"]] == pytest.approx(expected.tolist(), abs=1e-12)
        margin = sum(found.values()) + card["expected"]
        assert PLATT.pd(margin) == pytest.approx(score["pd"], abs=1e-6)

    run(test)


WEAK = """
  - id: weak
    when: behaviour.points < 2000 and request.amount < 200
    on_null: skip
    then: {hold: review}
    reason: RC36
"""
HELD_BY_SCORE = RULES.replace("rules:\n", f"rules:{WEAK}", 1)


def test_an_answer_that_the_score_held_gives_the_scores_reasons(run: Run, models: Path, rules: Path) -> None:
    """They stand in the answer and its repeat, byte for byte, with the codes of the trace, and in the explanation."""
    write_policy(rules, rules=HELD_BY_SCORE, features=SCORED_FEATURES)

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        await decide(service, ask("r-1", 300_00))
        first, again = await decide(service, ask("r-2")), await decide(service, ask("r-2"))
        assert first.body == again.body
        answer = await told(service, first.decision_id)
        given = [(one["code"], one["source"]) for one in answer["reasons"]]
        assert given == [("RC36", "rule:weak"), ("RC30", "scorecard:behaviour")]
        assert answer["trace"]["scorecards"]["behaviour"]["reasons"] == [{"code": "RC30", "share": 1.0}]
        assert "  against it: RC30 100%" in explained(answer, answer["trace"])

    run(test)


def test_an_answer_that_was_not_adverse_tells_the_scores_reasons_in_its_trace_only(run: Run, models: Path) -> None:
    """An approval gives no reason; who asks is told what weighed against the customer all the same."""

    async def test(service: Started) -> None:
        answer = await told(service, await drawn(service))
        assert (answer["decision"], answer["reasons"]) == ("approve", [])
        card = answer["trace"]["scorecards"]["behaviour"]
        known = sum(one["contribution"] for one in card["contributions"] if one["value"] is not None)
        assert card["reasons"] == ([{"code": "RC30", "share": 1.0}] if known > 0 else [])

    run(test)


def test_a_preview_shows_the_same_contributions(run: Run, models: Path) -> None:
    """A preview of a request not yet decided explains its score like the decision afterwards."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        preview = orjson.loads(await service.decisions.preview(ask("r-1"), time.perf_counter()))
        stored = await told(service, (await decide(service, ask("r-1"))).decision_id)
        assert preview["trace"]["scorecards"] == stored["trace"]["scorecards"]
        assert len(preview["trace"]["scorecards"]["behaviour"]["contributions"]) == len(NAMES)

    run(test)


def test_another_version_explains_nothing_of_an_old_score(run: Run, models: Path, model: Trained) -> None:
    """After the scorecard was replaced an old decision keeps its score and features, and says what it lacks."""

    async def test(service: Started) -> None:
        decision_id = await drawn(service)
        before = (await told(service, decision_id))["trace"]["scorecards"]["behaviour"]
        replaced(models, "2", model)
        assert await service.active.reload()
        after = (await told(service, decision_id))["trace"]["scorecards"]["behaviour"]
        assert after == before | {
            "contributions": None,
            "expected": None,
            "reasons": None,
            "problem": "contributions unknown: version 1 scored, version 2 is active",
        }

    run(test)


def test_another_model_under_the_same_version_is_noticed(run: Run, models: Path) -> None:
    """A model exchanged without a new version does not explain the score of the one before."""

    async def test(service: Started) -> None:
        decision_id = await drawn(service)
        replaced(models, "1", train(20, 4))
        assert await service.active.reload()
        card = (await told(service, decision_id))["trace"]["scorecards"]["behaviour"]
        assert card["problem"] == "contributions unknown: the active version 1 is another model now"
        assert card["contributions"] is None

    run(test)


def test_a_scorecard_taken_away_is_noticed(run: Run, models: Path) -> None:
    """A decision scored by a scorecard that is gone is still explained, but for its contributions."""

    async def test(service: Started) -> None:
        decision_id = await drawn(service)
        shutil.rmtree(models / "behaviour")
        assert await service.active.reload()
        card = (await told(service, decision_id))["trace"]["scorecards"]["behaviour"]
        assert card["problem"] == "contributions unknown: this scorecard is no longer active"
        assert (card["contributions"], card["features"]["amt_30d"]) == (None, 300)

    run(test)


def test_a_score_that_was_refused_says_why(run: Run, models: Path, model: Trained) -> None:
    """Where a feature was null that never was in training there is no score and nothing contributed."""
    path = models / "behaviour" / "1" / "manifest.yaml"
    text, edits = re.subn("(dpd_max_90d, .*nulls: )allowed", r"\1refused", path.read_text())
    assert edits == 1
    path.write_text(re.sub("(?m)^  - {inputs: .*null.*\n", "", text))  # golden rows the stricter card would not score

    async def test(service: Started) -> None:
        card = (await told(service, await drawn(service)))["trace"]["scorecards"]["behaviour"]
        assert card["problem"] == "feature dpd_max_90d is null, which the model never saw"
        assert (card["points"], card["contributions"]) == (None, None)

    run(test)


def test_the_explanation_names_what_moved_the_score(run: Run, models: Path) -> None:
    """Below the score stand the features that raised and lowered the risk, with value and contribution."""

    async def test(service: Started) -> None:
        answer = await told(service, await drawn(service))
        lines = explained(answer, answer["trace"])
        at = next(i for i, line in enumerate(lines) if line.startswith("scorecard behaviour: "))
        end = next(i for i, line in enumerate(lines) if "rules looked at" in line)
        said = " ".join(line.strip() for line in lines[at + 1 : end])
        for c in answer["trace"]["scorecards"]["behaviour"]["contributions"]:
            moved = abs(c["contribution"]) >= 0.005
            assert (f"{c['feature']} = " in said) == moved
            assert not moved or f"({c['contribution']:+.2f})" in said
        assert "risk raised by utl_now = 0.3 (+" in said

    run(test)

"""Roles in the service: a challenger scores its customers, shadows score after the answer, and both are recorded."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import woe_maker
from conftest_service import LINE, RULES, Run, Started, ask, decide, write_policy
from scorecard_maker import Trained, manifest_text, train, write_scorecard
from test_service_trace import SCORED_FEATURES

from decision_service.core.errors import PolicyRejected
from decision_service.core.scorecards.roles import share_of
from decision_service.explanation import explained
from decision_service.rule_explanation import explanation_lines, rules_explained
from decision_service.scorecards.shadows import ShadowScoring
from decision_service.store.keys import partition_of

IN = next(f"c-{i}" for i in range(99) if share_of("behaviour", f"c-{i}") < 0.3)  # scored by the challenger
OUT = next(f"c-{i}" for i in range(99) if share_of("behaviour", f"c-{i}") > 0.9)
ROLES = """\
scorecards:
  behaviour: {challenger: {version: '2', share: 0.3}, shadows: ['3']}
  fraud: {shadows: ['2']}
"""


@pytest.fixture(scope="module")
def model() -> Trained:
    """30 trees on the five features."""
    return train(30, 8)


@pytest.fixture(scope="module")
def other() -> Trained:
    """Another model on the same features."""
    return train(10, 4)


def add(models: Path, name: str, version: str, model: Trained, **changes: str) -> Path:
    """One more version of a scorecard."""
    text = re.sub(r"(?m)^version: '1'", f"version: '{version}'", manifest_text(model))
    text = text.replace("scorecard: behaviour", f"scorecard: {name}")
    for old, new in changes.items():
        text = text.replace(old, new)
    directory = models / name / version
    directory.mkdir(parents=True)
    (directory / "model.txt").write_bytes(model.text)
    (directory / "manifest.yaml").write_text(text)
    return directory


def roles(rules: Path, text: str) -> None:
    """Give roles in `policy.yaml`."""
    (rules / "policy.yaml").write_text(f'label: "test"\nlists: [block]\n{text}')


@pytest.fixture
def models(run: Run, rules: Path, tmp_path: Path, model: Trained, other: Trained) -> Path:
    """The models folder of `run`: three scorecards, one of them by weights of evidence, in several versions."""
    write_policy(rules, features=SCORED_FEATURES)
    models = tmp_path / "models"
    write_scorecard(models, model)
    add(models, "behaviour", "2", other)
    add(models, "behaviour", "3", train(5, 4))
    add(models, "fraud", "1", other)
    add(models, "fraud", "2", model)
    (models / "behaviour" / "active").write_text("1\n")
    (models / "fraud" / "active").write_text("1\n")
    points = woe_maker.MODEL.replace("mob_months", "draw_cnt_30d")
    told = woe_maker.manifest_text(points, woe_maker.margins_of(woe_maker.good_model()))
    woe_maker.write_woe(models, points, told.replace("mob_months", "draw_cnt_30d"))
    roles(rules, ROLES)
    return models


async def draw(service: Started, customer: str, request_id: str = "r-1", amount: int = 100_00) -> Any:
    """The explained decision on a drawdown of a customer, shadows scored."""
    facility = f"f-{customer}"
    line = LINE.__class__(facility, customer, *[getattr(LINE, name) for name in LINE.__slots__[2:]])
    await service.customers.put_facility(line)
    asked = ask(request_id, amount, customer_id=customer, facility_id=facility)
    answer = await decide(service, asked)
    await service.decisions._afterwards.flush()
    return orjson.loads(await service.decisions.decision(answer.decision_id))


def with_shadows(service: Started) -> None:
    """Score shadows after answers."""
    service.decisions._afterwards.register("shadows", ShadowScoring(service.store).take)


def score_of(service: Started, name: str, version: str, told: Any) -> dict[str, Any]:
    """What a version says of the features of a decision."""
    card = next(c for c in service.active.all_scorecards if (c.name, c.version) == (name, version))
    features = {**told["trace"]["inputs"], **{n: f["value"] for n, f in told["trace"]["features"].items()}}
    score = card.score(woe_maker.row_of([features[n] for n in card.names]))
    return {"points": score.points, "pd": score.pd, "grade": score.grade}


def test_each_customer_is_scored_by_the_version_of_their_role(run: Run, models: Path) -> None:
    """The challenger scores those below its share, the champion the others; answer and trace agree, for the rules see
    one score, and every other scorecard is scored by its champion."""

    async def test(service: Started) -> None:
        for customer, version, role in ((IN, "2", "challenger"), (OUT, "1", "champion")):
            told = await draw(service, customer)
            card = told["trace"]["scorecards"]["behaviour"]
            assert (card["version"], card["role"], card["problem"]) == (version, role, None)
            assert told["scores"]["behaviour"] == score_of(service, "behaviour", version, told)
            assert told["trace"]["inputs"]["behaviour.points"] == told["scores"]["behaviour"]["points"]
            assert len(card["contributions"]) == 5
            for name in ("fraud", "classic"):
                assert told["scores"][name] == score_of(service, name, "1", told)
                assert told["trace"]["scorecards"][name]["role"] == "champion"
            assert list(told["scores"]) == ["behaviour", "classic", "fraud"]
            assert told["rung"] == "full"

    run(test)


def test_shadows_are_recorded_beside_the_decision(run: Run, models: Path) -> None:
    """Every shadow scores the features that the decision saw; store, outbox and trace have it, the answer nothing."""

    async def test(service: Started) -> None:
        with_shadows(service)
        told = await draw(service, OUT)
        expected = {
            name: {version: {**score_of(service, name, version, told), "problem": None}}
            for name, version in (("behaviour", "3"), ("fraud", "2"))
        }
        assert told["trace"]["shadows"] == expected
        assert told["trace"]["shadows_missing"] is None
        kept = await service.store.read_shadows(told["decision_id"], 2.0)
        assert kept is not None
        assert orjson.loads(kept) == expected
        entries = service.store.outbox(partition_of(OUT, 16))  # type: ignore[attr-defined]
        assert [entry[b"kind"] for entry in entries[-2:]] == [b"decision", b"shadow"]
        assert (entries[-1][b"id"].decode(), entries[-1][b"scores"]) == (told["decision_id"], kept)
        state = await service.store.read(OUT, None, 2.0)
        assert state.version == 2, "facility and decision; shadows do not move it"
        lines = "\n".join(explained(told, told["trace"]))
        assert f"  shadow 3: {expected['behaviour']['3']['points']} points" in lines

    run(test)


def test_a_decision_says_why_nothing_of_its_shadows_is_known(run: Run, models: Path) -> None:
    """Without the consumer nothing is recorded; the trace names the shadows and says so."""

    async def test(service: Started) -> None:
        trace = (await draw(service, OUT))["trace"]
        assert trace["shadows"] is None
        assert trace["shadows_missing"] == (
            "not recorded: behaviour 3, fraud 2 score within moments of the answer, or never"
        )

    run(test)


def test_a_preview_shows_shadows_at_once(run: Run, models: Path) -> None:
    """The same scores that the real decision records afterwards, and nothing is recorded for the preview."""

    async def test(service: Started) -> None:
        with_shadows(service)
        await service.customers.put_facility(LINE)
        preview = orjson.loads(await service.decisions.preview(ask("r-1"), time.perf_counter()))
        await service.decisions._afterwards.flush()
        assert await service.store.read_shadows(preview["decision_id"], 2.0) is None
        answer = await decide(service, ask("r-1"))
        await service.decisions._afterwards.flush()
        real = orjson.loads(await service.decisions.decision(answer.decision_id))
        assert preview["trace"]["shadows"] == real["trace"]["shadows"]
        assert set(real["trace"]["shadows"]) == {"behaviour", "fraud"}

    run(test)


@pytest.mark.fault("G15")
def test_a_challenger_without_a_score_falls_back_to_the_champion(run: Run, models: Path, other: Trained) -> None:
    """The champion's score stands in, with the challenger's problem; the rung stays `full`, for somebody scored."""

    async def test(service: Started) -> None:
        with_shadows(service)
        told = await draw(service, IN)
        card = told["trace"]["scorecards"]["behaviour"]
        assert (card["version"], card["role"]) == ("1", "champion")
        assert card["problem"] == "challenger 2: feature dpd_max_90d is null, which the model never saw"
        assert told["scores"]["behaviour"] == score_of(service, "behaviour", "1", told)
        assert card["contributions"] is not None
        assert told["rung"] == "full"
        assert "challenger 2: feature dpd_max_90d is null" in "\n".join(explained(told, told["trace"]))

    shutil.rmtree(models / "behaviour" / "2")
    old, new = (f"dpd_max_90d, reason: RC30, monotone: 0, nulls: {n}" for n in ("allowed", "refused"))
    add(models, "behaviour", "2", other, **{old: new, "null_rate: 0.1": "null_rate: 0.0"})
    run(test)


def test_reasons_are_those_of_the_version_that_scored(run: Run, models: Path, rules: Path, model: Trained) -> None:
    """An answer that the score made adverse gives the challenger's codes to its customers, the champion's to others."""

    async def test(service: Started) -> None:
        for customer, code in ((IN, "RC36"), (OUT, "RC30")):
            for request_id, amount in (("r-1", 450_00), ("r-2", 450_00), ("r-3", 10_00)):  # the use of the line rises
                told = await draw(service, customer, request_id, amount)
            assert {r["code"] for r in told["reasons"] if r["source"] == "scorecard:behaviour"} == {code}
            assert {r["code"] for r in told["trace"]["scorecards"]["behaviour"]["reasons"]} == {code}

    shutil.rmtree(models / "behaviour" / "2")
    add(models, "behaviour", "2", model, RC30="RC36")
    when = "behaviour.points < 10000 and request.amount < 50"
    strict = f"  - {{id: strict, when: {when}, on_null: hold, then: {{hold: review}}, reason: RC35}}\n"
    (rules / "drawdown.yaml").write_text(RULES.replace("rules:\n", "rules:\n" + strict))
    run(test)


def test_explanations_name_version_and_role(run: Run, models: Path) -> None:
    """`explain` and `rules explain` say that the challenger scored."""

    async def test(service: Started) -> None:
        told = await draw(service, IN)
        assert "scorecard behaviour 2 (challenger): " in "\n".join(explained(told, told["trace"]))
        lines = explanation_lines(rules_explained(told, everything=False))
        assert any(line.startswith("  behaviour 2 (challenger): ") for line in lines)
        assert any(line.startswith("  fraud 1 (champion): ") for line in lines)

    run(test)


def test_the_policy_tells_the_roles_and_is_another_with_another_share(run: Run, models: Path, rules: Path) -> None:
    """`GET /v1/policy` shows champion, challenger and shadows; a grown share is another, and keeps who was in."""

    async def test(service: Started) -> None:
        status = await service.customers.policy_status()
        assert status["roles"]["behaviour"] == {
            "champion": "1",
            "challenger": {"version": "2", "share": 0.3, "salt": "behaviour"},
            "shadows": ["3"],
        }
        assert status["roles"]["classic"] == {"champion": "1", "challenger": None, "shadows": []}
        assert status["scorecards"] == {"behaviour": "1", "classic": "1", "fraud": "1"}
        versions = await service.customers.policy_versions()
        assert versions[0]["scorecards"] == {"behaviour": "1", "classic": "1", "fraud": "1"}
        assert versions[0]["variants"] == {"behaviour": ["2", "3"], "fraud": ["2"]}
        roles(rules, ROLES.replace("0.3", "0.95"))
        assert await service.active.reload()
        assert (await service.customers.policy_status())["id"] != status["id"]
        for customer in (IN, OUT):
            card = (await draw(service, customer, "r-9"))["trace"]["scorecards"]["behaviour"]
            assert card["role"] == "challenger" if share_of("behaviour", customer) < 0.95 else "champion"

    run(test)


def test_a_role_that_cannot_be_had_leaves_the_policy_in_force(run: Run, models: Path, rules: Path) -> None:
    """A version that is missing or refused is named, with its role and place; the old policy goes on deciding."""

    async def test(service: Started) -> None:
        before = service.active.current.id
        roles(rules, ROLES.replace("'3'", "'33'"))
        assert not await service.active.reload()
        assert "scorecard `behaviour` has no version 33 in models/" in service.active.problem
        assert "one of 1, 2, 3" in service.active.diagnostics[0].render()
        findings = await service.active.check({"policy.yaml": (rules / "policy.yaml").read_text()})
        assert [finding.message for finding in findings if finding.severity == "error"] == [
            "scorecard `behaviour` has no version 33 in models/"
        ]
        shutil.copytree(models / "behaviour" / "3", models / "behaviour" / "4")
        manifest = (models / "behaviour" / "3" / "manifest.yaml").read_text()
        (models / "behaviour" / "4" / "manifest.yaml").write_text(manifest.replace("version: '3'", "version: '4'"))
        (models / "behaviour" / "4" / "model.txt").write_bytes(b"torn")
        roles(rules, ROLES.replace("'3'", "'4'"))
        assert not await service.active.reload()
        assert "behaviour/4/model.txt: SHA-256 is" in service.active.problem
        assert service.active.problem.endswith("(shadow of behaviour, policy.yaml:4)")
        assert service.active.current.id == before
        assert (await draw(service, IN))["trace"]["scorecards"]["behaviour"]["version"] == "2"

    run(test)


def test_a_published_policy_brings_its_roles(run: Run, models: Path, rules: Path) -> None:
    """Files that were published give their roles wherever they are taken; restored ones give theirs again."""

    files = {str(path.relative_to(rules)): path.read_text() for path in rules.rglob("*.yaml")}

    async def test(service: Started) -> None:
        plain = {**files, "policy.yaml": 'label: "plain"\nlists: [block]\n'}
        await service.active.publish(plain, "me", force=True)
        assert not service.active.current.challengers
        assert (await draw(service, IN, "r-2"))["trace"]["shadows"] == {}
        await service.active.restore(1, "me", force=True)
        assert service.active.current.challengers["behaviour"].scorecard.version == "2"
        wrong = {**files, "policy.yaml": files["policy.yaml"].replace("version: '2'", "version: '1'")}
        with pytest.raises(PolicyRejected, match="version 1 is the champion of behaviour already"):
            await service.active.publish(wrong, "me", force=True)

    run(test)


def test_features_of_every_role_are_computed(run: Run, models: Path, rules: Path, model: Trained) -> None:
    """A shadow may want a feature that nobody else does; one that nobody declares is refused with its version."""
    for version, feature in (("4", "amt_7d"), ("5", "amt_8d")):
        renamed = Trained(model.text.replace(b"amt_30d", feature.encode()), model.rows, model.margins)
        add(models, "behaviour", version, renamed, amt_30d=feature)
    write_policy(rules, features=SCORED_FEATURES.replace("amount, windows: [30d]", "amount, windows: [7d, 30d]"))
    roles(rules, "scorecards:\n  behaviour: {shadows: ['4']}\n")

    async def test(service: Started) -> None:
        with_shadows(service)
        trace = (await draw(service, OUT))["trace"]
        assert trace["features"]["amt_7d"]["value"] == 0
        assert trace["shadows"]["behaviour"]["4"]["points"] is not None
        roles(rules, "scorecards:\n  behaviour: {shadows: ['4', '5']}\n")
        assert not await service.active.reload()
        assert "behaviour/5/manifest.yaml:1:1: error: scorecard `behaviour` wants the unknown feature `amt_8d`" in (
            service.active.problem
        )

    run(test)


def test_a_policy_of_before_there_were_roles_decides_as_ever(run: Run, models: Path, rules: Path) -> None:
    """Without the section every scorecard is its active version, and the policy's id is what it was."""

    async def test(service: Started) -> None:
        policy = service.active.current
        assert (policy.challengers, policy.shadows) == ({}, {})
        told = await draw(service, IN)
        assert told["trace"]["scorecards"]["behaviour"]["role"] == "champion"
        assert (told["trace"]["shadows"], told["trace"]["shadows_missing"]) == ({}, None)

    roles(rules, "")
    run(test)

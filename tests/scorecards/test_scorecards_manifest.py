"""What a manifest says of its model beside the model's own numbers: kind, grain, target and training distributions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from scorecard_maker import Trained, manifest_text

from decision_service.core.errors import PolicyRejected
from decision_service.core.policy import compile_policy
from decision_service.core.scorecards.distribution import cuts_of, shares_of
from decision_service.core.scorecards.manifest import Manifest, Target, read_manifest
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_text
from decision_service.scorecards.files import load_scorecards

ROOT = Path(__file__).parents[2]

DECILES = "[0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 5.0, 8.0]"


def read(text: str) -> tuple[Manifest | None, list[str]]:
    """The manifest of a text, and what is wrong with it, rendered."""
    findings = Findings()
    document = read_text(text.encode(), "manifest.yaml", findings)
    assert document is not None
    return read_manifest(document, findings), [error.render() for error in findings.errors]


@pytest.fixture(scope="module")
def text(small_model: Trained) -> str:
    """A manifest from before there was anything to say but the model."""
    return manifest_text(small_model)


def second(text: str) -> str:
    """The same manifest with everything a second version may say."""
    text = text.replace(
        "model: {file", "grain: loan\ntarget: {bad_dpd: 30, performance_d: 90}\nmodel: {kind: woe, file"
    )
    text = text.replace("deciles: []}", f"deciles: {DECILES}, shares: [0.6, 0.2, 0.05, 0.05, 0.05, 0.04, 0.01]}}", 1)
    return text.replace("score: {null_rate", "score: {rows: 1200, null_rate")


def test_an_older_manifest_is_of_a_customer_and_its_shares_are_tenths(text: str) -> None:
    """Nothing that is missing keeps a manifest from loading; equal deciles are one bin."""
    manifest, _ = read(text.replace("deciles: []}", f"deciles: {DECILES}}}", 1))
    assert manifest is not None
    assert (manifest.model_kind, manifest.grain, manifest.inputs_from) == ("lightgbm", "customer", "catalogue")
    assert (manifest.target, manifest.score_rows) == (None, 0)
    feature = manifest.features[0]
    assert cuts_of(feature.deciles) == (0.0, 1.0, 2.0, 3.0, 5.0, 8.0)
    assert feature.shares == pytest.approx((0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1))
    assert manifest.score_shares == (1.0,)
    assert sum(shares_of([1.0] * 9)) == pytest.approx(1.0)


def test_a_newer_manifest_says_what_it_predicts_of_whom_and_from_how_many_rows(text: str) -> None:
    """Kind, grain, target, true shares and the rows they rest on."""
    manifest, errors = read(second(text))
    assert errors == []
    assert manifest is not None
    assert (manifest.model_kind, manifest.grain, manifest.score_rows) == ("woe", "loan", 1200)
    assert manifest.target == Target(performance_d=90, bad_dpd=30)
    assert str(manifest.target) == "30 or more days past due within 90 days"
    assert manifest.features[0].shares == (0.6, 0.2, 0.05, 0.05, 0.05, 0.04, 0.01)
    labelled, _ = read(text.replace("training:", "inputs: table\ntarget: {label: fraud, performance_d: 30}\ntraining:"))
    assert labelled is not None
    assert labelled.inputs_from == "table"
    assert str(labelled.target) == "label fraud within 30 days"
    of_whom, _ = read(text.replace("training:", "target: {bad_dpd: 30, performance_d: 90, of: customer}\ntraining:"))
    assert of_whom is not None
    assert of_whom.target == Target(performance_d=90, bad_dpd=30, of="customer")


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("kind: tree", "kind: woe", "manifest.model.kind cannot be 'tree'"),
        ("grain: load", "grain: loan", "did you mean `loan`?"),
        ("{bad_dpd: 30, label: x", "{bad_dpd: 30", "manifest.target.label stands beside bad_dpd"),
        ("target: {performance_d", "target: {bad_dpd: 30, performance_d", "manifest.target lacks 'bad_dpd'"),
        ("0.04, 0.005, 0.005]", "0.04, 0.01]", "has 8 numbers"),
        ("0.04, 0.02]", "0.04, 0.01]", "adds up to 1.01"),
        ("shares: [1.6, -0.8, ", "shares: [0.6, 0.2, ", "leaves [0, 1]"),
        ("rows: -1", "rows: 1200", "score.rows is wrong"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, wrong: str, right: str, message: str) -> None:
    """Each mistake alone, at its place."""
    manifest, errors = read(second(text).replace(right, wrong, 1))
    assert manifest is None
    assert any(message in error and "manifest.yaml:" in error for error in errors)


def test_a_review_does_not_compile_with_a_scorecard_about_a_loan() -> None:
    """Only a drawdown has a loan; the message names what the rules use and both ways out."""
    rules = ROOT / "rules"
    documents = {path.relative_to(rules).as_posix(): read_text(path.read_bytes(), path.name, Findings())
                 for path in sorted(rules.rglob("*.yaml"))}  # fmt: skip
    card = load_scorecards(ROOT / "models")["behaviour"]
    loan = replace(card, manifest=replace(card.manifest, grain="loan"))
    with pytest.raises(PolicyRejected) as refused:
        compile_policy(documents, {"behaviour": loan}, zone_named("Asia/Shanghai"), 86_400_000, Findings())
    messages = [found.message for found in refused.value.diagnostics]
    assert "`behaviour.grade` is of a scorecard about a loan, and a `limit` review has none" in messages
    assert not any("`drawdown`" in message for message in messages)

"""In short, what the scorecard is for, and what it must not be used for."""

from __future__ import annotations

import re

from decision_service.core.scorecards.drift import PSI_MOVED
from decision_service.report import Facts, Section, Text, percent
from decision_service.train.card.subject import Subject

_PROTECTED = {
    "age", "birth", "caste", "children", "citizenship", "colour", "disability", "education", "ethnicity", "family",
    "gender", "health", "marital", "marriage", "married", "nationality", "origin", "postcode", "pregnant", "race",
    "region", "religion", "sex", "zip",
}  # fmt: skip
_OWN = ("facility.", "request.")  # the line's age is not the borrower's
_GRAINS = {"customer": "a customer and their credit line", "loan": "one drawdown, at the moment it is asked for"}


def in_short(subject: Subject) -> Section:
    """The figures one asks for first."""
    card, judged = subject.card, subject.judged
    quality = judged.quality
    facts = (
        ("scorecard", f"`{card.name}` `{card.version}`"),
        ("model", card.manifest.training.get("model", card.manifest.model_kind)),
        ("predicts", str(card.manifest.target or "not said")),
        ("of", _GRAINS[card.manifest.grain]),
        ("trained on", _sizes(subject.fitted.quality.rows, subject.fitted.quality.bads)),
        ("judged on", f"{_sizes(quality.rows, quality.bads)}, {judged.title}"),
        ("AUC", f"{quality.auc:.3f} (standard error {quality.auc_error:.3f})"),
        ("KS", percent(quality.ks)),
        ("mean PD", f"{percent(quality.pd_mean, 2)}, bad rate {percent(quality.bad_rate, 2)}"),
        ("calibration error", percent(quality.calibration_error, 2)),
    )
    return Section("In short", (Facts(facts), *([Text(_THIN)] if quality.thin else [])))


_THIN = (
    "There are few bads (or goods) among the judged rows: every figure of this card that rests on them is an "
    "indication, not a measurement."
)


def _sizes(rows: int, bads: int) -> str:
    return f"{rows:,} rows, {bads:,} of them bad"


def purpose(subject: Subject) -> Section:
    """What it is for and who may use it how."""
    card = subject.card
    target = str(card.manifest.target or "goes bad")
    scaling = card.manifest.scaling
    text = f"""
    The scorecard tells how likely it is that a borrower with an open revolving line comes to this: {target}. It speaks
    about {_GRAINS[card.manifest.grain]}, from behaviour recorded up to that instant, never from what came later.

    Rules of a policy use its points (`{card.name}.points`), its probability of default (`{card.name}.pd`) and its
    grade (`{card.name}.grade`): to let a drawdown through, to hold it for a person, to adjust a limit or a price, to
    warn. A rule decides, never the scorecard alone.

    Points rise as risk falls: {scaling.base_points:g} points are odds of {scaling.base_odds:g} good to 1 bad, and every
    {scaling.pdo:g} points double the odds; points are kept between {scaling.points_min} and {scaling.points_max}.
    """
    return Section("Purpose and intended use", (Text(text),))


def limits(subject: Subject) -> Section:
    """What it must not be used for, and what to watch."""
    card, design = subject.card, subject.card.manifest.training
    refused = [feature.name for feature in card.manifest.features if not feature.nulls_allowed]
    nulls = (
        f"- a null in {_names(refused)} is not scored: training never saw one;" if refused else
        "- any single feature may be null: training has seen every one unknown;"
    )  # fmt: skip
    generated = "generated" in design.get("data", "")
    text = f"""
    It must not be used:

    - for people outside the population above: applicants without a history on the book, other products, other markets;
    - for borrowers who are in arrears already, if they were left out above: they need collection, not prediction;
    - as the only ground of a refusal that a person has not been able to look at, where the law gives them that right;
    - to set prices by anything but risk, or to rank people for marketing;
    - beyond its time: when its points have moved (PSI above {PSI_MOVED:g} and beyond chance) or its KS has fallen, it
      is to be trained again.

    What is unknown is not good:

    {nulls}
    - a row of nothing but nulls has no score, and rules then decide without it;
    - infinite or missing numbers never become points.

    Fairness: nobody may be judged by sex, age, origin, religion, health, family or the place they live in, where the
    law forbids it. {_fairness(subject)} Whether a feature stands in for such an attribute has to be examined on the
    book it is used for, which a training run cannot do.

    Reasons: customers are told what weighed against them in the words of their reason code. Codes `RC9x` speak of the
    service, never of the customer, and no feature of a scorecard may carry one.
    """
    paragraphs = [Text(text)]
    if generated:
        paragraphs.append(Text(_GENERATED))
    return Section("Limits and ethics", tuple(paragraphs))


_GENERATED = (
    "The data is generated. The figures of this card say that the way from events to decisions is right; they say "
    "nothing about any real book, and this version must not decide about real people."
)


def _fairness(subject: Subject) -> str:
    named = [name for name in subject.card.names if _words(name) & _PROTECTED and not name.startswith(_OWN)]
    if named:
        return f"By their names {_names(named)} may be just that: a review must decide before this scorecard is used."
    return "No feature is named like one of these."


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

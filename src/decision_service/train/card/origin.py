"""How to make the same scorecard again."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from decision_service.report import Facts, Section, Text
from decision_service.train.card.subject import Subject

_LIBRARIES = ("decision-service", "lightgbm", "scikit-learn", "optbinning", "numpy", "polars", "pyarrow")


def origin(subject: Subject) -> Section:
    """The training file's digest, the files' digests and the versions of what computed them."""
    card = subject.card
    said = card.manifest.training
    text = f"""
    `decision-service train --config {card.name}/train.yaml` with the training file of this digest gives the same bytes,
    this card among them: seeds are in the file, training takes one thread, and nothing of the clock is written. Another
    version of a library below may round differently, and then makes another model, which its digest will tell.
    """
    facts = (
        ("training file, SHA-256", f"`{said.get('config_sha256', 'not said')}`"),
        ("feature definitions, SHA-256", f"`{said.get('definitions_sha256', 'not said')}`"),
        ("model file, SHA-256", f"`{card.manifest.model_sha256}`"),
        ("manifest, SHA-256", f"`{card.manifest.sha256}`"),
        ("Python", platform.python_version()),
        *((name, found) for name in _LIBRARIES if (found := _version(name))),
    )
    return Section("How to reproduce it", (Text(text), Facts(facts)))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""

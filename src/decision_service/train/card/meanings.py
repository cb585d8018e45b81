"""What features mean to people, from the catalogue that a training file names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from decision_service.core.features.catalogue import read_features
from decision_service.core.policy import ATTRIBUTES_FILE
from decision_service.core.rules.attributes import input_vocabulary, read_attributes
from decision_service.core.source import Findings
from decision_service.core.vocabulary import BASE_NUMBERS
from decision_service.policies.files import read_directory, read_document
from decision_service.train.trained import Trained

Meanings = Mapping[str, str]


def meanings_of(trained: Trained) -> Meanings:
    """A text for each feature that the catalogue explains; for columns of a table there is none."""
    if trained.scorecard.manifest.inputs_from == "table":
        return {}
    return read_meanings(trained.config.features_from)


def read_meanings(features_from: Path) -> Meanings:
    """The texts of a catalogue, attributes and base numbers. What cannot be read has no text: a card explains, and
    whether a catalogue is sound was said before."""
    findings = Findings()
    path = features_from.parent / ATTRIBUTES_FILE
    document = read_document(path, path.name, findings) if path.is_file() else None
    attributes = {} if document is None else read_attributes(document, findings)
    catalogue = read_features(list(read_directory(features_from, findings).values()), input_vocabulary(attributes),
                              findings)  # fmt: skip
    texts = {spec.name: spec.meaning for spec in BASE_NUMBERS}
    texts |= {name: spec.meaning_en or spec.definition for name, spec in catalogue.by_name.items()}
    return texts

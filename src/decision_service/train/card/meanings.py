"""What features mean to people, from the catalogue that a training file names."""

from __future__ import annotations

from collections.abc import Mapping

from decision_service.build.table import TableSpec, compiled
from decision_service.core.source import Findings
from decision_service.core.vocabulary import BASE_NUMBERS
from decision_service.train.trained import Trained

Meanings = Mapping[str, str]


def meanings_of(trained: Trained) -> Meanings:
    """A text for each feature that the catalogue explains; for columns of a table there is none."""
    spec = trained.config.spec
    return {} if spec is None else _meanings(spec)


def _meanings(spec: TableSpec) -> Meanings:
    catalogue, attributes = compiled(spec.documents, Findings())
    texts = {base.name: base.meaning for base in BASE_NUMBERS}
    texts |= {name: attribute.spec.meaning for name, attribute in attributes.items()}
    return texts | {name: feature.meaning_en or feature.definition for name, feature in catalogue.by_name.items()}

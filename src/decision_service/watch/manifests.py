"""The manifests of scorecards that decisions were made with, found by name and version in `models/`.

A version that is no longer there can still be watched as far as its decisions tell: what it was trained on, and so its
drift and its target, is then not known.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from decision_service.core.errors import ScorecardRejected
from decision_service.core.scorecards.manifest import Manifest, Target
from decision_service.scorecards.files import manifest_in
from decision_service.watch.outcomes import TARGET_DEFAULT
from decision_service.watch.tally import Bins


class CardName(NamedTuple):
    """A version of a scorecard."""

    scorecard: str
    version: str

    def __str__(self) -> str:
        return f"{self.scorecard}/{self.version}"


class Manifests:
    """What `models/` tells of versions, each read once. `target`, when given, takes the place of all of theirs."""

    def __init__(self, models: Path, target: Target | None = None) -> None:
        self._models = models
        self._target = target
        self._bins: dict[CardName, Bins | None] = {}
        self.problems: dict[CardName, str] = {}

    def bins(self, card: CardName) -> Bins | None:
        """The bins of a version, with its manifest; None, and a problem, if it cannot be read."""
        if card not in self._bins:
            self._bins[card] = self._read(card)
        return self._bins[card]

    def manifest(self, card: CardName) -> Manifest | None:
        """The manifest of a version."""
        bins = self.bins(card)
        return None if bins is None else bins.manifest

    def target(self, card: CardName) -> Target:
        """What a version's PD is the probability of; TARGET_DEFAULT where nobody says."""
        manifest = self.manifest(card)
        return self._target or (manifest and manifest.target) or TARGET_DEFAULT

    @property
    def shared_target(self) -> Target:
        """The target that takes the place of all of theirs, or TARGET_DEFAULT."""
        return self._target or TARGET_DEFAULT

    def by_loan(self, card: CardName) -> bool:
        """Whether a version speaks of each loan, not of the customer (or of a line, which is not told apart here)."""
        manifest = self.manifest(card)
        return manifest is not None and (self.target(card).of or manifest.grain) == "loan"

    def _read(self, card: CardName) -> Bins | None:
        directory = self._models / card.scorecard / card.version
        if not directory.is_dir():
            self.problems[card] = f"{directory} is not there: what it was trained on is not known"
            return None
        try:
            return Bins(manifest_in(directory))
        except ScorecardRejected as error:
            self.problems[card] = error.message
            return None

"""A series: the decisions whose counts belong together.

One version of one scorecard, told from another content under the same version by the first digits of its manifest's
SHA-256; in one role (what a challenger sees is another tenth of the customers than the champion's); in one scene (a
nightly review of the whole portfolio is another population than those who draw).

    behaviour/2026.11.2/1f0c9a3e5b7d/champion/drawdown
"""

from __future__ import annotations

from typing import Final, NamedTuple

from decision_service.core.scorecards.manifest import Manifest

ROLES: Final = ("champion", "challenger", "shadow")
_DIGEST_DIGITS: Final = 12
_PARTS: Final = 5


class Series(NamedTuple):
    """Whose counts these are. None of the parts can hold a slash."""

    scorecard: str
    version: str
    digest: str
    role: str
    scene: str

    @property
    def name(self) -> str:
        """The series as one text."""
        return "/".join(self)


def series_of(manifest: Manifest, role: str, scene: str) -> Series:
    """The series of a scorecard in a role and a scene."""
    return Series(manifest.name, manifest.version, digest_of(manifest), role, scene)


def digest_of(manifest: Manifest) -> str:
    """What tells two contents of one version apart."""
    return manifest.sha256[:_DIGEST_DIGITS]


def series_named(name: str) -> Series | None:
    """The series with this name, or None if it is no name of one."""
    parts = name.split("/")
    return Series(*parts) if len(parts) == _PARTS else None

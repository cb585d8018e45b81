"""Who said what of a decision: one recorded score may tell of two versions.

A challenger that had no score is told in the problem of the champion's score that stood in for it
(`core/scene.ChallengedSlots`). Counting and reading back take such a score apart alike: a refusal of the challenger,
and a score of the champion.
"""

from __future__ import annotations

from typing import NamedTuple

from decision_service.core.decision import Score

CHAMPION = "champion"
CHALLENGER = "challenger"
SHADOW = "shadow"
_TRIED = "challenger "
_OWN = "; champion: "


class Said(NamedTuple):
    """What one version said, in its role."""

    role: str
    version: str
    score: Score


def said_by(score: Score, role: str) -> tuple[Said, ...]:
    """The versions that a recorded score tells of."""
    if role != CHAMPION or not score.problem.startswith(_TRIED):
        return (Said(role, score.version, score),)
    tried, _, own = score.problem.partition(_OWN)
    version, _, why = tried.removeprefix(_TRIED).partition(": ")
    refused = Score(None, None, None, version, why)
    return Said(CHALLENGER, version, refused), Said(CHAMPION, score.version, score._replace(problem=own))

"""What the drill holds the archive and the backtest against: the answers as they stand in the archive, and every
archived decision once more under another policy, one `core.decide` after the other."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import orjson

from decision_service.archive.files import Archive
from decision_service.archive.histories import decided
from decision_service.archive.replaying import Replayer, is_static
from decision_service.core.policy import Policy
from decision_service.decision_log import answer_in
from decision_service.policies.loading import load_policy
from decision_service.settings import Settings


def answers_of(url: Path) -> dict[str, bytes]:
    """The answers in an archive by decision id; one that is there twice is none."""
    archive = Archive(url)
    found: dict[str, bytes] = {}
    for segment in archive.segments():
        table = archive.read(segment, ["decision_id", "answer"])
        for row in table.to_pylist():
            if row["decision_id"]:
                twice = row["decision_id"] in found
                found[row["decision_id"]] = b"" if twice else row["answer"]
    return found


def outcomes_after(url: Path, rules: Path, models: Path) -> dict[str, dict[str, int]]:
    """How often each outcome comes, by scene, if another policy of the same features decides; static answers are left
    out."""
    settings = Settings()
    policy, _ = load_policy(rules, models, settings.time_zone, settings.reservation_timeout_ms)
    replayer = Replayer(_Only(policy))
    archive = Archive(url)
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for place in sorted({segment.place for segment in archive.segments() if segment.place >= 0}):
        for one in decided(archive, place):
            if not is_static(one.row):
                answer = orjson.loads(answer_in(replayer.frame(one)))
                outcomes[answer["scene"]][answer["decision"]] += 1
    return {scene: dict(counts) for scene, counts in outcomes.items()}


class _Only:
    """One policy in the place of every other."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def get(self, _policy_id: str) -> Policy:
        return self._policy

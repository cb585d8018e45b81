"""Which rules fired, by name: a decision's verdicts read with the description of the policy that made them.

Descriptions are kept in the store under the policy's id. A policy's are asked for once; of one that the store does not
know, as of decisions that name none, the rules are not known (None), which is not the same as none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from decision_service.archive.rows import FIRED
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.policies.in_force import SAME_AS

POLICIES_MAX: Final = 1_000  # whose rules are kept in memory
PATTERNS_MAX: Final = 50_000  # of verdicts whose rules are kept: most decisions have one of a few hundred
_Scenes = Mapping[str, Sequence[str]]  # by scene, the ids of its rules in the order of verdicts


class Descriptions(Protocol):
    """Where descriptions are."""

    async def read_policy(self, policy_id: str, timeout_s: float) -> bytes | None:
        """The description kept under a policy id, or None."""
        ...


class RuleNames:
    """The rules of the policies seen so far."""

    def __init__(self, store: Descriptions, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._policies: dict[str, _Scenes | None] = {}
        self._patterns: dict[tuple[str, str, bytes], list[str]] = {}
        self.unread: set[str] = set()  # policies that `fired` was asked about and that are still to be loaded

    def fired(self, policy_id: str, scene: str, verdicts: bytes) -> list[str] | None:
        """Ids of the rules that fired or held. None if the policy is not known (yet: see `unread`)."""
        known = self._patterns.get((policy_id, scene, verdicts))
        if known is not None:
            return known
        if not verdicts:
            return []
        if policy_id not in self._policies:
            if policy_id:
                self.unread.add(policy_id)
            return None
        rules = (self._policies[policy_id] or {}).get(scene, ())
        if len(rules) != len(verdicts):
            return None
        if len(self._patterns) >= PATTERNS_MAX:
            self._patterns.clear()
        fired = [rules[i] for i, verdict in enumerate(verdicts) if verdict in FIRED]
        self._patterns[policy_id, scene, verdicts] = fired
        return fired

    async def load(self) -> bool:
        """Ask for the policies of `unread`; whether there were any. StoreUnavailable."""
        unread = sorted(self.unread)
        for policy_id in unread:
            if len(self._policies) >= POLICIES_MAX:
                self._policies.clear()
            self._policies[policy_id] = _scenes(await self._read(policy_id))
            self.unread.discard(policy_id)
        return bool(unread)

    async def _read(self, policy_id: str) -> Mapping[str, Any] | None:
        document = await self._store.read_policy(policy_id, self._timeout_s)
        if document is None:
            return None
        try:
            description: Mapping[str, Any] = orjson.loads(document)
        except ValueError:
            return None
        same_as = description.get(SAME_AS)
        return description if same_as is None or same_as == policy_id else await self._read(same_as)


def _scenes(description: Mapping[str, Any] | None) -> _Scenes | None:
    """The rules of every scene; a description from before there were scenes is of drawdowns."""
    if description is None:
        return None
    scenes: Mapping[str, Any] = description.get("scenes", {DRAWDOWN_SCENE: description})
    return {name: _ids(scene["rules"]) for name, scene in scenes.items()}


def _ids(rules: Iterable[Mapping[str, Any]]) -> Sequence[str]:
    return tuple(rule["id"] for rule in rules)

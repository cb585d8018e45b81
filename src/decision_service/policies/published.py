"""Published policies: the numbered bundles in the store that every worker of every host follows.

Numbers rise and are never given twice; the highest is the fleet's policy. Publishing is a compare-and-set on the
number, tried again when another worker was first: of two that publish at once both are kept, in some order.

What a worker reads on its disk is published unless somebody did so since the worker `noticed` its files, or the fleet
runs it already: then the worker is merely late, and publishing again would undo what came after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from decision_service.answer import instant
from decision_service.core.errors import NotFound, PolicyRejected, StoreUnavailable, VersionMoved
from decision_service.core.policy import Policy
from decision_service.core.source import Diagnostic, Place
from decision_service.policies.bundle import ROLLBACK, BundleHead, Content, decode_head, head_of, unpack
from decision_service.policies.signatures import NOBODY_ASKED, SignatureRule
from decision_service.store import Store

TIMEOUT_S: Final = 2.0
ATTEMPTS_MAX: Final = 32


class PublishedPolicies:
    """The published policies of a store."""

    def __init__(self, store: Store, now_ms: Callable[[], int], signatures: SignatureRule = NOBODY_ASKED) -> None:
        self._store = store
        self._signatures = signatures
        self._now_ms = now_ms
        self._highest = 0  # serial; a store that lost its own does not make this worker forget

    async def heads(self) -> dict[int, BundleHead]:
        """What is kept, newest first. StoreError."""
        return {number: decode_head(raw) for number, raw in (await self._store.published_heads(TIMEOUT_S)).items()}

    async def head(self, number: int) -> BundleHead:
        """The head of one. NotFound, StoreError."""
        raw = (await self._store.published_heads(TIMEOUT_S)).get(number)
        if raw is None:
            raise NotFound(f"no published policy {number} is kept")
        return decode_head(raw)

    async def content(self, number: int) -> Content:
        """The content of one, checked. NotFound, PolicyRejected, StoreError."""
        head = await self.head(number)
        bundle = await self._store.read_bundle(number, TIMEOUT_S)
        if bundle is None:
            raise NotFound(f"no published policy {number} is kept")
        return await asyncio.to_thread(unpack, bundle, head.digest, f"published policy {number}")

    async def publish(
        self, content: Content, policy: Policy, by: str, origin: str, noticed: int | None, *, forced: bool = False
    ) -> int:  # fmt: skip
        """Publish a content that compiled to `policy`; its number, an older one if it is the newest already.

        `noticed`: the newest number when the content was found on disk; 0 is returned if it was published since then
        and superseded. None: somebody asks for just this content now. PolicyRejected if signatures are asked for and
        the serial is below the highest there was; StoreError.
        """
        bundle = await asyncio.to_thread(content.pack)  # 8 ms: the loop has better things to do
        serial = policy.serial or 0 if self._signatures.asked else 0
        for _ in range(ATTEMPTS_MAX):
            heads = await self.heads()
            newest = next(iter(heads), 0)
            if newest and heads[newest].digest == content.digest:
                return newest
            if noticed is not None and any(n > noticed and h.digest == content.digest for n, h in heads.items()):
                return 0
            await self.learn_serial()
            self.check_serial(policy)  # whoever raises the highest after this also moves `newest`
            head = head_of(content, policy, self._now_ms(), by, origin, forced=forced)
            try:
                return await self._store.publish_policy(newest, head.encode(), bundle, TIMEOUT_S, serial)
            except VersionMoved:
                continue
        raise StoreUnavailable("too many policies are being published at once")

    async def roll_back(self, number: int, content: Content, policy: Policy, by: str, reason: str) -> int:
        """Publish an earlier content in the place of `number`, which is the newest; VersionMoved if it no longer is, so
        of all workers that want this one does it. PolicyRejected as `publish`, StoreError."""
        await self.learn_serial()
        self.check_serial(policy)
        head = head_of(content, policy, self._now_ms(), by, f"{ROLLBACK}{number}", reason=reason)
        serial = policy.serial or 0 if self._signatures.asked else 0
        return await self._store.publish_policy(number, head.encode(), content.pack(), TIMEOUT_S, serial)

    async def learn_serial(self) -> None:
        """Ask for the highest serial there was. StoreError."""
        if self._signatures.asked:
            self._highest = max(self._highest, await self._store.policy_serial(TIMEOUT_S))

    def check_serial(self, policy: Policy) -> None:
        """Refuse a policy that would lead the fleet back behind the highest serial known here. PolicyRejected."""
        self._signatures.check_serial(policy, self._highest)

    async def note_refusal(self, content: Content, error: PolicyRejected) -> None:
        """Let every worker know that the guard refused a content. StoreError."""
        note = f"refused by the guard of another worker: {error.diagnostics[0].message}"
        await self._store.save_policy(_refusal_id(content), note.encode(), TIMEOUT_S)

    async def refuse_noted(self, content: Content) -> None:
        """PolicyRejected if the guard of some worker refused this content, StoreError."""
        note = await self._store.read_policy(_refusal_id(content), TIMEOUT_S)
        if note is not None:
            place = Place("rules", 1, 1)
            raise PolicyRejected([Diagnostic(place, note.decode(), "other files; or `force`, if they are meant")])

    async def note_rollback(self, digest: str, reason: str) -> None:
        """Let every worker know that the fleet went back from a content. StoreError."""
        await self._store.save_policy(_rollback_id(digest), reason.encode(), TIMEOUT_S)

    async def rollback_reason(self, digest: str) -> str:
        """Why the fleet went back from a content once; empty if it never did. StoreError."""
        note = await self._store.read_policy(_rollback_id(digest), TIMEOUT_S)
        return "" if note is None else note.decode()

    async def refuse_rolled_back(self, content: Content) -> None:
        """PolicyRejected if the fleet went back from this content, StoreError."""
        if reason := await self.rollback_reason(content.digest):
            message = f"the fleet went back from this policy once: {reason}"
            expected = "another scorecard or other files; or `force`, if they are meant"
            raise PolicyRejected([Diagnostic(Place("rules", 1, 1), message, expected)])


def _rollback_id(digest: str) -> str:
    return f"rolled-back:{digest}"


def _refusal_id(content: Content) -> str:
    """Stands among the ids of policies; no policy has such an id."""
    return f"refused:{content.digest}"


def left_behind(content: Content, heads: dict[int, BundleHead]) -> bool:
    """Whether the fleet once ran these files, or with the same files these scorecards, and now runs others. `heads` are
    newest first."""
    newest = next(iter(heads.values()), None)
    if newest is None or newest.digest == content.digest:
        return False
    if newest.files == content.file_digests:
        return any(head.digest == content.digest for head in heads.values())
    return any(head.files == content.file_digests for head in heads.values())


def told_of(heads: dict[int, BundleHead]) -> list[dict[str, Any]]:
    """Published policies for people, newest first, each with the files that differ from the one before."""
    numbers = list(heads)
    files = [heads[number].files for number in numbers] + [{}]
    return [
        {
            "number": number, "policy_id": head.policy_id, "label": head.label, "at": instant(head.at_ms),
            "by": head.by, "origin": head.origin, "current": i == 0, "forced": head.forced,
            "reason": head.reason or None,
            "files_changed": files_changed(files[i + 1], files[i]),
            "scorecards": {card.name: card.version for card in reversed(head.scorecards)},  # the first of a name leads
            "variants": _variants(head),
        }
        for i, (number, head) in enumerate(heads.items())
    ]  # fmt: skip


def _variants(head: BundleHead) -> dict[str, list[str]]:
    """The versions besides the champions, by scorecard."""
    by_name: dict[str, list[str]] = {}
    for card in head.scorecards:
        by_name.setdefault(card.name, []).append(card.version)
    return {name: versions[1:] for name, versions in by_name.items() if len(versions) > 1}


def files_changed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of files (by digest) that were added, changed or removed."""
    both = sorted(before.keys() & after.keys())
    return {
        "added": sorted(after.keys() - before.keys()),
        "changed": [name for name in both if before[name] != after[name]],
        "removed": sorted(before.keys() - after.keys()),
    }

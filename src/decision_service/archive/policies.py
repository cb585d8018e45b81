"""Policies in the archive: every policy that ever decided, kept by content, and made again from what is kept.

    store   ds:{policies}:source:<name>   ──PolicyKeeper.keep──▶   <root>/<name>   ──load_policy──▶   Policy

Names and documents are those of `policies/sources.py`. A record is written after everything that it names, so a policy
whose record is there can be made again. What the archive has, the store need not keep: rule files and scorecards leave
a mark there for ever (they are few), records and lists one for KNOWN_MS.

`load_policy` goes the way that a published policy goes on any host: the bundle is checked by its digest, the scorecards
are laid out in a folder of their own and pass every check that those on disk pass (sums, golden rows, a trial in a
process of its own), all is compiled by the same code. The policy that comes out must have the id that was asked for. A
policy that differs in its lists alone is not compiled again.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import orjson

from decision_service.archive.descriptions import DescriptionKeeper
from decision_service.archive.files import Archive
from decision_service.core.errors import ArchiveDamaged, NotFound, PolicyRejected, ScorecardRejected, SettingInvalid
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy
from decision_service.policies.bundle import ScorecardUsed, unpack
from decision_service.policies.list_copies import STEPS_MAX, parts_of, rebuild
from decision_service.policies.source import PolicySource
from decision_service.policies.sources import (
    card_name,
    content_name,
    list_name,
    parts_named,
    record_name,
    unpacked,
    zone_digest,
)
from decision_service.scorecards.files import MANIFEST_FILE
from decision_service.store import Store

LOG = logging.getLogger("decision_service.archive")
STORE_TIMEOUT_S: Final = 10.0
KNOWN_MS: Final = 7 * DAY_MS  # how long the store knows that the archive has a record or a list
COMPILED_MAX: Final = 16  # policies that differ in more than lists
LOADED_MAX: Final = 64
_LISTS: Final = "lists/"
_RECORDS: Final = "policies/"
_K = TypeVar("_K")
_V = TypeVar("_V")


class _Missing(Exception):
    """A part that is neither in the store nor in the archive, or cannot be used."""


class PolicyKeeper:
    """Brings policies from a store into an archive."""

    def __init__(self, store: Store, archive: Archive) -> None:
        self._store = store
        self._archive = archive
        self._there: set[str] = set()  # names that the archive has
        self._told: set[str] = set()
        self._descriptions = DescriptionKeeper(store, archive)

    async def keep(self, policy_ids: Iterable[str]) -> frozenset[str]:
        """See to it that these policies are in the archive; those that cannot be, for a part of them is nowhere: they
        are worth asking for again, a worker that was cut off from the store may bring it. StoreError,
        ArchiveUnavailable."""
        missing = set()
        for policy_id in dict.fromkeys(policy_ids):
            if not policy_id:  # of what `reconcile` put back
                continue
            await self._descriptions.keep([policy_id])
            try:
                await self._keep(policy_id)
            except _Missing as error:
                missing.add(policy_id)
                if policy_id not in self._told:
                    self._told.add(policy_id)
                    LOG.warning("policy %s cannot be archived yet: %s", policy_id, error)
        return frozenset(missing)

    async def _keep(self, policy_id: str) -> None:
        name = record_name(policy_id)
        if name in self._there:
            return
        record = await self._store.read_source(name, STORE_TIMEOUT_S)
        if not record:
            if not await self._has(name):
                raise _Missing("its record is neither in the store nor in the archive")
            return
        try:
            parts = parts_named(orjson.loads(record))
        except ValueError as error:
            raise _Missing(f"its record is damaged: {error}") from None
        for part in parts:
            await self._bring(part, STEPS_MAX)
        await self._put(name, record)

    async def _bring(self, name: str, steps: int) -> None:
        """A part, and what it rests on before it."""
        if name in self._there:
            return
        document = await self._store.read_source(name, STORE_TIMEOUT_S)
        if not document:
            if not await self._has(name):
                raise _Missing(f"{name} is neither in the store nor in the archive")
            return
        try:
            base = _checked(name, document)
        except (ValueError, PolicyRejected) as error:
            raise _Missing(f"{name} is damaged: {error}") from None
        if base and not steps:
            raise _Missing(f"{name} is more than {STEPS_MAX} steps from a whole copy")
        if base:
            await self._bring(base, steps - 1)
        await self._put(name, document)

    async def _put(self, name: str, document: bytes) -> None:
        if not await self._has(name):
            await asyncio.to_thread(self._archive.write, name, document)
            self._there.add(name)
        known_ms = KNOWN_MS if name.startswith((_LISTS, _RECORDS)) else 0
        await self._store.shed_source(name, known_ms, STORE_TIMEOUT_S)

    async def _has(self, name: str) -> bool:
        if name in self._there or await asyncio.to_thread(self._archive.exists, name):
            self._there.add(name)
            return True
        return False


def _checked(name: str, document: bytes) -> str:
    """The name of what a part rests on, if on anything. ValueError, PolicyRejected if it is not what its name says."""
    folder, _, digest = name.partition("/")
    if folder == "contents":
        unpack(document, digest, name)
    elif folder == "cards":
        if sha256(unpacked(document)[MANIFEST_FILE]).hexdigest() != digest.removesuffix(".tar"):
            raise ValueError("its manifest is another one")
    elif "base" in (told := parts_of(digest, document)):
        return list_name(told["base"])
    return ""


class Kept(NamedTuple):
    """The record of a policy: what it was made of."""

    policy_id: str
    label: str
    content: str
    lists: Mapping[str, str]
    zone: str
    zone_sha256: str
    reservation_timeout_ms: int
    cards: tuple[ScorecardUsed, ...]
    version: str  # of the software that kept it first


class ArchivedPolicies:
    """The policies of an archive, made again when they are asked for. Policies share scratch buffers: one thread."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._loaded: OrderedDict[str, Policy] = OrderedDict()
        self._compiled: OrderedDict[tuple[str, str, int], Policy] = OrderedDict()
        self._lists: OrderedDict[str, frozenset[str]] = OrderedDict()

    def record(self, policy_id: str) -> Kept:
        """What a policy was made of. NotFound, ArchiveDamaged, ArchiveUnavailable."""
        name = record_name(policy_id)
        raw = self._document(name, f"policy {policy_id} is not in the archive")
        try:
            told = orjson.loads(raw)
            parts_named(told)
            cards = tuple(ScorecardUsed(*card) for card in told["cards"])
            kept = Kept(
                told["id"], told["label"], told["content"], told["lists"], told["zone"], told["zone_sha256"],
                told["reservation_timeout_ms"], cards, told["version"],
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveDamaged(f"{name} is no record of a policy: {error}") from None
        if kept.policy_id != policy_id:
            raise ArchiveDamaged(f"{name} is the record of policy {kept.policy_id}")
        return kept

    def get(self, policy_id: str) -> Policy:
        """A policy. NotFound if it, or a part of it, is not in the archive; ArchiveDamaged if what is there does not
        make it; ArchiveUnavailable."""
        policy = self._loaded.get(policy_id)
        if policy is None:
            kept = self.record(policy_id)
            policy = self._without_lists(kept).with_lists(self._lists_of(kept))
            if policy.id != policy_id:
                raise ArchiveDamaged(f"what is kept of policy {policy_id} makes policy {policy.id}")
            _remember(self._loaded, policy_id, policy, LOADED_MAX)
        return policy

    def zone_moved(self, policy_id: str) -> bool:
        """Whether the time zone of a policy has other offsets here than where it was first in force."""
        return zone_digest(self.get(policy_id).zone) != self.record(policy_id).zone_sha256

    def _without_lists(self, kept: Kept) -> Policy:
        """The compiled policy, whatever its lists."""
        key = (kept.content, kept.zone, kept.reservation_timeout_ms)
        policy = self._compiled.get(key)
        if policy is None:
            policy = self._compile(kept)
            _remember(self._compiled, key, policy, COMPILED_MAX)
        return policy

    def _compile(self, kept: Kept) -> Policy:
        name = content_name(kept.content)
        try:
            content = unpack(self._document(name, f"{name} is not in the archive"), kept.content, name)
            with tempfile.TemporaryDirectory(prefix="decision-service-policy-") as folder:
                models = Path(folder)
                for card in content.scorecards:
                    self._lay_out(models, card)
                source = PolicySource(models, models, kept.zone, kept.reservation_timeout_ms)
                return source.compile(content).policy
        except (PolicyRejected, ScorecardRejected, SettingInvalid) as error:
            raise ArchiveDamaged(f"policy {kept.policy_id} cannot be made again: {error.message}") from None

    def _lay_out(self, models: Path, card: ScorecardUsed) -> None:
        """Put a scorecard's files where loading looks for them."""
        name = card_name(card.sha256)
        try:
            files = unpacked(self._document(name, f"scorecard {card.name} {card.version} is not in the archive"))
        except ValueError as error:
            raise ArchiveDamaged(f"{name}: {error}") from None
        if not all(_is_folder_name(part) for part in card[:2]):
            raise ArchiveDamaged(f"{card.name!r} {card.version!r} names no scorecard")
        folder = models / card.name / card.version
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)

    def _lists_of(self, kept: Kept) -> dict[str, frozenset[str]]:
        return {name: self._list(digest) for name, digest in kept.lists.items()}

    def _list(self, digest: str) -> frozenset[str]:
        values = self._lists.get(digest)
        if values is None:
            try:
                values = rebuild(digest, self._list_document)
            except ValueError as error:
                raise ArchiveDamaged(str(error)) from None
            _remember(self._lists, digest, values, LOADED_MAX)
        return values

    def _list_document(self, digest: str) -> bytes:
        return self._document(list_name(digest), f"list {digest} is not in the archive")

    def _document(self, name: str, absent: str) -> bytes:
        try:
            return self._archive.read_bytes(name)
        except FileNotFoundError:
            raise NotFound(absent) from None


def load_policy(archive: Archive, policy_id: str) -> Policy:
    """A policy of the archive, made again by the ordinary loading code. Errors as `ArchivedPolicies.get`, which whoever
    wants several uses: it remembers."""
    return ArchivedPolicies(archive).get(policy_id)


def _remember(kept: OrderedDict[_K, _V], key: _K, value: _V, most: int) -> None:
    kept[key] = value
    if len(kept) > most:
        kept.popitem(last=False)


def _is_folder_name(part: str) -> bool:
    return part not in ("", ".", "..") and not any(char in part for char in "/\\\0")

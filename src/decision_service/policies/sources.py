"""Policy sources: everything a policy was made of, by content, put into the store before it decides anything.

A decision names its policy by id. Years later the policy must be had again, whole, from what it was made of: so a
worker that is about to switch to a policy sees to it that its parts are in the store, from where whoever keeps the
archive takes them (`archive/policies.py`), under the same names as there:

    policies/<policy_id>.json     the record: {"id", "label", "content": digest, "lists": {name: digest}, "zone",
                                  "zone_sha256", "reservation_timeout_ms", "cards": [[name, version, SHA-256 of the
                                  manifest]], "version": of this software}; written last: what it names is there
    contents/<digest>             the rule files, as a bundle (`bundle.py`)
    cards/<sha256>.tar            manifest and model of a scorecard, by the SHA-256 of the manifest, which names that of
                                  the model
    lists/<digest>                a list's values (`list_copies.py`)

A part is written once, by whichever worker first finds it missing. The bytes under a name are the same whoever writes
them, but for the lists, whose documents may differ and mean the same, and the record's `version`: that of the first.

The time zone is in the policy's id by name alone; what the name means is the tz database's, which is revised several
times a year. `zone_sha256` digests the offsets that the policy was compiled with, so that a replay elsewhere can tell.
"""

from __future__ import annotations

import asyncio
import io
import logging
import tarfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import orjson

from decision_service.core.errors import ScorecardRejected, StoreError
from decision_service.core.policy import Policy
from decision_service.core.zone import Zone
from decision_service.interpreter import beside_the_loop
from decision_service.policies.bundle import Content, ScorecardUsed
from decision_service.policies.list_copies import ListCopies
from decision_service.scorecards.files import MANIFEST_FILE, files_of_version
from decision_service.store import Store

LOG = logging.getLogger("decision_service.policy")
PIECE_TIMEOUT_S: Final = 2.0


def record_name(policy_id: str) -> str:
    """The record of a policy."""
    return f"policies/{policy_id}.json"


def content_name(digest: str) -> str:
    """The rule files of a policy."""
    return f"contents/{digest}"


def card_name(manifest_sha256: str) -> str:
    """A scorecard's files."""
    return f"cards/{manifest_sha256}.tar"


def list_name(digest: str) -> str:
    """What stood on a list."""
    return f"lists/{digest}"


class PolicySources:
    """Puts the sources of this worker's policies into the store. `models` is this host's directory of scorecards."""

    def __init__(self, store: Store, models: Path) -> None:
        self._store = store
        self._models = models
        self._lists: defaultdict[str, ListCopies] = defaultdict(ListCopies)
        self._kept: set[str] = set()  # rule files and scorecards that the store or the archive has
        self._told: set[str] = set()  # scorecards whose files are not here any more
        self._lock = asyncio.Lock()

    async def save(self, policy: Policy, content: Content) -> None:
        """See to it that everything `policy` was made of is kept. StoreError: call it again."""
        async with self._lock:
            try:
                await self._save(policy, content)
            except StoreError:
                self._start_lists_again()  # a copy that others would be told against may not be there
                raise

    def forget(self) -> None:
        """The store has forgotten what it kept."""
        self._kept.clear()
        self._start_lists_again()

    def _start_lists_again(self) -> None:
        for copies in self._lists.values():
            copies.start_again()

    async def _save(self, policy: Policy, content: Content) -> None:
        lists = await asyncio.to_thread(self._look, policy)
        record = record_name(policy.id)
        cards = {card_name(card.sha256): card for card in content.scorecards}
        by_list = {list_name(digest): self._lists[name] for name, digest in lists.items()}
        content_at = content_name(content.digest)
        asked = [name for name in (content_at, *cards) if name not in self._kept]
        missing = await self._store.missing_sources([*asked, *by_list, record], PIECE_TIMEOUT_S)
        if record not in missing and not missing:
            return
        if content_at in missing:
            await self._keep(content_at, await asyncio.to_thread(content.pack))
        for name, card in cards.items():
            if name in missing:
                await self._keep_card(name, card)
        for name, copies in by_list.items():
            if name in missing:
                await self._keep(name, await asyncio.to_thread(copies.document))
        await self._keep(record, record_of(policy, content, lists))
        self._kept |= set(asked) - self._told

    def _look(self, policy: Policy) -> dict[str, str]:
        with beside_the_loop():
            return {name: self._lists[name].look(values) for name, values in sorted(policy.lists.items())}

    async def _keep_card(self, name: str, card: ScorecardUsed) -> None:
        try:
            document = await asyncio.to_thread(card_archive, self._models, card)
        except ScorecardRejected as error:  # it decides all the same; another host may still have its files
            if name not in self._told:
                LOG.error("a policy in force cannot be kept whole: %s", error.message)
                self._told.add(name)
            return
        self._told.discard(name)
        await self._keep(name, document)

    async def _keep(self, name: str, document: bytes) -> None:
        await self._store.save_source(name, document, PIECE_TIMEOUT_S)


def record_of(policy: Policy, content: Content, lists: Mapping[str, str]) -> bytes:
    """The record of a policy. `lists` are the digests of its lists by name."""
    return orjson.dumps(
        {
            "id": policy.id, "label": policy.label, "content": content.digest, "lists": dict(lists),
            "zone": policy.zone.name, "zone_sha256": zone_digest(policy.zone),
            "reservation_timeout_ms": policy.reservation_timeout_ms,
            "cards": [list(card) for card in content.scorecards], "version": software_version(),
        }
    )  # fmt: skip


def zone_digest(zone: Zone) -> str:
    """What tells one edition of a time zone from another."""
    return sha256(zone.transitions_utc_ms.tobytes() + zone.offsets_ms.tobytes()).hexdigest()


def software_version() -> str:
    """The version of this package, empty if it is not installed."""
    try:
        return version("decision-service")
    except PackageNotFoundError:
        return ""


def card_archive(models: Path, card: ScorecardUsed) -> bytes:
    """Manifest and model of a scorecard on this host as a tar archive, the same bytes everywhere. ScorecardRejected if
    they are not here any more."""
    return packed(files_of_version(models, *card))


def packed(files: Mapping[str, bytes]) -> bytes:
    """Files as a tar archive that tells nothing but their names and content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            archive.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The files of a scorecard's archive by name. ValueError for anything but regular files in one folder."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
            for entry in opened:
                content = opened.extractfile(entry) if entry.isreg() else None
                if content is None or not _is_plain(entry.name):
                    raise ValueError(f"{entry.name!r} is no plain file")
                files[entry.name] = content.read()
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"is no archive of a scorecard: {error}") from None
    if MANIFEST_FILE not in files:
        raise ValueError(f"holds no {MANIFEST_FILE}")
    return files


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name and "\0" not in name


def parts_named(record: Mapping[str, object]) -> Sequence[str]:
    """The parts that a record names, without those that its lists rest on. ValueError for what is no record."""
    try:
        content, lists, cards = record["content"], record["lists"], record["cards"]
        assert isinstance(lists, dict)
        assert isinstance(cards, list)
        names = [content_name(str(content)), *(card_name(str(card[2])) for card in cards)]
        names += [list_name(str(digest)) for digest in lists.values()]
    except (KeyError, IndexError, TypeError, AssertionError) as error:
        raise ValueError(f"is no record of a policy: {error!r}") from None
    if not all(_is_plain(name.partition("/")[2]) for name in names):
        raise ValueError("names parts that have no such names")
    return names

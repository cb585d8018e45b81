"""Scorecards on disk, checked before they are trusted.

    models/<scorecard>/active               optional; names the version in use (else the highest one is)
    models/<scorecard>/<version>/manifest.yaml
    models/<scorecard>/<version>/model.txt  LightGBM's text format, or
    models/<scorecard>/<version>/model.yaml a WOE points scorecard

LightGBM trusts its input: a truncated file kills the process (SIGSEGV), one changed digit loads and lies,
permuted features load and lie. So the order of the checks matters, each keeping the next from harm:

  1. sizes, and that both are regular files inside the directory;
  2. the manifest, by every rule of `core/scorecards/manifest.py`;
  3. SHA-256 of the model's bytes, before LightGBM sees one of them;
  4. the format: what the manifest's `kind` says and nothing else (a pickle would run code);
  5. the feature names inside the model, equal to the manifest's, in order, and the digest of the numbers in its trees,
     if the manifest has one, which finds what was changed by whoever also made the checksum anew;
  6. a trial load in a subprocess, where a crash is a message; golden rows must score to 1e-9 as the manifest
     says, not all the same, and fast enough;
  7. only then the load in this process, of the very bytes that were tried: not by LightGBM, but by a reader that takes
     nothing on trust (`core/scorecards/trees.py`), and which must score the golden rows as LightGBM did on trial, and
     as fast.

Steps 4 and 5 are `formats`. A WOE points scorecard is tried by the same rows and bounds, but in this process: our
own reader, bounded in size and depth, made it, and no native code runs on its numbers, so there is no crash to survive
and half a second less to wait for.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np

from decision_service.core.errors import ScorecardRejected
from decision_service.core.limits import MODEL_BYTES_MAX, POLICY_FILE_BYTES_MAX, SCORECARDS_MAX
from decision_service.core.scorecards.manifest import (
    NAME_PATTERN,
    VERSION_PATTERN,
    GoldenRow,
    Manifest,
    read_manifest,
)
from decision_service.core.scorecards.model_numbers import numbers_digest
from decision_service.core.scorecards.roles import Cast, RolesSpec
from decision_service.core.scorecards.scorecard import Row, Scorecard
from decision_service.core.scorecards.tree_scorer import TreeScorer
from decision_service.core.scorecards.trees import UnsupportedTrees
from decision_service.core.scorecards.woe import WoeModel, WoeScorer
from decision_service.core.source import Findings
from decision_service.policies.files import read_text
from decision_service.scorecards.formats import check_lightgbm, check_woe
from decision_service.scorecards.trial import call_us, tried
from decision_service.scorecards.trial_process import inputs_of, trial

MANIFEST_FILE: Final = "manifest.yaml"
ACTIVE_FILE: Final = "active"
TOLERANCE: Final = 1e-9  # of margins and PDs of golden rows
CONTRIBUTIONS_US_MAX: Final = 5_000.0  # CPU time; 300 trees x 31 leaves take 100 to 300 us, an adverse answer waits
SCORE_US_MAX: Final = 150.0  # CPU time of one score; 300 trees x 31 leaves take 10 to 40 us


def load_scorecards(models_dir: Path) -> dict[str, Scorecard]:
    """The active version of every scorecard below `models_dir`. Raises ScorecardRejected for the first bad
    one.
    """
    return dict(load_cast(models_dir, {}).champions)


def load_cast(models_dir: Path, roles: Mapping[str, RolesSpec]) -> Cast:
    """Every scorecard below `models_dir` in the versions that `roles` name; the champion is the active version where
    none is named. Raises ScorecardRejected for the first bad one. A version that is not there is left out, for whoever
    compiles the policy to tell beside its other mistakes.
    """
    directories = scorecard_directories(models_dir)
    if len(directories) > SCORECARDS_MAX:
        raise ScorecardRejected(str(models_dir), f"{len(directories)} scorecards, at most {SCORECARDS_MAX}")
    champions: dict[str, Scorecard] = {}
    variants: list[Scorecard] = []
    for path in directories:
        spec = roles.get(path.name)
        champions[path.name] = _load_or_share(_champion(path, spec))
        variants += [] if spec is None else _variants(path, spec)
    return Cast(champions, variants, known_versions(models_dir))


def _champion(path: Path, spec: RolesSpec | None) -> Path:
    named = None if spec is None or spec.champion is None else path / spec.champion.text
    return named if named is not None and named.is_dir() else active_version(path)


def _variants(path: Path, spec: RolesSpec) -> Iterator[Scorecard]:
    for role, version in spec.variants:
        if not (path / version.text).is_dir():
            continue
        try:
            yield _load_or_share(path / version.text)
        except ScorecardRejected as error:
            where = f"{version.place.file}:{version.place.line}"
            raise ScorecardRejected(error.path, f"{error.reason} ({role} of {spec.name}, {where})") from error


def known_versions(models_dir: Path) -> dict[str, tuple[str, ...]]:
    """The versions there are of each scorecard, highest last."""
    directories = scorecard_directories(models_dir)
    return {path.name: tuple(version.name for version in versions(path)) for path in directories}


def load_versions(models_dir: Path, wanted: Iterable[tuple[str, str, str]]) -> list[Scorecard]:
    """These scorecards, whichever version is the active one: name, version and SHA-256 of the manifest each. Raises
    ScorecardRejected for the first that is not here, or is here with other content."""
    return [_load_wanted(models_dir, name, version, digest) for name, version, digest in wanted]


def _load_wanted(models_dir: Path, name: str, version: str, digest: str) -> Scorecard:
    shown = f"{name}/{version}"
    if not (re.fullmatch(NAME_PATTERN, name) and re.fullmatch(VERSION_PATTERN, version)):
        raise ScorecardRejected(shown, "names no scorecard")
    if not (models_dir / name / version).is_dir():
        raise ScorecardRejected(shown, "this version of the scorecard is not on this host")
    card = _load_or_share(models_dir / name / version)
    if card.manifest.sha256 != digest:
        raise ScorecardRejected(shown, "is another model here than the one this policy was compiled with")
    return card


def files_of_version(models_dir: Path, name: str, version: str, digest: str) -> dict[str, bytes]:
    """Manifest and model of a version by file name, if they are still those of this manifest. ScorecardRejected."""
    shown = f"{name}/{version}"
    if not (re.fullmatch(NAME_PATTERN, name) and re.fullmatch(VERSION_PATTERN, version)):
        raise ScorecardRejected(shown, "names no scorecard")
    directory = models_dir / name / version
    manifest = _manifest(directory)
    text = _read_regular(directory / MANIFEST_FILE, POLICY_FILE_BYTES_MAX)
    model = _read_regular(directory / manifest.model_file, MODEL_BYTES_MAX)
    same = manifest.sha256 == digest == sha256(text).hexdigest()
    if not same or sha256(model).hexdigest() != manifest.model_sha256:
        raise ScorecardRejected(shown, "is another model here by now than the one the policy was compiled with")
    return {MANIFEST_FILE: text, manifest.model_file: model}


def scorecard_directories(models_dir: Path) -> list[Path]:
    """The directories below `models_dir` that hold versions of a scorecard, by name; none if there is no such one."""
    if not models_dir.is_dir():
        return []
    return [path for path in sorted(models_dir.iterdir()) if _is_scorecard(path)]


def load_scorecard(directory: Path, *, score_us_max: float = SCORE_US_MAX) -> Scorecard:
    """The scorecard in `models/<scorecard>/<version>/`. Raises ScorecardRejected naming the file and the reason."""
    return _load(_read(directory), score_us_max)


def _load(files: _Files, score_us_max: float) -> Scorecard:
    """Steps 6 and 7."""
    manifest, path = files.manifest, files.path
    if files.woe is not None:
        points = WoeScorer(files.woe)
        _judge(path, manifest, tried(points, [inputs_of(row) for row in manifest.golden]), score_us_max)
        return Scorecard(manifest, points)
    _check_numbers(path, files.model_text, manifest)
    answer = trial(path, files.model_text, len(manifest.names), manifest.golden)
    _judge(path, manifest, answer, score_us_max)
    scorer = _scorer(files)
    _check_speed(path, scorer, [np.array(row.inputs) for row in manifest.golden], score_us_max)
    return Scorecard(manifest, scorer)


def _check_speed(path: Path, scorer: TreeScorer, rows: list[Row], score_us_max: float) -> None:
    """What serves takes other paths than LightGBM on trial: those that no golden row goes down cost it time as well."""
    if (us := call_us(scorer.margin, rows)) > score_us_max:
        raise ScorecardRejected(str(path), f"takes {us:.0f} us a score here; at most {score_us_max:g} us are allowed")
    if (us := call_us(scorer.contributions, rows, calls=3)) > CONTRIBUTIONS_US_MAX:
        allowed = f"at most {CONTRIBUTIONS_US_MAX:,.0f} us are allowed"
        raise ScorecardRejected(str(path), f"takes {us:,.0f} us for the reasons of a score; {allowed}")


def _scorer(files: _Files) -> TreeScorer:
    """What will serve, held to the golden rows as LightGBM was on trial: the two know nothing of each other."""
    try:
        scorer = TreeScorer(files.model_text, len(files.manifest.names))
    except UnsupportedTrees as error:
        raise ScorecardRejected(str(files.path), f"is not supported: {error}") from error
    for i, golden in enumerate(files.manifest.golden):
        _check_golden(files.path, i, golden, scorer.margin(np.array(golden.inputs)), files.manifest)
    return scorer


def _load_or_share(directory: Path) -> Scorecard:
    """The scorecard in a directory; the one already in use if its bytes are the same, which need no second trial.

    Most reloads change a rule and no model; a trial costs half a second.
    """
    files = _read(directory)
    identity = (files.manifest.sha256, files.manifest.model_sha256)
    card = _IN_USE.get(identity)
    if card is None:
        card = _IN_USE[identity] = _load(files, SCORE_US_MAX)
    return card


Identity = tuple[str, str]  # SHA-256 of the manifest and of the model
_IN_USE: Final[WeakValueDictionary[Identity, Scorecard]] = WeakValueDictionary()


def identity_of(card: Scorecard) -> Identity:
    """What tells a scorecard from every other."""
    return card.manifest.sha256, card.manifest.model_sha256


def cards_in_use() -> tuple[Scorecard, ...]:
    """Every scorecard that this process holds."""
    return tuple(_IN_USE.values())


def card_in_use(identity: Identity) -> Scorecard:
    """The scorecard of this process. LookupError."""
    return _IN_USE[identity]


def use_card(card: Scorecard) -> Scorecard:
    """This process holds a scorecard that another one checked and loaded; the one it held already, if it did."""
    return _IN_USE.setdefault(identity_of(card), card)


@dataclass(frozen=True, slots=True)
class _Files:
    """A manifest and the model's bytes, after the checks that come before LightGBM sees one; `path` is the model's, and
    `woe` what it holds if it is a WOE points scorecard."""

    manifest: Manifest
    path: Path
    model_text: bytes
    woe: WoeModel | None


def _read(directory: Path) -> _Files:
    """Steps 1 to 5."""
    manifest = _manifest(directory)
    path = directory / manifest.model_file
    model_text = _read_regular(path, MODEL_BYTES_MAX)
    _check_sum(path, model_text, manifest)
    if manifest.model_kind == "woe":
        return _Files(manifest, path, model_text, check_woe(path, model_text, manifest))
    check_lightgbm(path, model_text, manifest.names)
    return _Files(manifest, path, model_text, None)


def active_version(directory: Path) -> Path:
    """The version directory in use: the one `active` names, else the highest. Raises ScorecardRejected."""
    active = directory / ACTIVE_FILE
    if active.exists():
        version = _read_regular(active, 1_024).decode(errors="replace").strip()
        if not re.fullmatch(VERSION_PATTERN, version):
            raise ScorecardRejected(str(active), f"names no version: {version!r}")
        return directory / version
    return max(versions(directory), key=_version_order)


def manifest_in(directory: Path) -> Manifest:
    """The checked manifest of a version directory, without its model. ScorecardRejected."""
    return _manifest(directory)


def versions(directory: Path) -> list[Path]:
    """The version directories of a scorecard, highest last."""
    found = (path for path in directory.iterdir() if path.is_dir() and re.fullmatch(VERSION_PATTERN, path.name))
    return sorted(found, key=_version_order)


def _is_scorecard(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "_")) and bool(versions(path))


def _version_order(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Numbers by value, so that 2026.10 comes after 2026.9."""
    parts = re.split(r"(\d+)", path.name)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part)


def _read_regular(path: Path, bytes_max: int) -> bytes:
    """The content of a regular file, opened without waiting on a pipe, read once and no further than
    allowed.
    """
    _refuse_link_out(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise ScorecardRejected(str(path), f"cannot be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ScorecardRejected(str(path), "is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if not 0 < status.st_size <= bytes_max:
            raise ScorecardRejected(str(path), f"holds {status.st_size:,} bytes; 1 to {bytes_max:,} are allowed")
        return file.read(bytes_max + 1)


def _refuse_link_out(path: Path) -> None:
    """A link may lead to a file of these models (so are Kubernetes' volumes made), and nowhere else."""
    if path.is_symlink():
        models, found = path.parent.resolve().parents[1], path.resolve()
        if not found.is_relative_to(models):
            raise ScorecardRejected(str(path), "is a link that leads out of the models directory")


def _manifest(directory: Path) -> Manifest:
    path = directory / MANIFEST_FILE
    findings = Findings()
    document = read_text(_read_regular(path, POLICY_FILE_BYTES_MAX), str(path), findings)
    manifest = None if document is None else read_manifest(document, findings)
    if manifest is None:
        raise ScorecardRejected(str(path), "\n" + "\n".join(d.render() for d in findings.errors))
    if (directory.parent.name, directory.name) != (manifest.name, manifest.version):
        raise ScorecardRejected(
            str(path), f"is of {manifest.name} {manifest.version}, but stands in another's directory"
        )
    if not re.fullmatch(NAME_PATTERN, manifest.name):
        raise ScorecardRejected(str(path), f"{manifest.name!r} cannot name a scorecard")
    return manifest


def _check_sum(path: Path, model_text: bytes, manifest: Manifest) -> None:
    """Step 3."""
    found = sha256(model_text).hexdigest()
    if found != manifest.model_sha256:
        raise ScorecardRejected(
            str(path), f"SHA-256 is {found}, the manifest says {manifest.model_sha256}: changed or torn"
        )


def _check_numbers(path: Path, model_text: bytes, manifest: Manifest) -> None:
    """Step 5, of the trees."""
    try:
        same = manifest.model_numbers in ("", numbers_digest(model_text))
    except ValueError as error:
        raise ScorecardRejected(str(path), f"holds what is no number in a tree: {error}") from None
    if not same:
        raise ScorecardRejected(
            str(path), "its trees hold other numbers than when it was trained (model.numbers of the manifest)"
        )


def _judge(path: Path, manifest: Manifest, answer: Mapping[str, Any], score_us_max: float) -> None:
    """What a trial gave, against what it must give."""
    margins = answer["margins"]
    for i, (golden, margin) in enumerate(zip(manifest.golden, margins, strict=True)):
        _check_golden(path, i, golden, math.nan if margin is None else margin, manifest)
    if max(margins) - min(margins) <= TOLERANCE:
        raise ScorecardRejected(str(path), "gives every golden row the same score: it tells nobody apart")
    if answer["call_us"] > score_us_max:
        raise ScorecardRejected(
            str(path), f"takes {answer['call_us']:.0f} us a score; at most {score_us_max:g} us are allowed"
        )


def _check_golden(path: Path, i: int, golden: GoldenRow, margin: float, manifest: Manifest) -> None:
    if not abs(margin - golden.margin) <= TOLERANCE:
        raise ScorecardRejected(str(path), f"golden row {i} scores {margin!r}, the manifest says {golden.margin!r}")
    pd = manifest.calibration.pd(margin)
    points = manifest.scaling.points(pd)
    if not abs(pd - golden.pd) <= TOLERANCE or points != golden.points:
        said = f"pd {golden.pd!r} and {golden.points} points"
        raise ScorecardRejected(
            str(path), f"golden row {i} is calibrated to {pd!r} and {points}; the manifest says {said}"
        )

"""A digest of what some features mean: equal meaning, equal digest, wherever and however it is written down.

A scorecard stores it, so that a feature redefined under its old name can be told from the one it was trained on. It
covers the formulas, windows and null rules of the features and of everything they are made of, and the conditions of
all segments they look at; not comments, texts, order or places in a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any

from decision_service.core.features.catalogue import Catalogue, FeatureSpec
from decision_service.core.source import Place
from decision_service.core.vocabulary import NameSpec


def definitions_digest(catalogue: Catalogue, names: Iterable[str]) -> str:
    """Hex SHA-256 of the definitions of `names`, which include the intermediates their plan computes."""
    specs = [catalogue.by_name[name] for name in sorted(set(names)) if name in catalogue.by_name]
    segments = sorted({word for spec in specs for word in _words(spec) if word in catalogue.segments})
    lines = [_feature(spec) for spec in specs]
    lines += [f"segment {name}: {_plain(catalogue.segments[name].tree)}" for name in segments]
    return sha256("\n".join(lines).encode()).hexdigest()


def _words(spec: FeatureSpec) -> list[str]:
    """Every word of a definition; those that name segments are the ones it looks at."""
    return re.findall(r"\w+", spec.definition)


def _feature(spec: FeatureSpec) -> str:
    variant = spec.variant
    window = (variant.window_ms, variant.months, variant.bucket, variant.buckets, variant.bucket_ms)
    formula = "" if spec.tree is None else _plain(spec.tree)
    return f"{spec.name}: {spec.definition} | {window} | {spec.null.text} | {formula}"


def _plain(value: Any) -> str:
    """A tree as text without its places; a name is its name, a folded constant its value."""
    if isinstance(value, NameSpec):
        return value.name
    if isinstance(value, tuple):
        return "(" + ", ".join(_plain(item) for item in value) + ")"
    if not is_dataclass(value):
        return str(value)
    parts = (getattr(value, f.name) for f in fields(value))
    return f"{type(value).__name__}(" + ", ".join(_plain(part) for part in parts if not isinstance(part, Place)) + ")"

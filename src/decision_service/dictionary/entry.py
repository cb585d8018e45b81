"""Everything about one feature or attribute as one JSON object: what `features show --json`, the pages and the search
of the page are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from decision_service.core.features.aggregations import AGGREGATIONS
from decision_service.core.features.catalogue import SURGE, Catalogue, FeatureSpec
from decision_service.core.features.durations import duration_ms
from decision_service.core.features.rows import Row, Variant, read_rows
from decision_service.core.policy import ATTRIBUTES_FILE, FEATURES_FOLDER, Policy
from decision_service.core.rules.attributes import AttributeSpec
from decision_service.core.source import Findings, MappingNode, Scalar
from decision_service.dictionary.families import family_of
from decision_service.dictionary.usage import BLOCKS, Usage, Use, needs_of, segments_of, usage_of
from decision_service.dictionary.wording import duration_text, null_words, window_text


class Dictionary:
    """A policy's features and attributes, told one at a time."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.catalogue: Catalogue = policy.catalogue
        self.usage: Usage = usage_of(policy)
        self._computed = frozenset(policy.feature_names)
        self._segment_texts = dict(segment_texts(policy))
        self._rows: dict[int, list[str]] = {}
        for spec in self.catalogue.specs:
            if not spec.surge_of:
                self._rows.setdefault(id(spec.row), []).append(spec.name)

    @property
    def names(self) -> tuple[str, ...]:
        """Every feature, in file order."""
        return tuple(self.catalogue.by_name)

    def is_computed(self, name: str) -> bool:
        """Whether every decision of some scene computes it: a rule, matrix, scorecard or `record` needs it."""
        return name in self._computed

    def uses(self, name: str) -> tuple[Use, ...]:
        """Who uses a name."""
        return self.usage.get(name, ())

    def row_names(self, spec: FeatureSpec) -> tuple[str, ...]:
        """All features of the same row."""
        return tuple(self._rows.get(id(spec.row), [spec.name]))

    def segment_text(self, name: str) -> str:
        """The condition of a segment as written, its own parameters filled in."""
        return self._segment_texts.get(name, "")

    def constants_in(self, text: str) -> dict[str, Any]:
        """The named constants a text mentions, with their values."""
        words = set(_words(text))
        return {name: spec.constant for name, spec in self.catalogue.constants.items() if name in words}

    # --- one feature ---

    def brief(self, name: str) -> dict[str, Any]:
        """The line of `features list` about one feature."""
        spec, uses = self.catalogue.by_name[name], self.uses(name)
        return {
            "name": name, "family": family_of(name).letter, "unit": spec.unit, "null": spec.null.text,
            "grain": grain_of(spec), "internal": spec.internal, "meaning": _meaning(spec),
            "computed": self.is_computed(name),
            "rules": sum(use.sort in ("rule", *BLOCKS) for use in uses),
            "scorecards": sum(use.sort == "scorecard" for use in uses),
            "features": sum(use.sort == "feature" and use.name != name + SURGE for use in uses),
        }  # fmt: skip

    def feature(self, name: str) -> dict[str, Any]:
        """Everything about one feature."""
        spec = self.catalogue.by_name[name]
        segments = {segment: self.segment_text(segment) for segment in segments_of(spec, self.catalogue)}
        definition = " ".join(spec.definition.split())
        en, zh = null_words(spec.null, spec.variant.months, has_companion=name + SURGE in self.catalogue.by_name)
        return {
            **self.brief(name),
            "family_title": {"en": family_of(name).en, "zh": family_of(name).zh},
            "sort": sort_of(spec),
            "definition": definition,
            "formula": formula_of(spec),
            "aggregation": _aggregation_words(spec),
            "window": window_of(spec),
            "same_row": list(self.row_names(spec)),
            "segments": segments,
            "constants": self.constants_in(" ".join([definition, *segments.values()])),
            "null_rule": {"en": en, "zh": zh},
            "needs": list(dict.fromkeys(needs_of(spec, self.catalogue))),
            "used_by": [use.as_json() for use in self.uses(name)],
            "reasons": sorted({use.reason for use in self.uses(name) if use.reason}),
            "file": spec.place.file, "line": spec.place.line,
        }  # fmt: skip

    # --- attributes ---

    def attribute(self, name: str) -> dict[str, Any]:
        """Everything about one declared attribute."""
        attribute = self.policy.attributes[name]
        place = _place_of(self.policy, name)
        return {
            "name": name, "sort": "attribute", "type": attribute.spec.kind.value, "unit": attribute.spec.unit,
            "source": attribute.source, "ttl": duration_text(attribute.ttl_ms),
            "meaning": {"en": attribute.spec.meaning, "zh": attribute.meaning_zh},
            "null_rule": _attribute_null(attribute),
            "used_by": [use.as_json() for use in self.uses(name)],
            "reasons": sorted({use.reason for use in self.uses(name) if use.reason}),
            "file": place[0], "line": place[1],
        }  # fmt: skip


def grain_of(spec: FeatureSpec) -> str:
    """Whose events a feature looks at."""
    return spec.row.plain("grain", spec.variant, "customer")


def delay_of(spec: FeatureSpec) -> int:
    """How far back, in ms, the newest edge of a feature's window lies."""
    return duration_ms(spec.row.plain("delay", spec.variant)) or 0


def sort_of(spec: FeatureSpec) -> str:
    """How a feature comes about: from events, from buckets of another feature, from the line itself, or by formula."""
    if spec.surge_of:
        return "surge"
    if spec.row.section == "derived":
        return "derived"
    agg = spec.row.plain("agg", spec.variant)
    return "events" if agg in AGGREGATIONS else "series" if spec.row.has("over") else "line"


def formula_of(spec: FeatureSpec) -> str:
    """The formula as one line, names of constants and segments left as they are."""
    if spec.surge_of or spec.row.section == "derived":
        return " ".join(spec.definition.split())
    return _over_events(spec.row, spec.variant)


def row_formula_of(spec: FeatureSpec) -> str:
    """The formula of all features of a row, with `{w}` and other parameters where they differ in them."""
    node = spec.row.nodes.get("expr")
    if spec.row.section == "derived" and isinstance(node, Scalar):
        return " ".join(node.text.split())
    return _over_events(spec.row, Variant("", "{w}"))


def _over_events(row: Row, variant: Variant) -> str:
    rest = [key for key in row.nodes if key not in _SAID_ELSEWHERE]
    extra = "".join(f", {key}: {row.plain(key, variant)}" for key in rest if row.plain(key, variant))
    entry = AGGREGATIONS.get(row.plain("agg", variant))
    valued = row.has("value") or (entry is not None and entry.valued)
    what = f"{row.plain('value', variant, 'amount')} of " if valued else ""
    of = row.plain("of", variant) or row.plain("over", variant)
    inside = f"{what}{of}{extra}".lstrip(", ")
    return f"{row.plain('agg', variant)}({inside})" + (" + this request" if row.flag("incl") else "")


_SAID_ELSEWHERE: Final = frozenset(
    ("agg", "of", "over", "value", "incl", "windows", "window", "months", "month", "buckets", "each", "null", "unit",
     "en", "zh", "internal", "grain", "delay")
)  # fmt: skip


def window_of(spec: FeatureSpec) -> dict[str, Any] | None:
    """The window of a feature: its label, its length, and the interval in words."""
    if not spec.variant.window_ms or spec.surge_of:
        return None
    return {
        "label": spec.variant.label, "length": duration_text(spec.variant.window_ms),
        "delay": duration_text(delay_of(spec)) if delay_of(spec) else None,
        "interval": window_text(spec.variant, delay_of(spec)),
    }  # fmt: skip


def _meaning(spec: FeatureSpec) -> dict[str, str]:
    if spec.meaning_en or spec.meaning_zh:
        return {"en": spec.meaning_en, "zh": spec.meaning_zh}
    return {"en": f"intermediate: {formula_of(spec)}", "zh": f"中间量：{formula_of(spec)}"}


def _aggregation_words(spec: FeatureSpec) -> str:
    entry = AGGREGATIONS.get(spec.row.plain("agg", spec.variant))
    return "" if entry is None else entry.meaning


def _attribute_null(attribute: AttributeSpec) -> dict[str, str]:
    ttl = duration_text(attribute.ttl_ms)
    return {
        "en": f"null without a value from `{attribute.source}` at most {ttl} old",
        "zh": f"来源 `{attribute.source}` 无值或超过 {ttl} 时为空",
    }


def _place_of(policy: Policy, name: str) -> tuple[str, int]:
    document = policy.documents.get(ATTRIBUTES_FILE)
    block = None if document is None else document.root.get("attributes")
    if isinstance(block, MappingNode):
        for key, _ in block.items:
            if key.text == name:
                return key.place.file, key.place.line
    return ATTRIBUTES_FILE, 1


def segment_texts(policy: Policy) -> Iterator[tuple[str, str]]:
    """Every segment's condition as typed, the parameters of `each` filled in."""
    for name, document in sorted(policy.documents.items()):
        block = document.root.get("segments")
        if name.startswith(FEATURES_FOLDER) and isinstance(block, MappingNode):
            for row in read_rows(block.items, "segments", Findings()):
                for variant in row.variants:
                    yield variant.name, " ".join(row.plain("expr", variant).split())


def _words(text: str) -> Sequence[str]:
    return "".join(c if c.isalnum() or c in "_." else " " for c in text).split()


def folder_of(file: str) -> str:
    """A feature file's name without its folder."""
    return file.removeprefix(FEATURES_FOLDER)

"""The JSON Schemas accept every shipped file, refuse broken ones, and know every key the compiler knows."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from decision_service.core.features.aggregations import SEGMENT_KEYS
from decision_service.core.features.catalogue import section_names
from decision_service.core.features.rows import row_keys
from decision_service.core.rules.fields import is_number
from decision_service.core.source import Findings, MappingNode, Node, Scalar
from decision_service.dictionary.json_schema import KEY_SCHEMAS, attributes_schema, features_schema, schema_text
from decision_service.policies.files import read_document, read_text

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "features" / "golden"
FEATURES = jsonschema_rs.validator_for(features_schema())
ATTRIBUTES = jsonschema_rs.validator_for(attributes_schema())
ONE_ROW = (  # golden files whose mistake a schema can see, for it stands in one row
    "aggregation_missing", "aggregation_unknown", "buckets_bad", "buckets_of_mean", "by_missing", "by_unknown",
    "constant_bad", "delay_negative", "each_is_a_list", "formula_missing", "grain_on_derived", "grain_unknown",
    "incl_is_no_flag", "internal_false", "key_unknown", "list_empty", "months_bad", "name_bad", "null_code_unknown",
    "null_missing", "one_value_is_a_list",
    "quantile_no_number", "quantile_out_of_range", "row_is_a_text", "section_is_a_list", "section_unknown",
    "segment_missing", "share_without_among", "unit_missing", "unit_unknown", "value_unknown", "window_and_windows",
    "window_bad", "window_missing", "windows_mapping_of_lists", "within_bad", "within_missing",
)  # fmt: skip


def as_editors_read_it(node: Node) -> Any:
    """YAML 1.2's core schema, as a language server reads a file: plain numbers and booleans are typed."""
    if isinstance(node, MappingNode):
        return {key.text: as_editors_read_it(value) for key, value in node.items}
    if not isinstance(node, Scalar):
        return [as_editors_read_it(item) for item in node]
    if node.quoted:
        return node.text
    if node.text in ("true", "false"):
        return node.text == "true"
    if is_number(node):
        value = float(node.text)
        return int(value) if value == int(value) and "." not in node.text else value
    return node.text


def content_of(path: Path) -> Any:
    """What stands in a file."""
    findings = Findings()
    document = read_document(path, path.name, findings)
    assert document is not None, findings.diagnostics
    return as_editors_read_it(document.root)


@pytest.mark.parametrize("path", sorted((ROOT / "rules" / "features").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_feature_file_fits_its_schema(path: Path) -> None:
    """An editor underlines nothing in what we ship."""
    content = content_of(path)
    assert [f"{list(e.instance_path)}: {e.message}" for e in FEATURES.iter_errors(content)] == []


def test_the_shipped_attributes_fit_their_schema() -> None:
    """Neither in the attributes file."""
    content = content_of(ROOT / "rules" / "attributes.yaml")
    assert [f"{list(e.instance_path)}: {e.message}" for e in ATTRIBUTES.iter_errors(content)] == []


@pytest.mark.parametrize("case", ONE_ROW)
def test_a_mistake_within_one_row_is_seen_while_typing(case: str) -> None:
    """What the compiler refuses and a schema can see, the schema refuses."""
    assert not FEATURES.is_valid(content_of(GOLDEN / f"{case}.yaml"))


@pytest.mark.parametrize(
    "row",
    [
        "{type: number, unit: n, source: bureau, ttl: 35d}",
        "{type: numbr, unit: n, source: bureau, ttl: 35d, meaning: x}",
        "{type: number, unit: pounds, source: bureau, ttl: 35d, meaning: x}",
        "{type: number, source: The Bureau, ttl: 35d, meaning: x}",
        "{type: number, source: bureau, ttl: 35 days, meaning: x}",
        "{type: number, source: bureau, ttl: 35d, meaning: x, colour: red}",
        "number",
    ],
)
def test_a_broken_attribute_is_refused(row: str) -> None:
    """Missing and unknown keys, types, units, sources and times to live."""
    document = read_text(f"attributes:\n  x: {row}\n", "attributes.yaml", Findings())
    assert document is not None
    assert not ATTRIBUTES.is_valid(as_editors_read_it(document.root))


@pytest.mark.parametrize("section", ["segments", "features", "derived"])
def test_every_key_of_a_row_has_a_schema(section: str) -> None:
    """A key that the compiler learns must be learned here, or editors call it a mistake."""
    assert set(row_keys(section)) <= set(KEY_SCHEMAS)
    assert set(SEGMENT_KEYS) <= set(KEY_SCHEMAS)


def test_every_section_has_a_schema() -> None:
    """The same of sections."""
    assert set(features_schema()["properties"]) == set(section_names())


@pytest.mark.parametrize(("name", "schema"), [("features", features_schema()), ("attributes", attributes_schema())])
def test_the_schemas_in_the_package_are_up_to_date(name: str, schema: dict[str, Any]) -> None:
    """The file an editor is given is what the code makes of its tables; `make reference` writes it again."""
    path = files("decision_service") / "schemas" / f"{name}.schema.json"
    assert path.read_text(encoding="utf-8") == schema_text(schema), "run `make reference`"

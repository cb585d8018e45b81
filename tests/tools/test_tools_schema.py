"""The JSON Schemas of policy files accept what ships, refuse what a reader refuses, and know every key it knows."""

from __future__ import annotations

import importlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from tools_command import Command

from decision_service.cases.reading import CASE_KEYS, EVENT_KEYS
from decision_service.core.rules.fields import is_number
from decision_service.core.rules.guardrails import GUARDRAILS
from decision_service.core.source import Findings, MappingNode, Node, Scalar
from decision_service.dictionary import policy_schema
from decision_service.dictionary.case_schema import case_schema
from decision_service.dictionary.json_schema import schema_text
from decision_service.dictionary.policy_schema import NO_NAMES, Names, rules_schema
from decision_service.dictionary.schemas import SCHEMAS
from decision_service.policies.files import policy_paths, read_document, read_text
from service_process import ROOT

VALIDATORS = {name: jsonschema_rs.validator_for(schema(NO_NAMES)) for name, schema in SCHEMAS.items()}
RULE_SETS = [path for path in (ROOT / "rules").glob("*.yaml") if "\nscene:" in path.read_text()]
SHIPPED = [
    *(("rules", path) for path in RULE_SETS), ("policy", ROOT / "rules" / "policy.yaml"),
    *(("constants", path) for path in (ROOT / "rules").glob("constants.yaml")),
    *(("case", path) for path in policy_paths(ROOT / "tests" / "cases")),
]  # fmt: skip
SHIPPED_FILES = [*policy_paths(ROOT / "rules"), *policy_paths(ROOT / "tests" / "cases")]
RULE = "rule_set: a\nscene: drawdown\nfallback: {static: {hold: review, reason: RC90}}\n"
ONE = "{id: a, when: x > 1, then: approve}"
BROKEN = {
    "an unknown scene": RULE.replace("drawdown", "drawdwon"),
    "no fallback": "rule_set: a\nscene: drawdown\n",
    "an unknown key": RULE + "ruels: []\n",
    "an unknown key of a rule": RULE + "rules: [{id: a, when: x > 1, than: approve}]\n",
    "a rule without a condition": RULE + "rules: [{id: a, then: approve}]\n",
    "an unknown effect": RULE + "rules: [{id: a, when: x > 1, then: {hodl: review}}]\n",
    "an unknown kind of hold": RULE + "rules: [{id: a, when: x > 1, then: {hold: reviw}}]\n",
    "two changes of the limit": RULE + "rules: [{id: a, when: x > 1, then: {limit: {raise: 1, cut: 1}}}]\n",
    "an unknown reason": RULE + "rules: [{id: a, when: x > 1, then: approve, reason: RC999}]\n",
    "an unknown on_null": RULE + "rules: [{id: a, when: x > 1, then: approve, on_null: ignore}]\n",
    "an unknown expectation": RULE + "rules: [{id: a, when: x, then: approve, tests: [{given: {}, expect: fire}]}]\n",
    "an unknown effect in a test": RULE
    + "rules: [{id: a, when: x, then: approve, tests: [{given: {}, expect: fires, asks: {hodl: review}}]}]\n",
    "effects of points": RULE
    + "points: [{id: a, base: 0, of: [{value: x, bins: {any: 1}}], tests: [{given: {}, expect: 1, asks: nothing}]}]\n",
    "an unknown unit": RULE + "constants: {a: {value: 1, unit: yuan}}\n",
    "an unknown guardrail": RULE + "guardrails: {apr_cup: 0.2}\n",
    "a guardrail of nothing": RULE + "guardrails: {apr_cap: 0}\n",
    "a table without rows": RULE + "tables: [{id: a, hit: first, inputs: [x]}]\n",
    "an axis that is none": RULE + "matrices: [{id: a, rows: x, columns: 'x <= [1, inf]', cells: {}}]\n",
    "an id with capitals": RULE + "rules: [{id: Rule, when: x > 1, then: approve}]\n",
}


def as_editors_read_it(node: Node) -> Any:
    """YAML 1.2's core schema, as a language server reads a file."""
    if isinstance(node, MappingNode):
        return {key.text: as_editors_read_it(value) for key, value in node.items}
    if not isinstance(node, Scalar):
        return [as_editors_read_it(item) for item in node]
    if node.quoted or not is_number(node):
        return node.text if node.quoted else {"null": None, "true": True, "false": False}.get(node.text, node.text)
    value = float(node.text)
    return int(value) if value == int(value) and "." not in node.text else value


def content_of(text: str) -> Any:
    findings = Findings()
    document = read_text(text, "test.yaml", findings)
    assert document is not None, findings.diagnostics
    return as_editors_read_it(document.root)


@pytest.mark.parametrize(("name", "path"), SHIPPED, ids=lambda given: getattr(given, "name", str(given)))
def test_every_shipped_file_fits_its_schema(name: str, path: Path) -> None:
    """An editor underlines nothing in what we ship."""
    document = read_document(path, path.name, Findings())
    assert document is not None
    content = as_editors_read_it(document.root)
    assert [f"{list(e.instance_path)}: {e.message[:300]}" for e in VALIDATORS[name].iter_errors(content)] == []


@pytest.mark.parametrize("mistake", BROKEN, ids=str)
def test_a_mistake_is_seen_while_typing(mistake: str) -> None:
    """What the reader refuses and a schema can see, the schema refuses."""
    assert VALIDATORS["rules"].is_valid(content_of(RULE + f"rules: [{ONE}]\n"))
    assert not VALIDATORS["rules"].is_valid(content_of(BROKEN[mistake]))


KEYS = (
    ("schema", "_TOP", rules_schema),
    ("schema", "_RULE", policy_schema.rule_schema),
    ("matrix", "_KEYS", policy_schema.matrix_schema),
    ("tables", "_KEYS", policy_schema.table_schema),
    ("tables", "_ROW_KEYS", policy_schema.row_schema),
    ("trees", "_KEYS", policy_schema.tree_schema),
    ("trees", "_BRANCH_KEYS", policy_schema.branch_schema),
    ("points", "_KEYS", policy_schema.points_schema),
    ("rule_tests", "_KEYS_WITH_EFFECTS", lambda: policy_schema.inline_test_schema({})),
)


@pytest.mark.parametrize(("module", "table", "schema"), KEYS, ids=lambda given: getattr(given, "__name__", str(given)))
def test_every_key_of_the_reader_has_a_schema(module: str, table: str, schema: Any) -> None:
    """A key that a reader learns must be learned here, or editors call it a mistake."""
    reader = importlib.import_module(f"decision_service.core.rules.{module}")
    assert set(getattr(reader, table)) <= set(schema()["properties"])


def test_every_guardrail_and_every_key_of_a_case_has_a_schema() -> None:
    """The same of guardrails and cases."""
    case = case_schema()["properties"]
    assert {spec.key for spec in GUARDRAILS} == set(rules_schema()["properties"]["guardrails"]["properties"])
    assert set(CASE_KEYS) == set(case)
    assert set(EVENT_KEYS) <= set(case["events"]["items"]["properties"])


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_in_the_package_are_up_to_date(name: str) -> None:
    """The file an editor is given is what the code makes of its tables."""
    path = files("decision_service") / "schemas" / f"{name}.schema.json"
    assert path.read_text(encoding="utf-8") == schema_text(SCHEMAS[name](NO_NAMES)), "run `make reference`"


def test_names_of_a_policy_are_completed(command: Command, policy_folder: Path) -> None:
    """With --names the features and lists of the policy on disk are among the choices."""
    models = policy_folder.parent / "models"
    status, out, _ = command("schema", "policy", "--names", "--rules", policy_folder, "--models", models)
    assert status == 0
    assert json.loads(out)["properties"]["record"]["items"]["enum"] == ["vel_prior_10m"]
    names = Names(("vel_prior_10m",), ("income",), ("block",))
    assert case_schema(names)["properties"]["lists"]["propertyNames"]["enum"] == ["block"]


def test_a_schema_is_written_where_it_is_wanted(command: Command, tmp_path: Path) -> None:
    """--out writes it and tells the line for an editor."""
    status, out, err = command("schema", "case", "--out", tmp_path / "case.schema.json")
    assert (status, out, "yaml-language-server" in err) == (0, "", True)
    assert json.loads((tmp_path / "case.schema.json").read_text())["title"] == "decision-service: case"


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_that_names_its_schema_names_one_that_is_there(path: Path) -> None:
    """By a path relative to the file, so that an editor finds it wherever the repository lies."""
    first = path.read_text().partition("\n")[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    if named is not None:
        schema = (path.parent / named[1]).resolve()
        assert schema.parent == ROOT / "src" / "decision_service" / "schemas"
        document = read_document(path, path.name, Findings())
        assert document is not None
        assert jsonschema_rs.validator_for(json.loads(schema.read_text())).is_valid(as_editors_read_it(document.root))

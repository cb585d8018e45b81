"""Declared attributes, and dates in the business time zone."""

from __future__ import annotations

import pytest
from rule_cases import HEAD, VOCABULARY

from decision_service.core.rules.attributes import AttributeSpec, read_attributes
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Kind
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_text

TEXT = """attributes:
  ext_inq_cnt_30d: {type: number, unit: n, source: bureau, ttl: 35d, meaning: hard inquiries}
  dev_rooted: {type: flag, source: device, ttl: 12h, meaning: rooted}
  employer: {type: string, source: crm, ttl: 400d, meaning: where the customer works}
"""


def declared(text: str = TEXT) -> dict[str, AttributeSpec]:
    """The attributes of a file that must be right."""
    findings = Findings()
    document = read_text(text, "attributes.yaml", findings)
    assert document is not None
    attributes = read_attributes(document, findings)
    assert findings.errors == []
    return attributes


def test_attributes_are_read_with_type_source_and_ttl() -> None:
    """Each becomes a nullable name of the language with its time to live in ms."""
    attributes = declared()
    kinds = {name: a.spec.kind for name, a in attributes.items()}
    assert kinds == {"ext_inq_cnt_30d": Kind.NUMBER, "dev_rooted": Kind.FLAG, "employer": Kind.STRING}
    assert (attributes["dev_rooted"].ttl_ms, attributes["dev_rooted"].source) == (12 * 3_600_000, "device")
    assert all(a.spec.nullable for a in attributes.values())


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("ext_inq_cnt_30d", 3, True), ("ext_inq_cnt_30d", 0.5, True), ("ext_inq_cnt_30d", float("inf"), False),
        ("ext_inq_cnt_30d", float("nan"), False), ("ext_inq_cnt_30d", "3", False), ("ext_inq_cnt_30d", True, False),
        ("dev_rooted", 1, True), ("dev_rooted", 0, True), ("dev_rooted", 2, False), ("dev_rooted", "1", False),
        ("employer", "ACME", True), ("employer", "", False), ("employer", "x" * 257, False), ("employer", 3, False),
    ],
)  # fmt: skip
def test_a_value_fits_its_declared_type_or_says_why_not(name: str, value: object, fits: bool) -> None:
    """Numbers are finite, flags 0 or 1, strings of bounded length."""
    assert (declared()[name].problem_with(value) == "") is fits


def test_every_mistake_of_an_attributes_file_is_reported() -> None:
    """Unknown type, missing ttl, a unit that is none, a bad name and an unknown key: five findings, none lost."""
    findings = Findings()
    text = (
        "attributes:\n"
        "  a: {type: integer, source: x, ttl: 1d, meaning: m}\n"
        "  b: {type: flag, source: x, meaning: m}\n"
        "  c: {type: number, unit: furlong, source: x, ttl: 1d, meaning: m}\n"
        "  Big: {type: flag, source: x, ttl: 1d, meaning: m}\n"
        "  e: {type: flag, source: x, ttl: 1d, meaning: m, default: 0}\n"
    )
    document = read_text(text, "attributes.yaml", findings)
    assert document is not None
    assert read_attributes(document, findings) == {}
    assert [d.place.line for d in findings.errors] == [2, 3, 4, 5, 6]


@pytest.mark.fault("D15")
def test_dates_start_at_midnight_of_the_business_time_zone() -> None:
    """2026-01-01 in Shanghai starts eight hours before it does in UTC; an instant with offset is what it says."""
    text = (
        HEAD + "constants:\n  a: {effective_from: {2026-01-01: 1}}\n"
        "  b: {effective_from: {2026-01-01T00:00:00+00:00: 1}}\n"
        "rules:\n  - {id: one, when: vel_req_cnt_1h > a + b, then: {tag: x}}\n"
    )
    document = read_text(text, "drawdown.yaml", Findings())
    assert document is not None
    spec = read_rule_set(document, VOCABULARY, Findings(), zone_named("Asia/Shanghai"))
    assert spec is not None
    assert [d.starts_ms for d in spec.dated] == [(1_767_196_800_000,), (1_767_225_600_000,)]

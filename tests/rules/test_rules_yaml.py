"""The strict YAML reader: nothing is interpreted, everything odd is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from decision_service.core.limits import POLICY_FILE_BYTES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX
from decision_service.core.source import Findings, MappingNode, Scalar, SequenceNode
from decision_service.policies import files as policy_files
from decision_service.policies.files import DOCUMENT_BYTES_KEPT_MAX, read_directory, read_document, read_text


def problems(text: str | bytes) -> list[tuple[int, int, str]]:
    """Line, column and message of every finding; the document must have been refused."""
    findings = Findings()
    assert read_text(text, "f.yaml", findings) is None
    return [(d.place.line, d.place.column, d.message) for d in findings.errors]


@pytest.mark.fault("F05")
@pytest.mark.parametrize(
    "text", ["no", "off", "012", "1:30", "1_000", "1e3", "2026-01-01", "~", "null", "0x1F", ".inf"]
)
def test_a_scalar_stays_the_text_that_was_typed(text: str) -> None:
    """What YAML 1.1 would turn into a boolean, an octal, minutes, a date or null stays text."""
    document = read_text(f"key: {text}\n", "f.yaml", Findings())
    assert document is not None
    value = document.root.get("key")
    assert isinstance(value, Scalar)
    assert (value.text, value.quoted) == (text, False)


def test_quoting_is_remembered_and_places_point_at_the_text() -> None:
    """`"no"` differs from `no`; the place of a quoted scalar is its first character."""
    document = read_text("a: 'x'\nb: [one, \"two\"]\n", "f.yaml", Findings())
    assert document is not None
    first, second = document.root.get("a"), document.root.get("b")
    assert isinstance(first, Scalar)
    assert isinstance(second, SequenceNode)
    assert (first.quoted, first.place.column) == (True, 5)
    assert [(i.place.line, i.place.column) for i in second] == [(2, 5), (2, 11)]


@pytest.mark.fault("F01")
@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", (1, 1, "the file is empty")),
        ("# only a comment\n", (1, 1, "the file is empty")),
        ("- a\n", (1, 1, "the file must hold a mapping")),
        ("just text\n", (1, 1, "the file must hold a mapping")),
        ("a: 1\nb: 2\na: 3\n", (3, 1, "`a` is given twice; the first is on line 1")),
        ("x: {a: 1, a: 2}\n", (1, 11, "`a` is given twice; the first is on line 1")),
        ("a: &anchor 1\n", (1, 4, "anchors are not allowed")),
        ("a: *anchor\n", (1, 4, "aliases are not allowed")),
        ("a: !!int 1\n", (1, 4, "tags are not allowed")),
        ("a: !python/object:os.system x\n", (1, 4, "tags are not allowed")),
        ("%YAML 1.1\n---\na: 1\n", (1, 1, "YAML directives are not allowed")),
        ("a: 1\n---\nb: 1\n", (2, 1, "a second document starts here")),
        ("? [a, b]\n: 1\n", (1, 3, "a key must be plain text")),
        ("a: b: c\n", (1, 5, "not valid YAML: mapping values are not allowed in this context")),
        ("a:\n\t- b\n", (2, 1, "not valid YAML: found character that cannot start any token")),
        ("a: [1, 2\n", (2, 1, "not valid YAML: did not find expected ',' or ']'")),
        ("a: \"unclosed\n", (2, 1, "not valid YAML: found unexpected end of stream")),
        ("a: 1\n b: 2\n", (2, 3, "not valid YAML: mapping values are not allowed in this context")),
        ("\ufeffa: 1\n", (1, 1, "the file starts with a byte order mark")),
        ("a: 1\nb: \0\n", (2, 1, "a NUL character in the file")),
        (b"a: 1\nb: \xff\n", (2, 1, "byte 8 is not UTF-8")),
        ("a: " + "[" * 30, (1, 3 + YAML_DEPTH_MAX, f"nested deeper than {YAML_DEPTH_MAX} levels")),
        ("a: " + "{b: " * 3000, (1, 4 * YAML_DEPTH_MAX, f"nested deeper than {YAML_DEPTH_MAX} levels")),
    ],
)  # fmt: skip
def test_what_is_not_a_plain_mapping_is_refused_at_its_place(text: str | bytes, finding: tuple[int, int, str]) -> None:
    """Every trap of YAML is an error that names line and column."""
    assert problems(text)[0] == finding


@pytest.mark.fault("F06")
def test_a_billion_laughs_is_refused_before_anything_is_expanded() -> None:
    """Anchors are errors where they stand, and aliases are never followed."""
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30)]
    assert len(problems("\n".join(lines))) == 30 + 2 * 29


@pytest.mark.fault("F06")
def test_size_and_nodes_are_capped() -> None:
    """A file over the byte cap is refused unparsed; one over the node cap while parsing."""
    assert "bytes" in problems(b"#" * (POLICY_FILE_BYTES_MAX + 1))[0][2]
    assert (
        problems("a: [" + "x," * (YAML_NODES_MAX + 1) + "x]")[0][2] == f"more than {YAML_NODES_MAX} nodes in one file"
    )


def test_places_follow_folded_text() -> None:
    """An offset into a scalar over several lines is found on its own line of the file."""
    document = read_text("when: >-\n  one and\n  two\nthen: one\n  or two\n", "f.yaml", Findings())
    assert document is not None
    when, then = document.root.get("when"), document.root.get("then")
    assert isinstance(when, Scalar)
    assert isinstance(then, Scalar)
    document = read_text("- {when: one and\n    two, then: 3}\n".replace("- ", "rule: "), "f.yaml", Findings())
    assert document is not None
    rule = document.root.get("rule")
    assert isinstance(rule, MappingNode)
    inside = rule.get("when")
    assert isinstance(inside, Scalar)
    for scalar in (when, then, inside):
        place = scalar.place.moved(scalar.text.index("two"))
        assert place.text[place.column - 1 :].startswith("two")


def test_a_directory_is_read_by_relative_name(tmp_path: Path) -> None:
    """Nested files are read, editors' leftovers and other files passed over."""
    (tmp_path / "features").mkdir()
    for name in ("drawdown.yaml", "features/volume.yml", ".drawdown.yaml.swp", ".hidden.yaml", "README.md"):
        (tmp_path / name).write_text("a: 1\n")
    findings = Findings()
    assert sorted(read_directory(tmp_path, findings)) == ["drawdown.yaml", "features/volume.yml"]
    assert findings.errors == []


@pytest.mark.fault("F16")
def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    """A symbolic link inside is followed, one to the outside is an error."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (tmp_path / "secret.yaml").write_text("a: 1\n")
    (rules / "real.yaml").write_text("a: 1\n")
    (rules / "inside.yaml").symlink_to(rules / "real.yaml")
    (rules / "outside.yaml").symlink_to(tmp_path / "secret.yaml")
    findings = Findings()
    assert sorted(read_directory(rules, findings)) == ["inside.yaml", "real.yaml"]
    assert [d.place.file for d in findings.errors] == ["outside.yaml"]


@pytest.mark.fault("F15")
def test_a_missing_file_and_a_missing_directory_are_findings(tmp_path: Path) -> None:
    """Neither raises; the finding names the file as shown to people."""
    findings = Findings()
    assert read_document(tmp_path / "gone.yaml", "gone.yaml", findings) is None
    assert read_directory(tmp_path / "gone", findings) == {}
    assert [d.place.file for d in findings.errors] == ["gone", "gone.yaml"]


def test_equal_bytes_have_equal_hashes() -> None:
    """The content hash is that of the bytes."""
    documents = [read_text(text, "f.yaml", Findings()) for text in ("a: 1\n", b"a: 1\n", "a: 1 \n")]
    hashes = [document.sha256 for document in documents if document is not None]
    assert hashes[0] == hashes[1] != hashes[2]
    assert all(isinstance(document.root, MappingNode) for document in documents if document is not None)


def test_what_is_kept_of_files_read_before_is_bounded_in_bytes() -> None:
    """A large file that is saved again and again does not fill the memory with its versions."""
    for version in range(4):
        long = "x" * (DOCUMENT_BYTES_KEPT_MAX // 3)
        assert read_text(f"a: {version}\nb: {long}\n", "large.yaml", Findings()) is not None
        assert sum(size for _, size in policy_files._READ.values()) <= DOCUMENT_BYTES_KEPT_MAX

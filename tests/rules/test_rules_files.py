"""Which files a policy is made of: none from outside the rules directory, whoever names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from decision_service.core.source import Findings
from decision_service.policies.files import read_directory
from decision_service.policies.loading import check_files
from decision_service.policies.names import takes_name

RULE_SET = """rule_set: drawdown
scene: drawdown
rules:
  - {id: all, when: request.amount > 0, on_null: skip, then: approve}
fallback: {static: {hold: review, reason: RC90}}
"""
OUT = "a name that leads out of the rules directory"
HIDDEN = "a hidden file: names that start with a dot are passed over"
OTHER = "not a policy file: its name ends with neither .yaml nor .yml"
NONE = "not the name of a file"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A policy of one file."""
    (tmp_path / "models").mkdir()
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "drawdown.yaml").write_text(RULE_SET)
    return tmp_path / "rules"


def said(rules: Path, files: dict[str, str]) -> list[tuple[str, str]]:
    """File and message of what a check of the directory with some files sent along finds."""
    findings = check_files(rules, rules.parent / "models", "Asia/Shanghai", 86_400_000, files)
    return [(finding.place.file, finding.message) for finding in findings]


@pytest.mark.fault("F16")
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../drawdown.yaml", OUT), ("features/../../x.yaml", OUT), ("..", OUT), ("/etc/x.yaml", OUT),
        ("//host/x.yaml", OUT), ("..\\x.yaml", OUT), ("features\\x.yaml", OUT), ("C:/x.yaml", OUT), ("C:x.yaml", OUT),
        (".drawdown.yaml", HIDDEN), ("features/.x.yaml", HIDDEN), (".git/x.yaml", HIDDEN),
        ("drawdown.yaml.swp", OTHER), ("drawdown", OTHER), ("drawdown.json", OTHER), ("x.YAML", OTHER),
        ("", NONE), ("./x.yaml", NONE), ("features//x.yaml", NONE), ("x.yaml/", NONE), ("a\0b.yaml", NONE),
        ("a\nb.yaml", NONE), ("a" * 300 + ".yaml", NONE),
    ],
)  # fmt: skip
def test_a_name_that_no_load_from_disk_would_find_is_refused(rules: Path, name: str, problem: str) -> None:
    """POST /v1/policy/check takes names as they come: each is refused in words, the rest is checked all the same."""
    found = said(rules, {name: "rules: ["})
    assert [message for _, message in found] == [problem]
    assert found[0][0].isprintable()


@pytest.mark.parametrize("name", ["drawdown.yaml", "features/volume.yml", "a/b/c.yaml", "限额.yaml", "a..b.yaml"])
def test_a_name_below_the_directory_is_taken(name: str) -> None:
    """Whatever a directory may hold."""
    findings = Findings()
    assert takes_name(name, findings)
    assert findings.diagnostics == []


def test_a_candidate_replaces_the_file_of_its_name(rules: Path) -> None:
    """What is sent is judged instead of what is on disk."""
    assert said(rules, {}) == []
    assert said(rules, {"drawdown.yaml": RULE_SET.replace("request.amount", "request.amout")}) == [
        ("drawdown.yaml", "unknown name `request.amout`")
    ]


@pytest.mark.fault("F16")
@pytest.mark.parametrize("kind", ["outside", "itself", "nowhere", "pipe", "directory"])
def test_only_regular_files_inside_the_directory_are_opened(rules: Path, kind: str) -> None:
    """Links that lead out, to themselves or nowhere, and pipes, are errors at once; nothing waits or raises."""
    odd = rules / "odd.yaml"
    (rules.parent / "secret.yaml").write_text("key: hunter2\n")
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "directory":
        odd.mkdir()
    else:
        odd.symlink_to({"outside": rules.parent / "secret.yaml", "itself": odd, "nowhere": rules / "gone"}[kind])
    findings = Findings()
    assert list(read_directory(rules, findings)) == ["drawdown.yaml"]
    assert [(d.place.file, d.message) for d in findings.errors] == {
        "outside": [("odd.yaml", "a symbolic link that leads out of the rules directory")],
        "itself": [("odd.yaml", "a symbolic link that leads to itself")],
        "nowhere": [("odd.yaml", "cannot be read: No such file or directory")],
        "pipe": [("odd.yaml", "not a regular file")],
        "directory": [],
    }[kind]
    assert "hunter2" not in "".join(d.render() for d in findings.errors)

"""`rules fmt` changes the layout of a file and nothing else, once and for all."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools_command import GOLDEN, Command, golden

from decision_service.core.source import Findings
from decision_service.layout.layout import comments_of, laid_out, meaning_of
from decision_service.layout.words import words_of
from decision_service.policies.files import policy_paths, read_text
from service_process import ROOT

SHIPPED = [*policy_paths(ROOT / "rules"), *policy_paths(ROOT / "tests" / "cases")]
UNTIDY = (GOLDEN / "untidy.yaml").read_text()


def formatted(text: str) -> str:
    findings = Findings()
    new = laid_out(text, "test.yaml", findings)
    assert new is not None, [finding.render() for finding in findings.diagnostics]
    return new


def said_by(text: str) -> object:
    document = read_text(text, "test.yaml", Findings())
    assert document is not None
    return meaning_of(document.root)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_shipped_file_is_laid_out(path: Path) -> None:
    """What ships is formatted, so an analyst's first `rules fmt` changes nothing of ours."""
    text = path.read_text()
    assert formatted(text) == text


def test_an_untidy_file_becomes_tidy() -> None:
    """Indentation, spaces, empty lines; comments stay with what they are about."""
    golden("tidy", formatted(UNTIDY))


@st.composite
def respaced(draw: st.DrawFn) -> str:
    """A shipped or untidy file with other white space that YAML reads alike."""
    text = draw(st.sampled_from([UNTIDY, *(path.read_text() for path in SHIPPED if path.stat().st_size < 2_500)]))
    lines = text.split("\n")
    ends = {(word.end_line, word.end_column) for word in words_of(text) if word.sort in ("{", "[", ",", ":")}
    for line, column in sorted(ends, reverse=True):
        if lines[line][column:].strip() and not lines[line][column:].lstrip().startswith("#"):
            lines[line] = lines[line][:column] + " " * draw(st.integers(0, 3)) + lines[line][column:]
    factor = draw(st.integers(1, 3))
    lines = [" " * (len(line) - len(line.lstrip())) * factor + line.lstrip() for line in lines]
    inside = re.search(r"[|>][-+]?$", text, re.MULTILINE) is not None
    more = st.just("") if inside else st.sampled_from(["", "", "", "\n", "\n\n\n"])
    ends_of_lines = st.sampled_from(["", " "] if inside else ["", " ", "\t"])
    breaks = draw(st.sampled_from(["\n", "\r\n"]))
    return breaks.join(line + draw(ends_of_lines) + draw(more).replace("\n", breaks) for line in lines)


@given(respaced())
@settings(max_examples=30, deadline=None)
def test_other_white_space_says_the_same_and_settles_at_once(text: str) -> None:
    """Whatever the white space: no word and no comment is lost, and a second run changes nothing."""
    if read_text(text, "test.yaml", Findings()) is None:
        return
    new = formatted(text)
    assert said_by(new) == said_by(text)
    assert comments_of(new) == comments_of(text)
    assert formatted(new) == new


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_deeper_steps_of_indentation_become_two(factor: int) -> None:
    """The same file with steps of four, six or eight comes out the same."""
    tidy = "a:\n  b:\n    c: 1\n    # of c\n  # of d\n  d: >-\n    some\n    text\ne:\n  - f\n  - [g, h]\n"
    deeper = re.sub("^ +", lambda match: match[0] * factor, tidy, flags=re.MULTILINE)
    assert formatted(deeper) == tidy


def test_files_are_written_only_without_check(command: Command, tmp_path: Path) -> None:
    """--check tells and has status 1; without it the file is put right, and then it is right."""
    path = tmp_path / "untidy.yaml"
    path.write_text(UNTIDY)
    status, out, _ = command("fmt", "--check", path)
    assert (status, "would change" in out, path.read_text()) == (1, True, UNTIDY)
    assert command("fmt", path)[0] == 0
    golden("tidy", path.read_text())
    assert command("fmt", "--check", path)[0] == 0
    status, out, _ = command("fmt", "--check", "--json", path)
    assert (status, json.loads(out)) == (0, {"changed": [], "files": 1, "diagnostics": []})


def test_standard_input_goes_to_standard_output(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """For editors."""
    monkeypatch.setattr("sys.stdin", io.StringIO(UNTIDY))
    status, out, _ = command("fmt", "-")
    assert status == 0
    golden("tidy", out)


def test_what_cannot_be_read_is_not_touched(command: Command, tmp_path: Path) -> None:
    """A file with a mistake stays as it is, and the mistake is told; status 4, and 2 for a file that is not there."""
    path = tmp_path / "broken.yaml"
    path.write_bytes(b"a:   [1, 2\nb: \xff\n")
    status, _, err = command("fmt", path)
    assert (status, "is not UTF-8" in err, path.read_bytes()) == (4, True, b"a:   [1, 2\nb: \xff\n")
    path.write_text("a:   [1, 2\n")
    assert command("fmt", path)[0] == 4
    assert path.read_text() == "a:   [1, 2\n"
    assert command("fmt", tmp_path / "nowhere.yaml")[0] == 2


def test_a_place_that_cannot_be_written_is_named(command: Command, tmp_path: Path) -> None:
    """Status 2 with the path, and the file is as it was."""
    path = tmp_path / "rules.yaml"
    path.write_text("rules:   \n")
    (tmp_path / ".rules.yaml.new").mkdir()
    status, out, error = command("fmt", path)
    assert (status, out) == (2, "")
    assert error == f"decision-service: {tmp_path / '.rules.yaml.new'}: Is a directory\n"
    assert path.read_text() == "rules:   \n"

"""The reference page is what the rules say, and the page for a browser needs nothing but itself."""

from __future__ import annotations

import re
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from decision_service.cli import main
from decision_service.core.features.aggregations import AGGREGATIONS
from decision_service.dictionary.contents import pattern_of
from decision_service.dictionary.entry import Dictionary
from decision_service.dictionary.families import FAMILIES, OTHER, family_named, family_of
from decision_service.dictionary.markdown import reference_page
from decision_service.dictionary.page import html_page
from decision_service.policies.loading import load_policy

ROOT = Path(__file__).parents[2]


@lru_cache
def dictionary() -> Dictionary:
    """The shipped policy's."""
    return Dictionary(load_policy(ROOT / "rules", ROOT / "models", "Asia/Shanghai", 86_400_000)[0])


def test_the_reference_page_is_up_to_date() -> None:
    """`make reference` writes it again; nobody edits it."""
    written = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    assert written == reference_page(dictionary()), "docs/features.md is not what the rules say: run `make reference`"


def test_the_command_that_compares_agrees(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                           tmp_path: Path) -> None:  # fmt: skip
    """`features reference --check` is for a pipeline: 0 if the page is up to date, 1 and how to write it if not."""
    monkeypatch.chdir(ROOT)
    assert main(["features", "reference", "--check"]) == 0
    (tmp_path / "old.md").write_text("old")
    assert main(["features", "reference", "--check", "--out", str(tmp_path / "old.md")]) == 1
    assert "features reference" in capsys.readouterr().err


def test_every_feature_stands_on_both_pages() -> None:
    """Each name can be found: in Markdown under its row, in HTML by the search."""
    markdown, html = reference_page(dictionary()), html_page(dictionary())
    searched = set(" ".join(re.findall(r'data-names="([^"]*)"', html)).split())
    for name, spec in dictionary().catalogue.by_name.items():
        if not spec.surge_of:
            assert pattern_of(dictionary().row_names(spec)) in markdown
            assert name in searched
    for name in (*dictionary().policy.attributes, *dictionary().catalogue.segments):
        assert f"`{name}`" in markdown
        assert f"<code>{name}</code>" in html


def test_every_feature_has_a_family() -> None:
    """A new prefix gets its family's title before it is shipped."""
    assert [name for name in dictionary().names if family_of(name) is OTHER] == []


def test_a_family_is_found_by_letter_prefix_and_title() -> None:
    """Whatever an analyst types first."""
    assert {family_named(text) for text in ("V", "v", "vol", "Volume")} == {FAMILIES[0]}
    assert family_named("nothing") is None


class Tags(HTMLParser):
    """Collects tags and attributes, and whether every tag is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    """Every tag is closed, every id is given once, and no attribute points outside the page."""
    tags = Tags()
    tags.feed(html_page(dictionary()))
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))
    links = [value for name, value in tags.attributes if name in ("href", "src", "action")]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    assert {link[1:] for link in links if link} <= set(tags.ids)


def test_texts_of_analysts_cannot_become_markup(tmp_path: Path) -> None:
    """A meaning with angle brackets and a bar is text on both pages, and one that looks like a slot of the page too."""
    path = tmp_path / "features" / "volume.yaml"
    for source in (ROOT / "rules").rglob("*.yaml"):
        target = tmp_path / source.relative_to(ROOT / "rules")
        target.parent.mkdir(exist_ok=True)
        target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    wrong = '<script>alert("x")</script> | y {{ATTRIBUTES}}'
    path.write_text(path.read_text(encoding="utf-8").replace('en: "successful draws"', f"en: '{wrong}'"), "utf-8")
    told = Dictionary(load_policy(tmp_path, ROOT / "models", "Asia/Shanghai", 86_400_000)[0])
    page = html_page(told)
    assert "<script>alert" not in page
    assert page.count("| y {{ATTRIBUTES}}") == page.count("alert(") > 0
    assert "\\| y" in reference_page(told)


def test_an_entry_says_how_a_feature_comes_about() -> None:
    """Segments expanded, constants with their values, users with their reason codes, the place in the file."""
    told: dict[str, Any] = dictionary().feature("vel_req_cnt_10m")
    assert told["segments"] == {"draw": 'kind == "drawdown"'}
    assert (told["formula"], told["window"]["interval"]) == ("count(draw) + this request", "(t - 10m, t]")
    assert told["reasons"] == ["RC11"]
    assert {"sort": "rule", "name": "velocity_burst", "scene": "drawdown", "reason": "RC11"} in told["used_by"]
    assert (
        (ROOT / "rules" / told["file"])
        .read_text(encoding="utf-8")
        .splitlines()[told["line"] - 1]
        .strip()
        .startswith("vel_req_cnt:")
    )
    odd = dictionary().feature("vol_odd_cnt_7d")
    assert odd["constants"] == {"odd_hour_from": 2.0, "odd_hour_until": 5.0}


def test_every_aggregation_has_a_meaning_for_the_page() -> None:
    """The list at the end of the page has no empty cell."""
    assert all(aggregation.meaning for aggregation in AGGREGATIONS.values())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["list", "--family", "V"], 0, "vol_req_cnt_10m"),
        (["list", "--used", "--json"], 0, '"computed": true'),
        (["list", "--family", "volum"], 2, "did you mean vol?"),
        (["list", "--grain", "customer", "--family", "utl"], 0, "utl_now"),
        (["show", "vol_fail_rate_30d"], 0, "vol_fail_cnt_30d / vol_req_cnt_30d"),
        (["show", "ext_executed"], 0, "valid for 10d"),
        (["show", "vol_fail_rate_30"], 6, "did you mean vol_fail_rate_30d?"),
        (["check"], 0, "0 errors"),
        (["check", "nowhere"], 2, "no such directory"),
        (["explain", "c-1", "vol_ok_cnt", "--events", "no.csv"], 6, "did you mean"),
        (["schema", "attributes"], 0, "json-schema.org"),
    ],
)  # fmt: skip
def test_commands_say_what_they_found(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data on standard output, talk on standard error, and an exit status that says what happened."""
    monkeypatch.chdir(ROOT)
    assert main(["features", *arguments]) == status
    told = capsys.readouterr()
    assert said in (told.out if status == 0 else told.err)


def test_check_reports_mistakes_as_the_service_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Place, caret and nearest name, all of them at once, exit status 4; warnings only with `--strict`."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "features").mkdir()
    for source in (ROOT / "rules").rglob("*.yaml"):
        (tmp_path / source.relative_to(ROOT / "rules")).write_text(source.read_text(encoding="utf-8"), "utf-8")
    extra = tmp_path / "features" / "zz_mine.yaml"
    extra.write_text("segments:\n  mine: knd == 1\nfeatures:\n  my_cnt: {agg: cuont, of: mine}\n")
    assert main(["features", "check", str(tmp_path)]) == 4
    told = capsys.readouterr().out
    assert "features/zz_mine.yaml:2:9: error: unknown name `knd`" in told
    assert "did you mean `count`?" in told
    extra.write_text("segments:\n  mine: weekend\n")
    assert main(["features", "check", str(tmp_path)]) == 0
    assert main(["features", "check", str(tmp_path), "--strict"]) == 1
    assert "the segment `mine` is not used" in capsys.readouterr().out

"""The reference page of features as Markdown: generated, never edited; a test keeps it equal to the rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from decision_service.core.expressions.functions import FUNCTIONS
from decision_service.core.features.aggregations import AGGREGATIONS
from decision_service.dictionary.contents import Chapter, Line, chapters_of
from decision_service.dictionary.entry import Dictionary

HEAD = """\
# Features

Every feature and declared attribute of the shipped policy. This page is generated from `rules/` and `models/` by
`make reference`; edit those, never this.

*Window*: `W` is `(t - W, t]` over the events recorded for the customer at the decision instant `t`; an event exactly
`W` old is out. `m0` ... are rolling 30-day buckets, the newest first. *Null*: unknown is never 0; `Z` true zero, `Nk`
null below k observations (`Nk->v`: v instead), `D` null when dividing by zero, `Hn` null while the line is younger than
n days, `X` null while a source is missing, `Cap[a,b]` clipped. A name with braces stands for one feature a value in
them. Of a **bold** row every decision computes at least one.

`decision-service features show NAME` tells more of one feature, `features explain CUSTOMER NAME` shows the events
behind a value. An editor with a YAML language server completes and checks a feature file whose first line is
`# yaml-language-server: $schema=` and the path or address of `features.schema.json`, which
`decision-service features schema --out features.schema.json` writes (`schema attributes` for `attributes.yaml`).
"""


def reference_page(dictionary: Dictionary) -> str:
    """The whole page."""
    chapters = chapters_of(dictionary)
    parts = [
        [HEAD],
        _index(chapters, dictionary),
        *map(_chapter, chapters),
        _attributes(dictionary),
        _segments(dictionary),
        _constants(dictionary),
        _language(),
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def _index(chapters: Sequence[Chapter], dictionary: Dictionary) -> Iterator[str]:
    yield "| family | | features |"
    yield "| --- | --- | --- |"
    for chapter in chapters:
        family = chapter.family
        count = sum(len(line.names) for line in chapter.lines)
        yield f"| [{family.letter}](#{anchor(chapter)}) | {family.en} {family.zh} | {count} |"
    yield f"| [·](#declared-attributes) | Declared attributes 外部属性 | {len(dictionary.policy.attributes)} |"
    yield ""


def anchor(chapter: Chapter) -> str:
    """The anchor GitHub gives the chapter's heading."""
    kept = (c for c in f"{chapter.family.letter} {chapter.family.en} {chapter.family.zh}".lower() if c not in ",.()")
    return "".join("-" if c == " " else c for c in kept)


def _chapter(chapter: Chapter) -> Iterator[str]:
    family = chapter.family
    yield f"## {family.letter} {family.en} {family.zh}"
    yield ""
    yield "| name | meaning | formula | unit | null | grain | used by |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for line in chapter.lines:
        yield _line(line)
    yield ""
    if chapter.internal:
        yield "<details><summary>Intermediates</summary>"
        yield ""
        yield "| name | formula | unit | null | grain |"
        yield "| --- | --- | --- | --- | --- |"
        for line in chapter.internal:
            first = line.first
            yield _table_row(_name(line), code(line.formula), first["unit"], first["null"], first["grain"])
        yield ""
        yield "</details>"
        yield ""


def _line(line: Line) -> str:
    first = line.first
    meaning = " ".join(text for text in (first["meaning"]["en"], first["meaning"]["zh"]) if text)
    return _table_row(
        _name(line), cell(meaning), code(line.formula) + _window(line), first["unit"] or "–", first["null"],
        first["grain"], cell("; ".join(line.users)),
    )  # fmt: skip


def _name(line: Line) -> str:
    name = code(line.pattern)
    companion = " and `__new`" if line.has_companion else ""
    return (f"**{name}**" if line.computed else name) + companion


def _window(line: Line) -> str:
    window = line.first["window"]
    if window is None or len(line.names) > 1:
        return ""
    return cell(f" over {window['interval']}")


def _attributes(dictionary: Dictionary) -> Iterator[str]:
    yield "## Declared attributes"
    yield ""
    yield "Values that arrive from outside; null when absent or older than their time to live."
    yield ""
    yield "| name | meaning | type | unit | source | valid for | used by |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name in dictionary.policy.attributes:
        told = dictionary.attribute(name)
        users = "; ".join(use.told() for use in dictionary.uses(name) if use.sort != "feature")
        meaning = " ".join(text for text in told["meaning"].values() if text)
        yield _table_row(
            code(name), cell(meaning), told["type"], told["unit"] or "–", told["source"], told["ttl"], cell(users)
        )
    yield ""


def _segments(dictionary: Dictionary) -> Iterator[str]:
    yield "## Segments"
    yield ""
    yield "Which events a row counts."
    yield ""
    yield "| segment | condition |"
    yield "| --- | --- |"
    for name in dictionary.catalogue.segments:
        yield _table_row(code(name), code(dictionary.segment_text(name)))
    yield ""


def _constants(dictionary: Dictionary) -> Iterator[str]:
    yield "## Constants"
    yield ""
    yield "| constant | value |"
    yield "| --- | --- |"
    for name, spec in dictionary.catalogue.constants.items():
        yield _table_row(code(name), code(constant_text(spec.constant)))
    yield ""


def _language() -> Iterator[str]:
    yield "## Aggregations and functions"
    yield ""
    yield "| aggregation | gives |"
    yield "| --- | --- |"
    for name, aggregation in sorted(AGGREGATIONS.items()):
        yield _table_row(code(name), cell(aggregation.meaning))
    yield ""
    yield "| function | gives |"
    yield "| --- | --- |"
    for function in FUNCTIONS.values():
        yield _table_row(code(function.signature), cell(function.meaning))


def constant_text(value: object) -> str:
    """A constant as an analyst types it."""
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(constant_text, value)) + "]"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def cell(text: str) -> str:
    """Text that cannot break a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def code(text: str) -> str:
    """Text in back quotes, safe in a table."""
    return f"`{cell(text)}`" if text else ""

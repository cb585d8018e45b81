"""The dictionary as one HTML page: searchable, readable offline, nothing loaded from anywhere.

Everything is in the page as plain HTML; a small script hides what does not match the search, so the page can be read,
printed and searched by the browser without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import Final

from decision_service.dictionary.contents import Chapter, Line, chapters_of
from decision_service.dictionary.entry import Dictionary
from decision_service.dictionary.markdown import constant_text

_SLOT: Final = re.compile(r"\{\{([A-Z]+)\}\}")


def html_page(dictionary: Dictionary) -> str:
    """The page."""
    chapters = chapters_of(dictionary)
    policy = dictionary.policy
    count = sum(len(line.names) for chapter in chapters for line in chapter.lines)
    template = files("decision_service.dictionary").joinpath("page.html").read_text(encoding="utf-8")
    slots = {
        "TITLE": f"Features of policy {escape(policy.label)}",
        "ABOUT": f"{count} features, {len(policy.attributes)} declared attributes, policy {escape(policy.id)} "
        f"({escape(policy.label)}), time zone {escape(policy.zone.name)}",
        "INDEX": "".join(_index(chapters)),
        "CHAPTERS": "".join(part for chapter in chapters for part in _chapter(chapter)),
        "ATTRIBUTES": "".join(_attributes(dictionary)),
        "SEGMENTS": "".join(_segments(dictionary)),
    }
    # in one pass, so that a text of the policy that looks like a slot stays a text
    return _SLOT.sub(lambda match: slots[match[1]], template)


def _index(chapters: list[Chapter]) -> Iterator[str]:
    for chapter in chapters:
        family = chapter.family
        yield f'<a href="#{family.letter}"><b>{family.letter}</b> {escape(family.en)} <i>{escape(family.zh)}</i></a>'
    yield '<a href="#attributes"><b>X</b> Declared attributes <i>外部属性</i></a>'
    yield '<a href="#segments">Segments and constants <i>客群与常量</i></a>'


def _chapter(chapter: Chapter) -> Iterator[str]:
    family = chapter.family
    yield f'<section id="{family.letter}"><h2>{family.letter} {escape(family.en)} <i>{escape(family.zh)}</i></h2>'
    for line in (*chapter.lines, *chapter.internal):
        yield from _line(line)
    yield "</section>"


def _line(line: Line) -> Iterator[str]:
    first = line.first
    meaning = first["meaning"]
    classes = "feature internal" if first["internal"] else "feature"
    badges = "".join(
        f'<span class="badge {kind}">{escape(text)}</span>'
        for kind, text in (
            ("live", "computed with every decision" if line.computed else ""), ("", first["unit"]),
            ("", "" if first["grain"] == "customer" else first["grain"]),
            ("", "intermediate" if first["internal"] else ""),
        )
        if text
    )  # fmt: skip
    names = escape(" ".join(line.names))
    yield f'<article class="{classes}" id="{escape(line.names[0])}" data-names="{names}">'
    yield f"<h3><code>{escape(line.pattern)}</code> {badges}</h3>"
    if not first["internal"]:
        yield f"<p>{escape(meaning['en'])} <i>{escape(meaning['zh'])}</i></p>"
    yield "<dl>"
    window = f" over {first['window']['interval']}" if first["window"] and len(line.names) == 1 else ""
    yield _item("formula", f"<code>{escape(line.formula)}</code>{escape(window)}")
    for name, text in first["segments"].items():
        yield _item("", f"<code>{escape(name)}: {escape(text)}</code>")
    for name, value in first["constants"].items():
        yield _item("", f"<code>{escape(name)} = {escape(constant_text(value))}</code>")
    yield _item("null", f"<code>{escape(first['null'])}</code> {escape(first['null_rule']['en'])} "
                        f"<i>{escape(first['null_rule']['zh'])}</i>")  # fmt: skip
    if line.users:
        yield _item("used by", escape("; ".join(line.users)))
    yield _item("file", f"{escape(first['file'])}:{first['line']}")
    yield "</dl></article>"


def _item(label: str, html: str) -> str:
    return f"<dt>{label}</dt><dd>{html}</dd>"


def _attributes(dictionary: Dictionary) -> Iterator[str]:
    for name in dictionary.policy.attributes:
        told = dictionary.attribute(name)
        users = "; ".join(use.told() for use in dictionary.uses(name) if use.sort != "feature")
        yield f'<article class="feature" id="{escape(name)}"><h3><code>{escape(name)}</code> '
        yield f'<span class="badge">{escape(told["type"])}</span></h3>'
        yield f"<p>{escape(told['meaning']['en'])} <i>{escape(told['meaning']['zh'])}</i></p><dl>"
        yield _item("source", f"{escape(told['source'])}, valid for {escape(told['ttl'])}")
        yield _item("used by", escape(users)) if users else ""
        yield "</dl></article>"


def _segments(dictionary: Dictionary) -> Iterator[str]:
    yield "<table>"
    for name in dictionary.catalogue.segments:
        text = dictionary.segment_text(name)
        yield f'<tr class="feature"><td><code>{escape(name)}</code></td><td><code>{escape(text)}</code></td></tr>'
    for name, spec in dictionary.catalogue.constants.items():
        value = constant_text(spec.constant)
        yield f'<tr class="feature"><td><code>{escape(name)}</code></td><td><code>{escape(value)}</code></td></tr>'
    yield "</table>"

"""The words of an expression, cut before anything is parsed.

Python's parser does the parsing (`parse.py`); this pass in front of it exists so that it only ever sees a
small, safe subset: ASCII names, plain numbers, strings without escapes, a handful of operators; brackets,
signs and `else` no deeper than the cap. So it can neither warn, nor run out of stack, nor read something the
language does not have; and what is foreign gets a message in the analyst's terms (`&&` -> "use `and`").
"""

from __future__ import annotations

import keyword
import re
from typing import Final, NamedTuple

from decision_service.core.limits import EXPRESSION_CHARS_MAX, EXPRESSION_DEPTH_MAX
from decision_service.core.source import Findings, Place

_TOKEN: Final = re.compile(
    r"""(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_.]))
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
      | (?P<string>"[^"\\\r\n]*"|'[^'\\\r\n]*')
      | (?P<operator><=|>=|==|!=|&&|\|\||\*\*|//|:=|<>|<<|>>|[-+*/<>(),\[\]])
      | (?P<other>["'][^"']*["']?|[0-9][A-Za-z0-9_.]*|[^ \t\r\n])""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)

_FOREIGN: Final = {
    "&&": "`and`", "||": "`or`", "**": "`*`", "//": "`floor(a / b)`", ":=": "`==`", "<>": "`!=`",
    "<<": "`<`", ">>": "`>`",
    "=": "`==`", "!": "`not`", "&": "`and`", "|": "`or`", "%": "a number such as 0.05", "~": "`not`",
    "^": "`*`", "≤": "`<=`", "≥": "`>=`", "≠": "`!=`", "{": "a list `[...]`", "“": 'straight quotes `"`',
    "”": 'straight quotes `"`', "，": "a plain comma `,`", "（": "a plain `(`", "）": "a plain `)`",
    "＞": "`>`", "＜": "`<`", "＝": "`==`", "【": "a list `[...]`", "】": "a list `[...]`", "×": "`*`", "÷": "`/`",
    "％": "a number such as 0.05", "‘": 'straight quotes `"`', "’": 'straight quotes `"`', "\u3000": "a plain space",
    "\u00a0": "a plain space",
}  # fmt: skip
_FOREIGN_WORDS: Final = {
    "is": "`==`, or `is_null(x)`", "None": "`is_null(x)`", "null": "`is_null(x)`",
    "AND": "`and`", "OR": "`or`", "NOT": "`not`", "IN": "`in`",
    "True": "a condition", "False": "a condition", "true": "a condition, or 1", "false": "a condition, or 0",
}  # fmt: skip
WORDS: Final = frozenset(("and", "or", "not", "in", "if", "else"))
RESERVED: Final = WORDS | frozenset(keyword.kwlist) | frozenset(_FOREIGN_WORDS)  # words that can name nothing
_OPERATORS: Final = frozenset(("<", "<=", ">", ">=", "==", "!=", "-", "+", "*", "/", "(", ")", ",", "[", "]"))
_REFUSED_WORDS: Final = RESERVED - WORDS
_NESTING: Final = {"(": 1, "[": 1, ")": -1, "]": -1}


class Token(NamedTuple):
    """One word: what sort, its text, and the offset of its first character."""

    sort: str  # number, name, string, operator
    text: str
    offset: int


def cut(text: str, place: Place, findings: Findings) -> list[Token] | None:
    """The tokens of an expression, or None with everything that has no place in one among the findings."""
    if len(text) > EXPRESSION_CHARS_MAX:
        findings.error(
            place, f"an expression of {len(text):,} characters", expected=f"at most {EXPRESSION_CHARS_MAX:,}"
        )
        return None
    tokens: list[Token] = []
    sound = True
    for match in _TOKEN.finditer(text):
        token = Token(match.lastgroup or "other", match.group(), match.start())
        if token.text in _OPERATORS or (token.sort == "name" and token.text not in _REFUSED_WORDS):
            tokens.append(token)
            continue
        problem = _problem(token, tokens[-1] if tokens else None)
        if problem is not None:
            message, expected = problem
            findings.error(place.moved(token.offset), message, expected=expected, length=len(token.text))
            sound = False
        tokens.append(token)
    return tokens if sound and _shallow(tokens, place, findings) else None


def _problem(token: Token, before: Token | None) -> tuple[str, str] | None:
    """Why a token has no place in an expression, and what was expected."""
    text = token.text
    if text in _FOREIGN:
        return f"`{text}` is not part of the language", _FOREIGN[text]
    if token.sort == "name" and text in _REFUSED_WORDS:
        return f"`{text}` is not part of the language", _FOREIGN_WORDS.get(text, "")
    if token.sort == "string" and before is not None and before.sort in ("string", "name"):
        if before.sort == "string" or (before.text not in WORDS and before.offset + len(before.text) == token.offset):
            return "a string directly behind another word", "an operator between them"
        return None
    if token.sort == "number" and text[0] == "0" and text[1:2].isdigit():
        return f"`{text}` starts with a zero", "a number such as 12 or 0.12"
    if token.sort == "other" and text[0] in "\"'":
        return (
            "a string that does not end, or holds a backslash",
            "text between two equal quotes, no backslashes",
        )
    if token.sort == "other" and text[0].isdigit():
        return f"`{text}` is not a number", "digits, with at most one decimal point, such as 0.25 or 1e6"
    if token.sort == "other":
        return f"the character {text!r} is not part of the language", ""
    return None


def _shallow(tokens: list[Token], place: Place, findings: Findings) -> bool:
    """Whether nothing is nested so deep that a recursive parser could run out of stack."""
    if len(tokens) <= EXPRESSION_DEPTH_MAX:
        return True
    depth = signs = branches = 0
    for token in tokens:
        depth += _NESTING.get(token.text, 0) if token.sort == "operator" else 0
        signs = signs + 1 if token.text in ("-", "+", "not") else 0
        branches += token.text == "else"
        if max(depth, signs, branches) > EXPRESSION_DEPTH_MAX:
            _too_deep(place.moved(token.offset), findings)
            return False
    return True


def _too_deep(place: Place, findings: Findings) -> None:
    findings.error(
        place,
        f"nested deeper than {EXPRESSION_DEPTH_MAX} levels",
        expected="a shorter expression; `sum(a, b, ...)` for a long sum, a derived feature for a part of it",
    )

"""From the text of an expression to its typed tree, or to findings that say what is wrong with it and where.

Python's own grammar does the parsing, after `tokens.py` has made sure that it sees only our small subset of it;
`check.py` turns its tree into ours. Nothing of Python leaks into the language, and no text can make the parser run out
of stack, warn, or take long: length, nesting and number of terms are capped before each step that could suffer.
"""

from __future__ import annotations

import ast
from typing import Final

from decision_service.core.expressions.check import CONDITION, NUMERIC, SAYS, Checker
from decision_service.core.expressions.tokens import Token, cut
from decision_service.core.expressions.tree import Tree
from decision_service.core.expressions.units import report_mixed_units
from decision_service.core.limits import EXPRESSION_DEPTH_MAX, EXPRESSION_NODES_MAX
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Kind, Vocabulary

_ONE_LINE: Final = str.maketrans("\t\r\n", "   ")


def parse_expression(text: str, place: Place, vocabulary: Vocabulary, findings: Findings) -> Tree | None:
    """The typed tree of an expression whose text starts at `place`; None with the reasons among the findings."""
    tokens = cut(text, place, findings)
    if tokens is None:
        return None
    if not tokens:
        findings.error(place, "an empty expression", expected="a condition or a value")
        return None
    body = _python_tree(text, place, tokens, findings)
    if body is None or not (_few(tokens, text) or _within_caps(body, place, findings)):
        return None
    return Checker(text, place, vocabulary, findings).tree(body)


def parse_condition(text: str, place: Place, vocabulary: Vocabulary, findings: Findings) -> Tree | None:
    """As `parse_expression`, and it must be a condition (or a flag standing alone). Mixed units are warnings."""
    tree = parse_expression(text, place, vocabulary, findings)
    condition = _expect(tree, CONDITION, "a condition, such as `x >= limit_name`", len(text), findings)
    if condition is not None:
        report_mixed_units(condition, findings)
    return condition


def parse_number(text: str, place: Place, vocabulary: Vocabulary, findings: Findings) -> Tree | None:
    """As `parse_expression`, and it must be a number. Mixed units are warnings."""
    tree = parse_expression(text, place, vocabulary, findings)
    number = _expect(tree, NUMERIC, "a number", len(text), findings)
    if number is not None:
        report_mixed_units(number, findings)
    return number


def _expect(tree: Tree | None, kinds: tuple[Kind, ...], expected: str, length: int, findings: Findings) -> Tree | None:
    if tree is not None and tree.kind not in kinds:
        findings.error(tree.place, f"this is {SAYS[tree.kind]}", expected=expected, length=length)
        return None
    return tree


def _python_tree(text: str, place: Place, tokens: list[Token], findings: Findings) -> ast.expr | None:
    one_line = text.translate(_ONE_LINE)
    lead = len(one_line) - len(one_line.lstrip())
    try:
        return _shifted(ast.parse(one_line[lead:], mode="eval").body, lead)
    except SyntaxError as error:
        offset = lead + error.offset - 1 if error.offset else len(text)
        _report_syntax(error.msg, offset, len(text.rstrip()), place, tokens, findings)
    except (ValueError, RecursionError, MemoryError):  # cut() rules these out; a refusal all the same
        findings.error(place, "this expression cannot be parsed")
    return None


def _shifted(body: ast.expr, columns: int) -> ast.expr:
    if columns:
        for node in ast.walk(body):
            if isinstance(node, ast.expr):
                node.col_offset += columns
    return body


def _report_syntax(message: str, offset: int, end: int, place: Place, tokens: list[Token], findings: Findings) -> None:
    token = next((t for t in tokens if t.offset <= offset < t.offset + len(t.text)), None)
    if "never closed" in message or "unmatched" in message or "does not match" in message:
        findings.error(place.moved(offset), message.replace("'", "`"), expected="brackets in pairs")
    elif token is None or offset >= end:
        findings.error(place.moved(end), "the expression ends too early", expected="a name, a number or `(`")
    elif "'else'" in message:
        findings.error(place.moved(offset), "`if` without `else`", expected="`value if condition else value`")
    else:
        hint = "an operator such as `and`, `<=` or `*` before it" if token.sort != "operator" else ""
        findings.error(
            place.moved(token.offset),
            f"`{token.text}` does not fit here",
            expected=hint,
            length=len(token.text),
        )


def _few(tokens: list[Token], text: str) -> bool:
    """Whether there are too few words to be over a cap: no node without a word or a dot of its own."""
    return len(tokens) + text.count(".") <= min(EXPRESSION_DEPTH_MAX, EXPRESSION_NODES_MAX)


def _within_caps(body: ast.expr, place: Place, findings: Findings) -> bool:
    """Whether size and depth are within the caps; walked without recursion."""
    count, level = 0, [body]
    for _ in range(EXPRESSION_DEPTH_MAX):
        count += len(level)
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        if not level or count > EXPRESSION_NODES_MAX:
            break
    if count > EXPRESSION_NODES_MAX:
        findings.error(place, f"more than {EXPRESSION_NODES_MAX} terms in one expression")
    elif level:
        findings.error(
            place,
            f"nested deeper than {EXPRESSION_DEPTH_MAX} levels",
            expected="`sum(a, b, ...)` for a long sum, a derived feature for a part of it",
        )
    return not level and count <= EXPRESSION_NODES_MAX

"""The same conditions in zen-engine and rule-engine, as their documentation says to use them.

zen-engine: one graph (input, an expression node with one expression a rule, output), served by its static loader, which
parses it once. rule-engine: one `Rule` a condition, parsed once, asked with `matches`. Both take a dict of values, as
they do; neither has a third truth value: a null raises an error in both.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

Decide = Callable[[dict[str, Any]], list[bool]]


def zen(whens: list[str]) -> Decide:
    """Which conditions are true, by zen-engine."""
    import zen as engine

    ids = [f"r{i}" for i in range(len(whens))]
    place = {"x": 0, "y": 0}
    expressions = [{"id": name, "key": name, "value": when} for name, when in zip(ids, whens, strict=True)]
    graph = {
        "nodes": [
            {"id": "in", "type": "inputNode", "name": "in", "position": place},
            {"id": "rules", "type": "expressionNode", "name": "rules", "position": place,
             "content": {"expressions": expressions}},
            {"id": "out", "type": "outputNode", "name": "out", "position": place},
        ],
        "edges": [
            {"id": "a", "sourceId": "in", "targetId": "rules", "type": "edge"},
            {"id": "b", "sourceId": "rules", "targetId": "out", "type": "edge"},
        ],
    }  # fmt: skip
    loaded = engine.ZenEngine({"loader": {"type": "static", "content": {"rules": graph}}})

    def decide(values: dict[str, Any]) -> list[bool]:
        result = loaded.evaluate("rules", values)["result"]
        return [result[name] for name in ids]

    return decide


def rule_engine(whens: list[str]) -> Decide:
    """Which conditions are true, by rule-engine."""
    import rule_engine as engine

    matches = [engine.Rule(when).matches for when in whens]
    return lambda values: [match(values) for match in matches]


PEERS: dict[str, Callable[[list[str]], Decide]] = {
    f"zen-engine {version('zen-engine')}": zen,
    f"rule-engine {version('rule-engine')}": rule_engine,
}

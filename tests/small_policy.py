"""What the small policies of several parts' tests share: one feature, and a rules folder on disk."""

from __future__ import annotations

from pathlib import Path

FEATURES = """
segments:
  draw: kind == "drawdown"
features:
  vel_prior: {agg: count, of: draw, windows: [10m], null: Z, unit: n, en: "requests", zh: "请求数"}
"""


def write_rules(folder: Path, rules: str, features: str = FEATURES) -> Path:
    """A rules folder with one rule set for drawdowns and a list `block`."""
    (folder / "features").mkdir(parents=True, exist_ok=True)
    (folder / "features" / "velocity.yaml").write_text(features, encoding="utf-8")
    (folder / "drawdown.yaml").write_text(rules, encoding="utf-8")
    (folder / "policy.yaml").write_text('label: "test"\nlists: [block]\n', encoding="utf-8")
    return folder

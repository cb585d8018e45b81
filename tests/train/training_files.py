"""A small training file over a small catalogue, of a tree model and of a points scorecard."""

from __future__ import annotations

import shutil
from pathlib import Path

CONFIG = """\
scorecard: behaviour
version: 1.0.0
features_from: ../../rules
portfolio: {customers: 350, seed: 5, days: 240, until: 2026-11-01T00:00:00+08:00}
sample: {observe_every_d: 30, observations: 4, performance_d: 90, bad_dpd: 5, days_on_book_min: 45, out_of_time: 2}
model: {trees: 40, leaves: 7, learning_rate: 0.08, rows_in_leaf_min: 15, stop_after: 20, seed: 3}
features:
  - {name: use, reason: RC30, monotone: 1}
  - {name: late_max_180d, reason: RC31, monotone: 1}
  - {name: asked_cnt_90d, reason: RC33, monotone: 1}
  - {name: facility.age_d, reason: RC35}
  - {name: ok_cnt_7d, reason: RC20}
  - {name: ok_cnt_30d, reason: RC20}
  - {name: amt_trend, reason: RC20}
"""
WOE_MODEL = "{kind: woe, bins_max: 5, bin_share_min: 0.02, bin_bads_min: 5, iv_min: 0.02, null_share: 0.02, seed: 3}"


def write_config(root: Path) -> Path:
    """`models/behaviour/train.yaml` below `root`, with the catalogue where it says."""
    shutil.copytree(Path(__file__).parent / "rules", root / "rules")
    path = root / "models" / "behaviour" / "train.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG)
    return path


def write_woe_config(root: Path) -> Path:
    """The same training file for a points scorecard, `classic`."""
    path = write_config(root)
    lines = [f"model: {WOE_MODEL}" if line.startswith("model:") else line for line in CONFIG.splitlines()]
    path.write_text("\n".join(lines).replace("scorecard: behaviour", "scorecard: classic") + "\n")
    return path

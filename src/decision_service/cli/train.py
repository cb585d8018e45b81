"""`decision-service train --config FILE`: train the scorecard that a training file describes.

The summary goes to standard output, progress to standard error. Exit status 0 if the scorecard is in place and loads,
1 if the sample cannot make one or it does not beat the champion it has to beat (then nothing is written), 2 if the
training file or the feature catalogue is wrong, or the extra `train` is not installed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from decision_service.core.errors import PolicyRejected, ScorecardRejected
from decision_service.train import NothingToLearn, Trained, TrainExtraMissing, train
from decision_service.train.card import write_card
from decision_service.train.champion import Comparison
from decision_service.train.keep import check_kept, keep_sample
from decision_service.train.run import Against

FAILED = 1
WRONG = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train`."""
    parser.add_argument("--config", type=Path, required=True, help="training file: models/behaviour/train.yaml")
    parser.add_argument("--models", type=Path, help="where the scorecard goes (beside the training file's directory)")
    parser.add_argument(
        "--champion", metavar="DIR", help="version directory to compare with, or `none` (the version in use)"
    )
    parser.add_argument(
        "--require-better", action="store_true", help="write nothing unless the AUC is higher beyond chance"
    )
    parser.add_argument("--keep-sample", type=Path, metavar="FILE", help="write the sample and its scores: .parquet")
    parser.add_argument("--json", action="store_true", help="summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Train; the exit status."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)

    if args.keep_sample is not None:
        check_kept(args.keep_sample)
    try:
        trained = train(args.config, args.models, say, _against(args))
    except PolicyRejected as error:
        print(error.message, file=sys.stderr)
        return WRONG
    except TrainExtraMissing as error:
        print(error, file=sys.stderr)
        return WRONG
    except (NothingToLearn, ScorecardRejected) as error:
        print(f"no scorecard: {error}", file=sys.stderr)
        return FAILED
    write_card(trained, say)
    if args.keep_sample is not None:
        keep_sample(trained, args.keep_sample)
    summary = _summary(trained)
    print(orjson.dumps(summary).decode() if args.json else _text(trained))
    return 0


def _against(args: argparse.Namespace) -> Against:
    nothing = args.champion == "none"
    directory = Path(args.champion) if args.champion and not nothing else None
    return Against(directory, nothing, args.require_better)


def _summary(trained: Trained) -> dict[str, Any]:
    card = trained.scorecard
    return {
        "directory": str(trained.directory), "scorecard": card.name, "version": card.version,
        "model": trained.fitted.about, "features": list(card.names), "metrics": dict(trained.metrics),
        "grades": dict(trained.grade_shares), "grade_bad_rates": _known(trained.grade_bad_rates),
        "champion": None if trained.comparison is None else _comparison(trained.comparison),
        "characteristics": [asdict(each) for each in trained.characteristics],
        "sample": dict(trained.sample.waterfall), "left_out": dict(trained.sample.left_out),
        "warnings": list(trained.warnings), "changed": trained.changed, "model_sha256": card.manifest.model_sha256,
    }  # fmt: skip


def _known(rates: Mapping[str, float]) -> dict[str, float | None]:
    """NaN as null, which JSON has."""
    return {name: None if math.isnan(rate) else rate for name, rate in rates.items()}


def _comparison(found: Comparison) -> dict[str, Any]:
    migration = [{"champion": old, "new": new, "rows": rows} for (old, new), rows in found.migration.items()]
    return {
        "version": found.version, "rows": found.rows, "better": found.better, "auc_gain": found.auc_gain,
        "auc_gain_low": found.auc_gain_low, "auc_gain_high": found.auc_gain_high, "points_psi": found.psi,
        "points_psi_critical": found.psi_critical, "champion": asdict(found.champion), "new": asdict(found.new),
        "migration": migration,
    }  # fmt: skip


def _against_champion(found: Comparison | None) -> list[str]:
    if found is None:
        return []
    moved = sum(rows for (old, new), rows in found.migration.items() if old != new)
    verdict = "better" if found.better else "not better beyond chance"
    return [
        f"  champion:    {found.version}  AUC {found.champion.auc:.3f}  KS {found.champion.ks:.3f}; gain in AUC "
        f"{found.auc_gain:+.4f} ({found.auc_gain_low:+.4f} to {found.auc_gain_high:+.4f}): {verdict}; "
        f"{moved / max(found.rows, 1):.1%} change grade; PSI {found.psi:.3f} (chance: {found.psi_critical:.3f})"
    ]


def _text(trained: Trained) -> str:
    metrics, card = trained.metrics, trained.scorecard
    grades = "  ".join(f"{grade} {share:.1%}" for grade, share in trained.grade_shares.items())
    return "\n".join(
        (
            f"{trained.directory}{'' if trained.changed else ' (unchanged)'}",
            f"  {trained.fitted.about}"
            + (f", {len(card.names)} features" if card.manifest.model_kind != "woe" else ""),
            f"  out of time: AUC {metrics['oot_auc']:.3f}  KS {metrics['oot_ks']:.3f}  "
            f"bad rate {metrics['oot_bad_rate']:.2%}  mean PD {metrics['oot_pd_mean']:.2%}  "
            f"calibration error {metrics['oot_calibration_error']:.2%}",
            f"  in sample:   AUC {metrics['train_auc']:.3f}  KS {metrics['train_ks']:.3f}",
            f"  grades:      {grades}",
            *_against_champion(trained.comparison),
            *(f"  warning:     {warning}" for warning in trained.warnings),
        )
    )

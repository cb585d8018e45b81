"""`training:` of a manifest: for people, what a scorecard was trained on and how. Nothing in it depends on today."""

from __future__ import annotations

from datetime import UTC, datetime

from decision_service.train.config import TrainConfig
from decision_service.train.fitted import Fitted
from decision_service.train.model_design import LightgbmDesign
from decision_service.train.sample import Sample


def training_texts(config: TrainConfig, sample: Sample, fitted: Fitted) -> dict[str, str]:
    """The texts by name."""
    texts = {"data": str(config.source)}
    if sample.observed_at_ms.any():
        texts["observed_from"] = _day(int(sample.observed_at_ms.min()))
        texts["observed_until"] = _day(int(sample.observed_at_ms.max()))
    if config.target is not None:
        texts["bad"] = str(config.target)
    texts["sample"] = "; ".join(f"{what} {abs(count)}" for what, count in sample.waterfall)
    if sample.left_out:
        texts["unreadable"] = "; ".join(f"{count} rows of the {file}" for file, count in sample.left_out.items())
    texts["out_of_time"] = _out_of_time(config)
    texts["model"] = fitted.about
    if isinstance(config.model, LightgbmDesign):
        texts["null_share"] = f"{config.model.null_share!r} of training values blanked at random"
    texts["config_sha256"] = config.sha256
    if sample.definitions_sha256:
        texts["definitions_sha256"] = sample.definitions_sha256
    return texts


def _out_of_time(config: TrainConfig) -> str:
    design = config.sample
    if design is None:
        return "the rows that the split judges; no row of them was trained, validated or calibrated with"
    return (
        f"the newest {design.out_of_time} of {design.observations} observations; half the customers calibrate, the "
        "other half give the oot figures"
    )


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).date().isoformat()
